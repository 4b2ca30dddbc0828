//! What read rules and plans see of one cell.

use smallvec::SmallVec;

use crate::clock::{Dot, HybridTime, ReplicaId};

/// A live entry that holds a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Live<'a> {
    pub dot: Dot,
    pub replica: ReplicaId,
    pub at: HybridTime,
    pub value: &'a [u8],
}

impl Live<'_> {
    /// Orders concurrent entries, alike on every node: time, then replica, then the order within one replica, which
    /// tells apart the ops of one batch.
    pub fn rank(&self) -> (HybridTime, ReplicaId, u64) {
        (self.at, self.replica, self.dot.seq())
    }
}

/// One cell as its writer sees it.
#[derive(Clone, Debug, Default)]
pub struct State<'a> {
    pub live: SmallVec<[Live<'a>; 2]>,
    /// Removal records: never read, but superseded by the next write, so that they do not pile up.
    pub records: SmallVec<[Dot; 2]>,
}

impl State<'_> {
    /// Every dot of the cell, records included.
    pub fn dots(&self) -> Vec<Dot> {
        self.live.iter().map(|entry| entry.dot).chain(self.records.iter().copied()).collect()
    }

    /// A write that leaves its own value as the only entry.
    pub fn replace(&self, value: Vec<u8>) -> Change {
        Change { value: Some(value), supersedes: self.dots() }
    }

    /// A removal, or `None` when there is nothing to remove.
    pub fn remove(&self) -> Option<Change> {
        (!self.live.is_empty()).then(|| Change { value: None, supersedes: self.dots() })
    }
}

/// One planned op on one cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// `None` removes.
    pub value: Option<Vec<u8>>,
    pub supersedes: Vec<Dot>,
}
