//! Ops of other nodes, applied to a state of a million cells: alone, and as messages to a replica; and a set's change.

use std::time::{Duration, Instant};

use super::bench::{Bench, Case, Target};
use super::fixture::{self, Disk, Jumps, LiveDots, Time, document, field_key, value};
use crate::clock::{Clock, Dot, HybridTime, Incarnation, ReplicaId, Roster, Slot};
use crate::document::Schema;
use crate::document::batch::{Batch, Dots, OpRef, OpWriter, OwnSlots};
use crate::document::plan::{Edit, PlannedOp, Planner, Write, plan};
use crate::engine::ballot::StoreId;
use crate::engine::limits::GROUP_BYTES_MAX;
use crate::engine::message::{Hello, Message};
use crate::engine::state::State;
use crate::engine::{Input, LinkId, Replica};

const DOCUMENTS: usize = 50_000;
const FIELDS: usize = 20;
const LINK: LinkId = LinkId(1);

pub fn measure(bench: &mut dyn Bench) {
    apply_alone(
        bench,
        DOCUMENTS,
        Case::new("apply one remote op to 1 M cells: the state alone", Target::AtMost(100.0)),
    );
    apply_alone(bench, 50, Case::new("… to 1 k cells, which a cache holds", Target::None));
    apply_messages(bench);
    change_set(bench);
}

/// A remote writer that overwrites random cells.
struct Writer {
    slot: Slot,
    seq: u64,
    documents: usize,
    live: LiveDots,
    jumps: Jumps,
    keys: Vec<Vec<u8>>,
}

/// An op that owns its parts.
struct OwnedOp {
    dot: Dot,
    document: String,
    field: usize,
    value: Vec<u8>,
    supersedes: Dot,
}

impl Writer {
    fn new(slot: Slot, documents: usize) -> Self {
        let keys = (0..FIELDS).map(field_key).collect();
        Self { slot, seq: 0, documents, live: LiveDots::of(documents, FIELDS), jumps: Jumps::default(), keys }
    }

    fn next(&mut self) -> OwnedOp {
        let (n, field) = (self.jumps.below(self.documents), self.jumps.below(FIELDS));
        self.seq += 1;
        let dot = Dot::new(self.slot, self.seq);
        let supersedes = self.live.replace(n, field, dot);
        OwnedOp { dot, document: document(n), field, value: value(self.seq as usize), supersedes }
    }

    fn op<'a>(&'a self, owned: &'a OwnedOp) -> OpRef<'a> {
        OpRef {
            document: &owned.document,
            key: &self.keys[owned.field],
            value: Some(&owned.value),
            at: HybridTime::from_ms(1_700_000_000_000 + owned.dot.seq() / 1_000),
            supersedes: Dots::from_slice(&[owned.supersedes]),
        }
    }
}

