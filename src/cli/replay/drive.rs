//! Runs a plan against the nodes: spreads it over lanes, waits until all nodes are equal, compares with the trace.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::client::{ApiArg, Client};
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::replay::lane::{Lane, Progress};
use crate::cli::replay::mapping::Mapping;
use crate::cli::replay::plan::{Counts, Plan};
use crate::cli::replay::recording::recording;
use crate::cli::replay::split::replay_split;
use crate::cli::replay::tight::{Tight, replay_tight};
use crate::cli::replay::trace;
use crate::cli::replay::verdict::Held;
use crate::cli::replay::write::{Target, Write};
use crate::cli::view::{all_equal, read_all};
use crate::sim::workload::Recording;

/// Feed a cluster trace to a cluster, as fast as it goes.
///
/// Machines become workers/ID with their capacity, two counters (tasks_started, tasks_finished) and a set (running_tasks).
/// Each task's creation, scheduling and deletion become writes to pods/ID, in time order for each document. A deletion
/// sets `state` and removes nothing.
///
/// A trace names no machine per task. The placement rule: at its scheduling time a task goes to the first worker, in
/// the order of ids, with enough free cpu and memory, and with as many GPUs as it takes, each with enough of it free.
/// A task that fits nowhere at that time becomes `unplaceable`. A task that was never scheduled stays `pending` until
/// it is deleted. At one instant, what ends frees its room before what starts takes it.
///
/// At the end all nodes must hold equal digests, and what each holds is counted and compared with the trace; exit code
/// 1 if they differ.
///
/// With --tight the tasks are work instead, for hosts that have hardly enough memory. As few hosts of the trace as --hosts
/// says, one of each size, the largest first, keep their memory times one factor, such that together they have PERCENT of
/// the most that the trace's tasks ever held at once (from scheduled to deleted); fewer, where else the largest task would
/// fit none. Only memory counts. Each task goes into a queue and is claimed by a worker of a host, takes room there under a
/// right of the worker's node, writes to a fence under its token, and ends in the order in which the trace ends it: its
/// times are an order, not durations. Refused room, a task is given back and tried again where it fits best; then its worker keeps
/// it until there is room. Every fortieth worker stands still for longer than its lease, and comes back when another has
/// its task. Every other so many events the nodes are cut in two. At the end every task stands at every node as it was
/// told, no host ever held more than its memory and none holds anything, nothing late was let through, and the digests are
/// equal; else exit code 1. The nodes run with --chaos, and have never seen the trace.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot replay --workers openb_nodes.csv --tasks openb_pods.csv
  folkmoot replay --workers w.csv --tasks t.csv --map columns.toml \\
                  --api 127.0.0.1:7200 --api 127.0.0.1:7202 --api 127.0.0.1:7204
  folkmoot replay --workers w.csv --tasks t.csv --tight=105 --hosts 5 --split 700 --api … --api … --api …

The built-in columns are those of the openb traces. A --map file names others; gpus, gpu_milli,
gpu_model, qos and phase may be left out:
  [workers]                       [tasks]
  id = \"machine\"                  id = \"job\"
  cpu_milli = \"cores_milli\"       cpu_milli = \"cores_milli\"
  memory_mib = \"memory\"           memory_mib = \"memory\"
  gpus = \"gpus\"                   gpus = \"gpus\"
  gpu_model = \"model\"             gpu_milli = \"gpu_share\"
                                  created = \"submitted\"
                                  scheduled = \"started\"    empty: never scheduled
                                  deleted = \"ended\"        empty: never deleted
                                  qos = \"class\"
                                  phase = \"result\"")]
pub struct ReplayArgs {
    #[command(flatten)]
    files: TraceFiles,
    /// Write through these nodes; may be repeated [default: $FOLKMOOT_API, or http://127.0.0.1:7117]
    #[arg(long, value_name = "URL")]
    api: Vec<String>,
    /// Writers per node, each with its share of the documents
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    lanes: u8,
    /// Cut the nodes in two halves while every other N events are written, through any node, and count the conflicts;
    /// the nodes must run with --chaos
    #[arg(long, value_name = "N")]
    split: Option<usize>,
    /// Replay the tasks as work of a queue, on a few hosts that together have PERCENT of the most memory that the trace's
    /// tasks ever held at once [default: 105]; cut and healed every so many events as with --split [default: 700]
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "105",
          value_parser = clap::value_parser!(u64).range(1..=10_000))]
    tight: Option<u64>,
    /// With --tight: at most so many hosts of the trace
    #[arg(long, value_name = "N", default_value_t = 5, requires = "tight", value_parser = clap::value_parser!(u8).range(1..=64))]
    hosts: u8,
}

