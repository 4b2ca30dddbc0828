//! When what goes to the disk: one write at a time, holding everything that changed since the last. While the disk is
//! busy, changes gather; that is the group commit.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ballot::Due;
use super::hooks::Mutant;
use super::io::{Event, Now, Output, Ticket};
use super::limits::PERSIST_RETRY_MS;
use super::persist::{Tree, WriteBatch};
use super::replica::Replica;
use super::rows::{OutboxRow, PortableBatch, outbox_key};
use crate::clock::{Clock, ClusterId, Dot, Slot};

#[derive(Debug)]
pub struct Persistence {
    /// What is on this disk.
    pub durable: Clock,
    touched: bool,
    next_ticket: u64,
    in_flight: Option<InFlight>,
    /// The rows of a write that failed, to be asked for again.
    failed: Option<(u64, InFlight)>,
    /// The last write failed, and embedders were told.
    troubled: bool,
    /// Own batches, signed, not yet handed to the disk.
    batches: Vec<(Vec<u8>, Vec<u8>)>,
    /// Rows of the outbox, also those of earlier starts, oldest first.
    outbox: VecDeque<OutboxRow>,
    outbox_batches_max: usize,
    forgotten: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    clock: Clock,
    cluster: bool,
    /// The newest record of the audit that is in it.
    audit: Option<u64>,
    /// What voters asked for, to be given once it is on the disk.
    answers: Vec<Due>,
    /// Shared with whoever writes them: asked for again if that fails.
    rows: Arc<WriteBatch>,
}

impl Persistence {
    pub(super) fn new(durable: Clock, outbox: Vec<OutboxRow>, outbox_batches_max: usize) -> Self {
        Self {
            durable,
            touched: false,
            next_ticket: 1,
            in_flight: None,
            failed: None,
            troubled: false,
            batches: Vec::new(),
            outbox: outbox.into(),
            outbox_batches_max,
            forgotten: Vec::new(),
        }
    }

    /// Something changed that a disk should know.
    pub fn touch(&mut self) {
        self.touched = true;
    }

    pub fn failed(&self) -> bool {
        self.troubled
    }

    pub(super) fn keep_batch(&mut self, slot: Slot, batch: &PortableBatch<'_>) {
        let key = outbox_key(slot, batch.first);
        self.batches.push((key.clone(), batch.encode()));
        self.outbox.push_back(OutboxRow { last: Dot::new(slot, batch.last()), key });
        if self.outbox.len() > self.outbox_batches_max {
            self.forgotten.extend(self.outbox.pop_front().map(|row| row.key));
        }
        self.touched = true;
    }

    /// What `stable` covers is on every member's disk: its rows may go.
    fn forget_batches(&mut self, stable: &Clock) {
        while self.outbox.front().is_some_and(|row| stable.covers(row.last)) {
            self.forgotten.extend(self.outbox.pop_front().map(|row| row.key));
        }
        self.touched |= !self.forgotten.is_empty();
    }
}

