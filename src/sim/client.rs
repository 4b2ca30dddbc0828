//! Clients: they write, wait for what they were promised, read back with their session, and wander between nodes.

use std::collections::VecDeque;

use super::chance::Chance;
use super::host::{Host, Waiting};
use super::oracle::counter::Sums;
use super::oracle::durability::DiskEpoch;
use super::oracle::ledger::{GlobalDot, entries};
use super::oracle::session::Session;
use super::oracle::{Verdict, wrong};
use super::probe::Probe;
use super::scenario::Workload;
use super::trace::What;
use super::workload::{COUNTER, Durability, Kind, Transaction, Workshop};
use super::world::{Next, World};
use crate::conflict::Conflict;
use crate::engine::write::WriteError;
use crate::engine::{Now, Replica};

#[derive(Debug)]
pub struct Clients {
    workshop: Workshop,
    pub sessions: Vec<Session>,
    pub sums: Sums,
    /// Conflicts that people settled, to be opened again.
    pub decided: Vec<Conflict>,
    chance: Chance,
    gap_us: f64,
    until_us: u64,
    read: f64,
}

impl Clients {
    pub fn new(workload: &Workload, nodes: usize, seed: u64) -> Self {
        let session = |client: usize| Session::at(client % nodes);
        Self {
            workshop: Workshop::new(workload, seed),
            sessions: (0..workload.clients).map(session).collect(),
            sums: Sums::default(),
            decided: Vec::new(),
            chance: Chance::of(seed, "clients"),
            gap_us: if workload.rate > 0.0 { 1e6 / workload.rate } else { f64::INFINITY },
            until_us: workload.until.us(),
            read: workload.read,
        }
    }
}

impl World {
    /// One client does one thing; the next does so a little later.
    pub(super) fn client_acts(&mut self) {
        let clients = &mut self.clients;
        if self.now_us >= clients.until_us || !clients.gap_us.is_finite() {
            return;
        }
        if self.tally.writes == 0 {
            self.spread_begins();
        }
        let clients = &mut self.clients;
        let gap_us = clients.chance.gap(clients.gap_us).max(1);
        let client = clients.chance.index(clients.sessions.len());
        let transaction = clients.workshop.transaction(client);
        let (reads, moves) = (clients.chance.happens(clients.read), clients.chance.happens(0.1));
        let target = clients.chance.index(self.hosts.len());
        self.after(gap_us, Next::Client);
        if moves {
            self.clients.sessions[client].home = target;
        }
        let home = self.clients.sessions[client].home;
        if self.hosts[home].process.is_none() || self.hosts[home].paused || self.hosts[home].misdeed.is_some() {
            return;
        }
        let Some(mut transaction) = transaction else { return };
        match transaction.asks {
            Some(Kind::Lock) => self.locker_acts(home, client),
            Some(Kind::Task) => self.worker_acts(home, client, &mut transaction),
            Some(Kind::Fence) => self.fencer_acts(home, &mut transaction),
            Some(Kind::Place) => self.placer_acts(home, &mut transaction),
            Some(Kind::Vm) => self.operator_acts(home, &mut transaction),
            Some(_) => self.decider_acts(home, client, &mut transaction),
            None => {}
        }
        let deed = transaction.deed.and_then(|deed| self.plan_deed(home, deed));
        transaction.writes.extend(deed.iter().map(|deed| deed.write.clone()));
        let documents: Vec<String> =
            transaction.writes.iter().map(|(address, _)| address.as_str().to_owned()).collect();
        let written = self.transact(home, client, transaction, &documents);
        if let Some(deed) = deed.filter(|_| written) {
            self.check_deed(home, deed);
        }
        if reads && self.finding.is_none() {
            self.read_back(home, client, moves, &documents);
        }
    }

    /// Gives whether anything was written: a write may be refused.
    fn transact(&mut self, home: usize, client: usize, transaction: Transaction, documents: &[String]) -> bool {
        let prompt = matches!(transaction.durability, Durability::Replicas(_));
        let mut written = None;
        self.locally(home, documents, |replica, now| written = Some(replica.write(&transaction.writes, prompt, now)));
        let seq = match written {
            Some(Ok(written)) => written.seq,
            Some(Err(WriteError::Clock(error))) => {
                self.probes.reached(Probe::ClockBehind);
                if !self.hosts[home].clock.went_back {
                    self.judge(home, wrong("clock", format!("a clock that never went back is told to: {error}")));
                }
                None
            }
            Some(Err(WriteError::Fenced { .. })) => {
                self.probes.reached(Probe::FencedWriteRefused);
                None
            }
            // The document is not there, the counter is at its bound, the value is written once: no harm done.
            _ => None,
        };
        let Some(seq) = seq else { return false };
        self.tally.writes += 1;
        let Some(process) = &mut self.hosts[home].process else { return true };
        let dot = (self.ledger.number(&process.replica.id()), seq);
        self.clients.sessions[client].wrote(dot);
        for (document, by) in &transaction.increments {
            self.clients.sums.incremented(document, dot, *by);
        }
        let disks = match transaction.durability {
            Durability::Memory => return true,
            Durability::Local => 1,
            Durability::Replicas(n) => n,
        };
        process.waiting.push(Waiting { seq, disks, client });
        self.acknowledge(home);
        true
    }

