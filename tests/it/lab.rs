//! A scenario of the simulator on real processes, in network namespaces of their own: needs root.

use std::time::Duration;

use crate::harness::run;

const SCENARIO: &str = r#"
version = 1
name = "three-in-namespaces"

[cluster]
nodes = 3

[workload]
rate = 120
until = "6s"

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

[[expect]]
oracle = "converged"
within = "10s"
after = "heal"
"#;

#[tokio::test]
async fn a_scenario_holds_on_real_processes() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("scenario.toml");
    std::fs::write(&scenario, SCENARIO).unwrap();
    let ended = run(&["chaos", "--json", scenario.to_str().unwrap()], Duration::from_secs(90)).await;
    if ended.code == Some(1) && ended.stderr.contains("cannot run here") {
        eprintln!("skipped: {}", ended.stderr.trim());
        return;
    }
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert!(report["acknowledged"].as_u64().unwrap() > 200, "{report}");
    assert!(report["equal_after_ms"].as_u64().unwrap() <= 3_000, "{report}");
    for verdict in report["verdicts"].as_array().unwrap() {
        assert_eq!(verdict["wrong"], serde_json::json!([]), "{verdict}");
    }
}
