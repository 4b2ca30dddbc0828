//! The chain in memory. The disk holds the same rows: what goes there, and what it said to have, passes through here.
//!
//! Records are bounded in number and bytes. When there are too many, the oldest go at one of this node's own anchors, as
//! [`retention`](crate::history::audit::retention) demands, so the chain that is left still proves itself. Where a disk
//! takes nothing, new records stop at a bound too, and the first one after that says how many were left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::anchors::{self, Anchors};
use super::counts::Counts;
use super::flood::Flood;
use super::shelves::{ShelfError, Shelves};
use crate::clock::NodeId;
use crate::engine::hooks::Mutant;
use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::history::audit::chain::Appended;
use crate::history::audit::export::ExportError;
use crate::history::audit::row::{BASE_KEY, index_of, key_of, own_range, split_imported};
use crate::history::audit::survey::Patterns;
use crate::history::audit::{
    Anchor, Chain, Check, Entry, Imported, Index, Kind, Page, Query, RecordRef, Report, Retention, Survey, Window,
    export, verify,
};

/// Records kept, in memory and on the disk. At 500 bytes each about 32 MB; the bytes are bounded beside.
pub const RECORDS_MAX: usize = 65_536;
pub const BYTES_MAX: usize = 32 << 20;
/// A quarter goes at once, so that cutting is rare.
const KEPT_RECORDS: usize = RECORDS_MAX / 4 * 3;
const KEPT_BYTES: usize = BYTES_MAX / 4 * 3;
/// Records that no disk has yet. Beyond it new ones are counted and left out.
pub const UNSTORED_MAX: u64 = 8_192;
/// An own anchor stands at least every so many records, published or not, so that there are places to cut at.
const MARK_RECORDS: u64 = 4_096;

/// Changes to the tree, in order.
#[derive(Debug, Default)]
pub struct Rows(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Rows {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.push((key, Some(value)));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.0.push((key, None));
    }

    pub(in crate::engine) fn take(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        std::mem::take(&mut self.0)
    }
}

/// What was found wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    pub node: String,
    /// Nothing is wrong, neither when it was read nor now.
    pub whole: bool,
    /// What was wrong with the rows on the disk when this process read them.
    pub at_start: Option<Report>,
    pub now: Report,
}

#[derive(Debug)]
pub struct Audit {
    pub(super) chain: Chain,
    /// This node's own rows, the base among them, by key.
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    index: Index,
    at_start: Report,
    pub(super) anchors: Anchors,
    shelves: Shelves,
    pub(super) flood: Flood,
    pub(in crate::engine) counts: Counts,
    /// Since the start is over: what the store held is no news.
    pub(super) awake: bool,
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
    pub(in crate::engine) rows: Rows,
}

