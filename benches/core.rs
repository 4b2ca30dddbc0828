//! The core's figures under criterion: the cases of `folkmoot bench --core`, with criterion's statistics.
//!
//! `cargo bench --bench core`, or without the node and its disks `cargo bench --bench core --no-default-features`.
//! A name after `--` picks cases. `FOLKMOOT_BENCH=table` prints the plain table instead.

// What the cases import from `crate`, wherever they are compiled.
use folkmoot::{clock, conflict, crdt, document, engine, history};
#[cfg(feature = "node")]
use folkmoot::{node, store};

#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../src/cli/bench/core/mod.rs"]
mod cases;

use std::time::Duration;

use cases::bench::{Bench, Case};
use cases::meter::{Measured, Meter};
use criterion::Criterion;

/// Hands each repeatable case to criterion; prints what was measured as a whole.
struct Statistics {
    criterion: Criterion,
    group: String,
}

impl Bench for Statistics {
    fn begin(&mut self, group: &str) {
        group.clone_into(&mut self.group);
    }

    fn time(&mut self, case: Case, run: &mut dyn FnMut(u64) -> Duration) {
        let mut group = self.criterion.benchmark_group(self.group.as_str());
        group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function(&case.name, |bencher| bencher.iter_custom(&mut *run));
        group.finish();
    }

    fn value(&mut self, case: Case, unit: &'static str, value: f64) {
        println!("{}/{}: {value:.3} {unit} {}", self.group, case.name, case.target);
    }
}

fn main() {
    match std::env::var("FOLKMOOT_BENCH").as_deref() {
        Ok("table") => table(),
        _ => {
            let criterion = Criterion::default().configure_from_args();
            let mut statistics = Statistics { criterion, group: String::new() };
            cases::run("", &mut statistics);
            statistics.criterion.final_summary();
        }
    }
}

/// A line for each figure, of the groups whose name contains the first free argument.
fn table() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut print = |row: Measured| {
        let miss = row.target.miss(row.value).map_or(String::new(), |miss| format!("{miss:.2} ×"));
        let target = row.target.to_string();
        println!("{:8} {:60} {:12.2} {:3} {target:12} {miss}", row.group, row.name, row.value, row.unit);
    };
    cases::run(&filter, &mut Meter::new(false, &mut print));
}
