//! Conflicts: what finding none costs, what finding one costs, and each resolver.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::bench::{Bench, Case, Target};
use super::fixture::{self, Pair, Time, document, field};
use super::meter::median;
use crate::conflict::detect::within;
use crate::conflict::judge::InForce;
use crate::conflict::variables::Spent;
use crate::conflict::{Customs, Judge, Policies, Policy};
use crate::document::{Address, DocumentView, Edit, Schema, Sibling, Write};
use crate::engine::Input;

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
    meet(bench);
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
    let in_force = InForce { policies, customs: &customs, advisor: None, spent: None };
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
    let in_force = InForce { policies: &policies, customs: &customs, advisor: None, spent: None };
    let mut one = |n: u64| -> Duration {
        let mut views: Vec<DocumentView> = (0..n).map(|_| view.clone()).collect();
        let start = Instant::now();
        for view in &mut views {
            let settlements = judge.settle("things/1", view, in_force);
            black_box(within("things/1", view, &settlements, &judge, &Spent::default()));
        }
        start.elapsed()
    };
    bench.time(Case::new("detect, settle and list one conflict", Target::AtMost(1_000.0)), &mut one);
}

const DOCUMENTS: usize = 10_000;
const RUNS: usize = 3;

/// Two replicas that wrote one field of every document while they were apart: what it takes until both list and settle
/// all that does not go together, beside two that wrote to different fields; then until it is written over.
fn meet(bench: &mut dyn Bench) {
    let runs: Vec<[f64; 3]> = (0..RUNS).map(|_| [meeting(1).0, meeting(0).0, meeting(0).1]).collect();
    let of = |at: usize| median(runs.iter().map(|run| run[at]).collect());
    let (peaceful, contested, written_over) = (of(0), of(1), of(2));
    let rate = |ms: f64| DOCUMENTS as f64 / ms * 1e3;
    let found = "10 k documents written on both sides: found, settled and listed";
    bench.value(Case::new(found, Target::None), "conflicts/s", rate(contested));
    bench.value(Case::new("… against a meeting where nothing is contested", Target::None), "×", contested / peaceful);
    bench.value(Case::new("… written over, each, and gone on both", Target::None), "conflicts/s", rate(written_over));
}

/// Milliseconds to meet and judge, and then to write over what is contested. `apart`: how far the fields lie apart that
/// the two sides write.
fn meeting(apart: usize) -> (f64, f64) {
    let time = Time::start();
    let replica = |n| fixture::replica(n, fixture::state(DOCUMENTS, 4), time.now());
    let mut pair = Pair::new(replica(1), replica(2));
    pair.meet(time.now());
    pair.part(time.now());
    for side in [0, 1] {
        write_all(&mut pair, side, side * apart, &format!("side-{side}"), &time);
    }
    let listed = |pair: &Pair| pair.replicas.each_ref().map(|replica| replica.conflicts().iter().count());
    let start = Instant::now();
    pair.meet(time.now());
    judge_all(&mut pair, &time);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let expected = if apart == 0 { DOCUMENTS } else { 0 };
    assert!(pair.agree() && listed(&pair) == [expected; 2], "{:?}", listed(&pair));
    let start = Instant::now();
    write_all(&mut pair, 0, 0, "settled", &time);
    pair.meet(time.now());
    judge_all(&mut pair, &time);
    let over_ms = start.elapsed().as_secs_f64() * 1e3;
    assert_eq!(listed(&pair), [0; 2]);
    (ms, over_ms)
}

fn write_all(pair: &mut Pair, side: usize, to: usize, value: &str, time: &Time) {
    for n in 0..DOCUMENTS {
        let edit = Edit::Set { field: field(to), value: json!(value) };
        let Ok(address) = Address::parse(&document(n)) else { continue };
        let _ = pair.replicas[side].write(&[(address, Write::Upsert(vec![edit]))], false, time.now());
        pair.collect(side);
    }
}

/// What waits to be judged is judged between inputs.
fn judge_all(pair: &mut Pair, time: &Time) {
    for side in [0, 1] {
        while pair.replicas[side].conflicts().is_behind() {
            pair.replicas[side].handle(Input::Tick, time.now());
            pair.collect(side);
        }
    }
}
