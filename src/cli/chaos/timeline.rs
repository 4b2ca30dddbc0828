//! The faults of a scenario as steps in real time, and those that a real machine cannot make.

use std::collections::BTreeSet;

use crate::sim::fault::{Fault, FaultKind};
use crate::sim::scenario::{Cluster, DiskTimes, Expectation, Network};
use crate::sim::workload::Kind;
use crate::sim::{Plan, Scenario};

/// Something that is done to the hosts.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Nothing gets from one to the other, in these directions.
    Cut(Vec<(usize, usize)>),
    Mend(Vec<(usize, usize)>),
    /// Packets are lost with this probability.
    Lose(f64),
    /// Delays are so many times as long.
    Slow(f64),
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

/// What a step is of its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Begins,
    Ends,
    /// All of it, at once.
    Happens,
    /// It prepares something, or looks.
    Aside,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at_ms: u64,
    pub act: Act,
    pub part: Part,
    /// The node that the fault hits, or the first.
    pub node: usize,
    /// The fault it belongs to, in words.
    pub says: String,
}

impl Step {
    pub fn words(&self) -> String {
        if self.part == Part::Ends { format!("end of {}", self.says) } else { self.says.clone() }
    }
}

#[derive(Debug, Default)]
pub struct Timeline {
    /// In order of time.
    pub steps: Vec<Step>,
    /// How the hosts are linked, in words.
    pub network: String,
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

/// How often a flapping link changes at most, ms: what is done to processes beside it takes a few.
const FLAP_MS_MIN: u64 = 100;

const CLOCKS: &str = "clocks: all processes here share the machine's";

impl Timeline {
    pub fn of(plan: &Plan) -> Self {
        let scenario = &plan.scenario;
        let mut timeline = Self { hosts: scenario.cluster.nodes, ..Self::default() };
        let end_ms = scenario.healed_ms().max(scenario.workload.until.0);
        timeline.healed_ms = scenario.healed_ms();
        timeline.network = network_in_words(&scenario.network);
        timeline.skip_settings(scenario);
        for fault in &scenario.faults {
            timeline.add(fault, end_ms);
        }
        timeline.steps.sort_by_key(|step| step.at_ms);
        timeline
    }

    /// What the scenario asks for beside its faults, and real processes do not give.
    fn skip_settings(&mut self, scenario: &Scenario) {
        let network = &scenario.network;
        if network.drop > 0.0 {
            self.skip("drop: streams lose no message for good; packets are lost with `loss`");
        }
        if network.notice_ms != Network::default().notice_ms {
            self.skip("notice_ms: a dead connection is noticed when the transport notices");
        }
        if scenario.disk != DiskTimes::default() {
            self.skip("sync_ms: the disk takes what it takes");
        }
        if scenario.cluster.skew_ms != Cluster::default().skew_ms {
            self.skip(CLOCKS);
        }
        for kind in [Kind::Task, Kind::Place, Kind::Vm, Kind::Fence].map(Kind::name) {
            if scenario.workload.mix.contains_key(kind) {
                self.skip(&format!("mix {kind}: a quorum decides about a field instead, as with `decide`"));
            }
        }
        if !scenario.limits.is_empty() {
            self.skip("limits: a node's bounds are built in");
        }
        for expect in &scenario.expects {
            match (expect.oracle, &expect.kind) {
                (Expectation::Converged, _) => {}
                (Expectation::Alarm, Some(kind)) => {
                    self.skip(&format!("expected alarm {kind}: alarms are not asked for here"));
                }
                (other, _) => {
                    self.skip(&format!("expected {other:?}: paths taken inside a node are not seen from outside"))
                }
            }
        }
    }

