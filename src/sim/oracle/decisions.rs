//! What a quorum decides about a document is one history (invariant 9): each version is one content, whoever tells it; a
//! write is done once, if what it tests was so just before it, and never under a token that another's grant had overtaken
//! (invariant 8); and what nodes read is what was decided.

use std::collections::{BTreeMap, BTreeSet};

use super::{Verdict, wrong};
use crate::document::decided::published;
use crate::engine::Replica;
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{Fields, FieldsChange, FieldsOutcome, FieldsVerdict};

/// What was asked, and how far the document had come by then, as far as anybody was told.
#[derive(Clone, Debug)]
pub struct Asked {
    pub document: String,
    pub change: FieldsChange,
    version: u64,
    token: u64,
}

#[derive(Debug, Default)]
pub struct History {
    contents: BTreeMap<String, BTreeMap<u64, Fields>>,
    /// The highest version and the highest token of a document that anybody was told.
    places: BTreeMap<String, (u64, u64)>,
    /// What each write made.
    made: BTreeMap<RequestId, u64>,
    /// At the end a quorum was asked about every document: all that it decided stands in them.
    pub is_complete: bool,
}

impl History {
    pub fn asks(&self, document: &str, change: FieldsChange) -> Asked {
        let (version, token) = self.places.get(document).copied().unwrap_or_default();
        Asked { document: document.to_owned(), change, version, token }
    }

    pub fn knows(&self, document: &str) -> bool {
        self.places.get(document).is_some_and(|(version, _)| *version > 0)
    }

    /// What was decided about a document, decision by decision, as far as anybody was told.
    pub fn of(&self, document: &str) -> impl Iterator<Item = (u64, &Fields)> {
        self.contents.get(document).into_iter().flatten().map(|(version, fields)| (*version, fields))
    }

    pub fn told(&mut self, asked: &Asked, verdict: &FieldsVerdict) -> Verdict {
        let (at, fields, lock) = (&asked.document, &verdict.guard.fields, &verdict.guard.lock);
        if fields.version < asked.version || lock.token < asked.token {
            let text = format!(
                "{at} was told to be at version {} and token {} after it had been told to be at {} and {}",
                fields.version, lock.token, asked.version, asked.token
            );
            return wrong("ballots", text);
        }
        let place = self.places.entry(at.clone()).or_default();
        *place = (place.0.max(fields.version), place.1.max(lock.token));
        let contents = self.contents.entry(at.clone()).or_default();
        let known = contents.entry(fields.version).or_insert_with(|| fields.clone());
        if known != fields {
            return wrong(
                "ballots",
                format!("{at} has two contents at version {}: {known:?} and {fields:?}", fields.version),
            );
        }
        for (request, version) in fields.recent() {
            let first = *self.made.entry(request).or_insert(version);
            if first != version {
                return wrong("ballots", format!("one write of {at} was done at version {first} and at {version}"));
            }
        }
        self.check_outcome(asked, verdict)
    }

    fn check_outcome(&self, asked: &Asked, verdict: &FieldsVerdict) -> Verdict {
        let (at, change) = (&asked.document, &asked.change);
        let so = |fields: &Fields| change.tests.iter().all(|(field, value)| fields.get(field) == value.as_deref());
        match &verdict.outcome {
            FieldsOutcome::Done => {
                if change.token.is_some_and(|token| token < asked.token) {
                    let text =
                        format!("{at} was written under a token after {} had been granted: {change:?}", asked.token);
                    return wrong("ballots", text);
                }
                let made = self.made.get(&change.request).copied();
                let before = made.and_then(|made| self.contents.get(at)?.get(&(made - 1)));
                match before.is_none_or(so) {
                    true => Ok(()),
                    false => wrong(
                        "ballots",
                        format!("a write of {at} was done though what it tests was not so: {change:?}"),
                    ),
                }
            }
            FieldsOutcome::Differs(_) if so(&verdict.guard.fields) => {
                wrong("ballots", format!("a write of {at} was refused though all that it tests is so: {change:?}"))
            }
            _ => Ok(()),
        }
    }

    /// What a node reads was decided, and at the end it reads the last that was.
    pub fn check_published(&self, replica: &Replica) -> Verdict {
        for (at, contents) in &self.contents {
            let Some(shown) = replica.state().document(at).filter(|shown| crate::document::exists(shown)) else {
                continue;
            };
            let names: BTreeSet<&str> =
                contents.values().flat_map(|fields| fields.iter().map(|(field, _)| field)).collect();
            for field in names {
                let read = published(shown, &replica.state().roster, field);
                let (version, value) = read.map_or((0, None), |decided| (decided.version, decided.value));
                let content = contents.get(&version);
                if content.is_some_and(|content| content.get(field) != value) {
                    let text = format!("{at} reads another {field} of version {version} than was decided");
                    return wrong("ballots", text);
                }
                let last = contents.values().next_back();
                let due = last.and_then(|fields| fields.iter().find(|(name, _)| *name == field));
                let due = due.map_or(0, |(_, decided)| decided.version);
                if self.is_complete && version < due {
                    let text = format!("{at} reads {field} as of version {version}, and {due} was decided and told");
                    return wrong("ballots", text);
                }
            }
        }
        Ok(())
    }
}
