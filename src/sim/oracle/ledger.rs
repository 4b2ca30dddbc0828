//! The books: every op that any replica ever issued, taken down as it is written, by comparing what the writer's
//! document held before and after.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{Verdict, wrong};
use crate::clock::{Dot, HybridTime, ReplicaId, Slot};
use crate::document::CellKey;
use crate::engine::{Replica, fingerprint};

/// A dot under its replica's number in the ledger, which is the same for all nodes.
pub type GlobalDot = (u32, u64);

#[derive(Clone, Debug, Default)]
pub struct Op {
    /// The hash that a live entry of this op adds to a state's digest; `None` for a removal, and for what its own
    /// transaction superseded.
    pub entry: Option<u128>,
    /// It has an entry at all: a value, or a removal record.
    pub lives: bool,
    pub kills: SmallVec<[GlobalDot; 2]>,
    pub killed_by: SmallVec<[GlobalDot; 2]>,
    /// The last op of its transaction.
    pub ends: bool,
    content: u64,
    /// When it was written; 0 if that is not measured.
    pub at_us: u64,
    pub cell: String,
}

/// The entries of some documents, by document, cell and dot.
pub type Entries = BTreeMap<(String, Vec<u8>, Dot), (HybridTime, Option<Vec<u8>>)>;

#[derive(Debug, Default)]
pub struct Ledger {
    replicas: Vec<ReplicaId>,
    numbers: BTreeMap<ReplicaId, u32>,
    ops: Vec<Vec<Op>>,
    /// Replicas that told different nodes different things on purpose: no one state is right any more.
    disputed: Vec<bool>,
}

impl Ledger {
    pub fn number(&mut self, id: &ReplicaId) -> u32 {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = self.replicas.len() as u32;
        self.replicas.push(*id);
        self.ops.push(Vec::new());
        self.disputed.push(false);
        self.numbers.insert(*id, number);
        number
    }

