//! The real effects: what a simulator does in virtual time happens here on sockets, disks and clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::handle::{Inner, Node};
use super::watch::ConflictNote;
use crate::clock::NodeId;
use crate::conflict::Conflict;
use crate::conflict::policy::To;
use crate::domain::vms::ONE_HOST;
use crate::engine::io::Signed;
use crate::engine::keys::Keys;
use crate::engine::persist::WriteBatch;
use crate::engine::{Event, Input, LinkId, Output, Replica, Ticket};
use crate::net;
use crate::store::{DataDir, Durability, Store, StoreError};

/// Below this many free bytes writes are refused, while the store still has room to finish what it began.
pub const FREE_BYTES_MIN: u64 = 48 << 20;
/// Signatures waiting to be checked. What does not fit is left out: a batch's hash commits to all before it, so the next
/// signature that is checked vouches for those in between.
const CLAIMS_MAX: usize = 4_096;

/// Where outputs go.
pub(super) struct Effects {
    net: Option<net::Handle>,
    disk: Mutex<Option<mpsc::Sender<DiskJob>>>,
    disk_done: watch::Receiver<bool>,
    claims: mpsc::SyncSender<Signed>,
    wake_us: watch::Sender<u64>,
}

/// One in flight at a time: the replica asks for the next only after the last was answered.
struct DiskJob {
    ticket: Ticket,
    rows: Arc<WriteBatch>,
}

/// The other ends of [`Effects`], to be run once there is a node.
pub(super) struct Engines {
    jobs: mpsc::Receiver<DiskJob>,
    disk_done: watch::Sender<bool>,
    claims: mpsc::Receiver<Signed>,
    wake_us: watch::Receiver<u64>,
}

impl Effects {
    pub fn new(net: Option<net::Handle>) -> (Self, Engines) {
        let (disk, jobs) = mpsc::channel();
        let (done, disk_done) = watch::channel(false);
        let (claims, claimed) = mpsc::sync_channel(CLAIMS_MAX);
        let (wake_us, woken) = watch::channel(0);
        let effects = Self { net, disk: Mutex::new(Some(disk)), disk_done, claims, wake_us };
        (effects, Engines { jobs, disk_done: done, claims: claimed, wake_us: woken })
    }

    pub fn net(&self) -> Option<&net::Handle> {
        self.net.as_ref()
    }

    pub fn block(&self, peers: BTreeSet<NodeId>) {
        if let Some(net) = &self.net {
            net.set_blocked(peers);
        }
    }

    pub async fn stop_network(&self) {
        if let Some(net) = &self.net {
            net.clone().shutdown().await;
        }
    }

    /// Lets the disk finish what it has, and closes it.
    pub async fn stop_disk(&self) {
        drop(self.disk.lock().take());
        let _ = tokio::time::timeout(Duration::from_secs(5), self.disk_done.clone().wait_for(|done| *done)).await;
    }
}

impl Engines {
    /// Starts the disk, the timer and the checking of signatures for `inner`.
    pub fn start(self, inner: &Arc<Inner>, store: Box<dyn Store>, dir: Option<DataDir>, keys: Arc<dyn Keys>) {
        let disk = inner.clone();
        let Self { jobs, disk_done, claims, wake_us } = self;
        std::thread::spawn(move || {
            run_disk(&disk, store, &jobs);
            // The directory stays locked until the store is closed.
            drop(dir);
            disk_done.send_replace(true);
        });
        let checker = Arc::downgrade(inner);
        std::thread::spawn(move || {
            while let Ok(claim) = claims.recv() {
                let Some(inner) = checker.upgrade() else { return };
                inner.check(&*keys, &claim);
            }
        });
        tokio::spawn(run_timer(Arc::downgrade(inner), wake_us));
    }
}

fn run_disk(inner: &Inner, mut store: Box<dyn Store>, jobs: &mpsc::Receiver<DiskJob>) {
    while let Ok(DiskJob { ticket, rows }) = jobs.recv() {
        match store.apply(&rows, Durability::Durable) {
            Ok(()) => inner.persisted(ticket),
            Err(error) => inner.persist_failed(ticket, &error),
        }
    }
}

