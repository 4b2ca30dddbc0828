//! A cluster trace, fed through the command line to three nodes, ends in equal digests and in the trace's own counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, run};

/// What the generated trace contains, counted while it is written.
#[derive(Debug, Default, PartialEq)]
struct Trace {
    workers: u64,
    tasks: u64,
    never_scheduled: u64,
    unplaceable: u64,
    deleted: u64,
    /// Placed, and deleted later.
    finished: u64,
}

/// 24 workers and 300 tasks in the columns of the openb traces. The workers have room for everything but the giants.
fn generate(dir: &Path) -> (PathBuf, PathBuf, Trace) {
    let mut trace = Trace::default();
    let mut workers = String::from("sn,cpu_milli,memory_mib,gpu,model\n");
    for n in 0..24 {
        let (gpus, model) = if n % 3 == 0 { (4, "V100") } else { (0, "") };
        workers.push_str(&format!("w-{n:02},64000,262144,{gpus},{model}\n"));
        trace.workers += 1;
    }
    let mut tasks = String::from(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n",
    );
    for n in 0..300u64 {
        let giant = n % 50 == 49;
        let (cpu, gpus) = (if giant { 100_000 } else { 500 + n % 7 * 250 }, u64::from(n % 20 == 0));
        let created = n * 10;
        let scheduled = (n % 9 != 4).then_some(created + n % 5);
        let deleted = (n % 4 != 3).then_some(created + 500 + n % 11);
        let text = |time: Option<u64>| time.map(|time| time.to_string()).unwrap_or_default();
        let phase = if n % 6 == 0 { "Failed" } else { "Succeeded" };
        tasks.push_str(&format!(
            "t-{n:03},{cpu},1024,{gpus},500,,LS,{phase},{created},{},{}\n",
            text(deleted),
            text(scheduled)
        ));
        trace.tasks += 1;
        trace.never_scheduled += u64::from(scheduled.is_none());
        trace.unplaceable += u64::from(scheduled.is_some() && giant);
        trace.deleted += u64::from(deleted.is_some());
        trace.finished += u64::from(scheduled.is_some() && !giant && deleted.is_some());
    }
    let paths = (dir.join("workers.csv"), dir.join("tasks.csv"));
    std::fs::write(&paths.0, workers).unwrap();
    std::fs::write(&paths.1, tasks).unwrap();
    (paths.0, paths.1, trace)
}

async fn replay(cluster: &Cluster, workers: &Path, tasks: &Path, limit: Duration) -> Ended {
    let (workers, tasks) = (workers.display().to_string(), tasks.display().to_string());
    let mut args = vec!["replay", "--json", "--workers", &workers, "--tasks", &tasks];
    for node in &cluster.nodes {
        args.extend(["--api", &node.ready.api]);
    }
    run(&args, limit).await
}

#[tokio::test]
async fn a_small_trace_ends_in_equal_digests_and_its_own_counts_on_three_nodes() {
    let cluster = Cluster::start(3).await;
    let (workers, tasks, trace) = generate(cluster.dir());
    let summary = replay(&cluster, &workers, &tasks, Duration::from_secs(60)).await.json();
    let counts = Trace {
        workers: number(&summary["trace"]["workers"]),
        tasks: number(&summary["trace"]["tasks"]),
        never_scheduled: number(&summary["trace"]["never_scheduled"]),
        unplaceable: number(&summary["trace"]["unplaceable"]),
        deleted: number(&summary["trace"]["deleted"]),
        finished: number(&summary["trace"]["finished"]),
    };
    assert_eq!(counts, trace, "{summary}");
    assert_eq!(summary["agrees"], true, "{summary}");
    cluster.agree().await;
    // Counted once more by other means than the program's own.
    for node in &cluster.nodes {
        let tasks = node.http.list("pods").await;
        let workers = node.http.list("workers").await;
        let state = |state: &str| tasks.iter().filter(|(_, fields)| fields["state"] == state).count() as u64;
        assert_eq!((workers.len() as u64, tasks.len() as u64), (trace.workers, trace.tasks));
        assert_eq!(state("deleted"), trace.deleted);
        let sum = |field: &str| workers.iter().map(|(_, fields)| number(&fields[field])).sum::<u64>();
        let started = trace.tasks - trace.never_scheduled - trace.unplaceable;
        assert_eq!((sum("tasks_started"), sum("tasks_finished")), (started, trace.finished));
        let running = workers.iter().map(|(_, fields)| fields["running_tasks"].as_array().map_or(0, Vec::len));
        assert_eq!(running.sum::<usize>() as u64, started - trace.finished);
    }
}