    pub fn known(&self, id: &ReplicaId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    pub fn replica(&self, number: u32) -> &ReplicaId {
        &self.replicas[number as usize]
    }

    pub fn op(&self, dot: GlobalDot) -> Option<&Op> {
        self.ops.get(dot.0 as usize)?.get(usize::try_from(dot.1).ok()?.checked_sub(1)?)
    }

    /// Values that nothing superseded until now, and who wrote them.
    pub fn standing(&self) -> impl Iterator<Item = (&ReplicaId, &Op)> {
        let all = self.replicas.iter().zip(&self.ops);
        let all = all.flat_map(|(replica, ops)| ops.iter().map(move |op| (replica, op)));
        all.filter(|(_, op)| op.entry.is_some() && op.killed_by.is_empty())
    }

    pub fn dispute(&mut self, id: &ReplicaId) {
        let number = self.number(id) as usize;
        self.disputed[number] = true;
    }

    pub fn is_disputed(&self, number: u32) -> bool {
        self.disputed[number as usize]
    }

    pub fn len(&self) -> usize {
        self.ops.iter().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn name(&self, dot: GlobalDot) -> String {
        let cell = self.op(dot).map_or("", |op| &op.cell);
        format!("{:?}:{} of {cell}", self.replicas[dot.0 as usize], dot.1)
    }

    /// Takes down the transaction that `replica` just made: its own clock was at `from`, the documents it wrote held
    /// `before`. An own clock has no gaps, so every seq after `from` is one of its ops.
    pub fn record(
        &mut self,
        replica: &Replica,
        from: u64,
        before: &Entries,
        documents: &[String],
        at_us: u64,
    ) -> Verdict {
        let me = self.number(&replica.id());
        let to = replica.own_seq();
        let after = entries(replica, documents);
        // A tick that writes may also let go of removal records that every member has.
        let kept = before.iter().filter(|(key, (_, value))| value.is_some() || after.contains_key(*key));
        if to < from || (to == from && !kept.eq(after.iter())) {
            return wrong("dots", format!("a write moved the own clock from {from} to {to} and changed entries"));
        }
        let roster = &replica.state().roster;
        let own = roster.slot(&replica.id());
        let mut ops: BTreeMap<u64, Op> = (from + 1..=to).map(|seq| (seq, Op { at_us, ..Op::default() })).collect();
        for ((document, key, dot), (at, value)) in &after {
            if Some(dot.slot()) != own || dot.seq() <= from {
                continue;
            }
            let cell = fingerprint::cell_hash(fingerprint::document_hash(document), key);
            let replica = fingerprint::replica_hash(&replica.id());
            let hash = |value: &Vec<u8>| fingerprint::entry_hash(replica, dot.seq(), cell, *at, value);
            let Some(op) = ops.get_mut(&dot.seq()) else {
                return wrong("dots", format!("{document} holds the own dot {}, beyond the own clock {to}", dot.seq()));
            };
            (op.entry, op.lives) = (value.as_ref().map(hash), true);
            op.cell = format!("{document} {}", cell_name(key));
            op.content = xxh3_64_with_seed(value.as_deref().unwrap_or(b"-"), at.0 ^ cell ^ u64::from(value.is_some()));
        }
        for ((document, key, dot), (_, value)) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
            let in_cell = after.range((document.clone(), key.clone(), Dot(0))..);
            let in_cell = in_cell.take_while(|((d, k, _), _)| d == document && k == key).map(|((_, _, dot), _)| *dot);
            let Some(killer) = in_cell.filter(|dot| Some(dot.slot()) == own && dot.seq() > from).max() else {
                if value.is_none() {
                    continue;
                }
                return wrong("dots", format!("an entry of {document} vanished in a write without an op that says so"));
            };
            let killed = self.global(roster.id(dot.slot()), *dot);
            if let Some(op) = ops.get_mut(&killer.seq()) {
                op.kills.push(killed);
            }
            if let Some(op) = self.op_mut(killed) {
                op.killed_by.push((me, killer.seq()));
            }
        }
        if let Some(last) = ops.get_mut(&to) {
            last.ends = true;
        }
        for (seq, op) in ops {
            self.enter((me, seq), op)?;
        }
        Ok(())
    }

    fn enter(&mut self, dot: GlobalDot, op: Op) -> Verdict {
        let ops = &mut self.ops[dot.0 as usize];
        match (dot.1 as usize).checked_sub(1) {
            Some(at) if at == ops.len() => ops.push(op),
            Some(at) if at < ops.len() => {
                let name = self.name(dot);
                return wrong("dots", format!("the dot {name} was issued before, and is issued again"));
            }
            _ => return wrong("dots", format!("{:?} issues {} out of turn", self.replicas[dot.0 as usize], dot.1)),
        }
        Ok(())
    }

    fn global(&mut self, id: &ReplicaId, dot: Dot) -> GlobalDot {
        (self.number(id), dot.seq())
    }

    fn op_mut(&mut self, dot: GlobalDot) -> Option<&mut Op> {
        self.ops.get_mut(dot.0 as usize)?.get_mut((dot.1 as usize).checked_sub(1)?)
    }

    /// One number for all that was written, for the trace.
    pub fn digest_from(&self, me: u32, from: u64) -> u64 {
        let ops = self.ops[me as usize].iter().skip(from as usize);
        ops.fold(0, |hash, op| xxh3_64(&(hash ^ op.content).to_le_bytes()))
    }
}

/// What `documents` hold at a node.
pub fn entries(replica: &Replica, documents: &[String]) -> Entries {
    let mut all = Entries::new();
    for name in documents {
        for cell in replica.state().document(name).iter().flat_map(|document| document.cells()) {
            for entry in cell.entries() {
                all.insert((name.clone(), cell.key.to_vec(), entry.dot), (entry.at, entry.value.map(<[u8]>::to_vec)));
            }
        }
    }
    all
}

fn cell_name(key: &[u8]) -> String {
    match CellKey::decode(key) {
        Some(key) if key.field.is_empty() => "(existence)".into(),
        Some(key) => format!("{}{}", key.field, if key.sub.is_empty() { "" } else { "[…]" }),
        None => "?".into(),
    }
}

/// Numbers the slots of one node as the ledger does.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    numbers: Vec<u32>,
    slots: Vec<Option<Slot>>,
}

impl Slots {
    pub fn follow(&mut self, replica: &Replica, ledger: &mut Ledger) {
        let roster = &replica.state().roster;
        for (slot, id) in roster.iter().skip(self.numbers.len()) {
            let number = ledger.number(id);
            self.numbers.push(number);
            if self.slots.len() <= number as usize {
                self.slots.resize(number as usize + 1, None);
            }
            self.slots[number as usize] = Some(slot);
        }
    }

    pub fn number(&self, slot: Slot) -> u32 {
        self.numbers[slot.index()]
    }

    pub fn slot(&self, number: u32) -> Option<Slot> {
        self.slots.get(number as usize).copied().flatten()
    }

    pub fn global(&self, dot: Dot) -> GlobalDot {
        (self.number(dot.slot()), dot.seq())
    }
}
