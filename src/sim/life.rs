//! Starting and stopping nodes, and what their disks answer.

use std::collections::VecDeque;

use super::chance::Chance;
use super::disk::Ailment;
use super::host::{Host, Process};
use super::oracle::removal::Graveyard;
use super::oracle::state::Shadow;
use super::probe::Probe;
use super::trace::What;
use super::world::{Next, World};
use crate::clock::{ClusterId, Incarnation, NodeId};
use crate::document::Address;
use crate::document::plan::Write;
use crate::engine::hooks::{Hooks, Mutant};
use crate::engine::{Config, Input, Loaded, Replica, Ticket};

/// The first host founds it, once: a host that forgot would found another, under an id of its own.
const CLUSTER: ClusterId = ClusterId([7; 16]);

impl World {
    pub(super) fn add_host(&mut self) -> usize {
        let index = self.hosts.len();
        let mut node = [0; 32];
        let mut chance = Chance::of(self.plan.seed, &format!("node {index}"));
        node.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&chance.bits().to_le_bytes()));
        self.hosts.push(Host::new(index, NodeId(node)));
        index
    }

    /// The process of a node starts on what its disk holds.
    pub(super) fn start(&mut self, host: usize) {
        if self.hosts[host].process.is_some() {
            return;
        }
        let loaded = match self.hosts[host].disk.load() {
            Ok(loaded) => match loaded.discarded(&self.hosts[host].node) {
                None => loaded,
                Some(reason) => {
                    self.note(host, None, What::Disk, || format!("set aside: {reason}"));
                    let mut loaded = self.set_aside(host);
                    loaded.salvaged.clear();
                    loaded
                }
            },
            Err(damage) => {
                self.probes.reached(Probe::StoreDamaged);
                self.note(host, None, What::Disk, || format!("damaged, set aside: {damage}"));
                self.set_aside(host)
            }
        };
        let node = self.hosts[host].node;
        // Who was evicted joins again.
        if loaded.has_left(&node) && !self.hosts[host].stays {
            return;
        }
        self.hosts[host].life += 1;
        self.tally.starts += 1;
        let now = self.now(host);
        let config = self.config(host, &loaded);
        let keys = self.hosts[host].keys.clone();
        let replica = Replica::new(config, keys, loaded, now);
        self.ledger.number(&replica.id());
        let shadow = match Shadow::start(&replica, &mut self.ledger) {
            Ok(shadow) => shadow,
            Err(wrong) => {
                self.judge(host, Err(wrong));
                return;
            }
        };
        let verdict = self.promises.check_start(self.disk_epoch(host), &shadow, &self.ledger);
        self.judge(host, verdict);
        let id = replica.id();
        let graveyard = Graveyard::default();
        self.hosts[host].process = Some(Process { replica, shadow, graveyard, tick_us: 0, waiting: Vec::new() });
        self.trace.step(self.now_us, host, What::Start, u64::from(id.incarnation.0[0]));
        self.note(host, None, What::Start, || format!("starts as {id:?}"));
        self.begin_work(host);
    }

    /// The first words of a process: it is here; the very first one says what the documents' types are.
    fn begin_work(&mut self, host: usize) {
        let mut inputs = VecDeque::new();
        self.carry_out(host, &mut inputs);
        inputs.into_iter().for_each(|input| self.input(host, input));
        self.announce(host);
        if host == 0
            && self.hosts[0].life == 1
            && let Some((address, write)) = super::workload::schema()
        {
            self.write(0, &[(address, write)]);
        }
    }

    pub(super) fn announce(&mut self, host: usize) {
        let member = format!("members/{}", self.hosts[host].node);
        self.locally(host, &[member], |replica, now| {
            let _ = replica.announce_self(&[], "", now);
        });
    }

    pub(super) fn config(&mut self, host: usize, loaded: &Loaded) -> Config {
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&self.chance.bits().to_le_bytes());
        incarnation[8..].copy_from_slice(&self.chance.bits().to_le_bytes());
        let planted = self.hooks.mutant;
        let node = self.hosts[host].node;
        // Lives count stops, too.
        let founds = host == 0 && self.hosts[host].life <= 1;
        if planted == Some(Mutant::IncarnationReused)
            && let Some((_, last)) = loaded.state.roster.iter().filter(|(_, id)| id.node == node).last()
        {
            incarnation = last.incarnation.0;
        }
        Config {
            name: self.hosts[host].name.clone(),
            incarnation: Incarnation(incarnation),
            found: founds.then_some(CLUSTER),
            joins: !founds,
            rebuilt: std::mem::take(&mut self.hosts[host].was_rebuilt),
            medium: self.hosts[host].disk.medium,
            max_clock_skew_ms: 500,
            region: self.network.region(host).to_owned(),
            software: "simulated".into(),
            limits: self.limits,
            hooks: self.hooks(),
            customs: crate::conflict::Customs::default(),
        }
    }

    #[cfg(any(test, feature = "mutants"))]
    fn hooks(&mut self) -> Hooks {
        Hooks::new(self.hooks.mutant, self.hooks.rare, self.chance.bits())
    }

    #[cfg(not(any(test, feature = "mutants")))]
    fn hooks(&mut self) -> Hooks {
        // Drawn all the same, so that a seed means the same with and without hooks.
        self.chance.bits();
        Hooks::default()
    }

    fn set_aside(&mut self, host: usize) -> Loaded {
        let mut loaded = self.hosts[host].disk.quarantine();
        self.hosts[host].was_rebuilt = true;
        self.tally.rebuilt += 1;
        self.probes.reached(Probe::Rebuilt);
        self.probes.reached_if(Probe::Salvaged, !loaded.salvaged.is_empty());
        // The founder of a cluster that forgot which it was must not found another.
        loaded.cluster = loaded.cluster.or((host == 0).then_some(CLUSTER));
        loaded
    }

    /// The process is gone, with whatever it had in memory. `power`: what was under way to the disk may be, too.
    pub(super) fn stop(&mut self, host: usize, power: bool) {
        if self.hosts[host].process.is_none() {
            return;
        }
        self.collect_probes(host);
        let waiting = self.hosts[host].process.take().map_or(0, |process| process.waiting.len());
        self.promises.unknown += waiting as u64;
        self.probes.reached_if(Probe::AckUnknown, waiting > 0);
        self.hosts[host].life += 1;
        self.hosts[host].disturbed = true;
        self.hosts[host].paused = false;
        self.hosts[host].waiting.clear();
        self.vms.host_stops(host);
        self.trace.step(self.now_us, host, What::Stop, u64::from(power));
        self.note(host, None, What::Stop, || (if power { "power cut" } else { "killed" }).to_owned());
        if let Some(ticket) = self.hosts[host].disk.in_flight.as_ref().map(|(ticket, _)| *ticket) {
            self.probes.reached_if(Probe::CrashInFlight, power);
            if !power || self.chance.happens(0.5) {
                self.probes.reached_if(Probe::InFlightKept, power);
                self.hosts[host].disk.finish(ticket);
            } else {
                self.hosts[host].disk.fail(ticket);
            }
        }
        let links: Vec<(u64, usize)> = self
            .network
            .links
            .iter()
            .filter(|(_, link)| link.ends.contains(&host))
            .map(|(id, link)| (*id, link.other(host)))
            .collect();
        for (link, other) in links {
            // A kernel outlives a process and says goodbye for it; nothing does after a power cut.
            let gone = self.network.close(link, host);
            let notice_us = if power { self.network.notice_us() } else { self.network.delay_us(host, other) };
            if !gone {
                self.after(notice_us, Next::Notice { link, host: other });
            }
        }
    }

    pub(super) fn disk_starts(&mut self, host: usize, ticket: Ticket) {
        let [low, high] = self.plan.scenario.disk.sync_ms;
        let us = ((low + self.chance.unit() * (high - low)) * 1_000.0) as u64;
        let (us, works) = match self.hosts[host].disk.ailment {
            Ailment::None => (us, true),
            Ailment::Full => (us, false),
            Ailment::Failing => (us, self.chance.happens(0.5)),
            Ailment::Slow => (us * 50, true),
        };
        let life = self.hosts[host].life;
        self.after(us, Next::Disk { host, life, ticket, works });
    }

    pub(super) fn disk_done(&mut self, host: usize, life: u64, ticket: Ticket, works: bool) {
        if self.hosts[host].life != life {
            return;
        }
        self.trace.step(self.now_us, host, What::Disk, ticket.0 ^ u64::from(works) << 63);
        self.note(host, None, What::Disk, || {
            format!("write {} {}", ticket.0, if works { "is durable" } else { "failed" })
        });
        let disk = &mut self.hosts[host].disk;
        if works {
            if disk.finish(ticket) {
                self.input(host, Input::Persisted { ticket });
            }
        } else if disk.fail(ticket) {
            self.input(host, Input::PersistFailed { ticket, reason: "no space left on device".into() });
        }
    }

    pub(super) fn write(&mut self, host: usize, writes: &[(Address, Write)]) {
        let documents: Vec<String> = writes.iter().map(|(address, _)| address.as_str().to_owned()).collect();
        self.locally(host, &documents, |replica, now| {
            let _ = replica.write(writes, false, now);
        });
    }

    /// What a peer or a client never sees: the counts of a process, read before it goes.
    pub(super) fn collect_probes(&mut self, host: usize) {
        let Some(process) = &self.hosts[host].process else { return };
        let tally = process.replica.tally();
        for (probe, count) in [
            (Probe::SessionBroke, tally.pulls_broken),
            (Probe::BatchParked, tally.batches_parked),
            (Probe::BatchDropped, tally.batches_dropped),
            (Probe::KeptAside, tally.batches_aside),
            (Probe::BatchDuplicate, tally.batches_duplicate),
            (Probe::WindowClosed, tally.windows_closed),
            (Probe::Relayed, tally.batches_relayed),
            (Probe::Compared, tally.compared),
            (Probe::Checked, tally.checks),
            (Probe::FloorRaised, tally.floors_raised),
            (Probe::FloorForced, tally.floors_forced),
        ] {
            self.probes.reached_if(probe, count > 0);
        }
    }
}
