//! How good the advice would have been, on decisions that the model did not see.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::case::Decision;
use super::model::{Advice, Model, Why};
use super::strategy::Strategy;

/// Bins of confidence, each a tenth wide.
const BINS: usize = 10;

/// Shares are between 0 and 1.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Evaluation {
    /// Decisions looked at.
    pub decisions: usize,
    /// Left aside, because they are not later than what the model was made from.
    pub not_later: usize,
    pub answered: usize,
    pub right: usize,
    pub per_strategy: BTreeMap<Strategy, OfStrategy>,
    pub calibration: Reliability,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OfStrategy {
    /// Times people chose it.
    pub chosen: usize,
    /// Times it was advised.
    pub advised: usize,
    /// Times it was advised and chosen.
    pub right: usize,
}

/// How far confidence is from being right, over all decisions on fields that the model knows, answered or not.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reliability {
    /// Expected calibration error: the mean gap between confidence and the share that was right, by bins of a tenth
    /// (Naeini, Cooper and Hauskrecht, 2015).
    pub expected_error: f64,
    /// The same over the answered decisions alone.
    pub expected_error_answered: f64,
    pub bins: Vec<Bin>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Bin {
    pub decisions: usize,
    pub right: usize,
    /// The mean.
    pub confidence: f64,
}

impl Evaluation {
    /// Of the answered. `None` when nothing was.
    pub fn accuracy(&self) -> Option<f64> {
        (self.answered > 0).then(|| self.right as f64 / self.answered as f64)
    }

    /// The share that was answered.
    pub fn coverage(&self) -> f64 {
        self.answered as f64 / self.decisions.max(1) as f64
    }
}

/// The earlier part, to train on, and the later `share` of the decisions, to evaluate on. Decisions of the same time
/// stay together, in the earlier part.
pub fn split_by_time(mut decisions: Vec<Decision>, share: f64) -> (Vec<Decision>, Vec<Decision>) {
    decisions.sort_by_key(|decision| decision.at_ms);
    let earlier = decisions.len() - (decisions.len() as f64 * share.clamp(0.0, 1.0)) as usize;
    let last = earlier.checked_sub(1).and_then(|at| decisions.get(at)).map(|decision| decision.at_ms);
    let cut = decisions.partition_point(|decision| last.is_some_and(|last| decision.at_ms <= last));
    let later = decisions.split_off(cut);
    (decisions, later)
}

/// Only decisions later than the model's last one count.
pub fn evaluate(model: &Model, decisions: &[Decision]) -> Evaluation {
    let later: Vec<&Decision> = decisions.iter().filter(|d| d.at_ms > model.origin().until_ms).collect();
    let mut per_strategy = BTreeMap::<Strategy, OfStrategy>::new();
    let mut guesses = Vec::new();
    let (mut answered, mut right) = (0, 0);
    for decision in &later {
        per_strategy.entry(decision.strategy).or_default().chosen += 1;
        let advice = model.advise(&decision.case);
        if let Advice::Use { strategy, .. } = advice {
            let hit = strategy == decision.strategy;
            let of = per_strategy.entry(strategy).or_default();
            of.advised += 1;
            of.right += usize::from(hit);
            answered += 1;
            right += usize::from(hit);
        }
        guesses.extend(Guess::of(model, &advice, decision));
    }
    let calibration = reliability(&guesses);
    let (decisions, not_later) = (later.len(), decisions.len() - later.len());
    Evaluation { decisions, not_later, answered, right, per_strategy, calibration }
}

struct Guess {
    confidence: f64,
    right: bool,
    answered: bool,
}

impl Guess {
    /// `None` for a field that the model does not know: there it has no confidence at all.
    fn of(model: &Model, advice: &Advice, decision: &Decision) -> Option<Self> {
        if matches!(advice, Advice::Abstain(Why::NeverSeen { .. })) {
            return None;
        }
        let (class, confidence) = model.nearest(&decision.case);
        let chosen = model.strategies().binary_search(&decision.strategy).unwrap_or(model.strategies().len());
        Some(Self { confidence, right: class == chosen, answered: matches!(advice, Advice::Use { .. }) })
    }
}

fn reliability(guesses: &[Guess]) -> Reliability {
    let answered = bins(guesses.iter().filter(|guess| guess.answered));
    let bins = bins(guesses.iter());
    let (expected_error, expected_error_answered) = (expected_error(&bins), expected_error(&answered));
    Reliability { expected_error, expected_error_answered, bins }
}

fn bins<'a>(guesses: impl Iterator<Item = &'a Guess>) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); BINS];
    for guess in guesses {
        let bin = &mut bins[((guess.confidence * BINS as f64) as usize).min(BINS - 1)];
        bin.decisions += 1;
        bin.right += usize::from(guess.right);
        bin.confidence += guess.confidence;
    }
    for bin in bins.iter_mut().filter(|bin| bin.decisions > 0) {
        bin.confidence /= bin.decisions as f64;
    }
    bins
}

fn expected_error(bins: &[Bin]) -> f64 {
    let all: usize = bins.iter().map(|bin| bin.decisions).sum();
    let gap = |bin: &Bin| (bin.confidence * bin.decisions as f64 - bin.right as f64).abs();
    bins.iter().map(gap).sum::<f64>() / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{self, BY_FIELD};
    use super::super::{Options, train};
    use super::*;

    #[test]
    fn only_decisions_later_than_the_training_count() {
        let decisions = simulated::decisions(BY_FIELD, 400, 0.05, 3);
        let (earlier, later) = split_by_time(decisions.clone(), 0.25);
        assert_eq!((earlier.len(), later.len()), (300, 100));
        let model = train(&earlier, 1, &Options::default()).unwrap();
        let evaluation = evaluate(&model, &decisions);
        assert_eq!((evaluation.decisions, evaluation.not_later), (100, 300));
        assert_eq!(Evaluation { not_later: 0, ..evaluation }, evaluate(&model, &later));
    }

    #[test]
    fn decisions_of_one_time_are_not_torn_apart() {
        let mut decisions = simulated::decisions(BY_FIELD, 10, 0.0, 3);
        decisions[5..9].iter_mut().for_each(|decision| decision.at_ms = 7);
        decisions[..5].iter_mut().for_each(|decision| decision.at_ms = 1);
        let (earlier, later) = split_by_time(decisions, 0.4);
        assert_eq!((earlier.len(), later.len()), (9, 1));
        assert_eq!(split_by_time(Vec::new(), 0.4), (vec![], vec![]));
    }

    #[test]
    fn the_expected_error_is_the_gap_between_confidence_and_being_right() {
        let guess = |confidence, right| Guess { confidence, right, answered: confidence >= 0.8 };
        let told = [guess(0.95, true), guess(0.95, false), guess(0.55, true), guess(0.55, true)];
        let seen = reliability(&told);
        // Half of two at 0.95 were right, and two of two at 0.55.
        assert!((seen.expected_error - (0.45 * 2.0 + 0.45 * 2.0) / 4.0).abs() < 1e-9, "{seen:?}");
        assert!((seen.expected_error_answered - 0.45).abs() < 1e-9, "{seen:?}");
        assert_eq!(seen.bins[9].decisions, 2);
    }
}
