//! Floor 5: the replica.
pub mod persist;
