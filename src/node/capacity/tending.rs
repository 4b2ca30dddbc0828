//! What is due by itself: rights of this node's earlier processes go back, what others released is dropped, and what is held
//! unused for a minute is given back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Capacities, EscrowError};
use crate::clock::ReplicaId;
use crate::domain::capacity::{Capacity, Escrow};
use crate::node::handle::Node;

/// How often a node looks. What another released is free for its owner so long after it heard of it.
const EVERY: Duration = Duration::from_millis(500);
/// Workers that are looked at each time, in turn: a thousand are seen within ten seconds.
const WORKERS_AT_ONCE: usize = 64;
/// Things that are dropped each time, for each worker.
const DROPPED_AT_ONCE: usize = 64;
/// Who has more than twice what it uses for so long gives it back.
const IDLE: Duration = Duration::from_secs(60);

/// Until the node stops.
pub(in crate::node) async fn tend(node: Node) {
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut after = None;
    // What stands in the way, by worker: said once, and not twice a second.
    let mut told: BTreeMap<String, EscrowError> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = due.tick() => {}
            () = node.stopping() => return,
        }
        let capacities = node.capacity();
        let (read, next) = capacities.list(after.as_deref(), WORKERS_AT_ONCE);
        after = next;
        for capacity in read {
            match capacities.tend_worker(&capacity).await {
                Ok(()) => drop(told.remove(&capacity.worker)),
                Err(error) if told.get(&capacity.worker) == Some(&error) => {}
                Err(error) => {
                    tracing::warn!(worker = capacity.worker, %error, "not done for a worker's capacity; tried again");
                    told.insert(capacity.worker, error);
                }
            }
        }
    }
}

impl Capacities {
    async fn tend_worker(&self, read: &Capacity) -> Result<(), EscrowError> {
        self.drop_released(read)?;
        if !self.node.inner.replica.read().has_quorum() {
            return Ok(());
        }
        let me = self.node.replica();
        let earlier = read.escrow.rights.keys().filter_map(|replica| replica.parse::<ReplicaId>().ok());
        for gone in earlier.filter(|replica| replica.node == me.node && *replica != me) {
            self.reclaim(&read.worker, gone).await?;
        }
        self.hear_words(read).await?;
        self.give_back_if_idle(&read.worker).await
    }

    /// What this replica placed and others released.
    fn drop_released(&self, read: &Capacity) -> Result<(), EscrowError> {
        let Some(held) = self.node.inner.accounts.get(&read.worker) else { return Ok(()) };
        let mut account = held.account.lock();
        let (capacity, version) = self.local(&read.worker)?;
        account.hear(version, &capacity.escrow);
        account.miss(&capacity);
        let due: Vec<String> = account.to_drop(&capacity.freed).take(DROPPED_AT_ONCE).map(str::to_owned).collect();
        for thing in due {
            if let Some(edits) = account.release(&thing, &capacity.freed) {
                self.apply(&super::address(&read.worker)?, edits)?;
                account.note_released(&thing);
            }
        }
        Ok(())
    }

    /// Words about what replicas that are gone had placed: a quorum hears them.
    async fn hear_words(&self, read: &Capacity) -> Result<(), EscrowError> {
        if read.settled_though_freed().is_empty() && read.idle_words().is_empty() {
            return Ok(());
        }
        let address = super::address(&read.worker)?;
        let mut read = read.clone();
        let forget = |read: &mut Capacity, escrow: &Escrow| {
            read.escrow = escrow.clone();
            let freed = read.settled_though_freed();
            freed.iter().fold(escrow.clone(), |escrow, (gone, thing)| escrow.forget(gone, thing))
        };
        let (_, escrow) = self.decide(&address, |_, escrow| Ok(Some(forget(&mut read, escrow)))).await?;
        read.escrow = escrow;
        let edits = read.idle_words();
        if edits.is_empty() { Ok(()) } else { Ok(self.apply(&address, edits)?) }
    }

    async fn give_back_if_idle(&self, worker: &str) -> Result<(), EscrowError> {
        let Some(held) = self.node.inner.accounts.get(worker) else { return Ok(()) };
        let is_idle = held.account.lock().is_idle();
        let is_due = {
            let mut since = held.idle_since.lock();
            *since = is_idle.then(|| since.unwrap_or_else(Instant::now));
            since.is_some_and(|since| since.elapsed() >= IDLE)
        };
        if is_due {
            *held.idle_since.lock() = None;
            self.give_back(worker).await?;
        }
        Ok(())
    }
}
