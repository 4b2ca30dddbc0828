//! Forgetting the oldest records: at one of this node's own anchors, as
//! [`retention`](crate::history::audit::retention) demands, so that the chain that is left still proves itself. They go
//! when there are too many, and when they are old.

use super::log::{Audit, BYTES_MAX, RECORDS_MAX};
use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::history::audit::row::{BASE_KEY, key_of};
use crate::history::audit::{Anchor, Check, Kind, RecordRef, Retention};

/// A quarter goes at once, so that cutting is rare.
const KEPT_RECORDS: usize = RECORDS_MAX / 4 * 3;
const KEPT_BYTES: usize = BYTES_MAX / 4 * 3;
/// How often it is looked whether the oldest record is too old, ms.
const LOOK_MS: u64 = 60_000;
/// Old records go at most so often, ms. Each time leaves a record of itself: going one by one, as many would come as go.
const DAY_MS: u64 = 24 * 3_600_000;

impl Audit {
    /// Whether the oldest record was written longer ago than records are kept, and none went today.
    fn is_old(&self, keep_ms: u64, wall_ms: u64) -> bool {
        if self.chain.base().is_some_and(|base| wall_ms < base.cut_at_ms.saturating_add(DAY_MS)) {
            return false;
        }
        let first = self.records.get(&key_of(self.chain.span().0)[..]).and_then(|row| RecordRef::decode(row).ok());
        // One that does not decode tells nothing: the anchors are asked.
        first.is_none_or(|record| record.at_ms.saturating_add(keep_ms) <= wall_ms)
    }

    /// Whether more would go, up to this record, than what earlier cuts said of themselves: else a quiet audit would
    /// cut its own traces, one a year, for ever.
    fn is_worth_cutting(&self, last: u64) -> bool {
        let upto = self.records.range(key_of(self.chain.span().0).to_vec()..=key_of(last).to_vec());
        upto.into_iter().any(|(_, row)| RecordRef::decode(row).map_or(true, |record| record.kind != Kind::Retained))
    }

    /// How many of the newest records are to stay when there are too many.
    fn fitting(&self) -> usize {
        let mut bytes = 0;
        let newest = self.records.values().rev();
        let fits = newest.take_while(|row| {
            bytes += row.len();
            bytes <= KEPT_BYTES
        });
        fits.take(KEPT_RECORDS).count()
    }
}

impl Replica {
    pub(super) fn retain_if_full(&mut self, now: Now) {
        if self.audit.records.len() > RECORDS_MAX || self.audit.bytes > BYTES_MAX {
            let records_max = self.audit.fitting() as u64;
            self.cut_audit(Retention { records_max, ..Retention::default() }, now);
        }
    }

    pub(super) fn retain_if_old(&mut self, now: Now) {
        if now.mono_ms() < self.audit.aged_ms {
            return;
        }
        self.audit.aged_ms = now.mono_ms() + LOOK_MS;
        let retention = Retention { records_max: u64::MAX, ..Retention::default() };
        if self.audit.is_old(retention.keep_ms, now.wall_ms) {
            self.cut_audit(retention, now);
        }
    }

    fn cut_audit(&mut self, retention: Retention, now: Now) {
        let (keys, own) = (self.keys.clone(), self.id.node);
        let audit = &mut self.audit;
        let Some(head) = audit.chain.head() else { return };
        let first = audit.chain.span().0;
        // A restored disk leaves anchors of a chain that is no more.
        let row_hash = |index: u64| RecordRef::decode(audit.records.get(&key_of(index)[..])?).ok().map(|row| row.hash);
        let holds = |anchor: &&Anchor| anchor.index >= first && row_hash(anchor.index) == Some(anchor.hash);
        let anchors: Vec<Anchor> = audit.anchors.of(&own).filter(holds).copied().collect();
        let Some(anchor) = retention.due(&anchors, head.index, now.wall_ms) else { return };
        if !audit.is_worth_cutting(anchor.index) {
            return;
        }
        let Some(row) = audit.records.get(&key_of(anchor.index)[..]).cloned() else { return };
        let check: Check<'_> = &|node, message, signature| keys.verify(node, message, signature);
        let by = own.to_string();
        let cut = audit.chain.cut(anchor, &row, &by, now.wall_ms, &|message| keys.sign(message), check);
        // Contradicted: the row is not the one that was signed. The chain is kept whole, to be looked at.
        let Ok(cut) = cut else { return };
        audit.rows.put(cut.base_row.key.clone(), cut.base_row.bytes.clone());
        for key in cut.removals() {
            audit.bytes -= audit.records.remove(&key[..]).map_or(0, |row| row.len());
            audit.rows.remove(key.to_vec());
        }
        audit.bytes += cut.base_row.bytes.len();
        audit.bytes -= audit.records.insert(BASE_KEY.to_vec(), cut.base_row.bytes).map_or(0, |row| row.len());
        audit.index.cut(cut.last + 1);
        audit.keep(cut.record, false);
        self.persistence.touch();
    }
}