/// 12 hosts of three sizes and 120 tasks, of which 8 are never scheduled and 2 never end.
fn generate_tight(dir: &Path) -> (PathBuf, PathBuf) {
    let mut workers = String::from("sn,cpu_milli,memory_mib,gpu,model\n");
    for n in 0..12 {
        workers.push_str(&format!("w-{n:02},64000,{},0,\n", [262_144, 131_072, 65_536][n % 3]));
    }
    let mut tasks = String::from(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n",
    );
    for n in 0..120u64 {
        let memory =
            if n % 40 == 17 { 60_000 } else { [4_096, 8_192, 16_384, 6_000, 30_000, 2_048, 12_000][n as usize % 7] };
        let created = n * 10;
        let scheduled = if n % 16 == 5 { String::new() } else { (created + n % 5).to_string() };
        let deleted = if n % 50 == 49 { String::new() } else { (created + 120 + n % 11 * 9).to_string() };
        tasks.push_str(&format!("t-{n:03},500,{memory},0,0,,LS,Succeeded,{created},{deleted},{scheduled}\n"));
    }
    let paths = (dir.join("workers.csv"), dir.join("tasks.csv"));
    std::fs::write(&paths.0, workers).unwrap();
    std::fs::write(&paths.1, tasks).unwrap();
    paths
}

async fn replay_tight(cluster: &Cluster, trace: (&Path, &Path), every: &str, limit: Duration) -> Value {
    let (workers, tasks) = (trace.0.display().to_string(), trace.1.display().to_string());
    let mut args = vec!["replay", "--json", "--tight=105", "--split", every, "--workers", &workers, "--tasks", &tasks];
    for node in &cluster.nodes {
        args.extend(["--api", &node.ready.api]);
    }
    run(&args, limit).await.json()
}

/// Looked at once more by other means than the program's own: where every task stands, and that no host holds any.
async fn all_have_ended(cluster: &Cluster, summary: &Value) {
    cluster.agree().await;
    for node in &cluster.nodes {
        let tasks = node.http.list("tasks").await;
        let state = |state: &str| json!(tasks.iter().filter(|(_, fields)| fields["state"] == state).count());
        assert_eq!(
            [json!(tasks.len()), state("done"), state("cancelled")],
            ["tasks", "done", "cancelled"].map(|key| summary[key].clone())
        );
        let hosts = node.http.get("/v1/capacity").await.json()["items"].as_array().unwrap().clone();
        assert_eq!(hosts.len(), summary["hosts"].as_array().unwrap().len());
        assert!(hosts.iter().all(|host| host["placements"] == json!([]) && host["void"] == json!([])), "{hosts:?}");
    }
}

#[tokio::test]
async fn a_trace_with_hardly_any_memory_runs_each_task_once_while_the_nodes_are_cut() {
    let cluster = Cluster::start(5).await;
    let (workers, tasks) = generate_tight(cluster.dir());
    let summary = replay_tight(&cluster, (&workers, &tasks), "60", Duration::from_secs(120)).await;
    let counts = &summary["counts"];
    assert_eq!(
        (&summary["tasks"], &summary["done"], &summary["cancelled"]),
        (&json!(120), &json!(112), &json!(8)),
        "{summary}"
    );
    assert_eq!((&summary["wrong"], &counts["cuts"]), (&json!(0), &json!(3)), "{summary}");
    // It was tight, there were two sides, and somebody came back too late.
    let share = summary["peak_share"].as_f64().unwrap();
    assert!(share > 0.8 && share <= 1.0, "{summary}");
    assert!(number(&counts["no_room"]) > 0 && number(&counts["claims_without_quorum"]) > 0, "{summary}");
    assert!(number(&counts["stood_still"]) > 0, "{summary}");
    assert_eq!(counts["late_writes_refused"], counts["stood_still"], "{summary}");
    assert_eq!(counts["late_words_refused"], counts["stood_still"], "{summary}");
    all_have_ended(&cluster, &summary).await;
}

/// Pods of the trace that are run unless all are asked for.
const OPENB_SOME: usize = 240;

