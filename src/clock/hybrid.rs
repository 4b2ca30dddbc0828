//! Hybrid logical time: wall-clock milliseconds with a counter, so that stamps of one node never go back and a stamp
//! that saw another is later than it (Kulkarni et al., "Logical Physical Clocks", 2014).

use std::fmt;

/// 48 bits of milliseconds since the Unix epoch above a 16-bit counter. Orders *concurrent* values only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HybridTime(pub u64);

impl HybridTime {
    pub fn from_ms(ms: u64) -> Self {
        Self(ms << 16)
    }

    /// Milliseconds since the Unix epoch.
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    pub fn counter(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Debug for HybridTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms+{}", self.ms(), self.counter())
    }
}

/// Why a stamp could not be given. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of this host fell {behind_ms} ms behind what this node already stamped (at most {allowed_ms} ms is allowed): correct the host's clock"
)]
pub struct SkewError {
    pub behind_ms: u64,
    pub allowed_ms: u64,
}

/// Gives this node's stamps.
#[derive(Debug, Clone)]
pub struct HybridClock {
    last: HybridTime,
    max_skew_ms: u64,
}

impl HybridClock {
    /// `max_skew_ms`: how far a stamp may run ahead of the host's clock. Lower notices a broken clock sooner; below the
    /// real skew of the fleet it refuses writes.
    pub fn new(max_skew_ms: u64) -> Self {
        Self { last: HybridTime::default(), max_skew_ms }
    }

    /// A stamp later than every one given or observed so far, at most `max_skew_ms` ahead of `now_ms`.
    pub fn stamp(&mut self, now_ms: u64) -> Result<HybridTime, SkewError> {
        let next = HybridTime::from_ms(now_ms).max(HybridTime(self.last.0 + 1));
        let behind_ms = next.ms().saturating_sub(now_ms);
        if behind_ms > self.max_skew_ms {
            return Err(SkewError { behind_ms, allowed_ms: self.max_skew_ms });
        }
        self.last = next;
        Ok(next)
    }

    /// Takes note of a stamp from elsewhere. Returns false, and folds nothing in, when it lies beyond the allowed skew:
    /// the value it stamps is still applied, because dropping it would make the state depend on who received it when.
    #[must_use]
    pub fn observe(&mut self, stamp: HybridTime, now_ms: u64) -> bool {
        if stamp.ms() > now_ms + self.max_skew_ms {
            return false;
        }
        self.last = self.last.max(stamp);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_while_the_wall_clock_stands_or_steps_back() {
        let mut clock = HybridClock::new(500);
        let stamps: Vec<_> = [1_000, 1_000, 990, 1_001].map(|now| clock.stamp(now).unwrap()).into();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
    }

    #[test]
    fn a_clock_that_stepped_back_too_far_is_refused() {
        let mut clock = HybridClock::new(500);
        clock.stamp(10_000).unwrap();
        assert_eq!(clock.stamp(9_000), Err(SkewError { behind_ms: 1_000, allowed_ms: 500 }));
        assert!(clock.stamp(9_600).is_ok());
    }

    #[test]
    fn a_stamp_from_the_future_does_not_pull_this_clock_along() {
        let mut clock = HybridClock::new(500);
        assert!(!clock.observe(HybridTime::from_ms(60_000), 1_000));
        assert!(clock.observe(HybridTime::from_ms(1_400), 1_000));
        let stamp = clock.stamp(1_000).unwrap();
        assert!(stamp > HybridTime::from_ms(1_400) && stamp.ms() < 1_500);
    }
}
