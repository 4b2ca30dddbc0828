//! What a replica knows of its own right on a worker: how much, and what it placed under it. Nobody else writes either, and
//! a replica lives as long as its process: so this needs no disk, and begins with nothing.
//!
//! What it believes to have is never more than what the quorum has it hold. It grows by what the quorum said, after it said
//! so, and shrinks before the quorum is asked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{Amounts, Capacity, CapacityError, Escrow, Freed, PLACED, PLACED_MAX, Placement, check_thing};
use crate::document::Edit;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    replica: String,
    right: Amounts,
    /// What it held before it asked to hold less, while nobody knows what came of that.
    lowered: Option<Amounts>,
    /// Its placements of this number and above are under the right.
    from: u64,
    /// The number of the next placement.
    next: u64,
    /// Of the decision that it heard of last.
    version: u64,
    placed: BTreeMap<String, Placement>,
    /// Whether the right is heeded: not where that bug is planted.
    heeded: bool,
}

/// Whether a thing can be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is placed so already.
    There,
    Fits,
    /// So much more of a right is needed.
    Lacks(Amounts),
}

impl Account {
    pub fn new(replica: String) -> Self {
        Self {
            replica,
            right: Amounts::default(),
            lowered: None,
            from: 1,
            next: 1,
            version: 0,
            placed: BTreeMap::new(),
            heeded: true,
        }
    }

    /// Plants a bug: whatever is asked for is placed.
    #[must_use]
    pub fn unheeded(self) -> Self {
        Self { heeded: false, ..self }
    }

    pub fn replica(&self) -> &str {
        &self.replica
    }

    pub fn from(&self) -> u64 {
        self.from
    }

    pub fn right(&self) -> &Amounts {
        &self.right
    }

    pub fn placed(&self) -> &BTreeMap<String, Placement> {
        &self.placed
    }

    pub fn used(&self) -> Amounts {
        self.placed.values().map(|placement| &placement.amounts).sum()
    }

    /// What it may still place without asking anybody.
    pub fn unspent(&self) -> Amounts {
        self.right.minus(&self.used())
    }

    /// It has more than twice what it uses.
    pub fn is_idle(&self) -> bool {
        let used = self.used();
        self.right.iter().any(|(resource, amount)| amount > used.get(resource).saturating_mul(2))
    }

    pub fn fit(&self, thing: &str, amounts: &Amounts) -> Result<Fit, CapacityError> {
        check_thing(thing)?;
        amounts.check()?;
        if amounts.is_nothing() {
            return Err(CapacityError::Nothing);
        }
        let before = self.placed.get(thing);
        if before.is_some_and(|placement| placement.amounts == *amounts) {
            return Ok(Fit::There);
        }
        if before.is_none() && self.placed.len() >= PLACED_MAX {
            return Err(CapacityError::TooMany { what: "things placed by one replica", most: PLACED_MAX });
        }
        let freed = before.map(|placement| placement.amounts.clone()).unwrap_or_default();
        let lacks = amounts.minus(&self.unspent().plus(&freed));
        Ok(if lacks.is_nothing() || !self.heeded { Fit::Fits } else { Fit::Lacks(lacks) })
    }

    /// The write that places what fits. Once it is done, [`Account::note_placed`] is told.
    pub fn place(&self, thing: &str, amounts: &Amounts) -> Vec<Edit> {
        let value = json!(Placement { n: self.next, amounts: amounts.clone() });
        vec![Edit::SetKey { field: PLACED.into(), key: format!("{}/{thing}", self.replica), value }]
    }

    pub fn note_placed(&mut self, thing: &str, amounts: &Amounts) -> u64 {
        let n = self.next;
        self.next += 1;
        self.placed.insert(thing.to_owned(), Placement { n, amounts: amounts.clone() });
        n
    }

