//! A batch: the ops of one local transaction, or of a few that were grouped. Contiguous dots of one replica, signed once
//! and chained by hash. The unit of atomicity, of gossip and of durability.
//!
//! Its ops are written once, in the numbering of replicas of whoever writes them ([`Naming`]): a peer's slots on a
//! link, full ids in an outbox and under the signature. One op is
//!
//! ```text
//! document (length, 0 = as before; name) | cell key | value (length + 1, 0 = a removal) | time (signed delta)
//!   | superseded: count, then for each: 0, how many seqs before this op      (a dot of the batch's own replica)
//!                                    or replica, seq                        (a dot of another)
//! ```

use smallvec::SmallVec;

use super::address::{Address, COLLECTION_BYTES_MAX, ID_BYTES_MAX};
use super::cell::CellKey;
use super::codec::{DecodeError, Reader, Writer};
use crate::clock::{Dot, HybridTime, ReplicaId, Roster, Slot};

/// Most ops in one batch: a batch is applied in one step.
pub const OPS_MAX: usize = 65_536;
/// Most bytes of ops in one batch, encoded: two maximal request bodies' worth.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// Dots an op supersedes. Most ops supersede none or one.
pub type Dots = SmallVec<[Dot; 2]>;

/// One change to one cell, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpRef<'a> {
    /// `collection/id`.
    pub document: &'a str,
    pub key: &'a [u8],
    /// `None` removes.
    pub value: Option<&'a [u8]>,
    pub at: HybridTime,
    pub supersedes: Dots,
}

/// A batch whose ops are still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    pub replica: Slot,
    /// Seq of the first op. Never 0.
    pub first: u64,
    pub count: usize,
    pub signature: [u8; 64],
    pub ops: &'a [u8],
}

impl Batch<'_> {
    /// Seq of the last op.
    pub fn last(&self) -> u64 {
        self.first + self.count as u64 - 1
    }
}

/// How replicas are named in encoded bytes. 0 is taken: it stands for the batch's own replica.
pub trait Naming {
    fn write(&self, slot: Slot, writer: &mut Writer);
    /// The local slot of what stands at the front of `reader`.
    fn read(&self, reader: &mut Reader<'_>) -> Result<Slot, DecodeError>;
}

/// Names by this node's own slots: what this node writes on every link.
#[derive(Debug, Clone, Copy)]
pub struct OwnSlots;

impl Naming for OwnSlots {
    fn write(&self, slot: Slot, writer: &mut Writer) {
        writer.varint(u64::from(slot.0) + 1);
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Slot, DecodeError> {
        let name = reader.varint()?;
        let slot = name.checked_sub(1).filter(|n| *n <= u64::from(Slot::MAX));
        slot.map(|n| Slot(n as u32)).ok_or(DecodeError::Bounds("a slot"))
    }
}

/// Names by a peer's slots: `table[peer's slot]` is ours, as the peer announced them on this link.
#[derive(Debug, Clone, Copy)]
pub struct PeerSlots<'a> {
    pub table: &'a [Slot],
}

impl Naming for PeerSlots<'_> {
    fn write(&self, _: Slot, _: &mut Writer) {
        unreachable!("a node writes in its own slots")
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Slot, DecodeError> {
        let Slot(theirs) = OwnSlots.read(reader)?;
        self.table.get(theirs as usize).copied().ok_or(DecodeError::Bounds("a slot never announced"))
    }
}

/// Names by full replica ids: the form that is signed, and that an outbox keeps.
#[derive(Debug, Clone, Copy)]
pub struct FullIds<'a> {
    pub roster: &'a Roster,
}

impl Naming for FullIds<'_> {
    fn write(&self, slot: Slot, writer: &mut Writer) {
        writer.u8(1);
        writer.raw(&self.roster.id(slot).to_bytes());
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Slot, DecodeError> {
        let _one = reader.u8()?;
        let id = ReplicaId::from_bytes(&reader.array()?);
        self.roster.slot(&id).ok_or(DecodeError::Bounds("a replica not in the roster"))
    }
}

