//! What there is: the conflicts of now, and the ledger of values that stood beside others.

use std::time::Duration;

use serde_json::Value as Json;

use super::super::handle::Node;
use super::super::read::register_of;
use super::note::ended;
use super::{COLLECTION, ResolveError};
use crate::conflict::{Conflict, Status};
use crate::document::Address;
use crate::document::rule::Severity;
use crate::history::ledger::{Entry, Outcome};

/// Which conflicts are asked for. Nothing set: all.
#[derive(Debug, Clone, Default)]
pub struct ConflictFilter {
    pub status: Option<Status>,
    pub severity: Option<Severity>,
    pub collection: Option<String>,
    /// Only those whose newest sibling is at least so old, by this host's clock.
    pub older_than_ms: Option<u64>,
    /// Only ids after this one.
    pub after: Option<String>,
}

impl ConflictFilter {
    fn takes(&self, conflict: &Conflict, now_ms: u64) -> bool {
        let age_ms = || conflict.siblings.first().map_or(0, |newest| now_ms.saturating_sub(newest.at));
        self.status.is_none_or(|status| conflict.status == status)
            && self.severity.is_none_or(|severity| conflict.severity == severity)
            && self
                .collection
                .as_deref()
                .is_none_or(|collection| conflict.document.split('/').next() == Some(collection))
            && self.older_than_ms.is_none_or(|ms| age_ms() >= ms)
    }
}

/// A value that stood beside others, and what became of it.
#[derive(Debug, Clone)]
pub struct Rival {
    pub number: u64,
    pub entry: Entry,
    pub outcome: Outcome,
    /// The outcome in words.
    pub told: String,
    /// What its register reads now, whatever became of it since; `None`: it is gone.
    pub now: Option<Json>,
}

impl Node {
    /// Waits until the list of conflicts has followed what is read, at most for `wait`, and tells whether it has. A policy for
    /// many documents is in force at once, and they are judged by it a portion at a time.
    pub async fn judged(&self, wait: Duration) -> bool {
        let mut judging = self.inner.judging.subscribe();
        tokio::time::timeout(wait, judging.wait_for(|judging| !judging)).await.is_ok()
    }

    /// Conflicts in the order of their ids, at most `limit`, and the id to go on after.
    pub fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> (Vec<Conflict>, Option<String>) {
        let now_ms = self.now().wall_ms;
        let replica = self.inner.replica.read();
        let listed = replica.conflicts().above(filter.after.as_deref());
        let mut asked = listed.filter(|conflict| filter.takes(conflict, now_ms));
        let found: Vec<Conflict> = asked.by_ref().take(limit).cloned().collect();
        let more = asked.next().is_some();
        let next = found.last().filter(|_| more).map(|last| last.id.clone());
        (found, next)
    }

    pub fn conflict(&self, id: &str) -> Option<Conflict> {
        self.inner.replica.read().conflicts().get(id).cloned()
    }

    /// Values that stood beside others, as this node saw it, the newest first.
    pub fn ledger(&self, document: Option<&str>, before: Option<u64>, limit: usize) -> Vec<Rival> {
        let replica = self.inner.replica.read();
        let ledger = replica.conflicts().ledger();
        let asked = ledger.iter().filter(|(number, entry)| {
            before.is_none_or(|before| *number < before) && document.is_none_or(|document| entry.document == document)
        });
        let waits = |entry: &Entry| {
            let mut within = replica.conflicts().of(&entry.document).iter().filter(|conflict| conflict.status.waits());
            within.any(|conflict| conflict.siblings.iter().any(|sibling| sibling.dot == entry.dot))
        };
        let rival = |(number, entry): (u64, &Entry)| {
            let (outcome, told) = match waits(entry) {
                true => (Outcome::Waits, "stands beside others, and waits for somebody".to_owned()),
                false => ledger.outcome(entry),
            };
            let now = replica.view(&entry.document).and_then(|view| register_of(&view.fields, &entry.field).cloned());
            Rival { number, entry: entry.clone(), outcome, told, now }
        };
        asked.take(limit).map(rival).collect()
    }

    /// Why no conflict with this id is listed: it is over, where a note says what became of it, or it never was.
    pub fn missing_conflict(&self, id: &str) -> ResolveError {
        let note = Address::new(COLLECTION, id).ok().and_then(|address| self.read(&address).document);
        match note.and_then(|shown| ended(&shown.view.fields)) {
            Some(told) => ResolveError::Over { id: id.to_owned(), told },
            None => ResolveError::NotFound(id.to_owned()),
        }
    }
}
