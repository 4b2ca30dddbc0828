//! The world: hosts, a network, and the one queue of what happens next. Nothing in it waits and nothing is drawn but
//! from the seed, so a seed replays to the byte.
//!
//! The calling contract of [`Replica`](crate::engine::Replica) is kept in one place, [`World::input`]: hand in, drain,
//! carry out. After each input the oracles look at the node.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::chance::Chance;
use super::client::Clients;
use super::decisions::{Decisions, documents_asked};
use super::evictions::Evictions;
use super::fences::{Fences, RESTART_US};
use super::figures::Spread;
use super::host::Host;
use super::locks::Locks;
use super::network::Network;
use super::oracle::durability::Promises;
use super::oracle::ledger::Ledger;
use super::oracle::{Finding, Verdict, bounds, conflicts};
use super::placements::Placements;
use super::plan::Plan;
use super::probe::{Probe, Probes};
use super::tasks::Tasks;
use super::trace::{Entry, Trace, What};
use super::vms::Vms;
use crate::crdt::Resolver;
use crate::engine::alarm::Alarm;
use crate::engine::ballot::{AskId, Outcome};
use crate::engine::keys::Keys;
use crate::engine::message::Message;
use crate::engine::own::OwnWrite;
use crate::engine::{Event, Input, Limits, Now, Output, Ticket};

/// More hosts than this make a large world.
const LARGE: usize = 64;

/// What happens next.
#[derive(Debug)]
pub(super) enum Next {
    Start {
        host: usize,
    },
    Tick {
        host: usize,
        life: u64,
        at_us: u64,
    },
    Arrive {
        link: u64,
        to: usize,
        bytes: Arc<[u8]>,
    },
    /// The disk is done, well or not.
    Disk {
        host: usize,
        life: u64,
        ticket: Ticket,
        works: bool,
    },
    Dial {
        host: usize,
    },
    Opened {
        a: usize,
        b: usize,
    },
    /// An end of a link looks whether the other is still there.
    Notice {
        link: u64,
        host: usize,
    },
    /// An end hears that the other closed.
    Closed {
        link: u64,
        host: usize,
    },
    Client,
    Fault {
        fault: usize,
    },
    Heal {
        fault: usize,
    },
    /// A fault with steps takes the next.
    Step {
        fault: usize,
        step: u64,
    },
    Image {
        fault: usize,
    },
    Misdeed {
        host: usize,
    },
    /// An operator hears that something was discarded.
    Discarded {
        host: usize,
        life: u64,
    },
    /// A process does what is due of what it was told.
    Errand {
        host: usize,
        life: u64,
    },
}

pub(super) struct Queued {
    pub at_us: u64,
    order: u64,
    pub next: Next,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.order).cmp(&(other.at_us, other.order))
    }
}

pub struct World {
    pub(super) plan: Plan,
    pub(super) limits: Limits,
    pub(super) now_us: u64,
    queue: BinaryHeap<Reverse<Queued>>,
    order: u64,
    pub(super) hosts: Vec<Host>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) ledger: Ledger,
    pub(super) promises: Promises,
    pub(super) chance: Chance,
    pub(super) trace: Trace,
    pub(super) probes: Probes,
    pub(super) faults: super::inject::Faults,
    pub(super) tally: Tally,
    pub(super) spread: Spread,
    pub(super) alarms: Vec<(usize, Alarm)>,
    pub(super) locks: Locks,
    pub(super) decisions: Decisions,
    pub(super) tasks: Tasks,
    pub(super) placements: Placements,
    pub(super) fences: Fences,
    pub(super) vms: Vms,
    pub(super) evictions: Evictions,
    /// What is told while a node is being asked, before it is known under which id.
    pub(super) early: Option<Vec<(AskId, Outcome)>>,
    /// The first thing that an oracle found.
    pub finding: Option<Finding>,
    pub(super) hooks: HookChoice,
}

