//! A host that owns a VM: it renews the lease, stops in time, and what runs in the VM writes to the VM's disk, which checks the
//! token.

use std::time::Duration;

use super::probe::Probe;
use super::vms::{Asked, Errand, Place, name, worker};
use super::world::{Next, World};
use crate::domain::vms::{Vm, started, stopped};
use crate::engine::ballot::lock::{LockChange, LockVerdict};
use crate::engine::ballot::{Duty, Lease, Outcome, Told};
use crate::engine::hooks::Mutant;

/// A host that runs a VM.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub token: u64,
    lease: Lease<Duration>,
    renewing: bool,
    /// When it looks again.
    wakes_us: u64,
}

impl World {
    pub(super) fn start_vm(&mut self, asked: &Asked, token: u64, length: Duration) {
        let (place, now) = (asked.place, self.clock(asked.place.0));
        let owner = Owner { token, lease: Lease::begun(asked.at, length), renewing: false, wakes_us: 0 };
        if owner.lease.duty(now) == Duty::Stop {
            // The answer came so late that it has to stop before it began.
            return self.ask_vm(place, Errand::Free { token }, &Vm::free(&worker(place.0), token));
        }
        let last = self.vms.history.last(&name(place.1));
        let taken = last.is_some_and(|(_, token)| !self.vms.freed.contains(&(place.1, token)));
        self.probes.reached(Probe::VmRuns);
        self.probes.reached_if(Probe::VmTakenOver, taken);
        self.vms.owners.insert(place, owner);
        self.check_owner(place);
        if let Some(vm) = self.vm_at(place) {
            self.edit_vm(place, started(&vm, &worker(place.0)));
        }
        self.guest_writes(place);
        if let Some(run) = &mut self.vms.closing {
            run.insert(place.1);
        }
    }

    pub(super) fn follow_renewal(&mut self, asked: &Asked, token: u64, outcome: &Outcome) {
        let (place, now) = (asked.place, self.clock(asked.place.0));
        let Some(owner) = self.vms.owners.get_mut(&place).filter(|owner| owner.token == token) else { return };
        owner.renewing = false;
        match outcome {
            Ok(Told::Lock(LockVerdict::Is(_))) => {
                owner.lease.renewed(asked.at);
                // Who stood still may hear that so late that the lease has ended: then it stops.
                if owner.lease.duty(now) != Duty::Stop {
                    self.probes.reached(Probe::VmRenewed);
                    self.check_owner(place);
                }
            }
            Ok(_) => self.stop_vm(place),
            Err(_) => owner.lease.not_renewed(now),
        }
    }

    /// Nobody else runs it, nor has a lease on it that has not ended.
    fn check_owner(&mut self, place: Place) {
        let Some(token) = self.vms.owners.get(&place).map(|owner| owner.token) else { return };
        let counts =
            |(host, _): &Place, owner: &Owner| !self.hosts[*host].paused || self.clock(*host) < owner.lease.ends_at();
        let others = self.vms.owners.iter().filter(|(other, _)| other.1 == place.1 && **other != place);
        let others: Vec<(usize, u64)> =
            others.filter(|(other, owner)| counts(other, owner)).map(|(other, owner)| (other.0, owner.token)).collect();
        let verdict = self.vms.history.runs(&name(place.1), place.0, token, &others);
        self.judge(place.0, verdict);
    }

    /// An owner does what is due by its own clock.
    pub(super) fn tend_vm(&mut self, place: Place) {
        let (host, now) = (place.0, self.clock(place.0));
        if self.vms.closing.is_some() {
            return self.stop_vm(place);
        }
        let goes_on = self.planted(host, Mutant::OwnerGoesOn);
        let Some(owner) = self.vms.owners.get_mut(&place) else { return };
        match owner.lease.duty(now) {
            Duty::Stop if goes_on => return,
            Duty::Stop => {
                self.probes.reached(Probe::VmStopped);
                return self.stop_vm(place);
            }
            Duty::Renew if !owner.renewing => {
                owner.renewing = true;
                let token = owner.token;
                self.renew_vm(place, token);
            }
            _ => {}
        }
        let Some(owner) = self.vms.owners.get_mut(&place) else { return };
        let due = if owner.renewing { owner.lease.stop_at() } else { owner.lease.due() };
        // A whole one: nothing is due before.
        let at_us = self.now_us + due.saturating_sub(now).as_micros() as u64 + 1;
        if owner.wakes_us <= self.now_us || at_us < owner.wakes_us {
            owner.wakes_us = at_us;
            self.at(at_us, Next::Errand { host, life: self.hosts[host].life });
        }
    }

    /// The host stops a VM, says so, and lets another run it; nobody may hear the last.
    pub(super) fn stop_vm(&mut self, place: Place) {
        let Some(owner) = self.vms.owners.remove(&place) else { return };
        if let Some(vm) = self.vm_at(place) {
            self.edit_vm(place, stopped(&vm, &worker(place.0)));
        }
        self.ask_vm(place, Errand::Free { token: owner.token }, &Vm::free(&worker(place.0), owner.token));
    }

    /// What runs in a VM writes to its disk.
    pub(super) fn guest_writes(&mut self, place: Place) {
        let Some(token) = self.vms.owners.get(&place).map(|owner| owner.token) else { return };
        match self.vms.history.write(&name(place.1), place.0, token) {
            Ok(refused) => self.probes.reached_if(Probe::VmWriteRefused, refused),
            Err(wrong) => self.judge(place.0, Err(wrong)),
        }
    }

    /// A process stood still and goes on: what runs in its VMs may write before anybody has looked at a clock.
    pub(super) fn guests_go_on(&mut self, host: usize) {
        let owned: Vec<Place> = self.vms.owners.range((host, 0)..(host + 1, 0)).map(|(place, _)| *place).collect();
        for place in owned {
            if self.vms.chance.happens(0.5) {
                self.guest_writes(place);
            }
        }
    }

    fn renew_vm(&mut self, place: Place, token: u64) {
        let (host, vm) = place;
        let (at, renewal) = (self.clock(host), LockChange::Renew { token });
        let told = self.ask_at(host, &name(vm), |replica, now| replica.ask_lock(&name(vm), renewal, now));
        let life = self.hosts[host].life;
        self.await_told(Asked { place, life, errand: Errand::Renew { token }, at, asked: None }, told);
    }
}
