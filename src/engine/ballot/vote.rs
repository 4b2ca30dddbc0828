//! Conflicts that voters settle.
//!
//! Of the nodes that see each other one asks every voter what it would have, by its own policy; what most of a quorum
//! nominate is proposed on the register of the conflict, and the first that is accepted there is the outcome, whoever else
//! proposed what. Then it is written over the siblings, as a person would.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::ask::Told;
use super::booth::{AskId, Outcome};
use super::fields::{FieldsChange, FieldsOutcome};
use super::lock::RequestId;
use super::message::BallotMessage;
use super::voters::Voter;
use crate::conflict::Conflict;
use crate::conflict::detect::Status;
use crate::conflict::judge::place;
use crate::conflict::variables::Spent;
use crate::crdt::Value;
use crate::document::plan::{Edit, Write};
use crate::document::{Address, AddressError};
use crate::engine::conflicts::collection_of;
use crate::engine::escalation::COLLECTION;
use crate::engine::io::Now;
use crate::engine::replica::Replica;

/// The field of `conflicts/<id>` that holds the outcome.
pub const OUTCOME: &str = "vote";
/// Votes under way at once; the others have their turn.
pub const VOTES_MAX: usize = 16;
/// Longest nomination, bytes: a voter that would have a longer value abstains.
pub const NOMINATION_MAX: usize = 16 << 10;
/// How often it is looked whether a vote is due, µs.
const LOOK_US: u64 = 200_000;
/// A vote that came to nothing by then is begun anew, µs.
const PATIENCE_US: u64 = 2_000_000;

#[derive(Debug, Default)]
pub struct Votes {
    running: BTreeMap<String, Vote>,
    /// Outcomes to be written over the siblings.
    decided: BTreeMap<String, Vec<u8>>,
    looked_us: u64,
}

#[derive(Debug)]
struct Vote {
    begun_us: u64,
    nominations: BTreeMap<Voter, Option<Vec<u8>>>,
    /// The ballot over what most nominated.
    asked: Option<AskId>,
}

impl Votes {
    /// The conflicts whose outcomes are to be written.
    pub(in crate::engine) fn decided(&self) -> impl Iterator<Item = String> {
        self.decided.keys().cloned()
    }

    /// When something of them is due, µs.
    pub(super) fn due_us(&self) -> u64 {
        match (self.decided.is_empty(), self.running.is_empty()) {
            // The next tick writes them, each once.
            (false, _) => 0,
            (true, false) => self.looked_us + LOOK_US,
            (true, true) => u64::MAX,
        }
    }
}

impl Replica {
    /// Has the voters settle what waits for them, where it is this node's to ask. On every tick.
    pub(super) fn tend_votes(&mut self, now: Now) {
        if now.mono_us < self.booth.votes.looked_us + LOOK_US {
            return;
        }
        let votes = &mut self.booth.votes;
        votes.looked_us = now.mono_us;
        votes.running.retain(|_, vote| now.mono_us < vote.begun_us + PATIENCE_US);
        let room = VOTES_MAX.saturating_sub(votes.running.len() + votes.decided.len());
        if room == 0 || !self.has_quorum() || !self.leads() {
            return;
        }
        let waits = |conflict: &&Conflict| {
            let votes = &self.booth.votes;
            conflict.status == Status::NoQuorum
                && !votes.running.contains_key(&conflict.id)
                && !votes.decided.contains_key(&conflict.id)
        };
        let due: Vec<String> =
            self.conflicts.within().filter(waits).take(room).map(|conflict| conflict.id.clone()).collect();
        due.into_iter().for_each(|conflict| self.begin_vote(conflict, now));
    }

    fn begin_vote(&mut self, conflict: String, now: Now) {
        let Some(voters) = self.booth.voters.as_ref().map(super::Voters::all) else { return };
        let vote = Vote { begun_us: now.mono_us, nominations: BTreeMap::new(), asked: None };
        self.booth.votes.running.insert(conflict.clone(), vote);
        let mut nodes: Vec<_> = voters.iter().map(|voter| voter.node).collect();
        nodes.dedup();
        for node in nodes {
            self.say(node, BallotMessage::Nominate { conflict: conflict.clone() }, now);
        }
    }

    /// Somebody asks what this voter would have.
    pub(super) fn on_nominate(&mut self, peer: crate::clock::NodeId, conflict: String, now: Now) {
        if self.booth.is_voter(&self.id.node) {
            let (store, value) = (self.booth.store, self.nominee(&conflict));
            self.say(peer, BallotMessage::Nominated { conflict, store, value }, now);
        }
    }

