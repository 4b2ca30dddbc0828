//! What nodes say to each other on a link. Version byte, kind byte, body.
//!
//! A link is one incarnation of a pair of ordered, reliable streams. A sender names replicas by its own slots and tells
//! what they stand for in an [`Message::Announce`] before the first use on that link.

use serde::{Deserialize, Serialize};

use super::ballot::{BallotMessage, Heard, StoreId};
use super::fingerprint::{SHARDS, Shards};
use super::iblt;
use crate::clock::{ClusterId, Dot, ReplicaId, Slot};
use crate::document::batch::{BATCH_BYTES_MAX, Batch, Naming, OPS_MAX, OwnSlots, PeerSlots};
use crate::document::codec::{DecodeError, FORMAT_VERSION, Reader, Writer, decode_serde, encode_serde};

/// Longest message. A batch and its header; a chunk holds at least one cell however large.
pub const MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX + (1 << 16);

/// The first message on a link, both ways, and again when a cluster was adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub replica: ReplicaId,
    /// `None` while the node has not met its cluster.
    pub cluster: Option<ClusterId>,
    pub name: String,
    pub software: String,
    /// The store of the sender's acceptor: what it tells to be on its disk, it tells of this one.
    pub store: StoreId,
    /// What the sender heard of the receiver last.
    pub heard: Option<Heard>,
}

/// What a state is, in 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    pub clock: u128,
    pub state: u128,
}

/// Why a node will not speak to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    OtherCluster { ours: ClusterId },
    NameTaken { name: String, by: crate::clock::NodeId },
}

/// One replica of a clock, with the hash its chain ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockEntry {
    pub slot: Slot,
    pub seq: u64,
    pub head_seq: u64,
    pub head: [u8; 32],
}

/// One replica of a request's clock: eight bytes of its head tell forks apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskEntry {
    pub slot: Slot,
    pub seq: u64,
    pub head: [u8; 8],
}

/// All slots are the receiver's own once decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Hello(Hello),
    Refuse(Refusal),
    /// The replicas behind the sender's next slots, in order.
    Announce(Vec<ReplicaId>),
    /// `prompt`: someone waits to hear that it is durable.
    Batch {
        batch: Batch<'a>,
        prompt: bool,
    },
    /// What became durable at the sender since its last report on this link.
    Report(Vec<(Slot, u64)>),
    Heartbeat {
        digests: Digests,
        report: Vec<(Slot, u64)>,
        /// Version of the voters that the sender knows.
        voters: u64,
    },
    /// `resume`: the chunk to go on with, when a session's link broke. `mend`: the states differ there although they
    /// should not; only that is asked for.
    SyncRequest {
        session: u64,
        resume: Option<u32>,
        mend: Option<Shards>,
        clock: Vec<AskEntry>,
    },
    /// `clock`, `floor`: where the sender's differ from the request's clock, and the whole floor.
    SyncStart {
        session: u64,
        mode: Mode,
        clock: Vec<ClockEntry>,
        floor: Vec<(Slot, u64)>,
    },
    SyncChunk {
        session: u64,
        index: u32,
        last: bool,
        body: &'a [u8],
    },
    SyncAck {
        session: u64,
        next: u32,
    },
    /// The session cannot go on: ask anew.
    SyncGone {
        session: u64,
    },
    /// Symbols `start..` of the sender's set of `items` entries, as [`iblt`](super::iblt) writes them.
    SyncSymbols {
        session: u64,
        start: usize,
        items: usize,
        body: &'a [u8],
    },
    /// The symbols so far are not enough.
    SyncMore {
        session: u64,
        have: usize,
    },
    /// The difference is known, or (`whole`) too large to be found out.
    SyncFound {
        session: u64,
        whole: bool,
        /// Entries that only the sender of the symbols has and that are to be sent.
        wanted: Vec<u64>,
    },
    Ballot(BallotMessage),
    /// Asks for the sums of the peer's shards.
    Check {
        session: u64,
        clock: Vec<AskEntry>,
    },
    /// `sums`: one for each shard that is not `touched`.
    Sums {
        session: u64,
        clock: Vec<(Slot, u64)>,
        floor: Vec<(Slot, u64)>,
        touched: Shards,
        sums: Vec<u32>,
    },
}

