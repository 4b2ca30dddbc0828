//! A worker's capacity as one node reads it: what is placed, what of it counts, and what is void.
//!
//! A placement of a replica counts while the replica has a right, in the order in which it placed, as long as the sum is
//! within that right. What was settled counts. All else is void: its replica was reclaimed while it still placed on the far
//! side, or this node has not heard yet of the right that it was placed under.
//!
//! So the sum of what counts is at most the sum of the rights and of what was settled, and those are within the limits in
//! every value that a quorum decided. Which placements this node has heard of does not matter.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{Amounts, CapacityError, ESCROW, Escrow, FREED, PLACED, Placement};
use crate::document::Edit;

/// A placement that its owner is to drop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Freed {
    pub replica: String,
    /// A later placement of the same thing is another.
    pub n: u64,
    pub thing: String,
}

/// A thing on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placed {
    pub thing: String,
    pub amounts: Amounts,
    pub by: String,
    #[serde(skip)]
    pub n: u64,
    /// Its replica is gone.
    pub settled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub worker: String,
    pub escrow: Escrow,
    pub freed: BTreeSet<Freed>,
    /// This node reaches no quorum: the limits and rights may be others by now.
    pub stale: bool,
    /// By replica and thing.
    cells: BTreeMap<(String, String), Placement>,
}

/// What releases a thing that somebody else placed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Release {
    /// Asks its owner to drop it, or drops what is void.
    pub edits: Vec<Edit>,
    /// Replicas that are gone and had placed it: a quorum has to forget that.
    pub settled: Vec<String>,
    /// Its room is free only once somebody heard of it.
    pub asks: bool,
}

impl Freed {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '/');
        let replica = format!("{}/{}", parts.next()?, parts.next()?);
        Some(Self { replica, n: parts.next()?.parse().ok()?, thing: parts.next()?.to_owned() })
    }

    fn element(&self) -> Json {
        format!("{}/{}/{}", self.replica, self.n, self.thing).into()
    }

    fn asked(&self) -> Edit {
        Edit::Add { field: FREED.into(), value: self.element() }
    }

    pub(super) fn taken_back(&self) -> Edit {
        Edit::Remove { field: FREED.into(), value: self.element() }
    }
}

impl Capacity {
    pub fn of(worker: &str, fields: &Map<String, Json>, stale: bool) -> Result<Self, CapacityError> {
        let cell = |(key, value): (&String, &Json)| {
            let (replica, thing) = split_key(key)?;
            Some(((replica.to_owned(), thing.to_owned()), Placement::deserialize(value).ok()?))
        };
        let freed = fields.get(FREED).and_then(Json::as_array);
        Ok(Self {
            worker: worker.to_owned(),
            escrow: Escrow::of(fields.get(ESCROW))?,
            freed: freed.into_iter().flatten().filter_map(Json::as_str).filter_map(Freed::parse).collect(),
            stale,
            cells: fields.get(PLACED).and_then(Json::as_object).into_iter().flatten().filter_map(cell).collect(),
        })
    }

    /// What counts, in order of things, and what is void.
    pub fn placements(&self) -> (Vec<Placed>, Vec<Placed>) {
        let settled = self.escrow.settled().map(|(replica, thing, placement)| placed(replica, thing, placement, true));
        let mut counts: Vec<Placed> = settled.collect();
        let mut void = Vec::new();
        for (replica, cells) in self.by_replica() {
            let right = self.escrow.rights.get(replica);
            let mut left = right.map(|right| right.amounts.clone()).unwrap_or_default();
            for (thing, placement) in cells {
                let under = right.is_some_and(|right| placement.n >= right.from);
                if under && placement.amounts.fits(&left) {
                    left = left.minus(&placement.amounts);
                    counts.push(placed(replica, thing, placement, false));
                } else if !self.is_settled(replica, thing, placement.n) {
                    void.push(placed(replica, thing, placement, false));
                }
            }
        }
        counts.sort_by(|a, b| (&a.thing, &a.by).cmp(&(&b.thing, &b.by)));
        (counts, void)
    }

    /// What each replica placed, in the order in which it did.
    fn by_replica(&self) -> BTreeMap<&str, Vec<(&str, &Placement)>> {
        let mut all: BTreeMap<&str, Vec<(&str, &Placement)>> = BTreeMap::new();
        for ((replica, thing), placement) in &self.cells {
            all.entry(replica).or_default().push((thing, placement));
        }
        all.values_mut().for_each(|cells| cells.sort_by_key(|(_, placement)| placement.n));
        all
    }

    fn is_settled(&self, replica: &str, thing: &str, n: u64) -> bool {
        let settled = self.escrow.settled.get(replica).and_then(|things| things.get(thing));
        settled.is_some_and(|settled| settled.n >= n)
    }

