//! Clients that have a quorum fence replicas of running nodes, and release or discard what is kept aside.

use std::collections::BTreeMap;

use serde_json::json;

use super::chance::Chance;
use super::oracle::replicas::Reach;
use super::probe::Probe;
use super::trace::What;
use super::workload::Transaction;
use super::world::{Next, World};
use crate::clock::ReplicaId;
use crate::crdt::Value;
use crate::document::plan::{Edit, Write};
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{AskError, AskId, FieldsChange, FieldsOutcome, Outcome, Told};
use crate::engine::fence::{FIELD, Fence, FenceState};

/// Of a run: whose writes are discarded begins anew, and is no voter for a while.
const DISCARDS_MAX: u32 = 1;
/// ... where there are so many that the others are a majority.
const VOTERS_MIN: usize = 3;
/// The first hosts are left out: where everybody is fenced, nobody can write down that somebody is released.
const NEVER_FENCED: usize = 2;
/// A node that hears that its writes were discarded is started anew so long after, µs: by then its disk knows it, too.
pub(super) const RESTART_US: u64 = 300_000;
/// How long somebody waits at the end before it asks again, and how often it looks, µs.
const PATIENCE_US: u64 = 500_000;
const LOOK_US: u64 = 20_000;

#[derive(Debug)]
pub struct Fences {
    chance: Chance,
    asked: BTreeMap<(usize, u64, AskId), (ReplicaId, Option<FenceState>)>,
    /// What was told last to be decided about a replica.
    decided: BTreeMap<ReplicaId, Option<Fence>>,
    requests: u128,
    discards: u32,
    pub reach: Reach,
}

impl Fences {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "fences"),
            asked: BTreeMap::new(),
            decided: BTreeMap::new(),
            requests: 1 << 120,
            discards: 0,
            reach: Reach::default(),
        }
    }
}

impl World {
    /// Somebody at `home` fences another node's replica, or decides what becomes of one that is fenced.
    pub(super) fn fencer_acts(&mut self, home: usize, transaction: &mut Transaction) {
        if let Some(known) = self.fences_known(home).into_iter().find(|fence| fence.state == FenceState::Fenced) {
            let discards = self.fences.chance.happens(0.5) && self.may_discard(home);
            let state = if discards { FenceState::Discarded } else { FenceState::Released };
            return self.have_fenced(home, Some(known), state);
        }
        let others = (NEVER_FENCED..self.hosts.len()).filter(|host| self.hosts[*host].node != self.hosts[home].node);
        let running: Vec<ReplicaId> = others.filter_map(|host| Some(self.hosts[host].replica()?.id())).collect();
        let Some(replica) = self.fences.chance.pick(&running).copied() else { return };
        let (Ok(address), Some(at)) = (Fence::address(&replica), self.hosts[home].replica()) else { return };
        if !at.state().is_visible(address.as_str()) {
            let node = Edit::Set { field: "node".into(), value: json!(replica.node.to_string()) };
            transaction.writes.push((address, Write::Upsert(vec![node])));
            return;
        }
        let Some(slot) = at.state().roster.slot(&replica) else { return };
        let (before, covered) = (at.fence(slot).cloned(), at.state().clock.get(slot));
        let seq = (covered + 3).saturating_sub(self.fences.chance.below(6));
        let next = Fence {
            replica: replica.to_string(),
            version: before.as_ref().map_or(0, |fence| fence.version) + 1,
            seq,
            state: FenceState::Fenced,
            by: "a client".into(),
            reason: String::new(),
            at_ms: 0,
        };
        if Fence::may_become(before.as_ref(), next.state) {
            self.follow_fenced(&replica);
            self.ask_fence(home, before.as_ref(), next);
        }
    }

    fn may_discard(&self, home: usize) -> bool {
        let voters = self.hosts[home].replica().and_then(|replica| replica.ballots().voters());
        let enough = voters.is_some_and(|voters| voters.next.is_none() && voters.set.len() >= VOTERS_MIN);
        enough && self.fences.discards < DISCARDS_MAX
    }

    fn follow_fenced(&mut self, replica: &ReplicaId) {
        let others = self.hosts.iter().filter(|host| host.node != replica.node).filter_map(|host| host.replica());
        let seqs = others.filter_map(|at| Some(at.state().clock.get(at.state().roster.slot(replica)?)));
        let seq = seqs.max().unwrap_or_default();
        self.fences.reach.follow(*replica, seq);
    }

    fn have_fenced(&mut self, home: usize, known: Option<Fence>, state: FenceState) {
        let Some(next) = known.clone().map(|fence| Fence { state, version: fence.version + 1, ..fence }) else {
            return;
        };
        self.fences.discards += u32::from(state == FenceState::Discarded);
        self.ask_fence(home, known.as_ref(), next);
    }

    fn ask_fence(&mut self, home: usize, known: Option<&Fence>, next: Fence) {
        let Ok(replica) = next.replica.parse() else { return };
        self.fences.requests += 1;
        let change = Fence::change(RequestId(self.fences.requests), known, &next);
        self.note(home, None, What::Write, || format!("has {} {:?} after {}", next.replica, next.state, next.seq));
        self.ask_quorum(home, &replica, change, Some(next.state));
    }

