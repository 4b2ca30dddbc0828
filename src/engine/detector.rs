//! Failure detection by accrual: how surprising is it that no heartbeat came yet?
//! (Hayashibara et al., "The φ accrual failure detector", 2004.)

use std::collections::VecDeque;

/// What this node believes of a peer. Nothing is ever evicted by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    Alive,
    Suspect,
    Down,
}

const INTERVALS_MAX: usize = 64;
/// No network is so regular that a delay of a tenth of a second means anything.
const DEVIATION_MS_MIN: f64 = 100.0;
const PHI_SUSPECT: f64 = 3.0;
const PHI_DOWN: f64 = 8.0;

/// The arrivals of one peer's heartbeats.
#[derive(Clone, Debug)]
pub struct Detector {
    intervals_ms: VecDeque<u64>,
    last_ms: u64,
    expected_ms: u64,
}

impl Detector {
    /// `expected_ms`: the interval to assume before any was seen.
    pub fn new(expected_ms: u64, now_ms: u64) -> Self {
        Self { intervals_ms: VecDeque::new(), last_ms: now_ms, expected_ms }
    }

    pub fn heartbeat(&mut self, now_ms: u64) {
        let interval = now_ms.saturating_sub(self.last_ms);
        // Several messages in one burst are one sign of life.
        if interval >= self.expected_ms / 4 {
            self.intervals_ms.push_back(interval.min(10 * self.expected_ms));
            self.last_ms = now_ms;
        }
        if self.intervals_ms.len() > INTERVALS_MAX {
            self.intervals_ms.pop_front();
        }
    }

    /// When a heartbeat was last heard, ms.
    pub fn last_heard_ms(&self) -> u64 {
        self.last_ms
    }

    /// -log10 of the probability that a heartbeat comes later than now, were the peer alive. The normal distribution's
    /// tail by the logistic approximation of Bowling et al. (2009).
    pub fn phi(&self, now_ms: u64) -> f64 {
        let n = self.intervals_ms.len() as f64;
        let expected = self.expected_ms as f64;
        // One assumed interval keeps the estimate sane while few were seen.
        let sum: f64 = self.intervals_ms.iter().map(|i| *i as f64).sum::<f64>() + expected;
        let mean = (sum / (n + 1.0)).max(expected);
        let variance = self.intervals_ms.iter().map(|i| (*i as f64 - mean).powi(2)).sum::<f64>() / (n + 1.0);
        let deviation = variance.sqrt().max(DEVIATION_MS_MIN);
        let y = (now_ms.saturating_sub(self.last_ms) as f64 - mean) / deviation;
        let e = (-y * (1.5976 + 0.070566 * y * y)).exp();
        let later = if y > 0.0 { e / (1.0 + e) } else { 1.0 - 1.0 / (1.0 + e) };
        -later.max(1e-300).log10()
    }

    pub fn liveness(&self, now_ms: u64) -> Liveness {
        match self.phi(now_ms) {
            phi if phi < PHI_SUSPECT => Liveness::Alive,
            phi if phi < PHI_DOWN => Liveness::Suspect,
            _ => Liveness::Down,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular() -> Detector {
        let mut detector = Detector::new(400, 0);
        (1..=20).for_each(|n| detector.heartbeat(n * 400));
        detector
    }

    #[test]
    fn silence_turns_alive_into_suspect_into_down_within_two_seconds() {
        let detector = regular();
        let at = |ms: u64| detector.liveness(8_000 + ms);
        assert_eq!(at(450), Liveness::Alive);
        assert_eq!(at(800), Liveness::Suspect);
        assert_eq!(at(2_000), Liveness::Down);
        assert!((0..3_000).collect::<Vec<_>>().windows(2).all(|w| at(w[0]) <= at(w[1])));
    }

    #[test]
    fn an_irregular_peer_is_given_more_time() {
        let mut irregular = Detector::new(400, 0);
        let mut now = 0;
        for n in 0..20 {
            now += if n % 2 == 0 { 200 } else { 1_400 };
            irregular.heartbeat(now);
        }
        assert!(irregular.phi(now + 1_200) < regular().phi(8_000 + 1_200));
    }
}
