//! Resolvers that make one value out of several.

use serde_json::Value as Json;

use super::case::{Case, Lost, Verdict};
use super::choosing::unknown_base;
use super::merge::{Change, Rules, Side, merge};
use super::text;
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

/// Objects key by key, as if nothing had been before them; where two siblings differ in anything else, the rules say.
pub fn deep_merge(case: &Case<'_>, rules: &Rules) -> Verdict {
    merge_over(case, None, rules)
}

/// What each sibling changed of the value before them, together.
pub fn three_way(case: &Case<'_>, rules: &Rules) -> Verdict {
    match case.base() {
        Some(base) => merge_over(case, Some(base), rules),
        None => unknown_base("three_way"),
    }
}

fn merge_over(case: &Case<'_>, base: Option<&Json>, rules: &Rules) -> Verdict {
    let sides: Vec<Side<'_>> =
        case.values().zip((0..case.siblings.len() as u64).rev()).map(|(value, rank)| Side { value, rank }).collect();
    let change = |change: Change| match change {
        Change::Set(value) => Some(value),
        Change::Removed => None,
    };
    match merge(base, &sides, rules, case.holds) {
        Ok(merged) => {
            let dots = |sides: Vec<usize>| {
                sides.iter().filter_map(|side| case.siblings.get(*side)).map(|sibling| sibling.dot.clone()).collect()
            };
            let lost = merged.overruled.into_iter().map(|lost| Lost {
                path: lost.path.to_string(),
                kept: change(lost.kept),
                lost: change(lost.lost),
                dots: dots(lost.sides),
                why: lost.why.to_string(),
            });
            Verdict::Merged(merged.value, lost.collect())
        }
        Err(error) => Verdict::Unable(error.to_string()),
    }
}

/// Every sibling's edits of the text before them, each where it was made.
pub fn texts(case: &Case<'_>) -> Verdict {
    let Some(base) = case.base() else { return unknown_base("text") };
    let texts: Option<Vec<&str>> = case.values().map(Json::as_str).collect();
    let (Some(base), Some(mut texts)) = (base.as_str(), texts) else {
        return Verdict::Unable("text merges strings, and one of these values is none".into());
    };
    // The oldest first, as they would have been written one after the other.
    texts.reverse();
    match text::merged(base, &texts) {
        Ok(text) => Verdict::Settled(text.into()),
        Err(error) => Verdict::Unable(error.to_string()),
    }
}
