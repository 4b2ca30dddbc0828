//! What a write means for one field, or for one key of a map.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value as Json;
use smallvec::SmallVec;

use super::cell::{CellKey, CellRef, SUB_BYTES_MAX};
use super::infer::{fits, infer, infer_key};
use super::packed::Document;
use super::page::Page;
use super::plan::{PlanError, PlannedOp};
use super::reading::{self, Seen, base, in_use, key_rules, see, sum_with_base};
use super::schema::Field;
use crate::clock::{Clock, ReplicaId, Roster};
use crate::crdt::counter::{Counter, Step};
use crate::crdt::extreme::{self, End};
use crate::crdt::value::VALUE_BYTES_MAX;
use crate::crdt::{Change, FieldKind, Overflow, State, Value, based, flag, json, map, register, set, text};

/// Deepest nesting of a value. Well within what every JSON parser takes.
const DEPTH_MAX: usize = 64;

/// How a set was meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intent {
    /// Someone set this very field: repeating a value that wins over concurrent ones is worth an entry.
    Edit,
    /// The whole document is to be so: what already is, is not written.
    Make,
    /// As `Make`, for what a patch left different.
    Patch,
}

/// Plans the ops of one field into `out`.
#[derive(Debug)]
pub struct FieldPlan<'p> {
    pub name: &'p str,
    /// The map's key that is planned, if it is one.
    pub key: Option<&'p str>,
    pub declared: Option<Field>,
    /// Of a map's key: the map, whose rules hold for a key of any kind.
    pub map: Option<Field>,
    pub roster: &'p Roster,
    pub me: ReplicaId,
    /// What every member has.
    pub settled: &'p Clock,
    pub out: &'p mut Vec<PlannedOp>,
}

