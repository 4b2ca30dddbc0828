//! What the node holds: everything it can ask of the transport.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;

use super::address;
use super::event::{LinkId, PeerInfo, PeerState};
use super::outlet::{Closing, Refused, ask_to_close};
use super::shared::Shared;
use super::statistics::Statistics;
use crate::clock::NodeId;

/// Cheap to clone; no method but `shutdown` waits. Dropping every handle does not stop the transport, dropping the
/// receiver of its events does.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) stopped: watch::Receiver<bool>,
}

/// Why a message was not queued. Nothing of it was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Harmless: the link ended, and its `LinkDown` is on its way or was already told.
    #[error("that link with {peer} is not open")]
    UnknownLink { peer: NodeId },
    /// The link is being closed; `LinkDown` follows.
    #[error("{queued} bytes already wait for {peer}, which is too slow; the link is closed and must catch up afresh")]
    QueueFull { peer: NodeId, queued: usize },
    /// A mistake of the caller; the link stays open.
    #[error("a message of {bytes} bytes, where at most {max} can be sent; split it")]
    TooLarge { bytes: usize, max: usize },
}

impl Handle {
    /// This node's own id.
    pub fn local(&self) -> NodeId {
        self.shared.local
    }

    /// Queues a message. A shared `Arc<[u8]>` goes to many peers without a copy.
    pub fn send(&self, peer: NodeId, link: LinkId, message: impl Into<Arc<[u8]>>) -> Result<(), SendError> {
        let message = message.into();
        let max = self.shared.config.limits.message_bytes_max;
        if message.len() > max {
            return Err(SendError::TooLarge { bytes: message.len(), max });
        }
        let outlet = self.shared.outlet(&peer).filter(|outlet| outlet.link == link);
        let outlet = outlet.ok_or(SendError::UnknownLink { peer })?;
        outlet.push(message).map_err(|refused| match refused {
            Refused::Gone => SendError::UnknownLink { peer },
            Refused::Full { queued } => {
                self.shared.close(peer, link);
                self.shared.counters.queue_overflows.add(1);
                let reason = format!("{queued} bytes waited for the peer, which is too slow");
                ask_to_close(&outlet.closing, Closing::Now(reason));
                SendError::QueueFull { peer, queued }
            }
        })
    }

    /// Closes a link; `LinkDown` follows, and the peer is dialled again in time. Of a link that ended, harmless.
    pub fn close(&self, peer: NodeId, link: LinkId, reason: &str) {
        if let Some(outlet) = self.shared.outlet(&peer).filter(|outlet| outlet.link == link) {
            ask_to_close(&outlet.closing, Closing::Now(reason.to_owned()));
        }
    }

    /// The peers to keep dialling for ever, with their multiaddrs; replaces the previous book. Addresses found otherwise
    /// are tried too, so an entry may be empty. What does not parse is left out.
    pub fn set_book(&self, peers: BTreeMap<NodeId, Vec<String>>) {
        let book = peers
            .into_iter()
            .map(|(peer, addresses)| {
                let parsed = addresses.iter().filter_map(|text| match address::parse(text) {
                    Ok((address, _)) => Some(address),
                    Err(error) => {
                        tracing::warn!(peer = %peer.short(), %error, "left out of the book");
                        None
                    }
                });
                (peer, address::worth_dialling(parsed, None))
            })
            .collect();
        self.shared.planner.lock().set_book(book, self.shared.now_ms());
        self.shared.wake.notify_one();
    }

    /// Members that this node need not be linked to: they are not dialled while anyone else is linked, and may dial us.
    pub fn set_spared(&self, peers: BTreeSet<NodeId>) {
        self.shared.planner.lock().set_spared(peers);
        self.shared.wake.notify_one();
    }

    /// Replaces the set of blocked peers: their connections are closed and refused, in both directions, at once. A peer
    /// that leaves the set is dialled at once.
    pub fn set_blocked(&self, peers: BTreeSet<NodeId>) {
        for peer in &peers {
            if let Some(outlet) = self.shared.outlet(peer) {
                ask_to_close(&outlet.closing, Closing::Now("blocked by this node".to_owned()));
            }
        }
        self.shared.planner.lock().set_blocked(peers, self.shared.now_ms());
        self.shared.wake.notify_one();
    }

    /// While a partition is known nobody waits longer than 1 s to be dialled again.
    pub fn urgent(&self, urgent: bool) {
        self.shared.planner.lock().set_urgent(urgent, self.shared.now_ms());
        self.shared.wake.notify_one();
    }

    /// Where this node can be dialled, each ending in `/p2p/<id>`.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.shared.listening.lock().clone()
    }

    /// Everyone known, in order of their ids.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let mut peers = self.shared.planner.lock().peers(self.shared.now_ms());
        for info in &mut peers {
            let Some((traffic, outlet)) = self.shared.seen(&info.peer) else { continue };
            info.bytes_in = traffic.bytes_in.get();
            info.bytes_out = traffic.bytes_out.get();
            match outlet {
                Some(outlet) => {
                    info.state = PeerState::Linked;
                    info.link = Some(outlet.link);
                    info.outbound = outlet.outbound;
                    info.queue_bytes = outlet.queued_bytes();
                }
                // Agreed on, but not yet told: not for the caller to count on.
                None if info.state == PeerState::Linked => info.state = PeerState::Dialling,
                None => {}
            }
        }
        peers
    }

    pub fn statistics(&self) -> Statistics {
        self.shared.counters.snapshot()
    }

    /// Sends what is queued and closes every link and connection, within 2 s. The events that are left can still be
    /// received; then the channel ends.
    pub async fn shutdown(mut self) {
        self.shared.stop.store(true, Relaxed);
        self.shared.wake.notify_one();
        let _ = self.stopped.wait_for(|stopped| *stopped).await;
    }

    /// Makes the transport panic, to see it restart.
    #[doc(hidden)]
    pub fn crash_for_test(&self) {
        self.shared.crash.store(true, Relaxed);
        self.shared.wake.notify_one();
    }
}
