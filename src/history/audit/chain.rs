//! The chain: each record continues the one before it.
//!
//! [`Chain::append`] gives a row to store and moves the head; [`Chain::stored`] says that the disk has it for good. Only
//! what is stored is anchored, so a crash that loses the newest rows does not contradict an anchor. A process begins with
//! [`Chain::load`] or, without reading every row, [`Chain::resume`], and then appends [`Chain::start`].

use std::collections::VecDeque;

use serde_json::json;

use super::anchor::{Anchor, Check, Sign};
use super::detail::INCARNATION;
use super::finding::Report;
use super::hash::{Hash, Tag, genesis, to_hex};
use super::kind::Kind;
use super::record::{Entry, RecordRef};
use super::retention::Base;
use super::row::{BASE_KEY, INDEX_MAX, Row, key_of};
use super::walk::Walk;
use crate::clock::{Incarnation, NodeId};

/// An anchor is due after so many records, or after so long with any. The last ones before an attack are those that
/// it can change: fewer cost more anchors, at 150 bytes each.
pub const ANCHOR_RECORDS: u64 = 256;
pub const ANCHOR_MS: u64 = 60_000;

/// Appended records remembered until the disk has them: 2.6 MB. Beyond it the oldest are forgotten, which delays anchors
/// and loses nothing.
const UNSTORED_MAX: usize = 65_536;

/// The newest record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub index: u64,
    pub hash: Hash,
}

/// A chain that is written to.
#[derive(Clone, Debug)]
pub struct Chain {
    node: NodeId,
    base: Option<Base>,
    head: Option<Head>,
    /// Newest record that the disk has for good.
    durable: Option<Head>,
    /// Behind `durable`, oldest first.
    unstored: VecDeque<Head>,
    /// Index and time of the newest anchor.
    anchored: Option<(u64, u64)>,
}

/// What was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub head: Head,
    pub row: Row,
}

/// What to store and remove to forget old records: first the rows, then the removals, in one go or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub base: Base,
    pub base_row: Row,
    /// The record that says so.
    pub record: Appended,
    /// Indexes of the records that go: from the first to the last.
    pub first: u64,
    pub last: u64,
}

impl Cut {
    /// Keys to remove.
    pub fn removals(&self) -> impl Iterator<Item = [u8; 8]> + use<> {
        (self.first..=self.last).map(key_of)
    }
}

/// Why nothing was forgotten. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    #[error("the anchor was not signed by this node: cut at one of its own")]
    Foreign,
    #[error("records up to {0} are gone already")]
    Gone(u64),
    #[error("record {0} is not stored for good yet: wait, or cut at an older anchor")]
    Ahead(u64),
    #[error(
        "the stored record {0} is not the one that was anchored: verify the chain before anything of it is dropped"
    )]
    Contradicted(u64),
}

impl Chain {
    /// The chain of a node that has none.
    pub fn new(node: NodeId) -> Self {
        Self { node, base: None, head: None, durable: None, unstored: VecDeque::new(), anchored: None }
    }

    /// Reads a whole chain, in the order of its keys, and tells what is wrong with it. Whatever that is, the chain goes on
    /// behind its last row: an audit that stopped at damage would be silenced by it. `seen` gets every readable record.
    pub fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        node: NodeId,
        rows: impl IntoIterator<Item = (K, V)>,
        check: Check<'_>,
        mut seen: impl FnMut(&RecordRef<'_>),
    ) -> (Self, Report) {
        let mut walk = Walk::new(node, &[], check);
        for (key, bytes) in rows {
            if let Some(record) = walk.row(key.as_ref(), bytes.as_ref()) {
                seen(&record);
            }
        }
        let (base, head) = (walk.base(), walk.head());
        (Self::at(node, base, head), walk.finish())
    }

    /// Goes on behind the last row without reading the others: what an ordinary start needs. `base` is the value at
    /// [`BASE_KEY`], `last` the last row of [`own_range`](super::row::own_range).
    pub fn resume(node: NodeId, base: Option<&[u8]>, last: Option<(&[u8], &[u8])>, check: Check<'_>) -> (Self, Report) {
        let base = base.map(|bytes| (BASE_KEY, bytes));
        let last = last.filter(|(key, _)| *key != BASE_KEY);
        // Whether the first record found continues the base is not known here.
        let mut walk = Walk::somewhere(node, check);
        for (key, bytes) in base.into_iter().chain(last) {
            walk.row(key, bytes);
        }
        (Self::at(node, walk.base(), walk.head()), walk.finish())
    }

