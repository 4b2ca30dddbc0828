//! What programs hold of a node.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::sync::watch;

use super::ballots::Asks;
use super::driver::{Effects, FREE_BYTES_MIN};
use super::token::{Token, replica_key};
use super::watch::Ring;
use super::write::WriteError;
use crate::clock::{Clock, NodeId, ReplicaId, Roster, Slot};
use crate::engine::message::Refusal;
use crate::engine::write;
use crate::engine::{Now, Replica};

/// A running node. Cheap to clone; the node stops by [`Node::shutdown`], or when the process ends.
#[derive(Clone)]
pub struct Node {
    pub(super) inner: Arc<Inner>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:?}, {})", self.inner.id, self.inner.name)
    }
}

pub(super) struct Inner {
    pub id: ReplicaId,
    pub name: String,
    pub chaos: bool,
    pub replica: RwLock<Replica>,
    pub effects: Effects,
    pub ring: Ring,
    /// What is asked of a quorum.
    pub asks: Asks,
    /// Moves whenever a waiter may have something to see: clocks, disks, reports, failures.
    pub progress: watch::Sender<u64>,
    /// Whether documents wait to be judged anew: the list of conflicts is a moment behind what is read.
    pub judging: watch::Sender<bool>,
    /// The highest own seq on this disk.
    pub durable: AtomicU64,
    /// What every member has, as of a moment ago.
    pub stable: RwLock<Clock>,
    pub blocked: Mutex<BTreeSet<NodeId>>,
    pub trouble: Mutex<Option<String>>,
    pub disk_is_full: AtomicBool,
    pub refused: watch::Sender<Option<Refusal>>,
    /// What this node's member document names as its API, once there is one.
    pub announced_api: Mutex<Option<String>>,
    /// This start has to hear from its cluster first: a newcomer, or one whose store was rebuilt.
    pub awaits_contact: AtomicBool,
    pub known: super::knowledge::Known,
    /// What waits in which queue.
    pub board: Mutex<super::board::Board>,
    pub accounts: super::capacity::Accounts,
    /// VMs that were found to be run by two hosts, since this start.
    pub split_brains: AtomicU64,
    /// Held while the advisor is trained here.
    pub training: tokio::sync::Mutex<()>,
    pub stopping: watch::Sender<bool>,
    pub stopped: watch::Sender<bool>,
    pub started: Instant,
    keys: Mutex<(usize, Arc<FxHashMap<u64, Slot>>)>,
}

/// Why a node cannot leave its cluster. It is still a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveError {
    #[error("this node is shutting down")]
    ShuttingDown,
    #[error("the farewell could not be written: {detail}")]
    Storage { detail: String },
    #[error("{0}")]
    Fenced(String),
}

