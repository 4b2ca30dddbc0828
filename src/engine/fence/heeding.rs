//! What a node does about the fences it knows.

use super::{COLLECTION, Fence, FenceState, Kept};
use crate::clock::{Clock, NodeId, ReplicaId, Slot};
use crate::document::batch::{Batch, FullIds, OpReader, OpRef, OpWriter};
use crate::engine::alarm::Alarm;
use crate::engine::ballot::Fields;
use crate::engine::hooks::Mutant;
use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::engine::rows::PortableBatch;

/// A replica as this node sees it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub replica: ReplicaId,
    /// The last of its ops that this node took in.
    pub seq: u64,
    pub fence: Option<Fence>,
    /// While it is fenced: the last of its ops that its node told to have.
    pub told: Option<u64>,
    pub aside: Kept,
}

impl Replica {
    /// All replicas that this node ever heard of, in the order in which it did.
    pub fn replicas(&self) -> impl Iterator<Item = Standing> {
        self.state.roster.iter().map(|(slot, replica)| Standing {
            replica: *replica,
            seq: self.state.clock.get(slot),
            fence: self.fences.get(slot).cloned(),
            told: self.fences.told.get(&slot).copied(),
            aside: self.fences.aside.kept(slot),
        })
    }

    /// What was decided last about a replica.
    pub fn fence(&self, slot: Slot) -> Option<&Fence> {
        self.fences.get(slot)
    }

    /// The fence that keeps this node from writing, if there is one: its state reflects ops that others keep aside, or
    /// `more` ops would.
    pub fn fenced(&self, more: usize) -> Option<&Fence> {
        let reach = |slot: Slot| {
            let more = if slot == self.slot { more as u64 } else { 0 };
            self.state.clock.get(slot) + more
        };
        let is_own = |slot: Slot| {
            let ReplicaId { node, incarnation } = self.state.roster.id(slot);
            *node == self.id.node && self.fences.wrote.contains(incarnation)
        };
        let mut own = self.fences.by_slot.iter().filter(|(slot, _)| is_own(**slot));
        own.find(|(slot, fence)| fence.bars(reach(**slot))).map(|(_, fence)| fence)
    }

    /// Reads `replicas/…`. A fence outlives its document: nothing but another decision takes it back.
    pub(in crate::engine) fn reread_fence(&mut self, name: &str, now: Now) {
        if let Some((replica, fence)) = self.view(name).and_then(|view| Fence::of_view(name, &view)) {
            self.heed(replica, fence, now);
        }
    }

    /// Whoever is told what is decided heeds it at once, also where nobody can write it down: all who could may be fenced.
    pub(in crate::engine) fn heed_decided(&mut self, name: &str, fields: &Fields, now: Now) {
        let is_fence = name.strip_prefix(COLLECTION).is_some_and(|rest| rest.starts_with('/'));
        if let Some((replica, fence)) = Fence::of_decided(name, fields).filter(|_| is_fence) {
            self.heed(replica, fence, now);
        }
    }

    fn heed(&mut self, replica: ReplicaId, fence: Fence, now: Now) {
        let room = self.state.roster.slot(&replica).is_some() || self.state.roster.len() < self.config.limits.replicas;
        let Some(slot) = Some(replica).filter(|_| room).and_then(|replica| self.state.intern(replica)) else { return };
        if self.fences.by_slot.get(&slot).is_some_and(|known| known.version >= fence.version) {
            return;
        }
        // What its node told before anybody knew of the fence, it still has.
        let told = self.peers.get(&replica.node).map_or(0, |peer| peer.durable.get(slot));
        if fence.bars(told) {
            self.fences.told.insert(slot, told);
        }
        self.fences.by_slot.insert(slot, fence.clone());
        let text = (&replica).into();
        self.lift_alarms(|alarm| matches!(alarm, Alarm::Fenced { replica, .. } if *replica == text));
        match fence.state {
            FenceState::Fenced => {
                self.alarm(Alarm::Fenced { replica: (&replica).into(), seq: fence.seq, by: fence.by }, now);
            }
            FenceState::Released => {
                self.fences.released.insert(slot);
                self.fences.told.remove(&slot);
            }
            FenceState::Discarded => {
                self.fences.aside.forget(slot);
                self.fences.released.remove(&slot);
                self.parked.forget(slot);
                self.persistence.touch();
                self.alarm(Alarm::Discarded { replica: (&replica).into(), seq: fence.seq, by: fence.by }, now);
            }
        }
    }

