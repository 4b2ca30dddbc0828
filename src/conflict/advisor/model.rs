//! What was learned: whole-number weights of named features, and the advice they give.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::case::Case;
use super::features::{features, field_feature};
use super::fit::softmax;
use super::strategy::Strategy;

/// Below this confidence there is no advice.
pub const ANSWER_FROM: f64 = 0.8;
/// Of the text's form. A model of another version is refused: train again.
pub const VERSION: u32 = 1;
/// Bytes of a model's text.
pub const MODEL_BYTES_MAX: usize = 256 * 1024;
/// Features of a model. A name has up to 205 bytes and 14 classes weigh it with up to 8 each: 162 KB in all, so a
/// trained model always fits into [`MODEL_BYTES_MAX`] unless names are made of characters that JSON escapes.
pub const FEATURES_MAX: usize = 512;
/// Weights and the temperature are kept in thousandths.
pub const UNIT: f64 = 1000.0;
/// In thousandths. No sum of features that a case can have then leaves the whole numbers that an f64 holds.
pub const WEIGHT_MAX: i32 = 999_999;

/// From [`super::train`]. Read [`Model::from_json`] for one that came from elsewhere.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub(super) version: u32,
    pub(super) origin: Origin,
    /// In order; each stands once.
    pub(super) features: Vec<String>,
    pub(super) strategies: Vec<Strategy>,
    /// One row for each strategy and a last one for everything else: a weight for each feature, then the bias.
    pub(super) weights: Vec<Vec<i32>>,
    pub(super) calibration: Calibration,
}

/// From scores to confidence, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Scores are divided by it. Above 1 the bare model was too sure of itself.
    pub temperature: u32,
    /// The share of decisions that follow no habit: slips, moods, what no feature tells.
    pub slips: u32,
}

/// What a model was made from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// Decisions given.
    pub decisions: usize,
    /// Of these, the latest so many were learned from: the window that foretold the held-out ones best.
    pub window: usize,
    /// Held out of the window to calibrate.
    pub held_out: usize,
    /// The time of the last decision. A fair evaluation looks at later ones only.
    pub until_ms: u64,
    pub seed: u64,
}

/// A text that is no model for this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the model has {0} bytes, more than the {MODEL_BYTES_MAX} allowed: train again")]
    Long(usize),
    #[error("no model of version {VERSION}: {0}; train again")]
    Shape(String),
}

#[derive(Clone, PartialEq, Debug)]
pub enum Advice {
    Use { strategy: Strategy, confidence: f64 },
    Abstain(Why),
}

/// Why there is no advice.
#[derive(Clone, PartialEq, Debug)]
pub enum Why {
    /// No decision on this field was learned from, or hardly any.
    NeverSeen {
        place: String,
    },
    /// What comes nearest is something that was chosen too rarely to be learned.
    Rare {
        confidence: f64,
    },
    Unsure {
        nearest: Strategy,
        confidence: f64,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::NeverSeen { place } => write!(f, "too few decisions on `{place}` were learned from"),
            Why::Rare { .. } => f.write_str("this looks like a case for a strategy that was rarely chosen"),
            Why::Unsure { nearest, confidence } => {
                let (sure, need) = (confidence * 100.0, ANSWER_FROM * 100.0);
                write!(f, "`{nearest}` comes nearest, with a confidence of {sure:.0} %; {need:.0} % are needed")
            }
        }
    }
}

