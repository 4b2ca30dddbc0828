//! Whom to dial, and when. Pure: time and chance are handed in, and nothing here touches the network.
//!
//! Peers of the *book* and *seeds* are dialled for ever. *Strangers* (discovered, or met because they dialled us) are
//! dialled too, but forgotten after some time without success. A failed attempt doubles the wait, with jitter so that a
//! fleet does not knock in step; while a partition is known (`urgent`) no wait is longer than a second. Success is a
//! link that lived a while, not a connection: who refuses us accepts the connection first.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::Multiaddr;

use super::address::{ADDRESSES_MAX, with_peer};
use super::backoff::{Backoff, FIRST_JITTER_MS, URGENT_MS_MAX};
use super::event::{PeerInfo, PeerState};
use crate::clock::NodeId;

/// A link that lived less long counts as a failed attempt, so that a peer that drops us at once is not hammered.
const STABLE_MS: u64 = 2_000;
/// Strangers out of reach for so long are forgotten…
const STRANGER_MS_MAX: u64 = 600_000;
/// …and only so many links are sought with them. Who needs more puts them into the book.
const STRANGER_LINKS_MAX: usize = 32;
/// Attempts under way at once.
const DIALS_MAX: usize = 64;
/// One failure per peer is told in this time.
const TELL_EVERY_MS: u64 = 10_000;

