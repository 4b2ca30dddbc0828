//! Own ops on their way out: grouped for at most a millisecond, signed once, sent to every neighbour.

use std::sync::Arc;

use super::io::Now;
use super::message::Message;
use super::replica::Replica;
use super::rows::PortableBatch;
use crate::clock::{Dot, NodeId, Slot};
use crate::document::batch::{Batch, OPS_MAX, OpRef, OpWriter, OwnSlots, chain};

/// Ops that are applied here and not yet signed.
#[derive(Debug)]
pub struct Group {
    first: u64,
    count: usize,
    ops: OpWriter<OwnSlots>,
    prompt: bool,
    sent_us: u64,
}

impl Group {
    pub fn new(slot: Slot) -> Self {
        Self { first: 0, count: 0, ops: OpWriter::new(slot, OwnSlots), prompt: false, sent_us: 0 }
    }

    pub fn push(&mut self, dot: Dot, op: &OpRef<'_>) {
        if self.count == 0 {
            self.first = dot.seq();
        }
        self.ops.push(dot.seq(), op);
        self.count += 1;
    }

    pub fn set_prompt(&mut self) {
        self.prompt = true;
    }

    /// Whether a transaction of `ops` more ops still fits: it must not be torn over two batches.
    pub fn has_room_for(&self, ops: usize, group_bytes: usize) -> bool {
        self.count + ops <= OPS_MAX && self.ops.len() < group_bytes
    }
}

impl Replica {
    /// When the group must go, if it holds anything.
    pub(super) fn group_due_us(&self) -> Option<u64> {
        (self.group.count > 0).then_some(self.group.sent_us + self.config.limits.group_us)
    }

    /// Sends at once what comes after a pause; what follows quickly is grouped.
    pub(super) fn flush_group_if_due(&mut self, now: Now) {
        let full = self.group.ops.len() >= self.config.limits.group_bytes;
        if full || self.group_due_us().is_some_and(|due| due <= now.mono_us) {
            self.flush_group(now);
        }
    }

    /// Signs and sends the group. Called before anything that shows this node's clock to the outside, so that a clock
    /// always ends at a batch's end.
    pub(super) fn flush_group(&mut self, now: Now) {
        if self.group.count == 0 {
            return;
        }
        let group = std::mem::replace(&mut self.group, Group::new(self.slot));
        self.group.sent_us = now.mono_us;
        let ops = group.ops.into_bytes();
        let mut batch =
            Batch { replica: self.slot, first: group.first, count: group.count, signature: [0; 64], ops: &ops };
        // Our own ops always decode.
        let Ok(full) = self.under_full_ids(&batch, OwnSlots) else { return };
        let (_, previous) = self.state.heads[self.slot.index()];
        let head = chain(&previous, &self.id, batch.first, batch.count, &full);
        batch.signature = self.keys.sign(&head);
        self.state.heads[self.slot.index()] = (batch.last(), head);
        let (first, count, signature) = (batch.first, batch.count, batch.signature);
        let row = PortableBatch { first, count, signature, ops: &full };
        self.persistence.keep_batch(self.slot, &row);
        self.tally.batches_sent += 1;
        let last = Dot::new(self.slot, batch.last());
        let message = Message::Batch { batch, prompt: group.prompt };
        let to = self.receivers(None, &self.id.node);
        self.send_live(last, &to, message.encode().into());
    }

    /// Sends a batch that ends in `last` to those of `to` that a link leads to and that keep up.
    pub(super) fn send_live(&mut self, last: Dot, to: &[NodeId], message: Arc<[u8]>) -> usize {
        let mut sent = 0;
        for peer in to {
            let shed = self.config.hooks.rare();
            let link = self.peers.get_mut(peer).and_then(|peer| peer.link.as_mut());
            let Some(link) = link.filter(|link| link.established) else { continue };
            if !link.lagging && !shed {
                link.sent(last, message.len());
                self.tally.windows_closed += u64::from(link.lagging);
                self.send_bytes(*peer, message.clone());
                sent += 1;
            }
        }
        sent
    }

    /// Established links.
    pub fn neighbours(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.established().is_some()).map(|(id, _)| *id)
    }
}
