//! What a quorum decided about fields, as it stands in a document, and the ops that write it down.

use super::cell::CellKey;
use super::packed::Document;
use super::plan::PlannedOp;
use super::reading::state;
use crate::clock::Roster;
use crate::crdt::FieldKind;
use crate::crdt::quorum::{Decided, latest, publish};

/// The op that writes a decision down; `None` where it, or a later one, stands in the document already.
pub fn plan_decided(document: &Document, roster: &Roster, field: &str, decided: &Decided<'_>) -> Option<PlannedOp> {
    let key = CellKey { field, tag: FieldKind::Quorum.tag(), sub: b"" }.encode();
    let cell = document.cell(&key).map(|cell| state(cell, roster)).unwrap_or_default();
    let change = publish(&cell, decided)?;
    Some(PlannedOp { key, value: change.value, supersedes: change.supersedes })
}

/// What stands in the document.
pub fn published<'d>(document: &'d Document, roster: &Roster, field: &str) -> Option<Decided<'d>> {
    let key = CellKey { field, tag: FieldKind::Quorum.tag(), sub: b"" }.encode();
    latest(&state(document.cell(&key)?, roster).live)
}
