//! A voter whose disk was set back forgot what it promised: its word counts for nothing, and it begins anew as another
//! voter, once the others let it in.
//!
//! What proves it is what others heard: that a process on this very store told so many of its ops to be on its disk, which
//! are not there now. That others merely *have* more ops of this node proves nothing: ops are passed on before they are
//! on the own disk, and a power cut may take the last of them. Promises are not told before they are. Were they
//! given up for that, power that fails everywhere at once could cost a cluster its quorum for good.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::booth::Booth;
use super::voters::{StoreId, Voter};
use crate::clock::{Incarnation, NodeId, ReplicaId, Slot};
use crate::engine::alarm::Alarm;
use crate::engine::io::Now;
use crate::engine::replica::Replica;

/// The last that was heard of a node: how many ops of its own it told to have on its disk. What was heard of its earlier
/// starts adds nothing: a disk of before the last start lacks all of that one's ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The store of its acceptor then.
    pub store: StoreId,
    pub life: Incarnation,
    pub seq: u64,
}

/// What the node's earlier starts had on its disk when this one began.
#[derive(Debug, Default)]
pub struct Past(BTreeMap<Incarnation, u64>);

impl Past {
    pub(in crate::engine) fn new(replicas: impl Iterator<Item = (ReplicaId, u64)>, own: &NodeId) -> Self {
        let own = replicas.filter(|(replica, _)| replica.node == *own);
        Self(own.map(|(replica, seq)| (replica.incarnation, seq)).collect())
    }

    fn get(&self, life: &Incarnation) -> u64 {
        self.0.get(life).copied().unwrap_or_default()
    }
}

impl Booth {
    /// Whether what was heard of this node, which is in its start `life` now, is gone from its disk.
    fn was_set_back(&self, heard: &Heard, life: &Incarnation) -> bool {
        heard.store == self.store() && heard.life != *life && self.past.get(&heard.life) < heard.seq
    }
}

impl Replica {
    /// A peer told what is on its disk.
    pub(in crate::engine) fn note_heard(&mut self, peer: NodeId, report: &[(Slot, u64)]) {
        let Some(record) = self.peers.get_mut(&peer) else { return };
        let (Some(replica), Some(store)) = (record.replica, record.store) else { return };
        let own = report.iter().find(|(slot, _)| *self.state.roster.id(*slot) == replica);
        if let Some((_, seq)) = own {
            record.heard = Some(Heard { store, life: replica.incarnation, seq: *seq });
        }
        // What is heard of voters outlives this process.
        if let Some(heard) = record.heard
            && self.booth.voters().is_some_and(|voters| voters.has(&Voter { node: peer, store: heard.store }))
        {
            self.booth.keep_heard(peer, heard);
        }
    }

    /// What was heard of a peer last, for it to be told.
    pub(in crate::engine) fn heard_of(&self, peer: &NodeId) -> Option<Heard> {
        let record = self.peers.get(peer)?;
        record.heard.or_else(|| self.booth.heard(peer))
    }

    /// A peer says what it heard of this node.
    pub(in crate::engine) fn on_heard_of(&mut self, peer: NodeId, heard: Heard, now: Now) {
        let life = self.id.incarnation;
        if self.booth.was_set_back(&heard, &life) {
            let replica = ReplicaId { node: self.id.node, incarnation: heard.life };
            let ours = self.booth.past.get(&heard.life);
            let alarm = Alarm::SetBack { replica: (&replica).into(), ours, told: heard.seq, peer: peer.into() };
            self.alarm(alarm, now);
            self.resign_as_voter();
        }
    }

    fn resign_as_voter(&mut self) {
        self.booth.begin_anew(&self.id.incarnation);
        self.persistence.touch();
        // What is told to be on the disk from here on is told of the new store.
        let neighbours: Vec<NodeId> = self.neighbours().collect();
        neighbours.into_iter().for_each(|peer| self.greet(peer));
    }
}
