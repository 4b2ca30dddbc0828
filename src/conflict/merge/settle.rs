//! Strategies: which of several different values stands, or what numbers come to together.

use std::cmp::Ordering;

use serde_json::{Number, Value as Json};

use super::account::Why;
use super::rules::Strategy;
use super::walk::{Group, Groups};
use crate::crdt::Value;

/// The place of the group that stands, and why. A strategy that picks none leaves it to the newest.
pub(super) fn pick(strategy: Strategy, groups: &Groups<'_>) -> (usize, Why) {
    let places = || groups.iter().enumerate();
    let found = match strategy {
        Strategy::Newest => Some(0),
        Strategy::Oldest => places().max_by_key(|(_, group)| group.sides.last().copied()).map(|(at, _)| at),
        Strategy::Max => places().max_by(|(_, a), (_, b)| compare(a, b)).map(|(at, _)| at),
        Strategy::Min => places().min_by(|(_, a), (_, b)| compare(a, b)).map(|(at, _)| at),
        Strategy::Union | Strategy::SumOfChanges | Strategy::KeepBase | Strategy::Fail => None,
    };
    found.map_or((0, Why::Misfit(strategy)), |at| (at, Why::Strategy(strategy)))
}

/// In the order that resolvers of registers know.
fn compare(a: &Group<'_>, b: &Group<'_>) -> Ordering {
    let value = |group: &Group<'_>| group.value.map(Value::from_json);
    match (value(a), value(b)) {
        (Some(a), Some(b)) => Value::compare(&a, &b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// The base and what each side added to it. `None` where something is no number, or the sum is beyond what JSON holds
/// exactly.
pub(super) fn sum(base: Option<&Json>, groups: &Groups<'_>) -> Option<Json> {
    let base = match base {
        None => Number::from(0),
        Some(Json::Number(number)) => number.clone(),
        Some(_) => return None,
    };
    let values: Option<Vec<&Number>> =
        groups.iter().flat_map(|group| group.sides.iter().map(|_| number(group))).collect();
    let values = values?;
    let integers: Option<Vec<i128>> = values.iter().map(|value| integer(value)).collect();
    match (integer(&base), integers) {
        (Some(base), Some(values)) => integer_json(values.iter().fold(base, |sum, value| sum + (value - base))),
        _ => float_json(&base, &values),
    }
}

fn number<'a>(group: &Group<'a>) -> Option<&'a Number> {
    match group.value {
        Some(Json::Number(number)) => Some(number),
        _ => None,
    }
}

/// No overflow to fear: 64 differences of 65 bits.
fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn integer_json(sum: i128) -> Option<Json> {
    i64::try_from(sum).map(Json::from).or_else(|_| u64::try_from(sum).map(Json::from)).ok()
}

/// Added in the order of their size: the sum of floats depends on the order, and sides come in any.
fn float_json(base: &Number, values: &[&Number]) -> Option<Json> {
    let base = base.as_f64()?;
    let mut added = values.iter().map(|value| Some(value.as_f64()? - base)).collect::<Option<Vec<f64>>>()?;
    added.sort_by(f64::total_cmp);
    Number::from_f64(added.iter().fold(base, |sum, part| sum + part)).map(Json::Number)
}
