//! One field, read: from its cells to a value.
//!
//! A field can have cells of several kinds: two nodes inferred differently, or its type was changed. The declared kind
//! is read where it has a live entry; else the kind written last. One rule joins two kinds: a `pncounter` counts on from
//! the integer that a contested register of the same field holds, its *base*. So the first increment of a field that was
//! set to 5 neither loses the 5 nor, made on both sides of a partition, counts it twice.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::cell::{CellKey, CellRef};
use super::schema::Field;
use crate::clock::{HybridTime, ReplicaId, Roster};
use crate::crdt::counter::{self, Counter};
use crate::crdt::extreme::{self, End};
use crate::crdt::register::{self, Resolver};
use crate::crdt::value::integer_to_json;
use crate::crdt::{FieldKind, Live, State, Value, flag, json, map, quorum, text};

/// A cell of a known kind, with the part of its name that the kind defines.
#[derive(Clone, Debug)]
pub struct Seen<'a> {
    pub kind: FieldKind,
    pub sub: &'a [u8],
    /// The whole encoded key.
    pub key: &'a [u8],
    pub state: State<'a>,
}

/// Splits a cell into its field's name and what is seen of it. `None` for a kind that this version does not know.
pub fn see<'a>(cell: CellRef<'a>, roster: &Roster) -> Option<(&'a str, Seen<'a>)> {
    let key = CellKey::decode(cell.key)?;
    let kind = FieldKind::from_tag(key.tag)?;
    Some((key.field, Seen { kind, sub: key.sub, key: cell.key, state: state(cell, roster) }))
}

pub fn state<'a>(cell: CellRef<'a>, roster: &Roster) -> State<'a> {
    let mut state = State::default();
    for entry in cell.entries() {
        match entry.value {
            Some(value) => {
                let replica = *roster.id(entry.dot.slot());
                state.live.push(Live { dot: entry.dot, replica, at: entry.at, value });
            }
            None => state.records.push(entry.dot),
        }
    }
    state
}

/// How the field is read: its declaration where that kind has live entries, else the defaults of the newest kind.
/// `None` when nothing is live.
pub fn in_use(seen: &[Seen<'_>], declared: Option<&Field>) -> Option<Field> {
    let has = |kind| seen.iter().any(|cell| cell.kind == kind && !cell.state.live.is_empty());
    if let Some(declared) = declared.filter(|declared| has(declared.kind)) {
        return Some(*declared);
    }
    let newest = seen.iter().filter_map(|cell| newest(cell).map(|rank| (rank, cell.kind))).max()?.1;
    let counts_on = newest == FieldKind::Contested && has(FieldKind::PnCounter) && base(seen).is_some();
    Some(Field::of(if counts_on { FieldKind::PnCounter } else { newest }))
}

fn newest(cell: &Seen<'_>) -> Option<(HybridTime, ReplicaId, u64)> {
    cell.state.live.iter().map(Live::rank).max()
}

/// The integer below a counter, see the top of this file.
pub fn base(seen: &[Seen<'_>]) -> Option<i64> {
    let register = cell_of(seen, FieldKind::Contested)?;
    match register::settle(&register.live, Resolver::LastWriter) {
        Some(register::Reading::One(Value::Int(int))) => Some(int),
        _ => None,
    }
}

/// The state of the one cell of a kind that has no elements or keys, if it has live entries.
pub fn cell_of<'s, 'a>(seen: &'s [Seen<'a>], kind: FieldKind) -> Option<&'s State<'a>> {
    let found = seen.iter().find(|cell| cell.kind == kind && cell.sub.is_empty());
    found.map(|cell| &cell.state).filter(|state| !state.live.is_empty())
}

/// The keys of a map, in order, each with its cells as if it were a field.
pub fn keys<'a>(seen: &[Seen<'a>]) -> BTreeMap<&'a str, Vec<Seen<'a>>> {
    let mut keys = BTreeMap::<_, Vec<_>>::new();
    for cell in seen.iter().filter(|cell| cell.kind == FieldKind::Map) {
        if let Some((kind, key)) = map::decode_key(cell.sub) {
            keys.entry(key).or_default().push(Seen { kind, sub: &[], ..cell.clone() });
        }
    }
    keys
}

/// The value of a field. `None` when no live entry is readable.
pub fn read(seen: &[Seen<'_>], field: &Field) -> Option<Json> {
    match field.kind {
        FieldKind::GSet | FieldKind::OrSet => Some(elements(seen, field.kind)),
        FieldKind::Map => {
            let declared = field.of_key();
            let entries = keys(seen).into_iter().filter_map(|(key, seen)| {
                let used = in_use(&seen, declared.as_ref())?;
                Some((key.to_owned(), read_cell(&seen, &key_rules(field, used))?))
            });
            Some(Json::Object(entries.collect()))
        }
        _ => read_cell(seen, field),
    }
}

/// A key without a declared kind still follows what its map declares beside the kind.
pub fn key_rules(map: &Field, used: Field) -> Field {
    map.with_kind(used.kind)
}

fn read_cell(seen: &[Seen<'_>], field: &Field) -> Option<Json> {
    let live = &cell_of(seen, field.kind)?.live;
    match field.kind {
        FieldKind::GCounter | FieldKind::PnCounter => {
            let counter = Counter::new(field.kind, field.overflow);
            Some(integer_to_json(counter.read(sum_with_base(seen, field.kind))))
        }
        FieldKind::Flag => flag::read(live, field.disable_wins).map(Json::from),
        FieldKind::Max => extreme::read(live, End::Largest).map(Value::into_json),
        FieldKind::Min => extreme::read(live, End::Smallest).map(Value::into_json),
        FieldKind::Lww => settled(live, Resolver::LastWriter),
        FieldKind::Fww => settled(live, Resolver::FirstWriter),
        FieldKind::Mv => settled(live, Resolver::KeepAll),
        FieldKind::Contested => settled(live, field.resolver),
        FieldKind::Text => text::read(live).map(Json::from),
        FieldKind::Json => json::read(live),
        FieldKind::Quorum => {
            quorum::latest(live)?.value.and_then(|value| Value::decode(value).ok()).map(Value::into_json)
        }
        FieldKind::Existence | FieldKind::GSet | FieldKind::OrSet | FieldKind::Map => None,
    }
}

fn settled(live: &[Live<'_>], resolver: Resolver) -> Option<Json> {
    register::settle(live, resolver).map(register::Reading::into_json)
}

/// The unbounded sum of a counter's shares and its base.
pub fn sum_with_base(seen: &[Seen<'_>], kind: FieldKind) -> i128 {
    let shares = cell_of(seen, kind).map_or(0, |state| counter::sum(&state.live));
    let base = if kind == FieldKind::PnCounter { base(seen) } else { None };
    shares + i128::from(base.unwrap_or(0))
}

/// In the order of values, so that the same set is the same array everywhere.
fn elements(seen: &[Seen<'_>], kind: FieldKind) -> Json {
    let live = seen.iter().filter(|cell| cell.kind == kind && !cell.state.live.is_empty());
    let mut values: Vec<_> = live.filter_map(|cell| Value::decode(cell.sub).ok()).collect();
    values.sort_by(Value::compare);
    values.into_iter().map(Value::into_json).collect()
}
