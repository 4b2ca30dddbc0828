//! The verb `lock`: clients of the workload that get, renew and give back locks over HTTP, and write to what they protect.
//!
//! The same errands as the simulator's (`sim/locks.rs`), in real time: here it can also be said whether two ever had a lock
//! at one instant, since all of these clients count on one clock, each from before it asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::chaos::fence::{Fence, Said, Word};
use crate::cli::chaos::tenure;
use crate::cli::chaos::verdict::Verdict;
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;
use crate::sim::chance::Chance;

/// Locks that clients fight for.
const LOCKS: usize = 3;
/// Clients that wait stand in the queue for at most so long.
const WAIT_MS_MAX: u64 = 1_000;

/// Shared by all clients.
#[derive(Debug, Clone)]
pub struct Lockers(Arc<Mutex<State>>, Instant);

#[derive(Debug)]
struct State {
    chance: Chance,
    locks: Vec<Lock>,
    /// What clients believe to hold, and under which token.
    held: BTreeMap<(usize, usize), u64>,
    /// An attempt that is to be made again: nobody knows what came of it.
    again: BTreeMap<(usize, usize), Errand>,
    requests: u64,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Lock {
    fence: Fence,
    /// The highest token that anybody was told of.
    told: u64,
    /// Who was told of less than was told before it asked.
    back: Vec<String>,
}

/// What came of what was asked.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    done: usize,
    refused: usize,
    no_quorum: usize,
    unknown: usize,
}

/// What a client does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Write {
        token: u64,
    },
    Release {
        token: u64,
    },
    Renew {
        token: u64,
    },
    Read,
    /// `first_us`: when this was asked first.
    Acquire {
        request: u64,
        first_us: u64,
        lease_ms: u64,
        wait_ms: u64,
    },
}

impl Lockers {
    pub fn new(seed: u64, start: Instant) -> Self {
        let state = State {
            chance: Chance::of(seed, "locks"),
            locks: (0..LOCKS).map(|_| Lock::default()).collect(),
            held: BTreeMap::new(),
            again: BTreeMap::new(),
            requests: 0,
            tally: Tally::default(),
        };
        Self(Arc::new(Mutex::new(state)), start)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.1.elapsed().as_micros() as u64
    }

    /// One client does one thing about one lock. Gives it in words, and whether it came to what was asked for.
    pub async fn act(&self, client: usize, node: &Client) -> (String, bool) {
        let asked_us = self.now_us();
        let (lock, errand, floor) = {
            let mut state = self.state();
            let lock = state.chance.index(LOCKS);
            let errand = state.errand(client, lock, asked_us);
            (lock, errand, state.locks[lock].told)
        };
        let (method, body) = match errand {
            Errand::Write { token } => {
                let said = Said { worker: client, word: Word::Write { token } };
                let taken = self.state().locks[lock].fence.hear(&said, asked_us).taken;
                return (format!("writes to l{lock} under the token {token}"), taken);
            }
            Errand::Release { token } => (Method::DELETE, Some(json!({ "token": token }))),
            Errand::Renew { token } => (Method::PUT, Some(json!({ "token": token }))),
            Errand::Read => (Method::GET, None),
            Errand::Acquire { request, lease_ms, wait_ms, .. } => {
                let (holder, request) = (format!("client-{client}"), format!("{request:032x}"));
                let body = json!({ "holder": holder, "lease_ms": lease_ms, "wait_ms": wait_ms, "request": request });
                (Method::POST, Some(body))
            }
        };
        let answer = node.send(method, &format!("/v1/locks/l{lock}"), body.map(Body::json), &Terms::default()).await;
        let answer = answer.and_then(|answer| node.parse::<Value>(&answer));
        let words = format!("{errand:?} of l{lock}");
        (words, self.state().follow((client, lock), errand, answer, (floor, asked_us), self.1.elapsed()))
    }

    pub fn verdicts(&self) -> Vec<Verdict> {
        let state = self.state();
        let all = |of: &dyn Fn(&Lock) -> Vec<String>| -> Vec<String> { state.locks.iter().flat_map(of).collect() };
        let grants = state.locks.iter().map(|lock| lock.fence.tenures.len()).sum();
        let writes = state.locks.iter().map(|lock| lock.fence.writes).sum();
        let Tally { done, refused, no_quorum, unknown } = state.tally;
        let asked = done + refused + no_quorum + unknown;
        let idle = (asked > 0 && done == 0).then(|| format!("of {asked} that were asked none was done"));
        vec![
            Verdict::new("locks: one holder at a time", grants, all(&|lock| tenure::overlaps(&lock.fence.tenures))),
            Verdict::new("locks: one holder for each token", grants, all(&|lock| lock.fence.twice.clone())),
            Verdict::new("locks: nobody is told of less", done, all(&|lock| lock.back.clone())),
            Verdict::new("locks: no stale write is let through", writes, all(&|lock| lock.fence.stale.clone())),
            Verdict::new("locks: something is decided", done, idle.into_iter().collect()),
        ]
    }

