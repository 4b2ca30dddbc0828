//! Many seeds: `sim run`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::sim::args::{Planted, Recorded};
use crate::cli::sim::file::{self, Read};
use crate::cli::sim::pool::in_order;
use crate::sim::probe::{Probe, Probes};
use crate::sim::report::{Case, junit};
use crate::sim::scenario::parse_seeds;
use crate::sim::{How, Outcome, run as run_seed};

/// Run scenarios over many seeds
///
/// Takes scenario files and directories of them. Seeds that ever failed (`seeds.txt` beside a scenario) run first. Exit
/// code 9 when an oracle found something.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Scenarios, or directories of them
    #[arg(value_name = "SCENARIO.toml", required = true)]
    scenarios: Vec<PathBuf>,
    /// First and last seed, like 1..5000, both included [default: what the scenario says]
    #[arg(long, value_name = "FIRST..LAST", value_parser = parse_seeds)]
    seeds: Option<std::ops::RangeInclusive<u64>>,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Begin again with the next seeds, until interrupted or something is found
    #[arg(long)]
    forever: bool,
    /// Say what ought to happen sometimes and never did, and end with exit code 1 if there is any
    #[arg(long)]
    probes: bool,
    /// Print how writes spread, for each seed
    #[arg(long)]
    figures: bool,
    /// Write the results as JUnit
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    recorded: Recorded,
    #[command(flatten)]
    planted: Planted,
}

/// Failures told in full for each scenario; of the rest only the count.
const TOLD_MAX: usize = 10;

/// What many runs came to.
#[derive(Debug, Default, Serialize)]
struct Sum {
    seeds: u64,
    failed: u64,
    events: u64,
    faults: u64,
    writes: u64,
    messages: u64,
    virtual_s: f64,
    slowest_convergence_ms: u64,
    #[serde(skip)]
    probes: Probes,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failed += u64::from(outcome.finding.is_some());
        self.events += outcome.tally.events;
        self.faults += outcome.tally.faults;
        self.writes += outcome.tally.writes;
        self.messages += outcome.tally.messages;
        self.virtual_s += outcome.took_us as f64 / 1e6;
        self.slowest_convergence_ms = self.slowest_convergence_ms.max(outcome.converged_us.unwrap_or(0) / 1_000);
        self.probes.add(&outcome.probes);
    }
}

pub fn run(args: &RunArgs, output: Output) -> Result<(), Error> {
    let mut scenarios = Vec::new();
    let recording = args.recorded.read()?;
    for path in &args.scenarios {
        for mut read in file::read(path)? {
            read.hand_in(recording.as_ref())?;
            scenarios.push(read);
        }
    }
    let how = args.planted.how()?;
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).clamp(1, 1024);
    let (mut sum, mut cases, started) = (Sum::default(), Vec::new(), Instant::now());
    let mut round = 0;
    loop {
        for read in &scenarios {
            let seeds = args.seeds.clone().unwrap_or_else(|| read.scenario.seeds());
            let width = seeds.end() - seeds.start() + 1;
            let seeds = seeds.start() + round * width..=seeds.end() + round * width;
            cases.push(run_scenario(args, read, seeds, how, jobs, &mut sum, output)?);
        }
        round += 1;
        if !args.forever || sum.failed > 0 {
            break;
        }
    }
    if let Some(path) = &args.junit {
        file::write(path, &junit(&cases))?;
    }
    conclude(args, &sum, started.elapsed().as_secs_f64(), output)
}

