//! Floor 0: who wrote, in which order, and roughly when.
//!
//! A [`Dot`] names one op. A [`Clock`] says which dots a state reflects: for each replica, the highest
//! *contiguous* sequence number. A [`HybridTime`] orders what causality leaves open.
//!
//! Nothing here reads a clock or draws a random number: `now` and fresh ids are arguments. Start with [`dot`],
//! then [`vector`].

pub mod dot;
pub mod hybrid;
pub mod id;
pub mod roster;
pub mod vector;

pub use dot::{Dot, Slot};
pub use hybrid::{HybridClock, HybridTime, SkewError};
pub use id::{ClusterId, Incarnation, NodeId, ReplicaId};
pub use roster::Roster;
pub use vector::{Clock, Order};
