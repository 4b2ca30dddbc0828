//! The live path: batches as they arrive (rule R1).
//!
//! A batch is applied, whole, when it is the next of its replica and every dot it supersedes is in the clock. Else it
//! is parked, within bounds, and what is missing is pulled. What is dropped for want of room is caught up later: the
//! clock says that it is missing.

use std::collections::BTreeMap;

use super::alarm::Alarm;
use super::fence::FenceState;
use super::hooks::Mutant;
use super::io::{Now, Signed};
use super::limits::Limits;
use super::replica::Replica;
use crate::clock::{Dot, NodeId, Slot};
use crate::document::batch::{Batch, FullIds, OpReader, OpRef, OpWriter, OwnSlots, PeerSlots, chain};
use crate::document::codec::DecodeError;

/// Batches that came before what they need, by replica and first seq. Their ops are in our own slots.
#[derive(Debug, Default)]
pub struct Parked {
    batches: BTreeMap<(Slot, u64), ParkedBatch>,
    bytes: usize,
}

#[derive(Debug)]
struct ParkedBatch {
    count: usize,
    signature: [u8; 64],
    ops: Vec<u8>,
    from: NodeId,
}

impl Parked {
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// `Some(true)` if it is new, `None` if there is no room.
    fn insert(&mut self, key: (Slot, u64), batch: ParkedBatch, limits: &Limits, unbounded: bool) -> Option<bool> {
        let fits = unbounded
            || self.batches.len() < limits.parked_batches && self.bytes + batch.ops.len() <= limits.parked_bytes;
        let new = !self.batches.contains_key(&key);
        if fits && new {
            self.bytes += batch.ops.len();
            self.batches.insert(key, batch);
        }
        fits.then_some(new)
    }

    fn remove(&mut self, key: (Slot, u64)) -> Option<ParkedBatch> {
        let batch = self.batches.remove(&key)?;
        self.bytes -= batch.ops.len();
        Some(batch)
    }

    /// Lets go of all of one replica.
    pub(super) fn forget(&mut self, slot: Slot) {
        let keys: Vec<_> = self.batches.range((slot, 0)..=(slot, u64::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| drop(self.remove(key)));
    }
}

/// Why a batch was not applied.
enum NotYet {
    Duplicate,
    /// An earlier batch of the replica, or a dot it supersedes, is missing.
    Missing,
    /// Its origin's signature does not hold, or the replica is frozen, or what it wrote later was discarded.
    Refused,
    /// It lies beyond a fence, and is kept aside; `true` if it was not known.
    Aside(bool),
}

impl Replica {
    pub(super) fn on_batch(
        &mut self,
        from: NodeId,
        batch: &Batch<'_>,
        prompt: bool,
        table: &[Slot],
        now: Now,
    ) -> Result<(), DecodeError> {
        let Some(link) = self.peers.get_mut(&from).and_then(|peer| peer.link.as_mut()) else { return Ok(()) };
        link.untold_bytes += batch.ops.len();
        link.report_due |= prompt;
        if batch.last() <= self.state.clock.get(batch.replica) && !self.config.hooks.planted(Mutant::AppliedTwice) {
            self.tally.batches_duplicate += 1;
            return Ok(());
        }
        // The header's slot is ours already; the ops still name replicas as the peer does.
        let ops = OpReader::new(batch, PeerSlots { table }).collect::<Result<Vec<_>, _>>()?;
        match self.try_apply(from, batch, &ops, now) {
            Ok(()) => {
                self.relay(from, batch, &ops);
                self.unpark(now);
            }
            Err(NotYet::Missing) => {
                if self.park(from, batch, &ops, now) {
                    self.relay(from, batch, &ops);
                }
            }
            Err(NotYet::Aside(true)) => self.relay(from, batch, &ops),
            Err(NotYet::Duplicate | NotYet::Refused | NotYet::Aside(false)) => {}
        }
        Ok(())
    }

    /// The batches parked.
    pub fn parked(&self) -> &Parked {
        &self.parked
    }

