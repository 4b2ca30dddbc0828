//! From a wished write to the ops that bring it about, given what is visible here.
//!
//! A plan supersedes only entries it has seen, so what is concurrent stays. It writes as little as it can: an equal value
//! writes nothing, and an edit of one field looks at that field's cells only.
//!
//! This file says what a write means for the document; [`field`](super::field) what it means for one field.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};
use thiserror::Error;

use super::cell::{EntryRef, apply_op};
use super::field::{FieldPlan, Intent};
use super::infer::expected;
use super::packed::Document;
use super::reading::{Seen, in_use, read, see, state};
use super::schema::{FIELDS_MAX, FieldNameError, Schema, check_field_name};
use super::view::{EXISTENCE_KEY, exists, for_each_field};
use crate::clock::{Clock, Dot, HybridTime, Roster, Slot};
use crate::crdt::collaborative::EditError;
use crate::crdt::counter::CountError;
use crate::crdt::{FieldKind, Value};

/// One change of one field.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    Set {
        field: String,
        value: Json,
    },
    Unset {
        field: String,
    },
    Incr {
        field: String,
        by: i64,
    },
    Add {
        field: String,
        value: Json,
    },
    Remove {
        field: String,
        value: Json,
    },
    SetKey {
        field: String,
        key: String,
        value: Json,
    },
    UnsetKey {
        field: String,
        key: String,
    },
    IncrKey {
        field: String,
        key: String,
        by: i64,
    },
    /// Of a contested field: these values stand side by side again, the newest first. A conflict is reopened by it.
    Siblings {
        field: String,
        key: Option<String>,
        values: Vec<Json>,
    },
    /// Of a text: deletes `delete` characters at `at`, then inserts there.
    Splice {
        field: String,
        at: usize,
        delete: usize,
        insert: String,
    },
}

/// A write of one document.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// The document becomes exactly this; creates it when it is not there.
    Put(Map<String, Json>),
    /// Edits, in order. The document must exist.
    Edits(Vec<Edit>),
    /// Edits, in order; creates the document when it is not there.
    Upsert(Vec<Edit>),
    /// The fields become these, without affirming that the document exists: what a patch comes to. Only fields that read
    /// differently are written.
    Replace(Map<String, Json>),
    Delete,
}

/// An op to be given a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedOp {
    /// The encoded cell key.
    pub key: Vec<u8>,
    /// `None` removes.
    pub value: Option<Vec<u8>>,
    pub supersedes: Vec<Dot>,
}

/// Why a write was not planned. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("there is no such document: create it with PUT, or allow the write to create it (upsert)")]
    Missing,
    #[error("field `{field}` is of type {kind} and takes {wanted}, not {got}: send that, or declare another type in the collection's schema", wanted = expected(*kind))]
    Type { field: String, kind: FieldKind, got: String },
    #[error(
        "field `{field}` is of type {kind}, which `{edit}` does not edit: use `{edit}` on {wanted}, or declare another type in the collection's schema"
    )]
    Edit { field: String, kind: FieldKind, edit: &'static str, wanted: &'static str },
    #[error(transparent)]
    FieldName(#[from] FieldNameError),
    #[error("field `{field}`: {cause}")]
    Count { field: String, cause: CountError },
    #[error("field `{field}` is written once (fww) and already holds a value: leave it as it is, or unset it first")]
    AlreadyWritten { field: String },
    #[error(
        "field `{field}` is of type quorum: a majority of the voters decides it. Write it by a patch of such fields alone, with `durability=quorum`"
    )]
    ByBallot { field: String },
    #[error("field `{field}` is a gset: its elements cannot be removed; declare it as an orset to remove some")]
    GrowOnly { field: String },
    #[error(
        "field `{field}`: {what} of {len} bytes; at most {max} are allowed: split it, or keep it elsewhere and store its name"
    )]
    TooLong { field: String, what: &'static str, len: usize, max: usize },
    #[error("field `{field}` is nested deeper than {max} levels: flatten it, or store it as a string")]
    TooDeep { field: String, max: usize },
    #[error("{0} fields in one write: at most {FIELDS_MAX} are allowed; use a map field for open-ended keys")]
    TooManyFields(usize),
    #[error("field `{field}`: {cause}")]
    Text { field: String, cause: String },
}

impl PlanError {
    pub(super) fn text(field: &str, cause: &EditError) -> Self {
        Self::Text { field: field.to_owned(), cause: cause.to_string() }
    }
}

/// Who plans, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Planner<'a> {
    pub schema: &'a Schema,
    pub roster: &'a Roster,
    /// The slot of this replica, which the roster must hold.
    pub me: Slot,
    /// What every member has.
    pub settled: &'a Clock,
}

