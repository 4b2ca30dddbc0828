//! Operators that make, run, stop and migrate VMs, by the very functions that a node uses. A host and its VMs stand still and die
//! with its process; others take over once the lease ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::chance::Chance;
use super::oracle::vms::History;
use super::oracle::{decisions, wrong};
use super::owners::Owner;
use super::probe::Probe;
use super::trace::What;
use super::workload::Transaction;
use super::world::{Next, World};
use crate::document::Address;
use crate::document::plan::{Edit, Write};
use crate::domain::vms::{COLLECTION, Power, Vm, VmSpec};
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{AskError, AskId, Decision, FieldsOutcome, Outcome, Take, Told};

/// VMs of one run.
const VMS_MAX: usize = 4;
/// Once everything is healed, each VM can be run within so long, µs: leases of one and a half second, and asking.
const END_US: u64 = 60_000_000;
/// A host, and a VM.
pub(super) type Place = (usize, usize);

#[derive(Debug)]
pub struct Vms {
    pub(super) chance: Chance,
    made: usize,
    pub(super) owners: BTreeMap<Place, Owner>,
    /// A host asks one thing about a VM at a time, but for that a renewal does not wait.
    busy: BTreeSet<Place>,
    /// By host, its life, and what the node calls it.
    asked: BTreeMap<(usize, u64, AskId), Asked>,
    /// What nodes were told and hosts have not acted upon yet.
    told: VecDeque<(Asked, Outcome)>,
    /// Tokens under which a VM was given back.
    pub(super) freed: BTreeSet<(usize, u64)>,
    requests: u128,
    /// Once all is healed: whoever has a VM gives it back, and which were run since.
    pub(super) closing: Option<BTreeSet<usize>>,
    pub history: History,
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub place: Place,
    pub life: u64,
    pub errand: Errand,
    /// On the host's own clock, before it asked.
    pub at: Duration,
    /// `None`: it is about the lock alone.
    pub asked: Option<decisions::Asked>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Errand {
    Run { length: Duration, is_awaited: bool },
    Renew { token: u64 },
    Free { token: u64 },
    Migrate { token: u64 },
    Read,
}

pub(super) fn name(vm: usize) -> String {
    format!("{COLLECTION}/v{vm}")
}

pub(super) fn worker(host: usize) -> String {
    format!("w{host}")
}

impl Vms {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "vms"),
            made: 0,
            owners: BTreeMap::new(),
            busy: BTreeSet::new(),
            asked: BTreeMap::new(),
            told: VecDeque::new(),
            freed: BTreeSet::new(),
            requests: 0,
            closing: None,
            history: History::default(),
        }
    }

    /// A host's process is gone, and its VMs with it.
    pub fn host_stops(&mut self, host: usize) {
        self.owners.retain(|(at, _), _| *at != host);
        self.busy.retain(|(at, _)| *at != host);
        self.told.retain(|(asked, _)| asked.place.0 != host);
    }

    fn new_vm(&mut self) -> Option<(Address, Write)> {
        let spec = VmSpec { cpus: 1, memory_mb: 64, disks: [("root".to_owned(), 10)].into(), ..VmSpec::default() };
        let made = (Address::parse(&name(self.made)).ok()?, Write::Put(spec.fields().ok()?));
        self.made += 1;
        Some(made)
    }
}