    /// Runs something that writes at a node, and takes down what it wrote.
    pub(super) fn locally(&mut self, host: usize, documents: &[String], act: impl FnOnce(&mut Replica, Now)) {
        let now = self.now(host);
        let Some(process) = &mut self.hosts[host].process else { return };
        let (before, from) = (entries(&process.replica, documents), process.replica.own_seq());
        act(&mut process.replica, now);
        let at_us = if self.now_us < self.plan.scenario.workload.from.us() { 0 } else { self.now_us };
        let mut verdict = self.ledger.record(&process.replica, from, &before, documents, at_us);
        if verdict.is_ok() {
            verdict = process.shadow.check(&process.replica, &mut self.ledger);
            // What a node wrote itself did not come to it.
            process.shadow.take_arrived();
        }
        let me = self.ledger.number(&process.replica.id());
        let digest = self.ledger.digest_from(me, from);
        self.trace.step(self.now_us, host, What::Write, digest);
        self.note(host, None, What::Write, || documents.join(", "));
        self.judge(host, verdict);
        let mut inputs = VecDeque::new();
        self.carry_out(host, &mut inputs);
        inputs.into_iter().for_each(|input| self.input(host, input));
    }

    /// Tells clients whose writes reached what they wait for.
    pub(super) fn acknowledge(&mut self, host: usize) {
        self.placements_durable(host);
        let Some(process) = &mut self.hosts[host].process else { return };
        let me = self.ledger.number(&process.replica.id());
        let replica = &process.replica;
        let own = replica.state().roster.slot(&replica.id());
        let here = own.map_or(0, |own| replica.durable().get(own));
        let is_done = |waiting: &Waiting| match waiting.disks {
            1 => here >= waiting.seq,
            disks => replica.replicated(waiting.seq) >= disks,
        };
        let done: Vec<Waiting> = process.waiting.iter().copied().filter(is_done).collect();
        if done.is_empty() {
            return;
        }
        process.waiting.retain(|waiting| !is_done(waiting));
        for waiting in done {
            let dot: GlobalDot = (me, waiting.seq);
            self.trace.step(self.now_us, host, What::Acknowledged, waiting.seq);
            self.note(host, None, What::Acknowledged, || format!("op {} on {} disks", waiting.seq, waiting.disks));
            if waiting.disks == 1 {
                self.promises.local(dot, self.disk_epoch(host));
            } else {
                let verdict = self.check_copies(dot, waiting.disks);
                self.judge(host, verdict);
                let disks = self.disks_that_reported(host, waiting.seq);
                self.promises.wide(dot, disks);
            }
        }
    }

    /// An acknowledgement of `replicas:N` tells the truth: at least so many nodes have the op on their disks. What the
    /// disk of a node that is down holds is not looked at.
    fn check_copies(&self, dot: GlobalDot, disks: usize) -> Verdict {
        let has = |host: &&Host| match &host.process {
            None => true,
            Some(process) => {
                let slot = process.shadow.slots().slot(dot.0);
                slot.is_some_and(|slot| process.replica.durable().get(slot) >= dot.1)
            }
        };
        let copies = self.hosts.iter().filter(|host| host.copy_of.is_none()).filter(has).count();
        // A disk that was tampered with may have reported before, and a member that lies reports anything.
        let tampered = self.hosts.iter().filter(|host| host.disk.epoch > 0 || !host.stays).count();
        if copies + tampered >= disks {
            return Ok(());
        }
        let name = self.ledger.name(dot);
        wrong("durability", format!("{name} was acknowledged as being on {disks} disks, and is on {copies}"))
    }

    /// The disks on which the node says an own op to be.
    fn disks_that_reported(&self, host: usize, seq: u64) -> Vec<DiskEpoch> {
        let Some(replica) = self.hosts[host].replica() else { return Vec::new() };
        let Some(own) = replica.state().roster.slot(&replica.id()) else { return Vec::new() };
        let mut disks = Vec::new();
        for (index, other) in self.hosts.iter().enumerate() {
            let here = index == host && replica.durable().get(own) >= seq;
            // What a disk reported before it was tampered with, or what its twin reported, binds nobody.
            let twin = self.hosts.iter().any(|third| third.copy_of == Some(index)) || other.copy_of.is_some();
            let there = index != host
                && other.disk.epoch == 0
                && other.stays
                && !twin
                && replica.reported_of_us(&other.node) >= seq;
            if here || there {
                disks.push(self.disk_epoch(index));
            }
        }
        disks
    }

    pub(super) fn disk_epoch(&self, host: usize) -> DiskEpoch {
        (host, self.hosts[host].disk.epoch)
    }

    fn read_back(&mut self, home: usize, client: usize, moved: bool, documents: &[String]) {
        let Some(process) = &self.hosts[home].process else { return };
        let session = &mut self.clients.sessions[client];
        if !session.is_covered_by(&process.shadow) {
            self.probes.reached(Probe::SessionWaits);
            return;
        }
        self.probes.reached_if(Probe::SessionMoved, moved);
        let mut verdict = Ok(());
        for document in documents {
            verdict = verdict.and_then(|()| session.read(document, &process.replica, &process.shadow, &self.ledger));
            let sums = &self.clients.sums;
            verdict = verdict.and_then(|()| sums.check(document, COUNTER, &process.replica, &process.shadow));
            let view = process.replica.view(document);
            self.probes.reached_if(Probe::Siblings, view.is_some_and(|view| !view.siblings.is_empty()));
        }
        self.judge(home, verdict);
    }
}