    pub fn used(&self) -> Amounts {
        self.placements().0.iter().map(|placed| &placed.amounts).sum()
    }

    /// What replicas but this one have the right to and have not used, as far as this node knows.
    pub fn unspent_by_others(&self, me: &str) -> Amounts {
        let (counts, _) = self.placements();
        let rights: Amounts =
            self.escrow.rights.iter().filter(|(by, _)| *by != me).map(|(_, right)| &right.amounts).sum();
        rights.minus(
            &counts.iter().filter(|placed| placed.by != me && !placed.settled).map(|placed| &placed.amounts).sum(),
        )
    }

    /// What stays of a replica that is gone: what counts of its placements here, but for what somebody released.
    pub fn left_by(&self, gone: &str) -> BTreeMap<String, Placement> {
        let (counts, _) = self.placements();
        let left = counts.into_iter().filter(|placed| placed.by == gone && !placed.settled);
        let stays = |placed: &Placed| {
            let freed = Freed { replica: gone.to_owned(), n: placed.n, thing: placed.thing.clone() };
            !self.freed.contains(&freed)
        };
        let left = left.filter(stays);
        left.map(|placed| (placed.thing, Placement { n: placed.n, amounts: placed.amounts })).collect()
    }

    /// The number under which a replica placed a thing.
    pub fn n_of(&self, replica: &str, thing: &str) -> Option<u64> {
        Some(self.cells.get(&(replica.to_owned(), thing.to_owned()))?.n)
    }

    /// Whoever placed it is to drop it.
    pub fn is_asked_to_drop(&self, placed: &Placed) -> bool {
        let (replica, thing) = (placed.by.clone(), placed.thing.clone());
        self.freed.contains(&Freed { replica, n: placed.n, thing })
    }

    pub fn is_placed_by_others(&self, thing: &str, me: &str) -> bool {
        self.cells.keys().any(|(by, of)| of == thing && by != me)
            || self.escrow.settled().any(|(_, settled, _)| settled == thing)
    }

    /// What has to be done that a thing is here no more, but for what this replica placed itself. `sure`: the rights are those
    /// that a quorum just said. Else one whose right this node has not heard of is asked like all others.
    pub fn release(&self, thing: &str, me: &str, sure: bool) -> Release {
        let mut release = Release::default();
        let cells = self.cells.iter().filter(|((by, of), _)| of == thing && by != me);
        let cells = cells.map(|((by, _), placement)| (by.as_str(), placement.n));
        let settled = self.escrow.settled().filter(|(_, of, _)| *of == thing);
        let settled: Vec<(&str, u64)> = settled.map(|(by, _, placement)| (by, placement.n)).collect();
        for (by, n) in cells.chain(settled.iter().copied().filter(|_| !sure)) {
            let freed = Freed { replica: by.to_owned(), n, thing: thing.to_owned() };
            if sure && !self.escrow.rights.contains_key(by) {
                // It counts for nothing, or what it counts is settled.
                release.edits.push(drop_cell(by, thing));
                continue;
            }
            release.asks = true;
            let ask = freed.asked();
            if !self.freed.contains(&freed) && !release.edits.contains(&ask) {
                release.edits.push(ask);
            }
        }
        release.settled = settled.into_iter().map(|(by, _)| by.to_owned()).collect();
        release
    }

    /// What was released, and is settled all the same: the word came too late to whoever settled it.
    pub fn settled_though_freed(&self) -> Vec<(String, String)> {
        let is = |freed: &&Freed| self.is_settled(&freed.replica, &freed.thing, freed.n);
        self.freed.iter().filter(is).map(|freed| (freed.replica.clone(), freed.thing.clone())).collect()
    }

    /// Takes back words to replicas that have no right any more, as a quorum just said, and drops what they are about.
    pub fn idle_words(&self) -> Vec<Edit> {
        let is_idle = |freed: &&Freed| {
            !self.escrow.rights.contains_key(&freed.replica) && !self.is_settled(&freed.replica, &freed.thing, freed.n)
        };
        let taken_back = |freed: &Freed| {
            let is_it = self.n_of(&freed.replica, &freed.thing) == Some(freed.n);
            is_it.then(|| drop_cell(&freed.replica, &freed.thing)).into_iter().chain([freed.taken_back()])
        };
        self.freed.iter().filter(is_idle).flat_map(taken_back).collect()
    }
}

fn drop_cell(by: &str, thing: &str) -> Edit {
    Edit::UnsetKey { field: PLACED.into(), key: format!("{by}/{thing}") }
}

/// A replica's name has one slash in it, a thing's any number.
fn split_key(key: &str) -> Option<(&str, &str)> {
    let (slash, _) = key.match_indices('/').nth(1)?;
    Some((&key[..slash], &key[slash + 1..]))
}

