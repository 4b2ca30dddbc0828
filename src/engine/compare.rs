//! Two states compared entry by entry, over what both clocks cover.
//!
//! Of such an entry one side may know that it is dead, and then lacks it; a side whose disk or memory failed it lacks it
//! wrongly. [`iblt`](super::iblt) finds which entries only one side has, at the cost of those. What then happens to
//! them depends on why they were compared:
//!
//! - *After the collection floor passed* (rule R3): what only the asker has is dead, since the sender covers it and lacks
//!   it. [`State::strike`] drops it.
//! - *In a repair*: [`State::mend_document`] makes the asker's entries the sender's, or keeps those of both.

use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::fingerprint::{self, Shards};
use super::state::{Content, StagedCell, State};
use crate::clock::{Clock, Dot};
use crate::document::Document;
use crate::document::cell::{CellRef, EntryRef};

/// What is compared: entries that `meet` covers, in some shards or in all.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Entries are hashed under it, anew for each session.
    pub salt: u64,
    pub meet: Clock,
    /// Removal records above it are compared too; without one, none. At or below the sender's floor they may be gone.
    pub records_above: Option<Clock>,
    pub shards: Option<Shards>,
}

/// Which entries hold when two states differ where they should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mend {
    /// The sender's: most of those asked have them.
    Take,
    /// Those of both: nobody knows whose are right, and nothing must be lost. Of two contents under one dot the one
    /// with the later stamp holds, then the greater bytes, on both sides alike.
    Union,
}

/// Entries that a repair brought and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    pub added: usize,
    pub dropped: usize,
}

impl Scope {
    fn holds(&self, document_hash: u64) -> bool {
        self.shards.as_ref().is_none_or(|shards| shards.contains(fingerprint::shard_of(document_hash)))
    }

    /// Whether an entry without a value takes part.
    fn holds_record(&self, dot: Dot) -> bool {
        self.records_above.as_ref().is_some_and(|floor| !floor.covers(dot))
    }

    /// Whether everything in the document was there when the comparison began. What was written since knows better.
    fn holds_all_of(&self, document: &Document) -> bool {
        document.cells().flat_map(|cell| cell.entries()).all(|entry| self.meet.covers(entry.dot))
    }
}

impl State {
    /// Documents in the scope's shards, shared with this state until either changes.
    pub(super) fn snapshot_in(&self, scope: &Scope) -> Vec<(Arc<str>, Document)> {
        self.snapshot().into_iter().filter(|(name, _)| scope.holds(fingerprint::document_hash(name))).collect()
    }

    /// Hands `each` every entry in the scope with its salted hash.
    pub(super) fn each_item<'a>(
        &self,
        documents: impl IntoIterator<Item = (&'a Arc<str>, &'a Document)>,
        scope: &Scope,
        mut each: impl FnMut(&'a Arc<str>, CellRef<'a>, EntryRef<'a>, u64),
    ) {
        for (name, document) in documents {
            let document_hash = fingerprint::document_hash(name);
            if !scope.holds(document_hash) {
                continue;
            }
            for cell in document.cells() {
                let cell_hash = fingerprint::cell_hash(document_hash, cell.key);
                for entry in cell.entries().filter(|entry| scope.meet.covers(entry.dot)) {
                    if entry.value.is_none() && !scope.holds_record(entry.dot) {
                        continue;
                    }
                    let hash = self.entry_hash(&entry, cell_hash, entry.value.unwrap_or_default());
                    let salt = scope.salt.wrapping_add(u64::from(entry.value.is_none()));
                    each(name, cell, entry, xxh3_64_with_seed(&hash.to_le_bytes(), salt));
                }
            }
        }
    }

    /// The hashes of all entries in the scope.
    pub(super) fn items(&self, scope: &Scope) -> Vec<u64> {
        let mut items = Vec::new();
        self.each_item(self.names_from(std::ops::Bound::Unbounded), scope, |_, _, _, item| items.push(item));
        items
    }

    /// Drops entries by their hashes: the sender covers them and lacks them, so they are dead. Those that were
    /// superseded since the comparison are gone already.
    pub(super) fn strike(&mut self, scope: &Scope, dead: &BTreeSet<u64>) -> usize {
        let all = |_: &Document| true;
        self.strike_where(scope, dead, all)
    }

