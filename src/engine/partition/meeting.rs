//! The moment in which two meet again: what one has and the other lacks.
//!
//! The first heartbeat on a new link reports all that is on the peer's disk. What lies between that and this node's own
//! clock is what happened meanwhile: dots that the peer lacks, by replicas of this side, and dots that this node lacks, by
//! the others. The second are looked at once they came. Of two sides some pair meets first, and sees all of it; those that
//! meet later see what is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cuts::{Away, Back, Changed};
use super::{COLLECTION, Cuts};
use crate::clock::{Clock, Dot, NodeId};
use crate::engine::ballot::Guard;
use crate::engine::ballot::acceptor::Held;
use crate::engine::ballot::ask::GUARD;
use crate::engine::detector::Liveness;
use crate::engine::hooks::Mutant;
use crate::engine::io::Now;
use crate::engine::limits::HEARTBEAT_MS;
use crate::engine::member;
use crate::engine::replica::Replica;

/// Every node writes to these about itself, cut off or not.
const OWN: [&str; 2] = [member::COLLECTION, COLLECTION];
/// Locks whose tokens are noted when a cut begins: as many as of a large fleet, at 100 bytes each.
const TOKENS_MAX: usize = 4_096;

impl Replica {
    /// What this node saw of partitions and has not told yet.
    pub fn cuts(&self) -> &Cuts {
        &self.cuts
    }

    /// A peer that was there cannot be reached any more.
    pub(in crate::engine) fn on_lost(&mut self, peer: NodeId, now: Now) {
        let member = self.members.get(&peer).is_some_and(|member| !member.left);
        let Some(record) = self.peers.get(&peer).filter(|_| member) else { return };
        if self.cuts.away.contains_key(&peer) {
            return;
        }
        let since_ms = record.detector.last_heard_ms().min(now.mono_ms());
        let away =
            Away { since_ms, replica: record.replica, clock: self.state.clock.clone(), changed: Changed::default() };
        if self.cuts.is_empty() {
            self.cuts.tokens = self.tokens();
        }
        self.cuts.lose(peer, away);
    }

    /// A heartbeat came; `contact`: the first on its link.
    pub(in crate::engine) fn on_heard(&mut self, peer: NodeId, contact: bool, now: Now) {
        if self.cuts.is_empty() {
            return;
        }
        if self.cuts.away.contains_key(&peer) {
            self.on_met(peer, contact, now);
        } else if let Some((back, record)) = self.cuts.back.get_mut(&peer).zip(self.peers.get(&peer))
            && !back.met
            && now.mono_ms() < back.until_ms + HEARTBEAT_MS
        {
            // ... and so may heartbeats of long ago: of those that come in one burst the last counts.
            back.high.join(&record.durable);
        }
        self.look_at_what_came();
    }

    fn on_met(&mut self, peer: NodeId, contact: bool, now: Now) {
        let Some((away, record)) = self.cuts.away.get(&peer).zip(self.peers.get(&peer)) else { return };
        let restarted = away.replica != record.replica;
        let high = record.durable.clone();
        // Where the link outlived the cut, what was under way on it may have come before this heartbeat.
        let mut low = if contact { self.state.clock.clone() } else { away.clock.clone() };
        let mut lacked = high.clone();
        for (slot, id) in self.state.roster.iter() {
            match self.is_of_this_side(&id.node) {
                true => low.set(slot, Dot::SEQ_MAX),
                false => lacked.set(slot, Dot::SEQ_MAX),
            }
        }
        let lacked = self.changed_between(&lacked, &self.state.clock);
        let Some(Away { since_ms, mut changed, .. }) = self.cuts.away.remove(&peer) else { return };
        changed.here.extend(lacked.into_iter().take(self.cuts.room()));
        let back = Back { since_ms, until_ms: now.mono_ms(), restarted, low, high, met: false, changed };
        self.cuts.back.insert(peer, back);
    }

    /// Whether a node was reached throughout. One that nobody here knew came to the other side.
    fn is_of_this_side(&self, node: &NodeId) -> bool {
        let reached = || self.peers.get(node).is_some_and(|peer| peer.liveness != Liveness::Down);
        *node == self.id.node || (reached() && !self.cuts.is_apart(node))
    }

    /// Looks at what those that came back had, once all of it came.
    pub(in crate::engine) fn look_at_what_came(&mut self) {
        let came = |(_, back): &(&NodeId, &Back)| !back.met && self.state.clock.covers_all(&back.high);
        let came: Vec<NodeId> = self.cuts.back.iter().filter(came).map(|(node, _)| *node).collect();
        for node in came {
            self.look_at_what_came_of(node);
        }
    }

    pub(super) fn look_at_what_came_of(&mut self, node: NodeId) {
        let Some(back) = self.cuts.back.get(&node) else { return };
        let mut learned = self.changed_between(&back.low, &back.high);
        if self.config.hooks.planted(Mutant::OtherSideForgotten) {
            learned.clear();
        }
        let room = self.cuts.room();
        if let Some(back) = self.cuts.back.get_mut(&node) {
            back.met = true;
            back.changed.there.extend(learned.into_iter().take(room));
        }
    }

    fn changed_between(&self, low: &Clock, high: &Clock) -> Vec<Arc<str>> {
        let of_own = |name: &str| name.split_once('/').is_some_and(|(collection, _)| OWN.contains(&collection));
        let names = self.state.documents_between(low, high).into_iter().map(|at| self.state.stored(at).name.clone());
        names.filter(|name| !of_own(name)).collect()
    }

    /// The tokens of the locks that this voter knows.
    pub(super) fn tokens(&self) -> BTreeMap<Arc<str>, u64> {
        let held = self.booth.acceptor().registers();
        let token = |(register, held): (&Arc<str>, &Held)| {
            let (name, accepted) = (register.strip_prefix(GUARD)?, held.accepted.as_ref()?);
            let token = Guard::decode(Some(&accepted.value)).ok()?.lock.token;
            (token > 0).then(|| (Arc::from(name), token))
        };
        held.filter_map(token).take(TOKENS_MAX).collect()
    }
}
