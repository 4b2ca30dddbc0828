//! What a [`survey`](super::survey) is asked, and what it answers.

use serde::Serialize;

/// Which records, and what counts as a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From this millisecond on.
    pub from_ms: u64,
    /// Before this millisecond.
    pub until_ms: u64,
    /// Conflicts of one field of a collection that make it recurring. At 3, two in an hour are chance.
    pub recurring: u64,
    /// Times a field's settled value went back to the one before the last, until that is flapping.
    pub flaps: u64,
    /// Lines of each list.
    pub top: usize,
}

impl Window {
    pub fn new(from_ms: u64, until_ms: u64) -> Self {
        Self { from_ms, until_ms, recurring: 3, flaps: 2, top: 20 }
    }
}

/// A name, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    pub name: String,
    pub count: u64,
}

/// A field, of a document or of a collection, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldCount {
    pub of: String,
    pub field: String,
    pub count: u64,
}

/// Two nodes whose writes met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PairCount {
    pub nodes: [String; 2],
    pub count: u64,
}

/// A field whose settled value goes to and fro.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flapping {
    pub document: String,
    pub field: String,
    /// The two values as JSON text, cut; the later first.
    pub values: [String; 2],
    pub returns: u64,
}

/// What a window holds. Lists are sorted by count, then by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Patterns {
    pub records: u64,
    pub detected: u64,
    pub resolved: u64,
    pub documents: Vec<Count>,
    /// Fields of documents.
    pub fields: Vec<FieldCount>,
    pub pairs: Vec<PairCount>,
    /// Fields of collections contested at least as often as the window asks.
    pub recurring: Vec<FieldCount>,
    pub flapping: Vec<Flapping>,
    pub strategies: Vec<Count>,
    /// Share of what was settled that a person settled; 0 when nothing was.
    pub manual_share: f64,
    /// How far a count may lie below the truth, because there were too many names to hold.
    pub short_by: u64,
    /// Values settled that nobody looked at for flapping, because there were too many fields to hold.
    pub unwatched: u64,
}