/// How a session goes about what the receiver lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The cells with news; all removal records that matter are still there.
    Incremental,
    /// Every cell.
    Complete,
    /// The entries that both clocks cover are compared first.
    Compare,
}

/// Most entries that one session of repair asks for.
pub const WANTED_MAX: usize = 1 << 16;

const HELLO: u8 = 1;
const REFUSE: u8 = 2;
const ANNOUNCE: u8 = 3;
const BATCH: u8 = 4;
const REPORT: u8 = 5;
const HEARTBEAT: u8 = 6;
const SYNC_REQUEST: u8 = 7;
const SYNC_START: u8 = 8;
const SYNC_CHUNK: u8 = 9;
const SYNC_ACK: u8 = 10;
const SYNC_GONE: u8 = 11;
const BATCH_PROMPT: u8 = 12;
const SYNC_SYMBOLS: u8 = 13;
const SYNC_MORE: u8 = 14;
const SYNC_FOUND: u8 = 15;
const CHECK: u8 = 16;
const SUMS: u8 = 17;
const BALLOT: u8 = 18;

impl Message<'_> {
    pub fn is_ballot(bytes: &[u8]) -> bool {
        bytes.get(1) == Some(&BALLOT)
    }

    /// What kind of message these bytes are, for people and for counting.
    pub fn kind(bytes: &[u8]) -> &'static str {
        match bytes.get(1) {
            Some(&HELLO) => "hello",
            Some(&REFUSE) => "refuse",
            Some(&ANNOUNCE) => "announce",
            Some(&BATCH | &BATCH_PROMPT) => "batch",
            Some(&REPORT) => "report",
            Some(&HEARTBEAT) => "heartbeat",
            Some(&SYNC_REQUEST) => "sync request",
            Some(&SYNC_START) => "sync start",
            Some(&SYNC_CHUNK) => "sync chunk",
            Some(&SYNC_ACK) => "sync ack",
            Some(&SYNC_GONE) => "sync gone",
            Some(&SYNC_SYMBOLS) => "sync symbols",
            Some(&SYNC_MORE) => "sync more",
            Some(&SYNC_FOUND) => "sync found",
            Some(&CHECK) => "check",
            Some(&SUMS) => "sums",
            Some(&BALLOT) => "ballot",
            _ => "noise",
        }
    }

    /// Encodes with this node's own slots.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(FORMAT_VERSION);
        match self {
            Message::Hello(hello) => serde_body(&mut w, HELLO, hello),
            Message::Refuse(refusal) => serde_body(&mut w, REFUSE, refusal),
            Message::Announce(ids) => {
                w.u8(ANNOUNCE);
                ids.iter().for_each(|id| w.raw(&id.to_bytes()));
            }
            Message::Batch { batch, prompt } => {
                w.u8(if *prompt { BATCH_PROMPT } else { BATCH });
                OwnSlots.write(batch.replica, &mut w);
                w.varint(batch.first);
                w.varint(batch.count as u64);
                w.raw(&batch.signature);
                w.raw(batch.ops);
            }
            Message::Report(report) => {
                w.u8(REPORT);
                write_pairs(&mut w, report);
            }
            Message::Heartbeat { digests, report, voters } => {
                w.u8(HEARTBEAT);
                write_digests(&mut w, digests);
                write_pairs(&mut w, report);
                w.varint(*voters);
            }
            Message::SyncRequest { session, resume, mend, clock } => {
                w.u8(SYNC_REQUEST);
                w.u64(*session);
                w.varint(resume.map_or(0, |chunk| u64::from(chunk) + 1));
                write_asked(&mut w, clock);
                if let Some(shards) = mend {
                    w.raw(&shards.to_bytes());
                }
            }
            Message::SyncStart { session, mode, clock, floor } => {
                w.u8(SYNC_START);
                w.u64(*session);
                w.u8(*mode as u8);
                w.varint(clock.len() as u64);
                for entry in clock {
                    OwnSlots.write(entry.slot, &mut w);
                    w.varint(entry.seq);
                    w.varint(entry.head_seq);
                    w.raw(&entry.head);
                }
                write_pairs(&mut w, floor);
            }
            Message::SyncChunk { session, index, last, body } => {
                w.u8(SYNC_CHUNK);
                w.u64(*session);
                w.varint(u64::from(*index));
                w.u8(u8::from(*last));
                w.raw(body);
            }
            Message::SyncAck { session, next } => {
                w.u8(SYNC_ACK);
                w.u64(*session);
                w.varint(u64::from(*next));
            }
            Message::SyncGone { session } => {
                w.u8(SYNC_GONE);
                w.u64(*session);
            }
            Message::SyncSymbols { session, start, items, body } => {
                w.u8(SYNC_SYMBOLS);
                w.u64(*session);
                w.varint(*start as u64);
                w.varint(*items as u64);
                w.raw(body);
            }
            Message::SyncMore { session, have } => {
                w.u8(SYNC_MORE);
                w.u64(*session);
                w.varint(*have as u64);
            }
            Message::SyncFound { session, whole, wanted } => {
                w.u8(SYNC_FOUND);
                w.u64(*session);
                w.u8(u8::from(*whole));
                wanted.iter().for_each(|item| w.u64(*item));
            }
            Message::Ballot(message) => serde_body(&mut w, BALLOT, message),
            Message::Check { session, clock } => {
                w.u8(CHECK);
                w.u64(*session);
                write_asked(&mut w, clock);
            }
            Message::Sums { session, clock, floor, touched, sums } => {
                w.u8(SUMS);
                w.u64(*session);
                write_pairs(&mut w, clock);
                write_pairs(&mut w, floor);
                w.raw(&touched.to_bytes());
                write_sums(&mut w, sums);
            }
        }
        w.bytes
    }

    /// Decodes what a peer sent. `table` maps the peer's slots, as announced on this link, to ours.
    pub fn decode<'a>(bytes: &'a [u8], table: &[Slot]) -> Result<Message<'a>, DecodeError> {
        let mut r = Reader::new(bytes);
        match r.u8()? {
            FORMAT_VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let names = PeerSlots { table };
        let message = match r.u8()? {
            HELLO => return Ok(Message::Hello(decode_serde(r.rest())?)),
            REFUSE => return Ok(Message::Refuse(decode_serde(r.rest())?)),
            ANNOUNCE => {
                let mut ids = Vec::with_capacity(r.rest().len() / ReplicaId::LEN);
                while !r.is_empty() {
                    ids.push(ReplicaId::from_bytes(&r.array()?));
                }
                Message::Announce(ids)
            }
            kind @ (BATCH | BATCH_PROMPT) => {
                return Ok(Message::Batch { batch: read_batch(r, names)?, prompt: kind == BATCH_PROMPT });
            }
            REPORT => Message::Report(read_pairs(&mut r, names)?),
            HEARTBEAT => {
                let (digests, report) = (read_digests(&mut r)?, read_pairs(&mut r, names)?);
                Message::Heartbeat { digests, report, voters: r.varint()? }
            }
            SYNC_REQUEST => {
                let session = r.u64()?;
                let resume = r.varint()?.checked_sub(1).map(|chunk| chunk.min(u64::from(u32::MAX)) as u32);
                let clock = read_asked(&mut r, names)?;
                let mend = if r.is_empty() { None } else { Some(Shards::from_bytes(&r.array()?)) };
                Message::SyncRequest { session, resume, mend, clock }
            }
            SYNC_START => {
                let session = r.u64()?;
                let mode = match r.u8()? {
                    0 => Mode::Incremental,
                    1 => Mode::Complete,
                    2 => Mode::Compare,
                    _ => return Err(DecodeError::Bounds("a session's mode")),
                };
                let count = r.count(35)?;
                let mut clock = Vec::with_capacity(count);
                for _ in 0..count {
                    let (slot, seq) = (names.read(&mut r)?, read_seq(&mut r)?);
                    clock.push(ClockEntry { slot, seq, head_seq: read_seq(&mut r)?, head: r.array()? });
                }
                Message::SyncStart { session, mode, clock, floor: read_pairs(&mut r, names)? }
            }
            SYNC_CHUNK => {
                let session = r.u64()?;
                let index = u32::try_from(r.varint()?).map_err(|_| DecodeError::Bounds("a chunk's index"))?;
                return Ok(Message::SyncChunk { session, index, last: r.u8()? != 0, body: r.rest() });
            }
            SYNC_ACK => {
                let session = r.u64()?;
                let next = u32::try_from(r.varint()?).map_err(|_| DecodeError::Bounds("a chunk's index"))?;
                Message::SyncAck { session, next }
            }
            SYNC_GONE => Message::SyncGone { session: r.u64()? },
            SYNC_SYMBOLS => {
                let (session, start) = (r.u64()?, read_size(&mut r, iblt::SYMBOLS_MAX)?);
                let items = read_size(&mut r, u32::MAX as usize)?;
                return Ok(Message::SyncSymbols { session, start, items, body: r.rest() });
            }
            SYNC_MORE => Message::SyncMore { session: r.u64()?, have: read_size(&mut r, iblt::SYMBOLS_MAX)? },
            SYNC_FOUND => {
                let (session, whole) = (r.u64()?, r.u8()? != 0);
                if r.rest().len() > WANTED_MAX * 8 {
                    return Err(DecodeError::Bounds("the entries wanted"));
                }
                let mut wanted = Vec::with_capacity(r.rest().len() / 8);
                while !r.is_empty() {
                    wanted.push(r.u64()?);
                }
                Message::SyncFound { session, whole, wanted }
            }
            BALLOT => return Ok(Message::Ballot(decode_serde(r.rest())?)),
            CHECK => Message::Check { session: r.u64()?, clock: read_asked(&mut r, names)? },
            SUMS => {
                let session = r.u64()?;
                let (clock, floor) = (read_pairs(&mut r, names)?, read_pairs(&mut r, names)?);
                let touched = Shards::from_bytes(&r.array()?);
                let sums = read_sums(&mut r, SHARDS - touched.iter().count())?;
                Message::Sums { session, clock, floor, touched, sums }
            }
            _ => return Err(DecodeError::Bounds("a message's kind")),
        };
        r.finish()?;
        Ok(message)
    }
}

