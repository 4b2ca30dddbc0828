//! The chain in memory. The disk holds the same rows: what goes there, and what it said to have, passes through here.
//!
//! Records are bounded in number and bytes; which ones go is for [`retain`](super::retain). Where a disk takes nothing, new
//! records stop at a bound too, and the first one after that says how many were left out.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::anchors::{self, Anchors};
use super::counts::Counts;
use super::damage::Loss;
use super::flood::Flood;
use super::rows::Rows;
use super::shelves::{ShelfError, Shelves};
use super::standing::{self, Standing};
use crate::clock::NodeId;
use crate::engine::hooks::Mutant;
use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::history::audit::chain::Appended;
use crate::history::audit::row::{own_range, split_imported};
use crate::history::audit::{Anchor, Chain, Check, Entry, Imported, Index, Kind, RecordRef, Report, verify};

/// Records kept, in memory and on the disk. At 500 bytes each about 32 MB; the bytes are bounded beside.
pub const RECORDS_MAX: usize = 65_536;
pub const BYTES_MAX: usize = 32 << 20;
/// Records that no disk has yet. Beyond it new ones are counted and left out.
pub const UNSTORED_MAX: u64 = 8_192;
/// An own anchor stands at least every so many records, published or not, so that there are places to cut at.
const MARK_RECORDS: u64 = 4_096;

#[derive(Debug)]
pub struct Audit {
    pub(super) chain: Chain,
    /// This node's own rows, the base among them, by key.
    pub(super) records: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) bytes: usize,
    pub(super) index: Index,
    pub(super) at_start: Report,
    pub(super) anchors: Anchors,
    pub(super) shelves: Shelves,
    pub(super) standing: Standing,
    pub(super) flood: Flood,
    pub(in crate::engine) counts: Counts,
    /// Since the start is over: what the store held is no news.
    pub(super) awake: bool,
    /// What the last process left untold was told.
    pub(super) recalled: bool,
    /// When this node may publish its next anchor, on the clock that only goes forward.
    pub(super) due_ms: u64,
    /// The newest anchor that this node's member document holds, or is to hold.
    pub(in crate::engine) published: Option<Anchor>,
    /// Signed, and not yet told to others.
    pub(super) marked: Option<Anchor>,
    /// The newest record that this process, or an earlier one, signed.
    signed: u64,
    /// Newest index that the disk is known to have; `None` before there is any.
    stored: Option<u64>,
    left_out: u64,
    /// When it is looked next whether records are too old, on the clock that only goes forward.
    pub(super) aged_ms: u64,
    pub(in crate::engine) rows: Rows,
}

impl Audit {
    /// Reads back what the tree held. Damage in it is told, and stops nothing.
    pub(in crate::engine) fn load(node: NodeId, held: BTreeMap<Vec<u8>, Vec<u8>>, check: Check<'_>) -> Self {
        let (first, end) = own_range();
        let (mut records, mut imported) = (BTreeMap::new(), BTreeMap::new());
        let (mut anchors, mut standing) = (Anchors::default(), Standing::default());
        for (key, row) in held {
            if key >= first && key < end {
                records.insert(key, row);
            } else if anchors::is_key(&key) {
                // One that does not decode proves nothing, for or against.
                let _ = anchors.load(&row);
            } else if standing::is_key(&key) {
                // The conflict of one that does not decode is told anew.
                let _ = standing.load(&key, &row);
            } else if split_imported(&key).is_some() {
                imported.insert(key, row);
            }
        }
        let mut index = Index::new(RECORDS_MAX);
        let (mut chain, _) = Chain::load(node, &records, check, |record| index.insert(record));
        let own: Vec<Anchor> = anchors.of(&node).copied().collect();
        let at_start = verify(node, &records, &own, check);
        own.iter().for_each(|anchor| chain.anchored(anchor));
        Self {
            stored: chain.head().map(|head| head.index),
            signed: own.last().map_or(0, |anchor| anchor.index).min(chain.head().map_or(0, |head| head.index)),
            marked: None,
            bytes: records.values().map(Vec::len).sum(),
            shelves: Shelves::load(node, imported, check),
            standing,
            chain,
            records,
            index,
            at_start,
            anchors,
            flood: Flood::default(),
            counts: Counts::default(),
            awake: false,
            recalled: false,
            due_ms: 0,
            published: None,
            left_out: 0,
            aged_ms: 0,
            rows: Rows::default(),
        }
    }

    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    pub fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    pub fn shelves(&self) -> &Shelves {
        &self.shelves
    }

