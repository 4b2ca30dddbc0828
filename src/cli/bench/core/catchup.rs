//! Catch-up between two replicas in process: what it takes until both hold the same, in time and in bytes.

use std::time::Instant;

use serde_json::json;

use super::bench::{Bench, Case, Target};
use super::fixture::{self, Pair, Time, document, field};
use super::meter::median;
use crate::document::{Address, Edit, Write};
use crate::engine::Now;

const FIELDS: usize = 20;
const RUNS: usize = 3;

pub fn measure(bench: &mut dyn Bench) {
    for (cells, differ, target) in [
        (100_000, 1_000, Target::None),
        (100_000, 10_000, Target::AtMost(300.0)),
        (1_000_000, 10_000, Target::AtMost(300.0)),
    ] {
        let healed: Vec<Healed> = (0..RUNS).map(|_| heal(cells, differ)).collect();
        let what = format!("catch-up: {} k cells, {} k differ", cells / 1_000, differ / 1_000);
        let ms = median(healed.iter().map(|healed| healed.ms).collect());
        bench.value(Case::new(what, target), "ms", ms);
        let healed = &healed[0];
        let bytes = "… bytes, against the packed cells that differ";
        bench.value(Case::new(bytes, Target::AtMost(1.2)), "×", healed.bytes as f64 / healed.differing_bytes as f64);
        bench.value(Case::new("… bytes per cell that differs", Target::None), "B", healed.bytes as f64 / differ as f64);
    }
    let time = Time::start();
    let mut pair = pair(100_000, time.now());
    pair.meet(time.now());
    pair.part(time.now());
    (pair.bytes, pair.heartbeat_bytes) = (0, 0);
    let start = Instant::now();
    pair.meet(time.now());
    let ms = start.elapsed().as_secs_f64() * 1e3;
    assert!(pair.agree());
    let digests = "… bytes to find that out, both ways";
    bench.value(Case::new("contact: 100 k cells, nothing differs", Target::AtMost(1.0)), "ms", ms);
    bench.value(Case::new(digests, Target::AtMost(200.0)), "B", pair.heartbeat_bytes as f64);
    bench.value(Case::new("… bytes with hello and announcement", Target::None), "B", pair.bytes as f64);
}

struct Healed {
    ms: f64,
    bytes: u64,
    /// Name, key and entries of every cell that differs, as the state keeps them.
    differing_bytes: u64,
}

fn pair(cells: usize, now: Now) -> Pair {
    let documents = cells / FIELDS;
    let replica = |n| fixture::replica(n, fixture::state(documents, FIELDS), now);
    Pair::new(replica(1), replica(2))
}

/// Overwrites `differ` cells at one side, spread over as many documents as there are, and lets the two meet.
fn heal(cells: usize, differ: usize) -> Healed {
    let time = Time::start();
    let mut pair = pair(cells, time.now());
    pair.meet(time.now());
    pair.part(time.now());
    let documents = cells / FIELDS;
    let mut differing_bytes = 0;
    for n in 0..differ {
        // One field of every document, then the next field of every document.
        let (at, field_at) = (n * (documents / differ.min(documents)) % documents, n / documents);
        let edit = Edit::Set { field: field(field_at), value: json!(format!("healed-{n:06}")) };
        let Ok(address) = Address::parse(&document(at)) else { continue };
        let _ = pair.replicas[1].write(&[(address, Write::Upsert(vec![edit]))], false, time.now());
        pair.collect(1);
        let key = fixture::field_key(field_at);
        let packed = pair.replicas[1].state().document(&document(at)).map_or(0, |d| d.entries_of(&key).len());
        differing_bytes += (document(at).len() + key.len() + packed) as u64;
    }
    pair.bytes = 0;
    assert!(!pair.agree());
    let start = Instant::now();
    pair.meet(time.now());
    let ms = start.elapsed().as_secs_f64() * 1e3;
    assert!(pair.agree(), "the two hold the same");
    Healed { ms, bytes: pair.bytes, differing_bytes }
}
