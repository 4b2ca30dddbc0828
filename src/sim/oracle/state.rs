//! The oracle that everything rests on: a node's state is the join of the ops in its clock, at every step, whatever
//! path they took. (Ported from the reference model of node-wide clocks: one join of a log, against which pages, live
//! ops, sessions broken off anywhere and pruned removal records are held.)
//!
//! Checked after each input by its digest, which moves with each op that enters the clock: what the op adds, and what
//! its supersedes take away. Checked entry by entry, removal records too, after each catch-up and each start.

use super::ledger::{GlobalDot, Ledger, Slots};
use super::{Verdict, wrong};
use crate::clock::{Clock, Dot, Order};
use crate::engine::Replica;

/// What one running node ought to hold.
#[derive(Debug, Default)]
pub struct Shadow {
    slots: Slots,
    clock: Clock,
    digest: u128,
    /// It took in what a disputed replica said: its digest says nothing any more.
    blind: bool,
    /// Dots that entered the clock since they were last taken.
    arrived: Vec<GlobalDot>,
}

impl Shadow {
    /// Begins to watch a node as it is now.
    pub fn start(replica: &Replica, ledger: &mut Ledger) -> Result<Self, super::Wrong> {
        let mut shadow = Self::default();
        shadow.check(replica, ledger)?;
        shadow.check_entries(replica, ledger)?;
        Ok(shadow)
    }

    /// Learns the numbers of replicas that the node met.
    pub fn follow_slots(&mut self, replica: &Replica, ledger: &mut Ledger) {
        self.slots.follow(replica, ledger);
    }

    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    pub fn take_arrived(&mut self) -> Vec<GlobalDot> {
        std::mem::take(&mut self.arrived)
    }

    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// Whether this node's clock covers a dot.
    pub fn covers(&self, dot: GlobalDot) -> bool {
        self.slots.slot(dot.0).is_some_and(|slot| self.clock.get(slot) >= dot.1)
    }

    /// Follows the node's clock, and compares.
    pub fn check(&mut self, replica: &Replica, ledger: &mut Ledger) -> Verdict {
        if self.clock.compare(&replica.state().clock) != Order::Equal {
            self.slots.follow(replica, ledger);
            self.follow(&replica.state().clock, ledger)?;
        }
        if self.digest != replica.state().digest() && !self.blind {
            return wrong("state", "the state is not the join of the ops in the clock");
        }
        Ok(())
    }

    fn follow(&mut self, clock: &Clock, ledger: &Ledger) -> Verdict {
        let mut new: Vec<GlobalDot> = Vec::new();
        for (slot, to) in clock.iter() {
            let (number, from) = (self.slots.number(slot), self.clock.get(slot));
            self.blind |= to > from && ledger.is_disputed(number);
            if to < from {
                return wrong(
                    "state",
                    format!("the clock went back from {from} to {to} for {:?}", ledger.replica(number)),
                );
            }
            if to > from && !self.blind {
                match ledger.op((number, to)) {
                    None => {
                        return wrong(
                            "state",
                            format!("{} is covered, and nobody issued it", ledger.name((number, to))),
                        );
                    }
                    Some(op) if !op.ends => {
                        let name = ledger.name((number, to));
                        return wrong("atomicity", format!("{name} is visible, the rest of its transaction is not"));
                    }
                    Some(_) => new.extend((from + 1..=to).map(|seq| (number, seq))),
                }
            }
        }
        if self.clock.iter().any(|(slot, seq)| clock.get(slot) < seq) {
            return wrong("state", "the clock lost a replica");
        }
        let before = std::mem::replace(&mut self.clock, clock.clone());
        if !self.blind {
            self.move_digest(&before, &new, ledger);
            self.arrived.append(&mut new);
        }
        Ok(())
    }

    fn move_digest(&mut self, before: &Clock, new: &[GlobalDot], ledger: &Ledger) {
        let covered = |clock: &Clock, dot: &GlobalDot| self.slots.slot(dot.0).is_some_and(|s| clock.get(s) >= dot.1);
        let mut killed: Vec<GlobalDot> = Vec::new();
        let mut digest = self.digest;
        for dot in new {
            let Some(op) = ledger.op(*dot) else { continue };
            killed.extend(op.kills.iter().filter(|kill| covered(before, kill)));
            if let Some(entry) = op.entry
                && !op.killed_by.iter().any(|killer| covered(&self.clock, killer))
            {
                digest = digest.wrapping_add(entry);
            }
        }
        killed.sort_unstable();
        killed.dedup();
        for dot in killed {
            let Some(op) = ledger.op(dot) else { continue };
            // It was alive until now.
            if let Some(entry) = op.entry
                && !op.killed_by.iter().any(|killer| covered(before, killer))
            {
                digest = digest.wrapping_sub(entry);
            }
        }
        self.digest = digest;
    }

    /// Compares every entry: values exactly, removal records exactly above the floor, and none that ought to be gone.
    pub fn check_entries(&self, replica: &Replica, ledger: &Ledger) -> Verdict {
        if self.blind {
            return Ok(());
        }
        let state = replica.state();
        let mut held: Vec<GlobalDot> = Vec::new();
        for (name, document) in state.names_from(std::ops::Bound::Unbounded) {
            for entry in document.cells().flat_map(|cell| cell.entries()) {
                let dot = self.slots.global(entry.dot);
                match ledger.op(dot) {
                    Some(op) if op.entry.is_some() == entry.value.is_some() && op.lives => held.push(dot),
                    _ => return wrong("state", format!("{name} holds an entry that is not {}", ledger.name(dot))),
                }
            }
        }
        held.sort_unstable();
        let mut expected: Vec<GlobalDot> = Vec::new();
        for (slot, to) in self.clock.iter() {
            let number = self.slots.number(slot);
            for seq in 1..=to {
                let Some(op) = ledger.op((number, seq)) else { continue };
                if op.lives && !op.killed_by.iter().any(|killer| self.covers(*killer)) {
                    // Below the floor a removal record may be gone, and may still be there.
                    let optional = op.entry.is_none() && state.floor.covers(Dot::new(slot, seq));
                    if !optional || held.binary_search(&(number, seq)).is_ok() {
                        expected.push((number, seq));
                    }
                }
            }
        }
        expected.sort_unstable();
        let missing = expected.iter().find(|dot| held.binary_search(dot).is_err());
        let surplus = held.iter().find(|dot| expected.binary_search(dot).is_err());
        match (missing, surplus) {
            (None, None) => Ok(()),
            (Some(dot), _) => wrong("state", format!("{} is covered and alive, and has no entry", ledger.name(*dot))),
            (_, Some(dot)) => wrong("state", format!("{} is dead, and has an entry", ledger.name(*dot))),
        }
    }
}
