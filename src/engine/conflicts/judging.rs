//! Documents are judged when they change, and when schemas or policies do.
//!
//! Most changes are of few documents and are judged in the same step. A catch-up, or a new policy, may concern a hundred
//! thousand: those are judged a portion at a time, between other inputs. Reads are right meanwhile (they settle what is not
//! judged yet by themselves); the list follows.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crate::conflict::advice::suggest;
use crate::conflict::detect::across::has_rules;
use crate::conflict::detect::within;
use crate::conflict::variables::{STEPS_MAX, Spent};
use crate::conflict::{Conflict, Policy};
use crate::engine::hooks::Mutant;
use crate::engine::io::{Event, Now};
use crate::engine::replica::Replica;
use crate::engine::schemas::Schemas;
use crate::engine::{escalation, state::State};

use super::list::{Difference, Judged};
use super::{SYSTEM, collection_of};

impl Replica {
    /// Judges the documents that changed, after schemas and policies among them were read anew. Where nothing is contested
    /// and no schema has rules, this is free.
    pub(in crate::engine) fn judge_changed(&mut self, changed: &[Arc<str>], now: Now) {
        let mut due: BTreeSet<Arc<str>> = self.state.take_disputed().into_iter().collect();
        for id in changed.iter().filter_map(|name| name.strip_prefix(escalation::COLLECTION)?.strip_prefix('/')) {
            // What is done about a conflict is part of how it stands.
            due.extend(self.conflicts.get(id).map(|conflict| Arc::from(conflict.document.as_str())));
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
        let mut due = due.into_iter();
        let mut portion = Portion::new(self.config.limits.judged_at_once);
        while !portion.is_full()
            && let Some(name) = due.next()
        {
            portion.add(self.judge_document(&name, now));
        }
        self.conflicts.waiting.extend(due);
        self.enter_rivals(now);
    }

    /// A schema or a policy changed: everything it is about is judged anew, in portions.
    pub(in crate::engine) fn judge_all(&mut self, collection: Option<&str>) {
        // Also those that were judged to have none: under a register of the last writer siblings are no conflict.
        let contested = self.state.contested(collection).cloned();
        let judged: BTreeSet<Arc<str>> = self.conflicts.documents(collection).cloned().chain(contested).collect();
        judged.iter().for_each(|name| self.state.set_stale(name));
        self.conflicts.waiting.extend(judged);
        let ruled = ruled_documents(&self.schemas, &self.state, collection);
        self.conflicts.waiting.extend(ruled);
        self.note_rules(collection);
    }

    /// After a start: all that is in the store.
    pub(in crate::engine) fn judge_everything(&mut self, now: Now) {
        let contested: Vec<Arc<str>> = self.state.contested(None).cloned().collect();
        self.conflicts.waiting.extend(contested);
        let ruled = ruled_documents(&self.schemas, &self.state, None);
        self.conflicts.waiting.extend(ruled);
        self.note_rules(None);
        while self.conflicts.is_behind() {
            self.judge_waiting(now);
        }
    }

    /// Judges some of the documents that wait for it.
    pub(in crate::engine) fn judge_waiting(&mut self, now: Now) {
        let mut read_anew = Vec::new();
        let mut portion = Portion::new(self.config.limits.judged_at_once);
        while !portion.is_full()
            && let Some(name) = self.conflicts.waiting.pop_first()
        {
            let before = self.shown_for(&name);
            portion.add(self.judge_document(&name, now));
            if before != self.shown_for(&name) {
                read_anew.push(name);
            }
        }
        // Nobody wrote them, and yet they read otherwise: by another policy, or another schema.
        if !read_anew.is_empty() {
            self.emit(Event::Changed(read_anew));
        }
    }

    /// The values that contested registers of a document were settled to.
    fn shown_for(&self, name: &str) -> Vec<(String, Option<serde_json::Value>)> {
        let settlements = self.conflicts.settlements(name).unwrap_or_default();
        settlements.iter().map(|settled| (settled.field.clone(), settled.verdict.value().cloned())).collect()
    }

    fn note_rules(&mut self, collection: Option<&str>) {
        let collections: Vec<Box<str>> = match collection {
            Some(collection) => vec![collection.into()],
            None => self.schemas.judges().map(|(name, _)| name.into()).collect(),
        };
        collections.iter().for_each(|collection| self.note_due(collection));
        // Rules that went leave no conflicts behind.
        let is_ruled = |name: &str| has_rules(&self.schemas.judge(name));
        let gone: Vec<Box<str>> = self.conflicts.across().filter(|name| !is_ruled(name)).cloned().collect();
        self.conflicts.due.extend(gone);
    }

    /// Gives the steps that it took.
    fn judge_document(&mut self, name: &Arc<str>, now: Now) -> u64 {
        if self.config.hooks.planted(Mutant::JudgedOnce) && !self.conflicts.of(name).is_empty() {
            return 0;
        }
        self.conflicts.waiting.remove(name);
        let judged = self.judge_anew(name);
        let steps = judged.steps;
        self.state.set_judged(name, !judged.is_empty());
        let difference = self.conflicts.put_within(name, judged);
        self.record_within(&difference, now);
        self.tell_difference(difference);
        steps
    }

    /// The conflicts within a document as it is now.
    pub fn judged(&self, name: &str) -> Vec<Arc<Conflict>> {
        self.judge_anew(name).conflicts
    }

    fn judge_anew(&self, name: &str) -> Judged {
        let document = self.state.document(name);
        let Some(mut view) = document.and_then(|document| self.merged(name, document)) else {
            return Judged::default();
        };
        let spent = Spent::default();
        let settlements = self.settle_view(name, &mut view, &spent);
        let mut found = within(name, &view, &settlements, &self.schemas.judge(collection_of(name)), &spent);
        for conflict in &mut found {
            // Anybody may write a note, so it does what the policy says and nothing else.
            let due = conflict.escalate.map(|escalate| escalate.to);
            if let Some(to) = due.filter(|to| self.escalation(&conflict.id) == Some(*to)) {
                conflict.escalate(to);
            }
        }
        suggest(self.standing(), &mut found);
        Judged { settlements, steps: spent.steps(), conflicts: found.into_iter().map(Arc::new).collect() }
    }

    /// The conflicts that would stand otherwise under one more policy, asked first: as they are, and as they would be.
    pub fn preview(&self, policy: Policy) -> Vec<(Conflict, Conflict)> {
        let policies = self.schemas.policies.with_first(policy);
        let mut changed = Vec::new();
        for name in self.conflicts.documents(None).filter(|name| !SYSTEM.contains(&collection_of(name))) {
            let judge = self.schemas.judge(collection_of(name));
            let Some(mut view) = self.state.document(name).and_then(|document| self.merged(name, document)) else {
                continue;
            };
            let spent = Spent::default();
            let settlements = judge.settle(name, &mut view, self.in_force(&policies, &spent));
            let mut then = within(name, &view, &settlements, &judge, &spent);
            suggest(self.standing(), &mut then);
            let now = self.conflicts.of(name).iter();
            let pairs = now.filter_map(|now| Some((&**now, then.iter().find(|then| then.id == now.id)?)));
            changed.extend(pairs.filter(|(now, then)| now != then).map(|(now, then)| (now.clone(), then.clone())));
        }
        changed
    }

    /// A planted bug: an op that waits is taken for one that is there.
    pub(in crate::engine) fn judge_beyond(&mut self, name: &str) {
        let Some(conflict) = self.judged(name).into_iter().next() else { return };
        let conflicts = vec![Arc::new(Conflict { id: format!("{:032}", 0), ..(*conflict).clone() })];
        self.conflicts.put_within(&name.into(), Judged { conflicts, ..Judged::default() });
    }

    pub(super) fn tell_difference(&mut self, difference: Difference) {
        let Difference { found, ended } = difference;
        for (conflict, earlier) in found {
            match &earlier {
                None => {
                    self.tally.conflicts_detected += 1;
                    self.emit(Event::ConflictDetected(conflict.clone()));
                }
                Some(earlier) if earlier.stands_otherwise(&conflict) => {
                    self.emit(Event::ConflictTurned(conflict.clone()));
                }
                Some(_) => {}
            }
            if conflict.escalated.is_some() && earlier.is_none_or(|earlier| earlier.escalated != conflict.escalated) {
                self.emit(Event::ConflictEscalated(conflict));
            }
        }
        for conflict in ended {
            self.tally.conflicts_ended += 1;
            self.emit(Event::ConflictEnded(conflict));
        }
    }
}

/// What is judged in one step, by number and by what it takes.
struct Portion {
    documents: usize,
    steps: u64,
}

impl Portion {
    fn new(documents: usize) -> Self {
        Self { documents, steps: STEPS_MAX }
    }

    fn is_full(&self) -> bool {
        self.documents == 0 || self.steps == 0
    }

    fn add(&mut self, steps: u64) {
        self.documents -= 1;
        self.steps = self.steps.saturating_sub(steps);
    }
}

/// The documents of the collections whose schemas have rules over one document.
fn ruled_documents(schemas: &Schemas, state: &State, collection: Option<&str>) -> Vec<Arc<str>> {
    let concerned = |name: &str| collection.is_none_or(|collection| collection == name);
    let ruled = schemas.judges().filter(|(name, judge)| judge.has_rules_within() && concerned(name));
    let mut documents = Vec::new();
    for (collection, _) in ruled {
        let prefix = format!("{collection}/");
        let names = state.names_from(Bound::Included(prefix.as_str())).map(|(name, _)| name);
        documents.extend(names.take_while(|name| name.starts_with(&prefix)).cloned());
    }
    documents
}
