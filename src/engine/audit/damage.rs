//! A store that was damaged and set aside, on record: the node goes on with what its peers have, and somebody should know
//! what its disk had lost.

use serde_json::{Map, Value as Json, json};

use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::history::audit::{Entry, Finding, Kind};

/// What is known of a store that was set aside. Empty where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// What was wrong with it.
    pub reason: String,
    /// The directory it lies in now, beside the new one.
    pub set_aside: String,
    /// What could still be read of some trees, by name.
    pub trees: Vec<ReadBack>,
}

/// What could still be read of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack {
    pub tree: &'static str,
    pub rows: u64,
    /// Rows that are there and cannot be trusted.
    pub bad: u64,
    /// Whether all of the tree could be read, as far as its backend knows.
    pub whole: bool,
}

const TEXT: &str = "the store was damaged and set aside; documents come back from peers, and own batches that could be read \
                    are offered again. Lost are writes that no other node had, but for those, and the ledger";

impl Replica {
    pub(super) fn record_loss(&mut self, loss: Loss, now: Now) {
        let trees: Map<String, Json> = loss.trees.iter().map(ReadBack::told).collect();
        let missing = self.audit.at_start.findings.iter().map(|finding| match finding {
            Finding::Deleted { first, last } => last - first + 1,
            _ => 0,
        });
        let detail = json!({
            "alarm": "store_rebuilt", "text": TEXT, "reason": loss.reason, "set_aside": loss.set_aside,
            "read_back": trees, "own_batches": self.salvaged.len(),
            "audit": {
                "records": self.audit.at_start.records, "missing": missing.sum::<u64>(),
                "findings": self.audit.at_start.findings.len() as u64 + self.audit.at_start.more_findings,
            },
        });
        self.record(Entry::new(Kind::Damage, self.id.node.to_string(), now.wall_ms).detail(detail));
    }
}

impl ReadBack {
    fn told(&self) -> (String, Json) {
        (self.tree.to_owned(), json!({ "rows": self.rows, "bad": self.bad, "whole": self.whole }))
    }
}
