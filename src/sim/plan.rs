//! What one seed makes of a scenario: every choice drawn and written out, so that the plan is a scenario again, without
//! storm and swarm, that can be printed, changed by hand, and made smaller.

use std::collections::BTreeMap;

use super::chance::Chance;
use super::duration::Millis;
use super::fault::{Fault, FaultKind, Misdeed};
use super::scenario::Scenario;
use crate::engine::Limits;

/// A scenario with nothing left to draw but what goes on inside the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub scenario: Scenario,
    pub seed: u64,
    /// What the swarm turned off or made small, for people.
    pub drawn: Vec<String>,
}

impl Plan {
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        let mut drawer = Drawer { chance: Chance::of(seed, "plan"), scenario: scenario.clone(), drawn: Vec::new() };
        // With draws of their own, bounds that came later leave what earlier seeds draw as it was.
        drawer.draw_small(&LATER, &mut Chance::of(seed, "bounds"));
        drawer.draw_swarm();
        drawer.draw_storm();
        drawer.settle_faults();
        Self { scenario: drawer.scenario, seed, drawn: drawer.drawn }
    }

    pub fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        for (name, value) in &self.scenario.limits {
            set_limit(&mut limits, name, *value);
        }
        limits
    }
}

/// Sets a bound by its name; `None` when there is no such bound.
pub fn set_limit(limits: &mut Limits, name: &str, value: u64) -> Option<()> {
    let size = value as usize;
    match name {
        "group_us" => limits.group_us = value,
        "group_bytes" => limits.group_bytes = size,
        "live_window_bytes" => (limits.live_window_bytes, limits.report_bytes) = (size, size / 4),
        "report_bytes" => limits.report_bytes = size,
        "parked_batches" => limits.parked_batches = size,
        "parked_bytes" => limits.parked_bytes = size,
        "missing_ms" => limits.missing_ms = value,
        "chunk_bytes" => limits.chunk_bytes = size,
        "chunks_unacked" => limits.chunks_unacked = size,
        "staged_bytes" => limits.staged_bytes = size,
        "serves" => limits.serves = size,
        "session_stall_ms" => limits.session_stall_ms = value,
        "session_resume_ms" => limits.session_resume_ms = value,
        "removal_records" => limits.removal_records = size,
        "mesh_members" => limits.mesh_members = size,
        "group_members" => limits.group_members = size,
        "self_check_ms" => limits.self_check_ms = value,
        "collect_ms" => limits.collect_ms = value,
        "judged_at_once" => limits.judged_at_once = size,
        "alarms" => limits.alarms = size,
        "outbox_batches" => limits.outbox_batches = size,
        _ => return None,
    }
    Some(())
}

/// Bounds that a swarm makes small, so that a state of a few kilobytes meets them, and from what to what.
const SMALL: [(&str, u64, u64); 11] = [
    ("chunk_bytes", 200, 3_000),
    ("chunks_unacked", 1, 3),
    ("parked_batches", 1, 8),
    ("live_window_bytes", 500, 8_000),
    ("removal_records", 0, 12),
    ("mesh_members", 1, 12),
    ("group_members", 1, 3),
    ("self_check_ms", 300, 3_000),
    ("collect_ms", 200, 2_000),
    ("outbox_batches", 1, 20),
    ("group_us", 0, 20_000),
];

const LATER: [(&str, u64, u64); 1] = [("judged_at_once", 1, 4)];

struct Drawer {
    chance: Chance,
    scenario: Scenario,
    drawn: Vec<String>,
}

impl Drawer {
    fn draw_small(&mut self, bounds: &[(&str, u64, u64)], chance: &mut Chance) {
        let Some(p) = self.scenario.swarm.as_ref().map(|swarm| swarm.disable_p) else { return };
        for (name, low, high) in bounds.iter().copied() {
            if !chance.happens(p) && chance.happens(0.5) && !self.scenario.limits.contains_key(name) {
                let value = chance.between(low, high);
                self.scenario.limits.insert(name.into(), value);
                self.drawn.push(format!("{name} = {value}"));
            }
        }
    }

