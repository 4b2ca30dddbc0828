//! States and replicas of the size wanted, filled with documents of small fields.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use crate::clock::{Clock, ClusterId, Dot, HybridTime, Incarnation, NodeId, ReplicaId, Slot};
use crate::crdt::{FieldKind, Value};
use crate::document::CellKey;
use crate::document::batch::{Dots, OpRef};
use crate::document::view::EXISTENCE_KEY;
use crate::engine::hooks::Hooks;
use crate::engine::keys::{Ed25519, Keys};
use crate::engine::message::Message;
use crate::engine::persist::WriteBatch;
use crate::engine::state::State;
use crate::engine::{Config, Input, Limits, Loaded, Now, Output, Replica, Ticket};

pub const CLUSTER: ClusterId = ClusterId([9; 16]);
const START_MS: u64 = 1_700_000_000_000;

/// A disk answers after this long: one fsync.
const DISK_US: u64 = 1_000;

pub fn document(n: usize) -> String {
    format!("bench/vm-{n:07}")
}

/// The cell key of the `n`th field of a document.
pub fn field_key(n: usize) -> Vec<u8> {
    CellKey { field: &field(n), tag: FieldKind::Contested.tag(), sub: b"" }.encode()
}

pub fn field(n: usize) -> String {
    format!("field_{n:02}")
}

/// A small text, a different one for each `n`.
pub fn value(n: usize) -> Vec<u8> {
    Value::Str(format!("running-{n:06}")).encode()
}

pub fn node(n: u8) -> NodeId {
    Ed25519::from_seed(&[n; 32]).node()
}

/// Who wrote the fixtures: not the node that is measured.
pub fn origin() -> ReplicaId {
    ReplicaId { node: node(200), incarnation: Incarnation([1; 16]) }
}

/// Documents that exist, with so many fields each. The dots count on from document to document: existence, then fields.
pub fn state(documents: usize, fields: usize) -> State {
    let mut state = State::default();
    let Some(slot) = state.intern(origin()) else { return state };
    let keys: Vec<Vec<u8>> = (0..fields).map(field_key).collect();
    let mut seq = 0;
    let null = Value::Null.encode();
    for n in 0..documents {
        let name = document(n);
        seq += 1;
        state.apply(Dot::new(slot, seq), &op(&name, EXISTENCE_KEY, &null, seq));
        for key in &keys {
            seq += 1;
            state.apply(Dot::new(slot, seq), &op(&name, key, &value(seq as usize), seq));
        }
    }
    state.clock.set(slot, seq);
    state
}

/// The seq that [`state`] gave to the field of a document.
pub fn seq_of(document: usize, field: usize, fields: usize) -> u64 {
    (document * (fields + 1) + 1 + field + 1) as u64
}

pub fn op<'a>(document: &'a str, key: &'a [u8], value: &'a [u8], seq: u64) -> OpRef<'a> {
    let at = HybridTime::from_ms(START_MS - 1_000_000 + seq / 1_000);
    OpRef { document, key, value: Some(value), at, supersedes: Dots::new() }
}

/// A replica over `state`, a member of the one cluster.
pub fn replica(n: u8, state: State, now: Now) -> Replica {
    let config = Config {
        name: format!("node-{n}"),
        incarnation: Incarnation([n; 16]),
        found: None,
        joins: false,
        rebuilt: false,
        medium: 0,
        max_clock_skew_ms: 500,
        region: String::new(),
        software: "bench".to_owned(),
        limits: Limits::default(),
        hooks: Hooks::default(),
        customs: crate::conflict::Customs::default(),
    };
    let keys: Arc<dyn Keys> = Arc::new(Ed25519::from_seed(&[n; 32]));
    let mut loaded = Loaded::default();
    (loaded.state, loaded.cluster) = (state, Some(CLUSTER));
    Replica::new(config, keys, loaded, now)
}

/// The time as a node tells it.
#[derive(Debug, Clone, Copy)]
pub struct Time(Instant);

impl Time {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(&self) -> Now {
        let mono_us = 1_000_000 + self.0.elapsed().as_micros() as u64;
        Now { wall_ms: START_MS + mono_us / 1_000, mono_us }
    }
}

/// A disk of which nothing is measured but what asking it costs the replica: it answers after an fsync's time. What it
/// was asked to keep is given back on a thread of its own, as a node's disk thread does.
#[derive(Debug)]
pub struct Disk {
    asked: Option<(Ticket, u64, Arc<WriteBatch>)>,
    rows: mpsc::Sender<Arc<WriteBatch>>,
}

