//! The command: hurt the nodes as the scenario says, let them heal, and hold them to what clients were told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, sleep_until};

use crate::cli::chaos::clients::{self, History, Told, Verbs};
use crate::cli::chaos::contest::Contest;
use crate::cli::chaos::deciders::Deciders;
use crate::cli::chaos::lanes;
use crate::cli::chaos::lockers::Lockers;
use crate::cli::chaos::namespace::{self, Hosts};
use crate::cli::chaos::repeat::{self, Series};
use crate::cli::chaos::report::Report;
use crate::cli::chaos::stage::Stage;
use crate::cli::chaos::timeline::{Act, Timeline};
use crate::cli::chaos::verdict::{self, Verdict};
use crate::cli::chaos::voters::wait_for_voters;
use crate::cli::client::{Body, Client, Terms};
use crate::cli::cluster::directory;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::processes;
use crate::cli::sim::file;
use crate::sim::scenario::Expectation;
use crate::sim::trace::{Entry, What};
use crate::sim::workload::{COLLECTION, Kind, SCHEMA};
use crate::sim::{Plan, Scenario};

/// Run a scenario of the simulator on real processes
///
/// One process for each node, each in a network namespace of its own; needs root and iproute2. Delays, loses and cuts off
/// packets, stops and kills processes, brings back old disks. Faults that a real machine cannot make are named and left
/// out. Exit code 9 when an oracle found something.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot chaos simulations/split-brain-heals.toml
  folkmoot chaos simulations/lab/worst-case-20s.toml --store redb --report run.json
  folkmoot chaos simulations/networks-of-all-shapes.toml --report run.html
  folkmoot chaos simulations/lab/vm-owner-is-cut-off.toml --repeat 20
  folkmoot chaos --clean                              remove what a killed run left behind")]
pub struct ChaosArgs {
    /// The scenario
    #[arg(value_name = "SCENARIO.toml", required_unless_present = "clean")]
    scenario: Option<PathBuf>,
    /// The seed that the plan and the workload are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Run it so many times, each with the next seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    repeat: u64,
    /// Where nodes keep their data: sled, redb or memory
    #[arg(long, value_name = "sled|redb|memory", default_value = "sled")]
    store: String,
    /// Keep data and logs here [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Write what was done and what came of it: a page to look at if FILE ends in .html, else JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Remove what killed runs left behind, and do nothing else
    #[arg(long)]
    clean: bool,
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
    let listen = |kind| signal(kind).map_err(|error| Error::Failed(format!("cannot listen for signals: {error}")));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    // Whatever ends the run drops it, and with it the processes and the network.
    let runs = async {
        match args.repeat {
            1 => once(&args, &scenario, output).await,
            _ => many_times(&args, &scenario, output).await,
        }
    };
    tokio::select! {
        done = runs => done,
        _ = terminate.recv() => Err(Error::Failed("stopped before the end".into())),
        _ = interrupt.recv() => Err(Error::Failed("stopped before the end".into())),
    }
}

async fn once(args: &ChaosArgs, scenario: &Scenario, output: Output) -> Result<(), Error> {
    let (plan, timeline) = planned(scenario, args.seed, output);
    let report = run(args, args.data_dir.clone(), &plan, &timeline, output).await?;
    let written = args.report.as_ref().map_or(Ok(()), |path| file::write(path, &report.for_file(path, &plan)));
    // What was found is told also where the report cannot be written.
    conclude(&report, output).and(written)
}

/// A line for each run as it ends, then what they all came to.
async fn many_times(args: &ChaosArgs, scenario: &Scenario, output: Output) -> Result<(), Error> {
    let mut reports = Vec::new();
    for number in 1..=args.repeat {
        let (plan, timeline) = planned(scenario, args.seed + number - 1, output);
        let dir = args.data_dir.as_ref().map(|dir| dir.join(number.to_string()));
        let report = run(args, dir, &plan, &timeline, output).await?;
        match output.json {
            true => output.say(repeat::line(number, &report)),
            false => output.line(repeat::line(number, &report))?,
        }
        if report.wrong().next().is_some() {
            output.say(report.text());
        }
        reports.push(report);
    }
    let series = Series::of(&scenario.name, reports);
    let json = || serde_json::to_string_pretty(&series).unwrap_or_default();
    let written = args.report.as_ref().map_or(Ok(()), |path| file::write(path, &json()));
    output.either(&serde_json::to_value(&series).unwrap_or_default(), || series.text())?;
    let found = match series.failed {
        0 => Ok(()),
        failed => Err(Error::Oracle(format!("oracles found something in {failed} of {} repeats", args.repeat))),
    };
    found.and(written)
}

