//! `json`: free JSON whose objects merge key by key and whose lists merge element by element, at any depth.
//! Of concurrent values for one key Automerge picks one, alike everywhere. Costs kilobytes and keeps its history.

use automerge::transaction::Transactable;
use automerge::{AutoCommit, AutoSerde, ObjType, ROOT, ReadDoc, ScalarValue, hydrate};
use serde_json::Value as Json;

use super::collaborative::{EditError, KEY, edited, merged};
use super::live::{Change, Live, State};
use crate::clock::ReplicaId;

/// `None` when no live entry holds JSON.
pub fn read(live: &[Live<'_>]) -> Option<Json> {
    if live.is_empty() {
        return None;
    }
    whole(&merged(live, ObjType::Map).ok()?)
}

/// Makes the value `new`, writing only the parts that differ.
pub fn set(state: &State<'_>, me: ReplicaId, new: &Json) -> Result<Option<Change>, EditError> {
    edited(state, me, ObjType::Map, new.to_string().as_bytes(), |document| {
        if whole(document).as_ref() == Some(new) {
            return Ok(());
        }
        let found = document.get(ROOT, KEY)?.map(|(value, id)| (value.into_owned(), id));
        match (found, new) {
            (Some((automerge::Value::Object(ObjType::Map), id)), Json::Object(_))
            | (Some((automerge::Value::Object(ObjType::List), id)), Json::Array(_)) => {
                document.update_object(&id, &hydrated(new)).map_err(|e| EditError::Automerge(e.to_string()))
            }
            (_, Json::Object(_) | Json::Array(_)) => {
                let kind = if new.is_object() { ObjType::Map } else { ObjType::List };
                let id = document.put_object(ROOT, KEY, kind)?;
                document.update_object(&id, &hydrated(new)).map_err(|e| EditError::Automerge(e.to_string()))
            }
            _ => Ok(document.put(ROOT, KEY, scalar(new))?),
        }
    })
}

fn whole(document: &AutoCommit) -> Option<Json> {
    match serde_json::to_value(AutoSerde::from(document)).ok()? {
        Json::Object(mut root) => root.remove(KEY),
        _ => None,
    }
}

fn hydrated(json: &Json) -> hydrate::Value {
    match json {
        Json::Object(map) => {
            let entries = map.iter().map(|(key, value)| (key.as_str(), hydrated(value)));
            hydrate::Value::from(entries.collect::<std::collections::HashMap<_, _>>())
        }
        Json::Array(items) => hydrate::Value::from(items.iter().map(hydrated).collect::<Vec<_>>()),
        leaf => hydrate::Value::Scalar(scalar(leaf)),
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
