//! Clients that place things on workers within the rights that their nodes hold, ask a quorum for more, give back, and
//! reclaim the rights of replicas that are gone: by the very functions that a node uses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::Map;

use super::chance::Chance;
use super::oracle::capacity::{History, Key};
use super::oracle::durability::DiskEpoch;
use super::probe::Probe;
use super::trace::What;
use super::workload::Transaction;
use super::world::World;
use crate::clock::ReplicaId;
use crate::crdt::Value;
use crate::document::decided::published;
use crate::document::plan::{Edit, Write};
use crate::document::{Address, exists};
use crate::domain::capacity::{Account, Amounts, COLLECTION, Capacity, CapacityError, ESCROW, Escrow, Fit};
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{AskError, AskId, FieldsChange, FieldsOutcome, Outcome, Told};
use crate::engine::detector::Liveness;
use crate::engine::hooks::Mutant;

/// Workers that clients place on.
const WORKERS: usize = 2;
/// What each has, so little that it is used up.
const LIMIT: u64 = 100;
const RESOURCE: &str = "memory_mb";
const THINGS: usize = 12;
/// Largest thing.
const LARGEST: u64 = 30;
/// Who shares a worker, for the fair part that a grant gives.
const SHARERS: usize = 5;

/// A process of a host, and a worker: what one account is about.
type Place = (usize, u64, usize);

#[derive(Debug)]
pub struct Placements {
    chance: Chance,
    accounts: BTreeMap<Place, Account>,
    asked: BTreeMap<(usize, u64, AskId), Asked>,
    /// One asks one thing at a time.
    busy: BTreeSet<Place>,
    /// A quorum said what is decided; what comes next is done at the next turn.
    due: VecDeque<(Asked, u64, Option<Vec<u8>>)>,
    /// Placements that are not on their disk yet: the op of each.
    writing: Vec<(usize, u64, u64, Key)>,
    requests: u128,
    pub history: History,
}

#[derive(Clone, Debug)]
struct Asked {
    place: Place,
    errand: Errand,
    /// It was told what is decided, and had the next value decided.
    is_change: bool,
}

#[derive(Clone, Debug)]
enum Errand {
    Limits,
    Grant { thing: String, amounts: Amounts },
    GiveBack { from: u64, keep: Amounts, seq: u64 },
    Settle { replica: String },
    Forget,
}

fn name(worker: usize) -> String {
    format!("{COLLECTION}/w{worker}")
}

fn amount(amount: u64) -> Amounts {
    [(RESOURCE, amount)].into_iter().collect()
}

fn escrow_of(bytes: Option<&[u8]>) -> Result<Escrow, CapacityError> {
    let json = bytes.map(|bytes| Value::decode(bytes).map(Value::into_json)).transpose();
    Escrow::of(json.map_err(|_| CapacityError::Unreadable)?.as_ref())
}

impl Placements {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "placements"),
            accounts: BTreeMap::new(),
            asked: BTreeMap::new(),
            busy: BTreeSet::new(),
            due: VecDeque::new(),
            writing: Vec::new(),
            requests: 0,
            history: History::default(),
        }
    }
}

impl World {
    /// A client wants something of a worker; or creates it, where its node does not have it.
    pub(super) fn placer_acts(&mut self, home: usize, transaction: &mut Transaction) {
        self.go_on();
        let worker = self.placements.chance.index(WORKERS);
        let Some((read, _)) = self.capacity_at(home, worker) else {
            let address = Address::parse(&name(worker)).ok();
            transaction.writes.extend(address.map(|address| (address, Write::Put(Map::new()))));
            return;
        };
        let place = (home, self.hosts[home].life, worker);
        if read.escrow.limits.is_nothing() {
            return self.ask_escrow(place, Errand::Limits);
        }
        self.tend(place, &read);
        let thing = format!("t/{}", self.placements.chance.index(THINGS));
        match self.placements.chance.below(20) {
            0..13 => {
                let amounts = amount(self.placements.chance.between(1, LARGEST));
                self.place(place, &thing, &amounts);
            }
            13..18 => self.release(place, &thing, &read),
            18 => self.give_back(place),
            _ => self.reclaim_silent(place, &read),
        }
    }

