//! A document as people and programs see it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value as Json};
use xxhash_rust::xxh3::xxh3_64;

use super::cell::CellRef;
use super::packed::Document;
use super::reading::{self, Seen, in_use, keys, see};
use super::schema::{Field, Schema};
use crate::clock::{Dot, Roster};
use crate::crdt::{FieldKind, Live, Value, based, register};

/// What a document holds at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DocumentView {
    /// In the order of their names.
    pub fields: Map<String, Json>,
    /// The concurrent values of contested fields, newest first. A map's key is named `field.key`.
    pub siblings: BTreeMap<String, Vec<Sibling>>,
    /// Fields that are not declared, in order.
    pub inferred: Vec<String>,
    /// Fields that a quorum decides.
    #[serde(skip)]
    pub decided: Vec<String>,
    /// When the first field with a time to live runs out, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// One of several live values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sibling {
    pub value: Json,
    /// `<replica>:<seq>`.
    pub dot: String,
    pub replica: String,
    /// Milliseconds since the Unix epoch, by the writer's clock.
    pub at: u64,
    /// What it was written over, where the field keeps that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Json>,
}

impl DocumentView {
    /// `None` when the document is hidden: deleted, or never created here.
    pub fn of(document: &Document, schema: &Schema, roster: &Roster) -> Option<Self> {
        exists(document).then(|| {
            let mut view = Self::default();
            for_each_field(document, roster, |name, seen| view.add(name, seen, schema, roster));
            // Cells lie in the order of their names' lengths first.
            view.fields.sort_keys();
            view.inferred.sort();
            view
        })
    }

    pub fn expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at < now_ms)
    }

    fn add(&mut self, name: &str, seen: &[Seen<'_>], schema: &Schema, roster: &Roster) {
        let declared = schema.field(name);
        let Some(used) = in_use(seen, declared) else { return };
        let Some(value) = reading::read(seen, &used) else { return };
        self.fields.insert(name.to_owned(), value);
        if used.kind == FieldKind::Quorum {
            self.decided.push(name.to_owned());
        }
        if declared.is_none() {
            self.inferred.push(name.to_owned());
        }
        if let Some(ttl_ms) = declared.and_then(|declared| declared.ttl_ms) {
            let written_ms = seen.iter().flat_map(|cell| &cell.state.live).map(|entry| entry.at.ms()).max();
            let expires_at_ms = written_ms.map(|ms| ms.saturating_add(ttl_ms));
            self.expires_at_ms = [self.expires_at_ms, expires_at_ms].into_iter().flatten().min();
        }
        self.add_siblings(name, seen, &used, roster);
    }

    fn add_siblings(&mut self, name: &str, seen: &[Seen<'_>], used: &Field, roster: &Roster) {
        if used.kind == FieldKind::Map {
            for (key, seen) in keys(seen) {
                if let Some(used) = in_use(&seen, used.of_key().as_ref()) {
                    self.add_siblings(&format!("{name}.{key}"), &seen, &used, roster);
                }
            }
            return;
        }
        let Some(state) = reading::cell_of(seen, FieldKind::Contested) else { return };
        if used.kind == FieldKind::Contested && state.live.len() > 1 {
            let siblings = register::siblings(&state.live);
            self.siblings.insert(name.to_owned(), siblings.iter().map(|entry| sibling(entry, roster)).collect());
        }
    }
}

fn sibling(entry: &Live<'_>, roster: &Roster) -> Sibling {
    Sibling {
        value: Value::decode(entry.value).map_or(Json::Null, Value::into_json),
        dot: print_dot(entry.dot, roster),
        replica: roster.name(entry.dot.slot()).to_owned(),
        at: entry.at.ms(),
        base: based::split(entry.value).1.and_then(|base| Value::decode(base).ok()).map(Value::into_json),
    }
}

/// `<replica>:<seq>`: a dot as every node prints it.
pub fn print_dot(dot: Dot, roster: &Roster) -> String {
    format!("{}:{}", roster.name(dot.slot()), dot.seq())
}

/// The key of a document's existence cell: no field, and the existence tag. The document is visible while this cell
/// holds a value.
pub const EXISTENCE_KEY: &[u8] = &[0, FieldKind::Existence as u8];

/// Whether the document is there for readers.
pub fn exists(document: &Document) -> bool {
    document.cell(EXISTENCE_KEY).is_some_and(|cell| cell.valued().next().is_some())
}

/// Names the document's content: a hash of its live dots, the same on every node that holds them, whatever slots and
/// whatever order they have here.
pub fn etag(document: &Document, roster: &Roster) -> u64 {
    let hash = |dot: Dot| {
        let mut bytes = [0; 56];
        bytes[..48].copy_from_slice(&roster.id(dot.slot()).to_bytes());
        bytes[48..].copy_from_slice(&dot.seq().to_le_bytes());
        xxh3_64(&bytes)
    };
    let dots = document.cells().flat_map(|cell| cell.valued()).map(|entry| entry.dot);
    dots.fold(0, |sum: u64, dot| sum.wrapping_add(hash(dot)))
}

/// Calls `each` with every field's name and cells, the existence cell left out.
pub(super) fn for_each_field<'a>(document: &'a Document, roster: &Roster, mut each: impl FnMut(&'a str, &[Seen<'a>])) {
    let mut current: Option<(&str, Vec<Seen<'_>>)> = None;
    for (name, cell) in document.cells().filter_map(|cell: CellRef<'a>| see(cell, roster)) {
        match &mut current {
            _ if cell.kind == FieldKind::Existence => {}
            Some((open, cells)) if *open == name => cells.push(cell),
            _ => {
                if let Some((open, cells)) = current.replace((name, vec![cell])) {
                    each(open, &cells);
                }
            }
        }
    }
    if let Some((open, cells)) = current {
        each(open, &cells);
    }
}
