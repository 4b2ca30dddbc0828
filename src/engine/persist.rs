//! What the replica asks a disk to keep, named without knowing any disk.

/// The trees of a store. Each is an ordered map from bytes to bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tree {
    /// The live state: pages of packed cells.
    Cells,
    /// Own batches that some member may not have yet.
    Outbox,
    /// Clock, digests, roster, identity of the cluster.
    Meta,
    /// Batches by time, for time travel.
    History,
    Audit,
    Checkpoints,
    /// What this node promised and accepted as a voter.
    Ballots,
    /// Batches beyond a fence.
    Aside,
}

impl Tree {
    pub const ALL: [Tree; 8] = [
        Tree::Cells,
        Tree::Outbox,
        Tree::Meta,
        Tree::History,
        Tree::Audit,
        Tree::Checkpoints,
        Tree::Ballots,
        Tree::Aside,
    ];
    /// What is read at a start, in this order.
    pub const LOADED: [Tree; 7] =
        [Tree::Meta, Tree::Cells, Tree::Outbox, Tree::History, Tree::Audit, Tree::Ballots, Tree::Aside];

    pub fn name(self) -> &'static str {
        match self {
            Tree::Cells => "cells",
            Tree::Outbox => "outbox",
            Tree::Meta => "meta",
            Tree::History => "history",
            Tree::Audit => "audit",
            Tree::Checkpoints => "checkpoints",
            Tree::Ballots => "ballots",
            Tree::Aside => "aside",
        }
    }
}

/// One change to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreWrite {
    pub tree: Tree,
    pub key: Vec<u8>,
    /// `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// Writes that take effect together or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WriteBatch {
    pub writes: Vec<StoreWrite>,
}

impl WriteBatch {
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push(StoreWrite { tree, key: key.into(), value: Some(value.into()) });
    }

    pub fn remove(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.writes.push(StoreWrite { tree, key: key.into(), value: None });
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
