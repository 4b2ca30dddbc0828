//! One peer, and the link to it while there is one.

use std::collections::VecDeque;

use super::ballot::{Heard, StoreId};
use super::detector::{Detector, Liveness};
use super::io::LinkId;
use super::limits::{HEARTBEAT_MS, LINK_DOWN_MS};
use crate::clock::{Clock, Dot, ReplicaId, Slot};

#[derive(Debug)]
pub struct Peer {
    pub link: Option<Link>,
    pub detector: Detector,
    pub liveness: Liveness,
    /// What the peer told on its own connection to be durable there. Survives the link.
    pub durable: Clock,
    /// Dots it reported that this node lacks, and since when.
    pub missing: Option<(u64, Clock)>,
    /// When the link went down, ms.
    pub link_down_ms: u64,
    pub name: String,
    pub replica: Option<ReplicaId>,
    /// The store of its acceptor.
    pub store: Option<StoreId>,
    /// What it told last of its own ops.
    pub heard: Option<Heard>,
    /// What it heard of this node, as it says.
    pub heard_of_us: Option<Heard>,
}

impl Peer {
    pub fn new(now_ms: u64) -> Self {
        Self {
            link: None,
            detector: Detector::new(HEARTBEAT_MS, now_ms),
            liveness: Liveness::Down,
            durable: Clock::new(),
            missing: None,
            link_down_ms: now_ms.saturating_sub(LINK_DOWN_MS),
            name: String::new(),
            replica: None,
            store: None,
            heard: None,
            heard_of_us: None,
        }
    }

    /// The link, once both sides know that they are of one cluster.
    pub fn established(&self) -> Option<&Link> {
        self.link.as_ref().filter(|link| link.established)
    }

    pub fn judge(&self, now_ms: u64) -> Liveness {
        match &self.link {
            Some(link) if link.established => self.detector.liveness(now_ms),
            _ if now_ms < self.link_down_ms + LINK_DOWN_MS => Liveness::Suspect,
            _ => Liveness::Down,
        }
    }
}

/// One incarnation of the streams to a peer. Everything here is forgotten when it breaks.
#[derive(Debug)]
pub struct Link {
    pub id: LinkId,
    /// When it came up, ms.
    pub since_ms: u64,
    /// Both said hello and are of one cluster.
    pub established: bool,
    /// The peer's hello came.
    pub greeted: bool,
    /// The first heartbeat after the hello came: the contact that compares digests at once.
    pub contacted: bool,
    /// How many of our slots the peer has been told of.
    pub announced: usize,
    /// The peer's slots in ours.
    pub table: Vec<Slot>,
    /// What the peer was told to be durable here.
    pub told: Clock,
    /// Live bytes from the peer since it was last told.
    pub untold_bytes: usize,
    /// The peer waits for a report (a write with `replicas:N`).
    pub report_due: bool,
    window: VecDeque<(Dot, usize)>,
    window_bytes: usize,
    window_bytes_max: usize,
    /// The window is full: live batches are left out until the peer has caught up with what it has.
    pub lagging: bool,
}

impl Link {
    pub fn new(id: LinkId, since_ms: u64, window_bytes_max: usize) -> Self {
        Self {
            id,
            since_ms,
            window_bytes_max,
            established: false,
            greeted: false,
            contacted: false,
            announced: 0,
            table: Vec::new(),
            told: Clock::new(),
            untold_bytes: 0,
            report_due: false,
            window: VecDeque::new(),
            window_bytes: 0,
            lagging: false,
        }
    }

    /// Notes a batch up to `last` as sent.
    pub fn sent(&mut self, last: Dot, bytes: usize) {
        self.window.push_back((last, bytes));
        self.window_bytes += bytes;
        self.lagging = self.window_bytes > self.window_bytes_max;
    }

    /// Notes what is durable at the peer.
    pub fn acknowledged(&mut self, durable: &Clock) {
        while let Some((_, bytes)) = self.window.front().copied().filter(|(last, _)| durable.covers(*last)) {
            self.window_bytes -= bytes;
            self.window.pop_front();
        }
        self.lagging &= self.window_bytes > self.window_bytes_max / 2;
    }

    pub fn window_bytes(&self) -> usize {
        self.window_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_does_not_acknowledge_gets_at_most_a_window_of_live_bytes() {
        let mut link = Link::new(LinkId(1), 0, 8 << 20);
        let mut seq = 0;
        while !link.lagging {
            seq += 1;
            link.sent(Dot::new(Slot(0), seq), 1 << 20);
        }
        assert!(link.window_bytes() <= (8 << 20) + (1 << 20));
        let durable = |seq| [(Slot(0), seq)].into_iter().collect::<Clock>();
        link.acknowledged(&durable(1));
        assert!(link.lagging, "one acknowledged batch is not enough to go on");
        link.acknowledged(&durable(seq));
        assert!(!link.lagging && link.window_bytes() == 0);
    }
}