impl Model {
    pub fn to_json(&self) -> String {
        // Maps with text keys, texts and whole numbers: nothing here can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn from_json(text: &str) -> Result<Self, Unreadable> {
        if text.len() > MODEL_BYTES_MAX {
            return Err(Unreadable::Long(text.len()));
        }
        let model: Self = serde_json::from_str(text).map_err(|error| Unreadable::Shape(error.to_string()))?;
        model.check().map_err(|what| Unreadable::Shape(what.to_owned()))?;
        Ok(model)
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        let sound = [
            (self.version == VERSION, "it is of another version"),
            (self.features.len() <= FEATURES_MAX, "it has too many features"),
            (self.features.is_sorted_by(|a, b| a < b), "its features are not in order"),
            (self.strategies.is_sorted_by(|a, b| a < b), "its strategies are not in order"),
            (!self.strategies.is_empty(), "it names no strategy"),
            (self.weights.len() == self.strategies.len() + 1, "it lacks weights, or has some too many"),
            (self.weights.iter().all(|row| row.len() == self.features.len() + 1), "a row of weights is cut"),
            (self.weights.iter().flatten().all(|w| (-WEIGHT_MAX..=WEIGHT_MAX).contains(w)), "a weight is too large"),
            ((1..=WEIGHT_MAX as u32).contains(&self.calibration.temperature), "its temperature is out of bounds"),
            (self.calibration.slips <= UNIT as u32, "it slips more often than always"),
        ];
        sound.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    /// What the cluster's people would do, if that is known well enough.
    pub fn advise(&self, case: &Case) -> Advice {
        if !self.weighs(&field_feature(case)) {
            return Advice::Abstain(Why::NeverSeen { place: case.place() });
        }
        let (class, confidence) = self.nearest(case);
        match self.strategies.get(class) {
            None => Advice::Abstain(Why::Rare { confidence }),
            Some(&nearest) if confidence < ANSWER_FROM => Advice::Abstain(Why::Unsure { nearest, confidence }),
            Some(&strategy) => Advice::Use { strategy, confidence },
        }
    }

    /// The share of each strategy that was learned. What is missing to one stands for all others.
    pub fn shares(&self, case: &Case) -> BTreeMap<Strategy, f64> {
        self.strategies.iter().copied().zip(self.confidences(case)).collect()
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Strategies that were chosen often enough to be learned.
    pub fn strategies(&self) -> &[Strategy] {
        &self.strategies
    }

    /// The likeliest class, the first of equals, and its confidence. The class after the last strategy is the rest.
    pub(super) fn nearest(&self, case: &Case) -> (usize, f64) {
        let shares = self.confidences(case);
        let first = (0, shares.first().copied().unwrap_or_default());
        shares.into_iter().enumerate().fold(first, |best, next| if next.1 > best.1 { next } else { best })
    }

    fn confidences(&self, case: &Case) -> Vec<f64> {
        let features = self.known(case);
        let mut shares: Vec<f64> = self.weights.iter().map(|row| score(row, &features) / UNIT).collect();
        self.calibration.apply(&mut shares);
        // None above what the held-out decisions can bear out.
        let cap = most_sure(self.origin.held_out);
        shares.iter_mut().for_each(|share| *share = share.min(cap));
        shares
    }

    /// The case's features that this model weighs, with their places in its rows.
    pub(super) fn known(&self, case: &Case) -> Vec<(usize, f64)> {
        features(case).iter().filter_map(|(name, value)| Some((self.index(name)?, *value))).collect()
    }

    pub(super) fn weighs(&self, feature: &str) -> bool {
        self.index(feature).is_some()
    }

    fn index(&self, feature: &str) -> Option<usize> {
        self.features.binary_search_by(|known| known.as_str().cmp(feature)).ok()
    }
}

impl Calibration {
    pub const NONE: Self = Self { temperature: UNIT as u32, slips: 0 };

    /// Scores of the classes become shares of one. A slip is as likely to be any one strategy as any other.
    pub(super) fn apply(self, scores: &mut [f64]) {
        let temperature = f64::from(self.temperature) / UNIT;
        scores.iter_mut().for_each(|score| *score /= temperature);
        softmax(scores);
        let slips = f64::from(self.slips) / UNIT;
        let rest = scores.len().saturating_sub(1);
        for (class, share) in scores.iter_mut().enumerate() {
            *share = (1.0 - slips) * *share + slips * strategies_in(class, rest) / Strategy::ALL.len() as f64;
        }
    }
}

/// Strategies that a class stands for, of the classes before the rest and the rest itself.
pub(super) fn strategies_in(class: usize, rest: usize) -> f64 {
    if class == rest { Strategy::ALL.len().saturating_sub(rest) as f64 } else { 1.0 }
}

/// The rule of succession (Laplace): of `n` held-out decisions, all foretold, no more than this may be concluded.
pub(super) fn most_sure(held_out: usize) -> f64 {
    (held_out as f64 + 1.0) / (held_out as f64 + 2.0)
}

/// In thousandths.
pub(super) fn score(row: &[i32], features: &[(usize, f64)]) -> f64 {
    let bias = row.last().copied().unwrap_or_default();
    features.iter().fold(f64::from(bias), |sum, (at, value)| sum + f64::from(row[*at]) * value)
}

#[cfg(test)]
mod tests {
    use super::super::simulated;
    use super::*;

    /// One field, one feature more than its bias, two strategies.
    fn model() -> Model {
        Model {
            version: VERSION,
            origin: Origin { decisions: 100, window: 100, held_out: 98, until_ms: 0, seed: 0 },
            features: vec![field_feature(&simulated::case()), "kind=number".into()],
            strategies: vec![Strategy::LastWriter, Strategy::Max],
            weights: vec![vec![500, -900, 0], vec![0, 2500, -100], vec![0, 0, -2000]],
            calibration: Calibration { temperature: 900, slips: 20 },
        }
    }

    #[test]
    fn every_machine_computes_the_same_bits() {
        let confidences: Vec<u64> = model().confidences(&simulated::case()).iter().map(|c| c.to_bits()).collect();
        // From one machine; if another differs here, nodes would disagree on advice.
        assert_eq!(confidences, BITS);
    }

    const BITS: [u64; 3] = [4586363183798621888, 4606579166039443562, 4582556584221132037];

    #[test]
    fn a_model_is_read_back_from_its_text() {
        assert_eq!(Model::from_json(&model().to_json()), Ok(model()));
    }

    #[test]
    fn an_unsound_text_is_refused() {
        let spoilt: [fn(&mut Model); 9] = [
            |model| model.version = 2,
            |model| model.features.reverse(),
            |model| model.strategies.clear(),
            |model| model.weights.truncate(2),
            |model| model.weights[1].truncate(1),
            |model| model.weights[0][0] = i32::MIN,
            |model| model.calibration.temperature = 0,
            |model| model.calibration.slips = 1001,
            |model| model.strategies.swap(0, 1),
        ];
        for (at, spoil) in spoilt.iter().enumerate() {
            let mut model = model();
            spoil(&mut model);
            assert!(Model::from_json(&model.to_json()).is_err(), "{at}");
        }
        assert!(matches!(Model::from_json("{}"), Err(Unreadable::Shape(_))));
        assert!(matches!(Model::from_json(&" ".repeat(MODEL_BYTES_MAX + 1)), Err(Unreadable::Long(_))));
    }

    #[test]
    fn it_abstains_where_it_is_unsure_and_where_it_was_never_asked() {
        let case = simulated::case();
        assert!(matches!(model().advise(&case), Advice::Use { strategy: Strategy::Max, .. }));
        let unsure = Model { calibration: Calibration { temperature: 9000, slips: 0 }, ..model() };
        let Advice::Abstain(why) = unsure.advise(&case) else { panic!("{unsure:?}") };
        assert!(why.to_string().contains("80 % are needed"), "{why}");
        let elsewhere = Case { field: "another".into(), ..case.clone() };
        assert!(matches!(model().advise(&elsewhere), Advice::Abstain(Why::NeverSeen { .. })));
        let mut rare = model();
        rare.weights[2][2] = 9000;
        assert!(matches!(rare.advise(&case), Advice::Abstain(Why::Rare { .. })));
    }

    #[test]
    fn few_held_out_decisions_bear_out_little() {
        let mut model = model();
        model.weights[1][2] = 99_000;
        model.calibration.slips = 0;
        for (held_out, most) in [(0, 0.5), (3, 0.8), (98, 0.99)] {
            model.origin.held_out = held_out;
            assert_eq!(model.nearest(&simulated::case()), (1, most));
        }
    }
}
