//! From a case to named numbers between -1 and 1.
//!
//! Names say what they mean, because people read them in an explanation. Thresholds stand beside the plain number so
//! that a sum of weights can follow a rule such as "older than an hour". A feature of value 0 is left out.

use std::borrow::Cow;

use super::case::{Case, Kind};
use super::strategy::Strategy;

pub type Feature = (Cow<'static, str>, f64);

/// Times apart at which people change their mind, and the name of what lies before each.
const APART: [(u64, &str); 4] = [(1_000, "<1s"), (60_000, "<1min"), (3_600_000, "<1h"), (u64::MAX, ">=1h")];

/// All features of a case, in an order that depends on nothing but the case.
pub fn features(case: &Case) -> Vec<Feature> {
    let mut features = Vec::with_capacity(32);
    whereabouts(case, &mut features);
    shape(case, &mut features);
    siblings(case, &mut features);
    habit(case, &mut features);
    features.retain(|(_, value)| *value != 0.0);
    features
}

/// The feature that stands for the field itself: a model that has no such feature never saw the field.
pub fn field_feature(case: &Case) -> String {
    format!("field={}", case.place())
}

fn whereabouts(case: &Case, into: &mut Vec<Feature>) {
    into.push((format!("collection={}", case.collection).into(), 1.0));
    into.push((field_feature(case).into(), 1.0));
    let mut sources: Vec<&str> = case.sources.iter().map(String::as_str).collect();
    into.extend(sources.first().map(|newest| (format!("newest_source={newest}").into(), 1.0)));
    sources.sort_unstable();
    sources.dedup();
    into.extend(sources.iter().map(|source| (format!("source={source}").into(), 1.0)));
    into.push(("sources".into(), share(sources.len() as f64 / 8.0)));
    into.push(("one_source".into(), flag(sources.len() == 1)));
}

fn shape(case: &Case, into: &mut Vec<Feature>) {
    let kind = case.kind.name();
    let apart = APART.iter().find(|(below, _)| case.apart_ms < *below).map_or(">=1h", |(_, name)| name);
    into.push((format!("kind={kind}").into(), 1.0));
    into.push((format!("severity={}", case.severity.name()).into(), 1.0));
    into.push((format!("apart{apart}").into(), 1.0));
    into.push((format!("kind={kind},apart{apart}").into(), 1.0));
    let similarity = share(case.similarity);
    into.push(("similarity".into(), similarity));
    into.push(("similarity>=0.9".into(), flag(similarity >= 0.9)));
    into.push(("similarity<0.3".into(), flag(similarity < 0.3)));
    let structured = matches!(case.kind, Kind::Object | Kind::Array);
    into.push(("structured,similarity>=0.5".into(), flag(structured && similarity >= 0.5)));
}

fn siblings(case: &Case, into: &mut Vec<Feature>) {
    into.push(("siblings".into(), share((f64::from(case.siblings) - 2.0) / 6.0)));
    into.push(("siblings>2".into(), flag(case.siblings > 2)));
    into.push(("conflicting_fields".into(), share((f64::from(case.conflicting_fields) - 1.0) / 15.0)));
    into.push(("conflicting_fields>1".into(), flag(case.conflicting_fields > 1)));
    let lowest = case.completeness.iter().copied().map(share).reduce(f64::min);
    into.push(("gaps_in_the_emptiest".into(), lowest.map_or(0.0, |lowest| 1.0 - lowest)));
    into.push(("newest_fuller_by".into(), lead_of_newest(&case.completeness)));
    into.push(("confidence_given".into(), flag(!case.confidence.is_empty())));
    into.push(("newest_surer_by".into(), lead_of_newest(&case.confidence)));
    let lead = lead(&case.confidence);
    into.push(("surest_leads_by".into(), lead));
    into.push(("surest_leads_by>=0.3".into(), flag(lead >= 0.3)));
}

fn habit(case: &Case, into: &mut Vec<Feature>) {
    for strategy in Strategy::ALL {
        let before = case.habit.get(&strategy).copied().map_or(0.0, share);
        into.push((format!("habit={strategy}").into(), before));
    }
}

/// How far the first stands above the highest of the others, or below it.
fn lead_of_newest(shares: &[f64]) -> f64 {
    let Some((newest, others)) = shares.split_first() else { return 0.0 };
    others.iter().copied().map(share).reduce(f64::max).map_or(0.0, |other| share(*newest) - other)
}

/// How far the highest stands above the next.
fn lead(shares: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = shares.iter().copied().map(share).collect();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    match sorted[..] {
        [first, second, ..] => first - second,
        _ => 0.0,
    }
}

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

/// Within 0 and 1, also for what is not a number.
fn share(value: f64) -> f64 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::simulated;
    use super::*;

    fn value(case: &Case, name: &str) -> Option<f64> {
        features(case).into_iter().find(|(of, _)| of == name).map(|(_, value)| value)
    }

    #[test]
    fn a_case_is_told_in_named_numbers() {
        let case = Case {
            siblings: 5,
            apart_ms: 2_000,
            similarity: 0.25,
            kind: Kind::Number,
            completeness: vec![1.0, 0.5],
            confidence: vec![0.25, 0.75],
            sources: vec!["node-2".into(), "node-1".into(), "node-2".into()],
            habit: [(Strategy::Max, 0.75)].into(),
            ..simulated::case()
        };
        for (name, expected) in [
            ("siblings", Some(0.5)),
            ("siblings>2", Some(1.0)),
            ("apart<1min", Some(1.0)),
            ("kind=number,apart<1min", Some(1.0)),
            ("similarity<0.3", Some(1.0)),
            ("similarity>=0.9", None),
            ("newest_fuller_by", Some(0.5)),
            ("newest_surer_by", Some(-0.5)),
            ("surest_leads_by>=0.3", Some(1.0)),
            ("sources", Some(0.25)),
            ("newest_source=node-2", Some(1.0)),
            ("habit=max", Some(0.75)),
            ("habit=min", None),
        ] {
            assert_eq!(value(&case, name), expected, "{name}");
        }
    }

    #[test]
    fn names_are_told_once_and_numbers_stay_within_bounds() {
        let wild = Case {
            siblings: u32::MAX,
            conflicting_fields: 0,
            similarity: f64::NAN,
            apart_ms: u64::MAX,
            completeness: vec![f64::INFINITY, -3.0],
            confidence: vec![f64::NAN, 2.0],
            habit: [(Strategy::Max, f64::NEG_INFINITY)].into(),
            ..simulated::case()
        };
        let features = features(&wild);
        assert!(features.iter().all(|(_, value)| (-1.0..=1.0).contains(value)), "{features:?}");
        let names: std::collections::BTreeSet<_> = features.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), features.len());
    }
}
