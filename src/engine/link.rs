//! Links: the first words, the heartbeat, the reports of what is durable, and who can be reached.

use super::detector::Liveness;
use super::hooks::Mutant;
use super::io::{Event, LinkId, Now, Output};
use super::limits::HEARTBEAT_MS;
use super::message::{Digests, Hello, Message, Refusal};
use super::peer::{Link, Peer};
use super::replica::Replica;
use crate::clock::{Clock, NodeId, Slot};

impl Replica {
    pub(super) fn on_link_up(&mut self, peer: NodeId, link: LinkId, now: Now) {
        if self.peers.len() >= self.config.limits.peers && !self.peers.contains_key(&peer) {
            self.output(Output::Disconnect { peer, link, reason: "too many peers".into() });
            return;
        }
        self.suspend_pull(peer, now);
        let away = |peer: &Peer| peer.replica.is_some() && now.mono_ms() > peer.link_down_ms + 2_000;
        if self.config.hooks.planted(Mutant::LostForGood) && self.peers.get(&peer).is_some_and(away) {
            self.output(Output::Disconnect { peer, link, reason: "a stranger".into() });
            return;
        }
        let record = self.peers.entry(peer).or_insert_with(|| Peer::new(now.mono_ms()));
        record.link = Some(Link::new(link, now.mono_ms(), self.config.limits.live_window_bytes));
        self.greet(peer);
    }

    pub(super) fn on_link_down(&mut self, peer: NodeId, link: LinkId, now: Now) {
        let Some(record) = self.peers.get_mut(&peer) else { return };
        if record.link.as_ref().is_some_and(|open| open.id == link) {
            record.link = None;
            record.link_down_ms = now.mono_ms();
            record.missing = None;
            self.suspend_pull(peer, now);
            self.judge_peers(now);
            self.give_up_without_quorum(now);
        }
    }