async fn run_timer(inner: std::sync::Weak<Inner>, mut wake_us: watch::Receiver<u64>) {
    loop {
        let at_us = *wake_us.borrow_and_update();
        let Some(node) = inner.upgrade() else { return };
        let wait = Duration::from_micros(at_us.saturating_sub(node.now().mono_us));
        drop(node);
        tokio::select! {
            () = tokio::time::sleep(wait) => {
                let Some(node) = inner.upgrade() else { return };
                node.input(Input::Tick);
                drop(node);
                // Schedule has told the next time by now; a tick that changed nothing waits for it.
                if *wake_us.borrow() == at_us && wake_us.changed().await.is_err() {
                    return;
                }
            }
            changed = wake_us.changed() => if changed.is_err() { return },
        }
    }
}

/// Hands what arrives to the replica until the transport ends.
pub(super) async fn run_network(inner: Arc<Inner>, mut events: tokio::sync::mpsc::Receiver<net::Event>) {
    while let Some(event) = events.recv().await {
        match event {
            net::Event::LinkUp { peer, link, address, .. } => {
                tracing::debug!(peer = %peer.short(), address, "link up");
                inner.input(Input::LinkUp { peer, link: LinkId(link.0) });
            }
            net::Event::LinkDown { peer, link, reason } => {
                tracing::info!(peer = %peer.short(), reason, "link down");
                inner.input(Input::LinkDown { peer, link: LinkId(link.0) });
            }
            net::Event::Message { peer, link, bytes } => {
                inner.input(Input::Message { peer, link: LinkId(link.0), bytes });
            }
            net::Event::Restarted { reason } => tracing::error!(reason, "the transport died and runs again"),
            net::Event::DialFailed { address, reason } => tracing::info!(address, reason, "could not connect"),
            net::Event::Listening { .. } => {
                inner.moved();
                Node { inner: inner.clone() }.announce_again();
            }
            net::Event::Discovered { .. } => {}
        }
    }
}

impl Inner {
    pub fn input(&self, input: Input) {
        self.with_replica(|replica, now| replica.handle(input, now));
    }

    /// Carries out one output. Called under the replica's lock, so nothing here may wait.
    pub fn carry_out(&self, output: Output, replica: &Replica) {
        match output {
            Output::Send { peer, link, message } => {
                if let Some(net) = &self.effects.net
                    && let Err(error) = net.send(peer, net::LinkId(link.0), message)
                {
                    tracing::debug!(peer = %peer.short(), %error, "not sent");
                }
            }
            Output::Disconnect { peer, link, reason } => {
                tracing::warn!(peer = %peer.short(), reason, "hanging up");
                if let Some(net) = &self.effects.net {
                    net.close(peer, net::LinkId(link.0), &reason);
                }
            }
            Output::Persist { ticket, rows } => {
                if let Some(disk) = &*self.effects.disk.lock() {
                    let _ = disk.send(DiskJob { ticket, rows });
                }
            }
            Output::Schedule { at_us } => {
                self.effects.wake_us.send_replace(at_us);
            }
            Output::Verify(claim) => {
                let _ = self.effects.claims.try_send(claim);
            }
            Output::Emit(event) => self.on_event(event, replica),
        }
    }

