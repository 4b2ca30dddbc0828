//! The advisor on simulated decisions.

use super::simulated::{self, BY_FIELD, CHANGES, OPERATORS};
use super::*;

/// Trained on the first 70 %, evaluated on the later 30 %.
fn trained(decisions: Vec<Decision>) -> (Model, Evaluation) {
    let (earlier, later) = split_by_time(decisions, 0.3);
    let model = train(&earlier, 1, &Options::default()).unwrap();
    let evaluation = evaluate(&model, &later);
    (model, evaluation)
}

/// `cargo test --release --no-default-features --lib advisor::tests::figures -- --ignored --nocapture`
#[test]
#[ignore = "prints the figures of docs/advisor.md"]
fn figures() {
    println!("simulated decisions: 2,000 each, trained on the first 70 %, evaluated on the last 30 %, seeds 11-13");
    println!(
        "| operator | noise | answered | right of these | calibration error | of answered | window, temperature, slips |"
    );
    for noise in [0.05, 0.1, 0.2] {
        for operator in OPERATORS {
            line(operator.name, noise, |seed| simulated::decisions(operator, 2000, noise, seed));
        }
        line("four operators, each with its own collection", noise, |seed| simulated::mixed(true, 2000, noise, seed));
        line("all five, whoever is on duty", noise, |seed| simulated::mixed(false, 2000, noise, seed));
    }
}

fn line(name: &str, noise: f64, decisions: impl Fn(u64) -> Vec<Decision>) {
    let runs: Vec<(Model, Evaluation)> = (11..=13).map(|seed| trained(decisions(seed))).collect();
    let mean = |of: &dyn Fn(&Evaluation) -> f64| runs.iter().map(|(_, e)| of(e)).sum::<f64>() / runs.len() as f64;
    let answered: usize = runs.iter().map(|(_, e)| e.answered).sum();
    let right: usize = runs.iter().map(|(_, e)| e.right).sum();
    println!(
        "| {name} | {:.0} % | {:.1} % | {:.1} % | {:.3} | {:.3} | {:?} |",
        noise * 100.0,
        mean(&|e| e.coverage()) * 100.0,
        right as f64 / answered.max(1) as f64 * 100.0,
        mean(&|e| e.calibration.expected_error),
        mean(&|e| e.calibration.expected_error_answered),
        runs.iter().map(|(m, _)| (m.origin.window, m.calibration.temperature, m.calibration.slips)).collect::<Vec<_>>()
    );
}

#[test]
fn it_learns_what_an_operator_does() {
    for operator in OPERATORS {
        let (_, evaluation) = trained(simulated::decisions(operator, 1500, 0.05, 7));
        assert!(evaluation.accuracy().unwrap() > 0.85, "{}: {evaluation:?}", operator.name);
        assert!(evaluation.coverage() > 0.5, "{}: {evaluation:?}", operator.name);
        assert!(evaluation.calibration.expected_error_answered < 0.08, "{}: {evaluation:?}", operator.name);
    }
}

#[test]
fn it_is_nearly_silent_where_decisions_follow_no_habit() {
    let (_, evaluation) = trained(simulated::mixed(false, 1500, 0.1, 7));
    assert!(evaluation.coverage() < 0.05, "{evaluation:?}");
    let (_, evaluation) = trained(simulated::decisions(BY_FIELD, 1500, 1.0, 7));
    assert_eq!(evaluation.answered, 0, "{evaluation:?}");
}

#[test]
fn after_a_change_of_habits_the_old_ones_are_left_behind() {
    let (model, evaluation) = trained(simulated::decisions(CHANGES, 2000, 0.05, 7));
    assert!(model.origin.window < model.origin.decisions, "{:?}", model.origin);
    let of = |strategy| evaluation.per_strategy.get(&strategy).copied().unwrap_or_default();
    assert!(of(Strategy::Min).right > 50 && of(Strategy::Max).advised < 5, "{:?}", evaluation.per_strategy);
}

#[test]
fn with_too_few_decisions_it_stays_off_and_says_so() {
    let decisions = simulated::decisions(BY_FIELD, 49, 0.0, 1);
    let few = train(&decisions, 1, &Options::default()).unwrap_err();
    assert_eq!(few, TooFew::Decisions { have: 49 });
    assert!(few.to_string().contains("stays off: 49 decisions"), "{few}");

    let scattered = simulated::decisions(BY_FIELD, 60, 1.0, 1);
    let few = train(&scattered, 1, &Options::default()).unwrap_err();
    assert!(matches!(few, TooFew::OfEachStrategy { most } if most < 10), "{few:?}");
}

#[test]
fn a_strategy_chosen_fewer_than_ten_times_is_never_advised() {
    let mut decisions = simulated::decisions(BY_FIELD, 400, 0.0, 2);
    decisions.retain({
        let mut manual = 0;
        move |decision| {
            manual += usize::from(decision.strategy == Strategy::Manual);
            decision.strategy != Strategy::Manual || manual <= 9
        }
    });
    let (model, rare) = (train(&decisions, 1, &Options::default()).unwrap(), Strategy::Manual);
    assert!(!model.strategies().contains(&rare), "{:?}", model.strategies());
    for decision in decisions.iter().filter(|decision| decision.strategy == rare) {
        assert!(matches!(model.advise(&decision.case), Advice::Abstain(_)), "{decision:?}");
    }
}

#[test]
fn the_same_decisions_and_seed_make_the_same_model_in_any_order() {
    let mut decisions = simulated::mixed(true, 500, 0.1, 3);
    let model = train(&decisions, 1, &Options::default()).unwrap();
    decisions.reverse();
    assert_eq!(train(&decisions, 1, &Options::default()).unwrap().to_json(), model.to_json());
    // The seed draws what is held out.
    assert_ne!(train(&decisions, 2, &Options::default()).unwrap().weights, model.weights);
}

#[test]
fn a_model_of_many_fields_fits_its_bounds_and_is_read_back() {
    let mut decisions = simulated::mixed(true, 3000, 0.5, 3);
    for (n, decision) in decisions.iter_mut().enumerate() {
        decision.case.field = format!("{:0>128}", n % 550);
        decision.case.collection = format!("{:0>64}", n % 550);
    }
    let model = train(&decisions, 1, &Options::default()).unwrap();
    assert_eq!(model.features.len(), model::FEATURES_MAX);
    assert_eq!(Model::from_json(&model.to_json()), Ok(model));
}

#[test]
fn a_single_habit_is_advised_without_being_wholly_sure() {
    let mut decisions = simulated::decisions(BY_FIELD, 200, 0.0, 3);
    decisions.iter_mut().for_each(|decision| decision.strategy = Strategy::Union);
    let model = train(&decisions, 1, &Options::default()).unwrap();
    let Advice::Use { strategy: Strategy::Union, confidence } = model.advise(&decisions[0].case) else {
        panic!("{:?}", model.advise(&decisions[0].case))
    };
    assert!((0.9..1.0).contains(&confidence), "{confidence}");
}