    /// On every tick, so that it is a step of its own: what was kept aside is taken in, and what there was no room for is
    /// asked for.
    pub fn take_in_released(&mut self, now: Now) {
        std::mem::take(&mut self.fences.released).into_iter().for_each(|slot| self.release(slot, now));
    }

    pub(in crate::engine) fn has_released(&self) -> bool {
        !self.fences.released.is_empty()
    }

    fn release(&mut self, slot: Slot, now: Now) {
        let replica = *self.state.roster.id(slot);
        // They stay on the disk until the clock covers them.
        let rows = self.fences.aside.rows(slot);
        rows.iter().for_each(|row| self.park_portable(self.id.node, replica, row, now));
        self.unpark(now);
        self.forget_taken_aside();
        if replica.node != self.id.node {
            self.want_pull(replica.node, now);
        }
    }

    /// Keeps a live batch aside; whether it is new here.
    pub(in crate::engine) fn keep_aside(&mut self, batch: &Batch<'_>, ops: &[OpRef<'_>]) -> bool {
        let mut writer = OpWriter::new(batch.replica, FullIds { roster: &self.state.roster });
        ops.iter().zip(batch.first..).for_each(|(op, seq)| writer.push(seq, op));
        let ops = writer.into_bytes();
        let row = PortableBatch { first: batch.first, count: batch.count, signature: batch.signature, ops: &ops };
        let kept = self.fences.aside.keep(batch.replica, &row, &self.config.limits);
        if kept {
            self.persistence.touch();
            self.tally.batches_aside += 1;
        }
        kept
    }

    /// Parks a batch that stands on its own, signature and all, as if it came just now.
    pub(in crate::engine) fn park_portable(&mut self, from: NodeId, replica: ReplicaId, row: &[u8], now: Now) {
        let Ok(PortableBatch { first, count, signature, ops }) = PortableBatch::decode(row) else { return };
        let Some(slot) = self.state.intern(replica).filter(|slot| *slot != self.slot) else { return };
        let batch = Batch { replica: slot, first, count, signature, ops };
        let names = FullIds { roster: &self.state.roster };
        // An op that names a replica nobody knows supersedes what nobody has.
        let Ok(ops) = OpReader::new(&batch, names).collect::<Result<Vec<_>, _>>() else { return };
        if batch.last() > self.state.clock.get(slot) {
            self.park(from, &batch, &ops, now);
        }
    }

    /// Whether a peer that shows this clock is fenced, and its state reflects what is kept aside here.
    pub(in crate::engine) fn is_held_back(&self, peer: &NodeId, theirs: &Clock) -> bool {
        let mut beyond = self.fences.beyond(&self.state.roster, peer, theirs, &self.state.clock);
        beyond.next().is_some() && !self.config.hooks.planted(Mutant::FenceIgnored)
    }

    /// Whether this node is fenced, and would give to whoever shows this clock what others keep aside.
    pub(in crate::engine) fn would_leak_to(&self, theirs: &Clock) -> bool {
        let mut beyond = self.fences.beyond(&self.state.roster, &self.id.node, &self.state.clock, theirs);
        let wrote = |slot: Slot| self.fences.wrote.contains(&self.state.roster.id(slot).incarnation);
        beyond.any(wrote) && !self.config.hooks.planted(Mutant::FenceIgnored)
    }

    /// Whether there is no use in asking this peer again, until something is decided about it.
    pub(in crate::engine) fn is_fenced(&self, peer: &NodeId) -> bool {
        self.fences.is_fenced(&self.state.roster, peer)
    }

    /// As much of what a peer reports as may ever be taken over from it. What a fenced node has beyond its fence is missed by
    /// nobody; it is noted, to be told.
    pub(in crate::engine) fn within_fence(&mut self, peer: &NodeId, slot: Slot, seq: u64) -> u64 {
        let is_own = self.state.roster.id(slot).node == *peer;
        match self.fences.by_slot.get(&slot) {
            Some(fence) if is_own && fence.bars(seq) => {
                self.fences.told.insert(slot, seq);
                self.state.clock.get(slot).max(fence.seq).min(seq)
            }
            _ => {
                if is_own {
                    self.fences.told.remove(&slot);
                }
                seq
            }
        }
    }

    /// What was kept aside and taken over from another member meanwhile is kept aside no more.
    pub(in crate::engine) fn forget_taken_aside(&mut self) {
        if self.fences.aside.forget_covered(&self.state.clock) {
            self.persistence.touch();
        }
    }
}
