//! What is kept of conflicts: by id, by document, by collection.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::conflict::Conflict;
use crate::conflict::judge::Settlement;
use crate::history::ledger::{Ledger, Rows};

#[derive(Debug, Default)]
pub struct Conflicts {
    by_id: BTreeMap<Box<str>, Arc<Conflict>>,
    /// What each document with siblings or broken rules was judged to be.
    within: BTreeMap<Arc<str>, Judged>,
    /// By collection, of those over many documents.
    across: BTreeMap<Box<str>, Vec<Arc<Conflict>>>,
    /// Documents to be judged in their turn: so many changed at once, or what judges them did.
    pub(super) waiting: BTreeSet<Arc<str>>,
    /// Collections with rules over many documents that changed, or whose other collections did.
    pub(super) due: BTreeSet<Box<str>>,
    /// Rules over many documents are not looked at before.
    pub(super) look_at_ms: u64,
    pub(in crate::engine) escalated_ms: u64,
    pub(in crate::engine) ledger: Ledger,
    pub(in crate::engine) rows: Rows,
}

/// One document's contested registers and its conflicts.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub settlements: Vec<Settlement>,
    /// What it took to judge it.
    pub steps: u64,
    pub conflicts: Vec<Arc<Conflict>>,
}

impl Judged {
    pub fn is_empty(&self) -> bool {
        self.settlements.is_empty() && self.conflicts.is_empty()
    }
}

/// What became of the list.
#[derive(Debug, Default)]
pub(in crate::engine) struct Difference {
    /// The conflicts that are there now, each with what was listed under its id before.
    pub found: Vec<(Arc<Conflict>, Option<Arc<Conflict>>)>,
    pub ended: Vec<Arc<Conflict>>,
}

impl Conflicts {
    pub(in crate::engine) fn new(ledger: Ledger) -> Self {
        Self { ledger, ..Self::default() }
    }

    /// All conflicts, in the order of documents; those over many documents last.
    pub fn iter(&self) -> impl Iterator<Item = &Conflict> {
        let across = self.across.values().flatten().map(|conflict| &**conflict);
        self.within().chain(across)
    }

    /// Those within one document.
    pub fn within(&self) -> impl Iterator<Item = &Conflict> {
        self.within.values().flat_map(|judged| &judged.conflicts).map(|conflict| &**conflict)
    }

    /// Those with ids above `after`, in the order of ids.
    pub fn above<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a Conflict> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range::<str, _>((from, Bound::Unbounded)).map(|(_, conflict)| &**conflict)
    }

    pub fn get(&self, id: &str) -> Option<&Conflict> {
        self.by_id.get(id).map(|conflict| &**conflict)
    }

    /// Those within a document.
    pub fn of(&self, document: &str) -> &[Arc<Conflict>] {
        self.within.get(document).map_or(&[], |judged| &judged.conflicts)
    }

    /// Whether documents wait to be judged: then the list is of a moment ago.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Values that others overruled.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// How the contested registers of a document were settled.
    pub(super) fn settlements(&self, document: &str) -> Option<&[Settlement]> {
        self.within.get(document).map(|judged| judged.settlements.as_slice())
    }

    /// Documents that were judged to have siblings or conflicts.
    pub(super) fn documents<'a>(&'a self, collection: Option<&str>) -> impl Iterator<Item = &'a Arc<str>> {
        let prefix = collection.map(|collection| format!("{collection}/")).unwrap_or_default();
        let all = self.within.range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        all.map(|(name, _)| name).take_while(move |name| name.starts_with(&prefix))
    }

    pub(super) fn put_within(&mut self, document: &Arc<str>, judged: Judged) -> Difference {
        let conflicts = judged.conflicts.clone();
        let before = match judged.is_empty() {
            true => self.within.remove(document),
            false => self.within.insert(document.clone(), judged),
        };
        self.reindex(before.unwrap_or_default().conflicts, conflicts)
    }

    pub(super) fn put_across(&mut self, collection: Box<str>, found: Vec<Arc<Conflict>>) -> Difference {
        let before = match found.is_empty() {
            true => self.across.remove(&collection),
            false => self.across.insert(collection, found.clone()),
        };
        self.reindex(before.unwrap_or_default(), found)
    }

    /// Collections in which conflicts over many documents are listed.
    pub(super) fn across(&self) -> impl Iterator<Item = &Box<str>> {
        self.across.keys()
    }

    fn reindex(&mut self, before: Vec<Arc<Conflict>>, found: Vec<Arc<Conflict>>) -> Difference {
        let enter = |conflict: Arc<Conflict>| {
            let earlier = self.by_id.insert(conflict.id.as_str().into(), conflict.clone());
            (conflict, earlier)
        };
        let found = found.into_iter().map(enter).collect();
        // What was found again stands under its id as another one by now.
        let is_over = |conflict: &Arc<Conflict>| {
            let kept = self.by_id.get(conflict.id.as_str());
            kept.is_some_and(|kept| Arc::ptr_eq(kept, conflict))
        };
        let ended: Vec<Arc<Conflict>> = before.into_iter().filter(is_over).collect();
        ended.iter().for_each(|conflict| drop(self.by_id.remove(conflict.id.as_str())));
        Difference { found, ended }
    }
}
