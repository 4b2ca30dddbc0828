//! What a node tells of its cluster and its peers, read once here for all who show it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::cli::client::Client;
use crate::cli::exit::Error;

/// A cluster as one node sees it. Fields a node of another version does not send read as empty.
#[derive(Debug, Clone, Deserialize)]
pub struct ClusterView {
    pub node: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub members: Vec<MemberView>,
    #[serde(default)]
    pub partitioned: bool,
    pub clock_digest: String,
    pub state_digest: String,
    #[serde(default)]
    pub documents: u64,
    #[serde(default)]
    pub cells: u64,
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub parked_batches: u64,
    #[serde(default)]
    pub collections: BTreeMap<String, u64>,
    #[serde(default)]
    pub alerts: Vec<AlertView>,
}

/// A member as one node sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct MemberView {
    pub node: String,
    #[serde(default)]
    pub name: String,
    /// alive, suspect, down or left
    #[serde(default)]
    pub state: String,
    #[serde(rename = "self", default)]
    pub is_self: bool,
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub api: String,
    /// How many of this node's writes it has on its disk, and how many it has not.
    #[serde(default)]
    pub has_of_us: u64,
    #[serde(default)]
    pub lacks_of_us: u64,
}

/// `GET /v1/peers`.
#[derive(Debug, Clone, Deserialize)]
pub struct PeersView {
    pub peers: Vec<PeerView>,
}

/// A peer as the transport sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct PeerView {
    pub node: String,
    #[serde(default)]
    pub name: String,
    /// linked, dialling, waiting or idle
    #[serde(default)]
    pub link: String,
    #[serde(default)]
    pub blocked: bool,
    #[serde(default)]
    pub addresses: Vec<String>,
    #[serde(default)]
    pub bytes_in: u64,
    #[serde(default)]
    pub bytes_out: u64,
    #[serde(default)]
    pub last_error: Option<String>,
}

/// Something a person should look at.
#[derive(Debug, Clone, Deserialize)]
pub struct AlertView {
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    pub at: u64,
    #[serde(default)]
    pub text: String,
}

impl ClusterView {
    pub async fn read(client: &Client) -> Result<Self, Error> {
        client.read("/v1/cluster").await
    }

    /// True when both hold the same history and the same state.
    pub fn equals(&self, other: &Self) -> bool {
        self.clock_digest == other.clock_digest && self.state_digest == other.state_digest
    }

    pub fn alive(&self) -> usize {
        self.members.iter().filter(|member| member.state == "alive").count()
    }
}

/// True when every view shows the same history and the same state.
pub fn all_equal(views: &[ClusterView]) -> bool {
    views.windows(2).all(|pair| pair[0].equals(&pair[1]))
}

/// Asks all nodes at once, so that the answers are of nearly one moment.
pub async fn read_all(clients: &[Client]) -> Result<Vec<ClusterView>, Error> {
    futures::future::try_join_all(clients.iter().map(ClusterView::read)).await
}

/// A long id's last six characters: enough to tell the nodes of one cluster apart.
pub fn short(id: &str) -> &str {
    let start = id.char_indices().rev().nth(5).map_or(0, |(at, _)| at);
    &id[start..]
}

/// A digest's first eight characters.
pub fn short_digest(digest: &str) -> &str {
    digest.char_indices().nth(8).map_or(digest, |(at, _)| &digest[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(clock: &str, state: &str) -> ClusterView {
        let value = serde_json::json!({ "node": "n", "clock_digest": clock, "state_digest": state });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn equal_means_clock_and_state() {
        assert!(all_equal(&[view("a", "b"), view("a", "b"), view("a", "b")]));
        assert!(!all_equal(&[view("a", "b"), view("a", "b"), view("a", "c")]));
        assert!(!all_equal(&[view("a", "b"), view("x", "b")]));
    }

    #[test]
    fn short_forms_never_cut_inside_a_character() {
        assert_eq!(short("12D3KooWabcdef"), "abcdef");
        assert_eq!(short("ü"), "ü");
        assert_eq!(short_digest("0123456789"), "01234567");
        assert_eq!(short_digest("üü"), "üü");
    }
}
