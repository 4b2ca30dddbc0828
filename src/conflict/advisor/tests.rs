//! The advisor on simulated decisions.

use super::simulated::{self, BY_FIELD, OPERATORS};
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
    println!("simulated decisions: 2,000 each, trained on the first 70 %, evaluated on the last 30 %, seeds 1-3");
    println!("| operator | noise | answered | right of these | calibration error | of answered | window, T |");
    for noise in [0.05, 0.1, 0.2] {
        for operator in OPERATORS {
            line(operator.name, noise, |seed| simulated::decisions(operator, 2000, noise, seed));
        }
        line("all five, each with its own collections", noise, |seed| simulated::mixed(true, 2000, noise, seed));
        line("all five, whoever is on duty", noise, |seed| simulated::mixed(false, 2000, noise, seed));
    }
}

fn line(name: &str, noise: f64, decisions: impl Fn(u64) -> Vec<Decision>) {
    let runs: Vec<(Model, Evaluation)> = (1..=3).map(|seed| trained(decisions(seed))).collect();
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
        runs.iter().map(|(m, _)| (m.origin.window, m.temperature)).collect::<Vec<_>>()
    );
}

#[test]
fn it_learns_what_an_operator_does() {
    let (_, evaluation) = trained(simulated::decisions(BY_FIELD, 1000, 0.1, 7));
    assert!(evaluation.accuracy().unwrap() > 0.85, "{evaluation:?}");
    assert!(evaluation.coverage() > 0.8, "{evaluation:?}");
}