#[tokio::test]
async fn the_openb_trace_fits_hosts_with_hardly_enough_memory() {
    let Some(dir) = std::env::var_os("FOLKMOOT_TRACES").map(PathBuf::from) else {
        eprintln!("skipped: FOLKMOOT_TRACES does not name the folder of the openb traces");
        return;
    };
    let cluster = Cluster::start(5).await;
    let (workers, mut tasks) = (dir.join("openb_nodes.csv"), dir.join("openb_pods.csv"));
    // All of it takes a quarter of an hour.
    let whole = std::env::var_os("FOLKMOOT_LONG").is_some();
    let every = if whole { "700" } else { "60" };
    if !whole {
        let text = std::fs::read_to_string(&tasks).unwrap();
        tasks = cluster.dir().join("some_pods.csv");
        let some: Vec<&str> = text.lines().take(1 + OPENB_SOME).collect();
        std::fs::write(&tasks, some.join("\n")).unwrap();
    }
    let summary = replay_tight(&cluster, (&workers, &tasks), every, Duration::from_secs(1_800)).await;
    eprintln!("{summary}");
    let wanted = if whole { 8_152 } else { OPENB_SOME };
    assert_eq!([&summary["tasks"], &summary["wrong"]], [&json!(wanted), &json!(0)]);
    assert!(number(&summary["counts"]["cuts"]) >= if whole { 10 } else { 2 }, "{summary}");
    all_have_ended(&cluster, &summary).await;
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[tokio::test]
async fn a_trace_with_a_wrong_row_is_a_usage_error_and_writes_nothing() {
    let cluster = Cluster::start_on(&["memory"]).await;
    let (workers, tasks, _) = generate(cluster.dir());
    let text = std::fs::read_to_string(&tasks).unwrap();
    assert!(text.contains("\nt-007,500,"), "{text}");
    std::fs::write(&tasks, text.replace("\nt-007,500,", "\nt-007,many,")).unwrap();
    let ended = replay(&cluster, &workers, &tasks, Duration::from_secs(20)).await;
    let words = ended.failed(2);
    assert!(words.contains("tasks.csv:9") && words.contains("cpu_milli"), "{words}");
    assert_eq!(cluster[0].http.list("workers").await, []);
}

#[tokio::test]
async fn the_openb_trace_ends_in_equal_digests_and_its_own_counts_on_three_nodes() {
    let Some(dir) = std::env::var_os("FOLKMOOT_TRACES").map(PathBuf::from) else {
        eprintln!("skipped: FOLKMOOT_TRACES does not name the folder of the openb traces");
        return;
    };
    let cluster = Cluster::start(3).await;
    let (workers, tasks) = (dir.join("openb_nodes.csv"), dir.join("openb_pods.csv"));
    let summary = replay(&cluster, &workers, &tasks, Duration::from_secs(240)).await.json();
    eprintln!("{summary}");
    assert_eq!(summary["agrees"], true, "{summary}");
    let counts = ["workers", "tasks", "never_scheduled"].map(|key| summary["trace"][key].clone());
    assert_eq!(counts, [json!(1_523), json!(8_152), json!(897)]);
    cluster.agree().await;
    for node in &cluster.nodes {
        assert_eq!(node.http.list("pods").await.len(), 8_152);
        assert_eq!(node.http.cluster().await["alerts"], json!([]));
    }
}

#[tokio::test]
async fn a_trace_replays_in_the_simulator_while_everything_goes_wrong() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/simulations/trace/cluster-trace.toml");
    let words = ["sim", "run", scenario, "--seeds", "1..4", "--json"];
    assert!(run(&words, Duration::from_secs(20)).await.failed(2).contains("--workers"));
    let dir = tempfile::tempdir().unwrap();
    let (workers, tasks) = match std::env::var_os("FOLKMOOT_TRACES").map(PathBuf::from) {
        Some(dir) => (dir.join("openb_nodes.csv"), dir.join("openb_pods.csv")),
        None => {
            eprintln!("a generated trace, since FOLKMOOT_TRACES does not name the folder of the openb traces");
            let (workers, tasks, _) = generate(dir.path());
            (workers, tasks)
        }
    };
    let (workers, tasks) = (workers.display().to_string(), tasks.display().to_string());
    let words = [&words[..], &["--workers", &workers, "--tasks", &tasks]].concat();
    let ended = run(&words, Duration::from_secs(120)).await;
    eprintln!("{}", ended.ok());
}
