//! One measured figure, and the table of all.

use std::time::Duration;

use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::core::bench::Target;
use super::core::meter::Measured;

/// A row: what was measured, one or two values with their unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// The slowest hundredth, where times were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    pub samples: u64,
    /// What the design asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How many times worse than that; below 1 it is met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_target: Option<f64>,
}

impl From<Measured> for Figure {
    fn from(measured: Measured) -> Self {
        let Measured { name, value, unit, target, samples, .. } = measured;
        let (of_target, target) = (target.miss(value), (target != Target::None).then(|| target.to_string()));
        Self { name, value, unit, p99: None, samples, target, of_target }
    }
}

impl Figure {
    pub fn rate(name: impl Into<String>, count: u64, took: Duration) -> Self {
        Self {
            name: name.into(),
            value: count as f64 / took.as_secs_f64(),
            unit: "/s",
            p99: None,
            samples: count,
            target: None,
            of_target: None,
        }
    }

    pub fn once(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, p99: None, samples: 1, target: None, of_target: None }
    }

    pub fn times(name: impl Into<String>, times: &Times) -> Self {
        let ms = |quantile| times.0.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            name: name.into(),
            value: ms(0.5),
            unit: "ms p50",
            p99: Some(ms(0.99)),
            samples: times.0.len(),
            target: None,
            of_target: None,
        }
    }
}

/// Times from a microsecond to a minute.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

const TIME_MICROS_MAX: u64 = 60_000_000;

impl Times {
    pub fn new() -> Result<Self, String> {
        Histogram::new_with_bounds(1, TIME_MICROS_MAX, 3).map(Self).map_err(|error| error.to_string())
    }

    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn add(&mut self, other: &Self) -> Result<(), String> {
        self.0.add(&other.0).map_err(|error| error.to_string())
    }
}

pub fn table(figures: &[Figure]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["FIGURE", "VALUE", "UNIT", "TARGET", "P99", "SAMPLES"]);
    for figure in figures {
        let p99 = figure.p99.map(round).unwrap_or_default();
        let samples = figure.samples.to_string();
        let target = figure.target.iter().zip(figure.of_target).map(|(target, miss)| format!("{target} ({miss:.1} ×)"));
        table.add_row([
            figure.name.clone(),
            round(figure.value),
            figure.unit.to_owned(),
            target.collect(),
            p99,
            samples,
        ]);
    }
    table.trim_fmt()
}

/// Three digits say what such a measurement knows.
pub(super) fn round(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut times = Times::new().unwrap();
        for ms in 1..=100 {
            times.record(Duration::from_millis(ms));
        }
        let figure = Figure::times("x", &times);
        assert!((figure.value - 50.0).abs() < 0.1, "{figure:?}");
        assert!((figure.p99.unwrap() - 99.0).abs() < 0.2, "{figure:?}");
        assert_eq!(figure.samples, 100);
    }

    #[test]
    fn a_rate_is_a_count_over_a_time() {
        assert_eq!(Figure::rate("x", 500, Duration::from_millis(250)).value, 2_000.0);
        assert_eq!((round(1234.5), round(12.34), round(0.5)), ("1234".into(), "12.3".into(), "0.50".into()));
    }
}
