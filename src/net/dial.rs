//! Whom to dial, and when. Pure: time and chance are handed in, and nothing here touches the network.
//!
//! Peers of the *book* and *seeds* are dialled for ever. *Strangers* (discovered, or met because they dialled us) are
//! dialled too, but forgotten after some time without success. A failed attempt doubles the wait, with jitter so that a
//! fleet does not knock in step; while a partition is known (`urgent`) no wait is longer than a second. Success is a
//! link that lived a while, not a connection: who refuses us accepts the connection first.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::Multiaddr;

use super::address::{ADDRESSES_MAX, with_peer};
use super::event::{PeerInfo, PeerState};
use crate::clock::NodeId;

const URGENT_MS_MAX: u64 = 1_000;
/// Before the first attempt after a loss: long enough that both ends rarely dial at once, short enough not to be noticed.
const FIRST_JITTER_MS: u64 = 50;
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

/// Exponential, with jitter.
#[derive(Debug)]
struct Backoff {
    ms_min: u64,
    ms_max: u64,
    random: u64,
}

impl Backoff {
    fn wait(&mut self, failures: u32, urgent: bool) -> u64 {
        if failures == 0 {
            return self.below(FIRST_JITTER_MS);
        }
        let doubled = self.ms_min.saturating_mul(1 << (failures - 1).min(20)).min(self.ms_max);
        let capped = if urgent { doubled.min(URGENT_MS_MAX) } else { doubled };
        capped / 2 + self.below(capped / 2 + 1)
    }

