//! The live state: documents, the clock that says which dots they reflect, and what is derived from both.
//!
//! One rule holds everything: *a dot that is in the clock and not in the store is dead.* Only two things change cells:
//! [`State::apply`] (an op, live) and [`State::join_document`] (cells of a peer, at the end of a catch-up). Both end in
//! `change_cell`, the one place that keeps fingerprint, index and counts in step with the entries.
//!
//! Nothing here decides *whether* an op may be applied; see [`live`](super::live) and [`pull`](super::pull).

mod disputes;
mod join;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use hashbrown::HashTable;

use super::fingerprint::{self, Fingerprint, Shards};
use super::hooks::{Hooks, Mutant};
use super::index::DotIndex;
use super::rows::DirtyRows;
use crate::clock::{Clock, Dot, HybridTime, ReplicaId, Roster, Slot};
use crate::document::Document;
use crate::document::batch::OpRef;
use crate::document::cell::{CellRef, EntryRef, apply_op};
use crate::document::packed::{Seat, Touched};
use crate::document::view::EXISTENCE_KEY;

use disputes::Dispute;
pub(super) use disputes::Rival;
pub use join::{Content, StagedCell, StagedEntry};

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub name: Arc<str>,
    hash: u64,
    pub document: Document,
    visible: bool,
    dispute: Dispute,
}

/// What there is, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub documents: usize,
    pub cells: usize,
    pub entries: usize,
    pub removal_records: usize,
}

#[derive(Debug, Default)]
pub struct State {
    pub roster: Roster,
    replica_hashes: Vec<u64>,
    pub clock: Clock,
    /// The clock's digest when it was last noted.
    clock_digest: (Clock, u128),
    /// For each slot the hash its chain of batches ends in, and the seq it ends at.
    pub(super) heads: Vec<(u64, [u8; 32])>,
    /// Removal records at or below it may be gone (rule R3).
    pub floor: Clock,
    stored: Vec<Stored>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
    ordered: BTreeMap<Arc<str>, u32>,
    index: DotIndex,
    fingerprint: Fingerprint,
    /// The same sum over removal records. Nodes in agreement may differ in it; a disk must not.
    records: u128,
    counts: Counts,
    visible: BTreeMap<Box<str>, usize>,
    pub(super) dirty: DirtyRows,
    /// Documents changed since the last [`State::take_changed`], in order, without immediate repeats.
    changed: Vec<Arc<str>>,
    added: Vec<(Dot, u32)>,
    /// Those of them that have siblings, or had when they were judged; each once until it is judged again.
    disputed: Vec<Arc<str>>,
    /// Documents with a contested register that has siblings.
    contested: BTreeSet<Arc<str>>,
    /// Entries that became siblings since the last [`State::take_siblings`]; an entry may be told more than once.
    siblings: Vec<Rival>,
    /// Buffers kept between calls, so that an op allocates nothing of its own.
    scratch: Vec<u8>,
    scratch_old: Vec<u8>,
    pub(super) hooks: Hooks,
}

impl State {
    /// The slot of a replica, numbering it if new. `None` when no slot is left.
    pub fn intern(&mut self, id: ReplicaId) -> Option<Slot> {
        let slot = self.roster.intern(id)?;
        if self.replica_hashes.len() == slot.index() {
            self.replica_hashes.push(fingerprint::replica_hash(&id));
            self.heads.push((0, [0; 32]));
        }
        Some(slot)
    }

    /// The hash that a replica's chain of batches ends in, and the seq it ends at.
    pub fn head(&self, slot: Slot) -> (u64, [u8; 32]) {
        self.heads.get(slot.index()).copied().unwrap_or_default()
    }

    pub fn document(&self, name: &str) -> Option<&Document> {
        self.find(name).map(|at| &self.stored[at as usize].document)
    }

    /// Whether the document has a live existence entry.
    pub fn is_visible(&self, name: &str) -> bool {
        self.find(name).is_some_and(|at| self.stored[at as usize].visible)
    }

    /// The latest stamp of any live entry: a start must not stamp below what this node already wrote.
    pub fn latest_stamp(&self) -> HybridTime {
        let entries = self.stored.iter().flat_map(|stored| stored.document.cells()).flat_map(|cell| cell.entries());
        entries.map(|entry| entry.at).max().unwrap_or_default()
    }

