//! What a quorum decides about a worker: its limits, who has a right to how much of them, and what replicas that are gone
//! had placed.
//!
//! Each verb makes the next value of the one before; whoever asks for it has the quorum test that it is still that one.
//! In every value that comes of them rights and settled together are within the limits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Amounts, CapacityError, RIGHTS_MAX, SETTLED_MAX};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escrow {
    #[serde(default)]
    pub limits: Amounts,
    /// By the replica, printed in full.
    #[serde(default)]
    pub rights: BTreeMap<String, Right>,
    /// What stays placed, by the replica that is gone and by the thing.
    #[serde(default)]
    pub settled: BTreeMap<String, BTreeMap<String, Placement>>,
}

/// How much a replica may place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// Its placements of this number and above are under this right. One that lost its right and is given another begins
    /// anew: what it had placed under the first does not come back to life.
    pub from: u64,
    pub amounts: Amounts,
}

/// A thing that was placed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// A replica counts what it places.
    pub n: u64,
    pub amounts: Amounts,
}

impl Escrow {
    pub fn of(decided: Option<&Json>) -> Result<Self, CapacityError> {
        decided.map_or(Ok(Self::default()), |json| Self::deserialize(json).map_err(|_| CapacityError::Unreadable))
    }

    pub fn to_json(&self) -> Json {
        json!(self)
    }

    pub fn settled(&self) -> impl Iterator<Item = (&str, &str, &Placement)> {
        let of = |(replica, things)| {
            let things: &BTreeMap<String, Placement> = things;
            let replica: &String = replica;
            things.iter().map(move |(thing, placement)| (replica.as_str(), thing.as_str(), placement))
        };
        self.settled.iter().flat_map(of)
    }

    /// What nobody else can be given.
    pub fn allotted(&self) -> Amounts {
        let rights = self.rights.values().map(|right| &right.amounts);
        rights.chain(self.settled().map(|(_, _, placement)| &placement.amounts)).sum()
    }

    pub fn free(&self) -> Amounts {
        self.limits.minus(&self.allotted())
    }

    /// The worker has so much from now on.
    pub fn set_limits(&self, limits: &Amounts) -> Result<Self, CapacityError> {
        limits.check()?;
        let allotted = self.allotted();
        match allotted.beyond(limits) {
            Some(resource) => Err(CapacityError::TooLow {
                resource: resource.to_owned(),
                limit: limits.get(resource),
                allotted: allotted.get(resource),
            }),
            None => Ok(Self { limits: limits.clone(), ..self.clone() }),
        }
    }

    /// A replica gets what it needs beyond what it has; and with it a fair share, where that is free, so that it need not
    /// ask for each thing. `unspent`: what others hold the right to and have not placed, for who is told that there is no room.
    pub fn grant(
        &self,
        to: &str,
        from: u64,
        needed: &Amounts,
        sharers: usize,
        unspent: &Amounts,
    ) -> Result<Self, CapacityError> {
        let free = self.free();
        if let Some((resource, _)) = needed.iter().find(|(resource, _)| !self.limits.has(resource)) {
            return Err(CapacityError::NoSuchResource(resource.to_owned()));
        }
        if let Some(resource) = needed.beyond(&free) {
            let (needed, free, others) = (needed.get(resource), free.get(resource), unspent.get(resource));
            return Err(CapacityError::NoRoom { resource: resource.to_owned(), needed, free, others });
        }
        if self.rights.len() >= RIGHTS_MAX && !self.rights.contains_key(to) {
            return Err(CapacityError::TooMany { what: "replicas with a right", most: RIGHTS_MAX });
        }
        let held = self.rights.get(to).filter(|right| right.from == from).cloned();
        let held = held.map(|right| right.amounts).unwrap_or_default();
        let parts = 2 * sharers.max(1) as u64;
        let share = |(resource, needed): (&str, u64)| {
            let fair = self.limits.get(resource) / parts;
            (resource.to_owned(), needed.max(fair).min(free.get(resource)))
        };
        let more: Amounts = needed.iter().filter(|(_, needed)| *needed > 0).map(share).collect();
        let mut next = self.clone();
        next.rights.insert(to.to_owned(), Right { from, amounts: held.plus(&more) });
        Ok(next)
    }

    /// A replica keeps no more than this. It has to have stopped using the rest before it asks.
    pub fn give_back(&self, of: &str, from: u64, keep: &Amounts) -> Self {
        let mut next = self.clone();
        if let Some(right) = next.rights.get_mut(of).filter(|right| right.from == from) {
            right.amounts = right.amounts.minus(&right.amounts.minus(keep));
            if right.amounts.is_nothing() {
                next.rights.remove(of);
            }
        }
        next
    }

    /// A replica is gone: its right is free again, but for these that it had placed under it. They stay.
    pub fn settle(&self, gone: &str, placed: BTreeMap<String, Placement>) -> Result<Self, CapacityError> {
        let mut next = self.clone();
        let right = next.rights.remove(gone).ok_or_else(|| CapacityError::NoRight(gone.to_owned()))?;
        let within: Amounts = placed.values().map(|placement| &placement.amounts).sum();
        if !within.fits(&right.amounts) || placed.values().any(|placement| placement.n < right.from) {
            return Err(CapacityError::NoRight(gone.to_owned()));
        }
        if next.settled().count() + placed.len() > SETTLED_MAX {
            return Err(CapacityError::TooMany { what: "placements of replicas that are gone", most: SETTLED_MAX });
        }
        if !placed.is_empty() {
            // What it had placed under an earlier right and places again is two placements, and counts twice until one is released.
            let things = next.settled.entry(gone.to_owned()).or_default();
            for (thing, placement) in placed {
                let twice = things.get(&thing).map(|earlier| earlier.amounts.clone()).unwrap_or_default();
                things.insert(thing, Placement { amounts: placement.amounts.plus(&twice), ..placement });
            }
        }
        Ok(next)
    }

