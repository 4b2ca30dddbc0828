//! Clients that get, renew and give back locks, and write to what the locks protect.

use std::collections::{BTreeMap, VecDeque};

use super::chance::Chance;
use super::oracle::locks::{History, Place};
use super::probe::Probe;
use super::trace::What;
use super::world::World;
use crate::engine::ballot::lock::{LockChange, LockVerdict, RequestId, Waiter};
use crate::engine::ballot::{AskError, AskId, Outcome, Told};

/// Locks that clients fight for.
const LOCKS: usize = 3;

#[derive(Debug)]
pub struct Locks {
    chance: Chance,
    /// What clients believe to hold, and under which token.
    held: BTreeMap<(usize, usize), u64>,
    /// An attempt that is to be made again: nobody knows what came of it, or it stands in the queue.
    again: BTreeMap<(usize, usize), RequestId>,
    /// By host, its life, and what the node calls it.
    asked: BTreeMap<(usize, u64, AskId), Asked>,
    requests: u128,
    pub history: History,
}

#[derive(Debug)]
struct Asked {
    client: usize,
    lock: usize,
    request: Option<RequestId>,
    /// How far the lock had come, as far as anybody was told, when this was asked.
    floor: Option<Place>,
}

fn name(lock: usize) -> String {
    format!("l{lock}")
}

impl Locks {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "locks"),
            held: BTreeMap::new(),
            again: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            history: History::default(),
        }
    }

    /// What the client does next, and under which request.
    fn errand(&mut self, client: usize, lock: usize) -> (LockChange, Option<RequestId>) {
        if let Some(token) = self.held.get(&(client, lock)).copied() {
            let change = match self.chance.below(10) {
                0..4 => LockChange::Release { token },
                4..8 => LockChange::Renew { token },
                _ => LockChange::Read,
            };
            return (change, None);
        }
        if self.chance.happens(0.1) {
            return (LockChange::Read, None);
        }
        let again = self.again.get(&(client, lock)).copied().filter(|_| self.chance.happens(0.8));
        let request = again.unwrap_or_else(|| {
            self.requests += 1;
            RequestId(self.requests)
        });
        let lease_ms = self.chance.between(100, 1_500);
        let waiter = Waiter { holder: format!("client-{client}"), request, lease_ms };
        let waits = self.chance.happens(0.5);
        (LockChange::Acquire { waiter, waits, expired: None }, Some(request))
    }
}

impl World {
    /// A client asks for something about a lock, or writes to what it protects.
    pub(super) fn locker_acts(&mut self, home: usize, client: usize) {
        let lock = self.locks.chance.index(LOCKS);
        if let Some(token) = self.locks.held.get(&(client, lock)).copied()
            && self.locks.chance.happens(0.4)
        {
            let overtaken = self.locks.history.write(lock, token);
            self.probes.reached_if(Probe::StaleTokenRefused, overtaken);
            return;
        }
        let (change, request) = self.locks.errand(client, lock);
        let floor = self.locks.history.place(lock);
        self.ask_about(home, lock, change, Asked { client, lock, request, floor });
    }

    fn ask_about(&mut self, home: usize, lock: usize, change: LockChange, asked: Asked) {
        let (now, life) = (self.now(home), self.hosts[home].life);
        self.note(home, None, What::Write, || format!("client {} asks {change:?} of {}", asked.client, name(lock)));
        let Some(process) = &mut self.hosts[home].process else { return };
        let id = process.replica.ask_lock(&name(lock), change, now);
        self.trace.step(self.now_us, home, What::Write, id.0);
        self.locks.asked.insert((home, life, id), asked);
        let mut inputs = VecDeque::new();
        self.carry_out(home, &mut inputs);
        inputs.into_iter().for_each(|input| self.input(home, input));
    }

    /// A node tells what came of something that it was asked.
    pub(super) fn lock_told(&mut self, host: usize, id: AskId, outcome: Outcome) {
        let life = self.hosts[host].life;
        let Some(asked) = self.locks.asked.remove(&(host, life, id)) else { return };
        let place = (asked.client, asked.lock);
        match outcome {
            Ok(Told::Lock(verdict)) => {
                self.probes.reached(Probe::Decided);
                let verdict_of = self.locks.history.told(asked.lock, asked.floor, asked.request, &verdict);
                self.judge(host, verdict_of);
                self.follow(place, asked.request, &verdict);
            }
            Ok(_) => {}
            Err(AskError::NoQuorum { .. } | AskError::NoVoters) => self.probes.reached(Probe::NoQuorum),
            Err(AskError::Unknown) => {
                self.probes.reached(Probe::Undecided);
                self.locks.again.extend(asked.request.map(|request| (place, request)));
            }
            Err(AskError::Busy | AskError::Unreadable) => {}
        }
    }

    /// What the client makes of it.
    fn follow(&mut self, place: (usize, usize), request: Option<RequestId>, verdict: &LockVerdict) {
        let locks = &mut self.locks;
        match verdict {
            LockVerdict::Granted(lock) => {
                locks.held.insert(place, lock.token);
                locks.again.remove(&place);
                self.probes.reached_if(Probe::LockTaken, lock.token > 1);
            }
            LockVerdict::Waits { .. } => {
                self.probes.reached(Probe::LockWaits);
                locks.again.extend(request.map(|request| (place, request)));
            }
            LockVerdict::NotHolder(_) => {
                self.probes.reached(Probe::LockLost);
                locks.held.remove(&place);
            }
            // Given back.
            LockVerdict::Is(lock) => {
                let token = locks.held.get(&place).copied();
                if token.is_some_and(|token| lock.token > token || lock.held.is_none()) {
                    locks.held.remove(&place);
                }
            }
            LockVerdict::Held(_) | LockVerdict::Full(_) => {}
        }
    }

    /// Once everything is healed a quorum decides again, where one is left.
    pub(super) fn decide_at_end(&mut self) {
        let stayers: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].stays).collect();
        let Some(home) = stayers.iter().copied().find(|host| self.hosts[*host].process.is_some()) else { return };
        if self.locks.history.is_empty() || !self.voters_stand(&stayers) {
            return;
        }
        let decided = self.probes.count(Probe::Decided);
        let floor = self.locks.history.place(0);
        let deadline_us = self.now_us + 20_000_000;
        while self.finding.is_none() && self.probes.count(Probe::Decided) == decided && self.now_us < deadline_us {
            let asked = Asked { client: 0, lock: 0, request: None, floor };
            self.ask_about(home, 0, LockChange::Read, asked);
            self.run_until(self.now_us + 2_000_000);
        }
        if self.probes.count(Probe::Decided) == decided {
            let text =
                "20 s after everything was healed no ballot is decided, though a majority of the voters is there";
            self.judge(home, super::oracle::wrong("liveness", text));
        }
    }

    /// Whether enough voters are still there with the stores they were voters with.
    pub(super) fn voters_stand(&self, stayers: &[usize]) -> bool {
        let replicas = || stayers.iter().filter_map(|host| self.hosts[*host].replica());
        let known = replicas().filter_map(|replica| replica.ballots().voters());
        let Some(voters) = known.max_by_key(|voters| voters.version) else { return false };
        voters.is_quorum(|voter| {
            replicas().any(|replica| replica.id().node == voter.node && replica.ballots().store() == voter.store)
        })
    }
}