    fn ask_quorum(&mut self, home: usize, replica: &ReplicaId, change: FieldsChange, next: Option<FenceState>) {
        let Ok(address) = Fence::address(replica) else { return };
        let name = address.as_str();
        let told = self.ask_at(home, name, |replica, now| replica.ask_fields(name, change, now));
        let Some((id, early)) = told else { return };
        self.fences.asked.insert((home, self.hosts[home].life, id), (*replica, next));
        if let Some(outcome) = early {
            self.fence_told(home, id, &outcome);
        }
    }

    /// A node tells what came of it; gives whether it was asked about a fence.
    pub(super) fn fence_told(&mut self, host: usize, id: AskId, outcome: &Outcome) -> bool {
        let Some((replica, next)) = self.fences.asked.remove(&(host, self.hosts[host].life, id)) else { return false };
        match outcome {
            Ok(Told::Fields(verdict)) => {
                let released = verdict.outcome == FieldsOutcome::Done && next == Some(FenceState::Released);
                self.probes.reached_if(Probe::Released, released);
                let decided = verdict.guard.fields.get(FIELD).and_then(|bytes| Value::decode(bytes).ok());
                let decided = decided.and_then(|value| serde_json::from_value(value.into_json()).ok());
                self.fences.decided.insert(replica, decided);
            }
            Err(AskError::NoQuorum { .. } | AskError::NoVoters) => self.probes.reached(Probe::NoQuorum),
            Err(AskError::Unknown) => self.probes.reached(Probe::Undecided),
            _ => {}
        }
        true
    }

    /// A node that hears that what it wrote was discarded is started anew by its operator.
    pub(super) fn restart_discarded(&mut self, host: usize, life: u64) {
        let is_discarded = |world: &Self| {
            let fence = world.hosts[host].replica().and_then(|replica| replica.fenced(1));
            fence.is_some_and(|fence| fence.state == FenceState::Discarded)
        };
        if self.hosts[host].life == life && is_discarded(self) {
            self.stop(host, false);
            self.after(0, Next::Start { host });
        }
    }

    fn fences_known(&self, home: usize) -> Vec<Fence> {
        let me = self.hosts[home].node;
        let replicas = self.hosts[home].replica().into_iter().flat_map(|replica| replica.replicas());
        replicas.filter(|standing| standing.replica.node != me).filter_map(|standing| standing.fence).collect()
    }

    /// Once everything is healed: whoever asks what is decided has it written down for all, and no fence is left standing.
    /// Gives whether that is so: it is not where the voters were lost.
    pub(super) fn lift_fences(&mut self, deadline_us: u64) -> bool {
        let mut turn = 0;
        // What was asked last may yet be decided.
        while self.now_us < deadline_us && self.awaits_a_fence() {
            self.run_until((self.now_us + PATIENCE_US).min(deadline_us));
        }
        while self.finding.is_none() && self.now_us < deadline_us {
            self.fences.decided.clear();
            for replica in self.fences.reach.replicas() {
                self.lift_fence(&replica, &mut turn, deadline_us);
            }
            if !self.is_any_fenced() {
                return true;
            }
        }
        let stayers: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].stays).collect();
        self.voters_stand(&stayers)
    }

    fn is_any_fenced(&self) -> bool {
        let stayers = (0..self.hosts.len()).filter(|host| self.hosts[*host].stays);
        stayers.flat_map(|host| self.fences_known(host)).any(|fence| fence.state == FenceState::Fenced)
    }

    fn lift_fence(&mut self, replica: &ReplicaId, turn: &mut usize, deadline_us: u64) {
        while self.finding.is_none() && self.now_us < deadline_us {
            let decided = self.fences.decided.get(replica).cloned();
            if matches!(&decided, Some(fence) if fence.as_ref().is_none_or(|fence| fence.state != FenceState::Fenced)) {
                return;
            }
            let homes: Vec<usize> = (0..self.hosts.len()).filter(|home| self.can_write_down(*home, replica)).collect();
            *turn += 1;
            if let Some(home) = homes.get(*turn % homes.len().max(1)).copied() {
                match decided.flatten() {
                    None => self.read_fence(home, replica),
                    known => self.have_fenced(home, known, FenceState::Released),
                }
            }
            let until_us = (self.now_us + PATIENCE_US).min(deadline_us);
            loop {
                self.run_until((self.now_us + LOOK_US).min(until_us));
                if self.finding.is_some() || self.now_us >= until_us || !self.awaits_a_fence() {
                    break;
                }
            }
        }
    }

    fn awaits_a_fence(&self) -> bool {
        let is_there = |(host, life, _): &(usize, u64, AskId)| self.hosts[*host].life == *life;
        self.finding.is_none() && self.fences.asked.keys().any(is_there)
    }

    fn can_write_down(&self, home: usize, replica: &ReplicaId) -> bool {
        let Some(at) = self.hosts[home].replica().filter(|_| self.hosts[home].stays) else { return false };
        let is_visible = |address: &crate::document::Address| at.state().is_visible(address.as_str());
        at.id().node != replica.node
            && at.fenced(1).is_none()
            && Fence::address(replica).is_ok_and(|name| is_visible(&name))
    }

    fn read_fence(&mut self, home: usize, replica: &ReplicaId) {
        self.ask_quorum(home, replica, FieldsChange::read(RequestId(0)), None);
    }
}
