//! From what people decided to what the advisor learns from.
//!
//! A decision is the document `conflicts/<id>`: the siblings, the value somebody chose over them, who and when. It does not
//! say *by which strategy*; a person clicks on a value. So every deterministic strategy is asked what it would have
//! given. Often several give the same (of two siblings, the newest may also be the larger); then the one counts that
//! explains the most decisions on this field: who always takes the larger number takes the newest one half of the time.
//! Where none fits, a person's judgement was needed: `manual`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::advice::{Contested, tell};
use super::advisor::{Case as Told, Decision, Habits, Strategy};
use super::case::{Asked, Case, Customs};
use super::detect::score;
use super::resolver::{Prepared, resolve_with, resolver_of};
use crate::document::Sibling;

/// Strategies tried, in this order; of equally good explanations the first is taken. `rollback` is left out: with the
/// invariants of that day unknown, it is `last_writer`.
const TRIED: [Strategy; 11] = [
    Strategy::LastWriter,
    Strategy::FirstWriter,
    Strategy::Max,
    Strategy::Min,
    Strategy::Union,
    Strategy::ThreeWay,
    Strategy::DeepMerge,
    Strategy::Priority,
    Strategy::Prioritize,
    Strategy::Discard,
    Strategy::KeepAll,
];

/// Siblings of a decision that are read.
const SIBLINGS_MAX: usize = 64;

/// A decision with all strategies that would have given its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    case: Told,
    /// In the order in which they were tried; never empty.
    fitting: Vec<Strategy>,
    decider: String,
    pub at_ms: u64,
}

impl Recorded {
    /// `None` for a document that is no decision on siblings, or one that was taken back. `prepared` is what the field's
    /// schema says now.
    pub fn read(fields: &Map<String, Json>, prepared: &Prepared) -> Option<Self> {
        let text = |key: &str| fields.get(key).and_then(Json::as_str);
        let number = |key: &str| fields.get(key).and_then(Json::as_u64);
        let (document, field) = (text("document")?, text("field").filter(|field| !field.is_empty())?);
        let siblings = siblings(fields.get("siblings")?)?;
        if text("status") != Some("resolved") || siblings.len() < 2 {
            return None;
        }
        let (none, customs) = (Map::new(), Customs::default());
        let mut case = Case {
            document,
            field,
            siblings: &siblings,
            fields: &none,
            holds: &|_| Ok(()),
            customs: &customs,
            asks: Asked::default(),
        };
        let contested = number("contested").map_or(1, |n| n.clamp(1, 1_000) as usize);
        case.asks.contested = contested;
        let score = number("score").and_then(|n| n.try_into().ok()).unwrap_or_else(|| score(&case, contested, false));
        let told = tell(Contested { document, field, siblings: &siblings, contested, score });
        told.check().ok()?;
        let decider = text("by").filter(|by| (1..=128).contains(&by.len())).unwrap_or("unknown").to_owned();
        let fitting = match named(fields.get("how")) {
            Some(strategy) => vec![strategy],
            None => fitting(&case, prepared, fields.get("value")?),
        };
        Some(Self { case: told, fitting, decider, at_ms: number("at_ms")? })
    }

    /// The collection and the field it is about.
    pub fn place(&self) -> (&str, &str) {
        (&self.case.collection, &self.case.field)
    }
}

/// What [`super::advisor::train`] takes, in the order of time, and the habits that follow from it. Which strategy stands
/// for a value is judged by the first `learned` alone, so that later decisions can be foretold fairly.
pub fn told(recorded: &mut [Recorded], learned: usize) -> (Vec<Decision>, Habits) {
    // Of one time, any order that all nodes share.
    recorded.sort_by(|a, b| (a.at_ms, &a.decider, a.place()).cmp(&(b.at_ms, &b.decider, b.place())));
    let mut counts = BTreeMap::<_, BTreeMap<Strategy, usize>>::new();
    for recorded in recorded.iter().take(learned) {
        let of_place = counts.entry(recorded.place()).or_default();
        recorded.fitting.iter().for_each(|strategy| *of_place.entry(*strategy).or_default() += 1);
    }
    let mut habits = Habits::default();
    let mut decisions = Vec::with_capacity(recorded.len());
    for recorded in recorded.iter() {
        let (collection, field) = recorded.place();
        let count = |strategy: &Strategy| counts.get(&(collection, field)).and_then(|of| of.get(strategy)).copied();
        // `max_by_key` takes the last of equals, and the first is wanted.
        let strategy = recorded.fitting.iter().rev().max_by_key(|strategy| count(strategy).unwrap_or_default());
        let strategy = strategy.copied().unwrap_or(Strategy::Manual);
        let case = Told { habit: habits.before(collection, field), ..recorded.case.clone() };
        habits.record(collection, field, &recorded.decider, strategy);
        decisions.push(Decision { case, strategy, decider: recorded.decider.clone(), at_ms: recorded.at_ms });
    }
    (decisions, habits)
}

/// The resolver a person named, where it is a strategy.
fn named(how: Option<&Json>) -> Option<Strategy> {
    how?.get("resolver")?.as_str()?.parse().ok()
}

fn fitting(case: &Case<'_>, prepared: &Prepared, value: &Json) -> Vec<Strategy> {
    let gives = |strategy: &Strategy| {
        let chooses_by_default = *strategy == Strategy::Prioritize && prepared.settings.by.is_empty();
        !chooses_by_default && resolve_with(case, resolver_of(*strategy), prepared).value() == Some(value)
    };
    let fitting: Vec<Strategy> = TRIED.into_iter().filter(gives).collect();
    if fitting.is_empty() { vec![Strategy::Manual] } else { fitting }
}