/// What is planted in every node of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct HookChoice {
    pub mutant: Option<crate::engine::hooks::Mutant>,
    /// Of 256, how often rare paths are taken.
    pub rare: u8,
}

/// Counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    pub events: u64,
    pub messages: u64,
    pub bytes: u64,
    /// Of `bytes`, those of batches and of cells of catch-up; the rest is control.
    pub payload_bytes: u64,
    pub writes: u64,
    pub faults: u64,
    pub starts: u64,
    pub full_paths: u64,
    pub rebuilt: u64,
    pub conflict_checks: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now_us", &self.now_us).field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}

impl World {
    pub fn new(plan: Plan, hooks: HookChoice, trace: Trace) -> Self {
        let (seed, scenario) = (plan.seed, &plan.scenario);
        let mut world = Self {
            limits: plan.limits(),
            now_us: 0,
            queue: BinaryHeap::new(),
            order: 0,
            hosts: Vec::new(),
            network: Network::new(scenario.network.clone(), seed),
            clients: Clients::new(&scenario.workload, scenario.cluster.nodes, seed),
            ledger: Ledger::default(),
            promises: Promises::default(),
            chance: Chance::of(seed, "world"),
            trace,
            probes: Probes::default(),
            faults: super::inject::Faults::default(),
            tally: Tally::default(),
            spread: Spread::default(),
            alarms: Vec::new(),
            locks: Locks::new(seed),
            decisions: Decisions::new(seed),
            tasks: Tasks::new(seed),
            placements: Placements::new(seed),
            fences: Fences::new(seed),
            vms: Vms::new(seed),
            evictions: Evictions::new(seed),
            early: None,
            finding: None,
            hooks,
            plan,
        };
        world.begin();
        world
    }

    /// Hosts that are there from the start, the first client, and every fault that was planned.
    fn begin(&mut self) {
        let cluster = self.plan.scenario.cluster.clone();
        for host in 0..cluster.nodes {
            let index = self.add_host();
            let skew = self.chance.between(0, 2 * cluster.skew_ms) as i64 - cluster.skew_ms as i64;
            self.hosts[index].clock.offset_ms = skew;
            let start_us = if host == 0 { 0 } else { self.chance.below(cluster.start_within.us() + 1) };
            self.at(start_us, Next::Start { host });
            self.at(start_us + 1_000, Next::Dial { host });
        }
        if cluster.acquainted {
            self.acquaint();
        }
        self.at(self.plan.scenario.workload.from.us(), Next::Client);
        self.plan_faults();
    }

    pub(super) fn at(&mut self, at_us: u64, next: Next) {
        self.order += 1;
        self.queue.push(Reverse(Queued { at_us: at_us.max(self.now_us), order: self.order, next }));
    }

    pub(super) fn after(&mut self, us: u64, next: Next) {
        self.at(self.now_us + us, next);
    }

