//! The command: hurt the nodes as the scenario says, let them heal, and hold them to what clients were told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, sleep_until};

use crate::cli::chaos::clients::{self, History, Told};
use crate::cli::chaos::namespace::{self, Hosts};
use crate::cli::chaos::stage::Stage;
use crate::cli::chaos::timeline::{Act, Timeline};
use crate::cli::chaos::verdict::{self, Verdict};
use crate::cli::client::{Body, Terms};
use crate::cli::cluster::directory;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::processes;
use crate::cli::sim::file;
use crate::sim::scenario::Expectation;
use crate::sim::workload::{COLLECTION, SCHEMA};
use crate::sim::{Plan, Scenario};

/// Run a scenario of the simulator on real processes
///
/// One process for each node, each in a network namespace of its own; needs root, iproute2 and nftables. Cuts and loses
/// packets, stops and kills processes, brings back old disks. Faults that a real machine cannot make are named and left
/// out. Exit code 9 when an oracle found something.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot chaos simulations/split-brain-heals.toml
  folkmoot chaos simulations/lab/worst-case-20s.toml --store redb --report run.json
  folkmoot chaos --clean                              remove what a killed run left behind")]
pub struct ChaosArgs {
    /// The scenario
    #[arg(value_name = "SCENARIO.toml", required_unless_present = "clean")]
    scenario: Option<PathBuf>,
    /// The seed that the plan and the workload are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where nodes keep their data: sled, redb or memory
    #[arg(long, value_name = "sled|redb|memory", default_value = "sled")]
    store: String,
    /// Keep data and logs here [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write what was done and what came of it as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Remove what killed runs left behind, and do nothing else
    #[arg(long)]
    clean: bool,
}

/// What a run came to.
#[derive(Debug, Serialize)]
struct Report {
    scenario: String,
    seed: u64,
    nodes: usize,
    skipped: Vec<String>,
    /// What was done, and when, ms.
    done: Vec<(u64, String)>,
    acknowledged: usize,
    refused: u64,
    unknown: usize,
    write_p50_ms: f64,
    write_p99_ms: f64,
    /// From the end of the last fault, or of the last write if that was later, until all were equal.
    equal_after_ms: Option<u64>,
    memory_mib_max: u64,
    verdicts: Vec<Verdict>,
}

/// Unless the scenario says otherwise.
const EQUAL_WITHIN: Duration = Duration::from_secs(30);

