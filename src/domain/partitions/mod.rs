//! The account of a partition: who was where and how long, what diverged, what somebody was at work on, and how each
//! conflict was settled.
//!
//! | | |
//! |---|---|
//! | [`account`] | observations of many nodes, put together to what happened |
//! | `sides` | who was with whom when most were apart |
//! | [`dispute`] | how a conflict between the sides was settled |
//!
//! It is made at read, of what is replicated: the observations that each node wrote when its own cut was over
//! ([`engine::partition`](crate::engine::partition)), the list of conflicts and the notes about them, the members' names. It
//! asks no clock, no failure detector and no ledger, so nodes that agree print the same account, byte for byte.

pub mod account;
pub mod dispute;
mod sides;

pub use account::{Partition, Told, accounts};
pub use dispute::Dispute;
pub use sides::{OneWay, Side};

use crate::engine::Replica;

/// The accounts of all partitions that this node has observations of, the oldest first.
pub fn partitions(replica: &Replica) -> Vec<Partition> {
    let mut partitions = accounts(&replica.observations());
    for partition in &mut partitions {
        partition.tell_names(|node| Some(replica.members().get(node)?.name.clone()));
        partition.conflicts = partition.disputed.iter().map(|disputed| Dispute::of(disputed, replica)).collect();
    }
    partitions
}
