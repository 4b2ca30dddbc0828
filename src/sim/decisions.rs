//! Clients that have a quorum decide about a field of documents, with the document's lock and without.

use std::collections::BTreeMap;

use serde_json::json;

use super::chance::Chance;
use super::oracle::decisions::{Asked, History};
use super::probe::Probe;
use super::trace::What;
use super::workload::Transaction;
use super::world::World;
use crate::crdt::Value;
use crate::document::Address;
use crate::document::plan::Write;
use crate::engine::ballot::lock::{LockChange, RequestId, Waiter};
use crate::engine::ballot::{AskError, AskId, FieldsChange, FieldsOutcome, FieldsVerdict, Outcome, Told};

/// Documents that clients decide about.
pub const DOCUMENTS: usize = 3;
/// The field that is decided.
pub const FIELD: &str = "owner";

#[derive(Debug)]
pub struct Decisions {
    chance: Chance,
    /// What clients believe to hold, and under which token.
    held: BTreeMap<(usize, usize), u64>,
    /// What clients were told last that the field is.
    seen: BTreeMap<(usize, usize), Option<Vec<u8>>>,
    /// By host, its life, and what the node calls it: of which client, and about which document.
    asked: BTreeMap<(usize, u64, AskId), (usize, usize, Asked)>,
    requests: u128,
    pub history: History,
}

pub fn name(document: usize) -> String {
    format!("decided/d{document}")
}

impl Decisions {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "decisions"),
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            history: History::default(),
        }
    }

    /// What the client wants decided next.
    fn errand(&mut self, client: usize, document: usize) -> FieldsChange {
        self.requests += 1;
        let request = RequestId(self.requests);
        let mut change = FieldsChange::read(request);
        if self.chance.happens(0.15) {
            return change;
        }
        let value = Value::encode_json(&json!(format!("c{client}-{}", self.requests)));
        change.set = vec![(FIELD.to_owned(), Some(value).filter(|_| !self.chance.happens(0.1)))];
        if self.chance.happens(0.5) {
            let seen = self.seen.get(&(client, document)).cloned().flatten();
            change.tests = vec![(FIELD.to_owned(), seen)];
        }
        match self.held.get(&(client, document)).copied() {
            Some(token) => {
                change.token = Some(token);
                change.release = self.chance.happens(0.4);
            }
            None if self.chance.happens(0.3) => {
                let lease_ms = self.chance.between(100, 1_000);
                let waiter = Waiter { holder: format!("client-{client}"), request, lease_ms };
                change.take = Some(LockChange::Acquire { waiter, waits: false, expired: None });
            }
            None => {}
        }
        change
    }
}

impl World {
    /// A client asks a quorum about a document; or creates it, where its node does not have it.
    pub(super) fn decider_acts(&mut self, home: usize, client: usize, transaction: &mut Transaction) {
        let document = self.decisions.chance.index(DOCUMENTS);
        let visible = self.hosts[home].replica().is_some_and(|replica| replica.state().is_visible(&name(document)));
        if !visible {
            let fields = [("n".to_owned(), json!(document))].into_iter().collect();
            transaction
                .writes
                .extend(Address::parse(&name(document)).ok().map(|address| (address, Write::Put(fields))));
            return;
        }
        let change = self.decisions.errand(client, document);
        self.have_decided(home, client, document, change);
    }

    fn have_decided(&mut self, home: usize, client: usize, document: usize, change: FieldsChange) {
        let asked = self.decisions.history.asks(&name(document), change.clone());
        self.note(home, None, What::Write, || format!("client {client} has {} decided: {change:?}", name(document)));
        let mut id = None;
        // Where a planted bug decides at once, that is written down here and now.
        self.locally(home, &[name(document)], |replica, now| {
            id = Some(replica.ask_fields(&name(document), change, now))
        });
        let Some(id) = id else { return };
        self.trace.step(self.now_us, home, What::Write, id.0);
        self.decisions.asked.insert((home, self.hosts[home].life, id), (client, document, asked));
    }

    /// A node tells what came of something that it was asked; gives whether it was asked about a document.
    pub(super) fn decision_told(&mut self, host: usize, id: AskId, outcome: &Outcome) -> bool {
        let life = self.hosts[host].life;
        let Some((client, document, asked)) = self.decisions.asked.remove(&(host, life, id)) else { return false };
        match outcome {
            Ok(Told::Fields(verdict)) => {
                self.probes.reached(Probe::FieldDecided);
                let checked = self.decisions.history.told(&asked, verdict);
                self.judge(host, checked);
                self.learn(client, document, &asked, verdict);
            }
            Err(AskError::NoQuorum { .. } | AskError::NoVoters) => self.probes.reached(Probe::NoQuorum),
            Err(AskError::Unknown) => self.probes.reached(Probe::Undecided),
            Ok(_) | Err(AskError::Busy | AskError::Unreadable) => {}
        }
        true
    }

    /// What the client makes of it.
    fn learn(&mut self, client: usize, document: usize, asked: &Asked, verdict: &FieldsVerdict) {
        let place = (client, document);
        let decisions = &mut self.decisions;
        decisions.seen.insert(place, verdict.guard.fields.get(FIELD).map(<[u8]>::to_vec));
        match &verdict.outcome {
            FieldsOutcome::Done if asked.change.release => drop(decisions.held.remove(&place)),
            FieldsOutcome::Done if asked.change.take.is_some() => {
                decisions.held.insert(place, verdict.guard.lock.token);
            }
            FieldsOutcome::NotHolder => {
                self.probes.reached(Probe::StaleTokenDecidesNothing);
                decisions.held.remove(&place);
            }
            FieldsOutcome::Differs(_) => self.probes.reached(Probe::TestFailed),
            FieldsOutcome::Held => self.probes.reached(Probe::GuardedByAnother),
            _ => {}
        }
    }

    /// Once everything is healed: whoever asks what is decided has it written down for all.
    pub(super) fn read_decisions_at_end(&mut self) {
        let stayers: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].stays).collect();
        let Some(home) = stayers.iter().copied().find(|host| self.hosts[*host].process.is_some()) else { return };
        if !self.voters_stand(&stayers) {
            return;
        }
        for document in 0..DOCUMENTS {
            let visible = |world: &Self| {
                world.hosts[home].replica().is_some_and(|replica| replica.state().is_visible(&name(document)))
            };
            let before = self.probes.count(Probe::FieldDecided);
            let deadline_us = self.now_us + 20_000_000;
            while self.finding.is_none()
                && self.decisions.history.knows(&name(document))
                && visible(self)
                && self.probes.count(Probe::FieldDecided) == before
                && self.now_us < deadline_us
            {
                self.have_decided(home, 0, document, FieldsChange::read(RequestId(0)));
                self.run_until(self.now_us + 2_000_000);
            }
        }
        self.decisions.history.is_complete = true;
    }
}

/// What a node hears or does by which it may write down what was decided: the documents that it asks about.
pub(super) fn documents_asked(world: &World, host: usize) -> Vec<String> {
    world.hosts[host].replica().map(|replica| replica.documents_asked()).unwrap_or_default()
}
