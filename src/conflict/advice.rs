//! Asking the [`advisor`](super::advisor): what it is told of a conflict, and what it says.
//!
//! All of it is replicated state: the siblings, how many fields of the document are contested, the score, and the model
//! in force. How severe a case is must not hang on what settles it, so here it is the score that says.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use serde_json::Value as Json;

use super::advisor::case::{FIELD_BYTES_MAX, SIBLINGS_MAX};
use super::advisor::{Advice, Case as Told, Explanation, Kind, Severity, Standing, Strategy, explain};
use super::detect::{AUTOMATIC_SCORE_MAX, Conflict};
use crate::crdt::Resolver;
use crate::document::Sibling;

/// Tokens or leaves of one value that are compared. Beyond it two values are as alike as their beginnings.
const LEAVES_MAX: usize = 512;

/// What is known of a contested register before anything settles it.
#[derive(Clone, Copy, Debug)]
pub struct Contested<'a> {
    /// `collection/id`.
    pub document: &'a str,
    pub field: &'a str,
    /// The newest first.
    pub siblings: &'a [Sibling],
    /// Registers of the document that have siblings, this one included.
    pub contested: usize,
    pub score: u32,
}

/// Advice beside a conflict: a suggestion where it waits for a person, the reason where the advisor settled it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Advised {
    pub strategy: Strategy,
    /// Of one, in thousandths.
    #[serde(serialize_with = "as_share")]
    pub confidence: u32,
}

fn as_share<S: Serializer>(thousandths: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(f64::from(*thousandths) / 1000.0)
}

/// What the model in force says.
pub fn advise(standing: &Standing, conflict: Contested<'_>) -> Advice {
    let mut told = tell(conflict);
    told.habit = standing.habit(&told);
    standing.model.advise(&told)
}

/// What it was told, and what spoke for its choice.
pub fn explained(standing: &Standing, conflict: Contested<'_>) -> (Told, Explanation) {
    let mut told = tell(conflict);
    told.habit = standing.habit(&told);
    let explanation = explain(&standing.model, &told);
    (told, explanation)
}

/// Puts advice beside the conflicts of one document that wait for somebody, or that the advisor settled.
pub fn suggest(standing: Option<&Standing>, found: &mut [Conflict]) {
    let Some(standing) = standing else { return };
    let contested = found.iter().filter(|conflict| !conflict.siblings.is_empty()).count();
    for conflict in found {
        let asked = conflict.status.waits() || conflict.resolver == Some(Resolver::Advisor.name());
        if let Some(register) = of_conflict(conflict, contested).filter(|_| asked) {
            conflict.advice = match advise(standing, register) {
                Advice::Use { strategy, confidence } => {
                    Some(Advised { strategy, confidence: (confidence * 1000.0) as u32 })
                }
                Advice::Abstain(_) => None,
            };
        }
    }
}

/// `None` for a conflict of a rule, which has no siblings.
pub fn of_conflict(conflict: &Conflict, contested: usize) -> Option<Contested<'_>> {
    let Conflict { document, siblings, score, .. } = conflict;
    let field = conflict.field.as_deref().filter(|_| siblings.len() > 1)?;
    Some(Contested { document, field, siblings, contested, score: *score })
}

/// The case without its habit.
pub fn tell(conflict: Contested<'_>) -> Told {
    let siblings = &conflict.siblings[..conflict.siblings.len().min(SIBLINGS_MAX)];
    let values = || siblings.iter().map(|sibling| &sibling.value);
    let times = || siblings.iter().map(|sibling| sibling.at);
    let confidence: Option<Vec<f64>> = values().map(|value| value.get("confidence")?.as_f64()).collect();
    Told {
        collection: conflict.document.split('/').next().unwrap_or_default().to_owned(),
        field: beginning(conflict.field).to_owned(),
        kind: Kind::of(values()),
        siblings: siblings.len() as u32,
        conflicting_fields: conflict.contested.try_into().unwrap_or(u32::MAX),
        similarity: similarity(siblings),
        apart_ms: times().max().unwrap_or_default() - times().min().unwrap_or_default(),
        completeness: values().map(completeness).collect(),
        // A node stays who it is over its restarts.
        sources: siblings.iter().map(|sibling| node_of(&sibling.replica).to_owned()).collect(),
        confidence: confidence.filter(|all| all.iter().all(|share| (0.0..=1.0).contains(share))).unwrap_or_default(),
        severity: severity(conflict.score),
        habit: Default::default(),
    }
}

/// `<node>/<incarnation>` without the incarnation.
fn node_of(replica: &str) -> &str {
    replica.split('/').next().unwrap_or(replica)
}

/// A key of a map may be longer than a field's name.
fn beginning(field: &str) -> &str {
    &field[..field.floor_char_boundary(FIELD_BYTES_MAX)]
}

fn severity(score: u32) -> Severity {
    match score {
        0..=4 => Severity::Low,
        5..=10 => Severity::Medium,
        11..=AUTOMATIC_SCORE_MAX => Severity::High,
        _ => Severity::Critical,
    }
}

