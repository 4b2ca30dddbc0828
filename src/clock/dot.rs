//! A dot names one op: which replica, and its how-manieth.

use std::fmt;

/// A replica's place in this node's [`Roster`](super::Roster). Local: another node numbers the same replica differently.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot(pub u32);

impl Slot {
    /// Slots are 24 bits wide.
    pub const MAX: u32 = (1 << 24) - 1;

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// `(slot, seq)` in one word: 24 bits of slot above 40 bits of sequence number. The first op of a replica has seq 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot(pub u64);

impl Dot {
    /// Highest sequence number: 2^40 - 1, about 34 years at a thousand ops a second.
    pub const SEQ_MAX: u64 = (1 << 40) - 1;

    /// A seq beyond [`Dot::SEQ_MAX`] or a slot beyond [`Slot::MAX`] would name another op: decoders refuse them first.
    pub fn new(slot: Slot, seq: u64) -> Self {
        debug_assert!(seq <= Self::SEQ_MAX && slot.0 <= Slot::MAX);
        Self(u64::from(slot.0) << 40 | seq)
    }

    pub fn slot(self) -> Slot {
        Slot((self.0 >> 40) as u32)
    }

    pub fn seq(self) -> u64 {
        self.0 & Self::SEQ_MAX
    }
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.slot().0, self.seq())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_keeps_both_halves_at_their_bounds() {
        for (slot, seq) in [(0, 1), (Slot::MAX, Dot::SEQ_MAX), (5, 0)] {
            let dot = Dot::new(Slot(slot), seq);
            assert_eq!((dot.slot(), dot.seq()), (Slot(slot), seq));
        }
    }
}