/// Events between a cut and a healing, when nothing else is said.
const TIGHT_EVERY: usize = 700;

/// Where a trace is read from.
#[derive(Debug, Clone, Args)]
pub struct TraceFiles {
    /// The machines of the trace
    #[arg(long, value_name = "CSV")]
    workers: PathBuf,
    /// Its tasks
    #[arg(long, value_name = "CSV")]
    tasks: PathBuf,
    /// Column names, when they are not those of the openb traces
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
}

/// Writes that may wait for one lane.
const LANE_QUEUE_LEN: usize = 512;
const EQUAL_TIMEOUT: Duration = Duration::from_secs(120);

pub async fn replay(args: ReplayArgs, output: Output) -> Result<(), Error> {
    let clients = clients(&args.api)?;
    let plan = Arc::new(args.files.plan()?);
    // Before anything is written, see that all nodes are there.
    read_all(&clients).await?;
    if let Some(percent) = args.tight {
        let tight = Tight { percent, hosts: usize::from(args.hosts), every: args.split.unwrap_or(TIGHT_EVERY) };
        return replay_tight(&plan, &clients, tight, output).await;
    }
    if let Some(every) = args.split {
        return replay_split(&plan, &clients, every, output).await;
    }
    let bar = progress_bar(&plan);
    let progress = Arc::new(Progress::default());
    let start = Instant::now();
    let written = feed(&plan, &clients, usize::from(args.lanes), &progress, &bar).await;
    let took = start.elapsed();
    bar.finish_and_clear();
    written?;
    let equal = wait_equal(&clients).await?;
    let held = futures::future::try_join_all(clients.iter().map(|client| Held::read(client, &plan))).await?;
    let writes = progress.writes.load(Ordering::Relaxed);
    let summary = json!({
        "events": plan.events.len(),
        "writes": writes,
        "batches": progress.batches.load(Ordering::Relaxed),
        "retries": progress.retries.load(Ordering::Relaxed),
        "seconds": took.as_secs_f64(),
        "writes_per_s": writes as f64 / took.as_secs_f64(),
        "equal_ms": equal.as_secs_f64() * 1e3,
        "trace": plan.counts,
        "nodes": held,
        "agrees": held.iter().all(|held| held.agrees(&plan.counts)),
    });
    report(&summary, &plan.counts, &held, output)
}

fn clients(urls: &[String]) -> Result<Vec<Client>, Error> {
    match urls.is_empty() {
        true => Ok(vec![ApiArg::default().client()?]),
        false => urls.iter().map(|url| Client::new(url)).collect(),
    }
}

impl TraceFiles {
    fn plan(&self) -> Result<Plan, Error> {
        let mapping = self.map.as_deref().map_or_else(|| Ok(Mapping::openb()), Mapping::read)?;
        let bad = |error: trace::BadTrace| Error::Usage(error.to_string());
        let name = |path: &Path| path.display().to_string();
        let workers = trace::workers(&name(&self.workers), open(&self.workers)?, &mapping.workers).map_err(bad)?;
        let tasks = trace::tasks(&name(&self.tasks), open(&self.tasks)?, &mapping.tasks).map_err(bad)?;
        Ok(Plan::new(workers, tasks))
    }

    pub fn of(workers: PathBuf, tasks: PathBuf, map: Option<PathBuf>) -> Self {
        Self { workers, tasks, map }
    }

    /// The trace as what simulated clients do.
    pub fn recording(&self) -> Result<Recording, Error> {
        recording(&self.plan()?)
    }
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|error| Error::Usage(format!("cannot open {}: {error}", path.display())))
}

