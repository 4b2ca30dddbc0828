//! Batches kept aside: signed, under full ids, as they stand on their own. They are on the disk, too, since their node may
//! never come back to tell them again.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::{Clock, Slot};
use crate::engine::limits::Limits;
use crate::engine::persist::{Tree, WriteBatch};
use crate::engine::rows::{PortableBatch, outbox_key};

/// By replica and first seq. What does not fit is dropped: if it is released, it is taken over from whoever has it.
#[derive(Debug, Default)]
pub struct Aside {
    batches: BTreeMap<(Slot, u64), Vec<u8>>,
    bytes: usize,
    dropped: BTreeMap<Slot, u64>,
    /// Keys whose rows on the disk are not as they are here.
    changed: Vec<(Slot, u64)>,
}

/// What is kept aside of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub batches: usize,
    pub bytes: usize,
    /// Batches that there was no room for since this start.
    pub dropped: u64,
}

impl Aside {
    /// What a store held.
    pub(in crate::engine) fn load(batches: BTreeMap<(Slot, u64), Vec<u8>>) -> Self {
        let bytes = batches.values().map(Vec::len).sum();
        Self { batches, bytes, ..Self::default() }
    }

    /// Whether it is new, and there was room.
    pub(super) fn keep(&mut self, slot: Slot, batch: &PortableBatch<'_>, limits: &Limits) -> bool {
        let key = (slot, batch.first);
        if self.batches.contains_key(&key) {
            return false;
        }
        let row = batch.encode();
        if self.batches.len() >= limits.aside_batches || self.bytes + row.len() > limits.aside_bytes {
            *self.dropped.entry(slot).or_default() += 1;
            return false;
        }
        self.bytes += row.len();
        self.batches.insert(key, row);
        self.changed.push(key);
        true
    }

    /// All of one replica, in order.
    pub(super) fn rows(&self, slot: Slot) -> Vec<Vec<u8>> {
        self.batches.range((slot, 0)..=(slot, u64::MAX)).map(|(_, row)| row.clone()).collect()
    }

    /// Lets go of all of one replica.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.dropped.remove(&slot);
        self.forget_where(|(of, _), _| *of == slot);
    }

    /// Lets go of what the clock covers by now; whether that was anything.
    pub(super) fn forget_covered(&mut self, clock: &Clock) -> bool {
        let last = |row: &[u8]| PortableBatch::decode(row).map_or(0, |batch| batch.last());
        self.forget_where(|(slot, _), row| last(row) <= clock.get(*slot))
    }

    fn forget_where(&mut self, goes: impl Fn(&(Slot, u64), &[u8]) -> bool) -> bool {
        let gone: Vec<(Slot, u64)> =
            self.batches.iter().filter(|(key, row)| goes(key, row)).map(|(key, _)| *key).collect();
        for key in &gone {
            self.bytes -= self.batches.remove(key).map_or(0, |row| row.len());
        }
        self.changed.extend(&gone);
        !gone.is_empty()
    }

    pub fn kept(&self, slot: Slot) -> Kept {
        let rows = self.batches.range((slot, 0)..=(slot, u64::MAX));
        let bytes = rows.clone().map(|(_, row)| row.len()).sum();
        Kept { batches: rows.count(), bytes, dropped: self.dropped.get(&slot).copied().unwrap_or_default() }
    }

    /// What a disk does not have yet.
    pub(in crate::engine) fn take_rows(&mut self, rows: &mut WriteBatch) {
        for (slot, first) in std::mem::take(&mut self.changed) {
            match self.batches.get(&(slot, first)) {
                Some(row) => rows.put(Tree::Aside, outbox_key(slot, first), row.clone()),
                None => rows.remove(Tree::Aside, outbox_key(slot, first)),
            }
        }
    }
}