    /// A worker's capacity as a node reads it, and the number of the decision that it read.
    fn capacity_at(&self, host: usize, worker: usize) -> Option<(Capacity, u64)> {
        let (replica, name) = (self.hosts[host].replica()?, name(worker));
        let document = replica.state().document(&name).filter(|document| exists(document))?;
        let view = replica.show(&name, document)?;
        let version = published(document, &replica.state().roster, ESCROW).map_or(0, |decided| decided.version);
        let read = Capacity::of(&format!("w{worker}"), &view.fields, false).ok()?;
        Some((read, version))
    }

    /// What the node knows of its right, as of now.
    fn account(&mut self, place: Place) -> Option<&mut Account> {
        let (read, version) = self.capacity_at(place.0, place.2)?;
        let me = self.hosts[place.0].replica()?.id().to_string();
        let unheeded = self.planted(place.0, Mutant::RightNotHeeded);
        let fresh = || if unheeded { Account::new(me).unheeded() } else { Account::new(me) };
        let account = self.placements.accounts.entry(place).or_insert_with(fresh);
        account.hear(version, &read.escrow);
        account.miss(&read);
        Some(account)
    }

    fn place(&mut self, place: Place, thing: &str, amounts: &Amounts) {
        let Some(account) = self.account(place) else { return };
        match account.fit(thing, amounts) {
            Ok(Fit::Lacks(_)) => {
                let errand = Errand::Grant { thing: thing.to_owned(), amounts: amounts.clone() };
                self.ask_escrow(place, errand);
            }
            Ok(Fit::Fits) => {
                let edits = account.place(thing, amounts);
                let Some(seq) = self.edit(place, edits) else { return };
                let Some(account) = self.placements.accounts.get_mut(&place) else { return };
                let n = account.note_placed(thing, amounts);
                let key = (place.2, account.replica().to_owned(), n);
                let disk = self.disk_epoch(place.0);
                self.placements.history.wrote(key.clone(), thing, amounts, disk);
                self.placements.writing.push((place.0, place.1, seq, key));
                self.probes.reached(Probe::Placed);
                self.placements_durable(place.0);
            }
            Ok(Fit::There) | Err(_) => {}
        }
    }

    /// Writes to a worker's document; gives the last op.
    fn edit(&mut self, (host, _, worker): Place, edits: Vec<Edit>) -> Option<u64> {
        let address = Address::parse(&name(worker)).ok()?;
        let mut written = None;
        self.locally(host, &[name(worker)], |replica, now| {
            written = replica.write(&[(address, Write::Edits(edits))], false, now).ok();
        });
        written?.seq
    }

    fn release(&mut self, place: Place, thing: &str, read: &Capacity) {
        let me = self.hosts[place.0].replica().map(|replica| replica.id().to_string()).unwrap_or_default();
        self.placements.history.released(place.2, thing);
        if let Some(edits) = self.account(place).and_then(|account| account.release(thing, &read.freed))
            && self.edit(place, edits).is_some()
            && let Some(account) = self.placements.accounts.get_mut(&place)
        {
            account.note_released(thing);
        }
        // A node without a quorum leaves word, and so does one that has not asked.
        let words = read.release(thing, &me, false).edits;
        if !words.is_empty() {
            self.edit(place, words);
        }
    }

    fn give_back(&mut self, place: Place) {
        if self.placements.busy.contains(&place) {
            return;
        }
        let seq = self.hosts[place.0].replica().map_or(0, crate::engine::Replica::own_seq);
        let Some(account) = self.account(place) else { return };
        if account.lower().is_nothing() {
            return account.raise_again();
        }
        let errand = Errand::GiveBack { from: account.from(), keep: account.right().clone(), seq };
        self.ask_escrow(place, errand);
    }

    /// What a node does by itself.
    fn tend(&mut self, place: Place, read: &Capacity) {
        let Some(me) = self.hosts[place.0].replica().map(crate::engine::Replica::id) else { return };
        let due: Vec<String> = match self.account(place) {
            Some(account) => account.to_drop(&read.freed).map(str::to_owned).collect(),
            None => return,
        };
        for thing in due {
            self.release(place, &thing, read);
        }
        let rights = read.escrow.rights.keys();
        let mut rights = rights.filter_map(|replica| replica.parse::<ReplicaId>().ok());
        if let Some(gone) = rights.find(|replica| replica.node == me.node && *replica != me) {
            self.ask_escrow(place, Errand::Settle { replica: gone.to_string() });
        } else if !read.settled_though_freed().is_empty() || !read.idle_words().is_empty() {
            self.ask_escrow(place, Errand::Forget);
        }
    }