fn siblings(json: &Json) -> Option<Vec<Sibling>> {
    let text = |json: &Json, key: &str| json.get(key).and_then(Json::as_str).map(str::to_owned);
    let sibling = |json: &Json| {
        let (value, base) = (json.get("value")?.clone(), json.get("base").cloned());
        Some(Sibling {
            value,
            dot: text(json, "dot")?,
            replica: text(json, "replica")?,
            at: json.get("at")?.as_u64()?,
            base,
        })
    };
    let mut siblings: Vec<Sibling> = json.as_array()?.iter().take(SIBLINGS_MAX).map(sibling).collect::<Option<_>>()?;
    // As they stood; a stable sort keeps the order of those of one time.
    siblings.sort_by_key(|sibling| std::cmp::Reverse(sibling.at));
    Some(siblings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::settings::Settings;
    use serde_json::json;

    /// Somebody chose `value` out of `values`, the newest first.
    fn document(values: &[Json], value: Json, how: Json, at_ms: u64) -> Map<String, Json> {
        let sibling = |(n, value): (usize, &Json)| json!({"value": value, "dot": format!("n{n}/0:1"), "replica": format!("n{n}/0"), "at": 9 - n});
        let siblings: Vec<Json> = values.iter().enumerate().map(sibling).collect();
        let json = json!({"status": "resolved", "document": "vms/1", "field": "size", "siblings": siblings, "value": value,
            "how": how, "by": "ann", "at_ms": at_ms, "contested": 2, "score": 7});
        json.as_object().cloned().unwrap()
    }

    fn read(values: &[Json], value: Json, at_ms: u64) -> Recorded {
        Recorded::read(&document(values, value, json!("value"), at_ms), &Prepared::default()).unwrap()
    }

    #[test]
    fn the_strategy_is_the_one_that_would_have_given_the_value() {
        let of = |values: &[Json], value: Json| read(values, value, 1).fitting;
        assert_eq!(of(&[json!(3), json!(9)], json!(9)), [Strategy::FirstWriter, Strategy::Max]);
        assert_eq!(of(&[json!(["a"]), json!(["b"])], json!(["a", "b"])), [Strategy::Union]);
        assert_eq!(of(&[json!("x"), json!("y")], json!(["x", "y"])), [Strategy::Union, Strategy::KeepAll]);
        assert_eq!(of(&[json!({"a": 1}), json!({"b": 2})], json!({"a": 1, "b": 2})), [Strategy::DeepMerge]);
        assert_eq!(of(&[json!(3), json!(9)], json!(4)), [Strategy::Manual], "nobody but a person comes to that");
    }

    #[test]
    fn a_resolver_that_was_named_needs_no_guess() {
        let named = document(&[json!(3), json!(9)], json!(9), json!({"resolver": "max"}), 1);
        assert_eq!(Recorded::read(&named, &Prepared::default()).unwrap().fitting, [Strategy::Max]);
        let other = document(&[json!(3), json!(9)], json!(9), json!({"resolver": "expr"}), 1);
        assert_eq!(
            Recorded::read(&other, &Prepared::default()).unwrap().fitting,
            [Strategy::FirstWriter, Strategy::Max]
        );
    }

    #[test]
    fn the_fields_own_order_explains_a_choice() {
        let settings = Settings { order: vec![json!("up"), json!("down")], ..Settings::default() };
        let prepared = Prepared::of(&settings);
        let chosen = document(&[json!("down"), json!("up"), json!("odd")], json!("up"), json!("value"), 1);
        let fitting = Recorded::read(&chosen, &prepared).unwrap().fitting;
        assert!(fitting.contains(&Strategy::Priority), "{fitting:?}");
    }

    #[test]
    fn of_several_explanations_the_one_that_explains_most_counts() {
        // Ann always takes the larger number, which is the newest every other time.
        let pair = |n: u64| if n.is_multiple_of(2) { [json!(9), json!(3)] } else { [json!(3), json!(9)] };
        let mut recorded: Vec<Recorded> = (0..10).map(|n| read(&pair(n), json!(9), n)).collect();
        let (decisions, habits) = told(&mut recorded, 10);
        assert!(decisions.iter().all(|decision| decision.strategy == Strategy::Max), "{decisions:?}");
        assert_eq!(habits.before("vms", "size"), BTreeMap::from([(Strategy::Max, 1.0)]));
        assert!(decisions[0].case.habit.is_empty(), "the first decision has nothing before it");
        // Judged by one decision alone, the first that fits is as good as any.
        assert_eq!(told(&mut recorded, 1).0[0].strategy, Strategy::LastWriter);
    }

    #[test]
    fn what_was_taken_back_or_is_no_decision_is_left_aside() {
        let whole = document(&[json!(3), json!(9)], json!(9), json!("value"), 1);
        let spoil = |key: &str, value: Json| {
            let mut fields = whole.clone();
            fields.insert(key.to_owned(), value);
            Recorded::read(&fields, &Prepared::default())
        };
        assert!(spoil("by", json!("")).is_some_and(|recorded| recorded.decider == "unknown"));
        for (key, value) in [
            ("status", json!("reopened")),
            ("siblings", json!([])),
            ("siblings", json!("x")),
            ("at_ms", json!("now")),
            ("document", json!(3)),
            ("field", json!("")),
        ] {
            assert_eq!(spoil(key, value), None, "{key}");
        }
    }
}