    /// Goes on until `until_us`, or until an oracle finds something.
    pub fn run_until(&mut self, until_us: u64) {
        while self.finding.is_none()
            && self.queue.peek().is_some_and(|Reverse(queued)| queued.at_us <= until_us)
            && let Some(Reverse(queued)) = self.queue.pop()
        {
            self.now_us = queued.at_us;
            self.tally.events += 1;
            self.happen(queued.next);
        }
        if self.finding.is_none() {
            self.now_us = self.now_us.max(until_us);
        }
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Start { host } => self.start(host),
            Next::Tick { host, life, at_us } => {
                let due = |host: &Host| host.life == life && host.process.as_ref().is_some_and(|p| p.tick_us == at_us);
                if due(&self.hosts[host]) {
                    self.input(host, Input::Tick);
                }
            }
            Next::Arrive { link, to, bytes } => self.arrive(link, to, &bytes),
            Next::Disk { host, life, ticket, works } => self.disk_done(host, life, ticket, works),
            Next::Dial { host } => self.dial(host),
            Next::Opened { a, b } => self.opened(a, b),
            Next::Notice { link, host } => self.notice(link, host),
            Next::Closed { link, host } => self.close_end(link, host, "the other end closed"),
            Next::Client => self.client_acts(),
            Next::Fault { fault } => self.fault_begins(fault),
            Next::Heal { fault } => self.fault_ends(fault),
            Next::Step { fault, step } => self.fault_steps(fault, step),
            Next::Image { fault } => self.take_image(fault),
            Next::Misdeed { host } => self.misdeed(host),
            Next::Discarded { host, life } => self.restart_discarded(host, life),
            Next::Errand { host, life } if self.hosts[host].life == life => self.tend_host(host),
            Next::Errand { .. } => {}
        }
    }

    pub(super) fn now(&self, host: usize) -> Now {
        self.hosts[host].clock.now(self.now_us)
    }

    /// Hands an input to a node, carries out what comes of it, and lets the oracles look.
    pub(super) fn input(&mut self, host: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if self.hosts[host].process.is_none() {
                return;
            }
            if self.hosts[host].paused {
                self.hosts[host].waiting.push(input);
                continue;
            }
            if matches!(input, Input::Tick) {
                self.take_in_released(host);
                self.come_back(host);
                self.write_own(host);
            }
            self.handle(host, input);
            self.carry_out(host, &mut inputs);
            self.check(host);
        }
    }

    /// A node may be told what a quorum decided, and write it down. Like all that a node writes, that is taken down.
    fn handle(&mut self, host: usize, input: Input) {
        let now = self.now(host);
        let asked = match &input {
            Input::Message { bytes, .. } if !Message::is_ballot(bytes) => Vec::new(),
            Input::Message { .. } | Input::Persisted { .. } | Input::Tick => documents_asked(self, host),
            _ => Vec::new(),
        };
        if !asked.is_empty() {
            return self.locally(host, &asked, |replica, now| replica.handle(input, now));
        }
        if let Some(process) = &mut self.hosts[host].process {
            process.replica.handle(input, now);
        }
    }

    /// What others wrote is no part of what this node writes on the same tick.
    fn take_in_released(&mut self, host: usize) {
        let now = self.now(host);
        if let Some(process) = &mut self.hosts[host].process {
            process.replica.take_in_released(now);
        }
    }

    /// A tick may write something by itself. Like all that a node writes, it is taken down.
    fn write_own(&mut self, host: usize) {
        let now = self.now(host);
        let Some(replica) = self.hosts[host].replica() else { return };
        for own in replica.own_writes(now) {
            self.probes.reached_if(Probe::Anchored, own == OwnWrite::Anchor);
            self.probes.reached_if(Probe::SettledByVote, matches!(own, OwnWrite::Vote(_)));
            let documents = self.hosts[host].replica().map(|replica| replica.documents_of(&own)).unwrap_or_default();
            self.locally(host, &documents, |replica, now| replica.write_own(&own, now));
        }
    }

    /// After anything that a replica did: its outputs, in order.
    pub(super) fn carry_out(&mut self, host: usize, inputs: &mut VecDeque<Input>) {
        let Some(process) = &mut self.hosts[host].process else { return };
        let outputs: Vec<Output> = process.replica.drain().collect();
        for output in outputs {
            match output {
                Output::Send { link, message, .. } => self.send(host, link.0, message),
                Output::Disconnect { link, reason, .. } => {
                    self.probes.reached(Probe::MalformedPeer);
                    self.close_end(link.0, host, &reason);
                }
                Output::Persist { ticket, rows } => {
                    self.hosts[host].disk.start(ticket, rows);
                    self.disk_starts(host, ticket);
                }
                Output::Schedule { at_us } => self.schedule(host, at_us),
                Output::Verify(claim) => {
                    if !self.hosts[host].keys.verify(&claim.replica.node, &claim.hash, &claim.signature) {
                        inputs.push_back(Input::Forged { replica: claim.replica, seq: claim.seq });
                    }
                }
                Output::Emit(event) => self.on_event(host, event),
            }
        }
    }

    fn schedule(&mut self, host: usize, at_us: u64) {
        // The replica's clock started a second before this world's.
        let at_us = at_us.saturating_sub(1_000_000).max(self.now_us);
        let life = self.hosts[host].life;
        if let Some(process) = &mut self.hosts[host].process {
            process.tick_us = at_us;
            self.at(at_us, Next::Tick { host, life, at_us });
        }
    }

    fn on_event(&mut self, host: usize, event: Event) {
        self.trace.step(self.now_us, host, What::Event, xxh3_64(format!("{event:?}").as_bytes()));
        self.note(host, None, What::Event, || format!("{event:?}"));
        let probes = &mut self.probes;
        match event {
            Event::Changed(names) => {
                let Some(process) = &mut self.hosts[host].process else { return };
                process.shadow.follow_slots(&process.replica, &mut self.ledger);
                let verdict = process.graveyard.check(&process.replica, process.shadow.slots(), &names);
                // Where a fork left no majority, what was removed may be back, and an alarm says so.
                if !process.shadow.is_blind() {
                    self.judge(host, verdict);
                }
                self.check_conflicts(host, &names);
                self.check_capacity(host, &names);
                self.check_departures(host, &names);
            }
            Event::Durable { .. } | Event::Reported { .. } => self.acknowledge(host),
            Event::StorageFailed { .. } => probes.reached(Probe::StorageFailed),
            Event::StorageRecovered => probes.reached(Probe::StorageRecovered),
            Event::Partitioned(members) => probes.reached_if(Probe::Partitioned, !members.is_empty()),
            Event::CaughtUp { complete, .. } => {
                probes.reached_if(Probe::FullPath, complete);
                self.tally.full_paths += u64::from(complete);
                let Some(process) = &mut self.hosts[host].process else { return };
                let verdict = process.shadow.check(&process.replica, &mut self.ledger);
                let entries = !self.is_large();
                let Some(process) = &self.hosts[host].process else { return };
                let verdict = verdict.and_then(|()| match entries {
                    true => process.shadow.check_entries(&process.replica, &self.ledger),
                    false => Ok(()),
                });
                self.judge(host, verdict);
            }
            Event::Alarm(alarm) => {
                let discarded = matches!(alarm, Alarm::Discarded { .. });
                self.on_alarm(host, alarm);
                if discarded {
                    let life = self.hosts[host].life;
                    self.after(RESTART_US, Next::Discarded { host, life });
                }
            }
            Event::ConflictDetected(conflict) => {
                probes.reached(Probe::Conflict);
                probes.reached_if(Probe::ConflictAcross, !conflict.others.is_empty());
                probes.reached_if(Probe::ConflictWaits, conflict.status.waits());
                let by_advisor = conflict.resolver == Some(Resolver::Advisor.name()) && !conflict.status.waits();
                probes.reached_if(Probe::ByAdvisor, by_advisor);
                probes.reached_if(Probe::ByPolicy, conflict.policy.is_some());
            }
            Event::ConflictTurned(_) => probes.reached(Probe::ConflictTurned),
            Event::ConflictEscalated(_) => probes.reached(Probe::Escalated),
            Event::ConflictEnded(_) => probes.reached(Probe::ConflictEnded),
            Event::Asked { id, outcome } => self.told(host, id, outcome),
            Event::VotersChanged(voters) => {
                probes.reached_if(Probe::VotersChanged, voters.next.is_none());
                let verdict = self.locks.history.voters(&voters);
                self.judge(host, verdict);
            }
            Event::RegisterChanged(_) => probes.reached(Probe::LockHandedOn),
            Event::Liveness { .. } | Event::Neighbours | Event::ClusterKnown(_) | Event::Refused { .. } => {}
        }
    }

    fn check_departures(&mut self, host: usize, names: &[Arc<str>]) {
        let Some(replica) = self.hosts[host].replica() else { return };
        let verdict = self.evictions.history.check(replica, names);
        self.judge(host, verdict);
    }

    fn check_conflicts(&mut self, host: usize, names: &[Arc<str>]) {
        let Some(process) = &self.hosts[host].process else { return };
        let ledger = process.replica.conflicts().ledger();
        self.probes.reached_if(Probe::Overruled, !ledger.is_empty());
        let mut verdict = conflicts::check_ledger(&process.replica, names);
        // Judging every open conflict anew costs more than the step that changed one.
        self.tally.conflict_checks += 1;
        if self.tally.conflict_checks.is_multiple_of(32) {
            verdict = verdict.and_then(|()| conflicts::check_open(&process.replica));
        }
        self.judge(host, verdict);
    }

    fn on_alarm(&mut self, host: usize, alarm: Alarm) {
        self.note(host, None, What::Alarm, || alarm.to_string());
        let probe = match &alarm {
            Alarm::RolledBack { .. } => Some(Probe::RolledBack),
            Alarm::SetBack { .. } => Some(Probe::SetBack),
            Alarm::Cloned { .. } => Some(Probe::Cloned),
            Alarm::Forked { .. } => Some(Probe::Forked),
            Alarm::Forged { .. } => Some(Probe::Forged),
            Alarm::Skewed { .. } => Some(Probe::Skewed),
            Alarm::Fenced { .. } => Some(Probe::Fenced),
            Alarm::Discarded { .. } => Some(Probe::Discarded),
            Alarm::Diverged { .. } => Some(Probe::Diverged),
            Alarm::Mended { by_majority: true, .. } => Some(Probe::MendedByMajority),
            Alarm::Mended { by_majority: false, .. } => Some(Probe::MendedByUnion),
        };
        probe.into_iter().for_each(|probe| self.probes.reached(probe));
        if matches!(alarm, Alarm::Diverged { .. }) && !self.faults.divergence_is_planned() {
            self.judge(host, super::oracle::wrong("agreement", format!("silent divergence: {alarm}")));
        }
        self.alarms.push((host, alarm));
    }

    /// So many nodes that looking at every entry and every bound at every step would be most of the work: digests are
    /// still compared at every step, entries at starts and at the end.
    pub(super) fn is_large(&self) -> bool {
        self.hosts.len() > LARGE
    }

    /// Lets the oracles look at a node.
    pub(super) fn check(&mut self, host: usize) {
        let large = self.is_large();
        let Some(process) = &mut self.hosts[host].process else { return };
        let mut verdict = process.shadow.check(&process.replica, &mut self.ledger);
        if verdict.is_ok() && (!large || self.tally.events.is_multiple_of(16)) {
            verdict = bounds::check(&process.replica, &self.limits);
        }
        verdict = verdict.and_then(|()| self.fences.reach.check(&process.replica));
        let arrived = process.shadow.take_arrived();
        let undisturbed = !self.hosts[host].disturbed;
        let written = arrived.iter().filter_map(|dot| self.ledger.op(*dot)).filter(|op| op.ends && op.at_us > 0);
        written.filter(|_| undisturbed).for_each(|op| self.spread.delivered(self.now_us - op.at_us));
        self.judge(host, verdict);
    }

    pub(super) fn judge(&mut self, host: usize, verdict: Verdict) {
        let Err(wrong) = verdict else { return };
        if self.finding.is_none() {
            self.note(host, None, What::Finding, || format!("{}: {}", wrong.oracle, wrong.text));
            self.finding = Some(Finding { oracle: wrong.oracle, node: host, at_us: self.now_us, text: wrong.text });
        }
    }

    pub(super) fn note(&mut self, node: usize, peer: Option<usize>, what: What, text: impl FnOnce() -> String) {
        let at_us = self.now_us;
        self.trace.keep(|| Entry { at_us, node, peer, what, text: text() });
    }
}