    /// The write that gives a thing's room back, if it was placed here. Once it is done, [`Account::note_released`] is told.
    pub fn release(&self, thing: &str, freed: &BTreeSet<Freed>) -> Option<Vec<Edit>> {
        self.placed.contains_key(thing).then(|| {
            let mut edits = vec![Edit::UnsetKey { field: PLACED.into(), key: format!("{}/{thing}", self.replica) }];
            let asked = freed.iter().filter(|freed| freed.replica == self.replica && freed.thing == thing);
            edits.extend(asked.map(Freed::taken_back));
            edits
        })
    }

    pub fn note_released(&mut self, thing: &str) {
        self.placed.remove(thing);
    }

    /// What others asked it to drop, and it has not dropped yet.
    pub fn to_drop<'f>(&'f self, freed: &'f BTreeSet<Freed>) -> impl Iterator<Item = &'f str> {
        let has = |freed: &&Freed| {
            freed.replica == self.replica && self.placed.get(&freed.thing).is_some_and(|placed| placed.n == freed.n)
        };
        freed.iter().filter(has).map(|freed| freed.thing.as_str())
    }

    /// What others took out of the document, since they took it for void, is placed no more.
    pub fn miss(&mut self, read: &Capacity) {
        let replica = &self.replica;
        self.placed.retain(|thing, placement| read.n_of(replica, thing) == Some(placement.n));
    }

    /// A quorum said what is decided, to this replica, which asks it one thing after the other. What is older than what it
    /// has heard by then is no news.
    pub fn learn(&mut self, version: u64, escrow: &Escrow) {
        if version < self.version {
            return;
        }
        self.version = version;
        self.lowered = None;
        match escrow.rights.get(&self.replica).filter(|right| right.from == self.from) {
            Some(right) => self.right = right.amounts.clone(),
            None => self.lose(),
        }
    }

    /// It reads a decision in the document, however late: its right may be gone, and is never more by that.
    pub fn hear(&mut self, version: u64, escrow: &Escrow) {
        let has_some = !self.right.is_nothing() || self.lowered.is_some();
        if version > self.version && has_some && !escrow.rights.contains_key(&self.replica) {
            self.version = version;
            self.lose();
        }
    }

    /// What it had placed counts for nothing any more, unless it was settled.
    fn lose(&mut self) {
        self.right = Amounts::default();
        self.lowered = None;
        self.from = self.next;
        self.placed.clear();
    }

    /// Before it asks to hold less: it uses no more than that from now on. Gives how much less.
    pub fn lower(&mut self) -> Amounts {
        let used = self.used();
        let had = std::mem::replace(&mut self.right, used);
        let less = had.minus(&self.right);
        self.lowered = Some(had);
        less
    }