/// Appends to `out` the ops that make `write` come about; none when nothing would change. Each cell is named by at most
/// one of them, but for a conflict that is reopened. After an error `out` is as it was.
pub fn plan(
    document: Option<&Document>,
    planner: Planner<'_>,
    write: &Write,
    out: &mut Vec<PlannedOp>,
) -> Result<(), PlanError> {
    let start = out.len();
    let empty = Document::default();
    let planned = planner.plan(document.unwrap_or(&empty), write, out);
    if planned.is_err() {
        out.truncate(start);
    }
    planned
}

impl<'a> Planner<'a> {
    fn plan(self, document: &Document, write: &Write, out: &mut Vec<PlannedOp>) -> Result<(), PlanError> {
        let exists = exists(document);
        match write {
            Write::Put(fields) if exists => {
                let before = out.len();
                self.make(document, fields, Intent::Make, out)?;
                if out.len() > before {
                    self.affirm(document, out);
                }
                Ok(())
            }
            Write::Put(_) | Write::Upsert(_) if !exists => self.create(document, write, out),
            Write::Delete if exists => {
                self.clear(document, out);
                Ok(())
            }
            Write::Edits(edits) | Write::Upsert(edits) if exists => self.edit_all(document, edits, out),
            Write::Replace(fields) if exists => self.make(document, fields, Intent::Patch, out),
            _ => Err(PlanError::Missing),
        }
    }

    /// Removes what a deleted document left behind, then writes on what is then there.
    fn create(self, document: &Document, write: &Write, out: &mut Vec<PlannedOp>) -> Result<(), PlanError> {
        let start = out.len();
        self.clear(document, out);
        let cleared = out.len() > start;
        self.affirm(document, out);
        let mut draft = Draft::new(self.me, document);
        if cleared {
            draft.apply(&out[start..]);
        }
        match write {
            Write::Put(fields) => self.make(&draft.document, fields, Intent::Make, out)?,
            Write::Upsert(edits) if cleared => self.edit_in_turn(&mut draft, edits, out)?,
            Write::Upsert(edits) => return self.edit_all(document, edits, out),
            Write::Edits(_) | Write::Replace(_) | Write::Delete => return Err(PlanError::Missing),
        }
        if cleared {
            draft.merge(start, out);
        }
        Ok(())
    }

    /// Writes the existence cell.
    fn affirm(self, document: &Document, out: &mut Vec<PlannedOp>) {
        let key = EXISTENCE_KEY.to_vec();
        let state = document.cell(&key).map(|cell| state(cell, self.roster)).unwrap_or_default();
        let change = state.replace(Value::Null.encode());
        out.push(PlannedOp { key, value: change.value, supersedes: change.supersedes });
    }

    /// Removes every cell that holds something, of whatever kind.
    fn clear(self, document: &Document, out: &mut Vec<PlannedOp>) {
        for cell in document.cells().filter(|cell| cell.valued().next().is_some()) {
            let supersedes = cell.entries().map(|entry| entry.dot).collect();
            out.push(PlannedOp { key: cell.key.to_vec(), value: None, supersedes });
        }
    }

    /// Makes the fields exactly `fields`.
    fn make(
        self,
        document: &Document,
        fields: &Map<String, Json>,
        intent: Intent,
        out: &mut Vec<PlannedOp>,
    ) -> Result<(), PlanError> {
        if fields.len() > FIELDS_MAX {
            return Err(PlanError::TooManyFields(fields.len()));
        }
        let mut present: BTreeMap<&str, Vec<Seen<'_>>> = BTreeMap::new();
        for_each_field(document, self.roster, |name, seen| {
            present.insert(name, seen.to_vec());
        });
        for (name, value) in fields {
            check_field_name(name)?;
            let seen = present.remove(name.as_str()).unwrap_or_default();
            if intent == Intent::Patch && self.reads_as(name, &seen, value) {
                continue;
            }
            self.field(name, out).set(&seen, value, intent)?;
        }
        present.into_iter().try_for_each(|(name, seen)| self.field(name, out).unset(&seen, intent))
    }

