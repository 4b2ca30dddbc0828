//! Conflicts: what finding none costs, what finding one costs, and each resolver.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::bench::{Bench, Case, Target};
use crate::conflict::detect::within;
use crate::conflict::judge::InForce;
use crate::conflict::{Customs, Judge, Policies, Policy};
use crate::document::{DocumentView, Schema, Sibling};

/// Resolvers with their settings, and two siblings to settle.
const RESOLVERS: [(&str, &str); 13] = [
    ("last_writer", ""),
    ("first_writer", ""),
    ("keep_all", ""),
    ("max", ""),
    ("min", ""),
    ("union", ""),
    ("priority", "order = ['running', 'paused', 'stopped']"),
    ("prioritize", "by = ['confidence', 'sources', 'recency']"),
    ("discard", ""),
    ("rollback", ""),
    ("deep_merge", ""),
    ("text", ""),
    ("expr", "expr = 'siblings[0].value'"),
];

pub fn measure(bench: &mut dyn Bench) {
    for (resolver, settings) in RESOLVERS {
        let judge = judge(&format!("[fields.f]\ntype = 'contested'\nresolver = '{resolver}'\n{settings}"));
        let target = if resolver == "last_writer" { Target::AtMost(5.0) } else { Target::None };
        settle(
            bench,
            Case::new(format!("settle two siblings by {resolver}"), target),
            &judge,
            &Policies::default(),
            &values(resolver),
        );
    }
    let judge_ = judge("[fields.f]\ntype = 'contested'\nresolver = 'max'");
    let mut policies = Policies::default();
    let text = "[[rules]]\nname = 'r'\nwhen = \"size(siblings) > 1 && doc.f != 'x'\"\nresolver = 'min'";
    if let Ok(policy) = Policy::parse(text) {
        policies.put("p", policy);
    }
    settle(bench, Case::new("… by a policy with one condition", Target::None), &judge_, &policies, &values("max"));
    list(bench);
}

fn judge(schema: &str) -> Judge {
    Judge::of(&Arc::new(Schema::parse(schema).unwrap_or_default()))
}

fn values(resolver: &str) -> [Json; 2] {
    match resolver {
        "text" => [json!("the quick fox"), json!("the fox jumps")],
        "union" => [json!([1, 2]), json!([2, 3])],
        "deep_merge" => [json!({"a": 1, "b": {"c": 2}}), json!({"a": 2, "b": {"d": 3}})],
        "prioritize" => [json!({"confidence": 0.5, "sources": ["a"]}), json!({"confidence": 0.9, "sources": ["b"]})],
        _ => [json!("paused"), json!("running")],
    }
}

fn view(values: &[Json]) -> DocumentView {
    let sibling = |(n, value): (usize, &Json)| Sibling {
        value: value.clone(),
        dot: format!("{n}"),
        replica: format!("{n}"),
        at: 10 - n as u64,
        base: Some(json!("the fox")),
    };
    DocumentView {
        fields: [("f".to_owned(), values[0].clone())].into_iter().collect(),
        siblings: [("f".to_owned(), values.iter().enumerate().map(sibling).collect())].into(),
        ..DocumentView::default()
    }
}

fn settle(bench: &mut dyn Bench, case: Case, judge: &Judge, policies: &Policies, values: &[Json]) {
    let (customs, view) = (Customs::default(), view(values));
    let in_force = InForce { policies, customs: &customs, advisor: None };
    bench.time(case, &mut |n| {
        let mut views: Vec<DocumentView> = (0..n).map(|_| view.clone()).collect();
        let start = Instant::now();
        for view in &mut views {
            black_box(judge.settle("things/1", view, in_force));
        }
        start.elapsed()
    });
}

/// From a contested document to its entry in the list.
fn list(bench: &mut dyn Bench) {
    let judge = judge("[fields.f]\ntype = 'contested'\nresolver = 'max'");
    let (policies, customs, view) = (Policies::default(), Customs::default(), view(&values("max")));
    let in_force = InForce { policies: &policies, customs: &customs, advisor: None };
    let mut one = |n: u64| -> Duration {
        let mut views: Vec<DocumentView> = (0..n).map(|_| view.clone()).collect();
        let start = Instant::now();
        for view in &mut views {
            let settlements = judge.settle("things/1", view, in_force);
            black_box(within("things/1", view, &settlements, &judge));
        }
        start.elapsed()
    };
    bench.time(Case::new("detect, settle and list one conflict", Target::AtMost(1_000.0)), &mut one);
}
