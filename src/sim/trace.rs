//! What happened, in order: folded into one number for every run, and kept in full for the run that is looked at.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Virtual time since the start, µs.
    pub at_us: u64,
    /// The node it happened at, or that it came from.
    pub node: usize,
    /// The other node of a message or a link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<usize>,
    pub what: What,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Start,
    Stop,
    Write,
    Read,
    Acknowledged,
    Send,
    Arrive,
    Lost,
    Link,
    Disk,
    Event,
    Alarm,
    Fault,
    Healed,
    Finding,
    /// A client was told that its write was not made. Of real processes only, as the next.
    Failed,
    /// No answer, or none that says.
    Unknown,
}

/// Every step moves the hash; two runs that end in one hash took the same steps.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    steps: u64,
    entries: Option<Vec<Entry>>,
    dropped: u64,
}

/// Entries kept at most: about 150 MB. What comes after is counted.
const ENTRIES_MAX: usize = 1_000_000;

impl Trace {
    pub fn recording() -> Self {
        Self { entries: Some(Vec::new()), ..Self::default() }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub fn is_recording(&self) -> bool {
        self.entries.is_some()
    }

    pub fn into_entries(self) -> (Vec<Entry>, u64) {
        (self.entries.unwrap_or_default(), self.dropped)
    }

    /// Folds a step into the hash: when, where, what, and whatever tells it from others.
    pub fn step(&mut self, at_us: u64, node: usize, what: What, detail: u64) {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&at_us.to_le_bytes());
        bytes[8..16].copy_from_slice(&((node as u64) << 8 | what as u64).to_le_bytes());
        bytes[16..].copy_from_slice(&detail.to_le_bytes());
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
        self.steps += 1;
    }

    /// Keeps the entry, when this run is recorded.
    pub fn keep(&mut self, entry: impl FnOnce() -> Entry) {
        let Some(entries) = &mut self.entries else { return };
        if entries.len() < ENTRIES_MAX {
            entries.push(entry());
        } else {
            self.dropped += 1;
        }
    }
}