/// Writes ops one after another.
#[derive(Debug)]
pub struct OpWriter<N> {
    writer: Writer,
    naming: N,
    replica: Slot,
    document: String,
    at: HybridTime,
}

impl<N: Naming> OpWriter<N> {
    pub fn new(replica: Slot, naming: N) -> Self {
        Self { writer: Writer::new(), naming, replica, document: String::new(), at: HybridTime::default() }
    }

    /// Appends the op of seq `seq`.
    pub fn push(&mut self, seq: u64, op: &OpRef<'_>) {
        let writer = &mut self.writer;
        if self.document == op.document {
            writer.varint(0);
        } else {
            writer.slice(op.document.as_bytes());
            self.document.clear();
            self.document.push_str(op.document);
        }
        writer.slice(op.key);
        writer.optional_slice(op.value);
        writer.varint(zigzag(op.at.0.wrapping_sub(self.at.0) as i64));
        self.at = op.at;
        writer.varint(op.supersedes.len() as u64);
        for dot in &op.supersedes {
            if dot.slot() == self.replica {
                writer.varint(0);
                writer.varint(seq - dot.seq());
            } else {
                self.naming.write(dot.slot(), writer);
                writer.varint(dot.seq());
            }
        }
    }

    pub fn len(&self) -> usize {
        self.writer.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writer.bytes.is_empty()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.writer.bytes
    }
}

/// Reads the ops of a batch, checking each against every bound.
#[derive(Debug)]
pub struct OpReader<'a, N> {
    reader: Reader<'a>,
    naming: N,
    replica: Slot,
    seq: u64,
    left: usize,
    document: &'a str,
    at: HybridTime,
}

impl<'a, N: Naming> OpReader<'a, N> {
    pub fn new(batch: &Batch<'a>, naming: N) -> Self {
        Self {
            reader: Reader::new(batch.ops),
            naming,
            replica: batch.replica,
            seq: batch.first,
            left: batch.count,
            document: "",
            at: HybridTime::default(),
        }
    }

    fn read(&mut self) -> Result<OpRef<'a>, DecodeError> {
        let reader = &mut self.reader;
        let name = reader.str()?;
        if !name.is_empty() {
            check_name(name)?;
            self.document = name;
        }
        if self.document.is_empty() {
            return Err(DecodeError::Bounds("a document's name"));
        }
        let key = reader.slice()?;
        if CellKey::decode(key).is_none() {
            return Err(DecodeError::Bounds("a cell key"));
        }
        let value = reader.optional_slice()?;
        if value.is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            return Err(DecodeError::Bounds("a value's length"));
        }
        self.at = HybridTime(self.at.0.wrapping_add(unzigzag(reader.varint()?) as u64));
        let count = reader.count(2)?;
        let mut supersedes = Dots::with_capacity(count);
        for _ in 0..count {
            supersedes.push(self.read_dot()?);
        }
        let op = OpRef { document: self.document, key, value, at: self.at, supersedes };
        self.seq += 1;
        Ok(op)
    }

    fn read_dot(&mut self) -> Result<Dot, DecodeError> {
        let (slot, seq) = if self.reader.rest().first() == Some(&0) {
            self.reader.u8()?;
            let back = self.reader.varint()?;
            (self.replica, self.seq.checked_sub(back).filter(|_| back > 0).unwrap_or(0))
        } else {
            (self.naming.read(&mut self.reader)?, self.reader.varint()?)
        };
        if seq == 0 || seq > Dot::SEQ_MAX {
            return Err(DecodeError::Bounds("a superseded dot"));
        }
        Ok(Dot::new(slot, seq))
    }
}

impl<'a, N: Naming> Iterator for OpReader<'a, N> {
    type Item = Result<OpRef<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let trailing = !self.reader.is_empty();
            self.reader = Reader::new(&[]);
            return trailing.then_some(Err(DecodeError::Trailing));
        }
        self.left -= 1;
        let op = self.read();
        if op.is_err() {
            (self.left, self.reader) = (0, Reader::new(&[]));
        }
        Some(op)
    }
}