fn apply_alone(bench: &mut dyn Bench, documents: usize, case: Case) {
    let mut state = fixture::state(documents, FIELDS);
    let Some(slot) = state.intern(writer_id()) else { return };
    let mut writer = Writer::new(slot, documents);
    bench.time(case, &mut |n| {
        let owned: Vec<OwnedOp> = (0..n).map(|_| writer.next()).collect();
        let ops: Vec<(Dot, OpRef<'_>)> = owned.iter().map(|owned| (owned.dot, writer.op(owned))).collect();
        let start = Instant::now();
        for (dot, op) in &ops {
            state.apply(*dot, op);
        }
        let took = start.elapsed();
        state.clock.set(slot, writer.seq);
        state.take_changed();
        took
    });
}

fn writer_id() -> ReplicaId {
    ReplicaId { node: fixture::node(2), incarnation: Incarnation([2; 16]) }
}

/// A replica with an established link to the writer's node.
fn receiver(time: &Time, disk: &mut Disk) -> Replica {
    let mut replica = fixture::replica(1, fixture::state(DOCUMENTS, FIELDS), time.now());
    let peer = writer_id().node;
    let hello = Hello {
        replica: writer_id(),
        cluster: Some(fixture::CLUSTER),
        name: "writer".to_owned(),
        software: "bench".to_owned(),
        store: StoreId(writer_id().incarnation.0),
        heard: None,
    };
    let inputs = [
        Input::LinkUp { peer, link: LINK },
        Input::Message { peer, link: LINK, bytes: Message::Hello(hello).encode() },
        Input::Message { peer, link: LINK, bytes: Message::Announce(vec![fixture::origin(), writer_id()]).encode() },
    ];
    for input in inputs {
        replica.handle(input, time.now());
        disk.serve(&mut replica, time.now(), drop);
    }
    replica
}

fn apply_messages(bench: &mut dyn Bench) {
    let (time, mut disk) = (Time::start(), Disk::default());
    let mut replica = receiver(&time, &mut disk);
    // By the slots that the writer's node announced.
    let mut writer = Writer::new(Slot(1), DOCUMENTS);
    let peer = writer_id().node;
    let mut deliver = |messages: Vec<Vec<u8>>, replica: &mut Replica| {
        let start = Instant::now();
        for bytes in messages {
            let now = time.now();
            replica.handle(Input::Message { peer, link: LINK, bytes }, now);
            disk.serve(replica, now, drop);
        }
        start.elapsed()
    };
    bench.time(Case::new("… as a message of one op, to its end", Target::None), &mut |n| {
        let messages = (0..n).map(|_| frame(&mut writer, 1)).collect();
        deliver(messages, &mut replica)
    });
    bench.time(Case::new("… in frames of 16 KB, each op, to its end", Target::None), &mut |n| {
        let (mut messages, mut ops) = (Vec::new(), 0);
        while ops < n {
            let before = writer.seq;
            messages.push(frame(&mut writer, (n - ops) as usize));
            ops += writer.seq - before;
        }
        deliver(messages, &mut replica)
    });
    let applied = replica.tally().ops_applied;
    assert_eq!(applied, writer.seq, "every op was applied");
    let again = frame(&mut writer, 1);
    deliver(vec![again.clone()], &mut replica);
    bench.time(Case::new("a duplicate batch, to its end", Target::AtMost(20.0)), &mut |n| {
        let inputs: Vec<Input> = (0..n).map(|_| Input::Message { peer, link: LINK, bytes: again.clone() }).collect();
        let (now, start) = (time.now(), Instant::now());
        inputs.into_iter().for_each(|input| replica.handle(input, now));
        start.elapsed()
    });
    assert_eq!(replica.tally().ops_applied, applied + 1, "no duplicate was applied");
}

/// A message of at most `count` ops, and of at most a full frame.
fn frame(writer: &mut Writer, count: usize) -> Vec<u8> {
    let (first, slot) = (writer.seq + 1, writer.slot);
    let mut ops = OpWriter::new(slot, OwnSlots);
    while ((writer.seq + 1 - first) as usize) < count && ops.len() < GROUP_BYTES_MAX {
        let owned = writer.next();
        ops.push(owned.dot.seq(), &writer.op(&owned));
    }
    let count = (writer.seq + 1 - first) as usize;
    let ops = ops.into_bytes();
    // Nobody asks for the signature here: what comes from its origin is checked off the delivery path.
    Message::Batch { batch: Batch { replica: slot, first, count, signature: [0; 64], ops: &ops }, prompt: false }
        .encode()
}

/// Adds and removes one element of a set of a thousand.
fn change_set(bench: &mut dyn Bench) {
    const ELEMENTS: usize = 1_000;
    let mut set = Set::new();
    (0..ELEMENTS).for_each(|n| set.change(n, true));
    let mut jumps = Jumps::default();
    bench.time(Case::new("OR-set of 1,000: apply one change", Target::AtMost(50.0)), &mut |n| {
        let mut took = Duration::ZERO;
        for _ in 0..n {
            let element = jumps.below(ELEMENTS);
            set.plan(element, false);
            took += set.apply();
            set.plan(element, true);
            set.apply();
        }
        took
    });
    bench.time(Case::new("OR-set of 1,000: plan and apply one change", Target::None), &mut |n| {
        let elements: Vec<usize> = (0..n / 2 + 1).map(|_| jumps.below(ELEMENTS)).collect();
        let start = Instant::now();
        for at in 0..n as usize {
            set.change(elements[at / 2], at % 2 == 1);
        }
        let took = start.elapsed();
        elements.iter().for_each(|element| set.change(*element, true));
        took
    });
}

struct Set {
    state: State,
    roster: Roster,
    slot: Slot,
    seq: u64,
    schema: Schema,
    planned: Vec<PlannedOp>,
    /// The write that adds, and the one that removes, for each element.
    writes: Vec<[Write; 2]>,
}

impl Set {
    const NAME: &str = "bench/set";

    fn new() -> Self {
        let edit = |n: usize| {
            let (field, value) = ("labels".to_owned(), serde_json::Value::from(format!("label-{n:04}")));
            let remove = Edit::Remove { field: field.clone(), value: value.clone() };
            [Write::Upsert(vec![remove]), Write::Upsert(vec![Edit::Add { field, value }])]
        };
        let mut state = State::default();
        let slot = state.intern(writer_id()).unwrap_or(Slot(0));
        let roster = state.roster.clone();
        let writes = (0..1_000).map(edit).collect();
        Self { state, roster, slot, seq: 0, schema: Schema::default(), planned: Vec::new(), writes }
    }

    fn plan(&mut self, element: usize, add: bool) {
        let planner = Planner { schema: &self.schema, roster: &self.roster, me: self.slot, settled: &Clock::new() };
        let document = self.state.document(Self::NAME);
        let planned = plan(document, planner, &self.writes[element][usize::from(add)], &mut self.planned);
        debug_assert!(planned.is_ok(), "{planned:?}");
    }

    fn apply(&mut self) -> Duration {
        let at = HybridTime::from_ms(1_700_000_000_000);
        let start = Instant::now();
        for op in &self.planned {
            self.seq += 1;
            let supersedes = Dots::from_slice(&op.supersedes);
            let op = OpRef { document: Self::NAME, key: &op.key, value: op.value.as_deref(), at, supersedes };
            self.state.apply(Dot::new(self.slot, self.seq), &op);
        }
        let took = start.elapsed();
        self.state.clock.set(self.slot, self.seq);
        self.planned.clear();
        self.state.take_changed();
        took
    }

    fn change(&mut self, element: usize, add: bool) {
        self.plan(element, add);
        self.apply();
    }
}