    fn on_event(&self, event: Event, replica: &Replica) {
        match event {
            Event::Changed(names) => {
                if names.iter().any(|name| name.starts_with("members/")) {
                    self.write_book(replica);
                }
                self.ring.push(&names);
                self.moved();
            }
            Event::Durable { seq } => {
                self.durable.fetch_max(seq, Ordering::Release);
                self.moved();
            }
            Event::StorageRecovered => {
                tracing::info!("the store works again");
                *self.trouble.lock() = None;
            }
            Event::StorageFailed { reason } => {
                tracing::error!(reason, "the store failed; it is tried again");
                *self.trouble.lock() = Some(reason);
                self.moved();
            }
            Event::Reported { .. } => self.moved(),
            Event::Liveness { peer, liveness } => tracing::info!(peer = %peer.short(), ?liveness, "peer"),
            Event::Partitioned(unreachable) => {
                if unreachable.is_empty() {
                    tracing::info!("every member can be reached");
                } else {
                    tracing::warn!(members = ?unreachable, "partitioned: members cannot be reached");
                }
                if let Some(net) = &self.effects.net {
                    net.urgent(!unreachable.is_empty());
                }
                self.moved();
            }
            Event::Neighbours => self.write_book(replica),
            Event::ClusterKnown(cluster) => {
                tracing::info!(%cluster, "member of the cluster");
                self.moved();
            }
            Event::Refused { peer, refusal } => {
                tracing::warn!(peer = %peer.short(), ?refusal, "refused by a peer");
                self.refused.send_replace(Some(refusal));
            }
            Event::CaughtUp { peer, cells, bytes, complete, took_ms } => {
                tracing::info!(peer = %peer.short(), cells, bytes, complete, took_ms, "caught up");
                self.awaits_contact.store(false, Ordering::Relaxed);
                self.moved();
            }
            Event::Alarm(alarm) => tracing::error!("{alarm}"),
            Event::ConflictTurned(conflict) => self.ring.push_conflict(ConflictNote::of(&conflict, false)),
            Event::ConflictEscalated(conflict) => {
                let to = conflict.escalated.map_or("", To::name);
                tracing::warn!(id = conflict.id, document = conflict.document, to, "a conflict waited for too long");
            }
            Event::ConflictDetected(conflict) => {
                self.ring.push_conflict(ConflictNote::of(&conflict, false));
                tell_conflict(&conflict);
                if conflict.rule.as_deref() == Some(ONE_HOST) {
                    self.split_brains.fetch_add(1, Ordering::Relaxed);
                }
            }
            Event::Asked { id, outcome } => self.asks.told(id, outcome),
            Event::RegisterChanged(register) => self.asks.changed(register),
            Event::VotersChanged(voters) => {
                let changing = voters.next.is_some();
                tracing::info!(version = voters.version, voters = voters.set.len(), changing, "voters");
                self.write_book(replica);
                self.moved();
            }
            Event::ConflictEnded(conflict) => {
                self.ring.push_conflict(ConflictNote::of(&conflict, true));
                tracing::debug!(id = conflict.id, document = conflict.document, "conflict over");
            }
        }
    }

    /// Members to be linked to are dialled for ever, at the addresses their documents tell.
    fn write_book(&self, replica: &Replica) {
        let Some(net) = &self.effects.net else { return };
        let wanted = replica.wanted_links();
        let members = replica.members().iter().filter(|(id, member)| !member.left && **id != self.id.node);
        let (book, spared): (BTreeMap<_, _>, BTreeMap<_, _>) =
            members.map(|(id, member)| (*id, member.addresses.clone())).partition(|(id, _)| wanted.contains(id));
        net.set_book(book);
        net.set_spared(spared.into_keys().collect());
    }

    /// The members known from the store, at the start.
    pub fn write_book_now(&self) {
        let replica = self.replica.read();
        self.write_book(&replica);
    }

    fn persisted(&self, ticket: Ticket) {
        self.input(Input::Persisted { ticket });
        self.moved();
        let stable = self.replica.read().stable();
        *self.stable.write() = stable;
    }

    fn persist_failed(&self, ticket: Ticket, error: &StoreError) {
        if matches!(error, StoreError::Full { .. }) {
            self.disk_is_full.store(true, Ordering::Relaxed);
        }
        self.input(Input::PersistFailed { ticket, reason: error.to_string() });
    }

    fn check(&self, keys: &dyn Keys, claim: &Signed) {
        if !keys.verify(&claim.replica.node, &claim.hash, &claim.signature) {
            self.input(Input::Forged { replica: claim.replica, seq: claim.seq });
        }
    }

    /// Hands everything written so far to the disk and waits for it.
    pub async fn flush_to_disk(&self, wait: Duration) {
        let mut progress = self.progress.subscribe();
        let done = || {
            let replica = self.replica.read();
            replica.durable().covers_all(&replica.state().clock)
        };
        let flushed = async { while !done() && progress.changed().await.is_ok() {} };
        if tokio::time::timeout(wait, flushed).await.is_err() {
            tracing::error!("not everything reached the disk before the end");
        }
    }
}

/// What waits for somebody is worth a word; what settles by itself is not.
fn tell_conflict(conflict: &Conflict) {
    let Conflict { id, document, class, .. } = conflict;
    let field = conflict.field.as_deref().or(conflict.rule.as_deref()).unwrap_or_default();
    match conflict.status.waits() {
        true => tracing::warn!(id, document, field, class = class.name(), "a conflict waits to be settled"),
        false => tracing::debug!(id, document, field, class = class.name(), "a conflict settled by its resolver"),
    }
}