    fn try_apply(&mut self, from: NodeId, batch: &Batch<'_>, ops: &[OpRef<'_>], now: Now) -> Result<(), NotYet> {
        let covered = self.state.clock.get(batch.replica);
        if batch.last() <= covered && !self.config.hooks.planted(Mutant::AppliedTwice) {
            self.tally.batches_duplicate += 1;
            return Err(NotYet::Duplicate);
        }
        if self.frozen.contains_key(&batch.replica) || batch.replica == self.slot {
            self.tally.refused += 1;
            return Err(NotYet::Refused);
        }
        match self.fences.bars(batch.replica, batch.last()) {
            Some(_) if self.config.hooks.planted(Mutant::FenceIgnored) => {}
            Some(FenceState::Fenced) => return Err(NotYet::Aside(self.keep_aside(batch, ops))),
            Some(_) => {
                self.tally.refused += 1;
                return Err(NotYet::Refused);
            }
            None => {}
        }
        let hooks = &self.config.hooks;
        let next = batch.first == covered + 1
            || (hooks.planted(Mutant::SkipGap) && batch.first > covered)
            || (hooks.planted(Mutant::AppliedTwice) && batch.last() <= covered);
        if !next || !ops.iter().zip(batch.first..).all(|(op, seq)| self.may_supersede(batch.replica, seq, op)) {
            return Err(NotYet::Missing);
        }
        self.check_signature(from, batch, ops, now)?;
        for (op, seq) in ops.iter().zip(batch.first..) {
            if self.config.hooks.planted(Mutant::UnknownFieldLost) && !self.declares(op.document, op.key) {
                continue;
            }
            self.state.apply(Dot::new(batch.replica, seq), op);
        }
        self.state.clock.raise(batch.replica, batch.last());
        self.persistence.touch();
        self.tally.batches_applied += 1;
        self.tally.ops_applied += ops.len() as u64;
        self.observe_stamps(batch.replica, ops, now);
        self.check_twin(batch.replica, ops.iter().map(|op| op.at.ms()).max().unwrap_or(0), now);
        Ok(())
    }

    /// Whether every dot that the op of `seq` supersedes is in the clock, or earlier in its own batch.
    fn may_supersede(&self, replica: Slot, seq: u64, op: &OpRef<'_>) -> bool {
        let earlier = |dot: &Dot| dot.slot() == replica && dot.seq() < seq;
        let hooks = &self.config.hooks;
        let nearly = |dot: &Dot| dot.seq() <= self.state.clock.get(dot.slot()) + 1;
        hooks.planted(Mutant::NoCausalWait)
            || (hooks.planted(Mutant::CoversOneMore) && op.supersedes.iter().all(nearly))
            || op.supersedes.iter().all(|dot| earlier(dot) || self.state.clock.covers(*dot))
    }

