//! Comparing and joining clocks.

use std::hint::black_box;
use std::time::Instant;

use super::bench::{Bench, Case, Target};
use super::fixture;
use crate::clock::Slot;

pub fn measure(bench: &mut dyn Bench) {
    for (replicas, target) in [(8, 4.0), (64, 15.0), (1024, 200.0)] {
        let older = fixture::clock(replicas);
        let mut newer = older.clone();
        newer.set(Slot(replicas - 1), u64::from(u32::MAX));
        bench.time(Case::new(format!("clock compare, {replicas} replicas"), Target::AtMost(target)), &mut |n| {
            let start = Instant::now();
            for _ in 0..n {
                black_box(black_box(&older).compare(black_box(&newer)));
            }
            start.elapsed()
        });
        let mut joined = older.clone();
        bench.time(Case::new(format!("clock join, {replicas} replicas"), Target::None), &mut |n| {
            let start = Instant::now();
            for _ in 0..n {
                joined.join(black_box(&newer));
            }
            black_box(&joined);
            start.elapsed()
        });
    }
}
