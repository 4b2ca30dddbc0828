//! Every node gives the same account of a partition, and one that was planned is in it: who was on which side, and what
//! both sides wrote.

use std::collections::BTreeSet;

use super::ledger::Ledger;
use super::{Verdict, wrong};
use crate::clock::NodeId;
use crate::domain::partitions::{Partition, partitions};
use crate::engine::Replica;
use crate::engine::partition::observation::NAMES_MAX;

/// A cut that was planned, and nothing else beside it.
#[derive(Debug)]
pub struct Cut {
    pub from_us: u64,
    pub until_us: u64,
    /// The wall clock at the beginning of the run, ms.
    pub epoch_ms: u64,
    pub sides: Vec<BTreeSet<NodeId>>,
}

/// A write so soon after the cut began may have been before it for somebody, and one so shortly before its end may come to its
/// own side after it, µs.
const MARGIN_US: (u64, u64) = (1_000_000, 2_500_000);
/// Notices differ by so much, and clocks, ms.
const BLUR_MS: u64 = 2_500;

/// Holds nodes in agreement to one account.
pub fn check_alike<'a>(replicas: impl IntoIterator<Item = &'a Replica>) -> Verdict {
    let mut told = replicas.into_iter().map(partitions);
    let Some(first) = told.next() else { return Ok(()) };
    match told.find(|other| *other != first) {
        Some(other) => wrong("partitions", format!("one node tells {first:?}, another {other:?}")),
        None => Ok(()),
    }
}

/// Holds the account of a node to what was planned.
pub fn check_planned(cut: &Cut, replica: &Replica, ledger: &Ledger) -> Verdict {
    let told = partitions(replica);
    let sides: BTreeSet<BTreeSet<String>> =
        cut.sides.iter().map(|side| side.iter().map(NodeId::to_string).collect()).collect();
    let has = |partition: &&Partition| {
        let found = partition.sides.iter().map(|side| side.members.iter().cloned().collect::<BTreeSet<_>>());
        found.collect::<BTreeSet<_>>() == sides
    };
    let Some(partition) = told.iter().find(has) else {
        return wrong("partitions", format!("{sides:?} were apart, and the account is {told:?}"));
    };
    let (from_ms, until_ms) = (cut.epoch_ms + cut.from_us / 1_000, cut.epoch_ms + cut.until_us / 1_000);
    if partition.from_ms.abs_diff(from_ms) > BLUR_MS || partition.until_ms + BLUR_MS < until_ms {
        return wrong("partitions", format!("from {from_ms} to {until_ms} ms, and the account is {partition:?}"));
    }
    if !partition.complete {
        return wrong("partitions", format!("all are there, and not all have told: {partition:?}"));
    }
    let both = written_on_both_sides(cut, ledger);
    let named: BTreeSet<&str> = partition.diverged.names.iter().map(String::as_str).collect();
    let missing = both.iter().find(|name| !named.contains(name.as_str()));
    match missing.filter(|_| (partition.diverged.count as usize) < NAMES_MAX) {
        Some(name) => {
            wrong("partitions", format!("{name} was written on both sides, and the account is {partition:?}"))
        }
        None => Ok(()),
    }
}

/// Documents in which something stands that each side wrote meanwhile.
fn written_on_both_sides(cut: &Cut, ledger: &Ledger) -> BTreeSet<String> {
    let during = (cut.from_us + MARGIN_US.0)..cut.until_us.saturating_sub(MARGIN_US.1);
    let mut of_sides = cut.sides.iter().map(|side| {
        let written =
            ledger.standing().filter(|(writer, op)| side.contains(&writer.node) && during.contains(&op.at_us));
        written.filter_map(|(_, op)| Some(op.cell.split_once(' ')?.0.to_owned())).collect::<BTreeSet<_>>()
    });
    let first = of_sides.next().unwrap_or_default();
    let both = of_sides.fold(first, |both, side| both.intersection(&side).cloned().collect());
    both.into_iter().filter(|name| !name.starts_with("members/") && !name.starts_with("partitions/")).collect()
}
