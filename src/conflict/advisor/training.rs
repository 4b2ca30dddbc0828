//! From decisions to a model.
//!
//! A part of the latest decisions is held out; it decides two things. First, how far back to look: people change their
//! habits, so models of the whole past, of its later half, quarter and so on are compared, and the one that foretells
//! the held-out decisions best is kept. Second, how sure to be: the temperature (Guo et al., "On Calibration of
//! Modern Neural Networks", 2017) and the share of slips under which the held-out decisions are likeliest. The model is not fitted again on the
//! held-out part, because then the calibration would belong to another model.

use std::collections::BTreeMap;

use super::case::Decision;
use super::draw::Draw;
use super::features::{Feature, features};
use super::fit::{Problem, Row};
use super::model::{
    Calibration, FEATURES_MAX, Model, Origin, UNIT, VERSION, WEIGHT_MAX, most_sure, score, strategies_in,
};
use super::strategy::Strategy;

/// Fewer say more about chance than about habits.
pub const DECISIONS_MIN: usize = 50;
/// A strategy that was chosen less often goes into the rest, on which there is no advice.
pub const OF_A_STRATEGY_MIN: usize = 10;
/// The latest so many are looked at: seconds of training, and months of a busy cluster's decisions.
pub const DECISIONS_MAX: usize = 10_000;
/// Decisions in which a feature must occur to be weighed. It is also what makes a field known.
const OF_A_FEATURE_MIN: usize = 5;
/// Temperatures tried, from 1/4 to 8, each 9 % above the one before.
const TEMPERATURES: u32 = 40;
/// Shares of slips tried with each, in thousandths.
const SLIPS: [u32; 10] = [0, 20, 40, 60, 80, 100, 130, 160, 200, 250];
/// Windows tried, each half the one before.
const WINDOWS_MAX: usize = 5;
/// Of a shorter window, per held-out decision: below it, what looks better may be chance.
const WINDOW_GAIN_MIN: f64 = 0.02;

#[derive(Clone, Debug)]
pub struct Options {
    /// Of the squared weights. Higher is slower to believe; too high and it never answers.
    pub penalty: f64,
    /// Of the latest decisions, the share out of which every second one is held out.
    pub recent: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { penalty: 0.5, recent: 0.3 }
    }
}

/// The advisor stays off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooFew {
    #[error("the advisor stays off: {have} decisions are recorded, it learns from {DECISIONS_MIN} on")]
    Decisions { have: usize },
    #[error(
        "the advisor stays off: no strategy was chosen {OF_A_STRATEGY_MIN} times among the decisions it learns from; \
         the most frequent was chosen {most} times"
    )]
    OfEachStrategy { most: usize },
}

/// Learns from `decisions`, in any order. The same decisions, seed and options give the same model on the same build;
/// on another kind of machine last digits may differ, which is why nodes are sent the model rather than train their own.
pub fn train(decisions: &[Decision], seed: u64, options: &Options) -> Result<Model, TooFew> {
    if decisions.len() < DECISIONS_MIN {
        return Err(TooFew::Decisions { have: decisions.len() });
    }
    let told = told(decisions);
    let held_out = held_out(told.len(), seed, options.recent);
    let until_ms = told.last().map_or(0, |last| last.at_ms);
    let origin = Origin { decisions: decisions.len(), window: 0, held_out: 0, until_ms, seed };

    let mut best: Option<(f64, Model)> = None;
    let mut too_few = TooFew::OfEachStrategy { most: 0 };
    for window in (0..WINDOWS_MAX).map(|halvings| told.len() >> halvings).take_while(|len| *len >= DECISIONS_MIN) {
        match of_window(window, &told, &held_out, &origin, options) {
            Ok((loss, model)) if best.as_ref().is_none_or(|(least, _)| loss < least - WINDOW_GAIN_MIN) => {
                best = Some((loss, model));
            }
            Ok(_) => {}
            // The whole past tells best how much is missing.
            Err(few) if window == told.len() => too_few = few,
            Err(_) => {}
        }
    }
    best.map(|(_, model)| model).ok_or(too_few)
}

