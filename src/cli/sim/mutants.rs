//! Every planted bug, run until the simulator finds it.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::sim::file;
use crate::engine::hooks::Mutant;
use crate::sim::scenario::parse_seeds;
use crate::sim::{HookChoice, How, run};

/// Plant each bug in turn, and find it
///
/// Seed 1 of every scenario, then seed 2 of every scenario, and so on. Prints a table; exit code 1 when one is not found.
#[derive(Debug, Clone, Args)]
pub struct MutantsArgs {
    /// Scenarios, or a directory of them
    #[arg(value_name = "SCENARIO.toml", default_value = "simulations")]
    scenarios: PathBuf,
    /// First and last seed
    #[arg(long, value_name = "FIRST..LAST", default_value = "1..1000", value_parser = parse_seeds)]
    seeds: std::ops::RangeInclusive<u64>,
    /// Write the table here, too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn mutants(args: &MutantsArgs, output: Output) -> Result<(), Error> {
    let scenarios = file::read(&args.scenarios)?;
    let started = Instant::now();
    let (mut missed, mut rows) = (0, Vec::new());
    for mutant in Mutant::ALL.iter().copied() {
        let how = How { hooks: HookChoice { mutant: Some(mutant), rare: 0 }, ..How::default() };
        let found = args.seeds.clone().find_map(|seed| {
            let find = |read: &file::Read| Some((read.scenario.name.clone(), run(&read.scenario, seed, how).finding?));
            scenarios.iter().find_map(find).map(|(scenario, finding)| (seed, scenario, finding))
        });
        missed += u32::from(found.is_none());
        let row = match &found {
            Some((seed, scenario, finding)) => [scenario.clone(), seed.to_string(), finding.oracle.to_owned()],
            None => ["not found".to_owned(), String::new(), String::new()],
        };
        let line = serde_json::json!({"mutant": mutant.name(), "what": mutant.what(), "scenario": row[0], "seed": row[1], "oracle": row[2]});
        output.either(&line, || format!("{:26} {:36} {:>5}  {}", mutant.name(), row[0], row[1], row[2]))?;
        rows.push(format!("| `{}` | {} | {} | {} | {} |", mutant.name(), mutant.what(), row[0], row[1], row[2]));
    }
    if let Some(path) = &args.out {
        let head = "# Mutants\n\nBugs planted one at a time, and where the simulator first finds each: seed 1 of every scenario is tried, \
                    then seed 2\nof every scenario, and so on. Written by `just mutants`.\n\n\
                    | mutant | the bug | scenario | first failing seed | oracle |\n|---|---|---|---|---|\n";
        file::write(path, &format!("{head}{}\n", rows.join("\n")))?;
    }
    output.say(format!("{} mutants, {missed} not found, in {:.0} s", rows.len(), started.elapsed().as_secs_f64()));
    if missed > 0 { Err(Error::Failed(format!("{missed} mutants were not found"))) } else { Ok(()) }
}