    /// Surely nothing was decided: it holds what it held, unless it lost it meanwhile.
    pub fn raise_again(&mut self) {
        if let Some(had) = self.lowered.take() {
            self.right = had;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mb(amount: u64) -> Amounts {
        [("memory_mb", amount)].into_iter().collect()
    }

    fn granted(account: &Account, escrow: &Escrow, needed: u64) -> Escrow {
        escrow.grant(account.replica(), account.from(), &mb(needed), 50, &mb(0)).unwrap()
    }

    /// One that has a right to 40 of 100.
    fn account() -> (Account, Escrow) {
        let escrow = Escrow::default().set_limits(&mb(100)).unwrap();
        let mut account = Account::new("a/1".into());
        let escrow = granted(&account, &escrow, 40);
        account.learn(1, &escrow);
        (account, escrow)
    }

    fn place(account: &mut Account, thing: &str, amount: u64) -> Fit {
        let fit = account.fit(thing, &mb(amount)).unwrap();
        if fit == Fit::Fits {
            account.note_placed(thing, &mb(amount));
        }
        fit
    }

    #[test]
    fn a_thing_is_placed_within_the_right_and_nowhere_else() {
        let mut fresh = Account::new("a/1".into());
        assert_eq!(place(&mut fresh, "x", 1), Fit::Lacks(mb(1)), "a new process has no right");
        let (mut account, _) = account();
        assert_eq!(place(&mut account, "x", 30), Fit::Fits);
        assert_eq!(place(&mut account, "x", 30), Fit::There);
        assert_eq!(place(&mut account, "y", 15), Fit::Lacks(mb(5)));
        assert_eq!(place(&mut account, "x", 10), Fit::Fits, "it is made smaller");
        assert_eq!(place(&mut account, "y", 30), Fit::Fits);
        assert_eq!(account.unspent(), Amounts::default());
        account.note_released("x");
        assert_eq!(account.unspent(), mb(10));
        assert_eq!(account.fit("z", &mb(0)), Err(CapacityError::Nothing));
    }

    #[test]
    fn a_right_that_was_taken_away_takes_its_placements_along() {
        let (mut account, escrow) = account();
        place(&mut account, "x", 30);
        let gone = escrow.settle("a/1", BTreeMap::new()).unwrap();
        account.hear(1, &gone);
        assert_eq!(account.unspent(), mb(10), "that is not news");
        account.hear(2, &gone);
        assert_eq!((account.unspent(), account.placed().len(), account.from()), (Amounts::default(), 0, 2));
        let again = granted(&account, &gone, 20);
        account.hear(3, &again);
        assert_eq!(account.right(), &Amounts::default(), "what it reads never makes it more");
        account.learn(3, &again);
        assert_eq!((account.right(), again.rights["a/1"].from), (&mb(20), 2));
    }

    #[test]
    fn it_holds_less_before_it_asks_to_and_more_only_by_the_quorums_word() {
        let (mut account, escrow) = account();
        place(&mut account, "x", 30);
        assert_eq!((account.lower(), account.right().clone()), (mb(10), mb(30)));
        // Nobody knows what came of it; whatever was decided, a later word says so.
        account.learn(2, &escrow);
        assert_eq!(account.right(), &mb(40));
        account.lower();
        account.learn(3, &escrow.give_back("a/1", 1, account.right()));
        assert_eq!(account.right(), &mb(30));
        account.learn(2, &escrow);
        assert_eq!(account.right(), &mb(30), "that was before");
        account.lower();
        account.raise_again();
        assert_eq!(account.right(), &mb(30));
        account.lower();
        account.hear(4, &Escrow::default());
        account.raise_again();
        assert_eq!(account.right(), &Amounts::default(), "it was reclaimed meanwhile");
    }

    #[test]
    fn what_another_released_is_dropped_unless_it_was_placed_anew() {
        let (mut account, _) = account();
        place(&mut account, "x", 30);
        let freed: BTreeSet<Freed> = [Freed { replica: "a/1".into(), n: 1, thing: "x".into() }].into();
        assert_eq!(account.to_drop(&freed).collect::<Vec<_>>(), ["x"]);
        assert_eq!(account.release("x", &freed).map(|edits| edits.len()), Some(2), "and it is dropped from the list");
        place(&mut account, "x", 20);
        assert_eq!(account.to_drop(&freed).count(), 0);
        assert_eq!(account.release("y", &freed), None);
    }

    #[test]
    fn what_others_took_out_is_placed_no_more() {
        let (mut account, escrow) = account();
        place(&mut account, "x", 10);
        place(&mut account, "y", 20);
        let placed = json!({ "a/1/x": { "n": 1, "amounts": { "memory_mb": 10 } } });
        let fields = json!({ "escrow": escrow.to_json(), "placed": placed });
        account.miss(&Capacity::of("ash", fields.as_object().unwrap(), false).unwrap());
        assert_eq!(account.placed().keys().collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn who_has_more_than_twice_what_it_uses_is_idle() {
        let (mut account, _) = account();
        place(&mut account, "x", 19);
        assert!(account.is_idle());
        place(&mut account, "x", 20);
        assert!(!account.is_idle());
    }
}
