//! Version vectors: what a state reflects.

use super::{Dot, Slot};

/// How two clocks relate (Mattern, "Virtual time and global states of distributed systems", 1989, section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Equal,
    Before,
    After,
    Concurrent,
}

/// For each slot the highest contiguous seq covered. Dense: index = slot. Missing tail entries count as 0, so clocks of
/// different lengths compare.
#[derive(Default, Debug)]
pub struct Clock {
    seqs: Vec<u64>,
}

impl Clone for Clock {
    fn clone(&self) -> Self {
        Self { seqs: self.seqs.clone() }
    }

    /// Keeps the allocation: what a peer was told is copied at every heartbeat.
    fn clone_from(&mut self, source: &Self) {
        self.seqs.clone_from(&source.seqs);
    }
}

impl Clock {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn get(&self, slot: Slot) -> u64 {
        self.seqs.get(slot.index()).copied().unwrap_or(0)
    }

    /// Sets `slot` to `seq`, also downwards. Use [`Clock::raise`] to only ever grow.
    pub fn set(&mut self, slot: Slot, seq: u64) {
        if self.seqs.len() <= slot.index() {
            // Replicas come one at a time, and a large cluster keeps a clock of each neighbour.
            self.seqs.reserve_exact((slot.index() + 1 - self.seqs.len()).max(self.seqs.len() / 8));
            self.seqs.resize(slot.index() + 1, 0);
        }
        // No dot lies beyond, and `compare` counts on it.
        self.seqs[slot.index()] = seq.min(Dot::SEQ_MAX);
    }

    pub fn raise(&mut self, slot: Slot, seq: u64) {
        if seq > self.get(slot) {
            self.set(slot, seq);
        }
    }

    pub fn covers(&self, dot: Dot) -> bool {
        dot.seq() <= self.get(dot.slot())
    }

    /// Whether every dot that `other` covers is covered here too.
    pub fn covers_all(&self, other: &Clock) -> bool {
        matches!(self.compare(other), Order::Equal | Order::After)
    }

    pub fn compare(&self, other: &Clock) -> Order {
        let common = self.seqs.len().min(other.seqs.len());
        // Branch-free over the common part, so that it compiles to vector code. Seqs have 40 bits: a difference that
        // would be negative has its top bit set. (Plain SSE2 subtracts words, but does not compare them.)
        let step = |(behind, ahead): (u64, u64), (a, b): (&u64, &u64)| {
            (behind | a.wrapping_sub(*b), ahead | b.wrapping_sub(*a))
        };
        let (behind, ahead) = self.seqs[..common].iter().zip(&other.seqs[..common]).fold((0, 0), step);
        let rest = |seqs: &[u64]| seqs[common..].iter().any(|seq| *seq > 0);
        match (behind >> 63 == 1 || rest(&other.seqs), ahead >> 63 == 1 || rest(&self.seqs)) {
            (false, false) => Order::Equal,
            (true, false) => Order::Before,
            (false, true) => Order::After,
            (true, true) => Order::Concurrent,
        }
    }

    /// The least clock that covers both.
    pub fn join(&mut self, other: &Clock) {
        if self.seqs.len() < other.seqs.len() {
            self.seqs.resize(other.seqs.len(), 0);
        }
        for (a, b) in self.seqs.iter_mut().zip(&other.seqs) {
            *a = (*a).max(*b);
        }
    }

    /// The greatest clock that both cover.
    pub fn meet(&mut self, other: &Clock) {
        self.seqs.truncate(other.seqs.len());
        for (a, b) in self.seqs.iter_mut().zip(&other.seqs) {
            *a = (*a).min(*b);
        }
    }

    /// Slots up to the last one that was ever set.
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Slots with at least one covered dot, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.seqs.iter().enumerate().filter(|(_, seq)| **seq > 0).map(|(i, seq)| (Slot(i as u32), *seq))
    }

    pub fn is_empty(&self) -> bool {
        self.seqs.iter().all(|seq| *seq == 0)
    }
}

impl PartialEq for Clock {
    fn eq(&self, other: &Self) -> bool {
        self.compare(other) == Order::Equal
    }
}

impl Eq for Clock {}

impl FromIterator<(Slot, u64)> for Clock {
    fn from_iter<I: IntoIterator<Item = (Slot, u64)>>(entries: I) -> Self {
        let mut clock = Clock::new();
        for (slot, seq) in entries {
            clock.set(slot, seq);
        }
        clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clock(seqs: &[u64]) -> Clock {
        Clock { seqs: seqs.to_vec() }
    }

    #[test]
    fn trailing_zeros_do_not_tell_clocks_apart() {
        assert_eq!(clock(&[1, 0, 0]).compare(&clock(&[1])), Order::Equal);
        assert_eq!(clock(&[]).compare(&clock(&[0, 1])), Order::Before);
        assert_eq!(clock(&[1, 0]).compare(&clock(&[0, 1])), Order::Concurrent);
    }

    proptest! {
        #[test]
        fn join_and_meet_are_the_lattice_that_compare_orders(
            a in prop::collection::vec(0u64..4, 0..6), b in prop::collection::vec(0u64..4, 0..6),
        ) {
            let (a, b) = (clock(&a), clock(&b));
            let (mut join, mut meet) = (a.clone(), a.clone());
            join.join(&b);
            meet.meet(&b);
            prop_assert!(join.covers_all(&a) && join.covers_all(&b));
            prop_assert!(a.covers_all(&meet) && b.covers_all(&meet));
            prop_assert_eq!(a.covers_all(&b), join == a);
            prop_assert_eq!(a.covers_all(&b), meet == b);
            for slot in (0..6).map(Slot) {
                prop_assert_eq!(join.get(slot), a.get(slot).max(b.get(slot)));
                prop_assert_eq!(meet.get(slot), a.get(slot).min(b.get(slot)));
            }
        }
    }
}
