//! The conflicts of the state as it is now, kept in step with it: each document that changes is judged anew, and the rules
//! over whole collections when one of theirs changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::hooks::Mutant;
use super::io::{Event, Now};
use super::replica::Replica;
use super::state::Rival;
use super::{escalation, schemas};
use crate::clock::Dot;
use crate::conflict::advice::suggest;
use crate::conflict::advisor::Standing;
use crate::conflict::detect::across::{self, Collection};
use crate::conflict::detect::within;
use crate::conflict::judge::{InForce, Settlement};
use crate::conflict::{Conflict, Policies, Policy};
use crate::crdt::{FieldKind, Value, map};
use crate::document::cell::{CellKey, EntryRef};
use crate::document::view::print_dot;
use crate::document::{Document, DocumentView, Sibling};
use crate::history::ledger::{Entry, Ledger, Rows};

/// How often the rules over whole collections are looked at, ms: each look reads every document they are about.
const ACROSS_MS: u64 = 1_000;

/// Collections that every node reads by rules of its own.
pub const SYSTEM: [&str; 4] = [schemas::COLLECTION, schemas::POLICIES, schemas::ADVISOR, super::member::COLLECTION];

#[derive(Debug, Default)]
pub struct Conflicts {
    /// By document, of those within one.
    within: BTreeMap<Arc<str>, Vec<Conflict>>,
    /// By collection, of those over many.
    across: BTreeMap<Box<str>, Vec<Conflict>>,
    /// Collections with rules over many documents that changed, or whose other collections did.
    due: BTreeSet<Box<str>>,
    looked_ms: u64,
    pub(super) escalated_ms: u64,
    pub(super) ledger: Ledger,
    pub(super) rows: Rows,
}

