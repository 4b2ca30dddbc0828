//! A chain as JSON lines, with all that is needed to verify it elsewhere.

use std::fmt;
use std::iter::Peekable;

use super::anchor::Anchor;
use super::hash::{Hash, to_hex};
use super::line::{End, FORMAT, Header, Line, RecordLine};
use super::record::{Record, RecordError};
use super::row::{BASE_KEY, index_of};
use crate::clock::NodeId;

/// A row that cannot be exported. The other lines still come; an import refuses what is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be exported: {error}; verify the chain to see what else is wrong", row(.index))]
pub struct ExportError {
    /// `None`: the row's key is no index either.
    pub index: Option<u64>,
    pub error: RecordError,
}

fn row(index: &Option<u64>) -> String {
    index.map_or("a row that is no record's".to_owned(), |index| format!("record {index}"))
}

/// Lines without their line ends: a header, the anchors, the records, an end.
pub struct Export<'a, I: Iterator> {
    node: NodeId,
    rows: Peekable<I>,
    anchors: std::slice::Iter<'a, Anchor>,
    records: u64,
    last: Option<Hash>,
    began: bool,
    ended: bool,
}

impl<I: Iterator> fmt::Debug for Export<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("node", &self.node).field("records", &self.records).finish_non_exhaustive()
    }
}

/// Exports the rows of `node`'s chain, in the order of their keys, with the anchors that others hold of it.
pub fn export<K: AsRef<[u8]>, V: AsRef<[u8]>, R>(node: NodeId, rows: R, anchors: &[Anchor]) -> Export<'_, R::IntoIter>
where
    R: IntoIterator<Item = (K, V)>,
{
    Export {
        node,
        rows: rows.into_iter().peekable(),
        anchors: anchors.iter(),
        records: 0,
        last: None,
        began: false,
        ended: false,
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>, I: Iterator<Item = (K, V)>> Iterator for Export<'_, I> {
    type Item = Result<String, ExportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !std::mem::replace(&mut self.began, true) {
            return Some(Ok(self.header()));
        }
        if let Some(anchor) = self.anchors.next() {
            return Some(Ok(text_of(&Line::Anchor(anchor.to_hex()))));
        }
        if let Some((key, bytes)) = self.rows.next() {
            return Some(self.record(key.as_ref(), bytes.as_ref()));
        }
        let end = End { records: self.records, hash: self.last.map(|hash| to_hex(&hash)) };
        (!std::mem::replace(&mut self.ended, true)).then(|| Ok(text_of(&Line::End(end))))
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>, I: Iterator<Item = (K, V)>> Export<'_, I> {
    fn header(&mut self) -> String {
        let base = self.rows.next_if(|(key, _)| key.as_ref() == BASE_KEY);
        let base = base.map(|(_, bytes)| to_hex(bytes.as_ref()));
        text_of(&Line::Header(Header { format: FORMAT, node: self.node.to_string(), base }))
    }

    fn record(&mut self, key: &[u8], bytes: &[u8]) -> Result<String, ExportError> {
        let record = Record::decode(bytes).map_err(|error| ExportError { index: index_of(key), error })?;
        self.records += 1;
        self.last = Some(record.hash);
        Ok(text_of(&Line::Record(Box::new(RecordLine::of(record)))))
    }
}

/// Our own lines always encode; a failure is a bug of ours, and shows as an empty line, which every import refuses.
fn text_of(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_default()
}
