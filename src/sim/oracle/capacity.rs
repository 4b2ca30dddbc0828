//! Capacity: a quorum never allots more than a worker has; no node reads more as placed than the limits; what replicas have
//! placed and were told to be so is within their rights, all of them together; and it counts, unless it was released, or
//! reclaimed by somebody who did not know of it.

use std::collections::{BTreeMap, BTreeSet};

use super::durability::DiskEpoch;
use super::{Verdict, wrong};
use crate::domain::capacity::{Amounts, Capacity, Escrow};

/// The worker, the replica, and the number that it gave.
pub type Key = (usize, String, u64);

#[derive(Debug)]
struct Known {
    thing: String,
    amounts: Amounts,
    /// Where it was written.
    disk: DiskEpoch,
    acknowledged: bool,
    /// Somebody asked for that, or it was placed anew with another size.
    released: bool,
}

#[derive(Debug, Default)]
pub struct History {
    /// The last decision that anybody was told.
    decided: BTreeMap<usize, (u64, Escrow)>,
    placed: BTreeMap<Key, Known>,
    /// Who asked that a replica be reclaimed, by the disk that it knew things from.
    settlers: BTreeMap<(usize, String), BTreeSet<DiskEpoch>>,
}

impl History {
    pub fn told(&mut self, worker: usize, version: u64, escrow: &Escrow) -> Verdict {
        if let Some(resource) = escrow.allotted().beyond(&escrow.limits) {
            return wrong("capacity", format!("w{worker} has more {resource} allotted than it has: {escrow:?}"));
        }
        let known = self.decided.entry(worker).or_default();
        if *known == (version, escrow.clone()) || known.0 > version {
            return Ok(());
        }
        if known.0 == version && known.1 != Escrow::default() {
            return wrong("capacity", format!("two things were decided about w{worker} at version {version}"));
        }
        let (_, before) = std::mem::replace(known, (version, escrow.clone()));
        self.check_settled(worker, &before, escrow)?;
        self.check_sum(worker)
    }

    /// Whoever reclaims a right on the disk of who held it settles all that was acknowledged under it.
    fn check_settled(&self, worker: usize, before: &Escrow, after: &Escrow) -> Verdict {
        for (replica, right) in before.rights.iter().filter(|(replica, _)| !after.rights.contains_key(*replica)) {
            let Some(settlers) = self.settlers.get(&(worker, replica.clone())) else { continue };
            let under = self.placed.range((worker, replica.clone(), right.from)..=(worker, replica.clone(), u64::MAX));
            let due = under.filter(|(_, known)| known.acknowledged && !known.released);
            for (_, known) in due.filter(|(_, known)| settlers.iter().all(|knows| *knows == known.disk)) {
                let settled = after.settled.get(replica).and_then(|things| things.get(&known.thing));
                if settled.is_none_or(|settled| !known.amounts.fits(&settled.amounts)) {
                    let text = format!("{} of {replica} was reclaimed on w{worker} and is not settled", known.thing);
                    return wrong("capacity", text);
                }
            }
        }
        Ok(())
    }

    pub fn wrote(&mut self, (worker, replica, n): Key, thing: &str, amounts: &Amounts, disk: DiskEpoch) {
        let earlier = self.placed.range_mut((worker, replica.clone(), 0)..(worker, replica.clone(), n));
        earlier.filter(|(_, known)| known.thing == thing).for_each(|(_, known)| known.released = true);
        let known =
            Known { thing: thing.to_owned(), amounts: amounts.clone(), disk, acknowledged: false, released: false };
        self.placed.insert((worker, replica, n), known);
    }

    pub fn acknowledged(&mut self, key: &Key) -> Verdict {
        let Some(known) = self.placed.get_mut(key) else { return Ok(()) };
        known.acknowledged = true;
        self.check_sum(key.0)
    }

    pub fn released(&mut self, worker: usize, thing: &str) {
        let all = self.placed.iter_mut().filter(|((at, _, _), known)| *at == worker && known.thing == thing);
        all.for_each(|(_, known)| known.released = true);
    }

    pub fn settles(&mut self, worker: usize, replica: &str, knows: DiskEpoch) {
        self.settlers.entry((worker, replica.to_owned())).or_default().insert(knows);
    }

    /// All that was acknowledged under rights of now, whoever knows of it, and what was settled.
    fn check_sum(&self, worker: usize) -> Verdict {
        let Some((_, escrow)) = self.decided.get(&worker) else { return Ok(()) };
        let mut all: Amounts = escrow.settled().map(|(_, _, placement)| &placement.amounts).sum();
        for (replica, right) in &escrow.rights {
            let under = self.placed.range((worker, replica.clone(), right.from)..=(worker, replica.clone(), u64::MAX));
            let under = under.filter(|(_, known)| known.acknowledged && !known.released);
            let used: Amounts = under.map(|(_, known)| &known.amounts).sum();
            if !used.fits(&right.amounts) {
                return wrong("capacity", format!("{replica} placed {used:?} on w{worker} with a right to {right:?}"));
            }
            all = all.plus(&used);
        }
        match all.beyond(&escrow.limits) {
            Some(resource) => wrong("capacity", format!("w{worker} is beyond its {resource}: {all:?} is placed")),
            None => Ok(()),
        }
    }

    /// What a node reads, whatever it has heard of.
    pub fn check_read(read: &Capacity) -> Verdict {
        match read.used().beyond(&read.escrow.limits) {
            Some(resource) => wrong("capacity", format!("{} reads beyond its {resource}: {read:?}", read.worker)),
            None => Ok(()),
        }
    }

    /// Once all is healed. `stays`: hosts that are there, each with its disk as it is.
    pub fn check_end(&self, worker: usize, read: &Capacity, stays: &[DiskEpoch]) -> Verdict {
        let (counts, _) = read.placements();
        for ((_, replica, n), known) in self.placed.range((worker, String::new(), 0)..(worker + 1, String::new(), 0)) {
            let settlers = self.settlers.get(&(worker, replica.clone()));
            let by_others = settlers.is_some_and(|settlers| settlers.iter().any(|knows| *knows != known.disk));
            let excused = known.released || !known.acknowledged || by_others || !stays.contains(&known.disk);
            let counts = || {
                let same = counts.iter().filter(|placed| placed.by == *replica && placed.thing == known.thing);
                same.clone().any(|placed| placed.n == *n || placed.settled && placed.n >= *n)
            };
            if !excused && !counts() {
                let text =
                    format!("{} was placed on w{worker} by {replica} under {n}, and does not count", known.thing);
                return wrong("capacity", text);
            }
        }
        Ok(())
    }
}
