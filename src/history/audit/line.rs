//! An exported audit as JSON lines: the forms only. One object a line, named by its one key.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::hash::{hash_from_hex, to_hex};
use super::record::{Entry, Record};
use super::{Hash, Kind};

/// Version of these lines.
pub(super) const FORMAT: u32 = 1;

/// Longest line: a detail of 64 KiB, four texts of 1 KiB with every byte escaped (6 each), and the rest.
pub const LINE_BYTES_MAX: usize = 128 << 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// First.
    Header(Header),
    /// Then the anchors, encoded, in hex.
    Anchor(String),
    /// Then the records, in order.
    Record(Box<RecordLine>),
    /// Last, so that a file cut short is told from a whole one.
    End(End),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub format: u32,
    pub node: String,
    /// Encoded, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordLine {
    pub index: u64,
    pub at_ms: u64,
    pub kind: String,
    pub actor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflict: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
    pub previous: String,
    pub hash: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub records: u64,
    /// Hash of the last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl RecordLine {
    pub(super) fn of(record: Record) -> Self {
        Self {
            index: record.index,
            at_ms: record.at_ms,
            kind: record.kind.name().to_owned(),
            actor: record.actor,
            conflict: record.conflict,
            document: record.document,
            field: record.field,
            detail: record.detail,
            previous: to_hex(&record.previous),
            hash: to_hex(&record.hash),
        }
    }

    /// What is on the line: the entry, the hash it continues, and its own, as claimed.
    pub(super) fn read(self) -> Option<(Entry, Hash, Hash)> {
        let kind: Kind = self.kind.parse().ok()?;
        let (previous, hash) = (hash_from_hex(&self.previous)?, hash_from_hex(&self.hash)?);
        let Self { at_ms, actor, conflict, document, field, detail, .. } = self;
        Some((Entry { at_ms, kind, actor, conflict, document, field, detail }, previous, hash))
    }
}

impl Record {
    /// As it stands on a line of an export: for the API and the command line too.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(RecordLine::of(self.clone())).unwrap_or_default()
    }
}
