//! Three-way merges of siblings, with all that belongs to one: the bounds, the walk and the proof.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Map, Value as Json, json};

use super::bench::{Bench, Case, Target};
use crate::conflict::merge::{Rules, Side, merge};

pub fn measure(bench: &mut dyn Bench) {
    let base = flat(20);
    let one_each = [with(&base, &[(3, 1)]), with(&base, &[(11, 2)])];
    one(
        bench,
        Case::new("three-way merge, 20 fields, a change on each side", Target::AtMost(2_000.0)),
        &base,
        &one_each,
    );
    let contested = [with(&base, &[(3, 1), (7, 1)]), with(&base, &[(11, 2), (7, 2)])];
    one(bench, Case::new("… and one contested", Target::None), &base, &contested);
    let four: Vec<Json> = (0..4).map(|n| with(&base, &[(n, 1)])).collect();
    one(bench, Case::new("… of four sides, a change on each", Target::None), &base, &four);
    let nested = |third: i64, eighth: i64| {
        let to = |n| match n {
            3 => third,
            8 => eighth,
            _ => 0,
        };
        Json::Object((0..10).map(|n| (format!("group_{n}"), with(&flat(10), &[(5, to(n))]))).collect())
    };
    let case = Case::new("three-way merge, 100 fields in 10 nested objects, a change on each side", Target::None);
    one(bench, case, &nested(0, 0), &[nested(1, 0), nested(0, 1)]);
    bench.time(Case::new("… to clone such a value once", Target::None), &mut |n| {
        let value = nested(0, 0);
        let start = Instant::now();
        (0..n).for_each(|_| drop(black_box(value.clone())));
        start.elapsed()
    });
}

fn one(bench: &mut dyn Bench, case: Case, base: &Json, sides: &[Json]) {
    let rules = Rules::default();
    let sides: Vec<Side<'_>> = sides.iter().zip(1..).map(|(value, rank)| Side { value, rank }).collect();
    bench.time(case, &mut |n| {
        let start = Instant::now();
        for _ in 0..n {
            let _ = black_box(merge(Some(black_box(base)), black_box(&sides), &rules, &|_| Ok(())));
        }
        start.elapsed()
    });
}

/// Fields as a machine's document has them: half of them text, the others numbers.
fn flat(fields: usize) -> Json {
    let value = |n: usize| if n.is_multiple_of(2) { json!(format!("value of field {n}")) } else { json!(n) };
    Json::Object((0..fields).map(|n| (format!("field_{n:02}"), value(n))).collect())
}

/// Some fields changed. 0 changes none.
fn with(json: &Json, changes: &[(usize, i64)]) -> Json {
    let mut map: Map<String, Json> = json.as_object().cloned().unwrap_or_default();
    map.extend(changes.iter().filter(|(_, to)| *to != 0).map(|(n, to)| (format!("field_{n:02}"), json!(1_000 + to))));
    Json::Object(map)
}
