//! Faults as they happen: begun at their time, ended at theirs or when everything is healed.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::{Ailment, Image};
use super::duration::Millis;
use super::fault::{Fault, FaultKind, Misdeed};
use super::host::Fork;
use super::probe::Probe;
use super::trace::What;
use super::world::{Next, World};
use crate::engine::Input;

/// Which faults last just now, and what they did.
#[derive(Debug, Default)]
pub struct Faults {
    lasting: BTreeSet<usize>,
    /// Directed cuts that a fault made.
    cuts: BTreeMap<usize, Vec<(usize, usize)>>,
    /// Images of disks, for the restores to come.
    images: BTreeMap<usize, Image>,
    healed: bool,
    diverged: bool,
}

impl Faults {
    /// A hostile member told different nodes different things: they will differ until someone mends it.
    pub fn divergence_is_planned(&self) -> bool {
        self.diverged
    }
}

impl World {
    pub(super) fn plan_faults(&mut self) {
        let faults = self.plan.scenario.faults.clone();
        for (index, fault) in faults.iter().enumerate() {
            self.at(fault.at.us(), Next::Fault { fault: index });
            if matches!(fault.kind, FaultKind::Restore | FaultKind::Rewind) {
                let age_us = fault.ms.unwrap_or(0).unsigned_abs() * 1_000;
                self.at(fault.at.us().saturating_sub(age_us), Next::Image { fault: index });
            }
            if let Some(heal) = fault.heal {
                self.at(heal.us(), Next::Heal { fault: index });
            }
        }
    }

    fn fault(&self, index: usize) -> Fault {
        self.plan.scenario.faults[index].clone()
    }

    pub(super) fn take_image(&mut self, fault: usize) {
        let node = self.fault(fault).node.unwrap_or(0);
        if let Some(host) = self.hosts.get(node) {
            self.faults.images.insert(fault, host.disk.image());
        }
    }

    pub(super) fn fault_begins(&mut self, index: usize) {
        let fault = self.fault(index);
        let node = fault.node.unwrap_or(0);
        if self.faults.healed || node >= self.hosts.len() {
            return;
        }
        self.tally.faults += 1;
        self.trace.step(self.now_us, node, What::Fault, index as u64);
        self.note(node, fault.peer, What::Fault, || fault.to_string());
        self.faults.lasting.insert(index);
        let everyone: Vec<usize> = (0..self.hosts.len()).collect();
        use FaultKind::*;
        match fault.kind {
            Partition | Split => {
                let groups = fault.groups.clone().unwrap_or_default();
                self.part(index, &groups);
            }
            Isolate => {
                let others = everyone.iter().copied().filter(|other| *other != node).collect();
                self.part(index, &[vec![node], others]);
            }
            OneWay => {
                let to: Vec<usize> = fault.peer.map_or(everyone, |peer| vec![peer]);
                for to in to.into_iter().filter(|to| *to != node) {
                    self.cut_for(index, node, to);
                }
            }
            Ring => {
                let n = self.hosts.len();
                let next_to = |a: usize, b: usize| (a + 1) % n == b || (b + 1) % n == a;
                self.cut_where(index, |a, b| !next_to(a, b));
            }
            Bridge => {
                let half = self.hosts.len() / 2;
                self.cut_where(index, |a, b| a != node && b != node && (a < half) != (b < half));
            }
            Flap | Swizzle => self.after(0, Next::Step { fault: index, step: 0 }),
            Loss => self.network.weather.loss = fault.p.unwrap_or(0.1),
            Slow => self.network.weather.factor = fault.factor.unwrap_or(10.0),
            Crash | Kill => {
                self.stop(node, fault.kind == Crash);
                if fault.heal.is_none() {
                    self.after(1_000, Next::Start { host: node });
                }
            }
            Pause => {
                self.hosts[node].disturbed = true;
                self.hosts[node].paused = self.hosts[node].process.is_some();
            }
            DiskFull => self.hosts[node].disk.ailment = Ailment::Full,
            DiskError => self.hosts[node].disk.ailment = Ailment::Failing,
            DiskSlow => self.hosts[node].disk.ailment = Ailment::Slow,
            BitFlip | Misdirect | LostWrite | Restore | Rewind => self.tamper_with_disk(index, &fault, node),
            Clone => self.clone_host(node),
            Skew | Jump => {
                let ms = fault.ms.unwrap_or(0);
                self.hosts[node].clock.shift(ms);
            }
            Join => {
                let host = self.add_host();
                self.after(0, Next::Start { host });
                self.after(1_000, Next::Dial { host });
            }
            Leave => self.leave(node),
            Evict => {
                let others = everyone.iter().copied().filter(|other| *other != node).collect();
                self.part(index, &[vec![node], others]);
                self.after(0, Next::Step { fault: index, step: 0 });
            }
            Upgrade => {
                self.stop(node, false);
                self.hosts[node].speaks_next = true;
                self.after(50_000, Next::Start { host: node });
            }
            Hostile => self.turn_hostile(node, fault.does.unwrap_or(Misdeed::Forge)),
        }
    }