    fn at(node: NodeId, base: Option<Base>, head: Option<Head>) -> Self {
        let anchored = base.map(|base| (base.anchor.index, base.anchor.at_ms));
        Self { base, head, durable: head, anchored, ..Self::new(node) }
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// The newest record; the base's when nothing was written behind it.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Index of the oldest record that is kept, and of the next one to come.
    pub fn span(&self) -> (u64, u64) {
        let first = self.base.map_or(0, |base| base.anchor.index + 1);
        (first, self.head.map_or(first, |head| head.index + 1))
    }

    /// Appends a record. Store the row; it is ordinary data until [`Chain::stored`] is told.
    pub fn append(&mut self, entry: &Entry) -> Appended {
        // No chain gets there: see `INDEX_MAX`. The last record would be written over, and `verify` would tell.
        let index = self.span().1.min(INDEX_MAX);
        let previous = self.head.map_or_else(|| genesis(&self.node), |head| head.hash);
        let (bytes, hash) = entry.encode(index, &previous);
        let head = Head { index, hash };
        self.head = Some(head);
        if self.unstored.len() == UNSTORED_MAX {
            self.unstored.pop_front();
        }
        self.unstored.push_back(head);
        Appended { head, row: Row { key: key_of(index).to_vec(), bytes } }
    }

    /// Appends the record of a process start.
    pub fn start(&mut self, incarnation: &Incarnation, at_ms: u64) -> Appended {
        let detail = json!({ INCARNATION: to_hex(&incarnation.0), "resumed_at": self.span().1 });
        self.append(&Entry::new(Kind::Started, self.node.to_string(), at_ms).detail(detail))
    }

    /// The disk has all records up to `index` for good.
    pub fn stored(&mut self, index: u64) {
        while let Some(head) = self.unstored.front().filter(|head| head.index <= index) {
            self.durable = Some(*head);
            self.unstored.pop_front();
        }
    }

    /// Whether an anchor is worth making.
    pub fn anchor_due(&self, now_ms: u64) -> bool {
        let Some(durable) = self.durable else { return false };
        match self.anchored {
            None => true,
            Some((index, _)) if durable.index <= index => false,
            Some((index, at_ms)) => {
                durable.index - index >= ANCHOR_RECORDS || now_ms >= at_ms.saturating_add(ANCHOR_MS)
            }
        }
    }

    /// Signs the newest stored record; `None` when that was done before, or nothing is stored.
    pub fn anchor(&mut self, at_ms: u64, sign: Sign<'_>) -> Option<Anchor> {
        let durable = self.durable?;
        if self.anchored.is_some_and(|(index, _)| durable.index <= index) {
            return None;
        }
        self.anchored = Some((durable.index, at_ms));
        Some(Anchor::sign(self.node, durable.index, durable.hash, at_ms, sign))
    }

    /// Takes note of an anchor made by an earlier process.
    pub fn anchored(&mut self, anchor: &Anchor) {
        let newer = self.anchored.is_none_or(|(index, _)| index < anchor.index);
        if anchor.node == self.node && newer && self.head.is_some_and(|head| anchor.index <= head.index) {
            self.anchored = Some((anchor.index, anchor.at_ms));
        }
    }

    /// Forgets the records up to `anchor`. `row` is the stored row of the record it names: nothing is dropped on the word
    /// of an anchor that the chain contradicts.
    pub fn cut(
        &mut self,
        anchor: &Anchor,
        row: &[u8],
        by: &str,
        at_ms: u64,
        sign: Sign<'_>,
        check: Check<'_>,
    ) -> Result<Cut, CutError> {
        if anchor.node != self.node || !anchor.verify(check) {
            return Err(CutError::Foreign);
        }
        let first = self.span().0;
        if anchor.index < first {
            return Err(CutError::Gone(first.saturating_sub(1)));
        }
        if self.durable.is_none_or(|durable| durable.index < anchor.index) {
            return Err(CutError::Ahead(anchor.index));
        }
        let kept = RecordRef::decode(row).ok().filter(|record| record.index == anchor.index);
        if kept.is_none_or(|record| record.sealed_hash() != anchor.hash) {
            return Err(CutError::Contradicted(anchor.index));
        }
        let base = Base::sign(*anchor, at_ms, sign);
        self.base = Some(base);
        let detail = json!({ "first": first, "last": anchor.index });
        let record = self.append(&Entry::new(Kind::Retained, by, at_ms).detail(detail));
        let base_row = Row { key: BASE_KEY.to_vec(), bytes: base.encode() };
        Ok(Cut { base, base_row, record, first, last: anchor.index })
    }
}

/// What a chain continues when its last row is no record: the hash of what was found there.
pub(super) fn debris(bytes: &[u8]) -> Hash {
    Tag::Debris.hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Record;
    use super::super::world::{World, check, entry};
    use super::*;

    #[test]
    fn a_chain_goes_on_where_its_rows_end() {
        let world = World::with(5);
        let (loaded, report) = Chain::load(world.node(), &world.rows, &check, |_| {});
        assert!(report.is_whole(), "{report:?}");
        let last = world.rows.last_key_value().map(|(key, bytes)| (&key[..], &bytes[..]));
        let (resumed, report) = Chain::resume(world.node(), None, last, &check);
        assert!(report.is_whole(), "{report:?}");
        for chain in [&loaded, &resumed] {
            assert_eq!((chain.head(), chain.span()), (world.chain.head(), (0, 5)));
        }
    }

    #[test]
    fn each_start_names_its_incarnation_and_where_it_resumed() {
        let mut world = World::with(3);
        world.start(9);
        let record = Record::decode(&world.rows[&key_of(3)[..]]).unwrap();
        assert_eq!(record.kind, Kind::Started);
        assert_eq!(record.detail, json!({ "incarnation": "09".repeat(16), "resumed_at": 3 }));
    }

    #[test]
    fn only_what_is_stored_is_anchored_and_once() {
        let mut world = World::new();
        let sign = world.signer.sign();
        assert_eq!(world.chain.anchor(1, &sign), None);
        let first = world.chain.append(&entry(0));
        world.chain.append(&entry(1));
        assert_eq!(world.chain.anchor(1, &sign), None, "not stored");
        world.chain.stored(0);
        assert!(world.chain.anchor_due(1));
        let anchor = world.chain.anchor(1, &sign).unwrap();
        assert_eq!((anchor.index, anchor.hash), (0, first.head.hash));
        assert_eq!(world.chain.anchor(2, &sign), None);
        world.chain.stored(1);
        assert!(!world.chain.anchor_due(2) && world.chain.anchor_due(1 + ANCHOR_MS));
    }

    #[test]
    fn records_that_nobody_reports_stored_do_not_pile_up() {
        let mut chain = Chain::new(World::new().node());
        for n in 0..UNSTORED_MAX as u64 + 10 {
            chain.append(&Entry::new(Kind::Voted, "a", n));
        }
        assert_eq!(chain.unstored.len(), UNSTORED_MAX);
        chain.stored(5);
        assert_eq!(chain.durable, None, "forgotten, so not anchored");
        chain.stored(u64::MAX);
        assert_eq!(chain.durable, chain.head);
    }

    #[test]
    fn a_chain_goes_on_behind_a_damaged_last_row_and_stays_verifiable() {
        let mut world = World::with(4);
        world.rows.get_mut(&key_of(3)[..]).unwrap()[5] ^= 1;
        let (chain, report) = Chain::load(world.node(), &world.rows, &check, |_| {});
        assert_eq!(report.findings.len(), 1);
        world.chain = chain;
        world.append(entry(4));
        world.append(entry(5));
        let (chain, report) = Chain::load(world.node(), &world.rows, &check, |_| {});
        assert_eq!((chain.span(), report.findings.len()), ((0, 6), 1), "{report:?}");
    }

    #[test]
    fn nothing_is_dropped_on_the_word_of_a_wrong_anchor() {
        let mut world = World::with(6);
        let anchor = world.anchor();
        let row = world.rows[&key_of(5)[..]].clone();
        let (sign, mallory) = (world.signer.sign(), super::super::world::Signer::new(9));
        let forged = Anchor::sign(world.node(), 5, anchor.hash, 0, &mallory.sign());
        let cut = |chain: &mut Chain, anchor: &Anchor, row: &[u8]| chain.cut(anchor, row, "operator", 9, &sign, &check);
        assert_eq!(cut(&mut world.chain, &forged, &row), Err(CutError::Foreign));
        let ahead = Anchor::sign(world.node(), 6, anchor.hash, 0, &sign);
        assert_eq!(cut(&mut world.chain, &ahead, &row), Err(CutError::Ahead(6)));
        let other = world.rows[&key_of(4)[..]].clone();
        assert_eq!(cut(&mut world.chain, &anchor, &other), Err(CutError::Contradicted(5)));
        let done = cut(&mut world.chain, &anchor, &row).unwrap();
        assert_eq!((done.first, done.last, done.record.head.index), (0, 5, 6));
        assert_eq!(cut(&mut world.chain, &anchor, &row), Err(CutError::Gone(5)));
    }
}