fn placed(replica: &str, thing: &str, placement: &Placement, settled: bool) -> Placed {
    Placed {
        thing: thing.to_owned(),
        amounts: placement.amounts.clone(),
        by: replica.to_owned(),
        n: placement.n,
        settled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::builtin;
    use crate::domain::capacity::{COLLECTION, Right};
    use serde_json::json;

    fn mb(amount: u64) -> Amounts {
        [("memory_mb", amount)].into_iter().collect()
    }

    fn cell(n: u64, amount: u64) -> Json {
        json!({ "n": n, "amounts": { "memory_mb": amount } })
    }

    fn escrow(rights: &[(&str, u64, u64)]) -> Escrow {
        let right =
            |(by, from, amount): &(&str, u64, u64)| ((*by).to_owned(), Right { from: *from, amounts: mb(*amount) });
        Escrow { limits: mb(100), rights: rights.iter().map(right).collect(), ..Escrow::default() }
    }

    fn read(escrow: &Escrow, placed: &Json, freed: &[&str]) -> Capacity {
        let fields = json!({ "escrow": escrow.to_json(), "placed": placed, "freed": freed });
        Capacity::of("ash", fields.as_object().unwrap(), false).unwrap()
    }

    fn things(placed: &[Placed]) -> Vec<&str> {
        placed.iter().map(|placed| placed.thing.as_str()).collect()
    }

    #[test]
    fn every_field_is_declared() {
        let schema = builtin(COLLECTION).unwrap();
        assert!([ESCROW, PLACED, FREED].iter().all(|name| schema.field(name).is_some()));
    }

    #[test]
    fn what_counts_is_within_the_right_in_the_order_in_which_it_was_placed() {
        let cells = json!({ "n/a/vms/2": cell(1, 30), "n/a/vms/1": cell(2, 20), "n/a/vms/0": cell(3, 10), "n/b/x": cell(1, 1) });
        let (counts, void) = read(&escrow(&[("n/a", 1, 45)]), &cells, &[]).placements();
        assert_eq!((things(&counts), things(&void)), (vec!["vms/0", "vms/2"], vec!["vms/1", "x"]));
        let (counts, _) = read(&escrow(&[("n/a", 3, 45)]), &cells, &[]).placements();
        assert_eq!(things(&counts), ["vms/0"], "the others are of an earlier right");
    }

    #[test]
    fn what_a_gone_replica_had_placed_counts_as_settled_and_what_it_went_on_to_place_is_void() {
        let cells = json!({ "n/a/x": cell(1, 30), "n/a/y": cell(2, 20), "n/a/z": cell(3, 20) });
        let before = read(&escrow(&[("n/a", 1, 60)]), &cells, &["n/a/2/y"]);
        let left = before.left_by("n/a");
        assert_eq!(left.keys().collect::<Vec<_>>(), ["x"], "y was released, and z is beyond the right");
        let after = read(&before.escrow.settle("n/a", left).unwrap(), &cells, &["n/a/2/y"]);
        let (counts, void) = after.placements();
        assert_eq!((things(&counts), things(&void)), (vec!["x"], vec!["y", "z"]));
        assert_eq!((after.used(), counts[0].settled), (mb(30), true));
        assert_eq!(after.idle_words().len(), 2, "the word, and what it is about");
    }

    #[test]
    fn a_release_reaches_whoever_placed_it() {
        let rights = escrow(&[("n/a", 1, 30), ("n/b", 1, 30), ("n/c", 1, 30)]);
        let cells = json!({ "n/a/x": cell(1, 30), "n/b/x": cell(1, 30), "n/c/x": cell(7, 1), "n/d/x": cell(1, 1) });
        let gone = read(&rights, &cells, &[]).left_by("n/b");
        let capacity = read(&rights.settle("n/b", gone).unwrap(), &cells, &["n/a/1/x"]);
        let release = capacity.release("x", "n/a", true);
        let drop = |key: &str| Edit::UnsetKey { field: PLACED.into(), key: key.into() };
        let asked = Edit::Add { field: FREED.into(), value: "n/c/7/x".into() };
        assert_eq!(release.edits, [drop("n/b/x"), asked, drop("n/d/x")]);
        assert_eq!(release.settled, ["n/b"]);
        assert_eq!(capacity.release("x", "n/a", false).edits.len(), 3, "who is not sure drops nothing of another's");
        assert_eq!(capacity.release("y", "n/a", true), Release::default());
        let late = read(&capacity.escrow, &cells, &["n/b/1/x"]);
        assert_eq!(late.settled_though_freed(), [("n/b".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn what_others_do_not_use_is_known_about() {
        let rights = escrow(&[("n/a", 1, 30), ("n/b", 1, 30)]);
        let capacity = read(&rights, &json!({ "n/b/x": cell(1, 10) }), &[]);
        assert_eq!((capacity.unspent_by_others("n/a"), capacity.unspent_by_others("n/b")), (mb(20), mb(30)));
    }
}