    pub(super) fn fault_ends(&mut self, index: usize) {
        if !self.faults.lasting.remove(&index) {
            return;
        }
        let fault = self.fault(index);
        let node = fault.node.unwrap_or(0);
        self.trace.step(self.now_us, node, What::Healed, index as u64);
        self.note(node, None, What::Healed, || fault.to_string());
        for (from, to) in self.faults.cuts.remove(&index).unwrap_or_default() {
            self.mend(from, to);
        }
        use FaultKind::*;
        match fault.kind {
            Loss => self.network.weather.loss = 0.0,
            Slow => self.network.weather.factor = 1.0,
            Crash | Kill => self.start(node),
            Pause => self.resume(node),
            DiskFull | DiskError | DiskSlow => self.hosts[node].disk.ailment = Ailment::None,
            Skew => self.hosts[node].clock.shift(-fault.ms.unwrap_or(0)),
            Upgrade => {
                self.stop(node, false);
                self.hosts[node].speaks_next = false;
                self.start(node);
            }
            Clone => {
                // Someone noticed, and stops the copy.
                let copies: Vec<usize> =
                    (0..self.hosts.len()).filter(|h| self.hosts[*h].copy_of == Some(node)).collect();
                for copy in copies {
                    self.stop(copy, false);
                }
            }
            Hostile => {
                self.hosts[node].misdeed = None;
                let ahead_ms = self.hosts[node].clock.offset_ms;
                self.hosts[node].clock.shift(-ahead_ms);
            }
            _ => {}
        }
    }

    /// The second act: whatever still lasts is over, and whoever is to stay is there.
    pub(super) fn heal_all(&mut self) {
        self.faults.healed = true;
        let lasting: Vec<usize> = self.faults.lasting.iter().copied().collect();
        lasting.into_iter().for_each(|fault| self.fault_ends(fault));
        for host in 0..self.hosts.len() {
            self.hosts[host].disk.ailment = Ailment::None;
            self.resume(host);
            if self.hosts[host].stays {
                self.start(host);
            }
        }
    }

    fn cut_for(&mut self, fault: usize, from: usize, to: usize) {
        self.faults.cuts.entry(fault).or_default().push((from, to));
        self.cut(from, to);
    }

