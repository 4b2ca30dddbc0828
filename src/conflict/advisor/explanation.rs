//! What spoke for a choice.

use serde::Serialize;

use super::case::Case;
use super::model::{Model, UNIT, score};
use super::strategy::Strategy;

/// Voices told on each side. More are noise to a reader.
const VOICES_MAX: usize = 5;

/// Exact, not an estimate: the model is a sum, and these are its largest terms.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explanation {
    /// `None` stands for strategies that were chosen too rarely to be learned.
    pub nearest: Option<Strategy>,
    pub confidence: f64,
    /// What came second; the voices are those that decided between the two.
    pub rather_than: Option<Strategy>,
    /// The loudest first.
    pub for_it: Vec<Voice>,
    pub against_it: Vec<Voice>,
}

/// One feature of the case.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Voice {
    pub feature: String,
    /// Its value in this case.
    pub value: f64,
    /// What it added to the score of the nearest over the score of the second. A sum of 1 makes the nearest 2.7 times
    /// as likely, before the temperature.
    pub weight: f64,
}

/// Also tells of a case on which the model abstains.
pub fn explain(model: &Model, case: &Case) -> Explanation {
    let (nearest, confidence) = model.nearest(case);
    let known = model.known(case);
    let others = (0..model.weights.len()).filter(|class| *class != nearest);
    let second = others
        .max_by(|a, b| score(&model.weights[*a], &known).total_cmp(&score(&model.weights[*b], &known)))
        .unwrap_or(nearest);
    let mut voices: Vec<Voice> = known
        .iter()
        .map(|&(at, value)| {
            let gap = f64::from(model.weights[nearest][at]) - f64::from(model.weights[second][at]);
            Voice { feature: model.features[at].clone(), value, weight: gap * value / UNIT }
        })
        .collect();
    voices.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()).then_with(|| a.feature.cmp(&b.feature)));
    let (for_it, against_it): (Vec<Voice>, Vec<Voice>) =
        voices.into_iter().filter(|voice| voice.weight != 0.0).partition(|voice| voice.weight > 0.0);
    Explanation {
        nearest: model.strategies.get(nearest).copied(),
        confidence,
        rather_than: model.strategies.get(second).copied(),
        for_it: for_it.into_iter().take(VOICES_MAX).collect(),
        against_it: against_it.into_iter().take(VOICES_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{self, CAUTIOUS};
    use super::super::{Options, Severity, train};
    use super::*;

    #[test]
    fn what_an_operator_goes_by_is_told() {
        let model = train(&simulated::decisions(CAUTIOUS, 1000, 0.05, 5), 1, &Options::default()).unwrap();
        let case = Case { severity: Severity::Critical, ..simulated::case() };
        let told = explain(&model, &case);
        assert_eq!(told.nearest, Some(Strategy::Manual));
        assert_eq!(told.for_it[0].feature, "severity=critical");
        assert!(told.for_it.iter().all(|voice| voice.weight > 0.0) && told.for_it.len() <= VOICES_MAX);
        assert!(told.against_it.iter().all(|voice| voice.weight < 0.0));
        assert_ne!(told.rather_than, told.nearest);
    }
}