/// Whom an attempt is aimed at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Peer(NodeId),
    /// A seed whose id is not known (yet): its place in the configuration.
    Seed(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dial {
    pub target: Target,
    pub addresses: Vec<Multiaddr>,
}

#[derive(Debug)]
pub(super) struct Planner {
    local: NodeId,
    allow: Option<BTreeSet<NodeId>>,
    blocked: BTreeSet<NodeId>,
    /// Others keep in touch with them.
    spared: BTreeSet<NodeId>,
    peers: BTreeMap<NodeId, Peer>,
    seeds: Vec<Seed>,
    urgent: bool,
    backoff: Backoff,
    peers_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting {
        at: u64,
    },
    Dialling {
        since: u64,
    },
    /// A connection without a link: not yet, or `lost` and to be opened anew.
    Connected {
        lost: bool,
    },
    Linked {
        since: u64,
    },
}

#[derive(Debug)]
struct Attempts {
    progress: Progress,
    failures: u32,
    last_error: Option<String>,
    told_at: Option<u64>,
}

#[derive(Debug)]
struct Peer {
    book: Option<Vec<Multiaddr>>,
    found: Vec<Multiaddr>,
    attempts: Attempts,
    /// When it was last linked or first heard of.
    seen_at: u64,
}

#[derive(Debug)]
struct Seed {
    address: Multiaddr,
    /// From the configuration: never given up. Learned: until somebody else answers there.
    configured: Option<NodeId>,
    learned: Option<NodeId>,
    is_self: bool,
    attempts: Attempts,
}

impl Seed {
    fn peer(&self) -> Option<NodeId> {
        self.configured.or(self.learned)
    }
}

impl Planner {
    pub fn new(local: NodeId, seeds: Vec<(Multiaddr, Option<NodeId>)>, backoff_ms: (u64, u64), random: u64) -> Self {
        let seeds: Vec<_> = seeds
            .into_iter()
            .map(|(address, configured)| {
                let is_self = configured == Some(local);
                Seed { address, configured, learned: None, is_self, attempts: Attempts::at(0) }
            })
            .collect();
        let backoff = Backoff::new(backoff_ms, random);
        let mut planner = Self {
            local,
            allow: None,
            blocked: BTreeSet::new(),
            spared: BTreeSet::new(),
            peers: BTreeMap::new(),
            seeds,
            urgent: false,
            backoff,
            peers_max: usize::MAX,
        };
        for peer in planner.seeds.iter().filter_map(|seed| seed.configured).collect::<Vec<_>>() {
            planner.entry(peer, 0);
        }
        planner
    }

    pub fn with_allow(mut self, allow: Option<BTreeSet<NodeId>>) -> Self {
        self.allow = allow;
        self
    }

    pub fn with_peers_max(mut self, peers_max: usize) -> Self {
        self.peers_max = peers_max;
        self
    }

    // What the node wishes.

    pub fn set_book(&mut self, book: BTreeMap<NodeId, Vec<Multiaddr>>, now: u64) {
        for (id, peer) in &mut self.peers {
            if peer.book.is_some() && !book.contains_key(id) {
                peer.book = None;
                peer.seen_at = now;
            }
        }
        for (id, addresses) in book {
            if let Some(peer) = self.entry(id, now) {
                // A new address is worth an attempt now, whatever the old ones did.
                let fresh = addresses.iter().any(|address| !peer.addresses().contains(&address));
                if fresh && let Progress::Waiting { at } = &mut peer.attempts.progress {
                    *at = (*at).min(now);
                }
                peer.book = Some(addresses);
            }
        }
    }

    pub fn set_spared(&mut self, spared: BTreeSet<NodeId>) {
        self.spared = spared;
    }

    pub fn set_blocked(&mut self, blocked: BTreeSet<NodeId>, now: u64) {
        let released: Vec<_> = self.blocked.difference(&blocked).copied().collect();
        self.blocked = blocked;
        for id in released {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.attempts.failures = 0;
                if let Progress::Waiting { at } = &mut peer.attempts.progress {
                    *at = now;
                }
            }
        }
        // A seed of unknown id may be the one that was released.
        for seed in &mut self.seeds {
            if let Progress::Waiting { at } = &mut seed.attempts.progress {
                *at = (*at).min(now + FIRST_JITTER_MS);
            }
        }
    }

    pub fn set_urgent(&mut self, urgent: bool, now: u64) {
        let turned_on = urgent && !self.urgent;
        self.urgent = urgent;
        if !turned_on {
            return;
        }
        for attempts in self.all_attempts() {
            if let Progress::Waiting { at } = &mut attempts.progress {
                // Spread over the second by what the jitter had left.
                *at = (*at).min(now + *at % URGENT_MS_MAX);
            }
        }
    }

    pub fn blocked(&self) -> &BTreeSet<NodeId> {
        &self.blocked
    }

    /// Whether a link with this peer is wanted at all.
    pub fn admits(&self, peer: &NodeId) -> bool {
        *peer != self.local
            && !self.blocked.contains(peer)
            && self.allow.as_ref().is_none_or(|allow| allow.contains(peer))
    }

    /// Whether this node itself seeks a link with this peer. Whoever has lost everyone begins with anyone.
    pub fn seeks(&self, peer: &NodeId) -> bool {
        self.admits(peer) && (!self.spared.contains(peer) || !self.is_linked())
    }

    // What the network tells.

    /// Where a peer may be found. True if that is news.
    pub fn on_discovered(&mut self, id: NodeId, addresses: Vec<Multiaddr>, now: u64) -> bool {
        if addresses.is_empty() || id == self.local || self.allow.as_ref().is_some_and(|allow| !allow.contains(&id)) {
            return false;
        }
        let Some(peer) = self.entry(id, now) else { return false };
        let fresh: Vec<_> = addresses.iter().filter(|address| !peer.found.contains(address)).cloned().collect();
        if fresh.is_empty() {
            return false;
        }
        // The newest first: a peer that moved is where it says now.
        peer.found.splice(0..0, fresh);
        peer.found.truncate(ADDRESSES_MAX);
        if let Progress::Waiting { at } = &mut peer.attempts.progress {
            *at = (*at).min(now + FIRST_JITTER_MS);
        }
        true
    }

    /// A connection stands, dialled by either side; `seed` if it was aimed at one.
    pub fn on_connected(&mut self, id: NodeId, target: Option<&Target>, now: u64) {
        if let Some(Target::Seed(index)) = target
            && let Some(seed) = self.seeds.get_mut(*index)
        {
            seed.learned = Some(id);
            seed.attempts = Attempts::at(now);
        }
        if let Some(peer) = self.entry(id, now)
            && !matches!(peer.attempts.progress, Progress::Linked { .. })
        {
            peer.attempts.progress = Progress::Connected { lost: false };
        }
    }

    pub fn on_link_up(&mut self, id: NodeId, now: u64) {
        if let Some(peer) = self.entry(id, now) {
            peer.attempts.progress = Progress::Linked { since: now };
        }
    }

    /// The link ended. If the connection still stands it will be opened anew on it.
    pub fn on_link_down(&mut self, id: NodeId, connected: bool, reason: &str, now: u64) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Progress::Linked { since } = peer.attempts.progress {
            peer.seen_at = now;
            peer.attempts.last_error = Some(reason.to_owned());
            peer.attempts.failures = if now - since >= STABLE_MS { 0 } else { peer.attempts.failures + 1 };
            peer.attempts.progress = Progress::Connected { lost: true };
        }
        if !connected && matches!(peer.attempts.progress, Progress::Connected { .. }) {
            self.wait(id, now);
        }
    }

    /// The last connection of a peer is gone.
    pub fn on_disconnected(&mut self, id: NodeId, reason: &str, now: u64) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match peer.attempts.progress {
            Progress::Linked { .. } => self.on_link_down(id, false, reason, now),
            Progress::Connected { lost } => {
                // What a lost link says about the peer was counted when it ended.
                peer.attempts.failures += u32::from(!lost);
                peer.attempts.last_error = Some(reason.to_owned());
                self.wait(id, now);
            }
            Progress::Waiting { .. } | Progress::Dialling { .. } => {}
        }
    }

    fn wait(&mut self, id: NodeId, now: u64) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let at = now + self.backoff.wait(peer.attempts.failures, self.urgent);
        peer.attempts.progress = Progress::Waiting { at };
    }

    /// An attempt failed. True if that should be told.
    pub fn on_failed(&mut self, target: &Target, reason: &str, now: u64) -> bool {
        let attempts = match target {
            Target::Peer(id) => self.peers.get_mut(id).map(|peer| &mut peer.attempts),
            Target::Seed(index) => self.seeds.get_mut(*index).map(|seed| &mut seed.attempts),
        };
        let Some(attempts) = attempts else { return false };
        let Progress::Dialling { since } = attempts.progress else { return false };
        attempts.failures += 1;
        attempts.last_error = Some(reason.to_owned());
        // From the start of the attempt: one that hung for a second has already waited.
        let at = since + self.backoff.wait(attempts.failures, self.urgent);
        attempts.progress = Progress::Waiting { at: at.max(now + FIRST_JITTER_MS) };
        let tell = attempts.told_at.is_none_or(|told| now >= told + TELL_EVERY_MS);
        if tell {
            attempts.told_at = Some(now);
        }
        tell
    }

    /// Somebody else answered at that address.
    pub fn on_wrong_peer(&mut self, expected: NodeId, address: &Multiaddr, obtained: NodeId) {
        if let Some(peer) = self.peers.get_mut(&expected) {
            peer.found.retain(|found| found != address);
        }
        for seed in self.seeds.iter_mut().filter(|seed| seed.address == *address) {
            seed.learned = None;
            seed.is_self = obtained == self.local;
        }
    }

    /// This node answered itself at that address.
    pub fn on_self(&mut self, address: &Multiaddr) {
        for peer in self.peers.values_mut() {
            peer.found.retain(|found| found != address);
        }
        for seed in self.seeds.iter_mut().filter(|seed| seed.address == *address) {
            seed.is_self = true;
        }
    }

    /// The transport starts afresh: nobody is connected.
    pub fn reset(&mut self, now: u64) {
        for attempts in self.all_attempts() {
            attempts.progress = Progress::Waiting { at: now };
        }
    }

    // What is to be done.

    /// The dials that are due. They count as under way from now on.
    pub fn due(&mut self, now: u64) -> Vec<Dial> {
        self.forget(now);
        let under_way = self.all_attempts().filter(|a| matches!(a.progress, Progress::Dialling { .. })).count();
        let mut room = DIALS_MAX.saturating_sub(under_way);
        let mut dials = Vec::new();
        for id in self.waiting(now) {
            let addresses = self.addresses(&id);
            let Some(peer) = self.peers.get_mut(&id).filter(|_| room > 0 && !addresses.is_empty()) else { continue };
            peer.attempts.progress = Progress::Dialling { since: now };
            dials.push(Dial { target: Target::Peer(id), addresses });
            room -= 1;
        }
        for (index, seed) in self.seeds.iter_mut().enumerate() {
            if room > 0 && seed.peer().is_none() && !seed.is_self && seed.attempts.is_due(now) {
                seed.attempts.progress = Progress::Dialling { since: now };
                dials.push(Dial { target: Target::Seed(index), addresses: vec![seed.address.clone()] });
                room -= 1;
            }
        }
        dials
    }

    /// When `due` should be asked next, if nothing else happens.
    pub fn next_at(&self) -> Option<u64> {
        let waits = |peer: &Peer| matches!(peer.attempts.progress, Progress::Waiting { .. });
        let peers = self.peers.iter().filter(|(id, peer)| waits(peer) && self.dialable(id, peer));
        let peers = peers.map(|(_, peer)| &peer.attempts);
        let seeds = self.seeds.iter().filter(|seed| seed.peer().is_none() && !seed.is_self).map(|seed| &seed.attempts);
        peers.chain(seeds).filter_map(Attempts::waits_until).min()
    }

    /// The table of peers, without what only the links know.
    pub fn peers(&self, now: u64) -> Vec<PeerInfo> {
        let rows = self.peers.iter().map(|(id, peer)| PeerInfo {
            peer: *id,
            state: match peer.attempts.progress {
                Progress::Linked { .. } => PeerState::Linked,
                Progress::Dialling { .. } | Progress::Connected { .. } => PeerState::Dialling,
                Progress::Waiting { at } if self.dialable(id, peer) => {
                    PeerState::Waiting { retry_ms: at.saturating_sub(now) }
                }
                Progress::Waiting { .. } => PeerState::Idle,
            },
            link: None,
            outbound: false,
            blocked: self.blocked.contains(id),
            in_book: peer.book.is_some(),
            addresses: self.addresses(id).iter().map(|address| with_peer(address, id)).collect(),
            bytes_in: 0,
            bytes_out: 0,
            queue_bytes: 0,
            failures: peer.attempts.failures,
            last_error: peer.attempts.last_error.clone(),
        });
        rows.collect()
    }

    fn waiting(&self, now: u64) -> Vec<NodeId> {
        let due = |(id, peer): &(&NodeId, &Peer)| peer.attempts.is_due(now) && self.dialable(id, peer);
        self.peers.iter().filter(due).map(|(id, _)| *id).collect()
    }

    fn dialable(&self, id: &NodeId, peer: &Peer) -> bool {
        self.seeks(id)
            && self.has_address(id, peer)
            && (peer.book.is_some() || self.is_seed(id) || self.stranger_links() < STRANGER_LINKS_MAX)
    }

    fn is_linked(&self) -> bool {
        self.peers.values().any(|peer| matches!(peer.attempts.progress, Progress::Linked { .. }))
    }

    fn has_address(&self, id: &NodeId, peer: &Peer) -> bool {
        !peer.addresses().is_empty() || self.is_seed(id)
    }

    fn stranger_links(&self) -> usize {
        self.peers
            .values()
            .filter(|peer| peer.book.is_none() && matches!(peer.attempts.progress, Progress::Linked { .. }))
            .count()
    }

    fn is_seed(&self, id: &NodeId) -> bool {
        self.seeds.iter().any(|seed| seed.peer() == Some(*id))
    }

    fn addresses(&self, id: &NodeId) -> Vec<Multiaddr> {
        let seeds = self.seeds.iter().filter(|seed| seed.peer() == Some(*id)).map(|seed| &seed.address);
        let known = self.peers.get(id).map(Peer::addresses).unwrap_or_default();
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in seeds.chain(known) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        addresses
    }

    /// The peer's row. `None` if it is this node, or a stranger for whom there is no room.
    fn entry(&mut self, id: NodeId, now: u64) -> Option<&mut Peer> {
        if id == self.local {
            return None;
        }
        if !self.peers.contains_key(&id) && self.peers.len() >= self.peers_max {
            let unlinked =
                |peer: &Peer| peer.book.is_none() && matches!(peer.attempts.progress, Progress::Waiting { .. });
            let victim = self
                .peers
                .iter()
                .filter(|(id, peer)| unlinked(peer) && !self.is_seed(id))
                .max_by_key(|(_, peer)| peer.attempts.failures)
                .map(|(id, _)| *id);
            self.peers.remove(&victim?);
        }
        let fresh = || Peer { book: None, found: Vec::new(), attempts: Attempts::at(now), seen_at: now };
        Some(self.peers.entry(id).or_insert_with(fresh))
    }

    fn forget(&mut self, now: u64) {
        let Self { peers, seeds, blocked, .. } = self;
        peers.retain(|id, peer| {
            peer.book.is_some()
                || !matches!(peer.attempts.progress, Progress::Waiting { .. })
                || now < peer.seen_at + STRANGER_MS_MAX
                || blocked.contains(id)
                || seeds.iter().any(|seed| seed.peer() == Some(*id))
        });
    }

    fn all_attempts(&mut self) -> impl Iterator<Item = &mut Attempts> {
        let peers = self.peers.values_mut().map(|peer| &mut peer.attempts);
        peers.chain(self.seeds.iter_mut().map(|seed| &mut seed.attempts))
    }
}

impl Peer {
    fn addresses(&self) -> Vec<&Multiaddr> {
        self.found.iter().chain(self.book.iter().flatten()).collect()
    }
}

impl Attempts {
    fn at(at: u64) -> Self {
        Self { progress: Progress::Waiting { at }, failures: 0, last_error: None, told_at: None }
    }

    fn waits_until(&self) -> Option<u64> {
        match self.progress {
            Progress::Waiting { at } => Some(at),
            _ => None,
        }
    }

    fn is_due(&self, now: u64) -> bool {
        self.waits_until().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests;
