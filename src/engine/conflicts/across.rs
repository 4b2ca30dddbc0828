//! Rules over whole collections, looked at in their turn.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::conflict::detect::across::{self, Collection};
use crate::engine::io::Now;
use crate::engine::replica::Replica;

/// How often the rules over whole collections are looked at, ms: each look reads every document they are about.
const ACROSS_MS: u64 = 1_000;
/// A look that read more documents than this in each millisecond until the next waits longer: at about 5 µs a document,
/// looks take a twentieth of a core at most.
const READ_A_MS: u64 = 10;

impl Replica {
    /// Notes that documents of a collection changed.
    pub(super) fn note_due(&mut self, changed: &str) {
        if across::has_rules(&self.schemas.judge(changed)) {
            self.conflicts.due.insert(changed.into());
        }
        let lookers = self.schemas.who_looks_at(changed);
        self.conflicts.due.extend(lookers);
    }

    pub(in crate::engine) fn judge_across_if_due(&mut self, now: Now) {
        if self.conflicts.due.is_empty() || now.mono_ms() < self.conflicts.look_at_ms {
            return;
        }
        let mut read = 0;
        for collection in std::mem::take(&mut self.conflicts.due) {
            let judge = self.schemas.judge(&collection);
            let own = self.collection(&collection);
            let others: BTreeMap<&str, Collection> =
                across::looks_at(&judge).map(|other| (other, self.collection(other))).collect();
            // Every rule goes through them once more.
            read += (own.len() + others.values().map(Collection::len).sum::<usize>()) * judge.rules().len().max(1);
            let found = across::across(&judge, &own, |other| others.get(other));
            let found = found.into_iter().map(Arc::new).collect();
            let difference = self.conflicts.put_across(collection.clone(), found);
            self.record_across(&collection, &difference, now);
            self.tell_difference(difference);
        }
        self.conflicts.look_at_ms = now.mono_ms() + ACROSS_MS.max(read as u64 / READ_A_MS);
    }

    fn collection(&self, collection: &str) -> Collection {
        let prefix = format!("{collection}/");
        let documents = self.state.names_from(std::ops::Bound::Included(prefix.as_str()));
        let documents = documents.take_while(|(name, _)| name.starts_with(&prefix));
        let shown =
            documents.filter_map(|(name, document)| Some((name.to_string(), self.show(name, document)?.fields)));
        // One more than is looked at, so that the rules can say so.
        shown.take(across::DOCUMENTS_MAX + 1).collect()
    }
}
