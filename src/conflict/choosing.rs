//! Resolvers that choose one value: among the siblings, or the one before them.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::case::{Case, Verdict};
use crate::crdt::Value;
use crate::document::Sibling;
use crate::document::settings::{Criterion, Settings};

/// Values that are compared are compared as registers compare them.
pub fn largest(case: &Case<'_>, order: Ordering) -> Verdict {
    let compare = |a: &&Json, b: &&Json| {
        let ordered = Value::compare(&Value::from_json(a), &Value::from_json(b));
        if order == Ordering::Greater { ordered } else { ordered.reverse() }
    };
    settled(case.values().max_by(compare))
}

/// The value that stands first in `order`; of those not in it, and of equals, the newest.
pub fn priority(case: &Case<'_>, settings: &Settings) -> Verdict {
    let place = |value: &Json| settings.order.iter().position(|named| named == value).unwrap_or(usize::MAX);
    settled(case.values().min_by_key(|value| place(value)))
}

/// The sibling that is best by the first criterion that tells them apart; of equals the newest.
pub fn prioritize(case: &Case<'_>, settings: &Settings) -> Verdict {
    let by: &[Criterion] = if settings.by.is_empty() { &[Criterion::Recency] } else { &settings.by };
    let mut best = case.siblings.first();
    for sibling in case.siblings.iter().skip(1) {
        let compare = |criterion: &Criterion, best: &Sibling| match criterion {
            // Siblings come newest first, so none that follows is newer.
            Criterion::Recency => Ordering::Less,
            Criterion::Confidence => confidence(sibling).total_cmp(&confidence(best)),
            Criterion::Sources => sources(sibling, case).cmp(&sources(best, case)),
        };
        let ordered = best.and_then(|best| by.iter().map(|c| compare(c, best)).find(|o| o.is_ne()));
        if ordered == Some(Ordering::Greater) {
            best = Some(sibling);
        }
    }
    settled(best.map(|sibling| &sibling.value))
}

fn confidence(sibling: &Sibling) -> f64 {
    sibling.value.get("confidence").and_then(Json::as_f64).unwrap_or(0.0)
}

fn sources(sibling: &Sibling, case: &Case<'_>) -> usize {
    match sibling.value.get("sources").and_then(Json::as_array) {
        Some(sources) => sources.len(),
        None => case.values().filter(|value| **value == sibling.value).count(),
    }
}

/// As if none of the concurrent writes had been made.
pub fn discard(case: &Case<'_>) -> Verdict {
    case.base().map_or_else(|| unknown_base("discard"), |base| Verdict::Settled(base.clone()))
}

/// The newest value under which every invariant holds, down to the one before the concurrent writes.
pub fn rollback(case: &Case<'_>) -> Verdict {
    let mut broken = String::new();
    for value in case.values().chain(case.base()) {
        match (case.holds)(value) {
            Ok(()) => return Verdict::Settled(value.clone()),
            Err(cause) => broken = cause,
        }
    }
    Verdict::Unable(format!("no value that is known keeps the invariants: {broken}"))
}

pub(super) fn settled(value: Option<&Json>) -> Verdict {
    value.map_or_else(|| Verdict::Unable("there is no value".into()), |value| Verdict::Settled(value.clone()))
}

pub(super) fn unknown_base(resolver: &str) -> Verdict {
    Verdict::Unable(format!(
        "{resolver} needs the value before the concurrent writes, and these siblings carry none or not the same one"
    ))
}
