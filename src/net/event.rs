//! What the transport tells the node.

use std::fmt;

use crate::clock::NodeId;

/// One incarnation of the link with a peer. Never reused within a process, also not across restarts of the transport.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// For each link: one `LinkUp`, its `Message`s in the order they were sent, one `LinkDown`. The `LinkUp` of a peer's
/// next link comes after the `LinkDown` of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This node can be dialled at `address`, which ends in `/p2p/<id>`.
    Listening {
        address: String,
    },
    /// `address` is the peer's end of the connection; for an inbound one its port is not the one it listens on.
    LinkUp {
        peer: NodeId,
        link: LinkId,
        address: String,
        outbound: bool,
    },
    LinkDown {
        peer: NodeId,
        link: LinkId,
        reason: String,
    },
    Message {
        peer: NodeId,
        link: LinkId,
        bytes: Vec<u8>,
    },
    /// Where a peer says it can be dialled, each ending in `/p2p/<id>`. Told again when it changes.
    Discovered {
        peer: NodeId,
        addresses: Vec<String>,
    },
    /// Told at most once per address and 10 s, and not while the node is too busy to listen.
    DialFailed {
        address: String,
        reason: String,
    },
    /// The transport died and runs again. All its links were reported down first.
    Restarted {
        reason: String,
    },
}

/// How far this node is with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    Linked,
    /// A dial, or a handshake after one, is under way.
    Dialling,
    /// Will be dialled in so many milliseconds.
    Waiting {
        retry_ms: u64,
    },
    /// Known, but not to be dialled: blocked, not on the allow list, or without an address.
    Idle,
}

/// One row of the table of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    pub peer: NodeId,
    pub state: PeerState,
    /// The current link, and whether this node dialled its connection.
    pub link: Option<LinkId>,
    pub outbound: bool,
    pub blocked: bool,
    /// Whether the node's book names it. Others are forgotten after some failures.
    pub in_book: bool,
    pub addresses: Vec<String>,
    /// Bytes of messages since this process started.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Waiting to be sent.
    pub queue_bytes: usize,
    /// Dials that failed since the last link.
    pub failures: u32,
    pub last_error: Option<String>,
}