fn planned(scenario: &Scenario, seed: u64, output: Output) -> (Plan, Timeline) {
    let plan = Plan::new(scenario, seed);
    let timeline = Timeline::of(&plan);
    output.say(format!("links: {}", timeline.network));
    for what in &timeline.skipped {
        output.say(format!("left out: {what}"));
    }
    (plan, timeline)
}

async fn run(
    args: &ChaosArgs,
    dir: Option<PathBuf>,
    plan: &Plan,
    timeline: &Timeline,
    output: Output,
) -> Result<Report, Error> {
    let (dir, _temporary) = directory(dir)?;
    let nodes = plan.scenario.cluster.nodes;
    let hosts = Hosts::new(timeline.hosts, plan.scenario.network.clone(), plan.seed)?;
    let processes = processes::Plan {
        names: (0..timeline.hosts).map(|node| format!("n{node}")).collect(),
        dir: dir.clone(),
        base_port: None,
        store: Some(args.store.clone()),
        chaos: false,
        host_report: false,
        seats: hosts.seats(),
    };
    let mut stage = Stage::open(processes, hosts, nodes).await?;
    put_schema(&stage).await?;
    let decides = |kind: Kind| plan.scenario.workload.mix.contains_key(kind.name());
    if decides(Kind::Lock) || decides(Kind::Decide) || plan.scenario.contest.is_some() {
        let clients: Vec<&Client> = stage.running().map(|(_, process)| &process.client).collect();
        wait_for_voters(&clients, nodes).await?;
    }
    let mut contest = match &plan.scenario.contest {
        Some(settings) => Some(Contest::open(settings, plan, &stage, &dir).await?),
        None => None,
    };
    let verbs = Verbs { lockers: Lockers::new(plan.seed, Instant::now()), deciders: Deciders::new(plan.seed) };
    if decides(Kind::Decide) {
        verbs.deciders.prepare(stage.client(0)?).await?;
    }
    let (start, history, doors) = (Instant::now(), Arc::new(Mutex::new(History::recording())), stage.doors());
    let (acted, ()) = tokio::join!(
        act_out(&mut stage, contest.as_mut(), timeline, start, output),
        clients::run(plan, start, doors, history.clone(), &verbs)
    );
    let Acted { done, entries } = acted?;
    let quiet_ms = plan.scenario.workload.until.0.max(done.last().map_or(0, |(at_ms, _)| *at_ms));
    let within = plan.scenario.expects.iter().filter(|expect| expect.oracle == Expectation::Converged);
    let within = within.filter_map(|expect| expect.within).map(|ms| Duration::from_millis(ms.0)).max();
    let within = within.unwrap_or(EQUAL_WITHIN);
    let equal = stage.wait_equal(within).await;
    let equal_at_us = equal.map(|_| start.elapsed().as_micros() as u64);
    let equal_after_ms = equal_at_us.map(|at_us| (at_us / 1_000).saturating_sub(quiet_ms));
    stage.look_after();
    let history = std::mem::take(&mut *history.lock().unwrap_or_else(PoisonError::into_inner));
    let mut verdicts = verdict::judge(&stage, &history, timeline).await?;
    let late = equal.is_none().then(|| format!("not all nodes are equal {} s after the last fault", within.as_secs()));
    verdicts.push(Verdict::new("all nodes become equal", nodes, late.into_iter().collect()));
    verdicts.push(Verdict::new("a split is noticed", done.len(), stage.unaware.clone()));
    verdicts.push(Verdict::new("no process ends by itself", nodes, stage.died.clone()));
    verdicts.push(Verdict::new("nothing panics", nodes, stage.panics()));
    if !verbs.lockers.is_idle() {
        verdicts.extend(verbs.lockers.verdicts());
        output.say(verbs.lockers.text());
    }
    if !verbs.deciders.is_idle() {
        verdicts.extend(verbs.deciders.verdicts(&stage).await);
        output.say(verbs.deciders.text());
    }
    let contest = match contest {
        Some(contest) => {
            let course = contest.close(&stage).await;
            verdicts.extend(course.judge());
            Some(course.figures())
        }
        None => None,
    };
    let (p50, p99) = latencies(history.took_us.clone());
    let end_us = start.elapsed().as_micros() as u64;
    let (acknowledged, unknown) =
        (history.count(|told| told != Told::Unknown), history.count(|told| told == Told::Unknown));
    let faults = entries.iter().filter(|entry| entry.what == What::Fault).count();
    let (mut all, entries_dropped) = history.trace.into_entries();
    all.extend(entries);
    all.extend(equal_at_us.map(|at_us| lanes::entry(at_us, 0, What::Event, "all nodes are equal")));
    let found = verdicts.iter().flat_map(|verdict| verdict.wrong.iter().map(|wrong| (verdict.oracle, wrong)));
    all.extend(found.map(|(oracle, wrong)| lanes::entry(end_us, 0, What::Finding, format!("{oracle}: {wrong}"))));
    all.push(lanes::entry(end_us, 0, What::Event, "the nodes were asked, and the run is over"));
    all.sort_by_key(|entry| entry.at_us);
    let report = Report {
        scenario: plan.scenario.name.clone(),
        seed: plan.seed,
        nodes,
        links: timeline.network.clone(),
        skipped: timeline.skipped.clone(),
        faults,
        done,
        acknowledged,
        refused: history.refused,
        unknown,
        write_p50_ms: p50,
        write_p99_ms: p99,
        equal_after_ms,
        memory_mib_max: stage.memory_kib_max / 1024,
        packets: stage.packets(),
        verdicts,
        contest,
        entries: all,
        entries_dropped,
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

/// What was done, and when, ms; and the same for the page.
struct Acted {
    done: Vec<(u64, String)>,
    entries: Vec<Entry>,
}

/// Does each thing at its time.
async fn act_out(
    stage: &mut Stage,
    mut contest: Option<&mut Contest>,
    timeline: &Timeline,
    start: Instant,
    output: Output,
) -> Result<Acted, Error> {
    let now_us = || start.elapsed().as_micros() as u64;
    let first = stage.running().map(|(node, _)| lanes::entry(0, node, What::Start, "serves"));
    let mut acted = Acted { done: Vec::new(), entries: first.collect() };
    let mut look = interval(Duration::from_secs(1));
    for step in &timeline.steps {
        let due = start + Duration::from_millis(step.at_ms);
        while Instant::now() < due {
            tokio::select! {
                () = sleep_until(due) => {}
                _ = look.tick() => look_after(stage, now_us(), &mut acted.entries),
            }
        }
        let (from_us, unaware) = (now_us(), stage.unaware.len());
        if let Some(contest) = &mut contest {
            contest.before(&step.act).await;
        }
        stage.act(&step.act).await?;
        let at_us = now_us();
        output.say(format!("{:>8.1} s  {}", at_us as f64 / 1e6, step.words()));
        acted.entries.extend(lanes::of_step(step, from_us, at_us));
        acted.entries.extend(stage.unaware[unaware..].iter().map(|says| lanes::alarm(at_us, says)));
        if !matches!(step.act, Act::Notice(_)) {
            acted.done.push((at_us / 1_000, step.words()));
        }
    }
    Ok(acted)
}

fn look_after(stage: &mut Stage, at_us: u64, entries: &mut Vec<Entry>) {
    let died = stage.died.len();
    stage.look_after();
    entries.extend(stage.died[died..].iter().map(|says| lanes::alarm(at_us, says)));
}

/// The middle and the ninety-ninth of a hundred, ms.
fn latencies(mut took_us: Vec<u64>) -> (f64, f64) {
    took_us.sort_unstable();
    let at = |share: usize| took_us.get(took_us.len() * share / 100).map_or(0.0, |us| *us as f64 / 1e3);
    (at(50), at(99))
}

fn conclude(report: &Report, output: Output) -> Result<(), Error> {
    output.either(&serde_json::to_value(report).unwrap_or_default(), || report.text())?;
    match report.wrong().count() {
        0 => Ok(()),
        wrong => Err(Error::Oracle(format!("{wrong} oracles found something on real processes"))),
    }
}