    /// This node's own rows in the order of their keys.
    pub fn records(&self) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.records
    }

    pub(super) fn keep(&mut self, appended: Appended, skipped: bool) {
        if let Ok(record) = RecordRef::decode(&appended.row.bytes) {
            self.index.insert(&record);
            self.counts.record(record.kind);
        }
        self.bytes += appended.row.bytes.len();
        if !skipped {
            self.rows.put(appended.row.key.clone(), appended.row.bytes.clone());
        }
        self.records.insert(appended.row.key, appended.row.bytes);
    }

    /// Whether the disk is so far behind that new records are left out.
    fn is_stuck(&self) -> bool {
        let (first, next) = self.chain.span();
        next.saturating_sub(self.stored.map_or(first, |stored| stored + 1)) >= UNSTORED_MAX
    }

    /// Index of the newest record, for the disk to say that it has it.
    pub(in crate::engine) fn head(&self) -> Option<u64> {
        self.chain.head().map(|head| head.index)
    }
}

impl Replica {
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Takes another node's exported chain.
    pub fn import_audit(&mut self, text: &str, now: Now) -> Result<Imported, ShelfError> {
        let (keys, audit) = (self.keys.clone(), &mut self.audit);
        let known: Vec<Anchor> = audit.anchors.iter().copied().collect();
        let check: Check<'_> = &|node, message, signature| keys.verify(node, message, signature);
        let imported = audit.shelves.import(text, &known, check, &mut audit.rows)?;
        let own = audit.chain.node();
        imported.anchors.iter().for_each(|anchor| audit.anchors.hold(anchor, anchor.node == own, &mut audit.rows));
        self.persistence.touch();
        self.settle(now);
        Ok(imported)
    }

    /// Appends a record, unless the disk is far behind.
    pub(in crate::engine) fn record(&mut self, entry: Entry) {
        if !self.audit.awake {
            return;
        }
        if self.audit.is_stuck() {
            self.audit.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut self.audit.left_out);
        if left_out > 0 {
            let detail = json!({ "alarm": "audit_left_out", "records": left_out, "why": "the disk took nothing" });
            self.append(&Entry::new(Kind::Damage, self.id.node.to_string(), entry.at_ms).detail(detail));
        }
        self.append(&entry);
    }

    fn append(&mut self, entry: &Entry) {
        let appended = self.audit.chain.append(entry);
        let skipped = self.config.hooks.planted(Mutant::AuditSkips) && appended.head.index % 5 == 4;
        self.audit.keep(appended, skipped);
        self.persistence.touch();
    }

    /// The start is over: what happens from now on is news. `loss`: what is known of the store that was damaged.
    pub(in crate::engine) fn wake_audit(&mut self, loss: Option<Loss>, now: Now) {
        self.audit.awake = true;
        let started = self.audit.chain.start(&self.config.incarnation, now.wall_ms);
        self.audit.keep(started, false);
        self.persistence.touch();
        if self.config.rebuilt {
            self.record_loss(loss.unwrap_or_default(), now);
        }
        self.end_what_no_rule_names(now);
        self.recall_within(now);
        self.plan_anchor(now);
    }

    /// The disk has every record up to `index`.
    pub(in crate::engine) fn on_audit_stored(&mut self, index: u64, now: Now) {
        self.audit.chain.stored(index);
        self.audit.stored = self.audit.stored.max(Some(index));
        if index >= self.audit.signed + MARK_RECORDS {
            self.mark_head(now);
        }
        self.retain_if_full(now);
    }

    /// On every tick. Where nothing is due, this is a few comparisons.
    pub(in crate::engine) fn tend_audit(&mut self, now: Now) {
        self.recall_within(now);
        self.close_flood(now);
        self.retain_if_old(now);
    }

    /// Signs the newest stored record. Whether others are told is another matter.
    pub(super) fn mark_head(&mut self, now: Now) -> Option<Anchor> {
        let keys = self.keys.clone();
        let anchor = self.audit.chain.anchor(now.wall_ms, &|message| keys.sign(message))?;
        self.audit.anchors.hold(&anchor, true, &mut self.audit.rows);
        (self.audit.signed, self.audit.marked) = (anchor.index, Some(anchor));
        self.persistence.touch();
        Some(anchor)
    }
}

/// `value`, or its start where it is long: a record stays small beside the document it is about.
pub(super) fn brief(value: &Json) -> Json {
    const SHOWN_BYTES_MAX: usize = 1 << 10;
    const START_BYTES: usize = 256;
    let text = value.to_string();
    match text.len() <= SHOWN_BYTES_MAX {
        true => value.clone(),
        false => json!({ "bytes": text.len(), "start": text[..text.floor_char_boundary(START_BYTES)] }),
    }
}