impl Inner {
    pub fn new(replica: Replica, effects: Effects, chaos: bool, awaits_contact: bool) -> Self {
        let id = replica.id();
        let (low, _) = id.incarnation.0.split_first_chunk().unwrap_or((&[0; 4], &[]));
        Self {
            id,
            name: replica.config().name.clone(),
            chaos,
            replica: RwLock::new(replica),
            effects,
            asks: Asks::default(),
            ring: Ring::new(u32::from_le_bytes(*low)),
            progress: watch::channel(0).0,
            judging: watch::channel(false).0,
            durable: AtomicU64::new(0),
            stable: RwLock::default(),
            blocked: Mutex::default(),
            trouble: Mutex::default(),
            disk_is_full: AtomicBool::new(false),
            refused: watch::channel(None).0,
            announced_api: Mutex::default(),
            awaits_contact: AtomicBool::new(awaits_contact),
            known: super::knowledge::Known::default(),
            board: Mutex::default(),
            accounts: super::capacity::Accounts::default(),
            split_brains: AtomicU64::new(0),
            training: tokio::sync::Mutex::default(),
            stopping: watch::channel(false).0,
            stopped: watch::channel(false).0,
            started: Instant::now(),
            keys: Mutex::default(),
        }
    }

    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { wall_ms: wall.as_millis() as u64, mono_us: self.started.elapsed().as_micros() as u64 }
    }

    /// The one way to change the replica: one step, then its outputs, in order, under the same lock.
    pub fn with_replica<R>(&self, step: impl FnOnce(&mut Replica, Now) -> R) -> R {
        let mut replica = self.replica.write();
        let result = step(&mut replica, self.now());
        let outputs: Vec<_> = replica.drain().collect();
        for output in outputs {
            self.carry_out(output, &replica);
        }
        let is_behind = replica.conflicts().is_behind();
        self.judging.send_if_modified(|judging| std::mem::replace(judging, is_behind) != is_behind);
        result
    }

    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    pub fn moved(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    /// Why a write would not be kept, if so: refused before anything is done.
    pub fn storage_trouble(&self) -> Option<WriteError> {
        let full = self.disk_is_full.load(Ordering::Relaxed);
        let trouble = self.trouble.lock().clone();
        match (full, trouble) {
            (true, detail) => Some(WriteError::StorageFull {
                detail: detail.unwrap_or_else(|| {
                    format!(
                        "less than {} MiB are free on the data directory's disk; nothing was written",
                        FREE_BYTES_MIN >> 20
                    )
                }),
            }),
            (false, Some(detail)) => Some(WriteError::Storage { detail: format!("{detail}; nothing was written") }),
            (false, None) => None,
        }
    }

    /// Whether own ops up to `seq` are on this disk.
    pub fn is_durable(&self, seq: u64) -> bool {
        self.durable.load(Ordering::Acquire) >= seq
    }

    /// Waits until `is_durable`, or until the store fails.
    pub async fn wait_durable(&self, is_durable: impl Fn() -> bool, wait: Duration) -> Result<(), WriteError> {
        let mut progress = self.progress.subscribe();
        let settled =
            async { while !is_durable() && self.trouble.lock().is_none() && progress.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(wait, settled).await;
        if is_durable() {
            return Ok(());
        }
        let applied = "the write is applied here and gossiped, but is not on this disk; it is tried again";
        let full = self.disk_is_full.load(Ordering::Relaxed);
        match self.trouble.lock().clone() {
            Some(detail) if full => Err(WriteError::StorageFull { detail: format!("{detail}; {applied}") }),
            Some(detail) => Err(WriteError::Storage { detail: format!("{detail}; {applied}") }),
            None => Err(WriteError::Storage { detail: format!("no answer within {} s; {applied}", wait.as_secs()) }),
        }
    }

    /// Slots by the short names that tokens use.
    pub fn replica_keys(&self, roster: &Roster) -> Arc<FxHashMap<u64, Slot>> {
        let mut keys = self.keys.lock();
        if keys.0 != roster.len() {
            let fresh = roster.iter().map(|(slot, id)| (replica_key(id), slot)).collect();
            *keys = (roster.len(), Arc::new(fresh));
        }
        keys.1.clone()
    }
}

impl Node {
    pub fn id(&self) -> NodeId {
        self.inner.id.node
    }

    /// This start's incarnation.
    pub fn replica(&self) -> ReplicaId {
        self.inner.id
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Where peers can reach this node, as multiaddrs with its id.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.inner.effects.net().map(crate::net::Handle::listen_addresses).unwrap_or_default()
    }

    pub(super) fn now(&self) -> Now {
        self.inner.now()
    }

    /// This host's clock.
    pub fn wall_ms(&self) -> u64 {
        self.now().wall_ms
    }

    pub fn chaos_enabled(&self) -> bool {
        self.inner.chaos
    }

    /// Replaces the set of peers whose connections are closed and refused.
    pub fn set_blocked(&self, peers: BTreeSet<NodeId>) {
        self.inner.blocked.lock().clone_from(&peers);
        self.inner.effects.block(peers);
    }

    /// Leaves out of a token what every member has anyway.
    pub fn compact(&self, token: &mut Token) {
        let replica = self.inner.replica.read();
        let keys = self.inner.replica_keys(&replica.state().roster);
        let stable = self.inner.stable.read();
        token.retain(|key, seq| keys.get(&key).is_none_or(|slot| stable.get(*slot) < seq));
    }

    /// Why this node should not be sent requests yet; empty when it should.
    pub fn readiness(&self) -> Vec<String> {
        let replica = self.inner.replica.read();
        let mut reasons = Vec::new();
        if replica.cluster().is_none() {
            reasons.push("no cluster yet: none of the --join addresses answered".to_owned());
        } else if self.inner.awaits_contact.load(Ordering::Relaxed) {
            reasons.push("catching up: this node has not yet received the cluster's state".to_owned());
        }
        if let Some(trouble) = self.inner.storage_trouble() {
            reasons.push(trouble.to_string());
        }
        if self.inner.is_stopping() {
            reasons.push("shutting down".to_owned());
        }
        reasons
    }

    /// Leaves the cluster for good: tells the members, waits until one of them has it on its disk, and stops.
    pub async fn leave(&self) -> Result<(), LeaveError> {
        if self.inner.is_stopping() {
            return Err(LeaveError::ShuttingDown);
        }
        let storage = |detail: String| LeaveError::Storage { detail };
        // Not to be told again: it would say that this node is there.
        let announced = self.inner.announced_api.lock().take();
        let farewell = self.inner.with_replica(|replica, now| replica.announce_leaving(now)).map_err(|error| {
            *self.inner.announced_api.lock() = announced;
            match error {
                write::WriteError::Fenced { .. } => LeaveError::Fenced(error.to_string()),
                error => storage(error.to_string()),
            }
        });
        if let Some(seq) = farewell? {
            let durable = self.inner.wait_durable(|| self.inner.is_durable(seq), Duration::from_secs(5)).await;
            durable.map_err(|error| storage(error.to_string()))?;
            let mut progress = self.inner.progress.subscribe();
            let heard = || {
                let replica = self.inner.replica.read();
                replica.replicated(seq) > 1 || replica.neighbour_count() == 0
            };
            let told = async { while !heard() && progress.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
        }
        self.inner.stopping.send_replace(true);
        Ok(())
    }

    /// Resolves once the node was told to stop: by [`Node::shutdown`], or because it left.
    pub async fn stopping(&self) {
        let _ = self.inner.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Stops: no more writes; what was written goes to the disk and to the neighbours. Within 10 s.
    pub async fn shutdown(&self) {
        self.inner.stopping.send_replace(true);
        self.inner.flush_to_disk(Duration::from_secs(5)).await;
        self.inner.effects.stop_network().await;
        self.inner.effects.stop_disk().await;
        self.inner.stopped.send_replace(true);
    }
}