pub async fn chaos(args: ChaosArgs, output: Output) -> Result<(), Error> {
    if let Some(why) = namespace::obstacle() {
        return Err(Error::Failed(format!("chaos on real processes cannot run here: {why}")));
    }
    if args.clean {
        let gone = namespace::clean()?;
        output.say(if gone.is_empty() {
            "nothing was left behind".into()
        } else {
            format!("removed {}", gone.join(", "))
        });
        return Ok(());
    }
    let path = args.scenario.clone().unwrap_or_default();
    // Real time is dear: nothing is drawn away.
    let scenario = Scenario { swarm: None, ..file::read_one(&path)?.scenario };
    let plan = Plan::new(&scenario, args.seed);
    let timeline = Timeline::of(&plan);
    output.say(format!("links: {}", timeline.network));
    for what in &timeline.skipped {
        output.say(format!("left out: {what}"));
    }
    let listen = |kind| signal(kind).map_err(|error| Error::Failed(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    // Whatever ends the run drops it, and with it the processes and the network.
    let report = tokio::select! {
        report = run(&args, &plan, &timeline, output) => report?,
        _ = terminate.recv() => return Err(Error::Failed("stopped before the end".into())),
        _ = interrupt.recv() => return Err(Error::Failed("stopped before the end".into())),
    };
    if let Some(path) = &args.report {
        file::write(path, &serde_json::to_string_pretty(&report).unwrap_or_default())?;
    }
    conclude(&report, output)
}

async fn run(args: &ChaosArgs, plan: &Plan, timeline: &Timeline, output: Output) -> Result<Report, Error> {
    let (dir, _temporary) = directory(args.data_dir.clone())?;
    let nodes = plan.scenario.cluster.nodes;
    let hosts = Hosts::new(timeline.hosts, plan.scenario.network.clone(), plan.seed)?;
    let processes = processes::Plan {
        names: (0..timeline.hosts).map(|node| format!("n{node}")).collect(),
        dir,
        base_port: None,
        store: Some(args.store.clone()),
        chaos: false,
        host_report: false,
        seats: hosts.seats(),
    };
    let mut stage = Stage::open(processes, hosts, nodes).await?;
    put_schema(&stage).await?;
    let (start, history, doors) = (Instant::now(), Arc::new(Mutex::new(History::default())), stage.doors());
    let (done, ()) =
        tokio::join!(act_out(&mut stage, timeline, start, output), clients::run(plan, start, doors, history.clone()));
    let done = done?;
    let quiet_ms = plan.scenario.workload.until.0.max(done.last().map_or(0, |(at_ms, _)| *at_ms));
    let within = plan.scenario.expects.iter().filter(|expect| expect.oracle == Expectation::Converged);
    let within = within.filter_map(|expect| expect.within).map(|ms| Duration::from_millis(ms.0)).max();
    let within = within.unwrap_or(EQUAL_WITHIN);
    let equal = stage.wait_equal(within).await;
    let equal_after_ms = equal.map(|_| (start.elapsed().as_millis() as u64).saturating_sub(quiet_ms));
    stage.look_after();
    let history = std::mem::take(&mut *history.lock().unwrap_or_else(PoisonError::into_inner));
    let mut verdicts = verdict::judge(&stage, &history, timeline).await?;
    let late = equal.is_none().then(|| format!("not all nodes are equal {} s after the last fault", within.as_secs()));
    verdicts.push(Verdict::new("all nodes become equal", nodes, late.into_iter().collect()));
    verdicts.push(Verdict::new("a split is noticed", done.len(), stage.unaware.clone()));
    verdicts.push(Verdict::new("no process ends by itself", nodes, stage.died.clone()));
    verdicts.push(Verdict::new("nothing panics", nodes, stage.panics()));
    let (p50, p99) = latencies(history.took_us.clone());
    let report = Report {
        scenario: plan.scenario.name.clone(),
        seed: plan.seed,
        nodes,
        skipped: timeline.skipped.clone(),
        done,
        acknowledged: history.count(|told| told != Told::Unknown),
        refused: history.refused,
        unknown: history.count(|told| told == Told::Unknown),
        write_p50_ms: p50,
        write_p99_ms: p99,
        equal_after_ms,
        memory_mib_max: stage.memory_kib_max / 1024,
        verdicts,
    };
    stage.close().await;
    Ok(report)
}

async fn put_schema(stage: &Stage) -> Result<(), Error> {
    let Some((_, first)) = stage.running().next() else { return Ok(()) };
    let schema = serde_json::from_str(SCHEMA).unwrap_or_default();
    let path = format!("/v1/schemas/{COLLECTION}");
    let body = Some(Body::json(schema));
    first.client.send(reqwest::Method::PUT, &path, body, &Terms::default()).await.map(drop)
}

/// Does each thing at its time; gives what was done and when.
async fn act_out(
    stage: &mut Stage,
    timeline: &Timeline,
    start: Instant,
    output: Output,
) -> Result<Vec<(u64, String)>, Error> {
    let mut done = Vec::new();
    let mut look = interval(Duration::from_secs(1));
    for step in &timeline.steps {
        let due = start + Duration::from_millis(step.at_ms);
        while Instant::now() < due {
            tokio::select! {
                () = sleep_until(due) => {}
                _ = look.tick() => stage.look_after(),
            }
        }
        stage.act(&step.act).await?;
        let at_ms = start.elapsed().as_millis() as u64;
        output.say(format!("{:>8.1} s  {}", at_ms as f64 / 1e3, step.words()));
        if !matches!(step.act, Act::Notice(_)) {
            done.push((at_ms, step.words()));
        }
    }
    Ok(done)
}

/// The middle and the ninety-ninth of a hundred, ms.
fn latencies(mut took_us: Vec<u64>) -> (f64, f64) {
    took_us.sort_unstable();
    let at = |share: usize| took_us.get(took_us.len() * share / 100).map_or(0.0, |us| *us as f64 / 1e3);
    (at(50), at(99))
}

fn conclude(report: &Report, output: Output) -> Result<(), Error> {
    let wrong = report.verdicts.iter().filter(|verdict| !verdict.wrong.is_empty()).count();
    output.either(&serde_json::to_value(report).unwrap_or_default(), || {
        let equal = report.equal_after_ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        let mut text = format!(
            "{}: {} nodes, {} faults; writes: {} acknowledged ({:.1} / {:.1} ms p50 / p99), {} refused, {} unknown; most memory \
             of a node {} MiB\nall equal after {equal}",
            report.scenario,
            report.nodes,
            report.done.len(),
            report.acknowledged,
            report.write_p50_ms,
            report.write_p99_ms,
            report.refused,
            report.unknown,
            report.memory_mib_max,
        );
        for verdict in &report.verdicts {
            let said = if verdict.wrong.is_empty() { "ok".to_owned() } else { verdict.wrong.join("\n      ") };
            text += &format!("\n  {:45} {:>7}  {said}", verdict.oracle, verdict.checked);
        }
        text
    })?;
    match wrong {
        0 => Ok(()),
        wrong => Err(Error::Oracle(format!("{wrong} oracles found something on real processes"))),
    }
}
