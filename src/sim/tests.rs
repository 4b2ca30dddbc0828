//! The scenarios, a few seeds each, and what makes their results worth something.

use std::fs;
use std::path::{Path, PathBuf};

use super::probe::{Probe, Probes};
use super::run::{How, run};
use super::scenario::Scenario;
use super::workload::{Recording, Workshop};
use super::world::HookChoice;
use crate::document::Address;
use crate::document::plan::{Edit, Write};
use crate::engine::hooks::Mutant;

/// Seeds of each scenario in a plain `cargo test`.
const SEEDS: u64 = 25;

fn simulations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations")
}

fn scenarios() -> Vec<Scenario> {
    let files = fs::read_dir(simulations()).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        Scenario::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    files.iter().map(read).collect()
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
fn every_scenario_holds_and_what_ought_to_happen_does() {
    let (scenarios, mut probes) = (scenarios(), Probes::default());
    assert!(scenarios.len() as u64 * SEEDS >= 300 && scenarios.len() >= 12);
    for scenario in &scenarios {
        for seed in 1..=SEEDS {
            let outcome = run(scenario, seed, How::default());
            assert_eq!(outcome.finding, None, "{} seed {seed}: {:?}", scenario.name, outcome.plan.drawn);
            probes.add(&outcome.probes);
        }
    }
    let missed: Vec<&str> = probes.missed().into_iter().map(Probe::name).collect();
    assert!(missed.is_empty(), "never happened: {missed:?}");
}

#[test]
fn rare_paths_taken_often_change_nothing() {
    for scenario in scenarios() {
        for seed in 1..=4 {
            let hooks = HookChoice { mutant: None, rare: 16 };
            let outcome = run(&scenario, seed, How { hooks, ..How::default() });
            assert_eq!(outcome.finding, None, "{} seed {seed}: {:?}", scenario.name, outcome.plan.drawn);
        }
    }
}

#[test]
fn seeds_that_ever_failed_hold_now() {
    let scenarios = scenarios();
    let text = fs::read_to_string(simulations().join("seeds.txt")).unwrap();
    let lines =
        text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    for line in lines {
        let (name, seed) = line.split_once(char::is_whitespace).unwrap();
        let scenario = scenarios.iter().find(|scenario| scenario.name == name).unwrap();
        assert_eq!(run(scenario, seed.trim().parse().unwrap(), How::default()).finding, None, "{line}");
    }
}

#[test]
fn planted_bugs_are_found() {
    // A few of the quickest; `just mutants` runs all.
    let scenarios = scenarios();
    let quickest = [
        Mutant::NoCausalWait,
        Mutant::FloorIgnored,
        Mutant::IncarnationReused,
        Mutant::AckBeforeDisk,
        Mutant::ResolvedByArrival,
        Mutant::LedgerForgets,
        Mutant::JudgedBeyondClock,
        Mutant::UnknownFieldLost,
        Mutant::AuditSkips,
    ];
    for mutant in quickest {
        let how = How { hooks: HookChoice { mutant: Some(mutant), rare: 0 }, ..How::default() };
        let found = (1..=5).any(|seed| scenarios.iter().any(|scenario| run(scenario, seed, how).finding.is_some()));
        assert!(found, "{}", mutant.name());
    }
}

#[test]
fn the_account_of_a_partition_is_held_to_what_was_planned() {
    let scenarios = scenarios();
    let scenario = scenarios.iter().find(|scenario| scenario.name == "split-brain-heals").unwrap();
    let with = |mutant, seed| run(scenario, seed, How { hooks: HookChoice { mutant, rare: 0 }, ..How::default() });
    let held = (1..=4).filter(|seed| with(None, *seed).probes.count(Probe::PartitionTold) > 0).count();
    assert!(held > 0, "no seed of these has a plain mesh");
    for mutant in [Mutant::OtherSideForgotten, Mutant::CutForgotten] {
        let mut findings = (1..=8).filter_map(|seed| with(Some(mutant), seed).finding);
        assert!(findings.any(|finding| finding.oracle == "partitions"), "{}", mutant.name());
    }
}

/// How often a seed of the scenario comes to a finding of this oracle.
fn found_by(name: &str, seeds: u64, mutant: Mutant, oracle: &str) -> usize {
    let scenarios = scenarios();
    let scenario = scenarios.iter().find(|scenario| scenario.name == name).unwrap();
    let how = How { hooks: HookChoice { mutant: Some(mutant), rare: 0 }, ..How::default() };
    let findings = (1..=seeds).filter_map(|seed| run(scenario, seed, how).finding);
    findings.filter(|finding| finding.oracle == oracle).count()
}

#[test]
fn a_vm_that_two_hosts_run_at_once_is_found() {
    for mutant in [Mutant::OwnerGoesOn, Mutant::LeaseNotAwaited] {
        assert!(found_by("vms-run-once", 8, mutant, "vms") > 0, "{}", mutant.name());
    }
}

#[test]
fn who_is_evicted_was_evicted_by_a_quorum_and_returns_below_the_floor() {
    let scenarios = scenarios();
    let scenario = scenarios.iter().find(|scenario| scenario.name == "evicted-returns").unwrap();
    let (mut refused, mut below) = (0, 0);
    for seed in 1..=8 {
        let outcome = run(scenario, seed, How::default());
        assert_eq!(outcome.finding, None, "seed {seed}");
        assert!(outcome.probes.count(Probe::Evicted) > 0, "seed {seed}");
        refused += outcome.probes.count(Probe::EvictionRefused);
        below += u64::from(outcome.tally.full_paths > 0);
    }
    assert!(refused > 0 && below >= 6, "{refused} refused, {below} of 8 below the floor");
    assert!(found_by("evicted-returns", 8, Mutant::EvictedAlone, "evictions") > 0);
}

#[test]
fn a_recording_is_replayed_in_order_from_a_step_that_the_seed_draws() {
    let step = |n: u64| {
        let edit = Edit::Incr { field: "n".into(), by: 1 };
        vec![(Address::new("steps", &n.to_string()).unwrap(), Write::Upsert(vec![edit]))]
    };
    let text = "version = 1\nname = \"r\"\n[workload]\nmix = { trace = 1 }\nuntil = \"2s\"\n";
    let mut scenario = Scenario::parse(text).unwrap();
    assert!(scenario.lacks_recording());
    scenario.workload.recording = Some(Recording((0..1_000).map(step).collect()));
    let written = |seed| {
        let mut workshop = Workshop::new(&scenario.workload, seed);
        (0..3).map(|_| workshop.transaction(0).unwrap().writes[0].0.to_string()).collect::<Vec<_>>()
    };
    let number = |name: &String| name["steps/".len()..].parse::<u64>().unwrap();
    let first = written(1);
    assert_eq!(number(&first[2]), number(&first[0]) + 2);
    assert_ne!(first, written(2));
    let outcome = run(&scenario, 1, How::default());
    assert_eq!(outcome.finding, None);
    assert!(outcome.tally.writes > 50, "{:?}", outcome.tally);
    assert_eq!(outcome.hash, run(&scenario, 1, How::default()).hash);
}

#[test]
fn what_is_wrong_with_a_scenario_is_named_with_its_line() {
    let error = |text: &str| Scenario::parse(&format!("version = 1\nname = \"x\"\n{text}")).unwrap_err().to_string();
    assert!(
        error("[[fault]]\nat = \"1s\"\nkind = \"jump\"\n").starts_with("line 3: a fault of kind `jump` needs `ms`")
    );
    assert!(error("[[fault]]\nat = \"1s\"\nkind = \"crash\"\nnode = 9\n").contains("there is no node 9"));
    assert!(error("\n\n[[fault]]\nat = \"soon\"\n").starts_with("line 6:"));
    assert!(error("[workload]\nmix = { sett = 1 }\n").contains("there is no write `sett`"));
    assert!(error("speed = 9\n").starts_with("line 3: unknown field `speed`"));
    assert!(error("[limits]\nchunks = 9\n").contains("there is no bound `chunks`"));
}
