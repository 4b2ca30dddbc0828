//! An exported chain, line by line: each is verified as it comes, and the first that is wrong ends the reading.

use super::anchor::{Anchor, Check};
use super::chain::Head;
use super::hash::{Hash, from_hex, to_hex};
use super::import::{ANCHORS_MAX, ImportError, Imported};
use super::line::{End, FORMAT, Header, LINE_BYTES_MAX, Line, RecordLine};
use super::row::{BASE_KEY, Row, imported_key, key_of};
use super::walk::Walk;
use crate::clock::NodeId;

/// What an archive holds of a node already: its head, to be met again. An error refuses the node.
pub(super) type Held<'a> = &'a dyn Fn(&NodeId) -> Result<Option<Head>, ImportError>;

pub(super) struct Reader<I> {
    pub lines: I,
    /// Number of the last line read.
    pub line: u64,
}

impl<L: AsRef<str>, I: Iterator<Item = L>> Reader<I> {
    pub fn chain(
        mut self,
        known: &[Anchor],
        check: Check<'_>,
        held: Held<'_>,
        keep: &mut dyn FnMut(Row),
    ) -> Result<Imported, ImportError> {
        let (node, base) = self.header()?;
        let held = held(&node)?;
        let (mut anchors, mut next) = self.anchors(&node, check)?;
        let own = anchors.iter().map(|anchor| anchor.index).max();
        anchors.extend(known.iter().filter(|anchor| anchor.node == node));
        let mut walk = Walk::new(node, &anchors, check);
        self.refuse_findings(&walk)?;
        if let Some(base) = base {
            walk.row(BASE_KEY, &base);
            self.refuse_findings(&walk)?;
            keep(Row { key: imported_key(&node, BASE_KEY), bytes: base });
        }
        let mut met = self.meets(&walk, held)?;
        let (mut records, mut last) = (0, None);
        let end = loop {
            match next {
                Line::Record(record) => {
                    let (row, hash) = self.record(*record, &mut walk)?;
                    met |= self.meets(&walk, held)?;
                    keep(Row { key: imported_key(&node, &row.key), bytes: row.bytes });
                    (records, last) = (records + 1, Some(hash));
                }
                Line::End(end) => break end,
                _ => return Err(ImportError::Order { line: self.line, wanted: "a record or the end" }),
            }
            next = self.line()?;
        };
        self.end(&end, records, last)?;
        if let Some(held) = held.filter(|_| !met) {
            return Err(ImportError::NotBeyond { held: held.index });
        }
        let (base, head) = (walk.base(), walk.head());
        // What was anchored after it was exported says that it is older, no more. Its own anchors it must reach.
        let report = walk.finish_copy(own);
        match report.findings.first() {
            Some(finding) => Err(ImportError::Found { line: self.line, finding: finding.clone() }),
            None => Ok(Imported { node, base, head, anchors, report }),
        }
    }

    fn line(&mut self) -> Result<Line, ImportError> {
        let Some(text) = self.lines.next() else { return Err(ImportError::CutShort { line: self.line }) };
        self.line += 1;
        let (text, line) = (text.as_ref(), self.line);
        if text.len() > LINE_BYTES_MAX {
            return Err(ImportError::Long { line });
        }
        serde_json::from_str(text).map_err(|error| ImportError::Malformed { line, error: error.to_string() })
    }

    fn malformed(&self, error: &str) -> ImportError {
        ImportError::Malformed { line: self.line, error: error.to_owned() }
    }

    fn header(&mut self) -> Result<(NodeId, Option<Vec<u8>>), ImportError> {
        let Line::Header(Header { format, node, base }) = self.line()? else {
            return Err(ImportError::Order { line: self.line, wanted: "the header" });
        };
        if format != FORMAT {
            return Err(self.malformed(&format!("format {format} is not known here (this build reads {FORMAT})")));
        }
        let node = node.parse().map_err(|error: crate::clock::id::ParseIdError| self.malformed(&error.to_string()))?;
        let base = base.map(|hex| from_hex(&hex).ok_or_else(|| self.malformed("the base is not hex"))).transpose()?;
        Ok((node, base))
    }

    /// The anchors, and the first line that is none.
    fn anchors(&mut self, node: &NodeId, check: Check<'_>) -> Result<(Vec<Anchor>, Line), ImportError> {
        let mut anchors = Vec::new();
        loop {
            let hex = match self.line()? {
                Line::Anchor(hex) => hex,
                next => return Ok((anchors, next)),
            };
            let anchor = Anchor::from_hex(&hex).map_err(|error| self.malformed(&error.to_string()))?;
            if anchor.node != *node || !anchor.verify(check) {
                return Err(ImportError::ForeignAnchor { line: self.line });
            }
            if anchors.len() == ANCHORS_MAX {
                return Err(ImportError::ManyAnchors { line: self.line });
            }
            anchors.push(anchor);
        }
    }

    fn record(&self, record: RecordLine, walk: &mut Walk<'_>) -> Result<(Row, Hash), ImportError> {
        let index = record.index;
        let (entry, previous, claimed) = record.read().ok_or_else(|| self.malformed("a kind or a hash is none"))?;
        let (bytes, hash) = entry.encode(index, &previous);
        if hash != claimed {
            return Err(ImportError::Edited { line: self.line, index });
        }
        let key = key_of(index);
        walk.row(&key, &bytes);
        self.refuse_findings(walk)?;
        Ok((Row { key: key.to_vec(), bytes }, hash))
    }

    fn refuse_findings(&self, walk: &Walk<'_>) -> Result<(), ImportError> {
        match walk.report().findings.first() {
            Some(finding) => Err(ImportError::Found { line: self.line, finding: finding.clone() }),
            None => Ok(()),
        }
    }

    /// Whether the walk stands at the record that is held; an error when that is another one.
    fn meets(&self, walk: &Walk<'_>, held: Option<Head>) -> Result<bool, ImportError> {
        let Some(held) = held else { return Ok(true) };
        match walk.head().filter(|head| head.index == held.index) {
            None => Ok(false),
            Some(head) if head.hash == held.hash => Ok(true),
            Some(_) => Err(ImportError::Contradicts { line: self.line, index: held.index }),
        }
    }

    fn end(&mut self, end: &End, records: u64, last: Option<Hash>) -> Result<(), ImportError> {
        if end.records != records || end.hash != last.map(|hash| to_hex(&hash)) {
            return Err(ImportError::WrongEnd { line: self.line });
        }
        match self.lines.next() {
            Some(_) => Err(ImportError::Order { line: self.line + 1, wanted: "nothing: the end was above" }),
            None => Ok(()),
        }
    }
}
