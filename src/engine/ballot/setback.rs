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
use crate::engine::hooks::Mutant;
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
    /// Whether what was heard of this node, which is in its start `life` now, is gone from its disk. A store that was begun in
    /// this start forgot nothing.
    fn was_set_back(&self, heard: &Heard, life: &Incarnation) -> bool {
        let is_of_this_store = heard.store == self.store() && heard.store != StoreId(life.0);
        is_of_this_store && heard.life != *life && self.past.get(&heard.life) < heard.seq
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

    /// What was heard of a peer last, for it to be told. What was heard of it as a voter comes first: one that resigned, and
    /// whose disk did not get that, is the old one when it comes back.
    pub(in crate::engine) fn heard_of(&self, peer: &NodeId) -> Option<Heard> {
        let record = self.peers.get(peer)?;
        self.booth.heard(peer).or(record.heard)
    }

    /// Looks at what peers said that they heard of this node, when one says it, and when the voters become known. Only a
    /// voter's word counts: one that lies could do worse.
    pub(in crate::engine) fn heed_heard(&mut self, now: Now) {
        let Some(voters) = self.booth.voters() else { return };
        let by_voters = self.peers.iter().filter(|(peer, _)| voters.at(peer).next().is_some());
        let life = self.id.incarnation;
        let proof = by_voters.filter_map(|(peer, record)| Some((*peer, record.heard_of_us?)));
        let proof = { proof }.find(|(_, heard)| self.booth.was_set_back(heard, &life));
        if let Some((peer, heard)) = proof.filter(|_| !self.config.hooks.planted(Mutant::SetBackUnheeded)) {
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
        // What is told to be on the disk from here on is told of the new store, also to those who heard of the old one just now.
        self.linked().into_iter().for_each(|peer| self.greet(peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ballot::Voters;
    use crate::engine::persist::WriteBatch;

    const NODE: NodeId = NodeId([1; 32]);

    fn heard(store: u8, life: u8, seq: u64) -> Heard {
        Heard { store: StoreId([store; 16]), life: Incarnation([life; 16]), seq }
    }

    fn start(rows: &BTreeMap<Vec<u8>, Vec<u8>>, life: u8, past: &[(u8, u64)]) -> Booth {
        let replica = |life: u8| ReplicaId { node: NODE, incarnation: Incarnation([life; 16]) };
        let past = Past::new(past.iter().map(|(life, seq)| (replica(*life), *seq)), &NODE);
        Booth::load(rows.clone(), 7, &Incarnation([life; 16]), past)
    }

    fn write(booth: &mut Booth, disk: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
        let mut batch = WriteBatch::default();
        booth.take(&mut batch);
        for row in batch.writes {
            match row.value {
                Some(value) => drop(disk.insert(row.key, value)),
                None => drop(disk.remove(&row.key)),
            }
        }
    }

    #[test]
    fn a_disk_was_set_back_that_lacks_what_was_heard_of_this_store() {
        let mut disk = BTreeMap::new();
        let mut first = start(&disk, 1, &[]);
        assert!(!first.was_set_back(&heard(1, 9, 5), &Incarnation([1; 16])), "it is as old as this start");
        first.keep_voters(Voters::founded_by(Voter { node: NODE, store: first.store() }));
        write(&mut first, &mut disk);
        let later = start(&disk, 3, &[(1, 10), (2, 4)]);
        let life = Incarnation([3; 16]);
        assert_eq!(later.store(), StoreId([1; 16]));
        assert!(later.was_set_back(&heard(1, 2, 5), &life), "of the last start");
        assert!(later.was_set_back(&heard(1, 8, 1), &life), "of a start that it knows nothing of");
        assert!(!later.was_set_back(&heard(1, 2, 4), &life), "all is there");
        assert!(!later.was_set_back(&heard(1, 3, 99), &life), "what this start wrote is not in its past");
        assert!(!later.was_set_back(&heard(2, 2, 5), &life), "of another store");
    }

    #[test]
    fn a_start_finds_the_store_it_left_whoever_was_heard_and_forgotten() {
        let mut disk = BTreeMap::new();
        let mut booth = start(&disk, 1, &[]);
        let voter = |n: u8| Voter { node: NodeId([n; 32]), store: StoreId([n; 16]) };
        let voters =
            |version: u64, of: &[u8]| Voters { version, set: of.iter().map(|n| voter(*n)).collect(), next: None };
        let known = [voters(1, &[1, 2, 3]), voters(2, &[1, 3]), voters(3, &[1, 2, 3])];
        for (round, voters) in known.into_iter().enumerate() {
            booth.keep_voters(voters);
            write(&mut booth, &mut disk);
            assert_eq!(start(&disk, 9, &[]).store(), StoreId([1; 16]), "round {round}");
            for n in [2, 3] {
                booth.keep_heard(NodeId([n; 32]), heard(n, n, round as u64));
            }
            write(&mut booth, &mut disk);
            let again = start(&disk, 9, &[]);
            assert_eq!(again.store(), StoreId([1; 16]), "round {round}, heard");
            assert_eq!(again.heard(&NodeId([3; 32])), Some(heard(3, 3, round as u64)));
        }
        booth.begin_anew(&Incarnation([5; 16]));
        write(&mut booth, &mut disk);
        let anew = start(&disk, 9, &[]);
        assert_eq!((anew.store(), anew.heard(&NodeId([3; 32]))), (StoreId([5; 16]), Some(heard(3, 3, 2))));
    }
}