    fn add(&mut self, fault: &Fault, end_ms: u64) {
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
                self.between(at, heal, pairs(&apart), fault);
            }
            Isolate => self.between(at, heal, pairs(&|a, b| a == node || b == node), fault),
            OneWay => {
                let to = fault.peer;
                self.between(at, heal, pairs(&|a, b| a == node && to.is_none_or(|to| b == to)), fault);
            }
            Ring => {
                self.between(at, heal, pairs(&|a, b| (a + 1) % nodes != b && (b + 1) % nodes != a), fault);
            }
            Bridge => {
                let half = nodes / 2;
                self.between(at, heal, pairs(&|a, b| a != node && b != node && (a < half) != (b < half)), fault);
            }
            Flap => {
                let period = fault.period.map_or(1_000, |period| period.0).max(FLAP_MS_MIN);
                let cut = pairs(&|a, b| a == node || b == node);
                for begin in (at..heal).step_by(2 * period as usize) {
                    self.between(begin, (begin + period).min(heal), cut.clone(), fault);
                }
            }
            Swizzle => {
                // Cut off one after another, and back in the opposite order but for one.
                let gap = (heal - at) / (2 * nodes as u64 + 1).max(1);
                for host in 0..nodes {
                    let back = (host * 2 + 1) % nodes;
                    let (from, to) = (at + host as u64 * gap, heal - back as u64 * gap);
                    self.between(from, to.max(from + 1), pairs(&|a, b| a == host || b == host), fault);
                }
            }
            Loss => self.during(fault, (at, Act::Lose(fault.p.unwrap_or(0.1))), (heal, Act::Lose(0.0))),
            Slow => self.during(fault, (at, Act::Slow(fault.factor.unwrap_or(10.0))), (heal, Act::Slow(1.0))),
            Pause => self.during(fault, (at, Act::Stop(node)), (heal, Act::Continue(node))),
            Crash | Kill => {
                if fault.kind == Crash {
                    self.skip(
                        "crash: one process cannot lose power alone; it is killed instead (power cuts: `just crash`)",
                    );
                }
                let back = fault.heal.map_or(at + 1, |heal| heal.0);
                self.during(fault, (at, Act::Kill(node)), (back, Act::Start(node)));
            }
            Restore => {
                let age = fault.ms.unwrap_or(1_000).unsigned_abs();
                self.step(at.saturating_sub(age), Act::Keep(node), Part::Aside, node, &format!("{says}: kept"));
                self.step(at, Act::Restore(node), Part::Happens, node, &says);
                self.rolled_back.insert(node);
            }
            BitFlip => {
                self.step(at, Act::Flip(node), Part::Happens, node, &says);
                self.rolled_back.insert(node);
            }
            Join => {
                self.step(at, Act::Join(self.hosts), Part::Happens, self.hosts, &says);
                self.hosts += 1;
            }
            Leave => {
                self.step(at, Act::Leave(node), Part::Happens, node, &says);
                self.gone.insert(node);
            }
            Clone => self.skip("clone: two processes under one identity cannot share an address"),
            DiskFull | DiskError | DiskSlow | Misdirect | LostWrite | Rewind => {
                self.skip(&format!("{}: this kernel has no device that does so", fault.kind));
            }
            Skew | Jump => self.skip(CLOCKS),
            Evict | Upgrade | Hostile => self.skip(&format!("{}: this program does not do that", fault.kind)),
        }
    }

    fn between(&mut self, at_ms: u64, heal_ms: u64, pairs: Vec<(usize, usize)>, fault: &Fault) {
        if heal_ms - at_ms >= NOTICED_MS {
            let apart = |node: usize| pairs.iter().any(|(a, b)| *a == node && pairs.contains(&(*b, *a)));
            let nodes = (0..self.hosts).filter(|node| apart(*node)).collect();
            let node = fault.node.unwrap_or(0);
            self.step(at_ms + NOTICED_MS - 500, Act::Notice(nodes), Part::Aside, node, &format!("{fault}: noticed"));
        }
        self.during(fault, (at_ms, Act::Cut(pairs.clone())), (heal_ms, Act::Mend(pairs)));
    }

    /// A fault that begins and ends.
    fn during(&mut self, fault: &Fault, begin: (u64, Act), end: (u64, Act)) {
        let (node, says) = (fault.node.unwrap_or(0), fault.to_string());
        self.step(begin.0, begin.1, Part::Begins, node, &says);
        self.step(end.0, end.1, Part::Ends, node, &says);
    }

    fn step(&mut self, at_ms: u64, act: Act, part: Part, node: usize, says: &str) {
        self.steps.push(Step { at_ms, act, part, node, says: says.to_owned() });
    }

    fn skip(&mut self, why: &str) {
        if !self.skipped.iter().any(|known| known == why) {
            self.skipped.push(why.to_owned());
        }
    }
}

/// One way, as the switch makes it.
fn network_in_words(network: &Network) -> String {
    let [low, high] = network.delay_ms;
    let mut words = match network.regions.len() {
        0 => format!("{low} to {high} ms one way"),
        regions => format!("{regions} regions"),
    };
    if network.jitter_ms > 0.0 {
        words += &format!(" and up to {} ms of jitter", network.jitter_ms);
    }
    if network.kilobytes_per_s > 0 {
        words += &format!(", {} kB/s a link", network.kilobytes_per_s);
    }
    for (p, what) in [(network.loss, "lost"), (network.duplicate, "doubled"), (network.reorder, "overtaken")] {
        if p > 0.0 {
            words += &format!(", {} % of packets {what}", p * 100.0);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn slow_links_and_loss_begin_and_end() {
        let timeline = timeline("[[fault]]\nat = \"1s\"\nkind = \"slow\"\nfactor = 4\nheal = \"2s\"\n");
        assert!(timeline.skipped.is_empty(), "{:?}", timeline.skipped);
        let steps: Vec<_> = timeline.steps.iter().map(|step| (step.at_ms, step.act.clone(), step.part)).collect();
        assert_eq!(steps, [(1_000, Act::Slow(4.0), Part::Begins), (2_000, Act::Slow(1.0), Part::Ends)]);
        assert_eq!(timeline.steps[1].words(), "end of slow x4");
    }

    #[test]
    fn settings_that_mean_nothing_here_are_said() {
        let timeline = timeline("[network]\ndrop = 0.1\nloss = 0.02\n[disk]\nsync_ms = [9, 9]\n");
        let said: Vec<_> = timeline.skipped.iter().filter_map(|why| why.split(':').next()).collect();
        assert_eq!(said, ["drop", "sync_ms"]);
        assert_eq!(timeline.network, "1 to 10 ms one way and up to 1 ms of jitter, 2 % of packets lost");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let timeline = timeline("[[fault]]\nat = \"1s\"\nkind = \"jump\"\nms = 700\n");
        assert!(timeline.steps.is_empty());
        assert_eq!(timeline.skipped, ["clocks: all processes here share the machine's"]);
    }
}