impl Default for Disk {
    fn default() -> Self {
        let (disk, rows) = Self::keeping();
        std::thread::spawn(move || rows.into_iter().for_each(drop));
        disk
    }
}

impl Disk {
    /// A disk whose rows go to the caller.
    pub fn keeping() -> (Self, mpsc::Receiver<Arc<WriteBatch>>) {
        let (rows, kept) = mpsc::channel();
        (Self { asked: None, rows }, kept)
    }

    /// Carries out what the replica wants of its disk, hands the disk's answer in when it is due, and passes on the rest.
    pub fn serve(&mut self, replica: &mut Replica, now: Now, mut other: impl FnMut(Output)) {
        for output in replica.drain() {
            match output {
                Output::Persist { ticket, rows } => {
                    self.asked = Some((ticket, now.mono_us, rows));
                }
                output => other(output),
            }
        }
        if let Some((ticket, _, rows)) = self.asked.take_if(|(_, at_us, _)| *at_us + DISK_US <= now.mono_us) {
            replica.handle(Input::Persisted { ticket }, now);
            let _ = self.rows.send(rows);
            self.serve(replica, now, other);
        }
    }
}

/// Numbers that jump about, the same ones in every run (xorshift, Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Jumps(u64);

impl Default for Jumps {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Jumps {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// What each cell's live dot is, so that new ops supersede it as a correct node's would.
#[derive(Debug)]
pub struct LiveDots {
    dots: Vec<Dot>,
    fields: usize,
}

impl LiveDots {
    pub fn of(documents: usize, fields: usize) -> Self {
        let dot = |n| Dot::new(Slot(0), seq_of(n / fields, n % fields, fields));
        Self { dots: (0..documents * fields).map(dot).collect(), fields }
    }

    /// The dot to supersede, which `new` takes the place of.
    pub fn replace(&mut self, document: usize, field: usize, new: Dot) -> Dot {
        std::mem::replace(&mut self.dots[document * self.fields + field], new)
    }
}

/// Two replicas with a link that delivers at once.
#[derive(Debug)]
pub struct Pair {
    pub replicas: [Replica; 2],
    wires: [VecDeque<(u64, Arc<[u8]>)>; 2],
    pub bytes: u64,
    /// Of heartbeats, which carry the digests.
    pub heartbeat_bytes: u64,
    links: u64,
}

impl Pair {
    pub fn new(a: Replica, b: Replica) -> Self {
        Self { replicas: [a, b], wires: Default::default(), bytes: 0, heartbeat_bytes: 0, links: 0 }
    }

    /// Opens a link and exchanges everything there is to say. Time stands still.
    pub fn meet(&mut self, now: Now) {
        self.links += 1;
        for from in [0, 1] {
            let peer = self.replicas[1 - from].id().node;
            self.replicas[from].handle(Input::LinkUp { peer, link: crate::engine::LinkId(self.links) }, now);
            self.collect(from);
        }
        while let Some(to) = (0..2).find(|to| !self.wires[*to].is_empty()) {
            let Some((link, message)) = self.wires[to].pop_front() else { continue };
            let peer = self.replicas[1 - to].id().node;
            let input = Input::Message { peer, link: crate::engine::LinkId(link), bytes: message.to_vec() };
            self.replicas[to].handle(input, now);
            self.collect(to);
        }
    }

    pub fn part(&mut self, now: Now) {
        for from in [0, 1] {
            let peer = self.replicas[1 - from].id().node;
            self.replicas[from].handle(Input::LinkDown { peer, link: crate::engine::LinkId(self.links) }, now);
            self.collect(from);
        }
    }

    pub fn agree(&self) -> bool {
        self.replicas[0].digests() == self.replicas[1].digests()
    }

    /// Drains one side. Its disk never answers: what a disk costs is measured elsewhere.
    pub fn collect(&mut self, from: usize) {
        let table = [0, 1, 2].map(Slot);
        for output in self.replicas[from].drain() {
            if let Output::Send { link, message, .. } = output {
                self.bytes += message.len() as u64;
                let is_heartbeat = matches!(Message::decode(&message, &table), Ok(Message::Heartbeat { .. }));
                self.heartbeat_bytes += if is_heartbeat { message.len() as u64 } else { 0 };
                self.wires[1 - from].push_back((link.0, message));
            }
        }
    }
}

/// Clocks over so many replicas with something in every slot.
pub fn clock(replicas: u32) -> Clock {
    (0..replicas).map(|n| (Slot(n), 1_000 + u64::from(n) * 7)).collect()
}
