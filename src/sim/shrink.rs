//! From a run that fails to the smallest one that still does: fewer faults, fewer writes, fewer nodes, fewer odds.
//!
//! Greedy, one kind of change after another, and again until nothing more can go or the bound of runs is reached
//! (after delta debugging: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002).

use super::duration::Millis;
use super::plan::Plan;
use super::run::{How, run_plan};
use super::scenario::Scenario;

/// Runs that a shrinking may take.
const RUNS_MAX: usize = 400;

/// What is left of a failing run.
#[derive(Debug)]
pub struct Shrunk {
    /// Has no storm and no swarm: with the same seed it runs as it stands.
    pub scenario: Scenario,
    pub runs: usize,
}

/// Makes `plan` smaller for as long as `oracle` still finds something wrong with it.
pub fn shrink(plan: &Plan, oracle: &str, how: How) -> Shrunk {
    let mut shrinker = Shrinker { best: plan.clone(), oracle, how: How { record: false, ..how }, runs: 0 };
    loop {
        let before = shrinker.best.clone();
        shrinker.fewer_faults();
        shrinker.fewer_writes();
        shrinker.fewer_odds();
        shrinker.fewer_nodes();
        if shrinker.best == before || shrinker.runs >= RUNS_MAX {
            break;
        }
    }
    let mut scenario = shrinker.best.scenario;
    scenario.seeds = format!("{0}..{0}", plan.seed);
    Shrunk { scenario, runs: shrinker.runs }
}

struct Shrinker<'a> {
    best: Plan,
    oracle: &'a str,
    how: How,
    runs: usize,
}

impl Shrinker<'_> {
    /// Keeps a change if the run still fails as it did.
    fn try_change(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        if self.runs >= RUNS_MAX {
            return false;
        }
        let mut changed = self.best.clone();
        change(&mut changed.scenario);
        if changed == self.best {
            return false;
        }
        self.runs += 1;
        // What is asked for must come about in the whole run only.
        let found = run_plan(changed.clone(), self.how).finding;
        let fails = found.is_some_and(|finding| finding.oracle == self.oracle);
        if fails {
            self.best = changed;
        }
        fails
    }

    /// Leaves out halves, quarters, … and at last single faults.
    fn fewer_faults(&mut self) {
        let mut piece = self.best.scenario.faults.len().div_ceil(2);
        while piece > 0 {
            let mut at = 0;
            while at < self.best.scenario.faults.len() {
                let to = (at + piece).min(self.best.scenario.faults.len());
                if !self.try_change(|scenario| _ = scenario.faults.drain(at..to)) {
                    at += piece;
                }
            }
            piece /= 2;
        }
    }

    fn fewer_writes(&mut self) {
        for part in [4, 2, 1] {
            let until = self.best.scenario.workload.until.0;
            while self.try_change(|scenario| {
                let workload = &mut scenario.workload;
                workload.until = Millis((workload.until.0 * part / (part + 1)).max(workload.from.0 + 10));
            }) && self.best.scenario.workload.until.0 + 50 < until
            {}
        }
        while self.try_change(|scenario| scenario.workload.rate = (scenario.workload.rate / 2.0).max(1.0)) {}
        let kinds: Vec<String> = self.best.scenario.workload.mix.keys().cloned().collect();
        for kind in kinds {
            if self.best.scenario.workload.mix.len() > 1 {
                self.try_change(|scenario| _ = scenario.workload.mix.remove(&kind));
            }
        }
        while self.try_change(|scenario| scenario.workload.keys = (scenario.workload.keys / 2).max(1)) {}
        while self.try_change(|scenario| scenario.workload.clients = (scenario.workload.clients / 2).max(1)) {}
        self.try_change(|scenario| scenario.workload.read = 0.0);
    }

    fn fewer_odds(&mut self) {
        self.try_change(|scenario| scenario.network.loss = 0.0);
        self.try_change(|scenario| scenario.network.drop = 0.0);
        self.try_change(|scenario| scenario.network.duplicate = 0.0);
        self.try_change(|scenario| scenario.network.reorder = 0.0);
        self.try_change(|scenario| scenario.network.jitter_ms = 0.0);
        self.try_change(|scenario| scenario.cluster.skew_ms = 0);
        let limits: Vec<String> = self.best.scenario.limits.keys().cloned().collect();
        for limit in limits {
            self.try_change(|scenario| _ = scenario.limits.remove(&limit));
        }
    }

    /// One node less, with the faults that named it.
    fn fewer_nodes(&mut self) {
        while self.best.scenario.cluster.nodes > 2
            && self.try_change(|scenario| {
                scenario.cluster.nodes -= 1;
                let gone = scenario.cluster.nodes;
                scenario
                    .faults
                    .retain(|fault| fault.node.is_none_or(|node| node < gone) && fault.peer.is_none_or(|p| p < gone));
                for group in scenario.faults.iter_mut().filter_map(|fault| fault.groups.as_mut()).flatten() {
                    group.retain(|node| *node < gone);
                }
            })
        {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hooks::Mutant;
    use crate::sim::{HookChoice, run};

    const STORMY: &str = include_str!("../../simulations/everything-at-once.toml");

    #[test]
    fn a_failing_run_gets_smaller_and_fails_when_read_back() {
        let scenario = Scenario::parse(STORMY).unwrap();
        let how = How { hooks: HookChoice { mutant: Some(Mutant::PrunedTooEarly), rare: 0 }, ..How::default() };
        let failing = (1..200).map(|seed| run(&scenario, seed, how)).find(|outcome| outcome.finding.is_some()).unwrap();
        let oracle = failing.finding.unwrap().oracle;
        let shrunk = shrink(&failing.plan, oracle, how);
        let (many, few) = (failing.plan.scenario.faults.len(), shrunk.scenario.faults.len());
        assert!(few <= many && shrunk.scenario.workload.mix.len() <= failing.plan.scenario.workload.mix.len());
        let read_back = Scenario::parse(&shrunk.scenario.to_toml()).unwrap();
        let again = run(&read_back, failing.seed, how).finding.unwrap();
        assert_eq!(again.oracle, oracle);
    }

    #[test]
    fn a_plan_written_down_and_read_back_is_the_same_run() {
        let scenario = Scenario::parse(STORMY).unwrap();
        for seed in 1..6 {
            let plan = Plan::new(&scenario, seed);
            let read_back = Scenario::parse(&plan.scenario.to_toml()).unwrap();
            let (first, second) = (run_plan(plan, How::default()), run(&read_back, seed, How::default()));
            assert_eq!(first.hash, second.hash, "seed {seed}");
        }
    }
}