fn serde_body<T: Serialize>(w: &mut Writer, kind: u8, body: &T) {
    w.u8(kind);
    w.raw(&encode_serde(body));
}

fn read_batch<'a>(mut r: Reader<'a>, names: PeerSlots<'_>) -> Result<Batch<'a>, DecodeError> {
    let (replica, first) = (names.read(&mut r)?, read_seq(&mut r)?);
    let count = r.varint()?;
    let signature = r.array()?;
    // An op takes at least five bytes.
    let fits = (1..=OPS_MAX as u64).contains(&count) && count <= (r.rest().len() / 5) as u64;
    if !fits || first == 0 || first + count > Dot::SEQ_MAX || r.rest().len() > BATCH_BYTES_MAX {
        return Err(DecodeError::Bounds("a batch's header"));
    }
    Ok(Batch { replica, first, count: count as usize, signature, ops: r.rest() })
}

fn read_seq(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    r.varint().and_then(|seq| if seq <= Dot::SEQ_MAX { Ok(seq) } else { Err(DecodeError::Bounds("a seq")) })
}

fn read_size(r: &mut Reader<'_>, max: usize) -> Result<usize, DecodeError> {
    let size = r.varint()?;
    usize::try_from(size).ok().filter(|size| *size <= max).ok_or(DecodeError::Bounds("a size"))
}