impl FieldPlan<'_> {
    pub fn set(&mut self, seen: &[Seen<'_>], value: &Json, intent: Intent) -> Result<(), PlanError> {
        if self.is_decided(seen) {
            // What was read and is sent back as it is changes nothing.
            let same = reading::read(seen, &Field::of(FieldKind::Quorum)).as_ref() == Some(value);
            return if same && intent != Intent::Edit { Ok(()) } else { Err(self.by_ballot()) };
        }
        let field = self.declared.unwrap_or_else(|| self.inferred(in_use(seen, None), value));
        self.check_value(&field, value)?;
        let counts_on = field.kind == FieldKind::PnCounter && base(seen).is_some();
        self.remove_cells(
            seen.iter().filter(|cell| cell.kind != field.kind && !(counts_on && cell.kind == FieldKind::Contested)),
        );
        match field.kind {
            FieldKind::GCounter | FieldKind::PnCounter => self.set_count(seen, &field, value),
            FieldKind::GSet | FieldKind::OrSet => self.set_elements(seen, &field, value),
            FieldKind::Map => self.set_keys(seen, &field, value, intent),
            _ => self.set_cell(seen, &field, value, intent),
        }
    }

    pub fn unset(&mut self, seen: &[Seen<'_>], intent: Intent) -> Result<(), PlanError> {
        if self.is_decided(seen) {
            // A whole document that does not name it leaves it as it was decided.
            let is_none = reading::read(seen, &Field::of(FieldKind::Quorum)).is_none();
            return if is_none || intent == Intent::Make { Ok(()) } else { Err(self.by_ballot()) };
        }
        if in_use(seen, self.declared.as_ref()).is_some_and(|used| used.kind == FieldKind::GSet) {
            return Err(PlanError::GrowOnly { field: self.path() });
        }
        self.remove_cells(seen.iter());
        Ok(())
    }

    /// Whether ballots decide it: it is declared so, or was, and nothing else is declared.
    fn is_decided(&self, seen: &[Seen<'_>]) -> bool {
        self.declared.or_else(|| in_use(seen, None)).is_some_and(|used| used.kind == FieldKind::Quorum)
    }

    fn by_ballot(&self) -> PlanError {
        PlanError::ByBallot { field: self.path() }
    }

    pub fn increment(&mut self, seen: &[Seen<'_>], by: i64) -> Result<(), PlanError> {
        let used = in_use(seen, self.declared.as_ref());
        let counts_on = base(seen).is_some();
        let field = match (self.declared, used) {
            (Some(declared), _) => declared,
            (None, Some(used)) if !(used.kind == FieldKind::Contested && counts_on) => self.field_of(used.kind),
            _ => self.field_of(FieldKind::PnCounter),
        };
        if !field.kind.is_counter() {
            return Err(self.wrong_edit(field.kind, "incr", "a gcounter or a pncounter"));
        }
        let keeps_base = counts_on && field.kind == FieldKind::PnCounter;
        self.remove_cells(
            seen.iter().filter(|cell| cell.kind != field.kind && !(keeps_base && cell.kind == FieldKind::Contested)),
        );
        self.count(seen, &field, i128::from(by))
    }

    pub fn splice(&mut self, seen: &[Seen<'_>], at: usize, delete: usize, insert: &str) -> Result<(), PlanError> {
        let used = self.declared.or_else(|| in_use(seen, None));
        let kind = used.map_or(FieldKind::Text, |used| used.kind);
        if kind != FieldKind::Text {
            return Err(self.wrong_edit(kind, "splice", "a text"));
        }
        self.remove_cells(seen.iter().filter(|cell| cell.kind != kind));
        let edited = text::splice(&state_of(seen, kind), self.me, at, delete, insert);
        let change = edited.map_err(|cause| PlanError::text(self.name, &cause))?;
        self.push_checked(kind, change)
    }

    pub fn add(&mut self, document: &Document, value: &Json) -> Result<(), PlanError> {
        let (kind, cell_key) = self.element(document, value, "add")?;
        let state = self.state_at(document, &cell_key);
        let change = if kind == FieldKind::GSet { set::ensure(&state) } else { Some(set::add(&state)) };
        self.push_at(cell_key, change);
        Ok(())
    }

    pub fn remove(&mut self, document: &Document, value: &Json) -> Result<(), PlanError> {
        let (kind, cell_key) = self.element(document, value, "remove")?;
        if kind == FieldKind::GSet {
            return Err(PlanError::GrowOnly { field: self.path() });
        }
        let change = set::remove(&self.state_at(document, &cell_key));
        self.push_at(cell_key, change);
        Ok(())
    }

    pub fn set_key(&mut self, document: &Document, key: &str, value: &Json) -> Result<(), PlanError> {
        let map = self.map(document, "set key")?;
        let seen = self.key_cells(document, key);
        self.at_key(&map, key)?.set(&seen, value, Intent::Edit)
    }

    /// Puts values side by side, the newest first. Each op but the first supersedes nothing, so all of them stay.
    pub fn reopen(&mut self, seen: &[Seen<'_>], values: &[Json]) -> Result<(), PlanError> {
        let kind = self.declared.or_else(|| in_use(seen, None)).map_or(FieldKind::Contested, |used| used.kind);
        if kind != FieldKind::Contested {
            return Err(self.wrong_edit(kind, "reopen", "a contested field"));
        }
        let mut superseded = state_of(seen, kind).dots();
        for value in values.iter().rev() {
            self.check_depth(value)?;
            let change = Change { value: Some(Value::encode_json(value)), supersedes: std::mem::take(&mut superseded) };
            self.push_checked(kind, Some(change))?;
        }
        Ok(())
    }

    pub fn reopen_key(&mut self, document: &Document, key: &str, values: &[Json]) -> Result<(), PlanError> {
        let map = self.map(document, "reopen key")?;
        let seen = self.key_cells(document, key);
        self.at_key(&map, key)?.reopen(&seen, values)
    }

    pub fn unset_key(&mut self, document: &Document, key: &str) -> Result<(), PlanError> {
        let map = self.map(document, "unset key")?;
        let seen = self.key_cells(document, key);
        self.at_key(&map, key)?.unset(&seen, Intent::Edit)
    }

    pub fn increment_key(&mut self, document: &Document, key: &str, by: i64) -> Result<(), PlanError> {
        let map = self.map(document, "incr key")?;
        let seen = self.key_cells(document, key);
        self.at_key(&map, key)?.increment(&seen, by)
    }

    /// The type of an undeclared field: the one it has while the value fits it.
    fn inferred(&self, used: Option<Field>, value: &Json) -> Field {
        let fresh = || if self.key.is_some() { infer_key() } else { infer(value) };
        let keeps = |used: &Field| fits(used.kind, value) || (self.key.is_some() && used.kind == infer_key());
        let kind = used.filter(keeps).map_or_else(fresh, |used| used.kind);
        self.field_of(kind)
    }

    fn field_of(&self, kind: FieldKind) -> Field {
        self.map.map_or_else(|| Field::of(kind), |map| map.with_kind(kind))
    }

    fn set_count(&mut self, seen: &[Seen<'_>], field: &Field, value: &Json) -> Result<(), PlanError> {
        let wanted = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)).unwrap_or(0);
        let sum = sum_with_base(seen, field.kind);
        let shown = Counter::new(field.kind, field.overflow).read(sum);
        // Already so. A counter that does not exist yet reads as 0, but has no cell.
        if wanted == shown && (reading::cell_of(seen, field.kind).is_some() || base(seen).is_some()) {
            return Ok(());
        }
        // A count that restarts past its bound is set from 0, not from the sum that lies out there.
        let restarts = field.overflow == Overflow::Reset && sum != shown;
        self.count(seen, field, if restarts { wanted } else { wanted - sum })
    }

    fn count(&mut self, seen: &[Seen<'_>], field: &Field, by: i128) -> Result<(), PlanError> {
        let counter = Counter::new(field.kind, field.overflow);
        let state = state_of(seen, field.kind);
        let base = if field.kind == FieldKind::PnCounter { base(seen).unwrap_or(0) } else { 0 };
        let step = counter.increment(&state, self.me, i128::from(base), by);
        match step.map_err(|cause| PlanError::Count { field: self.path(), cause })? {
            Step::Share(change) => self.push(field.kind, Some(change)),
            // A counter begins by being there, also at 0.
            Step::Nothing if state.live.is_empty() => {
                self.push(field.kind, Some(state.replace(Value::Count { up: 0, down: 0 }.encode())))
            }
            Step::Nothing => {}
            Step::Restart(change) => {
                self.remove_cells(seen.iter().filter(|cell| cell.kind == FieldKind::Contested));
                self.push(field.kind, Some(change));
            }
        }
        Ok(())
    }

    fn set_elements(&mut self, seen: &[Seen<'_>], field: &Field, value: &Json) -> Result<(), PlanError> {
        let wanted: BTreeSet<Vec<u8>> = value.as_array().into_iter().flatten().map(Value::encode_json).collect();
        for element in &wanted {
            self.check_sub("an element", element.len())?;
        }
        let of_kind = || seen.iter().filter(|cell| cell.kind == field.kind);
        for cell in of_kind().filter(|cell| !cell.state.live.is_empty() && !wanted.contains(cell.sub)) {
            if field.kind == FieldKind::GSet {
                return Err(PlanError::GrowOnly { field: self.path() });
            }
            self.push_at(cell.key.to_vec(), set::remove(&cell.state));
        }
        let present: Vec<_> = of_kind().collect();
        for element in wanted {
            // Cells come in the order of their keys, so those of one kind are in the order of their elements.
            let found = present.binary_search_by(|cell| cell.sub.cmp(&element));
            let change = match found {
                Ok(at) => set::ensure(&present[at].state),
                Err(_) => Some(set::add(&State::default())),
            };
            let cell_key = CellKey { field: self.name, tag: field.kind.tag(), sub: &element }.encode();
            self.push_at(cell_key, change);
        }
        Ok(())
    }

    fn set_keys(&mut self, seen: &[Seen<'_>], field: &Field, value: &Json, intent: Intent) -> Result<(), PlanError> {
        let mut present = reading::keys(seen);
        for (key, value) in value.as_object().into_iter().flatten() {
            let seen = present.remove(key.as_str()).unwrap_or_default();
            let mut plan = self.at_key(field, key)?;
            // A map of many keys is set by its differences, whoever sets it.
            let intent = if intent == Intent::Edit { Intent::Make } else { intent };
            let used = in_use(&seen, plan.declared.as_ref()).map(|used| key_rules(field, used));
            let unchanged = used.and_then(|used| reading::read(&seen, &used)).as_ref() == Some(value);
            if !(unchanged && intent == Intent::Patch) {
                plan.set(&seen, value, intent)?;
            }
        }
        for (key, seen) in present {
            self.at_key(field, key)?.unset(&seen, intent)?;
        }
        Ok(())
    }

    fn set_cell(&mut self, seen: &[Seen<'_>], field: &Field, value: &Json, intent: Intent) -> Result<(), PlanError> {
        let state = state_of(seen, field.kind);
        let made = intent != Intent::Edit;
        let change = match field.kind {
            FieldKind::Flag => {
                let on = value.as_bool().unwrap_or(false);
                let same = made && flag::read(&state.live, field.disable_wins) == Some(on);
                if same { None } else { flag::set(&state, on, field.disable_wins) }
            }
            FieldKind::Max => extreme::offer(&state, &Value::from_json(value), End::Largest),
            FieldKind::Min => extreme::offer(&state, &Value::from_json(value), End::Smallest),
            FieldKind::Fww => register::set_first(&state, Value::encode_json(value))
                .map_err(|_| PlanError::AlreadyWritten { field: self.path() })?,
            // All values together are this register's value: to say it again settles nothing.
            FieldKind::Mv if reading::read(seen, field).as_ref() == Some(value) => None,
            FieldKind::Text => {
                let set = text::set(&state, self.me, value.as_str().unwrap_or_default());
                set.map_err(|cause| PlanError::text(self.name, &cause))?
            }
            FieldKind::Json => json::set(&state, self.me, value).map_err(|cause| PlanError::text(self.name, &cause))?,
            FieldKind::Contested if field.keeps_base => {
                based::set(&state, Value::encode_json(value), |dot| self.settled.covers(dot))
            }
            _ => register::set(&state, Value::encode_json(value)),
        };
        self.push_checked(field.kind, change)
    }

    /// The plan of one key of this map.
    fn at_key<'k>(&'k mut self, map: &Field, key: &'k str) -> Result<FieldPlan<'k>, PlanError> {
        self.check_sub("a map's key", 1 + key.len())?;
        let (declared, map) = (map.of_key(), Some(*map));
        Ok(FieldPlan {
            key: Some(key),
            declared,
            map,
            name: self.name,
            roster: self.roster,
            me: self.me,
            settled: self.settled,
            out: self.out,
        })
    }

    /// Which set an element edit means, and the element's cell.
    fn element(
        &mut self,
        document: &Document,
        value: &Json,
        edit: &'static str,
    ) -> Result<(FieldKind, Vec<u8>), PlanError> {
        let live = self.live_kinds(document);
        let kind = self.kind_for(document, &live, FieldKind::OrSet);
        if !kind.is_set() {
            return Err(self.wrong_edit(kind, edit, "a gset or an orset"));
        }
        self.check_depth(value)?;
        let sub = Value::encode_json(value);
        self.check_sub("an element", sub.len())?;
        self.remove_other_kinds(document, &live, kind);
        Ok((kind, CellKey { field: self.name, tag: kind.tag(), sub: &sub }.encode()))
    }

    fn map(&mut self, document: &Document, edit: &'static str) -> Result<Field, PlanError> {
        let live = self.live_kinds(document);
        let kind = self.kind_for(document, &live, FieldKind::Map);
        if kind != FieldKind::Map {
            return Err(self.wrong_edit(kind, edit, "a map"));
        }
        self.remove_other_kinds(document, &live, kind);
        Ok(self.declared.unwrap_or_else(|| Field::of(kind)))
    }

    /// The kind an edit of one element or key works on: the declared one, else the one in use, else `fresh`.
    fn kind_for(&self, document: &Document, live: &[FieldKind], fresh: FieldKind) -> FieldKind {
        if let Some(declared) = self.declared {
            return declared.kind;
        }
        match *live {
            [] => fresh,
            [only] => only,
            _ => in_use(&self.cells(document), None).map_or(fresh, |used| used.kind),
        }
    }

    fn remove_other_kinds(&mut self, document: &Document, live: &[FieldKind], kind: FieldKind) {
        if live.iter().any(|live| *live != kind) {
            let cells = self.cells(document);
            self.remove_cells(cells.iter().filter(|cell| cell.kind != kind));
        }
    }

    fn cells<'d>(&self, document: &'d Document) -> Vec<Seen<'d>> {
        document.cells_of(self.name).filter_map(|cell| see(cell, self.roster).map(|(_, seen)| seen)).collect()
    }

    /// The kinds with live entries. Leaps from kind to kind: an edit of one element must not cost what the set holds.
    fn live_kinds(&self, document: &Document) -> SmallVec<[FieldKind; 2]> {
        let mut kinds = SmallVec::new();
        let mut bound = CellKey { field: self.name, tag: 0, sub: b"" }.encode();
        let prefix_len = bound.len() - 1;
        loop {
            let in_field = |cell: &CellRef<'_>| cell.key[..prefix_len.min(cell.key.len())] == bound[..prefix_len];
            let live = |cell: &CellRef<'_>| cell.valued().next().is_some();
            let Some(cell) = cells_from(document, &bound).take_while(in_field).find(live) else { return kinds };
            let tag = cell.key[prefix_len];
            kinds.extend(FieldKind::from_tag(tag));
            let Some(next) = tag.checked_add(1) else { return kinds };
            bound[prefix_len] = next;
        }
    }

    /// The cells of one key of a map, whatever their kinds.
    fn key_cells<'d>(&self, document: &'d Document, key: &str) -> Vec<Seen<'d>> {
        let kinds = FieldKind::DECLARABLE.into_iter().filter(|kind| kind.fits_map());
        let found = kinds.filter_map(|kind| {
            let sub = map::encode_key(kind, key);
            let cell_key = CellKey { field: self.name, tag: FieldKind::Map.tag(), sub: &sub }.encode();
            let (_, seen) = see(document.cell(&cell_key)?, self.roster)?;
            Some(Seen { kind, sub: &[], ..seen })
        });
        found.collect()
    }

    fn state_at<'d>(&self, document: &'d Document, cell_key: &[u8]) -> State<'d> {
        document.cell(cell_key).map(|cell| reading::state(cell, self.roster)).unwrap_or_default()
    }

    fn remove_cells<'s, 'd: 's>(&mut self, cells: impl Iterator<Item = &'s Seen<'d>>) {
        for cell in cells {
            self.push_at(cell.key.to_vec(), cell.state.remove());
        }
    }

    fn push_checked(&mut self, kind: FieldKind, change: Option<Change>) -> Result<(), PlanError> {
        let len = change.as_ref().and_then(|change| change.value.as_ref()).map_or(0, Vec::len);
        if len > VALUE_BYTES_MAX {
            return Err(PlanError::TooLong { field: self.path(), what: "a value", len, max: VALUE_BYTES_MAX });
        }
        self.push(kind, change);
        Ok(())
    }

    fn push(&mut self, kind: FieldKind, change: Option<Change>) {
        let cell_key = match self.key {
            None => CellKey { field: self.name, tag: kind.tag(), sub: b"" }.encode(),
            Some(key) => {
                let sub = map::encode_key(kind, key);
                CellKey { field: self.name, tag: FieldKind::Map.tag(), sub: &sub }.encode()
            }
        };
        self.push_at(cell_key, change);
    }

    fn push_at(&mut self, key: Vec<u8>, change: Option<Change>) {
        if let Some(Change { value, supersedes }) = change {
            self.out.push(PlannedOp { key, value, supersedes });
        }
    }

    fn check_value(&self, field: &Field, value: &Json) -> Result<(), PlanError> {
        if !fits(field.kind, value) && field.kind != FieldKind::Contested {
            return Err(PlanError::Type { field: self.path(), kind: field.kind, got: describe(value) });
        }
        self.check_depth(value)
    }

    fn check_depth(&self, value: &Json) -> Result<(), PlanError> {
        let fine = within_depth(value, DEPTH_MAX);
        if fine { Ok(()) } else { Err(PlanError::TooDeep { field: self.path(), max: DEPTH_MAX }) }
    }

    fn check_sub(&self, what: &'static str, len: usize) -> Result<(), PlanError> {
        if len <= SUB_BYTES_MAX {
            return Ok(());
        }
        Err(PlanError::TooLong { field: self.path(), what, len, max: SUB_BYTES_MAX })
    }

    fn wrong_edit(&self, kind: FieldKind, edit: &'static str, wanted: &'static str) -> PlanError {
        PlanError::Edit { field: self.path(), kind, edit, wanted }
    }

    /// `field` or `field.key`, for people.
    fn path(&self) -> String {
        self.key.map_or_else(|| self.name.to_owned(), |key| format!("{}.{key}", self.name))
    }
}

/// The cell of a kind as the plan sees it, records included.
fn state_of<'a>(seen: &[Seen<'a>], kind: FieldKind) -> State<'a> {
    seen.iter().find(|cell| cell.kind == kind).map(|cell| cell.state.clone()).unwrap_or_default()
}

/// The cells at or above a key.
fn cells_from<'d>(document: &'d Document, bound: &'d [u8]) -> impl Iterator<Item = CellRef<'d>> {
    let below = |page: &Arc<Page>| page.cells().next().is_some_and(|cell| cell.key <= bound);
    let first = document.pages().partition_point(below).saturating_sub(1);
    document.pages()[first..].iter().flat_map(|page| page.cells()).skip_while(move |cell| cell.key < bound)
}

fn within_depth(value: &Json, left: usize) -> bool {
    match value {
        Json::Array(items) => left > 0 && items.iter().all(|item| within_depth(item, left - 1)),
        Json::Object(map) => left > 0 && map.values().all(|item| within_depth(item, left - 1)),
        _ => true,
    }
}

fn describe(value: &Json) -> String {
    let kind = match value {
        Json::Null => return "null".to_owned(),
        Json::Bool(_) => "the boolean",
        Json::Number(_) => "the number",
        Json::String(_) => "the string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    let text = if value.is_array() || value.is_object() { String::new() } else { format!(" {value}") };
    kind.chars().chain(text.chars().take(60)).collect()
}
