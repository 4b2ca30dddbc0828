//! What was done to the nodes, as entries of the simulator's trace: its page draws them.

use crate::cli::chaos::timeline::{Act, Part, Step};
use crate::sim::trace::{Entry, What};

pub fn entry(at_us: u64, node: usize, what: What, text: impl Into<String>) -> Entry {
    Entry { at_us, node, peer: None, what, text: text.into() }
}

/// What says of a node what its name begins with, as `n3 ended by itself`.
pub fn alarm(at_us: u64, says: &str) -> Entry {
    let digits =
        says.strip_prefix('n').map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    let node = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    entry(at_us, node, What::Alarm, says.lines().next().unwrap_or_default())
}

/// A step that took from `from_us` to `to_us`.
pub fn of_step(step: &Step, from_us: u64, to_us: u64) -> Vec<Entry> {
    let mut entries = Vec::new();
    if matches!(step.part, Part::Begins | Part::Happens) {
        entries.push(entry(from_us, step.node, What::Fault, &step.says));
    }
    if let Some((node, why)) = stops(&step.act) {
        entries.push(entry(from_us, node, What::Stop, why));
    }
    if let Some((node, why)) = starts(&step.act) {
        entries.push(entry(to_us, node, What::Start, why));
    }
    match step.part {
        Part::Ends | Part::Happens => entries.push(entry(to_us, step.node, What::Healed, &step.says)),
        Part::Aside => entries.push(entry(to_us, step.node, What::Event, &step.says)),
        Part::Begins => {}
    }
    entries
}

fn stops(act: &Act) -> Option<(usize, &'static str)> {
    match act {
        Act::Kill(node) | Act::Restore(node) | Act::Flip(node) => Some((*node, "killed")),
        Act::Stop(node) => Some((*node, "stands still")),
        Act::Leave(node) => Some((*node, "left")),
        _ => None,
    }
}

fn starts(act: &Act) -> Option<(usize, &'static str)> {
    match act {
        Act::Start(node) => Some((*node, "serves again")),
        Act::Restore(node) => Some((*node, "serves from its old disk")),
        Act::Flip(node) => Some((*node, "serves from its damaged disk")),
        Act::Join(node) => Some((*node, "joined")),
        Act::Continue(node) => Some((*node, "goes on")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(act: Act, part: Part) -> Vec<(u64, What)> {
        let step = Step { at_ms: 1, act, part, node: 2, says: "a fault n2".into() };
        of_step(&step, 10, 20).into_iter().map(|entry| (entry.at_us, entry.what)).collect()
    }

    #[test]
    fn a_fault_is_shaded_from_its_begin_to_its_end() {
        assert_eq!(kinds(Act::Kill(2), Part::Begins), [(10, What::Fault), (10, What::Stop)]);
        assert_eq!(kinds(Act::Start(2), Part::Ends), [(20, What::Start), (20, What::Healed)]);
        let at_once = [(10, What::Fault), (10, What::Stop), (20, What::Start), (20, What::Healed)];
        assert_eq!(kinds(Act::Restore(2), Part::Happens), at_once);
        assert_eq!(kinds(Act::Notice(vec![2]), Part::Aside), [(20, What::Event)]);
    }

    #[test]
    fn an_alarm_is_at_the_node_that_it_names() {
        assert_eq!(
            alarm(5, "n12 ended by itself (signal: 6)\nlast words"),
            entry(5, 12, What::Alarm, "n12 ended by itself (signal: 6)")
        );
        assert_eq!(alarm(5, "nobody").node, 0);
    }
}
