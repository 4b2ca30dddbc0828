//! Measures by medians: a few batches after a warm-up, each long enough for the clock.

use std::time::Duration;

use super::bench::{Bench, Case, Target};

/// One figure with its target.
#[derive(Debug, Clone)]
pub struct Measured {
    pub group: String,
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    pub target: Target,
    /// How often the thing was done.
    pub samples: u64,
}

/// Collects figures.
pub struct Meter<'a> {
    /// Batches of a repeated case; the median of them counts.
    batches: usize,
    batch_min: Duration,
    group: String,
    told: &'a mut dyn FnMut(Measured),
}

/// No batch does more than this, so that what is prepared for one fits in memory.
const BATCH_LEN_MAX: u64 = 1 << 18;

impl<'a> Meter<'a> {
    /// `told` hears each figure as soon as it is known.
    pub fn new(quick: bool, told: &'a mut dyn FnMut(Measured)) -> Self {
        let (batches, batch_ms) = if quick { (5, 10) } else { (9, 30) };
        Self { batches, batch_min: Duration::from_millis(batch_ms), group: String::new(), told }
    }

    fn tell(&mut self, case: Case, value: f64, unit: &'static str, samples: u64) {
        let group = self.group.clone();
        (self.told)(Measured { group, name: case.name, value, unit, target: case.target, samples });
    }
}

impl std::fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Meter({} batches of {:?})", self.batches, self.batch_min)
    }
}

impl Bench for Meter<'_> {
    fn begin(&mut self, group: &str) {
        group.clone_into(&mut self.group);
    }

    fn time(&mut self, case: Case, run: &mut dyn FnMut(u64) -> Duration) {
        // Growing batches find the length, and warm up.
        let mut len = 1;
        while run(len) < self.batch_min && len < BATCH_LEN_MAX {
            len *= 2;
        }
        let ns = |took: Duration| took.as_nanos() as f64 / len as f64;
        let times: Vec<f64> = (0..self.batches).map(|_| ns(run(len))).collect();
        self.tell(case, median(times), "ns", len * self.batches as u64);
    }

    fn value(&mut self, case: Case, unit: &'static str, value: f64) {
        self.tell(case, value, unit, 1);
    }
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_batch_does_not_move_a_figure() {
        let mut figures = Vec::new();
        let mut told = |measured: Measured| figures.push(measured);
        let mut meter = Meter::new(true, &mut told);
        let mut calls = 0;
        meter.time(Case::new("x", Target::AtMost(50.0)), &mut |n| {
            calls += 1;
            let stall = if calls % 5 == 0 { Duration::from_secs(9) } else { Duration::ZERO };
            Duration::from_nanos(100 * n) + stall
        });
        assert_eq!((figures[0].value, figures[0].unit), (100.0, "ns"));
        assert_eq!(figures[0].target.miss(figures[0].value), Some(2.0));
    }
}
