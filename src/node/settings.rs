//! What a node is told before it starts, what it says when it is up, and why it may refuse.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

/// A node's settings, each already checked for its form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeSettings {
    /// Holds the key and the store. Created when missing.
    pub data_dir: PathBuf,
    /// The node's name in the cluster and of its `workers/<name>` document.
    pub name: String,
    /// Publish this host's figures every 2 s.
    pub host_report: bool,
    /// Find peers on the LAN. `None`: on, unless every listener is on loopback.
    pub mdns: Option<bool>,
    /// Multiaddrs to listen on for peers.
    pub listen: Vec<String>,
    /// Where the HTTP API listens.
    pub api: SocketAddr,
    /// Multiaddrs of nodes whose cluster to join. Empty: found one, or go on with what the data holds.
    pub join: Vec<String>,
    /// A libp2p swarm key file. Peers without the same key cannot connect.
    pub psk: Option<PathBuf>,
    /// Node ids that may connect. Empty: any that passes the pre-shared key.
    pub allow: Vec<String>,
    /// `sled`, `redb` or `memory`.
    pub store: String,
    /// Where the host is; empty for nobody's business.
    pub region: String,
    /// Serve `/v1/chaos`, which cuts connections on request.
    pub chaos: bool,
    /// Let the API listen beyond loopback.
    pub insecure: bool,
    /// How far beyond its own clock a node may stamp a write.
    pub max_clock_skew_ms: u64,
    /// What to log, as in `info,folkmoot=debug`.
    pub log: String,
}

/// What a node says once it serves: the ready line of `folkmoot run --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Ready {
    pub node: String,
    pub replica: String,
    /// `http://…`, with the port that was bound.
    pub api: String,
    /// Multiaddrs with `/p2p/<node id>`, as `--join` takes them.
    pub listen: Vec<String>,
}

/// Why a node did not start, or stopped by itself. Each message names the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A setting cannot be met: an address in use, a name taken, a bind beyond loopback without `insecure`.
    #[error("{0}")]
    Settings(String),
    /// The data dir is in use, belongs to another cluster, or its key can be read by others.
    #[error("{0}")]
    Denied(String),
    /// The data is damaged beyond what peers can rebuild, or of a newer format.
    #[error("{0}")]
    Integrity(String),
    #[error("{0}")]
    Failed(String),
}
