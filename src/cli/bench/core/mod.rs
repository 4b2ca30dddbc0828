//! What the core costs: every case is one function here, run by `folkmoot bench` and by criterion alike.
//!
//! `bench` is what a case reports to, `meter` is the measuring kind of it. `fixture` builds states and replicas of the
//! size wanted; each other file is one group of cases. A case prepares outside of what it times.
//!
//! `benches/core.rs` includes this directory by its path, so the cases that need no disk build without the node: they
//! name nothing above floor 5.

mod audit;
pub mod bench;
mod catchup;
mod clocks;
mod codec;
mod conflicts;
#[cfg(feature = "node")]
mod disk;
mod fixture;
mod memory;
mod merge;
pub mod meter;
mod ops;
mod reads;
mod writes;

use bench::Bench;

type Measure = fn(&mut dyn Bench);

/// The groups, by name: each builds what it needs and gives it back.
pub const GROUPS: &[(&str, Measure)] = &[
    // First: what the process grows by shows only while nothing was freed before.
    ("memory", memory::measure),
    ("clock", clocks::measure),
    ("codec", codec::measure),
    ("ops", ops::measure),
    ("reads", reads::measure),
    ("conflicts", conflicts::measure),
    ("merge", merge::measure),
    ("writes", writes::measure),
    ("catchup", catchup::measure),
    ("audit", audit::measure),
    #[cfg(feature = "node")]
    ("disk", disk::measure),
];

/// Runs the groups whose name contains `filter`, in order.
pub fn run(filter: &str, bench: &mut dyn Bench) {
    for (name, measure) in GROUPS.iter().filter(|(name, _)| name.contains(filter)) {
        bench.begin(name);
        measure(bench);
    }
}