    fn strike_where(&mut self, scope: &Scope, dead: &BTreeSet<u64>, of: impl Fn(&Document) -> bool) -> usize {
        let mut doomed: Vec<(Arc<str>, Vec<u8>, Dot)> = Vec::new();
        let documents = self.names_from(std::ops::Bound::Unbounded).filter(|(_, document)| of(document));
        self.each_item(documents, scope, |name, cell, entry, item| {
            if dead.contains(&item) {
                doomed.push((name.clone(), cell.key.to_vec(), entry.dot));
            }
        });
        for (name, key, dot) in &doomed {
            let at = self.find_or_create(name);
            self.remove_entry(at, key, *dot);
            self.release_if_empty(at);
        }
        doomed.len()
    }

    /// Drops entries that came live while the session went on, that the sender covers, and that are not among the cells
    /// it sent: it knows them to be dead, and the record of that may be gone.
    pub(super) fn strike_since(&mut self, asked: &Clock, theirs: &Clock, sent: &BTreeSet<Dot>) -> usize {
        let mut doomed: Vec<(u32, Vec<u8>, Dot)> = Vec::new();
        for at in self.documents_between(asked, theirs) {
            for cell in self.stored(at).document.cells() {
                let since = cell.entries().filter(|entry| !asked.covers(entry.dot) && theirs.covers(entry.dot));
                let dead = since.filter(|entry| !sent.contains(&entry.dot));
                doomed.extend(dead.map(|entry| (at, cell.key.to_vec(), entry.dot)));
            }
        }
        for (at, key, dot) in &doomed {
            self.remove_entry(*at, key, *dot);
            self.release_if_empty(*at);
        }
        doomed.len()
    }

    /// Drops what only this side has, where nothing was written since.
    pub(super) fn mend_away(&mut self, scope: &Scope, ours: &BTreeSet<u64>) -> usize {
        self.strike_where(scope, ours, |document| scope.holds_all_of(document))
    }

    /// Adds the sender's entries of one document that this state lacks.
    pub(super) fn mend_document(&mut self, name: &str, theirs: &[StagedCell<'_>], scope: &Scope) -> Mended {
        let mut mended = Mended::default();
        let written_since = self.document(name).is_some_and(|document| !scope.holds_all_of(document));
        if theirs.is_empty() || written_since {
            return mended;
        }
        let at = self.find_or_create(name);
        for cell in theirs {
            for entry in &cell.entries {
                let Content::Value(value) = entry.content else { continue };
                let theirs = EntryRef { dot: entry.dot, at: entry.at, value: Some(value) };
                let ours = self.entry_at(at, cell.key, entry.dot);
                let wins = match &ours {
                    None => true,
                    Some((at, value)) => (entry.at, theirs.value) > (*at, value.as_deref()),
                };
                if !scope.meet.covers(entry.dot) || !wins {
                    continue;
                }
                if ours.is_some() {
                    // In two steps: the digest follows dots that come and go.
                    self.remove_entry(at, cell.key, entry.dot);
                    mended.dropped += 1;
                }
                self.change_cell(at, cell.key, |old, packed| {
                    let mut entries: Vec<EntryRef<'_>> = CellRef { key: cell.key, packed: old }.entries().collect();
                    entries.push(theirs);
                    entries.sort_by_key(|entry| entry.dot);
                    entries.iter().for_each(|entry| entry.encode_into(packed));
                });
                mended.added += 1;
            }
        }
        self.release_if_empty(at);
        mended
    }

    fn entry_at(&self, at: u32, key: &[u8], dot: Dot) -> Option<(crate::clock::HybridTime, Option<Vec<u8>>)> {
        let packed = self.stored(at).document.entries_of(key);
        let entry = CellRef { key, packed }.entries().find(|entry| entry.dot == dot)?;
        Some((entry.at, entry.value.map(<[u8]>::to_vec)))
    }

    fn remove_entry(&mut self, at: u32, key: &[u8], dot: Dot) {
        self.change_cell(at, key, |old, packed| {
            let entries = CellRef { key, packed: old }.entries().filter(|entry| entry.dot != dot);
            entries.for_each(|entry| entry.encode_into(packed));
        });
    }
}
