//! Members that are cut off, and others that have a quorum evict them: by the very functions that a node uses. Those that are
//! cut off try the same with the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::chance::Chance;
use super::oracle::decisions::Asked;
use super::oracle::evictions::History;
use super::probe::Probe;
use super::trace::What;
use super::world::{Next, World};
use crate::clock::NodeId;
use crate::document::Address;
use crate::document::plan::Write;
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{AskError, AskId, FieldsOutcome, Outcome, Told, Voters};
use crate::engine::eviction::departure;

/// An operator tries it so often, µs.
const AGAIN_US: u64 = 200_000;
/// How often it is the one who is cut off that wants another out.
const BY_LOST: f64 = 0.25;

#[derive(Debug)]
pub struct Evictions {
    chance: Chance,
    /// By host, its life, and what the node calls it.
    asked: BTreeMap<(usize, u64, AskId), Attempt>,
    /// What nodes were told and have not acted upon yet.
    told: VecDeque<(Attempt, Outcome)>,
    requests: u128,
    /// The faults that came to what they were about.
    done: BTreeSet<usize>,
    pub history: History,
}

#[derive(Clone, Debug)]
struct Attempt {
    host: usize,
    life: u64,
    fault: usize,
    member: NodeId,
    address: Address,
    asked: Asked,
    /// As the node knew them when it asked.
    voters: Option<Voters>,
}

impl Evictions {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "evictions"),
            asked: BTreeMap::new(),
            told: VecDeque::new(),
            requests: 0,
            done: BTreeSet::new(),
            history: History::default(),
        }
    }
}

impl World {
    /// Somebody tries, until it is done or over.
    pub(super) fn evict_step(&mut self, fault: usize, node: usize, step: u64) {
        if self.evictions.done.contains(&fault) {
            return;
        }
        self.after(AGAIN_US, Next::Step { fault, step: step + 1 });
        let is_there = |host: &usize| {
            let host = &self.hosts[*host];
            host.process.is_some() && !host.paused && host.misdeed.is_none()
        };
        let others: Vec<usize> = (0..self.hosts.len()).filter(|host| *host != node && is_there(host)).collect();
        let chance = &mut self.evictions.chance;
        let (by_lost, other) = (chance.happens(BY_LOST), chance.pick(&others).copied());
        let (by, member) = match other {
            Some(other) if by_lost && self.hosts[node].process.is_some() && !self.hosts[node].paused => (node, other),
            Some(other) => (other, node),
            None => return,
        };
        self.ask_to_evict(fault, by, self.hosts[member].node);
    }

    fn ask_to_evict(&mut self, fault: usize, by: usize, member: NodeId) {
        let now = self.now(by);
        self.evictions.requests += 1;
        let request = RequestId(self.evictions.requests);
        let Some(replica) = self.hosts[by].replica() else { return };
        // One that is heard, or gone, is not evicted: the operator is told so.
        let Ok((address, change)) = replica.plan_eviction(&member, "operator", request, now) else { return };
        let voters = replica.ballots().voters().cloned();
        let asked = self.evictions.history.decisions.asks(address.as_str(), change.clone());
        self.note(by, None, What::Write, || format!("asks to evict {}", asked.document));
        let told = self.ask_at(by, address.as_str(), |replica, now| replica.ask_fields(&asked.document, change, now));
        let Some((id, early)) = told else { return };
        let life = self.hosts[by].life;
        let attempt = Attempt { host: by, life, fault, member, address, asked, voters };
        self.evictions.asked.insert((by, life, id), attempt);
        if let Some(outcome) = early {
            self.eviction_told(by, id, &outcome);
        }
    }

    /// A node tells what came of something that it was asked; gives whether that was an eviction.
    pub(super) fn eviction_told(&mut self, host: usize, id: AskId, outcome: &Outcome) -> bool {
        let life = self.hosts[host].life;
        let Some(attempt) = self.evictions.asked.remove(&(host, life, id)) else { return false };
        match outcome {
            Ok(Told::Fields(verdict)) => {
                let mut checked = self.evictions.history.decisions.told(&attempt.asked, verdict);
                if checked.is_ok() && verdict.outcome == FieldsOutcome::Done {
                    // They may have become others while it was decided.
                    let since = attempt.voters.as_ref().map_or(0, |voters| voters.version);
                    let later = self.locks.history.voters_since(since);
                    let voters: Vec<&Voters> = attempt.voters.iter().chain(later).collect();
                    let replicas: Vec<_> = self.hosts.iter().filter_map(|host| host.replica()).collect();
                    let version = verdict.guard.fields.version;
                    checked =
                        self.evictions.history.agreed(attempt.member, &attempt.address, version, &voters, &replicas);
                }
                self.judge(host, checked);
            }
            Err(AskError::NoQuorum { .. } | AskError::NoVoters) => self.probes.reached(Probe::EvictionRefused),
            _ => {}
        }
        self.evictions.told.push_back((attempt, outcome.clone()));
        self.after(0, Next::Errand { host, life });
        true
    }

    /// Who was told that a quorum agreed writes the departure.
    pub(super) fn follow_evictions(&mut self, host: usize) {
        let told = std::mem::take(&mut self.evictions.told);
        let (here, elsewhere) = told.into_iter().partition(|(attempt, _)| attempt.host == host);
        self.evictions.told = elsewhere;
        let here: VecDeque<(Attempt, Outcome)> = here;
        let life = self.hosts[host].life;
        for (attempt, outcome) in here.into_iter().filter(|(attempt, _)| attempt.life == life) {
            let agreed = self.hosts[host].replica().is_some_and(|replica| replica.agreed_to_evict(&outcome).is_ok());
            if agreed {
                self.evictions.done.insert(attempt.fault);
                self.probes.reached(Probe::Evicted);
                self.write(host, &[(attempt.address, Write::Edits(vec![departure()]))]);
            }
        }
    }

    /// One that was evicted and is there after all says so.
    pub(super) fn come_back(&mut self, host: usize) {
        let at = &self.hosts[host];
        if !at.stays || !at.replica().is_some_and(|replica| replica.is_written_off()) {
            return;
        }
        self.probes.reached(Probe::CameBack);
        self.announce(host);
    }
}