    /// An operator gives up a replica that the node does not hear. It may live and place on.
    fn reclaim_silent(&mut self, place: Place, read: &Capacity) {
        let Some(here) = self.hosts[place.0].replica() else { return };
        let rights = read.escrow.rights.keys().filter_map(|replica| replica.parse::<ReplicaId>().ok());
        let silent: Vec<ReplicaId> = rights.filter(|replica| here.liveness(&replica.node) != Liveness::Alive).collect();
        if let Some(gone) = self.placements.chance.pick(&silent) {
            let errand = Errand::Settle { replica: gone.to_string() };
            self.ask_escrow(place, errand);
        }
    }

    /// Asks what is decided; what is to be decided next follows from that.
    fn ask_escrow(&mut self, place: Place, errand: Errand) {
        if !self.placements.busy.insert(place) {
            return;
        }
        self.ask(Asked { place, errand, is_change: false }, FieldsChange::read(RequestId(0)));
    }

    fn ask(&mut self, asked: Asked, change: FieldsChange) {
        let (host, life, worker) = asked.place;
        self.note(host, None, What::Write, || format!("asks about {}: {:?}", name(worker), asked.errand));
        let told = self.ask_at(host, &name(worker), |replica, now| replica.ask_fields(&name(worker), change, now));
        let Some((id, early)) = told else { return };
        self.placements.asked.insert((host, life, id), asked);
        if let Some(outcome) = early {
            self.placement_told(host, id, &outcome);
        }
    }

    /// A node tells what came of something that it was asked; gives whether that was about a worker.
    pub(super) fn placement_told(&mut self, host: usize, id: AskId, outcome: &Outcome) -> bool {
        let life = self.hosts[host].life;
        let Some(asked) = self.placements.asked.remove(&(host, life, id)) else { return false };
        match outcome {
            Ok(Told::Fields(verdict)) => {
                let bytes = verdict.guard.fields.get(ESCROW);
                let (version, worker) = (verdict.guard.fields.version, asked.place.2);
                let Ok(escrow) = escrow_of(bytes) else { return true };
                let checked = self.placements.history.told(worker, version, &escrow);
                self.judge(host, checked);
                if asked.is_change {
                    self.changed(&asked, &verdict.outcome, version, &escrow);
                } else {
                    self.placements.due.push_back((asked, version, bytes.map(<[u8]>::to_vec)));
                }
            }
            Ok(_) => {}
            Err(AskError::Unknown) if asked.is_change => self.done(&asked, false),
            Err(error) => {
                let is_told = matches!(error, AskError::NoQuorum { .. } | AskError::NoVoters);
                self.probes.reached_if(Probe::NoQuorum, is_told);
                self.done(&asked, true);
            }
        }
        true
    }

    fn changed(&mut self, asked: &Asked, outcome: &FieldsOutcome, version: u64, escrow: &Escrow) {
        if *outcome != FieldsOutcome::Done {
            return self.done(asked, true);
        }
        match &asked.errand {
            Errand::Grant { .. } => self.probes.reached(Probe::RightGranted),
            Errand::GiveBack { .. } => self.probes.reached(Probe::RightGivenBack),
            Errand::Settle { replica } => {
                self.probes.reached(Probe::RightReclaimed);
                self.probes.reached_if(Probe::PlacementSettled, escrow.settled.contains_key(replica));
            }
            Errand::Limits | Errand::Forget => {}
        }
        if let (Errand::Grant { .. } | Errand::GiveBack { .. }, Some(account)) =
            (&asked.errand, self.placements.accounts.get_mut(&asked.place))
        {
            account.learn(version, escrow);
        }
        self.done(asked, false);
    }

    /// `undone`: surely nothing was decided.
    fn done(&mut self, asked: &Asked, undone: bool) {
        self.placements.busy.remove(&asked.place);
        if let (Errand::GiveBack { .. }, true, Some(account)) =
            (&asked.errand, undone, self.placements.accounts.get_mut(&asked.place))
        {
            account.raise_again();
        }
    }