/// A decision with its features.
struct Told {
    features: Vec<Feature>,
    strategy: Strategy,
    at_ms: u64,
}

/// The latest, the oldest first. Of equal times the order of their text decides, so that the given order does not.
fn told(decisions: &[Decision]) -> Vec<Told> {
    let mut sorted: Vec<(u64, String, &Decision)> =
        decisions.iter().map(|decision| (decision.at_ms, decision.to_json().to_string(), decision)).collect();
    sorted.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let latest = sorted.len().saturating_sub(DECISIONS_MAX);
    let tell = |decision: &Decision| Told {
        features: features(&decision.case),
        strategy: decision.strategy,
        at_ms: decision.at_ms,
    };
    sorted[latest..].iter().map(|(_, _, decision)| tell(decision)).collect()
}

/// Which decisions are kept from the fit: half of the recent ones, drawn by the seed.
fn held_out(len: usize, seed: u64, recent: f64) -> Vec<bool> {
    let recent = ((len as f64 * recent.clamp(0.0, 1.0)) as usize).max(DECISIONS_MIN * 4 / 5).min(len);
    let mut drawn: Vec<bool> = (0..recent).map(|n| n < recent / 2).collect();
    Draw::new(seed).shuffle(&mut drawn);
    let mut held_out = vec![false; len - recent];
    held_out.extend(drawn);
    held_out
}

/// A model of the latest `window` decisions, calibrated on all held-out ones, and its mean loss on them.
fn of_window(
    window: usize,
    told: &[Told],
    held_out: &[bool],
    origin: &Origin,
    options: &Options,
) -> Result<(f64, Model), TooFew> {
    let past = || told.iter().zip(held_out);
    let fitted: Vec<&Told> = past().skip(told.len() - window).filter(|(_, out)| !**out).map(|(told, _)| told).collect();
    let held: Vec<&Told> = past().filter(|(_, out)| **out).map(|(told, _)| told).collect();
    let strategies = strategies(&fitted)?;
    let names = names(&fitted);
    let row =
        |told: &&Told| Row { features: indexed(&told.features, &names), class: class(&strategies, told.strategy) };
    let mut rows: Vec<Row> = fitted.iter().map(row).collect();
    // One imagined decision for the rest: something new is always possible, and no model is wholly sure.
    rows.push(Row { features: Vec::new(), class: strategies.len() });

    let rows: Vec<&Row> = rows.iter().collect();
    let (classes, features) = (strategies.len() + 1, names.len());
    let solved = Problem { rows: &rows, classes, features, penalty: options.penalty }.solve();
    let weights = solved.chunks(features + 1).map(|row| row.iter().copied().map(thousandths).collect()).collect();
    let mut model = Model {
        version: VERSION,
        origin: Origin { window, held_out: held.len(), ..origin.clone() },
        features: names.keys().map(|name| (*name).to_owned()).collect(),
        strategies: strategies.clone(),
        weights,
        calibration: Calibration::NONE,
    };
    let held: Vec<Held> = held.iter().map(|told| Held::of(&model, row(told), told)).collect();
    let loss = calibrate(&mut model, &held);
    Ok((loss, model))
}

/// Those chosen often enough, in order.
fn strategies(told: &[&Told]) -> Result<Vec<Strategy>, TooFew> {
    let mut counts = BTreeMap::<Strategy, usize>::new();
    for told in told {
        *counts.entry(told.strategy).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    counts.retain(|_, count| *count >= OF_A_STRATEGY_MIN);
    if counts.is_empty() { Err(TooFew::OfEachStrategy { most }) } else { Ok(counts.into_keys().collect()) }
}

fn class(strategies: &[Strategy], strategy: Strategy) -> usize {
    strategies.binary_search(&strategy).unwrap_or(strategies.len())
}

/// The most frequent features, in the order of their names, with their places.
fn names<'a>(told: &[&'a Told]) -> BTreeMap<&'a str, u32> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for (name, _) in told.iter().flat_map(|told| &told.features) {
        *counts.entry(name).or_default() += 1;
    }
    let mut often: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count >= OF_A_FEATURE_MIN).collect();
    often.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    often.truncate(FEATURES_MAX);
    often.sort_unstable();
    often.into_iter().zip(0..).map(|((name, _), at)| (name, at)).collect()
}