impl World {
    /// Somebody makes a VM, or wants something of the host that they are at.
    pub(super) fn operator_acts(&mut self, home: usize, transaction: &mut Transaction) {
        let hosts = self.hosts.len();
        let vms = &mut self.vms;
        if vms.made == 0 || vms.made < VMS_MAX && vms.chance.happens(0.1) {
            transaction.writes.extend(vms.new_vm());
            return;
        }
        let place = (home, vms.chance.index(vms.made));
        let (draw, to) = (vms.chance.below(10), worker(vms.chance.index(hosts)));
        let Some(vm) = self.vm_at(place) else { return };
        let is_awaited = vm.migration.as_ref().map(|migration| migration.to == worker(home));
        match self.vms.owners.get(&place).map(|owner| owner.token) {
            Some(_) if draw < 4 => self.guest_writes(place),
            Some(_) if draw < 5 => self.stop_vm(place),
            Some(token) if draw < 6 => {
                let Ok(migration) = vm.migrate(&to) else { return };
                self.ask_vm(place, Errand::Migrate { token }, &migration.decision(token));
            }
            Some(_) => {
                let edits = vm.grow("root", vm.disks.get("root").copied().unwrap_or_default() + draw);
                self.edit_vm(place, edits.unwrap_or_default());
            }
            // Most leave a VM alone that is to go elsewhere.
            None if draw < 8 && (is_awaited != Some(false) || draw < 2) => self.run_vm(place, is_awaited == Some(true)),
            None => self.ask_vm(place, Errand::Read, &Decision::default()),
        }
    }

    pub(super) fn vm_at(&self, (host, vm): Place) -> Option<Vm> {
        let view = self.hosts[host].replica()?.view(&name(vm))?;
        Some(Vm::of(&name(vm), &view.fields, Vec::new()))
    }

    /// The host's own clock.
    pub(super) fn clock(&self, host: usize) -> Duration {
        Duration::from_micros(self.now(host).mono_us)
    }

    pub(super) fn edit_vm(&mut self, (host, vm): Place, edits: Vec<Edit>) {
        if let (Ok(address), false) = (Address::parse(&name(vm)), edits.is_empty()) {
            self.write(host, &[(address, Write::Edits(edits))]);
        }
    }

    fn run_vm(&mut self, place: Place, is_awaited: bool) {
        let length = Duration::from_millis(self.vms.chance.between(200, 1_500));
        self.vms.requests += 1;
        let take = Take { holder: worker(place.0), lease: length, request: RequestId(self.vms.requests) };
        self.ask_vm(place, Errand::Run { length, is_awaited }, &Vm::run(take));
    }

    /// Has a quorum decide about a VM.
    pub(super) fn ask_vm(&mut self, place: Place, errand: Errand, decision: &Decision) {
        let (host, vm) = place;
        self.vms.requests += 1;
        let request = RequestId(self.vms.requests);
        let Some(replica) = self.hosts[host].replica() else { return };
        let Ok(change) = decision.change(request, replica.schema(COLLECTION).0) else { return };
        if !self.vms.busy.insert(place) {
            return;
        }
        let (at, asked) = (self.clock(host), self.vms.history.decisions.asks(&name(vm), change.clone()));
        self.note(host, None, What::Write, || format!("w{host} has {} decided: {errand:?}", name(vm)));
        let told = self.ask_at(host, &name(vm), |replica, now| replica.ask_fields(&name(vm), change, now));
        self.await_told(Asked { place, life: self.hosts[host].life, errand, at, asked: Some(asked) }, told);
    }

    pub(super) fn await_told(&mut self, asked: Asked, told: Option<(AskId, Option<Outcome>)>) {
        let (host, life) = (asked.place.0, asked.life);
        let Some((id, early)) = told else { return };
        self.vms.asked.insert((host, life, id), asked);
        if let Some(outcome) = early {
            self.vm_told(host, id, &outcome);
        }
    }

    /// A node tells what came of something that it was asked; gives whether that was about a VM.
    pub(super) fn vm_told(&mut self, host: usize, id: AskId, outcome: &Outcome) -> bool {
        let life = self.hosts[host].life;
        let Some(asked) = self.vms.asked.remove(&(host, life, id)) else { return false };
        let vm = name(asked.place.1);
        let checked = match (outcome, &asked.asked) {
            (Ok(Told::Fields(verdict)), Some(asked)) => self.vms.history.decided(asked, verdict),
            (Ok(Told::Lock(verdict)), _) => self.vms.history.told_lock(&vm, verdict.lock()),
            _ => Ok(()),
        };
        self.judge(host, checked);
        match outcome {
            Err(AskError::NoQuorum { .. } | AskError::NoVoters) => self.probes.reached(Probe::NoQuorum),
            Err(AskError::Unknown) => self.probes.reached(Probe::Undecided),
            _ => {}
        }
        self.vms.told.push_back((asked, outcome.clone()));
        self.after(0, Next::Errand { host, life });
        true
    }

