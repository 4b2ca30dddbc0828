//! Partitions that are over, for programs: one account of each, the same on every node; see
//! [`domain::partitions`](crate::domain::partitions).

use super::handle::Node;
use crate::domain::partitions::{Partition, partitions};

/// What is known of partitions.
#[derive(Clone, Debug)]
pub struct Partitions {
    node: Node,
}

impl Node {
    pub fn partitions(&self) -> Partitions {
        Partitions { node: self.clone() }
    }
}

impl Partitions {
    /// The newest first, at most `limit` that began before the one of the id `before`; and the id to go on from.
    pub fn list(&self, before: Option<&str>, limit: usize) -> (Vec<Partition>, Option<String>) {
        let mut newest = partitions(&self.node.inner.replica.read());
        newest.reverse();
        newest.retain(|partition| before.is_none_or(|before| partition.id.as_str() < before));
        let more = newest.len() > limit;
        newest.truncate(limit);
        let next = newest.last().filter(|_| more).map(|last| last.id.clone());
        (newest, next)
    }

    /// By its id, or by that of any observation of it: while members have not told theirs, an earlier one may come to give
    /// it another.
    pub fn get(&self, id: &str) -> Option<Partition> {
        partitions(&self.node.inner.replica.read()).into_iter().find(|partition| partition.is_called(id))
    }

    /// The newest of all.
    pub fn last(&self) -> Option<Partition> {
        partitions(&self.node.inner.replica.read()).pop()
    }

    /// Whether this node saw a partition end that it has not told of yet: it does a few seconds later.
    pub fn is_untold(&self) -> bool {
        self.node.inner.replica.read().cuts().is_untold()
    }
}
