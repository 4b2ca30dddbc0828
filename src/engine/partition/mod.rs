//! What this node saw of a partition, written down once it is over: who could not be reached and how long, what either side
//! had that the other lacked when they met again, and what came of it.
//!
//! | | |
//! |---|---|
//! | [`cuts`] | who is away, and who came back a moment ago |
//! | `meeting` | the moment in which two meet again: what one has and the other lacks |
//! | `telling` | when it is told, and what is written |
//! | [`observation`] | the document, its bounds, how it is read |
//!
//! An observation is one node's word, in a document that only it writes. The account of a partition is made of all of them,
//! at read, and of nothing that only one node has: so it is the same on every node; see [`domain`](crate::domain::partitions).
//!
//! A process that ends in the middle of a cut takes with it what it saw: its next start tells nothing of it.

pub mod cuts;
mod meeting;
pub mod observation;
mod telling;

#[cfg(test)]
mod tests;

pub use cuts::Cuts;
pub use observation::{Disputed, Lost, Moved, Observation};

/// Where observations are kept.
pub const COLLECTION: &str = "partitions";
/// The field that holds one.
pub const FIELD: &str = "observed";
