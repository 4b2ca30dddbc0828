//! The faults of a scenario as steps in real time, and those that a real machine cannot make.

use std::collections::BTreeSet;

use crate::sim::Plan;
use crate::sim::fault::{Fault, FaultKind};
use crate::sim::scenario::Network;

/// Something that is done to the hosts.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Nothing gets from one to the other, in these directions.
    Cut(Vec<(usize, usize)>),
    Mend(Vec<(usize, usize)>),
    /// Packets are lost with this probability.
    Lose(f64),
    /// The process stands still, or goes on.
    Stop(usize),
    Continue(usize),
    Kill(usize),
    Start(usize),
    /// Its data directory is kept as it is now, to be brought back.
    Keep(usize),
    /// It starts from the data directory that was kept.
    Restore(usize),
    /// One bit of its store is turned while it is down.
    Flip(usize),
    /// By now these have noticed that they cannot reach everyone.
    Notice(Vec<usize>),
    Join(usize),
    Leave(usize),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at_ms: u64,
    pub act: Act,
    /// The fault it belongs to, in words.
    pub says: String,
}

#[derive(Debug, Default)]
pub struct Timeline {
    /// In order of time.
    pub steps: Vec<Step>,
    /// What is left out, and why.
    pub skipped: Vec<String>,
    /// When the last fault is over.
    pub healed_ms: u64,
    /// Hosts that are needed: those of the cluster, and those that join.
    pub hosts: usize,
    /// Nodes whose disk goes back in time: what was acknowledged on it alone may be gone.
    pub rolled_back: BTreeSet<usize>,
    /// Nodes that leave, or whose process is to be gone at the end.
    pub gone: BTreeSet<usize>,
}

/// A cut that lasts so long must have been noticed a while before its end.
const NOTICED_MS: u64 = 4_000;

/// How often a flapping link changes at most, ms: a rule takes a few to be in force.
const FLAP_MS_MIN: u64 = 100;

impl Timeline {
    pub fn of(plan: &Plan) -> Self {
        let scenario = &plan.scenario;
        let mut timeline = Self { hosts: scenario.cluster.nodes, ..Self::default() };
        let end_ms = scenario.healed_ms().max(scenario.workload.until.0);
        timeline.healed_ms = scenario.healed_ms();
        let network = &scenario.network;
        if network.loss > 0.0 {
            timeline.step(0, Act::Lose(network.loss), format!("loss {}", network.loss));
        }
        if network.delay_ms != Network::default().delay_ms || !network.regions.is_empty() {
            timeline.skipped.push("delays: this kernel's queues cannot be told to hold packets up".into());
        }
        for fault in &scenario.faults {
            timeline.add(fault, end_ms, network.loss);
        }
        timeline.steps.sort_by_key(|step| step.at_ms);
        timeline
    }

