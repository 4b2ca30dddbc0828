//! What a document of 20 fields takes in memory.

use super::bench::{Bench, Case, Target};
use super::fixture;

const DOCUMENTS: usize = 100_000;
const FIELDS: usize = 20;
const TARGET: Target = Target::AtMost(1_200.0);

pub fn measure(bench: &mut dyn Bench) {
    let before = resident_bytes();
    let state = fixture::state(DOCUMENTS, FIELDS);
    let after = resident_bytes();
    let each = |bytes: u64| bytes as f64 / DOCUMENTS as f64;
    bench.value(
        Case::new("a document of 20 fields, by the state's own count", TARGET),
        "B",
        each(state.bytes() as u64),
    );
    // What earlier groups gave back may be used again, so the process can grow by less than it took.
    if let (Some(before), Some(after)) = (before, after) {
        bench.value(
            Case::new("a document of 20 fields, by the process's growth", TARGET),
            "B",
            each(after.saturating_sub(before)),
        );
    }
}

/// Physical memory of this process, where the system tells (Linux).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
