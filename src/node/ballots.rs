//! What programs ask of a quorum, and who waits for the answer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};

use super::handle::{Inner, Node};
use super::lock::LockStatus;
use crate::engine::ballot::ask::GUARD;
use crate::engine::ballot::{AskError, AskId, BallotTally, Guard, Outcome, Voters};
use crate::engine::timing::Timing;
use crate::engine::{Now, Replica};

/// Changes of registers that a slow waiter may be behind; then it looks by itself.
const CHANGES_MAX: usize = 256;

/// Who waits for what was asked.
#[derive(Debug)]
pub(super) struct Asks {
    waiting: Mutex<BTreeMap<AskId, oneshot::Sender<Outcome>>>,
    changes: broadcast::Sender<String>,
    /// From asking for a lock to having it.
    lock_waits: Mutex<Timing>,
}

impl Default for Asks {
    fn default() -> Self {
        Self { waiting: Mutex::default(), changes: broadcast::channel(CHANGES_MAX).0, lock_waits: Mutex::default() }
    }
}

impl Asks {
    pub fn told(&self, id: AskId, outcome: Outcome) {
        if let Some(waiter) = self.waiting.lock().remove(&id) {
            // Whoever asked may have gone.
            let _ = waiter.send(outcome);
        }
    }

    pub fn changed(&self, register: String) {
        // Nobody may be waiting.
        let _ = self.changes.send(register);
    }

    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    pub fn lock_granted(&self, waited: Duration) {
        self.lock_waits.lock().record(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn lock_waits(&self) -> Timing {
        *self.lock_waits.lock()
    }
}

/// The voters, and what this node is among them.
#[derive(Clone, Debug)]
pub struct VotersStatus {
    /// `None`: this node has not met its cluster.
    pub voters: Option<Voters>,
    pub is_voter: bool,
    /// How many of them this node reaches, itself included.
    pub has_quorum: bool,
    pub tally: BallotTally,
}

impl Inner {
    /// Asks, and gives what came of it.
    pub async fn ask(&self, ask: impl FnOnce(&mut Replica, Now) -> AskId) -> Outcome {
        let (told, outcome) = oneshot::channel();
        // The answer is given under the replica's lock too: it cannot come before somebody waits for it.
        self.with_replica(|replica, now| {
            let id = ask(replica, now);
            self.asks.waiting.lock().insert(id, told);
        });
        outcome.await.unwrap_or(Err(AskError::Unknown))
    }
}

impl Node {
    pub fn voters(&self) -> VotersStatus {
        let replica = self.inner.replica.read();
        let booth = replica.ballots();
        VotersStatus {
            voters: booth.voters().cloned(),
            is_voter: booth.is_voter(&self.inner.id.node),
            has_quorum: replica.has_quorum(),
            tally: booth.tally(),
        }
    }

    /// The locks that somebody holds, as this node accepted them as a voter, in order of their names after `after`; and where
    /// to go on. A node that is no voter knows of none, and one that was away may be behind: [`Lock::read`] asks a quorum.
    ///
    /// [`Lock::read`]: super::Lock::read
    pub fn locks_held(&self, after: Option<&str>, limit: usize) -> (Vec<LockStatus>, Option<String>) {
        let replica = self.inner.replica.read();
        let booth = replica.ballots();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let held = booth.locks_held().range::<str, _>((from, Bound::Unbounded)).filter_map(|name| {
            let accepted = booth.acceptor().get(&format!("{GUARD}{name}"))?.accepted.as_ref()?;
            Some(LockStatus::of(name, &Guard::decode(Some(&accepted.value)).ok()?.lock))
        });
        let mut found: Vec<LockStatus> = held.take(limit + 1).collect();
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.name.clone());
        (found, next)
    }

    /// When a lock may be taken, as far as this node has watched it.
    pub(super) fn lock_takeable(&self, name: &str) -> Option<Instant> {
        let at_us = self.inner.replica.read().ballots().watch().takeable_us(name)?;
        let now_us = self.now().mono_us;
        Some(Instant::now() + Duration::from_micros(at_us.saturating_sub(now_us)))
    }
}
