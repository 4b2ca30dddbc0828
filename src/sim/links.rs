//! Dialling, opening, sending and breaking links: the simulator's transport.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::network::{Fate, pair};
use super::probe::Probe;
use super::trace::What;
use super::world::{Next, World};
use crate::engine::message::Message;
use crate::engine::{Input, LinkId};

/// How often a host looks for peers to dial, µs: least and most.
const DIAL_US: (u64, u64) = (100_000, 400_000);

impl World {
    /// A host dials whom it is not linked to, and looks again later.
    pub(super) fn dial(&mut self, host: usize) {
        let again_us = self.chance.between(DIAL_US.0, DIAL_US.1);
        self.after(again_us, Next::Dial { host });
        if self.hosts[host].process.is_none() || self.hosts[host].paused {
            return;
        }
        for peer in self.wanted(host) {
            let ends = pair(host, peer);
            let busy = self.network.between.contains_key(&ends) || self.network.opening.contains(&ends);
            if !busy && self.can_meet(host, peer) && !self.knows_a_twin(host, peer) && !self.knows_a_twin(peer, host) {
                self.network.opening.insert(ends);
                let handshake_us = 3 * self.network.delay_us(host, peer);
                self.after(handshake_us, Next::Opened { a: host, b: peer });
            }
        }
    }

    /// Whom the replica names once its cluster is large; before that all others, of which a large cluster has but a seed.
    fn wanted(&self, host: usize) -> Vec<usize> {
        let large = self.is_large();
        match self.hosts[host].replica() {
            Some(replica) if replica.in_tree() || (large && replica.cluster().is_some()) => {
                let wanted = replica.wanted_links();
                (0..self.hosts.len()).filter(|peer| wanted.contains(&self.hosts[*peer].node)).collect()
            }
            _ if large => vec![0],
            _ => (0..self.hosts.len()).filter(|peer| *peer != host).collect(),
        }
    }

    fn can_meet(&self, a: usize, b: usize) -> bool {
        let up = |host: usize| self.hosts[host].process.is_some() && !self.hosts[host].paused;
        let apart = self.network.weather.is_cut(a, b) || self.network.weather.is_cut(b, a);
        up(a) && up(b) && !apart && self.hosts[a].node != self.hosts[b].node
    }

    /// Whether `host` is linked already to another process of the node that `peer` runs.
    fn knows_a_twin(&self, host: usize, peer: usize) -> bool {
        let node = self.hosts[peer].node;
        let mut others = self.network.open_links(host).map(|(_, link)| link.other(host));
        others.any(|other| other != peer && self.hosts[other].node == node)
    }

    pub(super) fn opened(&mut self, a: usize, b: usize) {
        self.network.opening.remove(&pair(a, b));
        if !self.can_meet(a, b) || self.network.between.contains_key(&pair(a, b)) {
            return;
        }
        // An end that still holds an older link to this node lets it go first.
        for (host, peer) in [(a, b), (b, a)] {
            let node = self.hosts[peer].node;
            let old = self.network.open_links(host).filter(|(_, link)| self.hosts[link.other(host)].node == node);
            let old: Vec<u64> = old.map(|(id, _)| id).collect();
            for link in old {
                self.probes.reached(Probe::LinkReplaced);
                self.close_end(link, host, "replaced by a newer link");
            }
        }
        let link = self.network.open((a, self.hosts[a].life), (b, self.hosts[b].life));
        self.trace.step(self.now_us, a, What::Link, link ^ (b as u64) << 32);
        self.note(a, Some(b), What::Link, || format!("link {link} opened"));
        for (host, peer) in [(a, b), (b, a)] {
            let peer = self.hosts[peer].node;
            self.input(host, Input::LinkUp { peer, link: LinkId(link) });
        }
    }

    pub(super) fn send(&mut self, from: usize, link: u64, message: Arc<[u8]>) {
        let Some(open) = self.network.links.get(&link) else { return };
        let (side, to) = (open.side(from), open.other(from));
        if !open.open[side] {
            return;
        }
        let kind = Message::kind(&message);
        self.tally.messages += 1;
        self.tally.bytes += message.len() as u64;
        let sent = self.spread.sent.entry(kind).or_default();
        *sent = (sent.0 + 1, sent.1 + message.len() as u64);
        if matches!(kind, "batch" | "sync chunk") {
            self.tally.payload_bytes += message.len() as u64;
        }
        self.probes.reached_if(Probe::LinkHalfOpen, !open.open[1 - side]);
        let messages = self.tamper(from, to, message);
        for message in messages {
            self.dispatch(from, to, link, message);
        }
    }