fn write_asked(w: &mut Writer, clock: &[AskEntry]) {
    w.varint(clock.len() as u64);
    for entry in clock {
        OwnSlots.write(entry.slot, w);
        w.varint(entry.seq);
        w.raw(&entry.head);
    }
}

fn read_asked(r: &mut Reader<'_>, names: PeerSlots<'_>) -> Result<Vec<AskEntry>, DecodeError> {
    let count = r.count(10)?;
    (0..count).map(|_| Ok(AskEntry { slot: names.read(r)?, seq: read_seq(r)?, head: r.array()? })).collect()
}

/// Sums of empty shards are zero and take a bit each; a small state has few others.
fn write_sums(w: &mut Writer, sums: &[u32]) {
    for eight in sums.chunks(8) {
        let which = eight.iter().enumerate().fold(0, |bits, (at, sum)| bits | u8::from(*sum != 0) << at);
        w.u8(which);
        eight.iter().filter(|sum| **sum != 0).for_each(|sum| w.raw(&sum.to_le_bytes()));
    }
}

fn read_sums(r: &mut Reader<'_>, count: usize) -> Result<Vec<u32>, DecodeError> {
    let mut sums = Vec::with_capacity(count);
    while sums.len() < count {
        let which = r.u8()?;
        for at in 0..8.min(count - sums.len()) {
            sums.push(if which & (1 << at) != 0 { u32::from_le_bytes(r.array()?) } else { 0 });
        }
    }
    Ok(sums)
}