    fn add(&mut self, fault: &Fault, end_ms: u64, loss: f64) {
        let (at, heal) = (fault.at.0, fault.heal.map_or(end_ms, |heal| heal.0));
        let (node, nodes) = (fault.node.unwrap_or(0), self.hosts);
        let says = fault.to_string();
        let all: Vec<(usize, usize)> =
            (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
        let pairs = |apart: &dyn Fn(usize, usize) -> bool| -> Vec<(usize, usize)> {
            all.iter().copied().filter(|(a, b)| apart(*a, *b)).collect()
        };
        use FaultKind::*;
        match fault.kind {
            Partition | Split => {
                let groups = fault.groups.clone().unwrap_or_default();
                let group = |host: usize| groups.iter().position(|group| group.contains(&host));
                let apart = |a, b| matches!((group(a), group(b)), (Some(x), Some(y)) if x != y);
                self.between(at, heal, pairs(&apart), &says);
            }
            Isolate => self.between(at, heal, pairs(&|a, b| a == node || b == node), &says),
            OneWay => {
                let to = fault.peer;
                self.between(at, heal, pairs(&|a, b| a == node && to.is_none_or(|to| b == to)), &says);
            }
            Ring => {
                self.between(at, heal, pairs(&|a, b| (a + 1) % nodes != b && (b + 1) % nodes != a), &says);
            }
            Bridge => {
                let half = nodes / 2;
                self.between(at, heal, pairs(&|a, b| a != node && b != node && (a < half) != (b < half)), &says);
            }
            Flap => {
                let period = fault.period.map_or(1_000, |period| period.0).max(FLAP_MS_MIN);
                let cut = pairs(&|a, b| a == node || b == node);
                for begin in (at..heal).step_by(2 * period as usize) {
                    self.between(begin, (begin + period).min(heal), cut.clone(), &says);
                }
            }
            Swizzle => {
                // Cut off one after another, and back in the opposite order but for one.
                let gap = (heal - at) / (2 * nodes as u64 + 1).max(1);
                for host in 0..nodes {
                    let back = (host * 2 + 1) % nodes;
                    let (from, to) = (at + host as u64 * gap, heal - back as u64 * gap);
                    self.between(from, to.max(from + 1), pairs(&|a, b| a == host || b == host), &says);
                }
            }
            Loss => {
                self.step(at, Act::Lose(fault.p.unwrap_or(0.1)), says.clone());
                self.step(heal, Act::Lose(loss), format!("end of {says}"));
            }
            Pause => {
                self.step(at, Act::Stop(node), says.clone());
                self.step(heal, Act::Continue(node), format!("end of {says}"));
            }
            Crash | Kill => {
                if fault.kind == Crash {
                    self.skip(
                        "crash: one process cannot lose power alone; it is killed instead (power cuts: `just crash`)",
                    );
                }
                self.step(at, Act::Kill(node), says.clone());
                self.step(fault.heal.map_or(at + 1, |heal| heal.0), Act::Start(node), format!("end of {says}"));
            }
            Restore => {
                let age = fault.ms.unwrap_or(1_000).unsigned_abs();
                self.step(at.saturating_sub(age), Act::Keep(node), format!("{says}: kept"));
                self.step(at, Act::Restore(node), says);
                self.rolled_back.insert(node);
            }
            BitFlip => {
                self.step(at, Act::Flip(node), says);
                self.rolled_back.insert(node);
            }
            Join => {
                self.step(at, Act::Join(self.hosts), says);
                self.hosts += 1;
            }
            Leave => {
                self.step(at, Act::Leave(node), says);
                self.gone.insert(node);
            }
            Clone => self.skip("clone: two processes under one identity cannot share an address"),
            Slow => self.skip("slow: this kernel's queues cannot be told to hold packets up"),
            DiskFull | DiskError | DiskSlow | Misdirect | LostWrite => {
                self.skip(&format!("{}: this kernel has no device that does so", fault.kind));
            }
            Skew | Jump => self.skip("clocks: all processes here share the machine's"),
            Evict | Upgrade | Hostile => self.skip(&format!("{}: this program does not do that", fault.kind)),
        }
    }

    fn between(&mut self, at_ms: u64, heal_ms: u64, pairs: Vec<(usize, usize)>, says: &str) {
        if heal_ms - at_ms >= NOTICED_MS {
            let apart = |node: usize| pairs.iter().any(|(a, b)| *a == node && pairs.contains(&(*b, *a)));
            let nodes = (0..self.hosts).filter(|node| apart(*node)).collect();
            self.step(at_ms + NOTICED_MS - 500, Act::Notice(nodes), format!("{says}: noticed"));
        }
        self.step(at_ms, Act::Cut(pairs.clone()), says.to_owned());
        self.step(heal_ms, Act::Mend(pairs), format!("end of {says}"));
    }

    fn step(&mut self, at_ms: u64, act: Act, says: String) {
        self.steps.push(Step { at_ms, act, says });
    }

    fn skip(&mut self, why: &str) {
        if !self.skipped.iter().any(|known| known == why) {
            self.skipped.push(why.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Scenario;

    fn timeline(faults: &str) -> Timeline {
        let text = format!("version = 1\nname = \"x\"\n[cluster]\nnodes = 3\n[workload]\nuntil = \"4s\"\n{faults}");
        Timeline::of(&Plan::new(&Scenario::parse(&text).unwrap(), 1))
    }

    #[test]
    fn a_partition_cuts_both_ways_and_mends() {
        let timeline =
            timeline("[[fault]]\nat = \"1s\"\nkind = \"partition\"\ngroups = [[0], [1, 2]]\nheal = \"3s\"\n");
        let cuts = vec![(0, 1), (0, 2), (1, 0), (2, 0)];
        let acts: Vec<_> = timeline.steps.iter().map(|step| (step.at_ms, step.act.clone())).collect();
        assert_eq!(acts, [(1_000, Act::Cut(cuts.clone())), (3_000, Act::Mend(cuts))]);
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let timeline = timeline("[[fault]]\nat = \"1s\"\nkind = \"jump\"\nms = 700\n");
        assert!(timeline.steps.is_empty());
        assert_eq!(timeline.skipped, ["clocks: all processes here share the machine's"]);
    }
}
