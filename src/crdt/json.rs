//! `json`: free JSON whose objects merge key by key and whose lists merge element by element, at any depth.
//! Of concurrent values for one key Automerge picks one, alike everywhere. Costs kilobytes and keeps its history.

use std::collections::BTreeSet;

use automerge::transaction::Transactable;
use automerge::{AutoCommit, ObjId, ObjType, Prop, ROOT, ReadDoc, ScalarValue, Value};
use serde_json::Value as Json;

use super::collaborative::{EditError, KEY, edited, merged};
use super::live::{Change, Live, State};
use crate::clock::ReplicaId;

/// `None` when no live entry holds JSON.
pub fn read(live: &[Live<'_>]) -> Option<Json> {
    if live.is_empty() {
        return None;
    }
    at(&merged(live, ObjType::Map).ok()?, &ROOT, KEY.into())
}

/// Makes the value `new`, writing only the parts that differ.
pub fn set(state: &State<'_>, me: ReplicaId, new: &Json) -> Result<Option<Change>, EditError> {
    edited(state, me, ObjType::Map, new.to_string().as_bytes(), |document| write(document, &ROOT, KEY.into(), new))
}

/// Makes the value at `prop` of `parent`, an element that exists or a key, equal to `new`.
fn write(document: &mut AutoCommit, parent: &ObjId, prop: Prop, new: &Json) -> Result<(), EditError> {
    if at(document, parent, prop.clone()).as_ref() == Some(new) {
        return Ok(());
    }
    let found = document.get(parent, prop.clone())?.map(|(value, id)| (value.to_objtype(), id));
    let kept = found.and_then(|(kind, id)| (kind.is_some() && kind == container(new)).then_some(id));
    match (container(new), kept) {
        (Some(_), Some(object)) => fill(document, &object, new),
        (Some(kind), None) => {
            let object = document.put_object(parent, prop, kind)?;
            fill(document, &object, new)
        }
        (None, _) => Ok(document.put(parent, prop, scalar(new))?),
    }
}

fn fill(document: &mut AutoCommit, object: &ObjId, new: &Json) -> Result<(), EditError> {
    match new {
        Json::Object(map) => {
            let keys: BTreeSet<String> = document.keys(object).collect();
            for gone in keys.iter().filter(|key| !map.contains_key(*key)) {
                document.delete(object, gone.as_str())?;
            }
            map.iter().try_for_each(|(key, value)| write(document, object, key.as_str().into(), value))
        }
        Json::Array(items) => fill_list(document, object, items),
        _ => Ok(()),
    }
}

/// Leaves what both ends have in common, so that an insertion is one and edits around it merge. Not Automerge's own
/// `update_object`: that of 0.12 deletes from the front where a list shrinks at its end.
fn fill_list(document: &mut AutoCommit, list: &ObjId, items: &[Json]) -> Result<(), EditError> {
    let old: Vec<_> = (0..document.length(list)).map(|i| at(document, list, i.into())).collect();
    let same = |(old, new): &(&Option<Json>, &Json)| old.as_ref() == Some(*new);
    let head = old.iter().zip(items).take_while(same).count();
    let tail = old[head..].iter().rev().zip(items[head..].iter().rev()).take_while(same).count();
    let (old_end, new_end) = (old.len() - tail, items.len() - tail);
    for i in (new_end.max(head)..old_end).rev() {
        document.delete(list, i)?;
    }
    for (i, item) in items[..new_end].iter().enumerate().skip(head) {
        if i >= old_end {
            document.insert(list, i, ScalarValue::Null)?;
        }
        write(document, list, i.into(), item)?;
    }
    Ok(())
}

fn at(document: &AutoCommit, parent: &ObjId, prop: Prop) -> Option<Json> {
    let (value, id) = document.get(parent, prop).ok().flatten()?;
    Some(match value {
        Value::Object(ObjType::List) => (0..document.length(&id)).filter_map(|i| at(document, &id, i.into())).collect(),
        Value::Object(ObjType::Text) => document.text(&id).ok()?.into(),
        Value::Object(_) => {
            let entries = document.keys(&id).filter_map(|key| Some((key.clone(), at(document, &id, key.into())?)));
            Json::Object(entries.collect())
        }
        Value::Scalar(scalar) => match scalar.as_ref() {
            ScalarValue::Boolean(on) => (*on).into(),
            ScalarValue::Str(text) => text.as_str().into(),
            ScalarValue::Int(int) => (*int).into(),
            ScalarValue::Uint(int) => (*int).into(),
            ScalarValue::F64(float) => (*float).into(),
            // Nothing here writes the other scalars.
            _ => Json::Null,
        },
    })
}

fn container(json: &Json) -> Option<ObjType> {
    match json {
        Json::Object(_) => Some(ObjType::Map),
        Json::Array(_) => Some(ObjType::List),
        _ => None,
    }
}

fn scalar(json: &Json) -> ScalarValue {
    match json {
        Json::Bool(on) => ScalarValue::Boolean(*on),
        Json::String(text) => ScalarValue::Str(text.as_str().into()),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => ScalarValue::Int(int),
            (_, Some(int)) => ScalarValue::Uint(int),
            _ => ScalarValue::F64(number.as_f64().unwrap_or_default()),
        },
        _ => ScalarValue::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Dot, HybridTime, Incarnation, NodeId, Slot};
    use proptest::prelude::*;
    use serde_json::json;

    fn replica(n: u8) -> ReplicaId {
        ReplicaId { node: NodeId([n; 32]), incarnation: Incarnation([n; 16]) }
    }

    fn state<'a>(values: &[&'a [u8]]) -> State<'a> {
        let entry = |(i, value): (usize, &&'a [u8])| {
            let dot = Dot::new(Slot(i as u32), 1);
            Live { dot, replica: replica(i as u8), at: HybridTime(1), value }
        };
        State { live: values.iter().enumerate().map(entry).collect(), ..State::default() }
    }

    fn value(change: Result<Option<Change>, EditError>) -> Vec<u8> {
        change.unwrap().unwrap().value.unwrap()
    }

    #[test]
    fn objects_begun_apart_merge_key_by_key() {
        let a = value(set(&state(&[]), replica(1), &json!({"disk": {"size": 1}, "a": [1, 2]})));
        let b = value(set(&state(&[]), replica(2), &json!({"net": "eth0"})));
        let both = read(&state(&[&a, &b]).live).unwrap();
        assert_eq!(both, json!({"disk": {"size": 1}, "a": [1, 2], "net": "eth0"}));
    }

    #[test]
    fn lists_merge_around_what_both_kept() {
        let first = value(set(&state(&[]), replica(1), &json!(["a", "b", "c"])));
        let a = value(set(&state(&[&first]), replica(1), &json!(["a", "new", "b", "c"])));
        let b = value(set(&state(&[&first]), replica(2), &json!(["a", "b"])));
        assert_eq!(read(&state(&[&a, &b]).live).unwrap(), json!(["a", "new", "b"]));
    }

    #[test]
    fn nested_edits_made_apart_both_stay() {
        let first = value(set(&state(&[]), replica(1), &json!({"disk": {"size": 1, "kind": "ssd"}})));
        let a = value(set(&state(&[&first]), replica(1), &json!({"disk": {"size": 2, "kind": "ssd"}})));
        let b = value(set(&state(&[&first]), replica(2), &json!({"disk": {"size": 1}})));
        assert_eq!(read(&state(&[&a, &b]).live).unwrap(), json!({"disk": {"size": 2}}));
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            "[a-zé]{0,6}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
                prop::collection::btree_map("[a-c]{1,2}", inner, 0..3)
                    .prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_json_over_any_other_reads_as_written(first in any_json(), second in any_json()) {
            let one = value(set(&state(&[]), replica(1), &first));
            prop_assert_eq!(read(&state(&[&one]).live), Some(first.clone()));
            let before = state(&[&one]);
            match set(&before, replica(2), &second).unwrap() {
                None => prop_assert_eq!(first, second),
                Some(change) => prop_assert_eq!(read(&state(&[&change.value.unwrap()]).live), Some(second)),
            }
        }
    }
}