/// The mean likeness of the newest value to the others.
fn similarity(siblings: &[Sibling]) -> f64 {
    let Some((newest, others)) = siblings.split_first().filter(|(_, others)| !others.is_empty()) else { return 1.0 };
    let sum: f64 = others.iter().map(|other| likeness(&newest.value, &other.value)).sum();
    (sum / others.len() as f64).clamp(0.0, 1.0)
}

fn likeness(a: &Json, b: &Json) -> f64 {
    match (a, b) {
        (a, b) if a == b => 1.0,
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or_default(), b.as_f64().unwrap_or_default());
            (1.0 - (a - b).abs() / a.abs().max(b.abs()).max(f64::MIN_POSITIVE)).max(0.0)
        }
        (Json::String(a), Json::String(b)) => jaccard(&words(a), &words(b)),
        (Json::Array(_), Json::Array(_)) | (Json::Object(_), Json::Object(_)) => jaccard(&leaves(a), &leaves(b)),
        _ => 0.0,
    }
}

fn jaccard<T: Ord>(a: &BTreeSet<T>, b: &BTreeSet<T>) -> f64 {
    let shared = a.intersection(b).count();
    shared as f64 / (a.len() + b.len() - shared).max(1) as f64
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).take(LEAVES_MAX).collect()
}

/// The leaves of an object with their paths; of a list without places, since an element may have moved.
fn leaves(value: &Json) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    walk(value, &mut String::new(), &mut |path, leaf| {
        found.insert((path.to_owned(), leaf.to_string()));
        found.len() < LEAVES_MAX
    });
    found
}

/// The share of leaves that say something.
fn completeness(value: &Json) -> f64 {
    let (mut all, mut filled) = (0u32, 0u32);
    walk(value, &mut String::new(), &mut |_, leaf| {
        let empty = match leaf {
            Json::Null => true,
            Json::String(text) => text.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Object(members) => members.is_empty(),
            _ => false,
        };
        all += 1;
        filled += u32::from(!empty);
        (all as usize) < LEAVES_MAX
    });
    f64::from(filled) / f64::from(all.max(1))
}

/// Visits leaves, which empty lists and objects are too, as long as `visit` wants more.
fn walk(value: &Json, path: &mut String, visit: &mut impl FnMut(&str, &Json) -> bool) -> bool {
    match value {
        Json::Array(items) if !items.is_empty() => items.iter().all(|item| walk(item, path, visit)),
        Json::Object(members) if !members.is_empty() => members.iter().all(|(key, member)| {
            let len = path.len();
            path.push('/');
            path.push_str(key);
            let more = walk(member, path, visit);
            path.truncate(len);
            more
        }),
        leaf => visit(path, leaf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn siblings(values: &[Json]) -> Vec<Sibling> {
        let sibling = |(n, value): (usize, &Json)| Sibling {
            value: value.clone(),
            dot: format!("node-{n}/0a:{n}"),
            replica: format!("node-{n}/0a"),
            at: 9_000 - n as u64 * 1_000,
            base: None,
        };
        values.iter().enumerate().map(sibling).collect()
    }

    fn told(values: &[Json]) -> Told {
        tell(Contested { document: "vms/1", field: "f", siblings: &siblings(values), contested: 2, score: 5 })
    }

    #[test]
    fn a_conflict_is_told_in_full_and_is_a_sound_case() {
        let told = told(&[json!({"a": 1, "b": null, "confidence": 0.5}), json!({"a": 1, "b": 2, "confidence": 1})]);
        assert_eq!(told.check(), Ok(()));
        assert_eq!((told.collection.as_str(), told.field.as_str(), told.kind), ("vms", "f", Kind::Object));
        assert_eq!((told.siblings, told.conflicting_fields, told.apart_ms), (2, 2, 1_000));
        assert_eq!((&told.sources[..], told.severity), (&["node-0".into(), "node-1".into()][..], Severity::Medium));
        assert_eq!(told.confidence, [0.5, 1.0]);
        assert_eq!(told.completeness, [2.0 / 3.0, 1.0]);
        // `a` of five different leaves.
        assert_eq!(told.similarity, 0.2);
    }

    #[test]
    fn likeness_is_of_words_numbers_and_elements() {
        let alike = |a: Json, b: Json| told(&[a, b]).similarity;
        assert_eq!(alike(json!("the old host"), json!("the new host")), 0.5);
        assert_eq!(alike(json!(5), json!(10)), 0.5);
        assert_eq!(alike(json!(-5), json!(10)), 0.0);
        assert_eq!(alike(json!([1, 2]), json!([2, 1])), 1.0);
        assert_eq!(alike(json!([]), json!([1])), 0.0);
        assert_eq!(alike(json!("1"), json!(1)), 0.0);
    }

    #[test]
    fn what_is_wild_is_a_sound_case_all_the_same() {
        let long = "ä".repeat(400);
        let values = vec![json!({"confidence": 7}); 300];
        let siblings = siblings(&values[..9]);
        let contested = Contested { document: "c/1", field: &long, siblings: &siblings, contested: 1, score: 99 };
        assert_eq!(tell(contested).check(), Ok(()));
        assert!(tell(contested).confidence.is_empty());
        assert_eq!(tell(contested).severity, Severity::Critical);
    }
}