/// Refuses a document's name that could not have been given to a correct node.
pub fn check_name(name: &str) -> Result<(), DecodeError> {
    let fits = name.len() <= COLLECTION_BYTES_MAX + 1 + ID_BYTES_MAX;
    if fits && Address::parse(name).is_ok() { Ok(()) } else { Err(DecodeError::Bounds("a document's name")) }
}

/// What a replica signs for a batch, and the head of its chain after it:
/// `blake3(previous head | replica | first | count | ops under full ids)`.
pub fn chain(
    previous: &[u8; 32],
    replica: &ReplicaId,
    first: u64,
    count: usize,
    ops_under_full_ids: &[u8],
) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous).update(&replica.to_bytes());
    hasher.update(&first.to_le_bytes()).update(&(count as u64).to_le_bytes());
    hasher.update(ops_under_full_ids);
    *hasher.finalize().as_bytes()
}

fn zigzag(n: i64) -> u64 {
    (n << 1 ^ n >> 63) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smallvec::smallvec;

    fn ops() -> Vec<OpRef<'static>> {
        let at = HybridTime::from_ms(1_700_000_000_000);
        let dot = |slot, seq| Dot::new(Slot(slot), seq);
        let set = |document, value, supersedes| OpRef { document, key: b"\x01a\x02", value, at, supersedes };
        vec![
            set("vms/1", Some(&b"x"[..]), smallvec![]),
            set("vms/1", None, smallvec![dot(0, 10), dot(2, 7)]),
            OpRef { at: HybridTime(at.0 - 5), ..set("vms/größe", Some(&b""[..]), smallvec![dot(0, 3)]) },
        ]
    }

    fn batch(ops: &[u8], count: usize) -> Batch<'_> {
        Batch { replica: Slot(0), first: 10, count, signature: [0; 64], ops }
    }

    fn encode<N: Naming>(naming: N) -> Vec<u8> {
        let mut writer = OpWriter::new(Slot(0), naming);
        ops().iter().zip(10..).for_each(|(op, seq)| writer.push(seq, op));
        writer.into_bytes()
    }

    #[test]
    fn ops_survive_both_namings() {
        let bytes = encode(OwnSlots);
        let read: Result<Vec<_>, _> = OpReader::new(&batch(&bytes, 3), OwnSlots).collect();
        assert_eq!(read.unwrap(), ops());

        let mut roster = Roster::default();
        for n in 0..3 {
            let id = [n; 48];
            roster.intern(ReplicaId::from_bytes(&id));
        }
        let bytes = encode(FullIds { roster: &roster });
        let read: Result<Vec<_>, _> = OpReader::new(&batch(&bytes, 3), FullIds { roster: &roster }).collect();
        assert_eq!(read.unwrap(), ops());
    }

    #[test]
    fn a_slot_that_was_not_announced_is_refused() {
        let bytes = encode(OwnSlots);
        let read: Result<Vec<_>, _> = OpReader::new(&batch(&bytes, 3), PeerSlots { table: &[Slot(5)] }).collect();
        assert_eq!(read, Err(DecodeError::Bounds("a slot never announced")));
    }

    #[test]
    fn a_wrong_count_is_noticed_either_way() {
        let bytes = encode(OwnSlots);
        for count in [2, 4] {
            assert!(OpReader::new(&batch(&bytes, count), OwnSlots).any(|op| op.is_err()), "{count}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(cut in 0usize..120, flip in any::<(usize, u8)>(), noise: Vec<u8>) {
            let mut bytes = encode(OwnSlots);
            let at = flip.0 % bytes.len();
            bytes[at] ^= flip.1;
            bytes.truncate(cut);
            for bytes in [&bytes, &noise] {
                let _ = OpReader::new(&batch(bytes, 3), OwnSlots).filter(|op| op.is_ok()).count();
            }
        }

        #[test]
        fn zigzag_is_reversible(n: i64) {
            prop_assert_eq!(unzigzag(zigzag(n)), n);
        }
    }
}