impl Audit {
    /// Reads back what the tree held. Damage in it is told, and stops nothing.
    pub(in crate::engine) fn load(node: NodeId, held: BTreeMap<Vec<u8>, Vec<u8>>, check: Check<'_>) -> Self {
        let (first, end) = own_range();
        let (mut records, mut imported, mut anchors) = (BTreeMap::new(), BTreeMap::new(), Anchors::default());
        for (key, row) in held {
            if key >= first && key < end {
                records.insert(key, row);
            } else if anchors::is_key(&key) {
                // One that does not decode proves nothing, for or against.
                let _ = anchors.load(&row);
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
            chain,
            records,
            index,
            at_start,
            anchors,
            flood: Flood::default(),
            counts: Counts::default(),
            awake: false,
            due_ms: 0,
            published: None,
            left_out: 0,
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

    /// What is known of a node's chain, its own or an imported one; `None` where nothing is.
    fn span_of(&self, node: &NodeId) -> Option<(u64, u64)> {
        match *node == self.chain.node() {
            true => Some(self.chain.span()),
            false => self.shelves.archive().shelves().get(node).map(|shelf| shelf.span()),
        }
    }

    /// One page of a node's chain; `None` when that node's is not held.
    pub fn page(&self, node: &NodeId, query: &Query) -> Option<Page> {
        let span = self.span_of(node)?;
        match *node == self.chain.node() {
            true => Some(query.page(span, &self.index, &|index| self.records.get(&key_of(index)[..]).cloned())),
            false => Some(query.page(span, &Index::new(1), &|index| self.shelves.row(node, index))),
        }
    }

    /// What conflicts most and what keeps coming back, by this node's own records.
    pub fn patterns(&self, window: Window) -> Patterns {
        let mut survey = Survey::new(window);
        let readable = self.records.values().filter_map(|row| RecordRef::decode(row).ok());
        readable.filter(RecordRef::is_sealed).for_each(|record| survey.add(&record));
        survey.finish()
    }

    /// A node's chain as JSON lines, with all anchors that are held of it.
    pub fn export(&self, node: &NodeId) -> Option<Result<Vec<String>, ExportError>> {
        self.span_of(node)?;
        let anchors: Vec<Anchor> = self.anchors.of(node).copied().collect();
        Some(match *node == self.chain.node() {
            true => export(*node, &self.records, &anchors).collect(),
            false => export(*node, self.shelves.chain(node), &anchors).collect(),
        })
    }

    fn verify(&self, node: &NodeId, check: Check<'_>) -> Option<Verified> {
        self.span_of(node)?;
        let anchors: Vec<Anchor> = self.anchors.of(node).copied().collect();
        let own = *node == self.chain.node();
        let now = match own {
            true => verify(*node, &self.records, &anchors, check),
            false => verify(*node, self.shelves.chain(node), &anchors, check),
        };
        let at_start = own.then(|| self.at_start.clone());
        let whole = now.is_whole() && at_start.as_ref().is_none_or(Report::is_whole);
        Some(Verified { node: node.to_string(), whole, at_start, now })
    }

    fn keep(&mut self, appended: Appended, skipped: bool) {
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
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What is wrong with a node's chain: this one's, or an imported one; `None` when it is not held.
    pub fn verify_audit(&self, node: &NodeId) -> Option<Verified> {
        self.audit.verify(node, &|node, message, signature| self.keys.verify(node, message, signature))
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

    /// The start is over: what happens from now on is news.
    pub(in crate::engine) fn wake_audit(&mut self, now: Now) {
        self.audit.awake = true;
        let started = self.audit.chain.start(&self.config.incarnation, now.wall_ms);
        self.audit.keep(started, false);
        self.persistence.touch();
        self.plan_anchor(now);
    }

    /// The disk has every record up to `index`.
    pub(in crate::engine) fn on_audit_stored(&mut self, index: u64, now: Now) {
        self.audit.chain.stored(index);
        self.audit.stored = self.audit.stored.max(Some(index));
        if index >= self.audit.signed + MARK_RECORDS {
            self.mark_head(now);
        }
        if self.audit.records.len() > RECORDS_MAX || self.audit.bytes > BYTES_MAX {
            self.cut_audit(now);
        }
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

    fn cut_audit(&mut self, now: Now) {
        let (keys, own) = (self.keys.clone(), self.id.node);
        let audit = &mut self.audit;
        let Some(head) = audit.chain.head() else { return };
        let retention = Retention { records_max: audit.fitting() as u64, ..Retention::default() };
        let first = audit.chain.span().0;
        // A restored disk leaves anchors of a chain that is no more.
        let row_hash = |index: u64| RecordRef::decode(audit.records.get(&key_of(index)[..])?).ok().map(|row| row.hash);
        let holds = |anchor: &&Anchor| anchor.index >= first && row_hash(anchor.index) == Some(anchor.hash);
        let anchors: Vec<Anchor> = audit.anchors.of(&own).filter(holds).copied().collect();
        let Some(anchor) = retention.due(&anchors, head.index, now.wall_ms) else { return };
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

/// Nodes that a query may be about: this one, and those whose chains were imported.
impl Audit {
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.shelves.archive().shelves().keys().copied().chain([self.chain.node()]).collect()
    }

    /// Indexes of the oldest and the newest record that is held.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let mut indexes = self.records.keys().filter_map(|key| index_of(key));
        let first = indexes.next()?;
        Some((first, indexes.next_back().unwrap_or(first)))
    }

    pub fn bytes(&self) -> usize {
        self.bytes
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