    /// Cuts both ways wherever `apart` says so of two hosts, the lower first.
    fn cut_where(&mut self, fault: usize, apart: impl Fn(usize, usize) -> bool) {
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                if apart(a, b) {
                    self.cut_for(fault, a, b);
                    self.cut_for(fault, b, a);
                }
            }
        }
    }

    /// Hosts in no group reach everyone.
    fn part(&mut self, fault: usize, groups: &[Vec<usize>]) {
        let group = |host: usize| groups.iter().position(|group| group.contains(&host));
        self.cut_where(fault, |a, b| matches!((group(a), group(b)), (Some(x), Some(y)) if x != y));
    }

    /// A flapping or swizzled network takes its next step, or somebody tries again to evict who is cut off.
    pub(super) fn fault_steps(&mut self, index: usize, step: u64) {
        if !self.faults.lasting.contains(&index) {
            return;
        }
        let fault = self.fault(index);
        if fault.kind == FaultKind::Evict {
            return self.evict_step(index, fault.node.unwrap_or(0), step);
        }
        let nodes = self.hosts.len();
        let mended = self.faults.cuts.remove(&index).unwrap_or_default();
        match fault.kind {
            FaultKind::Flap => {
                if mended.is_empty() {
                    let node = fault.node.unwrap_or(0);
                    (0..nodes).filter(|other| *other != node).for_each(|other| {
                        self.cut_for(index, node, other);
                        self.cut_for(index, other, node);
                    });
                }
                mended.into_iter().for_each(|(from, to)| self.mend(from, to));
                self.after(fault.period.unwrap_or(Millis(500)).us(), Next::Step { fault: index, step: step + 1 });
            }
            _ => {
                // Nodes go one by one, in turn, and come back in another order: every third step one returns.
                let mut cuts = mended;
                let node = (step as usize * 2 + index) % nodes;
                if step % 3 == 2 && !cuts.is_empty() {
                    let back = self.chance.index(cuts.len());
                    let (a, b) = cuts[back];
                    cuts.retain(|(from, to)| {
                        let stays = !matches!((*from, *to), pair if pair == (a, b) || pair == (b, a));
                        if !stays {
                            self.network.weather.mend(*from, *to);
                        }
                        stays
                    });
                } else {
                    for other in (0..nodes).filter(|other| *other != node) {
                        for pair in [(node, other), (other, node)] {
                            self.cut(pair.0, pair.1);
                            cuts.push(pair);
                        }
                    }
                }
                self.faults.cuts.insert(index, cuts);
                self.after(400_000, Next::Step { fault: index, step: step + 1 });
            }
        }
    }

    fn resume(&mut self, host: usize) {
        if std::mem::take(&mut self.hosts[host].paused) {
            self.guests_go_on(host);
            let waiting = std::mem::take(&mut self.hosts[host].waiting);
            waiting.into_iter().for_each(|input| self.input(host, input));
            self.input(host, Input::Tick);
            self.tend_host(host);
        }
    }

    /// The disk is not what it was: power is cut, something happens to it, and the node starts again.
    fn tamper_with_disk(&mut self, index: usize, fault: &Fault, node: usize) {
        self.stop(node, true);
        let (disk, chance) = (&mut self.hosts[node].disk, &mut self.chance);
        match fault.kind {
            FaultKind::BitFlip => disk.flip_bit(chance),
            FaultKind::Misdirect => disk.misdirect(chance),
            FaultKind::LostWrite => disk.lose_write(chance),
            FaultKind::Rewind => disk.rewind(self.faults.images.remove(&index).unwrap_or_default()),
            _ => disk.restore(self.faults.images.remove(&index).unwrap_or_default()),
        }
        self.after(50_000, Next::Start { host: node });
    }

    /// A copy of a running node's disk is started beside it.
    fn clone_host(&mut self, node: usize) {
        let copy = self.add_host();
        let (image, original) = (self.hosts[node].disk.image(), &self.hosts[node]);
        let (id, name, keys, clock) = (original.node, original.name.clone(), original.keys.clone(), original.clock);
        let host = &mut self.hosts[copy];
        (host.node, host.name, host.keys, host.clock) = (id, name, keys, clock);
        (host.copy_of, host.stays) = (Some(node), false);
        host.disk.restore(image);
        self.after(10_000, Next::Start { host: copy });
        self.after(11_000, Next::Dial { host: copy });
    }

    /// The node says farewell, and stops once others can have heard it.
    fn leave(&mut self, node: usize) {
        self.evictions.history.leaves(self.hosts[node].node);
        let member = format!("members/{}", self.hosts[node].node);
        self.locally(node, &[member], |replica, now| {
            let _ = replica.announce_leaving(now);
        });
        self.hosts[node].stays = false;
        self.probes.reached(Probe::Left);
    }

    /// From now on what this member says is not to be trusted; what it wrote until now is.
    fn turn_hostile(&mut self, node: usize, does: Misdeed) {
        self.hosts[node].misdeed = Some(does);
        self.hosts[node].stays = false;
        if does == Misdeed::Future {
            self.hosts[node].clock.shift(10 * 365 * 86_400_000);
        }
        if does == Misdeed::Fork {
            self.faults.diverged = true;
            let head = self.hosts[node].replica().and_then(|replica| {
                let slot = replica.state().roster.slot(&replica.id())?;
                Some(replica.state().head(slot))
            });
            let (seq, head) = head.unwrap_or_default();
            self.hosts[node].fork = Some(Fork { seq, head, last: None });
        }
        self.after(0, Next::Misdeed { host: node });
    }
}
