//! How long things took: a count for each range of times. It takes the same few bytes however much is counted.

/// The upper ends of the ranges, µs: from a decision in memory to the longest that anything is waited for. Around a
/// decision of a quorum on disks, 0.5 to 10 ms, they are closest.
pub const BOUNDS_US: [u64; 16] = [
    250,
    500,
    1_000,
    1_500,
    2_500,
    4_000,
    6_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    600_000_000,
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// By range; the last is for what took longer than all bounds.
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Timing {
    pub fn record(&mut self, took_us: u64) {
        let range = BOUNDS_US.partition_point(|bound| *bound < took_us);
        self.counts[range] += 1;
        self.sum_us = self.sum_us.saturating_add(took_us);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The ranges' upper ends, µs, and how many fell into each; `None` has no end.
    pub fn ranges(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        BOUNDS_US.iter().copied().map(Some).chain([None]).zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_range_that_holds_it() {
        let mut timing = Timing::default();
        for took_us in [0, 250, 251, 1_000, 600_000_000, u64::MAX] {
            timing.record(took_us);
        }
        let counted: Vec<_> = timing.ranges().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Some(250), 2), (Some(500), 1), (Some(1_000), 1), (Some(600_000_000), 1), (None, 1)]);
        assert_eq!((timing.count(), timing.sum_us()), (6, u64::MAX));
        assert!(BOUNDS_US.is_sorted());
    }
}