    fn reads_as(self, name: &str, seen: &[Seen<'_>], value: &Json) -> bool {
        in_use(seen, self.schema.field(name)).and_then(|used| read(seen, &used)).as_ref() == Some(value)
    }

    /// Each edit sees those before it. Only edits that meet on a field pay for that.
    fn edit_all(self, document: &Document, edits: &[Edit], out: &mut Vec<PlannedOp>) -> Result<(), PlanError> {
        let mut names = BTreeSet::new();
        let apart = edits.len() < 2 || edits.iter().all(|edit| names.insert(edit.field()));
        if apart {
            return edits.iter().try_for_each(|edit| self.edit(document, edit, out));
        }
        let (start, mut draft) = (out.len(), Draft::new(self.me, document));
        self.edit_in_turn(&mut draft, edits, out)?;
        draft.merge(start, out);
        Ok(())
    }

    fn edit_in_turn(self, draft: &mut Draft, edits: &[Edit], out: &mut Vec<PlannedOp>) -> Result<(), PlanError> {
        for edit in edits {
            let before = out.len();
            self.edit(&draft.document, edit, out)?;
            draft.apply(&out[before..]);
        }
        Ok(())
    }

    fn edit(self, document: &Document, edit: &Edit, out: &mut Vec<PlannedOp>) -> Result<(), PlanError> {
        let name = edit.field();
        check_field_name(name)?;
        let roster = self.roster;
        let mut field = self.field(name, out);
        let seen =
            || document.cells_of(name).filter_map(|cell| see(cell, roster).map(|(_, seen)| seen)).collect::<Vec<_>>();
        match edit {
            Edit::Set { value, .. } => field.set(&seen(), value, Intent::Edit),
            Edit::Unset { .. } => field.unset(&seen(), Intent::Edit),
            Edit::Incr { by, .. } => field.increment(&seen(), *by),
            Edit::Splice { at, delete, insert, .. } => field.splice(&seen(), *at, *delete, insert),
            Edit::Add { value, .. } => field.add(document, value),
            Edit::Remove { value, .. } => field.remove(document, value),
            Edit::Siblings { key: None, values, .. } => field.reopen(&seen(), values),
            Edit::Siblings { key: Some(key), values, .. } => field.reopen_key(document, key, values),
            Edit::SetKey { key, value, .. } => field.set_key(document, key, value),
            Edit::UnsetKey { key, .. } => field.unset_key(document, key),
            Edit::IncrKey { key, by, .. } => field.increment_key(document, key, *by),
        }
    }

    fn field<'p>(&self, name: &'p str, out: &'p mut Vec<PlannedOp>) -> FieldPlan<'p>
    where
        'a: 'p,
    {
        let me = *self.roster.id(self.me);
        FieldPlan {
            name,
            key: None,
            declared: self.schema.field(name).copied(),
            map: None,
            roster: self.roster,
            me,
            settled: self.settled,
            out,
        }
    }
}

impl Edit {
    pub fn field(&self) -> &str {
        match self {
            Edit::Set { field, .. }
            | Edit::Unset { field }
            | Edit::Incr { field, .. }
            | Edit::Add { field, .. }
            | Edit::Remove { field, .. }
            | Edit::SetKey { field, .. }
            | Edit::UnsetKey { field, .. }
            | Edit::IncrKey { field, .. }
            | Edit::Siblings { field, .. }
            | Edit::Splice { field, .. } => field,
        }
    }
}

/// A copy of the document that planned ops are tried on, under dots that only stand in for those they will get.
/// Copies no page but those it changes.
struct Draft {
    document: Document,
    me: Slot,
    /// Stand-ins count down from the last seq, which no real dot reaches.
    next_seq: u64,
}

impl Draft {
    fn new(me: Slot, document: &Document) -> Self {
        Self { document: document.clone(), me, next_seq: Dot::SEQ_MAX }
    }

    fn apply(&mut self, ops: &[PlannedOp]) {
        let mut packed = Vec::new();
        for op in ops {
            let dot = Dot::new(self.me, self.next_seq);
            self.next_seq -= 1;
            let entry = EntryRef { dot, at: HybridTime(u64::MAX), value: op.value.as_deref() };
            apply_op(self.document.entries_of(&op.key), &op.supersedes, entry, &mut packed);
            self.document.put(&op.key, &packed);
        }
    }

    /// Makes one op of those that name the same cell: the last value, and every real dot that any of them supersedes.
    fn merge(&self, start: usize, out: &mut Vec<PlannedOp>) {
        let mut merged: BTreeMap<Vec<u8>, PlannedOp> = BTreeMap::new();
        for op in out.drain(start..) {
            let into =
                merged.entry(op.key.clone()).or_insert_with(|| PlannedOp { supersedes: Vec::new(), ..op.clone() });
            into.value = op.value;
            let stands_in = |dot: Dot| dot.slot() == self.me && dot.seq() > self.next_seq;
            into.supersedes.extend(op.supersedes.into_iter().filter(|dot| !stands_in(*dot)));
        }
        for (_, mut op) in merged {
            op.supersedes.sort_unstable();
            op.supersedes.dedup();
            // Added and removed within one write: there is nothing to tell anyone.
            if op.value.is_some() || !op.supersedes.is_empty() {
                out.push(op);
            }
        }
    }
}