    /// Puts a message on its way.
    pub(super) fn dispatch(&mut self, from: usize, to: usize, link: u64, message: Arc<[u8]>) {
        // Windows leave out batches, relays double and delay them, and what heartbeats say is said again. Whatever else
        // is on a link comes once and in turn, as on the transport's streams.
        let must = !matches!(Message::kind(&message), "batch" | "report" | "heartbeat");
        let fate = self.network.send(link, from, &message, must, self.now_us);
        let what = if matches!(fate, Fate::Dropped | Fate::Stuck) { What::Lost } else { What::Send };
        self.trace.step(self.now_us, from, what, xxh3_64(&message));
        self.note(from, Some(to), what, || {
            let fate = match fate {
                Fate::Dropped => " (lost)",
                Fate::Stuck => " (held up by a cut)",
                _ => "",
            };
            format!("{} {} B{fate}", Message::kind(&message), message.len())
        });
        match fate {
            Fate::Arrives(at_us) => self.at(at_us, Next::Arrive { link, to, bytes: message }),
            Fate::Twice(first_us, second_us) => {
                self.at(first_us, Next::Arrive { link, to, bytes: message.clone() });
                self.at(second_us, Next::Arrive { link, to, bytes: message });
            }
            Fate::Stuck | Fate::Dropped => {}
        }
    }

    pub(super) fn arrive(&mut self, link: u64, to: usize, bytes: &[u8]) {
        let Some(open) = self.network.links.get(&link) else {
            self.probes.reached(Probe::LinkBroke);
            return;
        };
        let (side, from) = (open.side(to), open.other(to));
        if !open.open[side] || open.lives[side] != self.hosts[to].life {
            return;
        }
        self.trace.step(self.now_us, to, What::Arrive, link);
        self.note(to, Some(from), What::Arrive, || Message::kind(bytes).to_owned());
        if self.hosts[to].speaks_next && bytes.first() == Some(&crate::document::codec::FORMAT_VERSION) {
            self.close_end(link, to, "the peer speaks an older version");
            return;
        }
        let peer = self.hosts[from].node;
        self.input(to, Input::Message { peer, link: LinkId(link), bytes: bytes.to_vec() });
    }

    /// One end is through with a link; the other hears of it, or notices in time.
    pub(super) fn close_end(&mut self, link: u64, host: usize, why: &str) {
        let Some(open) = self.network.links.get(&link) else { return };
        let (side, other) = (open.side(host), open.other(host));
        if !open.open[side] {
            return;
        }
        let same_life = open.lives[side] == self.hosts[host].life;
        self.trace.step(self.now_us, host, What::Link, link);
        self.note(host, Some(other), What::Link, || format!("link {link} closed: {why}"));
        if !self.network.close(link, host) {
            if self.network.weather.is_cut(host, other) {
                let notice_us = self.network.notice_us();
                self.after(notice_us, Next::Notice { link, host: other });
            } else {
                let delay_us = self.network.delay_us(host, other);
                self.after(delay_us, Next::Closed { link, host: other });
            }
        }
        if same_life {
            let peer = self.hosts[other].node;
            self.input(host, Input::LinkDown { peer, link: LinkId(link) });
        }
    }

    /// Nothing came back for a while: is anybody there?
    pub(super) fn notice(&mut self, link: u64, host: usize) {
        let Some(open) = self.network.links.get(&link) else { return };
        let (side, other) = (open.side(host), open.other(host));
        let cut = self.network.weather.is_cut(host, other) || self.network.weather.is_cut(other, host);
        let gone = !open.open[1 - side] || open.lives[1 - side] != self.hosts[other].life;
        if cut || gone {
            self.close_end(link, host, "no answer");
        }
    }

    /// Cuts one direction between two hosts. Both ends of a link that needs it notice in their own time.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.network.weather.cut(from, to);
        if let Some(link) = self.network.between.get(&pair(from, to)).copied() {
            for host in [from, to] {
                let notice_us = self.network.notice_us();
                self.after(notice_us, Next::Notice { link, host });
            }
        }
    }

    pub(super) fn mend(&mut self, from: usize, to: usize) {
        self.network.weather.mend(from, to);
        if !self.network.weather.is_cut(from, to) {
            for (link, messages) in self.network.unstick(from, to) {
                for message in messages {
                    self.dispatch(from, to, link, message);
                }
            }
        }
    }
}