impl Conflicts {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger, ..Self::default() }
    }

    /// All conflicts, in the order of documents; those over many documents last.
    pub fn iter(&self) -> impl Iterator<Item = &Conflict> {
        self.within.values().flatten().chain(self.across.values().flatten())
    }

    /// Those within one document.
    pub fn within(&self) -> impl Iterator<Item = &Conflict> {
        self.within.values().flatten()
    }

    pub fn get(&self, id: &str) -> Option<&Conflict> {
        self.iter().find(|conflict| conflict.id == id)
    }

    pub fn of(&self, document: &str) -> &[Conflict] {
        self.within.get(document).map_or(&[], Vec::as_slice)
    }

    /// Values that others overruled.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl Replica {
    pub fn conflicts(&self) -> &Conflicts {
        &self.conflicts
    }

    /// A document as it reads: merged, then settled. `None` when it is hidden.
    pub fn show(&self, name: &str, document: &Document) -> Option<DocumentView> {
        self.settled(name, document).map(|(view, _)| view)
    }

    /// A document as its fields merged, before any resolver that needs more than its siblings.
    pub fn merged(&self, name: &str, document: &Document) -> Option<DocumentView> {
        DocumentView::of(document, self.schemas.of(collection_of(name)).0, &self.state.roster)
    }

    fn settled(&self, name: &str, document: &Document) -> Option<(DocumentView, Vec<Settlement>)> {
        let collection = collection_of(name);
        let mut view = self.merged(name, document)?;
        if view.siblings.is_empty() {
            return Some((view, Vec::new()));
        }
        if self.config.hooks.planted(Mutant::ResolvedByArrival) {
            let slot =
                |sibling: &Sibling| self.state.roster.iter().position(|(_, id)| id.to_string() == sibling.replica);
            view.siblings.values_mut().for_each(|siblings| siblings.sort_by_key(slot));
        }
        // What schemas and policies themselves say cannot hang on a policy.
        let none = Policies::default();
        let policies = if SYSTEM.contains(&collection) { &none } else { &self.schemas.policies };
        let in_force = InForce { policies, customs: &self.config.customs, advisor: self.standing() };
        let settlements = self.schemas.judge(collection).settle(name, &mut view, in_force);
        Some((view, settlements))
    }

    /// Judges the documents that changed, after schemas and policies among them were read anew. Where nothing is contested
    /// and no schema has rules, this is free.
    pub(super) fn judge_changed(&mut self, changed: &[Arc<str>], now: Now) {
        let mut due: BTreeSet<Arc<str>> = self.state.take_disputed().into_iter().collect();
        for name in changed.iter().filter(|name| collection_of(name) == escalation::COLLECTION) {
            due.extend(self.is_about(name).map(Arc::from));
        }
        if self.schemas.have_rules() {
            for name in changed {
                let collection = collection_of(name);
                if self.schemas.judge(collection).has_rules_within() {
                    due.insert(name.clone());
                }
                self.note_due(collection);
            }
        }
        due.iter().for_each(|name| self.judge_document(name, now));
        self.enter_rivals(now);
    }

    /// A schema or a policy changed: everything it is about is judged anew.
    pub(super) fn judge_all(&mut self, collection: Option<&str>, now: Now) {
        let is_about = |name: &&Arc<str>| collection.is_none_or(|collection| collection_of(name) == collection);
        let mut due: BTreeSet<Arc<str>> = self.state.disputed().filter(is_about).cloned().collect();
        for (ruled, judge) in self.schemas.judges() {
            if judge.has_rules_within() && collection.is_none_or(|collection| collection == ruled) {
                let prefix = format!("{ruled}/");
                let names = self.state.names_from(std::ops::Bound::Included(prefix.as_str())).map(|(name, _)| name);
                due.extend(names.take_while(|name| name.starts_with(&prefix)).cloned());
            }
        }
        due.iter().for_each(|name| self.judge_document(name, now));
        let collections: Vec<Box<str>> = match collection {
            Some(collection) => vec![collection.into()],
            None => self.schemas.judges().map(|(name, _)| name.into()).collect(),
        };
        collections.iter().for_each(|collection| self.note_due(collection));
        // Rules that went leave no conflicts behind.
        let ruled = |name: &str| across::has_rules(&self.schemas.judge(name));
        let gone: Vec<Box<str>> = self.conflicts.across.keys().filter(|name| !ruled(name)).cloned().collect();
        self.conflicts.due.extend(gone);
    }

    fn judge_document(&mut self, name: &Arc<str>, now: Now) {
        if self.config.hooks.planted(Mutant::JudgedOnce) && self.conflicts.within.contains_key(name) {
            return;
        }
        let found = self.judged(name);
        self.state.set_listed(name, !found.is_empty());
        let before = match found.is_empty() {
            true => self.conflicts.within.remove(name).unwrap_or_default(),
            false => self.conflicts.within.insert(name.clone(), found.clone()).unwrap_or_default(),
        };
        self.record_within(&before, &found, now);
        self.tell_difference(&before, &found);
        self.tell_escalated(&before, &found);
    }

    /// The conflicts within a document as it is now.
    pub fn judged(&self, name: &str) -> Vec<Conflict> {
        let judge = self.schemas.judge(collection_of(name));
        match self.state.document(name).and_then(|document| self.settled(name, document)) {
            Some((view, settlements)) => {
                let mut found = within(name, &view, &settlements, &judge);
                for conflict in found.iter_mut().filter(|conflict| conflict.escalate.is_some()) {
                    if let Some(to) = self.escalation(&conflict.id) {
                        conflict.escalate(to);
                    }
                }
                suggest(self.standing(), &mut found);
                found
            }
            None => Vec::new(),
        }
    }

    fn standing(&self) -> Option<&Standing> {
        self.schemas.advisor().map(|standing| &**standing)
    }

    /// The conflicts that would stand otherwise under one more policy, asked first: as they are, and as they would be.
    pub fn preview(&self, policy: Policy) -> Vec<(Conflict, Conflict)> {
        let policies = self.schemas.policies.with_first(policy);
        let in_force = InForce { policies: &policies, customs: &self.config.customs, advisor: self.standing() };
        let mut changed = Vec::new();
        for (name, now) in self.conflicts.within.iter().filter(|(name, _)| !SYSTEM.contains(&collection_of(name))) {
            let judge = self.schemas.judge(collection_of(name));
            let Some(mut view) = self.state.document(name).and_then(|document| self.merged(name, document)) else {
                continue;
            };
            let settlements = judge.settle(name, &mut view, in_force);
            let mut then = within(name, &view, &settlements, &judge);
            suggest(self.standing(), &mut then);
            let pairs = now.iter().filter_map(|now| Some((now, then.iter().find(|then| then.id == now.id)?)));
            changed.extend(pairs.filter(|(now, then)| now != then).map(|(now, then)| (now.clone(), then.clone())));
        }
        changed
    }

    /// A planted bug: an op that waits is taken for one that is there.
    pub(super) fn judge_beyond(&mut self, name: &str) {
        let found = self.judged(name);
        if let Some(mut conflict) = found.into_iter().next() {
            conflict.id = format!("{:032}", 0);
            self.conflicts.within.entry(name.into()).or_default().push(conflict);
        }
    }

    fn tell_difference(&mut self, before: &[Conflict], found: &[Conflict]) {
        let is_in = |conflict: &Conflict, list: &[Conflict]| list.iter().any(|other| other.id == conflict.id);
        for conflict in found.iter().filter(|conflict| !is_in(conflict, before)) {
            self.tally.conflicts_detected += 1;
            self.emit(Event::ConflictDetected(Box::new(conflict.clone())));
        }
        for conflict in before.iter().filter(|conflict| !is_in(conflict, found)) {
            self.tally.conflicts_ended += 1;
            self.emit(Event::ConflictEnded(Box::new(conflict.clone())));
        }
    }

    /// Rules over many documents are looked at in their turn.
    fn note_due(&mut self, changed: &str) {
        if across::has_rules(&self.schemas.judge(changed)) {
            self.conflicts.due.insert(changed.into());
        }
        let lookers = self.schemas.who_looks_at(changed);
        self.conflicts.due.extend(lookers);
    }

    pub(super) fn judge_across_if_due(&mut self, now: Now) {
        if self.conflicts.due.is_empty() || now.mono_ms() < self.conflicts.looked_ms + ACROSS_MS {
            return;
        }
        self.conflicts.looked_ms = now.mono_ms();
        for collection in std::mem::take(&mut self.conflicts.due) {
            let judge = self.schemas.judge(&collection);
            let others: BTreeMap<&str, Collection> =
                across::looks_at(&judge).map(|other| (other, self.collection(other))).collect();
            let found = across::across(&judge, &self.collection(&collection), |other| others.get(other));
            let before = match found.is_empty() {
                true => self.conflicts.across.remove(&collection).unwrap_or_default(),
                false => self.conflicts.across.insert(collection.clone(), found.clone()).unwrap_or_default(),
            };
            self.record_across(&collection, &before, &found, now);
            self.tell_difference(&before, &found);
        }
    }

    fn collection(&self, collection: &str) -> Collection {
        let prefix = format!("{collection}/");
        let documents = self.state.names_from(std::ops::Bound::Included(prefix.as_str()));
        let documents = documents.take_while(|(name, _)| name.starts_with(&prefix));
        documents.filter_map(|(name, document)| Some((name.to_string(), self.show(name, document)?.fields))).collect()
    }

    /// Enters into the ledger the values that came to stand beside others.
    fn enter_rivals(&mut self, now: Now) {
        let rivals = self.state.take_siblings();
        if rivals.is_empty() {
            return;
        }
        for rival in rivals {
            if self.config.hooks.planted(Mutant::LedgerForgets) && rival.dot.seq().is_multiple_of(2) {
                continue;
            }
            if let Some(kind) = CellKey::decode(&rival.key).and_then(|key| FieldKind::from_tag(key.tag)) {
                self.audit.counts.merged(kind);
            }
            if let Some(entry) = self.entry_of(&rival, now) {
                self.conflicts.ledger.enter(entry, &mut self.conflicts.rows);
            }
        }
        self.persistence.touch();
    }

    fn entry_of(&self, rival: &Rival, now: Now) -> Option<Entry> {
        let roster = &self.state.roster;
        let key = CellKey::decode(&rival.key)?;
        let (kind, field) = match FieldKind::from_tag(key.tag)? {
            FieldKind::Map => {
                let (kind, sub) = map::decode_key(key.sub)?;
                (kind, format!("{}.{sub}", key.field))
            }
            kind => (kind, key.field.to_owned()),
        };
        let dot = print_dot(rival.dot, roster);
        if self.conflicts.ledger.knows(&dot, &field) {
            return None;
        }
        let conflict =
            self.conflicts.of(&rival.document).iter().find(|conflict| conflict.field.as_ref() == Some(&field));
        let (winner, rule, policy) = match conflict.filter(|_| kind == FieldKind::Contested) {
            Some(conflict) => {
                let shown = conflict.siblings.iter().find(|sibling| Some(&sibling.value) == conflict.value.as_ref());
                let rule = conflict.resolver.unwrap_or("contested").to_owned();
                (shown.map(|sibling| sibling.dot.clone()), rule, conflict.policy.clone())
            }
            None => (self.winner(rival, kind).map(|dot| print_dot(dot, roster)), kind.name().to_owned(), None),
        };
        let value = Value::decode(&rival.value).map_or(serde_json::Value::Null, Value::into_json);
        Some(Entry {
            document: rival.document.to_string(),
            field,
            dot,
            at_ms: rival.at.ms(),
            value: value.to_string(),
            seen_ms: now.wall_ms,
            winner,
            rule,
            policy,
        })
    }

    /// The entry that a register of this kind shows now.
    fn winner(&self, rival: &Rival, kind: FieldKind) -> Option<Dot> {
        let cell = self.state.document(&rival.document)?.cell(&rival.key)?;
        let rank = |entry: &EntryRef<'_>| (entry.at, *self.state.roster.id(entry.dot.slot()), entry.dot.seq());
        let value =
            |entry: &EntryRef<'_>| entry.value.and_then(|bytes| Value::decode(bytes).ok()).unwrap_or(Value::Null);
        let by_value = |a: &EntryRef<'_>, b: &EntryRef<'_>| Value::compare(&value(a), &value(b));
        let entries = cell.valued();
        let shown = match kind {
            FieldKind::Fww => entries.min_by_key(rank),
            FieldKind::Max => entries.max_by(by_value),
            FieldKind::Min => entries.min_by(by_value),
            _ => entries.max_by_key(rank),
        };
        shown.map(|entry| entry.dot)
    }
}

pub(super) fn collection_of(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}
