//! Chance from a seed: the same draws on every machine and in every run.

/// xoshiro256** (Blackman and Vigna, 2018), seeded by splitmix64.
#[derive(Clone, Debug)]
pub struct Chance {
    state: [u64; 4],
}

impl Chance {
    pub fn new(seed: u64) -> Self {
        let mut x = seed;
        let state = [(); 4].map(|()| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    /// Draws of its own for one part of a simulation: what one part draws does not move what another will.
    pub fn of(seed: u64, part: &str) -> Self {
        Self::new(xxhash_rust::xxh3::xxh3_64_with_seed(part.as_bytes(), seed))
    }

    pub fn bits(&mut self) -> u64 {
        let s = &mut self.state;
        let drawn = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        drawn
    }

    /// Below `bound`; 0 when the bound is 0. By multiplication (Lemire, 2019), whose bias is far below what is seen here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.unit() < probability
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { Some(&of[self.index(of.len())]) }
    }

    /// One of `of`, as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, of: &[(T, u64)]) -> Option<T> {
        let mut at = self.below(of.iter().map(|(_, weight)| weight).sum());
        of.iter().find(|(_, weight)| at.checked_sub(*weight).map(|left| at = left).is_none()).map(|(item, _)| *item)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }

    /// The time to the next of events that come `mean` apart on average, independently of each other.
    pub fn gap(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_draws_and_parts_give_others() {
        let draws = |mut chance: Chance| [(); 4].map(|()| chance.bits());
        assert_eq!(draws(Chance::new(7)), draws(Chance::new(7)));
        assert_ne!(draws(Chance::of(7, "network")), draws(Chance::of(7, "disks")));
    }

    #[test]
    fn weights_are_kept() {
        let mut chance = Chance::new(1);
        let drawn: Vec<_> = (0..4000).filter_map(|_| chance.weighted(&[('a', 3), ('b', 1), ('c', 0)])).collect();
        let share = drawn.iter().filter(|c| **c == 'a').count();
        assert!((2800..3200).contains(&share) && !drawn.contains(&'c'), "{share}");
        assert_eq!(chance.weighted::<char>(&[]), None);
    }
}