    /// Who was told what is decided has the next value decided.
    fn go_on(&mut self) {
        let due = std::mem::take(&mut self.placements.due);
        for (asked, version, bytes) in due {
            let (host, life, _) = asked.place;
            if self.hosts[host].life != life || self.hosts[host].process.is_none() || self.hosts[host].paused {
                self.done(&asked, true);
                continue;
            }
            let Ok(escrow) = escrow_of(bytes.as_deref()) else { continue };
            match self.next(&asked, version, &escrow) {
                Some(next) if next != escrow => {
                    self.placements.requests += 1;
                    let untested = self.planted(host, Mutant::GrantNotTested);
                    let change = FieldsChange {
                        tests: if untested { Vec::new() } else { vec![(ESCROW.to_owned(), bytes)] },
                        set: vec![(ESCROW.to_owned(), Some(Value::encode_json(&next.to_json())))],
                        ..FieldsChange::read(RequestId(self.placements.requests))
                    };
                    self.ask(Asked { is_change: true, ..asked }, change);
                }
                _ => self.done(&asked, true),
            }
        }
    }

    fn next(&mut self, asked: &Asked, version: u64, escrow: &Escrow) -> Option<Escrow> {
        let (host, _, worker) = asked.place;
        let (mut read, _) = self.capacity_at(host, worker)?;
        read.escrow = escrow.clone();
        match &asked.errand {
            Errand::Limits => escrow.limits.is_nothing().then(|| escrow.set_limits(&amount(LIMIT)).ok())?,
            Errand::Grant { thing, amounts } => {
                let account = self.account(asked.place)?;
                account.learn(version, escrow);
                let Ok(Fit::Lacks(needed)) = account.fit(thing, amounts) else { return None };
                let unspent = read.unspent_by_others(account.replica());
                let granted = escrow.grant(account.replica(), account.from(), &needed, SHARERS, &unspent);
                self.probes.reached_if(Probe::NoRoom, matches!(granted, Err(CapacityError::NoRoom { .. })));
                granted.ok()
            }
            Errand::GiveBack { from, keep, seq } => {
                let replica = self.hosts[host].replica()?;
                let own = replica.state().roster.slot(&replica.id())?;
                // What was released is on this disk by then.
                let is_durable = replica.durable().get(own) >= *seq;
                is_durable.then(|| escrow.give_back(&replica.id().to_string(), *from, keep))
            }
            Errand::Settle { replica } => {
                let knows = self.disk_epoch(host);
                self.placements.history.settles(worker, replica, knows);
                let forgets = self.planted(host, Mutant::RightNotSettled);
                let left = if forgets { BTreeMap::new() } else { read.left_by(replica) };
                escrow.settle(replica, left).ok()
            }
            Errand::Forget => {
                let freed = read.settled_though_freed();
                let words = read.idle_words();
                if !words.is_empty() {
                    self.edit(asked.place, words);
                }
                Some(freed.iter().fold(escrow.clone(), |escrow, (gone, thing)| escrow.forget(gone, thing)))
            }
        }
    }

    /// Clients are told that their things are placed once the disk has it.
    pub(super) fn placements_durable(&mut self, host: usize) {
        let Some(replica) = self.hosts[host].replica().filter(|_| !self.placements.writing.is_empty()) else { return };
        let here = replica.state().roster.slot(&replica.id()).map_or(0, |own| replica.durable().get(own));
        let life = self.hosts[host].life;
        let mut done = Vec::new();
        self.placements.writing.retain(|(at, lived, seq, key)| {
            let is_done = *at == host && *lived == life && *seq <= here;
            if is_done {
                done.push(key.clone());
            }
            !is_done && (*at != host || *lived == life)
        });
        for key in done {
            let verdict = self.placements.history.acknowledged(&key);
            self.judge(host, verdict);
        }
    }

    /// What a node reads of a worker never exceeds what that has.
    pub(super) fn check_capacity(&mut self, host: usize, names: &[Arc<str>]) {
        for worker in (0..WORKERS).filter(|worker| names.iter().any(|changed| **changed == *name(*worker))) {
            let Some((read, _)) = self.capacity_at(host, worker) else { continue };
            let (_, void) = read.placements();
            let is_void = void.iter().any(|placed| !read.escrow.rights.contains_key(&placed.by));
            self.probes.reached_if(Probe::PlacementVoid, is_void);
            self.judge(host, History::check_read(&read));
        }
    }

    pub(super) fn check_placements_at_end(&mut self, stayers: &[usize]) {
        let disks: Vec<DiskEpoch> = stayers.iter().map(|host| self.disk_epoch(*host)).collect();
        for (host, worker) in stayers.iter().flat_map(|host| (0..WORKERS).map(move |worker| (*host, worker))) {
            let Some((read, _)) = self.capacity_at(host, worker) else { continue };
            let verdict = self.placements.history.check_end(worker, &read, &disks);
            self.judge(host, verdict);
        }
    }
}