    /// Chains the batch. What came straight from its origin is checked off the delivery path, since the connection
    /// vouches for it; what another node passed on is checked before it is applied.
    fn check_signature(&mut self, from: NodeId, batch: &Batch<'_>, ops: &[OpRef<'_>], now: Now) -> Result<(), NotYet> {
        let mut writer = OpWriter::new(batch.replica, FullIds { roster: &self.state.roster });
        ops.iter().zip(batch.first..).for_each(|(op, seq)| writer.push(seq, op));
        let replica = *self.state.roster.id(batch.replica);
        let (head_seq, previous) = self.state.heads[batch.replica.index()];
        let hash = chain(&previous, &replica, batch.first, batch.count, &writer.into_bytes());
        // Without the head before it (it was not passed on) a batch cannot be checked; the chain starts anew.
        let checkable = head_seq + 1 == batch.first;
        if checkable && replica.node == from {
            let claim = Signed { replica, seq: batch.last(), hash, signature: batch.signature };
            self.ask_to_verify(claim);
        } else if checkable
            && !self.config.hooks.planted(Mutant::SignatureUnchecked)
            && !self.keys.verify(&replica.node, &hash, &batch.signature)
        {
            self.tally.refused += 1;
            self.alarm(Alarm::Forged { replica: (&replica).into(), seq: batch.last() }, now);
            return Err(NotYet::Refused);
        }
        self.state.heads[batch.replica.index()] = (batch.last(), hash);
        Ok(())
    }

    /// A replica of this node that is not this process, and that wrote after this process had started: two processes run
    /// under one identity. What an earlier start wrote is older than this one.
    pub(super) fn check_twin(&mut self, replica: Slot, latest_ms: u64, now: Now) {
        let id = *self.state.roster.id(replica);
        let since_start = latest_ms > self.started_ms + self.config.max_clock_skew_ms;
        if id.node == self.id.node && replica != self.slot && since_start {
            self.alarm(Alarm::Cloned { replica: (&id).into() }, now);
        }
    }

    fn observe_stamps(&mut self, replica: Slot, ops: &[OpRef<'_>], now: Now) {
        let Some(latest) = ops.iter().map(|op| op.at).max() else { return };
        if self.config.hooks.planted(Mutant::FutureFolded) {
            let _ = self.hybrid.observe(latest, latest.ms());
        }
        if !self.hybrid.observe(latest, now.wall_ms) {
            let replica = *self.state.roster.id(replica);
            let text = (&replica).into();
            let known = |alarm: &Alarm| matches!(alarm, Alarm::Skewed { replica, .. } if *replica == text);
            if !self.has_alarm(known) {
                let ahead_ms = latest.ms() - now.wall_ms;
                self.alarm(Alarm::Skewed { replica: (&replica).into(), ahead_ms }, now);
            }
        }
    }

    /// Whether it was not parked already, and there was room.
    pub(super) fn park(&mut self, from: NodeId, batch: &Batch<'_>, ops: &[OpRef<'_>], now: Now) -> bool {
        let mut writer = OpWriter::new(batch.replica, OwnSlots);
        ops.iter().zip(batch.first..).for_each(|(op, seq)| writer.push(seq, op));
        let parked = ParkedBatch { count: batch.count, signature: batch.signature, ops: writer.into_bytes(), from };
        let unbounded = self.config.hooks.planted(Mutant::ParkingUnbounded);
        let done = self.parked.insert((batch.replica, batch.first), parked, &self.config.limits, unbounded);
        self.tally.batches_parked += u64::from(done == Some(true));
        if self.config.hooks.planted(Mutant::JudgedBeyondClock) {
            ops.iter().for_each(|op| self.judge_beyond(op.document));
        }
        self.tally.batches_dropped += u64::from(done.is_none());
        // A gap in the sender's own stream is filled by nobody else. A superseded dot may be under way from a third
        // node; if it is not, the reports will say so.
        let asks = !self.config.hooks.planted(Mutant::NeverAskedAgain);
        if asks
            && self.state.roster.id(batch.replica).node == from
            && batch.first > self.state.clock.get(batch.replica) + 1
        {
            self.want_pull(from, now);
        }
        done == Some(true)
    }

    /// Own batches that were read back from a damaged store and that nobody else has: they are applied like any batch
    /// that arrives, signature and all, and members pull them when they hear of them.
    pub(super) fn offer_salvaged(&mut self, now: Now) {
        for (replica, row) in std::mem::take(&mut self.salvaged) {
            self.park_portable(self.id.node, replica, &row, now);
        }
        self.unpark(now);
    }

    /// Applies what has become applicable, and forgets what was caught up meanwhile.
    pub(super) fn unpark(&mut self, now: Now) {
        let mut progress = !self.parked.is_empty();
        while progress {
            progress = false;
            let mut keys: Vec<(Slot, u64)> = self.parked.batches.keys().copied().collect();
            if self.config.hooks.rare() {
                keys.reverse();
            }
            for key in keys {
                let (slot, first) = key;
                if first > self.state.clock.get(slot) + 1 {
                    continue;
                }
                let Some(parked) = self.parked.remove(key) else { continue };
                if self.config.hooks.planted(Mutant::ParkedLost) && first == self.state.clock.get(slot) + 1 {
                    self.state.clock.set(slot, first + parked.count as u64 - 1);
                    continue;
                }
                let batch =
                    Batch { replica: slot, first, count: parked.count, signature: parked.signature, ops: &parked.ops };
                // Written by us a moment ago: it decodes.
                let Ok(ops) = OpReader::new(&batch, OwnSlots).collect::<Result<Vec<_>, _>>() else { continue };
                match self.try_apply(parked.from, &batch, &ops, now) {
                    Ok(()) => progress = true,
                    Err(NotYet::Missing) if first == self.state.clock.get(slot) + 1 => {
                        self.parked.insert(key, parked, &self.config.limits, false);
                    }
                    Err(_) => {}
                }
            }
        }
    }
}
