//! Times of the advisor, on *simulated* decisions:
//! `cargo bench --no-default-features --features mutants --bench advisor`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use folkmoot::conflict::advisor::{Options, explain, simulated, train};

fn training(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("advisor");
    group.sample_size(10);
    for count in [100, 1_000, 10_000] {
        let decisions = simulated::mixed(true, count, 0.1, 1);
        let name = format!("train on {count} simulated decisions");
        group.bench_function(name, |bench| bench.iter(|| train(black_box(&decisions), 1, &Options::default())));
    }
    group.finish();
}

fn advice(criterion: &mut Criterion) {
    let decisions = simulated::mixed(true, 10_000, 0.1, 1);
    let Ok(model) = train(&decisions, 1, &Options::default()) else { return };
    let mut cases = decisions.iter().map(|decision| &decision.case).cycle();
    let mut next = || cases.next().unwrap_or(&decisions[0].case);
    criterion.bench_function("advisor/advise", |bench| bench.iter(|| model.advise(black_box(next()))));
    criterion.bench_function("advisor/explain", |bench| bench.iter(|| explain(&model, black_box(next()))));
}

criterion_group!(benches, training, advice);
criterion_main!(benches);
