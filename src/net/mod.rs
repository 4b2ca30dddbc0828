//! Floor 7: authenticated, encrypted links between nodes, over libp2p.
//!
//! It moves opaque messages. Nothing in `net` knows what a document, a clock or a member is, and nothing in it
//! decides who should be a neighbour: the node hands in a *book* of peers to keep dialling and gets [`Event`]s.
//!
//! A **link** is one long-lived stream with one peer, numbered by a [`LinkId`]. However many connections two nodes
//! open to each other, there is at most one link between them, and both agree on which ([`hello`]). Messages of one
//! link arrive in order, after its `LinkUp` and before its `LinkDown`; what was in flight when it broke is lost, and
//! the floor above asks again.
//!
//! Read in this order: [`event`] and [`handle`] (what the node sees), [`frame`] (bytes on the wire), [`link`] (the
//! life of one link), [`dial`] (whom to dial when), [`swarm`] (the loop that owns it all), [`supervisor`] (what
//! happens when that loop dies).

mod address;
mod backoff;
mod compress;
mod config;
mod dial;
mod event;
mod frame;
mod handle;
mod hello;
mod inbox;
mod key;
mod link;
mod outlet;
mod pairing;
mod shared;
mod statistics;
mod streams;
mod supervisor;
mod swarm;
mod transport;

#[cfg(test)]
mod tests;

pub use config::{Config, Error, Limits};
pub use event::{Event, LinkId, PeerInfo, PeerState};
pub use handle::{Handle, SendError};
pub use key::{SwarmKeyError, parse_swarm_key};
pub use statistics::Statistics;
pub use supervisor::start;
