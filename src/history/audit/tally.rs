//! Counting what occurs most, in bounded memory (Misra and Gries, "Finding repeated elements", 1982).
//!
//! Once as many keys are held as may be, a further one takes one off each instead, and keys at zero go. A count is then
//! too low by at most the number of times that happened, which is told; what is frequent stays.

use std::collections::BTreeMap;

/// Keys of one tally: of about 150 bytes each, so 2.5 MB; 34 MB if every name were as long as may be.
pub const KEYS_MAX: usize = 16_384;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally<K> {
    counts: BTreeMap<K, u64>,
    keys_max: usize,
    short_by: u64,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), keys_max: KEYS_MAX, short_by: 0 }
    }
}

impl<K: Ord + Clone> Tally<K> {
    pub fn new(keys_max: usize) -> Self {
        Self { keys_max: keys_max.max(1), ..Self::default() }
    }

    pub fn add(&mut self, key: K) {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else if self.counts.len() < self.keys_max {
            self.counts.insert(key, 1);
        } else {
            self.short_by += 1;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// How far a count may lie below the truth; 0 while all keys had room.
    pub fn short_by(&self) -> u64 {
        self.short_by
    }

    /// The `most` keys with the highest counts of at least `least`: the most frequent first, equals by key.
    pub fn top(&self, most: usize, least: u64) -> Vec<(K, u64)> {
        let counted = self.counts.iter().filter(|(_, count)| **count >= least);
        let mut sorted: Vec<(&K, u64)> = counted.map(|(key, count)| (key, *count)).collect();
        sorted.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        sorted.into_iter().take(most).map(|(key, count)| (key.clone(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_count_is_too_high_nor_lower_than_told(keys in prop::collection::vec(0u8..12, 0..200), room in 1..14usize) {
            let mut tally = Tally::new(room);
            keys.iter().for_each(|key| tally.add(*key));
            let counted: BTreeMap<u8, u64> = tally.top(usize::MAX, 1).into_iter().collect();
            prop_assert!(counted.len() <= room);
            prop_assert!(tally.short_by() * (room as u64 + 1) <= keys.len() as u64);
            for key in 0..12 {
                let truth = keys.iter().filter(|other| **other == key).count() as u64;
                let count = counted.get(&key).copied().unwrap_or(0);
                prop_assert!(count <= truth && count + tally.short_by() >= truth, "{}: {} of {}", key, count, truth);
            }
        }
    }

    #[test]
    fn equals_come_in_the_order_of_their_keys() {
        let mut tally = Tally::default();
        ["b", "a", "c", "c"].into_iter().for_each(|key| tally.add(key));
        assert_eq!(tally.top(2, 1), [("c", 2), ("a", 1)]);
        assert_eq!(tally.top(9, 2), [("c", 2)]);
    }
}
