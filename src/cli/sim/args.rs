//! The commands of `folkmoot sim`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::replay::TraceFiles;
use crate::cli::sim::{many, one};
use crate::sim::How;
use crate::sim::workload::Recording;

/// Run the deterministic simulator.
///
/// A scenario file says what is simulated: nodes, network, workload, faults, and what must come about. One seed decides
/// everything else. The simulator drives the same replica that a node runs, under virtual time, and holds it to the
/// invariants after every step.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot sim run simulations                                   every scenario, its own seeds
  folkmoot sim run simulations/everything-at-once.toml --seeds 1..5000
  folkmoot sim replay simulations/split-brain-heals.toml --seed 13
  folkmoot sim report simulations/split-brain-heals.toml --seed 13 --out run.html")]
pub struct SimArgs {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum SimCommand {
    Run(many::RunArgs),
    Replay(one::ReplayArgs),
    Shrink(one::ShrinkArgs),
    Report(one::ReportArgs),
    #[cfg(feature = "mutants")]
    Mutants(crate::cli::sim::mutants::MutantsArgs),
}

/// A bug to plant, and how often rare paths are taken; only in a build with the feature `mutants`.
#[derive(Debug, Clone, Args)]
pub struct Planted {
    /// Plant this bug in every node
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Take rare paths so often, of 256
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "N", default_value_t = 0)]
    rare: u8,
}

impl Planted {
    #[cfg(feature = "mutants")]
    pub fn how(&self) -> Result<How, Error> {
        use crate::engine::hooks::Mutant;
        let named = |name: &String| {
            let known = || Mutant::ALL.iter().map(|mutant| mutant.name()).collect::<Vec<_>>().join(", ");
            Mutant::named(name)
                .ok_or_else(|| Error::Usage(format!("there is no mutant `{name}`: there is {}", known())))
        };
        let mutant = self.mutant.as_ref().map(named).transpose()?;
        Ok(How { hooks: crate::sim::HookChoice { mutant, rare: self.rare }, ..How::default() })
    }

    #[cfg(not(feature = "mutants"))]
    pub fn how(&self) -> Result<How, Error> {
        Ok(How::default())
    }

    /// How to ask for the same again on a command line.
    #[cfg(feature = "mutants")]
    pub fn flags(&self) -> String {
        let mutant = self.mutant.as_ref().map_or(String::new(), |name| format!(" --mutant {name}"));
        if self.rare == 0 { mutant } else { format!("{mutant} --rare {}", self.rare) }
    }

    #[cfg(not(feature = "mutants"))]
    pub fn flags(&self) -> String {
        String::new()
    }
}

/// One run: a scenario and a seed.
#[derive(Debug, Clone, Args)]
pub struct OneRun {
    /// The scenario
    #[arg(value_name = "SCENARIO.toml")]
    pub scenario: PathBuf,
    /// The seed
    #[arg(long, value_name = "N")]
    pub seed: u64,
    #[command(flatten)]
    pub recorded: Recorded,
    #[command(flatten)]
    pub planted: Planted,
}

/// The cluster trace that scenarios with `trace` in their mix replay: the files of `folkmoot replay`.
#[derive(Debug, Clone, Args)]
pub struct Recorded {
    /// The machines of a cluster trace, for scenarios that replay one
    #[arg(long, value_name = "CSV", requires = "tasks")]
    workers: Option<PathBuf>,
    /// Its tasks
    #[arg(long, value_name = "CSV", requires = "workers")]
    tasks: Option<PathBuf>,
    /// Column names, when they are not those of the openb traces
    #[arg(long, value_name = "FILE", requires = "workers")]
    map: Option<PathBuf>,
}

impl Recorded {
    pub fn read(&self) -> Result<Option<Recording>, Error> {
        let (Some(workers), Some(tasks)) = (&self.workers, &self.tasks) else { return Ok(None) };
        TraceFiles::of(workers.clone(), tasks.clone(), self.map.clone()).recording().map(Some)
    }
}

pub async fn sim(args: SimArgs, output: Output) -> Result<(), Error> {
    // Simulations keep every core busy for as long as they run, and none of them waits.
    let done = tokio::task::spawn_blocking(move || match args.command {
        SimCommand::Run(args) => many::run(&args, output),
        SimCommand::Replay(args) => one::replay(&args, output),
        SimCommand::Shrink(args) => one::shrink(&args, output),
        SimCommand::Report(args) => one::report(&args, output),
        #[cfg(feature = "mutants")]
        SimCommand::Mutants(args) => crate::cli::sim::mutants::mutants(&args, output),
    });
    done.await.map_err(|error| Error::Failed(format!("the simulation ended early: {error}")))?
}