fn progress_bar(plan: &Plan) -> ProgressBar {
    // Hidden by itself where stderr is no terminal.
    let bar = ProgressBar::new((plan.workers.len() + plan.events.len()) as u64);
    let template = "{bar:40} {pos} of {len} events, {per_sec}, {eta} to go";
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Writes everything: the workers, then the events in time order, each document through its own lane.
async fn feed(
    plan: &Arc<Plan>,
    clients: &[Client],
    lanes_per_node: usize,
    progress: &Arc<Progress>,
    bar: &ProgressBar,
) -> Result<(), Error> {
    let mut running = JoinSet::new();
    let mut lanes = Vec::new();
    for index in 0..clients.len() * lanes_per_node {
        let (sender, receiver) = mpsc::channel(LANE_QUEUE_LEN);
        let client = clients[index % clients.len()].clone();
        running.spawn(Lane::new(client, plan.clone(), progress.clone(), bar.clone()).run(receiver));
        lanes.push(sender);
    }
    let workers = plan.workers.iter().enumerate().map(|(index, worker)| Write::worker(index, worker));
    let events = plan.events.iter().flat_map(|event| Write::of(event, plan));
    for write in workers.chain(events) {
        // A lane that takes no more has failed; its reason comes below.
        if lanes[lane_of(write.target, lanes.len())].send(write).await.is_err() {
            break;
        }
    }
    drop(lanes);
    while let Some(ended) = running.join_next().await {
        ended.map_err(|error| Error::Failed(format!("a lane ended by itself: {error}")))??;
    }
    Ok(())
}

fn lane_of(target: Target, lanes: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    match target {
        Target::Worker(index) => (0u8, index).hash(&mut hasher),
        Target::Task(index) => (1u8, index).hash(&mut hasher),
    }
    usize::try_from(hasher.finish() % lanes.max(1) as u64).unwrap_or(0)
}

/// Waits until all nodes hold equal digests. They may go on changing, by heartbeats; equal at one moment is enough.
pub(super) async fn wait_equal(clients: &[Client]) -> Result<Duration, Error> {
    let start = Instant::now();
    while !all_equal(&read_all(clients).await?) {
        if start.elapsed() > EQUAL_TIMEOUT {
            let seconds = EQUAL_TIMEOUT.as_secs();
            return Err(Error::Failed(format!("the nodes still differ {seconds} s after the last write")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(start.elapsed())
}

fn report(summary: &Value, counts: &Counts, held: &[Held], output: Output) -> Result<(), Error> {
    output.either(summary, || {
        let number = |key: &str| summary[key].as_f64().unwrap_or_default();
        format!(
            "{} events in {} writes, {:.2} s: {:.0} writes/s. All nodes equal {:.0} ms after the last.\n{}",
            summary["events"],
            summary["writes"],
            number("seconds"),
            number("writes_per_s"),
            number("equal_ms"),
            table(counts, held),
        )
    })?;
    match held.iter().find(|held| !held.agrees(counts)) {
        None => Ok(()),
        Some(held) => Err(Error::Failed(format!("what {} holds is not what the trace says", held.api))),
    }
}

fn table(counts: &Counts, held: &[Held]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["", "TRACE"].into_iter().map(String::from).chain(held.iter().map(|held| held.api.clone())));
    let started = counts.scheduled - counts.unplaceable;
    let mut row = |name: &str, trace: u64, of: fn(&Held) -> u64| {
        let cells = std::iter::once(trace).chain(held.iter().map(of)).map(|count| count.to_string());
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    };
    row("workers", counts.workers, |held| held.counts.workers);
    row("tasks", counts.tasks, |held| held.counts.tasks);
    row("scheduled", counts.scheduled, |held| held.counts.scheduled);
    row("never scheduled", counts.never_scheduled, |held| held.counts.never_scheduled);
    row("unplaceable", counts.unplaceable, |held| held.counts.unplaceable);
    row("deleted", counts.deleted, |held| held.counts.deleted);
    row("started (counters)", started, |held| held.tasks_started);
    row("finished (counters)", counts.finished, |held| held.tasks_finished);
    row("running (sets)", started - counts.finished, |held| held.running);
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_its_lane_and_the_lanes_share_the_work() {
        let lanes: Vec<usize> = (0..1_000).map(|n| lane_of(Target::Task(n), 4)).collect();
        assert_eq!(lanes, (0..1_000).map(|n| lane_of(Target::Task(n), 4)).collect::<Vec<_>>());
        for lane in 0..4 {
            assert!(lanes.iter().filter(|l| **l == lane).count() > 150);
        }
    }

    #[test]
    fn the_openb_trace_has_the_counts_of_its_files() {
        let Some(dir) = std::env::var_os("FOLKMOOT_TRACES").map(PathBuf::from) else {
            eprintln!("skipped: FOLKMOOT_TRACES does not name the folder of the openb traces");
            return;
        };
        let (workers, tasks) = (dir.join("openb_nodes.csv"), dir.join("openb_pods.csv"));
        let plan = TraceFiles { workers, tasks, map: None }.plan().unwrap();
        let counts = plan.counts;
        assert_eq!((counts.workers, counts.tasks, counts.never_scheduled), (1_523, 8_152, 897));
        assert_eq!((counts.scheduled, counts.deleted), (8_152 - 897, 8_152));
        assert!(plan.events.is_sorted_by_key(|event| event.at));
        println!("{counts:?}");
    }
}