    pub fn is_idle(&self) -> bool {
        let Tally { done, refused, no_quorum, unknown } = self.state().tally;
        done + refused + no_quorum + unknown == 0
    }

    /// What came of what was asked, in words.
    pub fn text(&self) -> String {
        let state = self.state();
        let Tally { done, refused, no_quorum, unknown } = state.tally;
        let late: usize = state.locks.iter().map(|lock| lock.fence.refused).sum();
        format!(
            "locks: {done} asked and done, {refused} refused, {no_quorum} without a quorum, {unknown} unknown; {late} late \
             writes refused"
        )
    }
}

impl State {
    /// As often as the simulator draws each.
    fn errand(&mut self, client: usize, lock: usize, now_us: u64) -> Errand {
        if let Some(token) = self.held.get(&(client, lock)).copied() {
            if self.chance.happens(0.4) {
                return Errand::Write { token };
            }
            return match self.chance.below(10) {
                0..4 => self.release(client, lock, token, now_us),
                4..8 => Errand::Renew { token },
                _ => Errand::Read,
            };
        }
        if self.chance.happens(0.1) {
            return Errand::Read;
        }
        if let Some(again) = self.again.get(&(client, lock)).copied().filter(|_| self.chance.happens(0.8)) {
            return again;
        }
        self.requests += 1;
        let lease_ms = self.chance.between(100, 1_500);
        let wait_ms = if self.chance.happens(0.5) { self.chance.between(1, WAIT_MS_MAX) } else { 0 };
        Errand::Acquire { request: self.requests, first_us: now_us, lease_ms, wait_ms }
    }

    /// From the moment of asking it is not held any more, whatever becomes of the answer.
    fn release(&mut self, client: usize, lock: usize, token: u64, now_us: u64) -> Errand {
        self.held.remove(&(client, lock));
        if let Some(tenure) = self.locks[lock].fence.tenures.get_mut(&token) {
            tenure.until_us = tenure.until_us.min(now_us);
        }
        Errand::Release { token }
    }

    /// What the client makes of an answer. `told`: the highest token that was told, and the time, when it asked.
    fn follow(
        &mut self,
        place: (usize, usize),
        errand: Errand,
        answer: Result<Value, Error>,
        told: (u64, u64),
        now: Duration,
    ) -> bool {
        match answer {
            Ok(answer) => {
                self.tally.done += 1;
                self.done(place, errand, &answer, told, now.as_micros() as u64);
                true
            }
            Err(error) => {
                self.failed(place, errand, &error);
                false
            }
        }
    }

    fn done(&mut self, place: (usize, usize), errand: Errand, answer: &Value, told: (u64, u64), now_us: u64) {
        let ((client, lock), (floor, asked_us)) = (place, told);
        let state = &mut self.locks[lock];
        if let Some(token) = answer["token"].as_u64() {
            if token < floor {
                state.back.push(format!("l{lock} was told to be at {token} after it had been told to be at {floor}"));
            }
            state.told = state.told.max(token);
        }
        match errand {
            Errand::Acquire { first_us, lease_ms, .. } => {
                let Some(token) = answer["token"].as_u64() else { return };
                // Asked again, it may be the grant of the first time, whose lease runs since then.
                let until_us = first_us + lease_ms * 1_000;
                state
                    .fence
                    .hear(&Said { worker: client, word: Word::Granted { token, at_us: now_us, until_us } }, now_us);
                self.held.insert(place, token);
                self.again.remove(&place);
            }
            Errand::Renew { token } => {
                let Some(left_ms) = answer["expires_in_ms"].as_u64() else { return };
                // It may have been given back since it was asked.
                if self.held.get(&place) != Some(&token) {
                    return;
                }
                let until_us = asked_us + left_ms * 1_000;
                state.fence.hear(&Said { worker: client, word: Word::Renewed { token, until_us } }, now_us);
            }
            Errand::Release { .. } | Errand::Read | Errand::Write { .. } => {}
        }
    }

    fn failed(&mut self, place: (usize, usize), errand: Errand, error: &Error) {
        let status = match error {
            Error::Refused(problem) => problem.status,
            _ => 0,
        };
        let count = match status {
            503 => &mut self.tally.no_quorum,
            400..500 => &mut self.tally.refused,
            _ => &mut self.tally.unknown,
        };
        *count += 1;
        match errand {
            Errand::Acquire { .. } if error.is_unknown() => drop(self.again.insert(place, errand)),
            // Held by another, or without a quorum: nothing of this attempt is left.
            Errand::Acquire { .. } => drop(self.again.remove(&place)),
            Errand::Renew { .. } if status == 409 => drop(self.held.remove(&place)),
            _ => {}
        }
    }
}