    /// What this node's policies make of the conflict where a vote's fallback is asked. `None`: it does not see the
    /// conflict, or has no word on it.
    fn nominee(&self, conflict: &str) -> Option<Vec<u8>> {
        let conflict = self.conflicts.get(conflict)?;
        let (name, field) = (conflict.document.as_str(), conflict.field.as_deref()?);
        let view = self.merged(name, self.state.document(name)?)?;
        let spent = Spent::default();
        let in_force = self.in_force(&self.schemas.policies, &spent);
        let nominee = self.schemas.judge(collection_of(name)).nominate(name, field, &view, in_force)?;
        Some(Value::encode_json(&nominee)).filter(|value| value.len() <= NOMINATION_MAX)
    }

    pub(super) fn on_nominated(&mut self, voter: Voter, conflict: &str, value: Option<Vec<u8>>, now: Now) {
        let Some(voters) = self.booth.voters.as_ref().filter(|voters| voters.has(&voter)) else { return };
        let Some(vote) = self.booth.votes.running.get_mut(conflict).filter(|vote| vote.asked.is_none()) else { return };
        vote.nominations.insert(voter, value);
        let has_word = |voter: &Voter| vote.nominations.get(voter).is_some_and(Option::is_some);
        if !voters.is_quorum(has_word) {
            return;
        }
        let Some(value) = most_nominated(vote.nominations.values().flatten()) else { return };
        // Set before it is asked: it may be answered at once.
        vote.asked = Some(AskId(self.booth.asked + 1));
        let first = FieldsChange {
            tests: vec![(OUTCOME.to_owned(), None)],
            set: vec![(OUTCOME.to_owned(), Some(value))],
            ..FieldsChange::read(RequestId(u128::from(self.booth.asked + 1)))
        };
        self.ask_fields_inside(&format!("{COLLECTION}/{conflict}"), first, now);
    }

    /// Whether it was a vote that was asked about.
    pub(super) fn on_voted(&mut self, id: AskId, outcome: &Outcome) -> bool {
        let votes = &mut self.booth.votes;
        let Some((conflict, _)) = votes.running.iter().find(|(_, vote)| vote.asked == Some(id)) else { return false };
        let conflict = conflict.clone();
        votes.running.remove(&conflict);
        if let Ok(Told::Fields(verdict)) = outcome
            && matches!(verdict.outcome, FieldsOutcome::Done | FieldsOutcome::Differs(_))
            && let Some(value) = verdict.guard.fields.get(OUTCOME)
        {
            votes.decided.insert(conflict, value.to_vec());
        }
        true
    }

    /// Writes the outcome of a vote over the siblings, with a note of it.
    pub(in crate::engine) fn settle_vote(&mut self, id: &str, now: Now) {
        let Some(value) = self.booth.votes.decided.remove(id) else { return };
        // It may be over by now.
        let Some(conflict) = self.conflicts.get(id).filter(|conflict| conflict.status == Status::NoQuorum) else {
            return;
        };
        let Ok(value) = Value::decode(&value).map(Value::into_json) else { return };
        if let Ok(writes) = self.settlement_of(conflict, value, now) {
            // What is refused (a clock that fell behind) is voted on again, with the same outcome.
            let _ = self.write(&writes, false, now);
        }
    }

    fn settlement_of(&self, conflict: &Conflict, value: Json, now: Now) -> Result<Vec<(Address, Write)>, AddressError> {
        let register = conflict.field.as_deref().unwrap_or_default();
        let fields = self.view(&conflict.document).map(|view| view.fields).unwrap_or_default();
        let edit = match place(&fields, register) {
            (field, None) => Edit::Set { field, value: value.clone() },
            (field, Some(key)) => Edit::SetKey { field, key, value: value.clone() },
        };
        let note = json!({
            "status": "resolved", "document": conflict.document, "field": register, "class": conflict.class,
            "siblings": conflict.siblings, "value": value, "shown": conflict.value, "by": OUTCOME, "how": OUTCOME,
            "at_ms": now.wall_ms, "score": conflict.score,
        });
        let Json::Object(note) = note else { return Ok(Vec::new()) };
        let settled = (Address::parse(&conflict.document)?, Write::Edits(vec![edit]));
        Ok(vec![settled, (Address::new(COLLECTION, &conflict.id)?, Write::Put(note))])
    }
}

/// The value that most nominate; of several, the first in the order of their bytes, so that all who count alike find alike.
fn most_nominated<'v>(nominations: impl Iterator<Item = &'v Vec<u8>>) -> Option<Vec<u8>> {
    let mut counts: BTreeMap<&Vec<u8>, usize> = BTreeMap::new();
    nominations.for_each(|value| *counts.entry(value).or_default() += 1);
    let most = counts.values().max().copied()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(value, _)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_most_nominate_is_proposed() {
        let most = |values: &[&str]| {
            let values: Vec<Vec<u8>> = values.iter().map(|value| value.as_bytes().to_vec()).collect();
            most_nominated(values.iter()).map(|value| String::from_utf8(value).unwrap())
        };
        assert_eq!(most(&["b", "a", "b"]).as_deref(), Some("b"));
        assert_eq!(most(&["b", "a"]).as_deref(), Some("a"), "of as many, the first in order");
        assert_eq!(most(&[]), None);
    }
}