fn write_pairs(w: &mut Writer, pairs: &[(Slot, u64)]) {
    w.varint(pairs.len() as u64);
    for (slot, seq) in pairs {
        OwnSlots.write(*slot, w);
        w.varint(*seq);
    }
}

fn read_pairs(r: &mut Reader<'_>, names: PeerSlots<'_>) -> Result<Vec<(Slot, u64)>, DecodeError> {
    let count = r.count(2)?;
    (0..count).map(|_| Ok((names.read(r)?, read_seq(r)?))).collect()
}

fn write_digests(w: &mut Writer, digests: &Digests) {
    w.raw(&digests.clock.to_le_bytes());
    w.raw(&digests.state.to_le_bytes());
}

fn read_digests(r: &mut Reader<'_>) -> Result<Digests, DecodeError> {
    Ok(Digests { clock: u128::from_le_bytes(r.array()?), state: u128::from_le_bytes(r.array()?) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::clock::{Incarnation, NodeId};

    fn samples() -> Vec<Message<'static>> {
        let replica = ReplicaId { node: NodeId([3; 32]), incarnation: Incarnation([4; 16]) };
        let digests = Digests { clock: 1, state: u128::MAX };
        vec![
            Message::Hello(Hello {
                replica,
                cluster: None,
                name: "w".into(),
                software: "x".into(),
                store: StoreId([3; 16]),
                heard: Some(Heard { store: StoreId([4; 16]), life: replica.incarnation, seq: 7 }),
            }),
            Message::Refuse(Refusal::OtherCluster { ours: ClusterId([1; 16]) }),
            Message::Announce(vec![replica, replica]),
            Message::Batch {
                batch: Batch { replica: Slot(1), first: 9, count: 1, signature: [7; 64], ops: b"12345" },
                prompt: true,
            },
            Message::Report(vec![(Slot(0), 5)]),
            Message::Heartbeat { digests, report: vec![(Slot(1), 300)], voters: 7 },
            Message::SyncRequest {
                session: 8,
                resume: Some(0),
                mend: Some([3, 4095].into_iter().collect()),
                clock: vec![AskEntry { slot: Slot(1), seq: 2, head: [1; 8] }],
            },
            Message::SyncStart {
                session: 8,
                mode: Mode::Compare,
                clock: vec![ClockEntry { slot: Slot(0), seq: 2, head_seq: 2, head: [1; 32] }],
                floor: vec![(Slot(1), 1)],
            },
            Message::SyncChunk { session: 8, index: 3, last: true, body: b"cells" },
            Message::SyncAck { session: 8, next: 4 },
            Message::SyncGone { session: 8 },
            Message::SyncSymbols { session: 8, start: 4, items: 900, body: b"symbols" },
            Message::SyncMore { session: 8, have: 12 },
            Message::SyncFound { session: 8, whole: false, wanted: vec![1, u64::MAX] },
            Message::Check { session: 8, clock: vec![AskEntry { slot: Slot(1), seq: 2, head: [1; 8] }] },
            Message::Sums {
                session: 8,
                clock: vec![(Slot(0), 5)],
                floor: vec![],
                touched: [0, 9].into_iter().collect(),
                sums: (0..4094).map(|n| n % 3).collect(),
            },
        ]
    }

    const TABLE: &[Slot] = &[Slot(0), Slot(1)];

    #[test]
    fn every_message_survives_the_wire() {
        for message in samples() {
            assert_eq!(Message::decode(&message.encode(), TABLE).as_ref(), Ok(&message));
        }
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(Message::decode(&[9, 1], TABLE), Err(DecodeError::Version(9)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(which in 0usize..16, flips: Vec<(usize, u8)>, cut: usize, noise: Vec<u8>) {
            let mut bytes = samples()[which].encode();
            for (at, flip) in flips {
                let at = at % bytes.len();
                bytes[at] ^= flip;
            }
            let _ = Message::decode(&bytes, TABLE);
            bytes.truncate(cut % (bytes.len() + 1));
            let _ = Message::decode(&bytes, TABLE);
            let _ = Message::decode(&noise, TABLE);
        }
    }
}
