//! Resolvers that make one value out of several.

use automerge::transaction::Transactable;
use automerge::{ActorId, AutoCommit, AutomergeError, ObjType, ROOT, ReadDoc};
use serde_json::{Map, Value as Json};

use super::case::{Case, Verdict};
use super::choosing::unknown_base;
use crate::crdt::Value;

/// The elements of all arrays, each once, in the order of values. A value that is no array counts as one element.
pub fn union(case: &Case<'_>) -> Verdict {
    let mut elements: Vec<Value> = Vec::new();
    for value in case.values() {
        match value {
            Json::Array(items) => elements.extend(items.iter().map(Value::from_json)),
            other => elements.push(Value::from_json(other)),
        }
    }
    elements.sort_by(Value::compare);
    elements.dedup();
    Verdict::Settled(elements.into_iter().map(Value::into_json).collect())
}

/// Objects key by key; where two siblings differ in anything else, the newer one's value.
pub fn deep_merge(case: &Case<'_>) -> Verdict {
    let mut merged: Option<Json> = None;
    for value in case.values() {
        match &mut merged {
            None => merged = Some(value.clone()),
            Some(newer) => fill_in(newer, value),
        }
    }
    merged.map_or_else(|| Verdict::Unable("there is no value".into()), Verdict::Settled)
}

/// Adds to `newer` what only `older` has. JSON that came in is nested no deeper than its parser allows.
fn fill_in(newer: &mut Json, older: &Json) {
    let (Json::Object(newer), Json::Object(older)) = (newer, older) else { return };
    for (key, value) in older {
        match newer.get_mut(key) {
            Some(present) => fill_in(present, value),
            None => drop(newer.insert(key.clone(), value.clone())),
        }
    }
    sort(newer);
}

/// An object's members come in the order of their keys, whatever order they were merged in.
fn sort(members: &mut Map<String, Json>) {
    members.sort_keys();
}

/// Every sibling's edits of the text before them, each where it was made.
pub fn text(case: &Case<'_>) -> Verdict {
    let Some(base) = case.base() else { return unknown_base("text") };
    let texts: Option<Vec<&str>> = case.values().map(Json::as_str).collect();
    let (Some(base), Some(texts)) = (base.as_str(), texts) else {
        return Verdict::Unable("text merges strings, and one of these values is none".into());
    };
    match merged_text(base, &texts) {
        Ok(text) => Verdict::Settled(text.into()),
        Err(error) => Verdict::Unable(format!("the texts do not merge: {error}")),
    }
}

fn merged_text(base: &str, texts: &[&str]) -> Result<String, AutomergeError> {
    // Actors are numbered by the siblings' order, so every node builds the same document.
    let actor = |n: usize| ActorId::from((n as u64).to_be_bytes().to_vec());
    let mut first = AutoCommit::new().with_actor(actor(0));
    let object = first.put_object(ROOT, "text", ObjType::Text)?;
    first.splice_text(&object, 0, 0, base)?;
    first.commit();
    let mut merged = first.fork().with_actor(actor(0));
    for (n, text) in texts.iter().enumerate() {
        let mut side = first.fork().with_actor(actor(n + 1));
        side.update_text(&object, text)?;
        side.commit();
        merged.merge(&mut side)?;
    }
    merged.text(&object)
}
