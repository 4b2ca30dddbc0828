//! Findings that a person should hear of. Local to the node that made them: they are about what *it* saw.

use serde::Serialize;

use crate::clock::{NodeId, ReplicaId};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Alarm {
    /// Harmless to the data (rule R4), but a disk was swapped, restored or copied.
    #[error(
        "this node's disk holds less than it once told: {peer} has {theirs} ops of our replica {replica}, this disk has \
         {ours}. It was rolled back or copied, or died before its last writes, which nobody was told to be safe, were \
         synced. Nothing is lost: this start writes under a new replica, and the rest comes back from peers"
    )]
    RolledBack { replica: ReplicaIdText, ours: u64, theirs: u64, peer: NodeIdText },
    /// The stronger proof, which an acceptor heeds.
    #[error(
        "this node's disk was set back: {peer} was told that {told} ops of our replica {replica} were on it, and {ours} \
         are. What this node promised as a voter since then is forgotten, so its word counts for nothing until the others \
         let it in anew, which they do by themselves while a majority of them stands"
    )]
    SetBack { replica: ReplicaIdText, ours: u64, told: u64, peer: NodeIdText },
    #[error(
        "another process writes as this node (replica {replica}, after this one started): a data directory was copied and \
         both copies run, or this host's clock was set back; stop all but one"
    )]
    Cloned { replica: ReplicaIdText },
    #[error("replica {replica} issued two different batches up to seq {seq}; its further batches are refused here")]
    Forked { replica: ReplicaIdText, seq: u64 },
    #[error(
        "a batch of replica {replica} up to seq {seq} was not signed by its node; its further batches are refused here"
    )]
    Forged { replica: ReplicaIdText, seq: u64 },
    #[error(
        "replica {replica} is fenced after seq {seq} (by {by}): what it wrote later is kept aside until somebody releases \
         or discards it"
    )]
    Fenced { replica: ReplicaIdText, seq: u64, by: String },
    #[error("what replica {replica} wrote after seq {seq} was discarded (by {by})")]
    Discarded { replica: ReplicaIdText, seq: u64, by: String },
    #[error("replica {replica} stamps {ahead_ms} ms ahead of this host's clock: one of the two clocks is wrong")]
    Skewed { replica: ReplicaIdText, ahead_ms: u64 },
    #[error("{peer} has the same clock as this node and another state: silent divergence")]
    Diverged { peer: NodeIdText },
    #[error(
        "mended a divergence from {peer}: {added} entries added, {dropped} dropped; {}",
        if *.by_majority { "most of the nodes asked had them so" } else { "no majority knew, so both sides keep what either had: a removed value may be back" }
    )]
    Mended { peer: NodeIdText, added: usize, dropped: usize, by_majority: bool },
}

impl Alarm {
    /// Its name in JSON, in metrics and in scenarios.
    pub fn kind(&self) -> &'static str {
        match self {
            Alarm::RolledBack { .. } => "rolled_back",
            Alarm::SetBack { .. } => "set_back",
            Alarm::Cloned { .. } => "cloned",
            Alarm::Forked { .. } => "forked",
            Alarm::Forged { .. } => "forged",
            Alarm::Fenced { .. } => "fenced",
            Alarm::Discarded { .. } => "discarded",
            Alarm::Skewed { .. } => "skewed",
            Alarm::Diverged { .. } => "diverged",
            Alarm::Mended { .. } => "mended",
        }
    }
}

/// A node id, as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NodeIdText(pub String);

/// A replica id, as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ReplicaIdText(pub String);

impl From<NodeId> for NodeIdText {
    fn from(id: NodeId) -> Self {
        Self(id.to_string())
    }
}

impl From<&ReplicaId> for ReplicaIdText {
    fn from(id: &ReplicaId) -> Self {
        Self(id.to_string())
    }
}

impl std::fmt::Display for NodeIdText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Display for ReplicaIdText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