    /// What a replica that is gone had placed is there no more.
    pub fn forget(&self, gone: &str, thing: &str) -> Self {
        let mut next = self.clone();
        if let Some(things) = next.settled.get_mut(gone) {
            things.remove(thing);
            if things.is_empty() {
                next.settled.remove(gone);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mb(amount: u64) -> Amounts {
        [("memory_mb", amount)].into_iter().collect()
    }

    fn thing(n: u64, amount: u64) -> Placement {
        Placement { n, amounts: mb(amount) }
    }

    fn hundred() -> Escrow {
        Escrow::default().set_limits(&mb(100)).unwrap()
    }

    fn grant(escrow: &Escrow, to: &str, needed: u64) -> Result<Escrow, CapacityError> {
        escrow.grant(to, 1, &mb(needed), 2, &mb(7))
    }

    #[test]
    fn who_asks_gets_what_is_needed_and_a_fair_share_while_there_is_one() {
        let first = grant(&hundred(), "a", 10).unwrap();
        assert_eq!(first.rights["a"].amounts, mb(25), "a quarter, with two that share");
        let second = grant(&first, "b", 60).unwrap();
        assert_eq!((second.rights["b"].amounts.clone(), second.free()), (mb(60), mb(15)));
        let third = grant(&second, "a", 5).unwrap();
        assert_eq!((third.rights["a"].amounts.clone(), third.free()), (mb(40), Amounts::default()));
        let none = grant(&third, "c", 1).unwrap_err();
        assert_eq!(none, CapacityError::NoRoom { resource: "memory_mb".into(), needed: 1, free: 0, others: 7 });
        let gpus = [("gpus", 1)].into_iter().collect();
        assert_eq!(third.grant("c", 1, &gpus, 2, &mb(0)), Err(CapacityError::NoSuchResource("gpus".into())));
    }

    #[test]
    fn who_lost_its_right_begins_anew() {
        let first = grant(&hundred(), "a", 40).unwrap();
        let again = first.grant("a", 5, &mb(30), 2, &mb(0)).unwrap();
        assert_eq!(again.rights["a"], Right { from: 5, amounts: mb(30) });
        assert_eq!(again.give_back("a", 1, &mb(0)), again, "that is another right");
    }

    #[test]
    fn limits_never_fall_below_what_is_allotted() {
        let granted = grant(&hundred(), "a", 40).unwrap();
        let low = granted.set_limits(&mb(39)).unwrap_err();
        assert_eq!(low, CapacityError::TooLow { resource: "memory_mb".into(), limit: 39, allotted: 40 });
        assert_eq!(granted.set_limits(&mb(40)).unwrap().free(), mb(0).minus(&mb(0)));
    }

    #[test]
    fn what_is_given_back_is_free_and_nobody_gets_more_by_it() {
        let granted = grant(&hundred(), "a", 40).unwrap();
        assert_eq!(granted.give_back("a", 1, &mb(30)).rights["a"].amounts, mb(30));
        assert_eq!(granted.give_back("a", 1, &mb(90)).rights["a"].amounts, mb(40));
        assert!(granted.give_back("a", 1, &mb(0)).rights.is_empty());
    }

    #[test]
    fn of_a_replica_that_is_gone_what_it_placed_stays_and_the_rest_is_free() {
        let granted = grant(&hundred(), "a", 40).unwrap();
        let gone = granted.settle("a", [("vms/7".to_owned(), thing(1, 30))].into()).unwrap();
        assert_eq!((gone.rights.len(), gone.free()), (0, mb(70)));
        assert_eq!(gone.settle("a", BTreeMap::new()), Err(CapacityError::NoRight("a".into())), "once");
        let beyond = granted.settle("a", [("vms/7".to_owned(), thing(1, 41))].into());
        assert!(beyond.is_err(), "more than its right is never settled");
        assert_eq!(gone.forget("a", "vms/7").free(), mb(100));
        assert_eq!(gone.forget("a", "vms/8"), gone);
        let again = gone.grant("a", 2, &mb(5), 50, &mb(0)).unwrap();
        let twice = again.settle("a", [("vms/7".to_owned(), thing(2, 5))].into()).unwrap();
        assert_eq!(twice.free(), mb(65), "both stay");
    }

    #[test]
    fn it_reads_back_and_what_another_version_wrote_is_left_alone() {
        let granted = grant(&hundred(), "a", 40).unwrap();
        let settled = granted.settle("a", [("vms/7".to_owned(), thing(1, 30))].into()).unwrap();
        assert_eq!(Escrow::of(Some(&settled.to_json())), Ok(settled));
        assert_eq!(Escrow::of(None), Ok(Escrow::default()));
        assert_eq!(Escrow::of(Some(&json!({ "limits": 5 }))), Err(CapacityError::Unreadable));
    }
}
