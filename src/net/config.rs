//! What a transport is started with.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::clock::NodeId;

/// How one node meets the others.
#[derive(Clone)]
pub struct Config {
    /// The ed25519 seed. Its public key is this node's [`NodeId`].
    pub secret_key: [u8; 32],
    /// Multiaddrs to listen on, e.g. `/ip4/0.0.0.0/tcp/7700`. Port 0 takes a free one and keeps it across restarts of
    /// the transport. Empty: this node only dials.
    pub listen: Vec<String>,
    /// Multiaddrs dialled until they answer, and again whenever they are not linked. With `/p2p/<id>` only that node is
    /// accepted there; without, whoever holds the pre-shared key (and is on the allow list).
    pub seeds: Vec<String>,
    /// The pre-shared key of a private network: who does not hold it cannot even start a handshake. TCP only.
    pub psk: Option<[u8; 32]>,
    /// Only these nodes are dialled and let in. `None` lets everyone in who passes the pre-shared key.
    pub allow: Option<BTreeSet<NodeId>>,
    /// Find nodes on the local network by multicast. Stays off while every listen address is loopback.
    pub mdns: bool,
    /// Find nodes beyond the local network through the nodes already met.
    pub kademlia: bool,
    pub limits: Limits,
}

impl Config {
    /// A node that listens on a free loopback port, knows nobody and looks for nobody.
    pub fn loopback(secret_key: [u8; 32]) -> Self {
        Self {
            secret_key,
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            seeds: Vec::new(),
            psk: None,
            allow: None,
            mdns: false,
            kademlia: false,
            limits: Limits::default(),
        }
    }
}

/// Keys stay out of logs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("seeds", &self.seeds)
            .field("psk", &self.psk.map(|_| "…"))
            .field("allow", &self.allow)
            .field("mdns", &self.mdns)
            .field("kademlia", &self.kademlia)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Every bound of the transport. Its memory is at most
/// `connections_max × (queue_bytes_max + 4 × message_bytes_max) + inbox_bytes_max`, reached only if every peer stalls and
/// floods at once, plus libp2p's own buffers. The largest of those is yamux's receive window: 256 KiB per stream, growing
/// with the measured bandwidth. libp2p does not let its ceiling of 1 GiB per connection be lowered, so a hostile peer that
/// passes the pre-shared key and the allow list could make it grow and then fill it.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Established connections, both directions. Twice the neighbours you expect leaves room for reconnects.
    pub connections_max: u32,
    /// Connections to one peer. Above 1, because a peer that lost its end redials before we notice.
    pub connections_per_peer_max: u32,
    /// Handshakes in progress, for each direction. Lower slows a flood of strangers, but also a mass reconnect.
    pub pending_max: u32,
    /// One message, at both ends. A peer that sends a larger one is cut off.
    pub message_bytes_max: usize,
    /// What may wait to be sent to one peer. Over it the link is closed: a peer this slow must catch up afresh.
    pub queue_bytes_max: usize,
    /// Events waiting for the node. Over it reading stops, and TCP slows the senders down.
    pub inbox_events_max: usize,
    /// Bytes of messages waiting for the node. One message always fits.
    pub inbox_bytes_max: usize,
    /// Peers remembered beside the book (seeds, discovered, connected). Over it strangers are forgotten first.
    pub peers_known_max: usize,
    /// A link whose peer takes no byte for this long is closed.
    pub write_stall_max: Duration,
    /// The first wait before dialling again; it doubles with each failure.
    pub backoff_ms_min: u64,
    /// The longest wait. While a partition is known it is at most 1 s.
    pub backoff_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            connections_per_peer_max: 4,
            pending_max: 128,
            message_bytes_max: 16 << 20,
            queue_bytes_max: 32 << 20,
            inbox_events_max: 4_096,
            inbox_bytes_max: 64 << 20,
            peers_known_max: 4_096,
            write_stall_max: Duration::from_secs(20),
            backoff_ms_min: 200,
            backoff_ms_max: 30_000,
        }
    }
}

/// Why the transport did not start. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{address}` is not a multiaddr ({reason}); write it like /ip4/10.0.0.7/tcp/7700")]
    Address { address: String, reason: String },
    #[error("cannot listen on {address}: {reason}; is the port free, and the address one of this host's?")]
    Listen { address: String, reason: String },
    #[error("the secret key is not an ed25519 seed")]
    SecretKey,
    #[error("limits.{name} is {value}: {reason}")]
    Limit { name: &'static str, value: u64, reason: &'static str },
    #[error("cannot set up the transport: {reason}")]
    Setup { reason: String },
    #[error("the transport needs a tokio runtime: call `start` from within one")]
    NoRuntime,
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), Error> {
        let refuse = |name, value: usize, reason| Err(Error::Limit { name, value: value as u64, reason });
        if self.message_bytes_max == 0 || self.message_bytes_max > 1 << 30 {
            return refuse("message_bytes_max", self.message_bytes_max, "must be between 1 byte and 1 GiB");
        }
        if self.inbox_events_max == 0 {
            return refuse("inbox_events_max", 0, "must be at least 1, or no event could ever be delivered");
        }
        if self.connections_per_peer_max < 2 {
            let value = self.connections_per_peer_max as usize;
            return refuse(
                "connections_per_peer_max",
                value,
                "must be at least 2, or a peer that restarts is locked out",
            );
        }
        if self.backoff_ms_min == 0 || self.backoff_ms_min > self.backoff_ms_max {
            let value = self.backoff_ms_min as usize;
            return refuse("backoff_ms_min", value, "must be at least 1 and at most backoff_ms_max");
        }
        Ok(())
    }
}
