//! Scenario files, and the seeds that ever failed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::exit::Error;
use crate::sim::Scenario;
use crate::sim::workload::Recording;

/// A scenario and where it was read.
#[derive(Debug, Clone)]
pub struct Read {
    pub path: PathBuf,
    pub scenario: Scenario,
}

impl Read {
    /// Gives the scenario the recording it replays, if it replays one.
    pub fn hand_in(&mut self, recording: Option<&Recording>) -> Result<(), Error> {
        if !self.scenario.lacks_recording() {
            return Ok(());
        }
        let missing = || {
            let path = self.path.display();
            Error::Usage(format!("{path} replays a cluster trace: hand it in with --workers FILE.csv --tasks FILE.csv"))
        };
        self.scenario.workload.recording = Some(recording.ok_or_else(missing)?.clone());
        Ok(())
    }
}

/// Reads a scenario, or every scenario of a directory, in order of names.
pub fn read(path: &Path) -> Result<Vec<Read>, Error> {
    if !path.is_dir() {
        return Ok(vec![read_one(path)?]);
    }
    let listed = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    if paths.is_empty() {
        return Err(Error::Usage(format!("there are no scenarios (*.toml) in {}", path.display())));
    }
    paths.iter().map(|path| read_one(path)).collect()
}

pub fn read_one(path: &Path) -> Result<Read, Error> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let scenario = Scenario::parse(&text)
        .map_err(|error| Error::Usage(format!("{}:{}: {}", path.display(), error.line, error.cause)))?;
    Ok(Read { path: path.to_owned(), scenario })
}

/// The seeds that ever failed in this scenario: lines of `scenario seed` in `seeds.txt` beside it.
pub fn seeds_that_failed(read: &Read) -> Vec<u64> {
    let beside = read.path.parent().unwrap_or(Path::new(".")).join("seeds.txt");
    let text = fs::read_to_string(beside).unwrap_or_default();
    let mut seeds = Vec::new();
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default()) {
        let mut words = line.split_whitespace();
        if words.next() == Some(&read.scenario.name) {
            seeds.extend(words.next().and_then(|seed| seed.parse::<u64>().ok()));
        }
    }
    seeds
}

pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|error| Error::Failed(format!("cannot write {}: {error}", path.display())))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    Error::Usage(format!("cannot read {}: {error}", path.display()))
}
