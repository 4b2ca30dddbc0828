//! Local writes: planned against what is visible here, stamped, applied, and put into the group that goes out.

use std::collections::BTreeMap;

use super::fence::FenceState;
use super::hooks::Mutant;
use super::io::Now;
use super::replica::Replica;
use crate::clock::{Dot, HybridTime, SkewError};
use crate::document::batch::{BATCH_BYTES_MAX, Dots, OPS_MAX, OpRef};
use crate::document::cell::{EntryRef, apply_op};
use crate::document::plan::{PlanError, PlannedOp, Planner, Write, plan};
use crate::document::view::EXISTENCE_KEY;
use crate::document::{Address, AddressError, Document};

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("{address}: {cause}")]
    Plan { address: Address, cause: PlanError },
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Clock(#[from] SkewError),
    #[error("a quorum fenced this node's replica {replica} after seq {seq}: {}", fenced_until(*.state))]
    Fenced { replica: String, seq: u64, state: FenceState },
    #[error(
        "the write comes to {ops} ops of {bytes} bytes; one transaction holds at most {OPS_MAX} ops and {BATCH_BYTES_MAX} bytes: split it"
    )]
    TooLarge { ops: usize, bytes: usize },
}

fn fenced_until(state: FenceState) -> &'static str {
    match state {
        FenceState::Discarded => {
            "what it wrote later was discarded. Start this node again with --join: it sets its store aside and takes over \
             what the others have"
        }
        _ => "it writes nothing until somebody releases or discards the rest",
    }
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The seq of its last op; `None` when nothing had to change.
    pub seq: Option<u64>,
}

impl Replica {
    /// Applies `writes` as one transaction: all of them, or none. Visible here when this returns. With `prompt`, members
    /// are asked to report at once when it is on their disks.
    pub fn write(&mut self, writes: &[(Address, Write)], prompt: bool, now: Now) -> Result<Written, WriteError> {
        let planned = self.plan_all(writes)?;
        if planned.is_empty() {
            return Ok(Written { seq: None });
        }
        let seq = self.commit(&planned, now)?;
        if prompt {
            self.group.set_prompt();
        }
        self.settle(now);
        Ok(Written { seq: Some(seq) })
    }

    /// Stamps, applies and sends out what was planned, as one transaction; gives the seq of its last op.
    pub(super) fn commit(&mut self, planned: &[(&Address, PlannedOp)], now: Now) -> Result<u64, WriteError> {
        let op_bytes = |(address, op): &(&Address, PlannedOp)| {
            let value = op.value.as_ref().map_or(0, Vec::len);
            address.as_str().len() + op.key.len() + value + 16 + op.supersedes.len() * 60
        };
        let bytes: usize = planned.iter().map(op_bytes).sum();
        if planned.len() > OPS_MAX || bytes > BATCH_BYTES_MAX {
            return Err(WriteError::TooLarge { ops: planned.len(), bytes });
        }
        if let Some(fence) = self.fenced(planned.len()) {
            let (replica, seq, state) = (fence.replica.clone(), fence.seq, fence.state);
            return Err(WriteError::Fenced { replica, seq, state });
        }
        let at = self.hybrid.stamp(now.wall_ms)?;
        if !self.group.has_room_for(planned.len(), self.config.limits.group_bytes) {
            self.flush_group(now);
        }
        Ok(self.apply_own(planned, at, now))
    }

    fn apply_own(&mut self, planned: &[(&Address, PlannedOp)], at: HybridTime, now: Now) -> u64 {
        let mut seq = self.state.clock.get(self.slot);
        for (address, op) in planned {
            seq += 1;
            let dot = Dot::new(self.slot, seq);
            let op = OpRef {
                document: address.as_str(),
                key: &op.key,
                value: op.value.as_deref(),
                at,
                supersedes: Dots::from_slice(&op.supersedes),
            };
            self.state.apply(dot, &op);
            self.group.push(dot, &op);
            if self.config.hooks.planted(Mutant::TornTransaction) {
                self.state.clock.set(self.slot, seq);
                self.flush_group(now);
            }
        }
        self.state.clock.set(self.slot, seq);
        self.tally.ops_written += planned.len() as u64;
        self.persistence.touch();
        seq
    }

    /// Plans every write before any is applied. Writes of one document see those before them.
    fn plan_all<'a>(&self, writes: &'a [(Address, Write)]) -> Result<Vec<(&'a Address, PlannedOp)>, WriteError> {
        let mut all = Vec::with_capacity(writes.len());
        let mut ops = Vec::new();
        let mut ahead: BTreeMap<&str, Document> = BTreeMap::new();
        for (n, (address, write)) in writes.iter().enumerate() {
            let planner = Planner {
                schema: self.schemas.of(address.collection()).0,
                roster: &self.state.roster,
                me: self.slot,
                settled: &self.settled,
            };
            let document = ahead.get(address.as_str()).or_else(|| self.state.document(address.as_str()));
            plan(document, planner, write, &mut ops)
                .map_err(|cause| WriteError::Plan { address: address.clone(), cause })?;
            if let (Some(first), Some(document)) = (ops.first_mut(), document) {
                self.build_on_existence(document, &mut first.supersedes);
            }
            if writes[n + 1..].iter().any(|(later, _)| later == address) {
                let next = self.state.clock.get(self.slot) + all.len() as u64 + 1;
                let document = document.cloned().unwrap_or_default();
                ahead.insert(address.as_str(), self.document_after(document, &ops, next));
            }
            all.extend(ops.drain(..).map(|op| (address, op)));
        }
        Ok(all)
    }

    /// A write of a document that exists builds on its creation: it names the creation's dots too, so that no node
    /// applies the one without the other (rule R1). They lie in another cell, so naming them supersedes nothing. A node
    /// that saw an increment before the document it counts in would take the document for a new one, and begin it anew.
    pub(super) fn build_on_existence(&self, document: &Document, supersedes: &mut Vec<Dot>) {
        if self.config.hooks.planted(Mutant::CreationNotAwaited) {
            return;
        }
        let creation = document.cell(EXISTENCE_KEY).into_iter().flat_map(|cell| cell.valued()).map(|entry| entry.dot);
        // What every member has, and what comes before in this replica's own order, is not waited for.
        let unsettled = creation.filter(|dot| dot.slot() != self.slot && !self.settled.covers(*dot));
        for dot in unsettled {
            if !supersedes.contains(&dot) {
                supersedes.push(dot);
            }
        }
    }

    /// `document` as it will be once `ops` have the dots from `next` on.
    fn document_after(&self, mut document: Document, ops: &[PlannedOp], next: u64) -> Document {
        let mut packed = Vec::new();
        for (op, seq) in ops.iter().zip(next..) {
            // The stamp is not given yet; reads of this copy only ask which dots there are.
            let entry =
                EntryRef { dot: Dot::new(self.slot, seq), at: HybridTime(u64::MAX), value: op.value.as_deref() };
            apply_op(document.entries_of(&op.key), &op.supersedes, entry, &mut packed);
            document.put(&op.key, &packed);
        }
        document
    }
}