    /// What the hosts make of what they were told, and of the time.
    pub(super) fn tend_vms(&mut self, host: usize) {
        let told = std::mem::take(&mut self.vms.told);
        let (here, elsewhere): (VecDeque<_>, _) = told.into_iter().partition(|(asked, _)| asked.place.0 == host);
        self.vms.told = elsewhere;
        here.into_iter().for_each(|(asked, outcome)| self.follow_vm(&asked, outcome));
        let owned: Vec<Place> = self.vms.owners.range((host, 0)..(host + 1, 0)).map(|(place, _)| *place).collect();
        owned.into_iter().for_each(|place| self.tend_vm(place));
    }

    fn follow_vm(&mut self, asked: &Asked, outcome: Outcome) {
        let place = asked.place;
        let done = match &outcome {
            Ok(Told::Fields(verdict)) if verdict.outcome == FieldsOutcome::Done => Some(verdict.guard.lock.token),
            _ => None,
        };
        if let Errand::Renew { token } = asked.errand {
            return self.follow_renewal(asked, token, &outcome);
        }
        self.vms.busy.remove(&place);
        match (asked.errand, done) {
            (Errand::Run { length, is_awaited }, Some(token)) => {
                self.probes.reached_if(Probe::VmMigrated, is_awaited);
                self.start_vm(asked, token, length);
            }
            (Errand::Migrate { token }, Some(_))
                if self.vms.owners.get(&place).is_some_and(|owner| owner.token == token) =>
            {
                self.stop_vm(place);
            }
            (Errand::Free { token }, Some(_)) => _ = self.vms.freed.insert((place.1, token)),
            _ => {}
        }
    }

    /// Once everything is healed each VM can be run: none is lost, and none is held by who is gone.
    pub(super) fn run_all_vms(&mut self) {
        let stayers: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].stays).collect();
        let Some(home) = stayers.iter().copied().find(|host| self.hosts[*host].process.is_some()) else { return };
        if self.vms.made == 0 || !self.voters_stand(&stayers) {
            return;
        }
        let vms = (0..self.vms.made).filter_map(|vm| self.vm_at((home, vm)));
        let wrongly = vms.filter(|vm| !vm.running_on.is_empty() && vm.power == Power::Stopped);
        if let Some(vm) = { wrongly }.next() {
            let text = format!("{} runs on {:?}, and reads as stopped", vm.id, vm.running_on);
            return self.judge(home, wrong("vms", text));
        }
        self.vms.closing = Some(BTreeSet::new());
        (0..self.hosts.len()).for_each(|host| self.tend_host(host));
        let deadline_us = self.now_us + END_US;
        while self.finding.is_none() {
            let run = self.vms.closing.clone().unwrap_or_default();
            let waits = |vm: &usize| !run.contains(vm) && self.vm_at((home, *vm)).is_some();
            let left: Vec<usize> = (0..self.vms.made).filter(waits).collect();
            if left.is_empty() && self.vms.busy.is_empty() && self.vms.owners.is_empty() {
                break;
            }
            if self.now_us >= deadline_us {
                let text = format!("so long after everything was healed VMs cannot be run or given back: {left:?}");
                return self.judge(home, wrong("vms", text));
            }
            left.into_iter().for_each(|vm| self.run_vm((home, vm), false));
            self.run_until(self.now_us + 300_000);
            self.tend_host(home);
        }
        self.vms.history.decisions.is_complete = self.finding.is_none();
    }
}
