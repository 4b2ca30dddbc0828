//! What is wrong with a chain, and how much of it is proven.

use serde::Serialize;

/// Findings that one report holds. A chain with more is not worth listing further; the rest is counted.
pub const FINDINGS_MAX: usize = 1_000;

/// One thing that was found, by the index it was found at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Finding {
    #[error("records {first} to {last} were deleted")]
    Deleted { first: u64, last: u64 },
    #[error("record {index} was edited: its bytes are not those its hash was made of")]
    Edited { index: u64 },
    #[error("what lies at {index} is no record: {error}")]
    Unreadable { index: u64, error: String },
    #[error("record {holds} lies where record {index} should be")]
    Misplaced { index: u64, holds: u64 },
    #[error(
        "record {index} does not continue the one before it: one of the two was exchanged, with its hash made anew"
    )]
    Unlinked { index: u64 },
    #[error("there are two records {index}")]
    Duplicate { index: u64 },
    #[error("record {index} comes after a later one")]
    OutOfOrder { index: u64 },
    #[error("the key {key} is none of this chain's")]
    Foreign { key: String },
    #[error("records {first} to {last} are from before the base: a cut was not finished, or somebody put them back")]
    Leftover { first: u64, last: u64 },
    #[error("the base is not to be believed: {error}")]
    BadBase { error: String },
    /// The anchored record is not there, nor any later.
    #[error(
        "the chain was cut off: record {anchored} is anchored, and {}{}",
        ends(.stored), explained(.started)
    )]
    Truncated { stored: Option<u64>, anchored: u64, started: Option<u64> },
    #[error(
        "record {anchored} is not the one that was anchored: {} was written anew{}",
        stretch(.after), explained(.started)
    )]
    Rewritten { after: Option<u64>, anchored: u64, started: Option<u64> },
    #[error("this node signed two different records {index}: it keeps two chains, or went back to an old disk")]
    Forked { index: u64 },
    #[error("an anchor of record {index} was not signed by this node: whoever handed it over is to be asked")]
    RefusedAnchor { index: u64 },
}

fn ends(stored: &Option<u64>) -> String {
    stored.map_or("there is no record here".to_owned(), |last| format!("the last one here is {last}"))
}

fn stretch(after: &Option<u64>) -> String {
    after.map_or("what comes up to it".to_owned(), |after| format!("what comes after record {after}, up to it,"))
}

fn explained(started: &Option<u64>) -> String {
    let explained = |index| {
        format!(
            " (a process started at {index}: an older disk, or one that lost what it had called stored, would look so)"
        )
    };
    started.map(explained).unwrap_or_default()
}

impl Finding {
    /// Whether a lost or restored disk would look the same. It is reported all the same: a `started` record is easily
    /// written by whoever rewrote the rest.
    pub fn is_explained(&self) -> bool {
        match self {
            Finding::Truncated { started, .. } | Finding::Rewritten { started, .. } => started.is_some(),
            _ => false,
        }
    }
}

/// Records from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    pub first: u64,
    pub last: u64,
}

/// What a walk over a chain found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows of records looked at.
    pub records: u64,
    /// The record the base stands for.
    pub base: Option<u64>,
    /// The last row's index.
    pub last: Option<u64>,
    /// Anchors that match.
    pub anchors: u64,
    /// Anchors of records dropped before the base: nothing is left to hold them against.
    pub anchors_before_base: u64,
    /// The newest anchor of a record that is not here yet: the chain is an older copy. Of a node's own chain that is a
    /// finding instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub later: Option<u64>,
    /// Records that matching anchors vouch for, each linked to its neighbour. What is outside of them may be as it was.
    pub proven: Vec<Span>,
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`].
    pub more_findings: u64,
}

impl Report {
    /// Nothing wrong was found.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether an anchor vouches for record `index`.
    pub fn proves(&self, index: u64) -> bool {
        self.proven.iter().any(|span| span.first <= index && index <= span.last)
    }

    pub(super) fn note(&mut self, finding: Finding) {
        match self.findings.len() < FINDINGS_MAX {
            true => self.findings.push(finding),
            false => self.more_findings += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_speaks_plainly_of_what_is_not_there() {
        let cut = |stored| Finding::Truncated { stored, anchored: 80, started: None }.to_string();
        assert_eq!(cut(Some(79)), "the chain was cut off: record 80 is anchored, and the last one here is 79");
        assert_eq!(cut(None), "the chain was cut off: record 80 is anchored, and there is no record here");
        let anew = |after| Finding::Rewritten { after, anchored: 8, started: None }.to_string();
        assert!(anew(Some(3)).contains("what comes after record 3, up to it, was written anew"), "{}", anew(Some(3)));
        assert!(anew(None).contains("what comes up to it was written anew"), "{}", anew(None));
    }
}
