//! A scenario of the simulator on real processes, in network namespaces of their own: needs root.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Ended, run};

const SCENARIO: &str = r#"
version = 1
name = "three-in-namespaces"

[cluster]
nodes = 3

[workload]
rate = 120
until = "6s"

[network]
delay_ms = [20, 20]
jitter_ms = 5

[[fault]]
at = "500ms"
kind = "partition"
groups = [[0], [1, 2]]
heal = "5s"

[[fault]]
at = "2s"
kind = "kill"
node = 1
heal = "3s"

[[fault]]
at = "3500ms"
kind = "pause"
node = 2
heal = "4500ms"

[[fault]]
at = "5s"
kind = "slow"
factor = 3
heal = "6s"

[[expect]]
oracle = "converged"
within = "10s"
after = "heal"
"#;

/// Whether the lab cannot run here; it has said why.
fn skipped(ended: &Ended) -> bool {
    let cannot = ended.code == Some(1) && ended.stderr.contains("cannot run here");
    if cannot {
        eprintln!("skipped: {}", ended.stderr.trim());
    }
    cannot
}

#[tokio::test]
async fn a_scenario_holds_on_real_processes() {
    let dir = tempfile::tempdir().unwrap();
    let (scenario, page) = (dir.path().join("scenario.toml"), dir.path().join("run.html"));
    std::fs::write(&scenario, SCENARIO).unwrap();
    let words = ["chaos", "--json", scenario.to_str().unwrap(), "--report", page.to_str().unwrap()];
    let ended = run(&words, Duration::from_secs(90)).await;
    if skipped(&ended) {
        return;
    }
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    assert!(!ended.stderr.contains("left out"), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(report["acknowledged"].as_u64().unwrap() > 200, "{report}");
    assert!(report["equal_after_ms"].as_u64().unwrap() <= 3_000, "{report}");
    for verdict in report["verdicts"].as_array().unwrap() {
        assert_eq!(verdict["wrong"], serde_json::json!([]), "{verdict}");
    }
    // A write that waits for another disk waits for a way of 20 ms and back; one in five does.
    assert!(report["write_p99_ms"].as_f64().unwrap() >= 40.0, "{report}");
    assert!(report["packets"]["passed"].as_u64().unwrap() > 500 && report["packets"]["cut"].as_u64().unwrap() > 0);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>"));
    for held in ["three-in-namespaces", "acknowledged", "\"what\":\"fault\"", "\"what\":\"healed\"", "slow x3"] {
        assert!(page.contains(held), "{held}");
    }
}

/// Plays one of the lab's contests once; `None` where the lab cannot run.
async fn contest(name: &str) -> Option<serde_json::Value> {
    let scenario = format!("{}/simulations/lab/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let ended = run(&["chaos", "--json", &scenario], Duration::from_secs(180)).await;
    if skipped(&ended) {
        return None;
    }
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let checked = |oracle: &str| {
        let verdicts = report["verdicts"].as_array().unwrap();
        let verdict = verdicts.iter().find(|verdict| verdict["oracle"] == oracle).unwrap();
        verdict["checked"].as_u64().unwrap()
    };
    assert_eq!(checked("one holder at a time"), 2, "{report}");
    assert_eq!(checked("another takes over, in time"), 1, "{report}");
    assert!(checked("the fence lets no stale write through") > 20, "{report}");
    Some(report["contest"].clone())
}

/// Half a second of the lease of five is what a watcher counts more than its holder.
#[tokio::test]
async fn an_owner_with_the_minority_is_told_to_stop_before_the_majority_has_its_vm() {
    let Some(contest) = contest("vm-owner-is-cut-off").await else { return };
    assert!(contest["told_before_end_ms"].as_f64().unwrap() > 0.0, "{contest}");
    assert!(contest["end_to_takeover_ms"].as_f64().unwrap() >= 400.0, "{contest}");
    assert_eq!((&contest["late_refused"], &contest["late_taken"]), (&0.into(), &0.into()), "{contest}");
}

#[tokio::test]
async fn a_holder_that_stood_still_for_longer_than_its_lease_is_refused_by_what_it_writes_to() {
    let Some(contest) = contest("holder-stands-still").await else { return };
    assert!(contest["told_before_end_ms"].as_f64().unwrap() < 0.0, "it knew while it stood still: {contest}");
    assert!(contest["end_to_takeover_ms"].as_f64().unwrap() >= 400.0, "{contest}");
    assert!(contest["late_refused"].as_u64().unwrap() >= 1, "{contest}");
    assert_eq!(contest["late_taken"], 0, "{contest}");
}

/// What a killed lab leaves behind is gone after `--clean`: its devices at once, the namespaces then.
#[tokio::test]
async fn a_killed_lab_is_cleaned_up() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let first = run(&["chaos", "--clean"], Duration::from_secs(30)).await;
    if skipped(&first) {
        return;
    }
    let mut lab = std::process::Command::new(env!("CARGO_BIN_EXE_folkmoot"));
    let lab = lab.args(["chaos", scenario.to_str().unwrap(), "--data-dir", dir.path().to_str().unwrap()]);
    let mut lab = lab.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (id, deadline) = (lab.id(), Instant::now() + Duration::from_secs(30));
    let ip = |words: &[&str]| {
        let said = std::process::Command::new("ip").args(words).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let space = format!("fm{id}n0");
    // The last to be made is the way in from outside; then the first node starts.
    while !(ip(&["link"]).contains(&format!("fmo{id}")) && dir.path().join("n0.log").exists()) {
        assert!(Instant::now() < deadline, "the lab does not start");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lab.kill().unwrap();
    lab.wait().unwrap();
    assert!(ip(&["netns", "list"]).contains(&space), "a killed process takes no namespace along");
    let ended = run(&["chaos", "--clean"], Duration::from_secs(30)).await;
    assert!(ended.code == Some(0) && ended.stderr.contains(&space), "{}", ended.stderr);
    assert!(!ip(&["netns", "list"]).contains(&format!("fm{id}n")) && !ip(&["link"]).contains(&id.to_string()));
}