fn indexed(features: &[Feature], names: &BTreeMap<&str, u32>) -> Vec<(u32, f64)> {
    features.iter().filter_map(|(name, value)| Some((*names.get(&**name)?, *value))).collect()
}

/// Rounded to what a model keeps.
fn thousandths(weight: f64) -> i32 {
    (weight * UNIT).round().clamp(f64::from(-WEIGHT_MAX), f64::from(WEIGHT_MAX)) as i32
}

/// A held-out decision, as one model sees it.
struct Held {
    scores: Vec<f64>,
    class: usize,
    /// On a field that the model does not know it has no say.
    known: bool,
}

impl Held {
    fn of(model: &Model, row: Row, told: &Told) -> Self {
        let known = told.features.iter().any(|(name, _)| name.starts_with("field=") && model.weighs(name));
        let features: Vec<(usize, f64)> = row.features.iter().map(|(at, value)| (*at as usize, *value)).collect();
        let scores = model.weights.iter().map(|weights| score(weights, &features) / UNIT).collect();
        Self { scores, class: row.class, known }
    }

    /// How unlikely the choice was. The rest is shared out evenly among the strategies in it, so that a model that
    /// knows few of them gains nothing by it.
    fn loss(&self, calibration: Calibration, cap: f64) -> f64 {
        if !self.known {
            return libm::log(Strategy::ALL.len() as f64);
        }
        let mut shares = self.scores.clone();
        calibration.apply(&mut shares);
        let rest = shares.len() - 1;
        // What the cap takes from the surest is left to the others.
        let floor = (1.0 - cap) / shares.len() as f64;
        -libm::log(shares[self.class].clamp(floor, cap) / strategies_in(self.class, rest).max(1.0))
    }
}

/// Sets the calibration under which the held-out decisions are likeliest, and tells the mean loss under it.
fn calibrate(model: &mut Model, held: &[Held]) -> f64 {
    let cap = most_sure(held.len());
    let loss =
        |calibration| held.iter().map(|held| held.loss(calibration, cap)).sum::<f64>() / held.len().max(1) as f64;
    let temperatures = (0..=TEMPERATURES).map(|step| (250.0 * libm::exp2(f64::from(step) / 8.0)) as u32);
    let tried = temperatures.flat_map(|temperature| SLIPS.map(|slips| Calibration { temperature, slips }));
    let losses = tried.map(|calibration| (loss(calibration), calibration));
    let (least, best) = losses.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, Calibration::NONE));
    model.calibration = best;
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_gains_nothing_by_knowing_few_strategies() {
        // One strategy and the rest, even: the rest is twelve strategies, of which one was chosen.
        let of = |class, known| Held { scores: vec![0.0, 0.0], class, known }.loss(Calibration::NONE, 0.99);
        assert!((of(0, true) - libm::log(2.0)).abs() < 1e-12);
        assert!((of(1, true) - libm::log(24.0)).abs() < 1e-12);
        assert!((of(0, false) - libm::log(13.0)).abs() < 1e-12);
    }

    #[test]
    fn half_of_the_recent_decisions_are_held_out_and_none_of_the_older() {
        let drawn = held_out(1000, 1, 0.3);
        assert_eq!(drawn.len(), 1000);
        assert!(drawn[..700].iter().all(|out| !out));
        assert_eq!(drawn[700..].iter().filter(|out| **out).count(), 150);
        // Of few decisions, enough are recent to calibrate at all.
        assert_eq!(held_out(50, 1, 0.3).iter().filter(|out| **out).count(), 20);
    }
}