    /// All that there is a link to, whether or not it is established.
    pub(super) fn linked(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.link.is_some()).map(|(id, _)| *id).collect()
    }

    pub(super) fn greet(&mut self, peer: NodeId) {
        let hello = Hello {
            replica: self.id,
            cluster: self.cluster(),
            name: self.config.name.clone(),
            software: self.config.software.clone(),
            store: self.booth.store(),
            heard: self.heard_of(&peer),
        };
        self.send(peer, &Message::Hello(hello));
    }

    pub(super) fn on_hello(&mut self, peer: NodeId, hello: Hello, now: Now) {
        // A hello speaks for the node that the transport authenticated, and for no other.
        if hello.replica.node != peer || hello.name.len() > 256 {
            self.tally.refused += 1;
            return;
        }
        let Some(record) = self.peers.get_mut(&peer) else { return };
        record.name = hello.name.clone();
        record.replica = Some(hello.replica);
        record.store = Some(hello.store);
        record.heard_of_us = hello.heard;
        let again = record.link.as_mut().is_some_and(|link| std::mem::replace(&mut link.greeted, true));
        match (self.cluster(), hello.cluster) {
            (Some(ours), Some(theirs)) if ours == theirs => {
                self.heed_heard(now);
                self.establish(peer, now);
            }
            (Some(ours), Some(_)) => self.refuse(peer, Refusal::OtherCluster { ours }),
            // To be greeted again is to be let in: it adopts our cluster then, and says hello as one of it.
            (Some(_), None) => match self.refuses_member(peer, &hello.name) {
                Some(refusal) => self.refuse(peer, refusal),
                None => self.greet(peer),
            },
            // The first hello was sent before the other had ours, and may still be followed by a refusal. Who adopts a
            // cluster on it is a member before it hears that it may not be one.
            (None, Some(theirs)) if self.cluster.is_none() && self.config.joins => {
                if again {
                    self.adopt(theirs);
                }
            }
            (None, Some(ours)) if self.cluster.is_none() => {
                self.emit(Event::Refused { peer, refusal: Refusal::OtherCluster { ours } });
            }
            (None, _) => {}
        }
    }

    /// Why a newcomer may not join under this name, if so.
    fn refuses_member(&self, peer: NodeId, name: &str) -> Option<Refusal> {
        let by = self.members.named(name).filter(|by| *by != peer)?;
        let alive = by == self.id.node || self.peers.get(&by).is_some_and(|peer| peer.liveness != Liveness::Down);
        alive.then(|| Refusal::NameTaken { name: name.to_owned(), by })
    }

    fn refuse(&mut self, peer: NodeId, refusal: Refusal) {
        self.tally.refused += 1;
        self.send(peer, &Message::Refuse(refusal));
    }

    pub(super) fn on_refused(&mut self, peer: NodeId, refusal: Refusal) {
        self.emit(Event::Refused { peer, refusal });
    }

    fn establish(&mut self, peer: NodeId, now: Now) {
        let Some(record) = self.peers.get_mut(&peer) else { return };
        let Some(link) = record.link.as_mut().filter(|link| !link.established) else { return };
        link.established = true;
        record.detector = super::detector::Detector::new(HEARTBEAT_MS, now.mono_ms());
        // Everything before this heartbeat is in its digests, everything after it comes live.
        self.flush_group(now);
        self.send_heartbeat(peer);
        self.judge_peers(now);
        self.ask_who_came_back(peer, now);
    }

    /// Says hello again on links that were opened before the cluster was known.
    pub(super) fn greet_again(&mut self, now: Now) {
        for peer in self.linked() {
            self.greet(peer);
            let ours = self.cluster();
            if self.peers.get(&peer).and_then(|peer| peer.link.as_ref()).is_some_and(|link| link.greeted)
                && ours.is_some()
            {
                // It greeted before we had a cluster: either it is of ours, or it refuses this second hello.
                self.establish(peer, now);
            }
        }
    }

    pub(super) fn on_heartbeat_due(&mut self, now: Now) {
        self.flush_group(now);
        self.heartbeat_due_us = now.mono_us + HEARTBEAT_MS * 1_000;
        self.grow_tree();
        self.let_go(now);
        let neighbours: Vec<NodeId> = self.neighbours().collect();
        for peer in neighbours {
            self.send_heartbeat(peer);
        }
        self.judge_peers(now);
        self.ask_for_missing(now);
        self.tend_voters(now);
    }

    fn send_heartbeat(&mut self, peer: NodeId) {
        let (digests, report, voters) = (self.digests(), self.report_for(peer), self.voters_version());
        self.send(peer, &Message::Heartbeat { digests, report, voters });
    }

    /// What became durable here since the peer was last told.
    fn report_for(&mut self, peer: NodeId) -> Vec<(Slot, u64)> {
        let durable = &self.persistence.durable;
        let Some(link) = self.peers.get_mut(&peer).and_then(|peer| peer.link.as_mut()) else { return Vec::new() };
        let report = durable.iter().filter(|(slot, seq)| *seq > link.told.get(*slot)).collect();
        link.told.clone_from(durable);
        link.untold_bytes = 0;
        link.report_due = false;
        report
    }

    /// Tells those who wait for it, or who sent a lot, that it is durable here.
    pub(super) fn report_durable(&mut self) {
        let report_bytes = self.config.limits.report_bytes;
        let waiting =
            |peer: &Peer| peer.established().is_some_and(|link| link.report_due || link.untold_bytes >= report_bytes);
        let peers: Vec<NodeId> = self.peers.iter().filter(|(_, peer)| waiting(peer)).map(|(id, _)| *id).collect();
        for peer in peers {
            let report = self.report_for(peer);
            self.send(peer, &Message::Report(report));
        }
    }

    pub(super) fn on_report(&mut self, peer: NodeId, report: &[(Slot, u64)], now: Now) {
        for (slot, seq) in report {
            self.check_own_replica(peer, *slot, *seq, now);
        }
        self.note_heard(peer, report);
        let report: Vec<(Slot, u64)> =
            report.iter().map(|(slot, seq)| (*slot, self.within_fence(&peer, *slot, *seq))).collect();
        let clock = &self.state.clock;
        let Some(record) = self.peers.get_mut(&peer) else { return };
        report.iter().for_each(|(slot, seq)| record.durable.raise(*slot, *seq));
        if let Some(link) = &mut record.link {
            link.acknowledged(&record.durable);
        }
        if record.missing.as_ref().is_some_and(|(_, mark)| clock.covers_all(mark)) {
            record.missing = None;
        }
        if record.missing.is_none() && !clock.covers_all(&record.durable) {
            record.missing = Some((now.mono_ms(), record.durable.clone()));
        }
        self.emit(Event::Reported { peer });
    }

    pub(super) fn on_heartbeat(&mut self, peer: NodeId, digests: Digests, report: &[(Slot, u64)], now: Now) {
        let Some(record) = self.peers.get_mut(&peer) else { return };
        record.detector.heartbeat(now.mono_ms());
        let contact = record.link.as_mut().is_some_and(|link| !std::mem::replace(&mut link.contacted, true));
        self.on_report(peer, report, now);
        self.on_heard(peer, contact, now);
        let own = self.digests();
        self.met |= own.clock == digests.clock;
        if own.clock == digests.clock && own.state != digests.state {
            self.on_diverged(peer, now);
        }
        // A contact synchronizes at once, however long the two were apart.
        if contact && own != digests {
            self.want_pull(peer, now);
        }
        // Who falls silent is noticed when this node's own heartbeat is due; who speaks again, at once.
        if self.peers.get(&peer).is_some_and(|peer| peer.liveness != Liveness::Alive) {
            self.judge_peers(now);
        }
    }

    /// What a peer reported and nobody delivered within a second is pulled from it.
    fn ask_for_missing(&mut self, now: Now) {
        if self.config.hooks.planted(Mutant::NeverAskedAgain) {
            return;
        }
        let missing_ms = self.config.limits.missing_ms;
        let mut wanted = Vec::new();
        for (id, peer) in &mut self.peers {
            let Some((since_ms, mark)) = &peer.missing else { continue };
            if self.state.clock.covers_all(mark) {
                peer.missing = None;
            } else if now.mono_ms() >= since_ms + missing_ms {
                peer.missing = None;
                wanted.push(*id);
            }
        }
        for peer in wanted {
            self.want_pull(peer, now);
        }
    }

    /// Tells what changed in who can be reached.
    pub(super) fn judge_peers(&mut self, now: Now) {
        let mut changes = Vec::new();
        for (id, peer) in &mut self.peers {
            let liveness = peer.judge(now.mono_ms());
            if liveness != peer.liveness {
                peer.liveness = liveness;
                changes.push((*id, liveness));
            }
        }
        self.tree_due |= !changes.is_empty();
        let wanted = self.wanted_links();
        for (peer, liveness) in changes {
            if liveness == Liveness::Down && wanted.contains(&peer) {
                self.on_lost(peer, now);
            }
            self.emit(Event::Liveness { peer, liveness });
        }
        let reachable = |id: &NodeId| self.peers.get(id).is_some_and(|peer| peer.liveness != Liveness::Down);
        // Above a full mesh a node knows of those it ought to be linked to; of the rest, their neighbours know.
        let unreachable: Vec<NodeId> = wanted.into_iter().filter(|id| !reachable(id)).collect();
        if unreachable != self.unreachable {
            self.unreachable.clone_from(&unreachable);
            self.emit(Event::Partitioned(unreachable));
        }
    }

    /// Whether this node can tell if it lags: since its start it has caught up with another member, or there is none. A
    /// disk that was brought back from a copy says nothing of what was acknowledged after the copy.
    pub fn has_met(&self) -> bool {
        let alone = || !self.members.present().any(|id| id != self.id.node);
        self.cluster().is_some() && (self.met || alone())
    }

    /// Members that have not left and cannot be reached.
    pub fn unreachable(&self) -> &[NodeId] {
        &self.unreachable
    }

    /// Every peer met since the start, in order of ids.
    pub fn peers(&self) -> impl Iterator<Item = (&NodeId, &Peer)> {
        self.peers.iter()
    }

    pub fn peer(&self, id: &NodeId) -> Option<&Peer> {
        self.peers.get(id)
    }

    /// The highest own seq that a peer reported to have on its disk.
    pub fn reported_of_us(&self, id: &NodeId) -> u64 {
        self.peers.get(id).map_or(0, |peer| peer.durable.get(self.slot))
    }

    /// Established links.
    pub fn neighbour_count(&self) -> usize {
        self.neighbours().count()
    }

    /// How many nodes, this one included, have everything in `clock` on their disks.
    pub fn replicated_clock(&self, clock: &Clock) -> usize {
        let here = usize::from(self.persistence.durable.covers_all(clock));
        here + self.peers.values().filter(|peer| peer.durable.covers_all(clock)).count()
    }

    /// How many nodes, this one included, have own ops up to `seq` on their disks.
    pub fn replicated(&self, seq: u64) -> usize {
        let here = usize::from(self.persistence.durable.get(self.slot) >= seq);
        let hearsay = self.config.hooks.planted(Mutant::HearsayAcknowledged);
        let has = |peer: &&Peer| peer.durable.get(self.slot) >= seq || (hearsay && peer.established().is_some());
        here + self.peers.values().filter(has).count()
    }
}