fn run_scenario(
    args: &RunArgs,
    read: &Read,
    seeds: std::ops::RangeInclusive<u64>,
    how: How,
    jobs: usize,
    sum: &mut Sum,
    output: Output,
) -> Result<Case, Error> {
    let scenario = &read.scenario;
    let (first, last, started) = (*seeds.start(), *seeds.end(), Instant::now());
    let earlier: Vec<u64> = file::seeds_that_failed(read).into_iter().filter(|seed| !seeds.contains(seed)).collect();
    let style = ProgressStyle::with_template("{prefix:36} {wide_bar} {pos}/{len} seeds {per_sec} {msg}");
    let bar = ProgressBar::new(last - first + 1 + earlier.len() as u64).with_prefix(scenario.name.clone());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut failures = Vec::new();
    let mut take = |outcome: Outcome| {
        sum.add(&outcome);
        bar.inc(1);
        if args.figures {
            bar.suspend(|| tell_figures(&outcome, output));
        }
        if let Some(finding) = &outcome.finding {
            let found = format!("{}: {}", finding.oracle, finding.text);
            let again =
                format!("folkmoot sim replay {} --seed {}{}", read.path.display(), outcome.seed, args.planted.flags());
            if failures.len() < TOLD_MAX {
                let drawn = if outcome.plan.drawn.is_empty() { "-".into() } else { outcome.plan.drawn.join(", ") };
                bar.suspend(|| {
                    output
                        .say(format!("{} seed {}: {found}\n  drawn: {drawn}\n  {again}", scenario.name, outcome.seed));
                });
            }
            failures.push((outcome.seed, found, again));
            bar.set_message(format!("{} failed", failures.len()));
        }
        true
    };
    if !earlier.is_empty() {
        output.say(format!("{}: first the seeds that failed once: {earlier:?}", scenario.name));
    }
    for seed in earlier {
        take(run_seed(scenario, seed, how));
    }
    in_order(first..=last, jobs, |seed| run_seed(scenario, seed, how), &mut take);
    bar.finish_and_clear();
    if failures.len() > TOLD_MAX {
        output.say(format!("{}: and {} seeds more failed", scenario.name, failures.len() - TOLD_MAX));
    }
    let seconds = started.elapsed().as_secs_f64();
    let seeds = format!("{first}..{last}");
    let case = Case { scenario: scenario.name.clone(), seeds: seeds.clone(), seconds, failures };
    let line = serde_json::json!({"scenario": case.scenario, "seeds": seeds, "failed": case.failures.len(), "seconds": seconds,
        "failures": case.failures.iter().take(TOLD_MAX).map(|(seed, found, _)| serde_json::json!({"seed": seed, "found": found})).collect::<Vec<_>>()});
    output.either(&line, || {
        let rate = (last - first + 1) as f64 / seconds;
        format!(
            "{:36} seeds {seeds:<14} {:>5} failed  {seconds:>7.1} s  {rate:>6.1} seeds/s",
            case.scenario,
            case.failures.len()
        )
    })?;
    Ok(case)
}

fn tell_figures(outcome: &Outcome, output: Output) {
    let figures = &outcome.figures;
    let line = serde_json::json!({"seed": outcome.seed, "figures": figures});
    // Nobody to tell is no reason to stop.
    let _ = output.either(&line, || {
        format!(
            "seed {}: visible after {:.1} / {:.1} / {:.1} ms (p50, p99, last of {}); {:.2} copies; {:.1} MB, {:.1} % of them \
             control, {:.0} bytes of control for each node and second",
            outcome.seed,
            figures.p50_ms,
            figures.p99_ms,
            figures.max_ms,
            figures.deliveries,
            figures.copies,
            figures.bytes as f64 / 1e6,
            figures.control_share * 100.0,
            figures.control_bytes_per_node_s,
        )
    });
}

fn conclude(args: &RunArgs, sum: &Sum, seconds: f64, output: Output) -> Result<(), Error> {
    let missed: Vec<&str> = sum.probes.missed().into_iter().map(Probe::name).collect();
    let line = serde_json::json!({"sum": sum, "seconds": seconds, "probes_missed": missed});
    output.either(&line, || {
        let per_s = |count: u64| count as f64 / seconds;
        format!(
            "{} seeds, {} failed, in {seconds:.1} s: {:.1} seeds/s, {:.0} events/s, {:.0} faults/s, {} writes; \
             {:.0} virtual seconds for each real one; slowest convergence {} ms",
            sum.seeds,
            sum.failed,
            per_s(sum.seeds),
            per_s(sum.events),
            per_s(sum.faults),
            sum.writes,
            sum.virtual_s / seconds,
            sum.slowest_convergence_ms,
        )
    })?;
    if args.probes && !missed.is_empty() {
        output.say(format!("never happened: {}", missed.join("; ")));
    }
    match (sum.failed, args.probes && !missed.is_empty()) {
        (0, false) => Ok(()),
        (0, true) => Err(Error::Failed(format!("{} probes were never reached", missed.len()))),
        (failed, _) => Err(Error::Oracle(format!("{failed} of {} seeds failed", sum.seeds))),
    }
}
