//! Floor 5: the replica. Inputs and a time go in, outputs come out; see [`Replica`] for the contract.
//!
//! | | |
//! |---|---|
//! | [`replica`], [`io`] | the struct, what goes in, what comes out |
//! | [`state`], [`index`], [`fingerprint`] | what is kept, where its dots are, the digest of it |
//! | [`write`](mod@write), [`outgoing`] | local writes, and their way out |
//! | [`live`] | batches as they arrive |
//! | [`pull`], [`serve`], [`chunk`] | catch-up by cells |
//! | [`reconcile`], [`compare`], [`iblt`] | what only one of two states has, found at the cost of the difference |
//! | [`check`] | silent divergence: looked for, judged by majority, repaired |
//! | [`link`], [`peer`], [`detector`], [`message`] | who is there, and what is said |
//! | [`tree`], [`relay`] | who passes what on to whom, above a full mesh |
//! | [`member`], [`schemas`] | what the engine itself reads in documents |
//! | [`eviction`] | a lost member is taken out, by a quorum |
//! | [`conflicts`], [`escalation`] | what does not go together, kept in step with the state; the ledger; what waits too long |
//! | [`audit`] | what was found and decided, as a chain of records; its anchors |
//! | [`ballot`] | one decision on one thing, by a majority of the voters |
//! | [`partition`] | what this node saw of a partition, written down once it is over |
//! | [`own`] | what a node writes by itself |
//! | [`removal`] | what may be forgotten |
//! | [`persistence`], [`rows`], [`persist`] | what a disk is asked to keep |
//! | [`fence`] | replicas that a quorum fenced |
//! | [`keys`], [`alarm`], [`limits`], [`timing`] | signatures, findings, bounds, how long things took |
//!
//! Nothing here reads a clock, a socket or a disk, and nothing iterates over an unordered map.

pub mod alarm;
pub mod audit;
pub mod ballot;
pub mod check;
pub mod chunk;
pub mod compare;
pub mod conflicts;
pub mod detector;
pub mod escalation;
pub mod eviction;
pub mod fence;
pub mod fingerprint;
pub mod hooks;
pub mod iblt;
pub mod index;
pub mod io;
pub mod keys;
pub mod limits;
pub mod link;
pub mod live;
pub mod member;
pub mod message;
pub mod outgoing;
pub mod own;
pub mod partition;
pub mod peer;
pub mod persist;
pub mod persistence;
pub mod pull;
pub mod reconcile;
pub mod relay;
pub mod removal;
pub mod replica;
pub mod rows;
pub mod schemas;
pub mod serve;
pub mod state;
pub mod timing;
pub mod tree;
pub mod write;

#[cfg(test)]
mod mend_tests;
#[cfg(test)]
pub(crate) mod world;
#[cfg(test)]
mod world_tests;

pub use alarm::Alarm;
pub use io::{Event, Input, LinkId, Now, Output, Ticket};
pub use limits::Limits;
pub use replica::{Config, Replica};
pub use rows::{LoadError, Loaded, Loader};