impl Replica {
    /// Hands the disk everything that changed, unless it is busy.
    pub(super) fn persist_if_due(&mut self, now: Now) {
        let busy = self.persistence.in_flight.is_some() || self.persistence.failed.is_some();
        if busy || !self.persistence.touched {
            return;
        }
        // A stored clock ends at a batch's end.
        self.flush_group(now);
        self.persistence.touched = false;
        let mut rows = self.state.take_rows(self.cluster);
        for (key, row) in std::mem::take(&mut self.persistence.batches) {
            rows.put(Tree::Outbox, key, row);
        }
        for key in std::mem::take(&mut self.persistence.forgotten) {
            rows.remove(Tree::Outbox, key);
        }
        let history = std::mem::take(&mut self.conflicts.rows);
        history.put.into_iter().for_each(|(key, row)| rows.put(Tree::History, key, row));
        history.remove.into_iter().for_each(|key| rows.remove(Tree::History, key));
        for (key, row) in self.audit.rows.take() {
            match row {
                Some(row) => rows.put(Tree::Audit, key, row),
                None => rows.remove(Tree::Audit, key),
            }
        }
        self.fences.take_rows(&mut rows);
        let answers = self.booth.take(&mut rows);
        let ticket = Ticket(self.persistence.next_ticket);
        self.persistence.next_ticket += 1;
        if self.config.hooks.planted(Mutant::PagesNotWritten) && ticket.0.is_multiple_of(2) {
            rows.writes.retain(|write| write.tree != Tree::Cells);
        }
        if self.config.hooks.planted(Mutant::AckBeforeDisk) {
            self.persistence.durable = self.state.clock.clone();
            self.emit(Event::Durable { seq: self.state.clock.get(self.slot) });
        }
        let (rows, cluster) = (Arc::new(rows), self.cluster.is_some());
        self.persistence.in_flight = Some(InFlight {
            ticket,
            clock: self.state.clock.clone(),
            cluster,
            audit: self.audit.head(),
            answers,
            rows: rows.clone(),
        });
        self.output(Output::Persist { ticket, rows });
    }

    pub(super) fn on_persisted(&mut self, ticket: Ticket, now: Now) {
        let Some(done) = self.persistence.in_flight.take_if(|in_flight| in_flight.ticket == ticket) else { return };
        if std::mem::take(&mut self.persistence.troubled) {
            self.emit(Event::StorageRecovered);
        }
        let before = self.persistence.durable.get(self.slot);
        self.persistence.durable = done.clock;
        let seq = self.persistence.durable.get(self.slot);
        if seq > before {
            self.emit(Event::Durable { seq });
        }
        if let Some(index) = done.audit {
            self.on_audit_stored(index, now);
        }
        if done.cluster && !self.cluster_durable {
            self.cluster_durable = true;
            self.on_cluster_durable(now);
        }
        self.report_durable();
        self.give_answers(done.answers, now);
    }

    pub(super) fn on_persist_failed(&mut self, ticket: Ticket, reason: String, now: Now) {
        let Some(lost) = self.persistence.in_flight.take_if(|in_flight| in_flight.ticket == ticket) else { return };
        self.persistence.failed = Some((now.mono_ms() + PERSIST_RETRY_MS, lost));
        self.persistence.troubled = true;
        self.emit(Event::StorageFailed { reason });
    }

    /// Asks again for a write that failed: its rows first, since later ones build on them.
    pub(super) fn retry_persist(&mut self, now: Now) {
        if let Some((_, lost)) = self.persistence.failed.take_if(|(at_ms, _)| *at_ms <= now.mono_ms()) {
            self.output(Output::Persist { ticket: lost.ticket, rows: lost.rows.clone() });
            self.persistence.in_flight = Some(lost);
        }
    }

    fn on_cluster_durable(&mut self, now: Now) {
        if let Some(cluster) = self.cluster {
            self.emit(Event::ClusterKnown(cluster));
            self.greet_again(now);
        }
    }

    /// Takes a cluster as this node's own; it is acted upon once it is durable.
    pub(super) fn adopt(&mut self, cluster: ClusterId) {
        self.cluster = Some(cluster);
        self.state.dirty.cluster = true;
        self.persistence.touch();
    }

    /// Founds a cluster after the start, unless one was met meanwhile.
    pub fn found(&mut self, cluster: ClusterId, now: Now) {
        if self.cluster.is_none() {
            self.adopt(cluster);
            self.found_voters();
            self.settle(now);
        }
    }

    /// Own batches kept for members that may not have them.
    pub fn outbox_len(&self) -> usize {
        self.persistence.outbox.len()
    }

    pub fn durable(&self) -> &Clock {
        &self.persistence.durable
    }

    pub fn storage_failed(&self) -> bool {
        self.persistence.failed()
    }

    /// Lets go of the own batches that every member has.
    pub(super) fn forget_delivered(&mut self, stable: &Clock) {
        self.persistence.forget_batches(stable);
    }
}