    fn draw_swarm(&mut self) {
        let mut chance = self.chance.clone();
        self.draw_small(&SMALL, &mut chance);
        self.chance = chance;
        let Some(swarm) = self.scenario.swarm.take() else { return };
        let p = swarm.disable_p;
        self.thin_out("write", p, |scenario| &mut scenario.workload.mix);
        self.thin_out("durability", p, |scenario| &mut scenario.workload.durability);
        let network = &mut self.scenario.network;
        for (name, odds) in [
            ("loss", &mut network.loss),
            ("drop", &mut network.drop),
            ("duplicate", &mut network.duplicate),
            ("reorder", &mut network.reorder),
        ] {
            if *odds > 0.0 && self.chance.happens(p) {
                *odds = 0.0;
                self.drawn.push(format!("no {name}"));
            }
        }
        if let Some(storm) = &mut self.scenario.storm {
            let kinds: Vec<FaultKind> = storm.kinds.keys().copied().collect();
            for kind in kinds {
                if storm.kinds.len() > 1 && self.chance.happens(p) {
                    storm.kinds.remove(&kind);
                    self.drawn.push(format!("no {kind}"));
                }
            }
        }
    }

    /// Leaves out some of what is mixed, never all of it.
    fn thin_out(&mut self, what: &str, p: f64, of: fn(&mut Scenario) -> &mut BTreeMap<String, u64>) {
        let names: Vec<String> = of(&mut self.scenario).keys().cloned().collect();
        for name in names {
            if of(&mut self.scenario).len() > 1 && self.chance.happens(p / 2.0) {
                of(&mut self.scenario).remove(&name);
                self.drawn.push(format!("no {what} {name}"));
            }
        }
    }

    /// Writes a storm out as faults.
    fn draw_storm(&mut self) {
        let Some(storm) = self.scenario.storm.take() else { return };
        let kinds: Vec<(FaultKind, u64)> = storm.kinds.iter().map(|(kind, weight)| (*kind, *weight)).collect();
        let mut at = storm.from.0 + self.chance.gap(storm.every.0 as f64);
        while at < storm.until.0 {
            let Some(kind) = self.chance.weighted(&kinds) else { break };
            let mut fault = Fault::new(kind, Millis(at));
            if !kind.is_instant() {
                let hold = self.chance.between(storm.hold[0].0, storm.hold[1].0).max(1);
                fault.heal = Some(Millis(at + hold));
            }
            self.scenario.faults.push(fault);
            at += 1 + self.chance.gap(storm.every.0 as f64);
        }
        self.scenario.faults.sort_by_key(|fault| fault.at);
    }

    /// Gives every fault what its author left open.
    fn settle_faults(&mut self) {
        let nodes = self.scenario.cluster.nodes;
        for fault in &mut self.scenario.faults {
            let chance = &mut self.chance;
            let drawn = fault.node.is_none();
            use FaultKind::*;
            match fault.kind {
                Split => {
                    let mut order: Vec<usize> = (0..nodes).collect();
                    chance.shuffle(&mut order);
                    let cut = 1 + chance.index(nodes.saturating_sub(1).max(1));
                    let right = order.split_off(cut.min(order.len()));
                    (fault.kind, fault.groups) = (Partition, Some(vec![order, right]));
                }
                Partition if fault.groups.is_none() => {
                    let cut = 1 + chance.index(nodes.saturating_sub(1).max(1));
                    fault.groups = Some(vec![(0..cut.min(nodes)).collect(), (cut.min(nodes)..nodes).collect()]);
                }
                Ring | Swizzle | Loss | Slow | Join | Partition => {}
                _ => _ = fault.node.get_or_insert_with(|| chance.index(nodes)),
            }
            match fault.kind {
                OneWay if drawn && fault.peer.is_none() && nodes > 1 && chance.happens(0.5) => {
                    let node = fault.node.unwrap_or(0);
                    fault.peer = Some((node + 1 + chance.index(nodes - 1)) % nodes);
                }
                Flap => _ = fault.period.get_or_insert_with(|| Millis(chance.between(100, 1_000))),
                Loss => _ = fault.p.get_or_insert_with(|| chance.unit() * 0.3),
                Slow => _ = fault.factor.get_or_insert_with(|| 2.0 + (chance.unit() * 20.0).round()),
                Skew => _ = fault.ms.get_or_insert_with(|| chance.between(0, 4_000) as i64 - 2_000),
                Jump => {
                    let hour = 3_600_000;
                    let jumps = [hour, -hour, 700, -700, 5_000, -5_000];
                    _ = fault.ms.get_or_insert_with(|| *chance.pick(&jumps).unwrap_or(&hour));
                }
                Restore | Rewind => _ = fault.ms.get_or_insert_with(|| chance.between(100, 4_000) as i64),
                Hostile => {
                    use Misdeed::*;
                    let deeds = [Forge, Fork, Replay, Future, Flood, Lie];
                    _ = fault.does.get_or_insert_with(|| *chance.pick(&deeds).unwrap_or(&Forge));
                }
                _ => {}
            }
        }
    }
}
