//! The scenarios, a few seeds each, and what makes their results worth something.

use std::fs;
use std::path::{Path, PathBuf};

use super::run::{How, run};
use super::scenario::Scenario;
use super::world::HookChoice;
use crate::engine::hooks::Mutant;

fn scenario_files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

fn scenarios() -> Vec<Scenario> {
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    scenario_files().iter().map(read).collect()
}

#[test]
fn a_seed_replays_to_the_byte() {
    for scenario in scenarios() {
        let hash = |seed| run(&scenario, seed, How::default()).hash;
        assert_eq!(hash(1), hash(1), "{}", scenario.name);
        assert_ne!(hash(1), hash(2), "{}", scenario.name);
    }
}

#[test]
fn every_scenario_holds() {
    for scenario in scenarios() {
        for seed in 1..=25 {
            let outcome = run(&scenario, seed, How::default());
            assert_eq!(outcome.finding, None, "{} seed {seed}: {:?}", scenario.name, outcome.plan.drawn);
        }
    }
}

#[test]
#[ignore = "prints one run: FOLKMOOT_SIM=scenario:seed"]
fn show() {
    let asked = std::env::var("FOLKMOOT_SIM").unwrap();
    let (name, seed) = asked.split_once(':').unwrap();
    let scenario = scenarios().into_iter().find(|scenario| scenario.name == name).unwrap();
    let outcome = run(&scenario, seed.parse().unwrap(), How { record: true, ..How::default() });
    for entry in &outcome.entries {
        println!("{:>10} n{} {:?} {:?} {}", entry.at_us, entry.node, entry.peer, entry.what, entry.text);
    }
    println!("{}\n{:?}\n{:?}", outcome.plan.scenario.to_toml(), outcome.finding, outcome.tally);
}

#[test]
#[ignore = "every mutant, or FOLKMOOT_SIM=mutant"]
fn mutants() {
    let asked = std::env::var("FOLKMOOT_SIM").unwrap_or_default();
    let scenarios = scenarios();
    for mutant in Mutant::ALL.iter().copied().filter(|mutant| asked.is_empty() || mutant.name() == asked) {
        let started = std::time::Instant::now();
        let how = How { hooks: HookChoice { mutant: Some(mutant), rare: 0 }, ..How::default() };
        let found = (1..=200).find_map(|seed| {
            scenarios.iter().find_map(|scenario| {
                let finding = run(scenario, seed, how).finding?;
                Some((seed, scenario.name.clone(), finding.oracle, finding.text))
            })
        });
        match found {
            Some((seed, scenario, oracle, text)) => {
                println!("{} {scenario} {seed} {oracle}: {text:.150}", mutant.name())
            }
            None => println!("{} NOT FOUND in {:?}", mutant.name(), started.elapsed()),
        }
    }
}

#[test]
#[ignore = "many seeds: FOLKMOOT_SIM=scenario:first:last"]
fn survey() {
    let asked = std::env::var("FOLKMOOT_SIM").unwrap();
    let parts: Vec<&str> = asked.split(':').collect();
    let (first, last): (u64, u64) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
    let started = std::time::Instant::now();
    let mut probes = super::probe::Probes::default();
    for scenario in scenarios().into_iter().filter(|scenario| parts[0] == "all" || scenario.name == parts[0]) {
        let (mut worst, mut failed) = (0, 0);
        for seed in first..=last {
            let outcome = run(&scenario, seed, How::default());
            probes.add(&outcome.probes);
            worst = worst.max(outcome.converged_us.unwrap_or(0));
            if let Some(finding) = outcome.finding {
                failed += 1;
                if failed < 12 {
                    println!("{} {seed} n{} {}: {:.300}", scenario.name, finding.node, finding.oracle, finding.text);
                }
            }
        }
        println!("{}: {failed} failed, slowest {} ms, {:?}", scenario.name, worst / 1000, started.elapsed());
    }
    println!("missed {:?}", probes.missed());
}
