//! How long to wait before the next attempt.

/// No wait is longer while a partition is known.
pub(super) const URGENT_MS_MAX: u64 = 1_000;
/// Before the first attempt after a loss: long enough that both ends rarely dial at once, short enough not to be noticed.
pub(super) const FIRST_JITTER_MS: u64 = 50;

/// Exponential, with jitter.
#[derive(Debug)]
pub(super) struct Backoff {
    ms_min: u64,
    ms_max: u64,
    random: u64,
}

impl Backoff {
    pub fn new((ms_min, ms_max): (u64, u64), random: u64) -> Self {
        Self { ms_min, ms_max, random: random | 1 }
    }

    /// How long to wait after so many failures in a row.
    pub fn wait(&mut self, failures: u32, urgent: bool) -> u64 {
        if failures == 0 {
            return self.below(FIRST_JITTER_MS);
        }
        let doubled = self.ms_min.saturating_mul(1 << (failures - 1).min(20)).min(self.ms_max);
        let capped = if urgent { doubled.min(URGENT_MS_MAX) } else { doubled };
        capped / 2 + self.below(capped / 2 + 1)
    }

    /// xorshift64*: spreading knocks needs no better chance.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound.max(1)
    }
}
