//! One run of one seed, in two acts: hurt it, then heal it and demand that everything agrees in time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;

use super::fault::FaultKind;
use super::figures::Figures;
use super::host::EPOCH_MS;
use super::oracle::partitions::{self, Cut};
use super::oracle::{Finding, agreement, audit, conflicts, locks, wrong};
use super::plan::Plan;
use super::probe::{Probe, Probes};
use super::scenario::{Expectation, Scenario};
use super::trace::{Entry, Trace};
use super::workload::COUNTER;
use super::world::{HookChoice, Tally, World};
use crate::engine::Replica;
use crate::engine::ballot::Voter;
use crate::engine::persist::Tree;

/// Unless the scenario says otherwise.
const CONVERGED_WITHIN_MS: u64 = 30_000;
/// Nodes named in a disagreement.
const SHOWN_MAX: usize = 16;
/// How often the second act looks whether all agree, ms.
const LOOK_MS: u64 = 20;

/// A cut is in the account if all had met before it, and it lasted until the slowest detector noticed it, ms.
const CUT_MS_MIN: (u64, u64) = (1_500, 4_000);
/// ... and clocks were not far from each other.
const SKEW_MS_MAX: u64 = 500;

/// What came of one seed.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// The same for every run of this seed by this build.
    pub hash: u64,
    pub finding: Option<Finding>,
    /// Virtual time, µs.
    pub took_us: u64,
    /// From the last heal and the last write until all agreed, µs.
    pub converged_us: Option<u64>,
    pub tally: Tally,
    pub probes: Probes,
    pub figures: Figures,
    pub plan: Plan,
    pub entries: Vec<Entry>,
    /// Entries beyond what is kept.
    pub dropped: u64,
}

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct How {
    /// Keep every step, to be shown.
    pub record: bool,
    #[serde(skip)]
    pub hooks: HookChoice,
}

/// Runs one seed of a scenario.
pub fn run(scenario: &Scenario, seed: u64, how: How) -> Outcome {
    run_plan(Plan::new(scenario, seed), how)
}

/// Runs what a seed was expanded to, or what became of that. A panic in the code under test is a finding like others.
pub fn run_plan(plan: Plan, how: How) -> Outcome {
    let again = plan.clone();
    catch_unwind(AssertUnwindSafe(|| run_acts(plan, how))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Outcome::panicked(again, text)
    })
}

fn run_acts(plan: Plan, how: How) -> Outcome {
    let trace = if how.record { Trace::recording() } else { Trace::default() };
    let mut world = World::new(plan, how.hooks, trace);
    let scenario = &world.plan.scenario;
    let hurt_ms = scenario.healed_ms().max(scenario.workload.until.0);
    world.run_until(hurt_ms * 1_000);
    world.heal_all();
    let converged_us = world.second_act(hurt_ms * 1_000);
    world.outcome(converged_us)
}

impl Outcome {
    /// Nothing is left of the world but what was known before.
    fn panicked(plan: Plan, text: String) -> Self {
        Self {
            seed: plan.seed,
            hash: 0,
            finding: Some(Finding { oracle: "panic", node: 0, at_us: 0, text }),
            took_us: 0,
            converged_us: None,
            tally: Tally::default(),
            probes: Probes::default(),
            figures: Figures::default(),
            plan,
            entries: Vec::new(),
            dropped: 0,
        }
    }
}

impl World {
    /// Waits until all that stay agree, then holds them to it.
    fn second_act(&mut self, healed_us: u64) -> Option<u64> {
        let within = self.plan.scenario.expects.iter().filter(|expect| expect.oracle == Expectation::Converged);
        let within_ms = within.filter_map(|expect| expect.within).map(|ms| ms.0).max().unwrap_or(CONVERGED_WITHIN_MS);
        let deadline_us = healed_us + within_ms * 1_000;
        if !self.lift_fences(deadline_us) {
            // Who is fenced stays so, and differs.
            return None;
        }
        while self.finding.is_none() && !self.agreed() && self.now_us < deadline_us {
            self.run_until((self.now_us + LOOK_MS * 1_000).min(deadline_us));
        }
        if self.finding.is_some() {
            return None;
        }
        if !self.agreed() {
            let text = self.disagreement(within_ms);
            self.judge(0, wrong("liveness", text));
            return None;
        }
        let converged_us = self.now_us - healed_us;
        self.decide_at_end();
        self.read_decisions_at_end();
        self.end_all_tasks();
        self.run_all_vms();
        // What was agreed upon holds, and is on every disk.
        let agreed = self.clocks();
        self.run_until(self.now_us + 1_500_000);
        // A write that a slow disk was given before it was healed takes its time.
        let patience_us = self.now_us + 10_000_000;
        // What a frozen replica wrote comes by catch-up only, and the stayers may have agreed without it.
        // An anchor written meanwhile is on its way, and moves the clocks.
        let settling = |world: &Self| {
            let may_differ = world.faults.divergence_is_planned() || world.clocks() != agreed;
            world.disks_write() || (may_differ && !world.agreed()) || world.has_cuts_untold()
        };
        while self.finding.is_none() && self.now_us < patience_us && settling(self) {
            self.run_until(self.now_us + LOOK_MS * 1_000);
        }
        self.check_end();
        Some(converged_us)
    }