    /// xorshift64*: spreading knocks needs no better chance.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound.max(1)
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
        let backoff = Backoff { ms_min: backoff_ms.0, ms_max: backoff_ms.1, random: random | 1 };
        let mut planner = Self {
            local,
            allow: None,
            blocked: BTreeSet::new(),
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
        self.admits(id)
            && self.has_address(id, peer)
            && (peer.book.is_some() || self.is_seed(id) || self.stranger_links() < STRANGER_LINKS_MAX)
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
mod tests {
    use super::*;

    const MS: (u64, u64) = (200, 30_000);

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn addr(n: u16) -> Multiaddr {
        format!("/ip4/10.0.0.1/tcp/{n}").parse().unwrap()
    }

    fn planner(seeds: Vec<(Multiaddr, Option<NodeId>)>) -> Planner {
        Planner::new(node(0), seeds, MS, 42)
    }

    fn with_book(peers: &[u8]) -> Planner {
        let mut planner = planner(Vec::new());
        planner.set_book(peers.iter().map(|n| (node(*n), vec![addr(u16::from(*n))])).collect(), 0);
        planner
    }

    fn targets(dials: Vec<Dial>) -> Vec<Target> {
        dials.into_iter().map(|dial| dial.target).collect()
    }

    /// Fails every attempt with peer 1 until `end`; the gaps between the starts of attempts.
    fn gaps(planner: &mut Planner, end: u64) -> Vec<u64> {
        let (mut now, mut last, mut gaps) = (0, None, Vec::new());
        while now < end {
            if !planner.due(now).is_empty() {
                gaps.extend(last.map(|last| now - last));
                last = Some(now);
                planner.on_failed(&Target::Peer(node(1)), "refused", now + 1);
            }
            now = planner.next_at().unwrap().max(now + 1);
        }
        gaps
    }

    #[test]
    fn failures_double_the_wait_up_to_a_bound_and_never_end() {
        let gaps = gaps(&mut with_book(&[1]), 3_600_000);
        assert!(gaps[0] >= 100 && gaps[0] <= 200, "{gaps:?}");
        assert!(gaps.iter().all(|gap| *gap <= 30_000));
        assert!(gaps[10..].iter().all(|gap| *gap >= 15_000));
        assert!(gaps.len() >= 120, "still dialled after an hour");
    }

    #[test]
    fn urgency_caps_every_wait_at_a_second() {
        let mut planner = with_book(&[1]);
        gaps(&mut planner, 600_000);
        assert!(planner.next_at().unwrap() > 601_000);
        planner.set_urgent(true, 600_000);
        assert!(planner.next_at().unwrap() <= 601_000);
        assert!(gaps(&mut planner, 900_000)[1..].iter().all(|gap| *gap <= 1_000));
    }

    #[test]
    fn an_attempt_that_hung_has_already_waited() {
        let mut planner = with_book(&[1]);
        planner.set_urgent(true, 0);
        assert_eq!(planner.due(0).len(), 1);
        assert!(planner.due(5_000).is_empty(), "one attempt at a time");
        planner.on_failed(&Target::Peer(node(1)), "timed out", 1_500);
        assert_eq!(planner.next_at(), Some(1_550));
    }

    #[test]
    fn a_stable_link_is_sought_again_at_once_a_flapping_one_is_not() {
        let mut planner = with_book(&[1]);
        let mut now = 0;
        for flap in 0..6 {
            now = planner.next_at().unwrap();
            assert_eq!(planner.due(now).len(), 1, "flap {flap}");
            planner.on_connected(node(1), Some(&Target::Peer(node(1))), now);
            planner.on_link_up(node(1), now);
            planner.on_link_down(node(1), false, "closed", now + 10);
        }
        assert!(planner.next_at().unwrap() >= now + 1_000);
        now = planner.next_at().unwrap();
        planner.due(now);
        planner.on_connected(node(1), None, now);
        planner.on_link_up(node(1), now);
        planner.on_link_down(node(1), true, "lost", now + 60_000);
        planner.on_disconnected(node(1), "lost", now + 60_000);
        assert!(planner.next_at().unwrap() <= now + 60_000 + FIRST_JITTER_MS);
    }

    #[test]
    fn a_peer_that_lets_us_connect_and_hangs_up_is_backed_off_from() {
        let mut planner = with_book(&[1]);
        let mut now = 0;
        for _ in 0..8 {
            now = planner.next_at().unwrap();
            planner.due(now);
            planner.on_connected(node(1), None, now);
            planner.on_disconnected(node(1), "closed", now);
        }
        assert!(planner.next_at().unwrap() >= now + 10_000);
    }

    #[test]
    fn the_blocked_are_left_alone_and_dialled_when_released() {
        let mut planner = with_book(&[1, 2]);
        planner.set_blocked([node(1)].into(), 0);
        assert_eq!(targets(planner.due(0)), [Target::Peer(node(2))]);
        assert!(!planner.admits(&node(1)));
        assert_eq!(planner.next_at(), None);
        planner.set_blocked(BTreeSet::new(), 90_000);
        assert_eq!(targets(planner.due(90_000)), [Target::Peer(node(1))]);
    }

    #[test]
    fn only_the_allowed_are_dialled_and_never_this_node() {
        let mut planner = with_book(&[0, 1, 2]).with_allow(Some([node(0), node(2)].into()));
        assert!(!planner.on_discovered(node(3), vec![addr(3)], 0));
        assert_eq!(targets(planner.due(0)), [Target::Peer(node(2))]);
    }

    #[test]
    fn a_seed_learns_who_answers_and_forgets_when_somebody_else_does() {
        let mut planner = planner(vec![(addr(7), None)]);
        assert_eq!(targets(planner.due(0)), [Target::Seed(0)]);
        planner.on_connected(node(1), Some(&Target::Seed(0)), 1);
        planner.on_link_up(node(1), 1);
        assert_eq!(planner.next_at(), None);
        planner.on_link_down(node(1), false, "gone", 10_000);
        let dials = planner.due(11_000);
        assert_eq!(dials, [Dial { target: Target::Peer(node(1)), addresses: vec![addr(7)] }]);
        planner.on_wrong_peer(node(1), &addr(7), node(2));
        planner.on_failed(&Target::Peer(node(1)), "wrong peer", 11_000);
        assert_eq!(targets(planner.due(11_001)), [Target::Seed(0)]);
    }

    #[test]
    fn a_seed_that_is_this_node_is_not_dialled_again() {
        let mut planner = planner(vec![(addr(7), None), (addr(8), Some(node(0)))]);
        assert_eq!(targets(planner.due(0)), [Target::Seed(0)]);
        planner.on_self(&addr(7));
        planner.on_failed(&Target::Seed(0), "self", 0);
        assert_eq!(planner.next_at(), None);
    }

    #[test]
    fn strangers_are_forgotten_and_members_are_not() {
        let mut planner = with_book(&[1]);
        assert!(planner.on_discovered(node(2), vec![addr(2)], 0));
        assert!(!planner.on_discovered(node(2), vec![addr(2)], 0), "no news");
        planner.due(100);
        for n in [1, 2] {
            planner.on_failed(&Target::Peer(node(n)), "refused", 101);
        }
        planner.due(STRANGER_MS_MAX + 1);
        let known: Vec<_> = planner.peers(0).into_iter().map(|info| info.peer).collect();
        assert_eq!(known, [node(1)]);
    }

    #[test]
    fn the_table_of_peers_is_bounded() {
        let mut planner = planner(Vec::new()).with_peers_max(10);
        for n in 1..100 {
            planner.on_discovered(node(n), vec![addr(u16::from(n))], 0);
        }
        assert_eq!(planner.peers(0).len(), 10);
        planner.due(100);
        assert!(!planner.on_discovered(node(200), vec![addr(200)], 0), "all are being dialled");
    }

    #[test]
    fn a_failure_is_told_once_in_a_while() {
        let mut planner = with_book(&[1]);
        let mut told = 0;
        let mut now = 0;
        planner.set_urgent(true, 0);
        while now < 30_000 {
            planner.due(now);
            told += u32::from(planner.on_failed(&Target::Peer(node(1)), "refused", now));
            now = planner.next_at().unwrap();
        }
        assert_eq!(told, 3);
    }
}
