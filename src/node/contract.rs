use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::clock::hybrid::SkewError;
use crate::document::{Address, DocumentView, Edit, PlanError};
pub use crate::engine::schemas::Origin as SchemaOrigin;

/// A document as it reads now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    pub view: DocumentView,
    /// The same on every node that has the same entries. Visible ASCII without quotes.
    pub etag: String,
    /// Whether a field outlived its time to live.
    pub expired: bool,
}

#[derive(Debug, Clone)]
pub struct Read {
    pub document: Option<Shown>,
    pub token: Token,
}

#[derive(Debug, Clone)]
pub struct Listing {
    pub items: Vec<(String, Shown)>,
    pub next: Option<String>,
    pub token: Token,
}

#[derive(Debug, Clone)]
pub struct DocumentWrite {
    pub address: Address,
    pub body: WriteBody,
    pub if_match: Option<IfMatch>,
    /// Refuse when the document exists (`If-None-Match: *`).
    pub create_only: bool,
    pub missing: Missing,
}

#[derive(Debug, Clone)]
pub enum WriteBody {
    Put(Map<String, Value>),
    Edits(Vec<Edit>),
    JsonPatch(json_patch::Patch),
    MergePatch(Value),
    Delete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Create,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    Any,
    Tags(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Memory,
    Local,
    Replicas(u16),
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Local => f.write_str("local"),
            Self::Replicas(n) => write!(f, "replicas:{n}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no durability: use memory, local or replicas:N")]
pub struct ParseDurabilityError(String);

impl FromStr for Durability {
    type Err = ParseDurabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "memory" => Ok(Self::Memory),
            "local" => Ok(Self::Local),
            _ => text
                .strip_prefix("replicas:")
                .and_then(|n| n.parse().ok())
                .filter(|n| *n > 0)
                .map(Self::Replicas)
                .ok_or_else(|| ParseDurabilityError(text.chars().take(80).collect())),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Receipt {
    pub dot: Option<String>,
    pub token: Token,
    pub durability: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token(pub u64);

impl Token {
    pub fn merge(&mut self, other: &Token) {
        self.0 = self.0.max(other.0);
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no clock token: send back a Folkmoot-Clock header as it came")]
pub struct ParseTokenError(String);

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('n').and_then(|n| n.parse().ok());
        number.map(Self).ok_or_else(|| ParseTokenError(text.chars().take(80).collect()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no watch position: send back an `id:` of this stream as it came")]
pub struct ParsePositionError(String);

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('p').and_then(|n| n.parse().ok());
        number.map(Self).ok_or_else(|| ParsePositionError(text.chars().take(80).collect()))
    }
}

#[derive(Debug, Clone)]
pub struct Change {
    pub position: Position,
    pub address: Address,
    pub document: Option<Shown>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Behind {
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error("the position is older than what this node still keeps, or another node gave it")]
    Expired { oldest: Option<Position> },
    #[error("this node already serves as many watches as it may")]
    TooMany,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("{address} does not exist; nothing was written")]
    NotFound { index: usize, address: Address },
    #[error("{address} is not in the state the request asks for; nothing was written")]
    Precondition { index: usize, address: Address, etag: Option<String> },
    #[error("{error}; nothing was written")]
    Plan { index: usize, error: PlanError },
    #[error("{reason}; nothing was written")]
    Patch { index: usize, reason: String },
    #[error("{detail}; nothing was written")]
    TooLarge { detail: String },
    #[error("the disk is full ({detail}); nothing was acknowledged")]
    StorageFull { detail: String },
    #[error("the store failed ({detail}); nothing was acknowledged")]
    Storage { detail: String },
    #[error("{detail}; nothing was written")]
    Busy { detail: String },
    #[error("the write is kept here, and reached {reached} of the {wanted} replicas asked for in time")]
    NotReplicated { wanted: u16, reached: u16 },
    #[error("{0}; nothing was written")]
    Clock(#[from] SkewError),
    #[error("this node is shutting down; nothing was written")]
    ShuttingDown,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaveError {
    #[error("this node is shutting down")]
    ShuttingDown,
    #[error("the farewell could not be written: {detail}")]
    Storage { detail: String },
}

#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    pub node: String,
    pub partitioned: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    pub node: String,
}