    fn stayers(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].stays).collect()
    }

    fn disks_write(&self) -> bool {
        self.stayers().iter().any(|host| self.hosts[*host].disk.in_flight.is_some())
    }

    fn agreed(&self) -> bool {
        let stayers = self.stayers();
        let replicas = stayers.iter().filter_map(|host| self.hosts[*host].replica());
        let up = replicas.clone().count() == stayers.len();
        let members = replicas.clone().all(|replica| replica.cluster().is_some());
        up && members && agreement::agree(replicas)
    }

    fn disagreement(&self, within_ms: u64) -> String {
        let mut text = format!("not all agree {within_ms} ms after the last heal and the last write:");
        let stayers = self.stayers();
        for host in stayers.iter().copied().take(SHOWN_MAX) {
            let shown = match self.hosts[host].replica() {
                None => "down".to_owned(),
                Some(replica) if replica.cluster().is_none() => "without a cluster".to_owned(),
                Some(replica) => {
                    let digests = replica.digests();
                    format!("clock {:08x} state {:08x}", digests.clock as u32, digests.state as u32)
                }
            };
            text.push_str(&format!(" n{host} {shown};"));
        }
        if stayers.len() > SHOWN_MAX {
            text.push_str(&format!(" and {} more", stayers.len() - SHOWN_MAX));
        }
        text
    }

    fn check_end(&mut self) {
        let stayers = self.stayers();
        if self.finding.is_none() && !self.agreed() {
            self.judge(0, wrong("agreement", "nodes that agreed no longer do, though nobody wrote"));
        }
        let verdict = locks::check_ballots(self.hosts.iter().filter_map(|host| host.replica()));
        self.judge(0, verdict);
        let verdict = agreement::check_bytes(stayers.iter().filter_map(|host| self.hosts[*host].replica()));
        self.judge(0, verdict);
        let verdict = conflicts::check_alike(stayers.iter().filter_map(|host| self.hosts[*host].replica()));
        self.judge(0, verdict);
        let verdict = partitions::check_alike(stayers.iter().filter_map(|host| self.hosts[*host].replica()));
        self.judge(0, verdict);
        self.check_partition();
        for host in &stayers {
            let (vms, evictions) = (&self.vms.history.decisions, &self.evictions.history.decisions);
            let histories = [&self.decisions.history, &self.tasks.history, vms, evictions];
            let mut published = self.hosts[*host]
                .replica()
                .into_iter()
                .flat_map(|replica| histories.map(|history| history.check_published(replica)));
            let verdict = published.find(Result::is_err).unwrap_or(Ok(()));
            drop(published);
            self.judge(*host, verdict);
        }
        self.check_placements_at_end(&stayers);
        let in_use: Vec<_> = stayers.iter().map(|host| self.disk_epoch(*host)).collect();
        for host in stayers {
            self.collect_probes(host);
            let Some(process) = &self.hosts[host].process else { continue };
            let mut verdict = process.shadow.check_entries(&process.replica, &self.ledger);
            verdict = verdict.and_then(|()| conflicts::check_list(&process.replica));
            verdict = verdict.and_then(|()| self.clients.sums.check_all(COUNTER, &process.replica, &process.shadow));
            if !process.shadow.is_blind() {
                verdict = verdict.and_then(|()| self.promises.check_end(&in_use, &process.shadow, &self.ledger));
            }
            self.judge(host, verdict);
            self.check_disk(host);
            self.check_audit(host);
        }
        self.check_expectations();
    }

    /// What the disk holds reads back to what the node holds.
    fn check_disk(&mut self, host: usize) {
        let Some(replica) = self.hosts[host].replica() else { return };
        let verdict = match self.hosts[host].disk.load() {
            Ok(loaded) if loaded.state.digest() == replica.state().digest() => Ok(()),
            Ok(_) => wrong("durability", "long after the last write the disk holds another state than the node"),
            Err(damage) => wrong("durability", format!("the disk does not read back: {damage}")),
        };
        self.judge(host, verdict);
    }

    /// What the disk holds of the audit is what was signed, where the disk kept its promises.
    fn check_audit(&mut self, host: usize) {
        let at = &self.hosts[host];
        let (node, fresh) = (at.node, u64::from(self.plan.scenario.cluster.acquainted));
        let twice = self.hosts.iter().any(|other| other.copy_of.is_some() && other.node == node);
        if at.disk.epoch > fresh || twice || at.fork.is_some() || at.misdeed.is_some() {
            return;
        }
        let holders = self.stayers().into_iter().filter_map(|host| self.hosts[host].replica());
        let verdict = match audit::check(node, &*at.keys, at.disk.rows(Tree::Audit), holders) {
            Err(verdict) => verdict,
            Ok(report) => {
                self.probes.reached_if(Probe::AuditProven, report.anchors > 0);
                Ok(())
            }
        };
        self.judge(host, verdict);
    }

    /// Somebody saw a partition end, and has not told of it yet.
    fn has_cuts_untold(&self) -> bool {
        self.stayers()
            .into_iter()
            .filter_map(|host| self.hosts[host].replica())
            .any(|replica| replica.cuts().is_untold())
    }

    /// A cut that was the only thing that happened is in the account.
    fn check_partition(&mut self) {
        let (Some(cut), Some(replica)) = (self.planned_cut(), self.hosts[0].replica()) else { return };
        let verdict = partitions::check_planned(&cut, replica, &self.ledger);
        self.probes.reached(Probe::PartitionTold);
        self.judge(0, verdict);
    }

    fn planned_cut(&self) -> Option<Cut> {
        let [fault] = &self.plan.scenario.faults[..] else { return None };
        let (groups, heal) = (fault.groups.as_ref()?, fault.heal?);
        let calm = |host: &super::host::Host| {
            host.life == 1 && !host.disturbed && host.replica().is_some_and(|replica| !replica.in_tree())
        };
        let covered = groups.iter().map(Vec::len).sum::<usize>() == self.hosts.len();
        let long = fault.at.0 >= CUT_MS_MIN.0 && heal.0 >= fault.at.0 + CUT_MS_MIN.1;
        let skewed = self.plan.scenario.cluster.skew_ms > SKEW_MS_MAX;
        if fault.kind != FaultKind::Partition || !covered || !long || skewed || !self.hosts.iter().all(calm) {
            return None;
        }
        let sides = groups.iter().map(|group| group.iter().map(|host| self.hosts[*host].node).collect());
        Some(Cut { from_us: fault.at.us(), until_us: heal.us(), epoch_ms: EPOCH_MS, sides: sides.collect() })
    }

    /// How far the clocks of those that stay have come, all together.
    fn clocks(&self) -> u64 {
        let replicas = self.stayers().into_iter().filter_map(|host| self.hosts[host].replica());
        replicas.flat_map(|replica| replica.state().clock.iter()).map(|(_, seq)| seq).sum()
    }

    /// Whether a majority of the voters is there, on the stores that their word rests on.
    fn keeps_quorum(&self) -> bool {
        let replicas: Vec<&Replica> =
            self.stayers().into_iter().filter_map(|host| self.hosts[host].replica()).collect();
        let stands = |voter: &Voter| {
            let mut here = replicas.iter().filter(|replica| replica.id().node == voter.node);
            here.any(|replica| replica.ballots().store() == voter.store)
        };
        let voters = replicas.iter().filter_map(|replica| replica.ballots().voters());
        voters.max_by_key(|voters| voters.version).is_some_and(|voters| voters.is_quorum(stands))
    }

    fn check_expectations(&mut self) {
        for expect in self.plan.scenario.expects.clone() {
            let met = match expect.oracle {
                Expectation::Converged => true,
                Expectation::Alarm => {
                    let kind = expect.kind.clone().unwrap_or_default();
                    self.alarms.iter().any(|(_, alarm)| alarm.kind() == kind)
                }
                Expectation::FullReconcile => self.tally.full_paths > 0,
                Expectation::NoConflicts => self.probes.count(Probe::Conflict) == 0,
                Expectation::Rebuilt => self.tally.rebuilt > 0,
                Expectation::Quorum => self.keeps_quorum(),
            };
            if !met {
                let what = serde_json::to_string(&expect).unwrap_or_default();
                self.judge(0, wrong("expectation", format!("did not come about: {what}")));
            }
        }
    }

    fn outcome(mut self, converged_us: Option<u64>) -> Outcome {
        self.probes.reached_if(super::probe::Probe::AckUnknown, self.promises.unknown > 0);
        let (hash, figures) = (self.trace.hash(), self.figures());
        let (entries, dropped) = self.trace.into_entries();
        Outcome {
            seed: self.plan.seed,
            hash,
            finding: self.finding,
            took_us: self.now_us,
            converged_us,
            tally: self.tally,
            probes: self.probes,
            figures,
            plan: self.plan,
            entries,
            dropped,
        }
    }
}
