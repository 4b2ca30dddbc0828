//! What may be forgotten: removal records that every member has, and own batches that every member has.

use super::hooks::Mutant;
use super::io::Now;
use super::replica::Replica;

impl Replica {
    /// Drops removal records that are stable. Past their bound the floor moves on without waiting for members that are
    /// away: they take the full path when they return, which rule R3 makes safe.
    pub(super) fn collect_removals(&mut self, now: Now) {
        self.collect_due_us = now.mono_us + self.config.limits.collect_ms * 1_000;
        let stable = self.stable();
        self.settled.clone_from(&stable);
        self.forget_delivered(&stable);
        let records = self.state.counts().removal_records;
        if records == 0 {
            return;
        }
        if self.config.hooks.planted(Mutant::PrunedTooEarly) {
            let kept = self.state.floor.clone();
            self.state.raise_floor(&self.persistence.durable);
            self.state.floor = kept;
            return;
        }
        let forced = records > self.config.limits.removal_records;
        let floor = if forced { self.persistence.durable.clone() } else { stable };
        if !self.state.floor.covers_all(&floor) {
            self.tally.floors_raised += 1;
            self.tally.floors_forced += u64::from(forced);
            self.state.raise_floor(&floor);
            self.persistence.touch();
        }
    }
}
