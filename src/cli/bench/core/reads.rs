//! Reads of one document among a million, in process.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::bench::{Bench, Case, Target};
use super::fixture::{self, Jumps, Time, document, field_key};
use crate::crdt::Value;
use crate::document::CellRef;

const DOCUMENTS: usize = 1_000_000;
const FIELDS: usize = 1;

pub fn measure(bench: &mut dyn Bench) {
    let time = Time::start();
    let replica = fixture::replica(1, fixture::state(DOCUMENTS, FIELDS), time.now());
    let mut jumps = Jumps::default();
    let key = field_key(0);
    let target = Target::AtMost(150.0);
    let mut each = |n: u64, read: &mut dyn FnMut(&str)| -> Duration {
        let names: Vec<String> = (0..n).map(|_| document(jumps.below(DOCUMENTS))).collect();
        let start = Instant::now();
        names.iter().for_each(|name| read(name));
        start.elapsed()
    };
    bench.time(Case::new("read one field of one of 1 M documents", target), &mut |n| {
        each(n, &mut |name| {
            let entries = replica.state().document(name).map(|document| document.entries_of(&key)).unwrap_or_default();
            let value = CellRef { key: &key, packed: entries }.valued().next().and_then(|entry| entry.value);
            black_box(value.map(Value::decode));
        })
    });
    bench.time(Case::new("read one of 1 M documents as JSON (1 field)", target), &mut |n| {
        each(n, &mut |name| {
            black_box(replica.view(name));
        })
    });
    drop(replica);
    let replica = fixture::replica(1, fixture::state(DOCUMENTS / 20, 20), time.now());
    bench.time(Case::new("read one of 50 k documents as JSON (20 fields)", Target::None), &mut |n| {
        let names: Vec<String> = (0..n).map(|_| document(jumps.below(DOCUMENTS / 20))).collect();
        let start = Instant::now();
        for name in &names {
            black_box(replica.view(name));
        }
        start.elapsed()
    });
}
