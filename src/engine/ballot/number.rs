//! Which attempt comes before which.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::ReplicaId;

/// One attempt to change one register. No two attempts share a ballot: a process counts its rounds upwards, and no two
/// processes share a replica id (rule R4), copies of a data directory included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    pub round: u64,
    pub by: ReplicaId,
}

impl Ballot {
    /// The next of the same proposer, and what it may be promised before it asks.
    pub fn next(self) -> Self {
        Self { round: self.round + 1, ..self }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.round, self.by)
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.round, self.by)
    }
}
