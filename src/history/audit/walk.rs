//! One pass over the rows of a chain, in the order of their keys, with its anchors beside it.
//!
//! Proof runs backwards: an anchor vouches for its record, that record's `previous` for the one before it, and so on to
//! the base, or to the first place where the link is broken. So a walk remembers where the unbroken *run* it is in began,
//! and at each anchor that matches, all of that run is proven.

use super::anchor::{Anchor, Check};
use super::chain::{Head, debris};
use super::finding::{FINDINGS_MAX, Finding, Report, Span};
use super::hash::{Hash, genesis, to_hex};
use super::kind::Kind;
use super::record::RecordRef;
use super::retention::Base;
use super::row::{BASE_KEY, index_of};
use crate::clock::NodeId;

/// Takes rows one by one; tells at the end.
pub struct Walk<'a> {
    node: NodeId,
    check: Check<'a>,
    /// Verified, by index, one for each. Those before `anchor_at` are done.
    anchors: Vec<Anchor>,
    anchor_at: usize,
    base: Option<Base>,
    head: Option<Head>,
    /// The index that should come next.
    expected: u64,
    /// Whether the first record may have any index: rows before it are there, and not looked at.
    anywhere: bool,
    /// What the next record must continue; `None` behind a gap or a broken row, where nothing is known.
    link: Option<Hash>,
    /// Where the unbroken run began.
    run: u64,
    /// Last anchored record that was as anchored.
    matched: Option<u64>,
    /// First process start behind it.
    started: Option<u64>,
    report: Report,
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("node", &self.node).field("report", &self.report).finish_non_exhaustive()
    }
}

impl<'a> Walk<'a> {
    pub fn new(node: NodeId, anchors: &[Anchor], check: Check<'a>) -> Self {
        let mut walk = Self {
            node,
            check,
            anchors: Vec::new(),
            anchor_at: 0,
            base: None,
            head: None,
            expected: 0,
            anywhere: false,
            link: Some(genesis(&node)),
            run: 0,
            matched: None,
            started: None,
            report: Report::default(),
        };
        walk.take_anchors(anchors);
        walk
    }

    /// A walk that may begin anywhere in the chain: a first record behind the base is no gap.
    pub(super) fn somewhere(node: NodeId, check: Check<'a>) -> Self {
        Self { anywhere: true, ..Self::new(node, &[], check) }
    }

    fn take_anchors(&mut self, anchors: &[Anchor]) {
        let mut sorted = anchors.to_vec();
        sorted.sort_by_key(|anchor| (anchor.index, anchor.hash, anchor.at_ms));
        for anchor in sorted {
            if anchor.node != self.node || !anchor.verify(self.check) {
                self.report.note(Finding::RefusedAnchor { index: anchor.index });
                continue;
            }
            match self.anchors.last().filter(|last| last.index == anchor.index) {
                None => self.anchors.push(anchor),
                Some(last) if last.hash == anchor.hash => {}
                Some(_) => self.report.note(Finding::Forked { index: anchor.index }),
            }
        }
    }

    /// The base, when it was read and believed.
    pub fn base(&self) -> Option<Base> {
        self.base
    }

