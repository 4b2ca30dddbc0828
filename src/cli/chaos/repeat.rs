//! A scenario several times, each with another seed: a line for each, and how far the figures spread.

use serde::Serialize;

use crate::cli::chaos::report::Report;
use crate::cli::chaos::tenure::Figures;

/// What all repeats came to.
#[derive(Debug, Serialize)]
pub struct Series {
    pub scenario: String,
    pub failed: usize,
    pub spread: Vec<Spread>,
    pub repeats: Vec<Report>,
}

/// One figure over all repeats that have it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    pub figure: &'static str,
    pub count: usize,
    pub min_ms: f64,
    pub p50_ms: f64,
    pub max_ms: f64,
}

type Figure = (&'static str, fn(&Figures) -> Option<f64>);

const FIGURES: [Figure; 3] = [
    ("told before the lease's end", |figures| figures.told_before_end_ms),
    ("from the fault to the takeover", |figures| figures.hurt_to_takeover_ms),
    ("from the lease's end to the takeover", |figures| figures.end_to_takeover_ms),
];

impl Series {
    pub fn of(scenario: &str, repeats: Vec<Report>) -> Self {
        let failed = repeats.iter().filter(|report| report.wrong().next().is_some()).count();
        let contests: Vec<&Figures> = repeats.iter().filter_map(|report| report.contest.as_ref()).collect();
        let spread = FIGURES
            .into_iter()
            .filter_map(|(name, of)| Spread::of(name, contests.iter().filter_map(|figures| of(figures)).collect()));
        Self { scenario: scenario.to_owned(), failed, spread: spread.collect(), repeats }
    }

    pub fn text(&self) -> String {
        let mut text = format!("{}: {} repeats, {} failed", self.scenario, self.repeats.len(), self.failed);
        for Spread { figure, count, min_ms, p50_ms, max_ms } in &self.spread {
            text += &format!(
                "\n  {figure:38} least {min_ms:>8.1} ms, p50 {p50_ms:>8.1} ms, most {max_ms:>8.1} ms, of {count}"
            );
        }
        text
    }
}

impl Spread {
    fn of(figure: &'static str, mut all_ms: Vec<f64>) -> Option<Self> {
        all_ms.sort_by(f64::total_cmp);
        let (min_ms, max_ms) = (*all_ms.first()?, *all_ms.last()?);
        Some(Self { figure, count: all_ms.len(), min_ms, p50_ms: all_ms[all_ms.len() / 2], max_ms })
    }
}

/// A line for one of them.
pub fn line(number: u64, report: &Report) -> String {
    let verdict = match report.wrong().map(|verdict| verdict.oracle).collect::<Vec<_>>() {
        wrong if wrong.is_empty() => "ok".to_owned(),
        wrong => format!("FAILED: {}", wrong.join(", ")),
    };
    let figures = report.contest.as_ref().map_or(String::new(), |figures| format!(": {}", figures.text()));
    format!("repeat {number:>3}, seed {:>3}: {verdict}{figures}", report.seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_from_the_least_to_the_most() {
        let spread = Spread::of("x", vec![3.0, -1.0, 2.0]).unwrap();
        assert_eq!((spread.count, spread.min_ms, spread.p50_ms, spread.max_ms), (3, -1.0, 2.0, 3.0));
        assert_eq!(Spread::of("x", Vec::new()), None);
    }
}