    /// Names at or after `from`, in order; hidden documents too.
    pub fn names_from<'a>(&'a self, from: Bound<&str>) -> impl Iterator<Item = (&'a Arc<str>, &'a Document)> {
        let range = self.ordered.range::<str, _>((from, Bound::Unbounded));
        range.map(|(name, at)| (name, &self.stored[*at as usize].document))
    }

    /// Visible documents for each collection, in order.
    pub fn collections(&self) -> impl Iterator<Item = (&str, usize)> {
        self.visible.iter().filter(|(_, count)| **count > 0).map(|(name, count)| (&**name, *count))
    }

    pub fn counts(&self) -> Counts {
        Counts { documents: self.visible.values().sum(), ..self.counts }
    }

    /// The digest of the state: equal clocks must mean equal digests.
    pub fn digest(&self) -> u128 {
        self.fingerprint.total()
    }

    /// The digest of the clock, in global ids.
    pub fn clock_digest(&self) -> u128 {
        let (seen, digest) = &self.clock_digest;
        let slots = self.clock.len().max(seen.len()) as u32;
        let moved = (0..slots).map(Slot).filter(|slot| self.clock.get(*slot) != seen.get(*slot));
        moved.fold(*digest, |digest, slot| {
            let (old, new) = (self.seq_hash(slot, seen.get(slot)), self.seq_hash(slot, self.clock.get(slot)));
            digest.wrapping_sub(old).wrapping_add(new)
        })
    }

    /// The digest of the removal records, for this node's own disk.
    pub(super) fn records_digest(&self) -> u128 {
        self.records
    }

    /// Keeps the digest of the clock as it is now: the next one starts from it.
    pub(super) fn note_clock(&mut self) {
        if self.clock_digest.0 != self.clock {
            let digest = self.clock_digest();
            self.clock_digest.0.clone_from(&self.clock);
            self.clock_digest.1 = digest;
        }
    }

    fn seq_hash(&self, slot: Slot, seq: u64) -> u128 {
        match seq {
            0 => 0,
            _ => fingerprint::entry_hash(self.replica_hashes[slot.index()], seq, 0, HybridTime::default(), b"clock"),
        }
    }

    /// Bytes the state holds on to: an estimate, for people.
    pub fn bytes(&self) -> usize {
        let pages = |stored: &Stored| stored.document.pages().iter().map(|page| page.allocated()).sum::<usize>();
        let documents: usize = self.stored.iter().map(|s| pages(s) + s.name.len() + size_of::<Stored>() + 48).sum();
        documents + self.index.bytes()
    }

    /// Names of the documents that changed since this was last asked.
    pub fn take_changed(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.changed)
    }

    /// Applies one op. It removes what it supersedes and adds itself; nothing else is asked (rule R5).
    /// The caller has checked rule R1 and moves the clock.
    pub fn apply(&mut self, dot: Dot, op: &OpRef<'_>) {
        let at = self.find_or_create(op.document);
        let new = EntryRef { dot, at: op.at, value: op.value };
        let judges = self.hooks.planted(Mutant::ApplyJudges);
        self.change_cell(at, op.key, |old, packed| {
            apply_op(old, &op.supersedes, new, packed);
            if judges && let Some(latest) = (CellRef { key: op.key, packed }).valued().max_by_key(|entry| entry.at) {
                let mut kept = Vec::new();
                latest.encode_into(&mut kept);
                *packed = kept;
            }
        });
        self.note_added();
    }

    /// Documents that may hold a dot above `low` and at most `high`.
    pub(super) fn documents_between(&self, low: &Clock, high: &Clock) -> Vec<u32> {
        self.index.documents_between(low, Some(high))
    }

    /// The shards of documents that may hold a dot above `clock`.
    pub fn shards_above(&self, clock: &Clock) -> Shards {
        let documents = self.index.documents_between(clock, None);
        documents.into_iter().map(|at| fingerprint::shard_of(self.stored[at as usize].hash)).collect()
    }

    /// Four bytes of the digest of each shard: enough to see that two differ.
    pub fn shard_sums(&self) -> Vec<u32> {
        (0..fingerprint::SHARDS).map(|shard| self.fingerprint.shard(shard) as u32).collect()
    }

    /// Raises the floor to cover `stable` and drops the removal records at or below it.
    pub fn raise_floor(&mut self, stable: &Clock) {
        if self.floor.covers_all(stable) {
            return;
        }
        let documents = self.index.documents_between(&self.floor, Some(stable));
        self.floor.join(stable);
        self.dirty.floor = true;
        let floor = self.floor.clone();
        let changed_before = self.changed.len();
        for at in documents {
            let document = self.stored[at as usize].document.clone();
            for cell in document.cells() {
                let forgotten = |entry: &EntryRef<'_>| entry.value.is_none() && floor.covers(entry.dot);
                if cell.entries().any(|entry| forgotten(&entry)) {
                    self.change_cell(at, cell.key, |_, packed| {
                        cell.entries().filter(|entry| !forgotten(entry)).for_each(|entry| entry.encode_into(packed));
                    });
                }
            }
            self.release_if_empty(at);
        }
        // Dropping removal records changes nothing that a reader could see.
        self.changed.truncate(changed_before);
    }

    /// The documents that may hold a dot that `clock` does not cover, in order of their names, shared with this state
    /// until either changes.
    pub fn snapshot_above(&self, clock: &Clock) -> Vec<(Arc<str>, Document)> {
        let mut documents: Vec<_> = self.index.documents_between(clock, None).into_iter().collect();
        documents.sort_by(|a, b| self.stored[*a as usize].name.cmp(&self.stored[*b as usize].name));
        let share = |at: u32| (self.stored[at as usize].name.clone(), self.stored[at as usize].document.clone());
        documents.into_iter().map(share).collect()
    }

    /// Every document, in order of names.
    pub fn snapshot(&self) -> Vec<(Arc<str>, Document)> {
        self.ordered.iter().map(|(name, at)| (name.clone(), self.stored[*at as usize].document.clone())).collect()
    }

    /// The name and the document behind a dirty row.
    pub(super) fn stored(&self, at: u32) -> &Stored {
        &self.stored[at as usize]
    }

    /// Adopts a document as it was stored, deriving everything from its cells.
    pub(super) fn adopt(&mut self, name: &str, document: Document) {
        let at = self.find_or_create(name);
        let empty = Document::default();
        for cell in document.cells() {
            self.account(at, cell.key, empty.entries_of(cell.key), cell.packed);
        }
        self.stored[at as usize].document = document;
        self.changed.clear();
    }

    /// After the last [`State::adopt`].
    pub(super) fn finish_adopting(&mut self) {
        self.note_added();
    }

    /// Gives a cell the entries that `change` makes, in an empty buffer, of those it has.
    pub(super) fn change_cell(&mut self, at: u32, key: &[u8], change: impl FnOnce(&[u8], &mut Vec<u8>)) {
        let (mut old, mut new) = (std::mem::take(&mut self.scratch_old), std::mem::take(&mut self.scratch));
        old.clear();
        new.clear();
        let document = &self.stored[at as usize].document;
        let seat = document.seek(key);
        old.extend_from_slice(document.entries_at(seat, key));
        change(&old, &mut new);
        if old != new {
            self.account(at, key, &old, &new);
            self.put_cell(at, seat, key, &new);
        }
        (self.scratch_old, self.scratch) = (old, new);
    }

    fn put_cell(&mut self, at: u32, seat: Seat, key: &[u8], packed: &[u8]) {
        let stored = &mut self.stored[at as usize];
        match stored.document.put_at(seat, key, packed) {
            Touched::Page(id) => self.dirty.page(at, id),
            Touched::Split(low, high) => {
                self.dirty.page(at, low);
                self.dirty.page(at, high);
            }
            Touched::Gone(id) => self.dirty.gone(&stored.name, id),
            Touched::Nothing => {}
        }
        if self.changed.last().is_none_or(|last| !Arc::ptr_eq(last, &stored.name)) {
            self.changed.push(stored.name.clone());
        }
        self.note_dispute(at);
    }

    /// Moves fingerprint, index and counts from a cell's `old` entries to its `new` ones. Both are in order of dots.
    fn account(&mut self, at: u32, key: &[u8], old: &[u8], new: &[u8]) {
        let document_hash = self.stored[at as usize].hash;
        let cell_hash = fingerprint::cell_hash(document_hash, key);
        let (mut before, mut after) =
            (CellRef { key, packed: old }.entries().peekable(), CellRef { key, packed: new }.entries().peekable());
        let mut visible = false;
        // Entries with a value, before and after.
        let (mut had, mut has) = (0u32, 0u32);
        loop {
            let (gone, come) = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(b), Some(a)) if a.dot == b.dot => {
                    visible |= a.value.is_some();
                    had += u32::from(a.value.is_some());
                    has += u32::from(a.value.is_some());
                    before.next();
                    after.next();
                    continue;
                }
                (Some(b), Some(a)) if b.dot < a.dot => (before.next(), None),
                (Some(_), None) => (before.next(), None),
                (_, Some(_)) => (None, after.next()),
            };
            if let Some(entry) = gone {
                self.counts.entries -= 1;
                self.index.forget(entry.dot);
                match entry.value {
                    Some(value) => {
                        had += 1;
                        let hash = self.entry_hash(&entry, cell_hash, value);
                        if !self.hooks.planted(Mutant::DigestForgetsRemoves) {
                            self.fingerprint.remove(document_hash, hash);
                        }
                    }
                    None => {
                        self.counts.removal_records -= 1;
                        self.records = self.records.wrapping_sub(self.entry_hash(&entry, cell_hash, b""));
                    }
                }
            }
            if let Some(entry) = come {
                self.counts.entries += 1;
                self.added.push((entry.dot, at));
                match entry.value {
                    Some(value) => {
                        visible = true;
                        has += 1;
                        let hash = self.entry_hash(&entry, cell_hash, value);
                        self.fingerprint.add(document_hash, hash);
                    }
                    None => {
                        self.counts.removal_records += 1;
                        self.records = self.records.wrapping_add(self.entry_hash(&entry, cell_hash, b""));
                    }
                }
            }
        }
        self.counts.cells = self.counts.cells + usize::from(old.is_empty()) - usize::from(new.is_empty());
        if key == EXISTENCE_KEY {
            self.set_visible(at, visible);
        }
        if had > 1 || has > 1 {
            self.note_siblings(at, CellRef { key, packed: old }, CellRef { key, packed: new }, (had > 1, has > 1));
        }
    }

    pub(super) fn entry_hash(&self, entry: &EntryRef<'_>, cell_hash: u64, value: &[u8]) -> u128 {
        let replica = self.replica_hashes[entry.dot.slot().index()];
        fingerprint::entry_hash(replica, entry.dot.seq(), cell_hash, entry.at, value)
    }

    fn set_visible(&mut self, at: u32, visible: bool) {
        let stored = &mut self.stored[at as usize];
        if stored.visible == visible {
            return;
        }
        stored.visible = visible;
        let collection = stored.name.split('/').next().unwrap_or_default();
        if !self.visible.contains_key(collection) {
            self.visible.insert(collection.into(), 0);
        }
        if let Some(count) = self.visible.get_mut(collection) {
            *count = if visible { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    /// Enters the dots added since the last call into the index.
    fn note_added(&mut self) {
        let mut added = std::mem::take(&mut self.added);
        if added.len() > 1 {
            added.sort_unstable();
        }
        for (dot, at) in added.drain(..) {
            self.index.push(dot, at);
            if self.index.wants_compaction(dot.slot()) {
                self.compact_index(dot.slot());
            }
        }
        self.added = added;
    }

    fn compact_index(&mut self, slot: Slot) {
        let mut live = Vec::with_capacity(self.index.live(slot));
        for at in self.index.documents_of(slot) {
            let entries = self.stored[at as usize].document.cells().flat_map(|cell| cell.entries());
            live.extend(entries.filter(|entry| entry.dot.slot() == slot).map(|entry| (entry.dot.seq(), at)));
        }
        // Dots that wait to be pushed are in the cells already: they come in their turn.
        let pushed = self.index.last(slot);
        live.retain(|(seq, _)| *seq <= pushed);
        self.index.compact(slot, live);
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let hash = fingerprint::document_hash(name);
        self.by_name.find(hash, |at| &*self.stored[*at as usize].name == name).copied()
    }

    pub(super) fn find_or_create(&mut self, name: &str) -> u32 {
        if let Some(at) = self.find(name) {
            return at;
        }
        let (name, hash): (Arc<str>, _) = (name.into(), fingerprint::document_hash(name));
        let stored = Stored {
            name: name.clone(),
            hash,
            document: Document::default(),
            visible: false,
            dispute: Dispute::default(),
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.stored[at as usize] = stored;
                at
            }
            None => {
                self.stored.push(stored);
                (self.stored.len() - 1) as u32
            }
        };
        let hashes = |at: &u32| self.stored[*at as usize].hash;
        self.by_name.insert_unique(hash, at, hashes);
        self.ordered.insert(name, at);
        at
    }

    /// Frees the place of a document without cells. Its name stays readable there until the place is taken again.
    pub(super) fn release_if_empty(&mut self, at: u32) {
        let stored = &self.stored[at as usize];
        if !stored.document.is_empty() {
            return;
        }
        if let Ok(found) = self.by_name.find_entry(stored.hash, |other| *other == at) {
            found.remove();
            self.ordered.remove(&stored.name);
            self.free.push(at);
        }
    }
}