    /// The last row so far, or the base.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// What was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The next row. Gives its record when that is in its place and unbroken.
    pub fn row<'r>(&mut self, key: &[u8], bytes: &'r [u8]) -> Option<RecordRef<'r>> {
        if key == BASE_KEY {
            self.take_base(bytes);
            return None;
        }
        let Some(index) = index_of(key) else {
            let key = to_hex(&key[..key.len().min(64)]);
            self.report.note(Finding::Foreign { key });
            return None;
        };
        self.report.records += 1;
        self.in_order(index).then(|| self.record(index, bytes)).flatten()
    }

    fn take_base(&mut self, bytes: &[u8]) {
        let error = match Base::decode(bytes) {
            Err(error) => error.to_string(),
            Ok(base) if base.anchor.node != self.node => "it is another node's".to_owned(),
            Ok(base) if !base.verify(self.check) => "its signature is wrong".to_owned(),
            Ok(_) if self.report.records > 0 || self.base.is_some() => "it does not come first".to_owned(),
            Ok(base) => return self.begin_behind(base),
        };
        self.report.note(Finding::BadBase { error });
    }

    fn begin_behind(&mut self, base: Base) {
        let Anchor { index, hash, .. } = base.anchor;
        self.base = Some(base);
        self.report.base = Some(index);
        self.head = Some(Head { index, hash });
        self.link = Some(hash);
        self.matched = Some(index);
        self.run = index + 1;
        self.expected = index + 1;
        while let Some(anchor) = self.anchors.get(self.anchor_at).filter(|anchor| anchor.index <= index) {
            match anchor.index == index {
                false => self.report.anchors_before_base += 1,
                true if anchor.hash == hash => self.report.anchors += 1,
                true => self.report.note(Finding::Forked { index }),
            }
            self.anchor_at += 1;
        }
    }

    /// Whether `index` is where the walk should be or beyond; notes what was skipped.
    fn in_order(&mut self, index: u64) -> bool {
        if self.base.is_some_and(|base| index <= base.anchor.index) {
            self.leftover(index);
            return false;
        }
        if std::mem::take(&mut self.anywhere) && index > self.expected {
            (self.expected, self.link) = (index, None);
        }
        if index < self.expected {
            let duplicate = self.report.last == Some(index);
            // In its wrong place it is not missing.
            self.report.findings.retain(|finding| *finding != Finding::Deleted { first: index, last: index });
            self.report.note(if duplicate { Finding::Duplicate { index } } else { Finding::OutOfOrder { index } });
            return false;
        }
        if index > self.expected {
            self.report.note(Finding::Deleted { first: self.expected, last: index - 1 });
            self.link = None;
        }
        true
    }

    fn leftover(&mut self, index: u64) {
        match self.report.findings.last_mut() {
            Some(Finding::Leftover { last, .. }) if *last + 1 == index => *last = index,
            _ => self.report.note(Finding::Leftover { first: index, last: index }),
        }
    }

    fn record<'r>(&mut self, index: u64, bytes: &'r [u8]) -> Option<RecordRef<'r>> {
        self.expected = index + 1;
        self.report.last = Some(index);
        let (record, hash) = match RecordRef::decode(bytes) {
            Err(error) => return self.broken(Finding::Unreadable { index, error: error.to_string() }, index, bytes),
            Ok(record) => (record, record.sealed_hash()),
        };
        if hash != record.hash {
            return self.broken(Finding::Edited { index }, index, bytes);
        }
        if record.index != index {
            return self.broken(Finding::Misplaced { index, holds: record.index }, index, bytes);
        }
        if self.link.is_some_and(|link| link != record.previous) {
            self.report.note(Finding::Unlinked { index });
            self.link = None;
        }
        if self.link.is_none() {
            self.run = index;
        }
        (self.head, self.link) = (Some(Head { index, hash }), Some(hash));
        if record.kind == Kind::Started && self.started.is_none() {
            self.started = Some(index);
        }
        self.meet_anchor(index, &hash);
        Some(record)
    }

    /// A row that is no record in its place. Nothing can be said of its neighbours' links to it.
    fn broken<T>(&mut self, finding: Finding, index: u64, bytes: &[u8]) -> Option<T> {
        self.report.note(finding);
        (self.head, self.link) = (Some(Head { index, hash: debris(bytes) }), None);
        None
    }

    fn meet_anchor(&mut self, index: u64, hash: &Hash) {
        // Anchors of rows that were missing or broken: both were noted where they were.
        while self.anchors.get(self.anchor_at).is_some_and(|anchor| anchor.index < index) {
            self.anchor_at += 1;
        }
        let Some(anchor) = self.anchors.get(self.anchor_at).filter(|anchor| anchor.index == index) else { return };
        self.anchor_at += 1;
        if anchor.hash == *hash {
            self.report.anchors += 1;
            self.prove(index);
            (self.matched, self.started) = (Some(index), None);
        } else {
            let (after, started) = (self.matched, self.started);
            self.report.note(Finding::Rewritten { after, anchored: index, started });
        }
    }

    fn prove(&mut self, last: u64) {
        let span = Span { first: self.run, last };
        let proven = &mut self.report.proven;
        if proven.last().is_some_and(|before| before.first == self.run) {
            proven.pop();
        }
        // A span ends at a finding, so beyond so many both are cut short.
        if proven.len() < FINDINGS_MAX {
            proven.push(span);
        }
    }

    /// What was found in a node's own chain, which must reach every anchor.
    pub fn finish(mut self) -> Report {
        if let Some(anchored) = self.beyond() {
            self.cut_off(anchored);
        }
        self.report
    }

    /// What was found in a copy of a chain, which goes on elsewhere: anchors of later records only say that it does. `own`
    /// is the newest anchor that the copy brought along; one that does not reach it was cut off.
    pub fn finish_copy(mut self, own: Option<u64>) -> Report {
        match self.beyond() {
            Some(_) if own > self.last() => self.cut_off(own.unwrap_or_default()),
            later => self.report.later = later,
        }
        self.report
    }

    /// The last record there is, or the one that the base stands for.
    fn last(&self) -> Option<u64> {
        self.report.last.or(self.report.base)
    }

    /// The newest anchored record, if it is beyond the last one here.
    fn beyond(&self) -> Option<u64> {
        self.anchors.last().map(|anchor| anchor.index).filter(|anchored| Some(*anchored) > self.last())
    }

    fn cut_off(&mut self, anchored: u64) {
        let (stored, started) = (self.last(), self.started);
        self.report.note(Finding::Truncated { stored, anchored, started });
    }
}
