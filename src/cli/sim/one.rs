//! One seed, looked at closely: step by step, made smaller, as a page.

use std::path::PathBuf;

use clap::Args;

use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::sim::args::OneRun;
use crate::cli::sim::file;
use crate::sim::report::{Case, html, json, junit};
use crate::sim::{Finding, How, Outcome};

/// Run one seed and print every step
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    run: OneRun,
}

/// Find the smallest scenario that still fails
///
/// Prints a scenario without storm and swarm that fails under the same seed, and the command that runs it.
#[derive(Debug, Clone, Args)]
pub struct ShrinkArgs {
    #[command(flatten)]
    run: OneRun,
    /// Write the scenario here [default: SCENARIO-seed-N.toml]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Show one run as a page that needs nothing else
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    #[command(flatten)]
    run: OneRun,
    /// The page [default: SCENARIO-seed-N.html]
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// The same as JSON
    #[arg(long = "json-out", value_name = "FILE")]
    json_out: Option<PathBuf>,
    /// The result as JUnit
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Ends the command as the run did.
fn end(finding: Option<Finding>) -> Result<(), Error> {
    finding.map_or(Ok(()), |finding| {
        let Finding { oracle, node, at_us, text } = finding;
        Err(Error::Oracle(format!("the oracle `{oracle}` found at {} ms on n{node}: {text}", at_us / 1_000)))
    })
}

fn run_one(run: &OneRun, record: bool) -> Result<Outcome, Error> {
    let mut read = file::read_one(&run.scenario)?;
    read.hand_in(run.recorded.read()?.as_ref())?;
    Ok(crate::sim::run(&read.scenario, run.seed, How { record, ..run.planted.how()? }))
}

pub fn replay(args: &ReplayArgs, output: Output) -> Result<(), Error> {
    let outcome = run_one(&args.run, true)?;
    for drawn in &outcome.plan.drawn {
        output.say(format!("drawn: {drawn}"));
    }
    for entry in &outcome.entries {
        output.either(entry, || {
            let peer = entry.peer.map_or(String::new(), |peer| format!(" n{peer}"));
            let what = format!("{:?}", entry.what).to_lowercase();
            format!("{:>12.3} ms  n{:<3} {what:<13}{peer:<4} {}", entry.at_us as f64 / 1_000.0, entry.node, entry.text)
        })?;
    }
    output.say(format!("trace {:016x}, {} events", outcome.hash, outcome.tally.events));
    end(outcome.finding)
}

pub fn shrink(args: &ShrinkArgs, output: Output) -> Result<(), Error> {
    let outcome = run_one(&args.run, false)?;
    let Some(finding) = outcome.finding else {
        output.say("This run does not fail: there is nothing to make smaller.");
        return Ok(());
    };
    let how = args.run.planted.how()?;
    let shrunk = crate::sim::shrink::shrink(&outcome.plan, finding.oracle, how);
    let text = shrunk.scenario.to_toml();
    let name = format!("{}-seed-{}.toml", shrunk.scenario.name, args.run.seed);
    let path = args.out.clone().unwrap_or_else(|| name.into());
    file::write(&path, &text)?;
    output.line(text)?;
    output.say(format!(
        "{} runs. {} of {} faults are left. It still fails:\n  folkmoot sim replay {} --seed {}{}",
        shrunk.runs,
        shrunk.scenario.faults.len(),
        outcome.plan.scenario.faults.len(),
        path.display(),
        args.run.seed,
        args.run.planted.flags(),
    ));
    Ok(())
}

pub fn report(args: &ReportArgs, output: Output) -> Result<(), Error> {
    let outcome = run_one(&args.run, true)?;
    let name = format!("{}-seed-{}.html", outcome.plan.scenario.name, args.run.seed);
    let page = args.out.clone().unwrap_or_else(|| name.into());
    file::write(&page, &html(&outcome))?;
    if let Some(path) = &args.json_out {
        file::write(path, &json(&outcome).to_string())?;
    }
    if let Some(path) = &args.junit {
        let flags = args.run.planted.flags();
        let again = format!("folkmoot sim replay {} --seed {}{flags}", args.run.scenario.display(), args.run.seed);
        let failure = outcome
            .finding
            .iter()
            .map(|found| (outcome.seed, format!("{}: {}", found.oracle, found.text), again.clone()));
        let case = Case {
            scenario: outcome.plan.scenario.name.clone(),
            seeds: args.run.seed.to_string(),
            seconds: 0.0,
            failures: failure.collect(),
        };
        file::write(path, &junit(&[case]))?;
    }
    output.say(format!("wrote {}", page.display()));
    end(outcome.finding)
}
