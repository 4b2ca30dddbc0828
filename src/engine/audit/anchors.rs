//! Anchors of all members, this node among them. What many hold, one cannot change.
//!
//! Rows: key `01 | node (32) | index u64 BE | hash (32)` of the tree `audit`, which lies between this node's own chain and
//! imported ones; value: the anchor. Two anchors of one index with different hashes are both kept: they show a fork.

use std::collections::BTreeMap;

use super::rows::Rows;
use crate::clock::NodeId;
use crate::history::audit::{Anchor, Hash};

const PREFIX: u8 = 1;
/// Anchors of one node. When there are more, every second of the older half goes, so that they reach far back, thinly.
/// At one a minute, 64 reach back for half an hour densely, and for days thinly. 150 bytes each.
pub const ANCHORS_OF_NODE_MAX: usize = 64;
/// Of the own ones, which records are also dropped at: 300 KB.
pub const OWN_ANCHORS_MAX: usize = 2_048;
/// Nodes whose anchors are held: at 64 of 300 bytes in memory each, 80 MB.
pub const NODES_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub struct Anchors {
    of: BTreeMap<NodeId, BTreeMap<(u64, Hash), Anchor>>,
}

pub(super) fn is_key(key: &[u8]) -> bool {
    key.first() == Some(&PREFIX)
}

fn key_of(anchor: &Anchor) -> Vec<u8> {
    [&[PREFIX][..], &anchor.node.0, &anchor.index.to_be_bytes(), &anchor.hash].concat()
}

impl Anchors {
    /// Anchors of a node, oldest first.
    pub fn of(&self, node: &NodeId) -> impl Iterator<Item = &Anchor> {
        self.of.get(node).into_iter().flat_map(BTreeMap::values)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.of.values().flat_map(BTreeMap::values)
    }

    /// Takes an anchor whose signature was checked, unless it is known.
    pub(super) fn hold(&mut self, anchor: &Anchor, own: bool, rows: &mut Rows) {
        let is_one_too_many = !self.of.contains_key(&anchor.node) && self.of.len() >= NODES_MAX;
        if !own && (is_one_too_many || rows.is_full()) {
            return;
        }
        let held = self.of.entry(anchor.node).or_default();
        if held.insert((anchor.index, anchor.hash), *anchor).is_some() {
            return;
        }
        rows.put(key_of(anchor), anchor.encode());
        let most = if own { OWN_ANCHORS_MAX } else { ANCHORS_OF_NODE_MAX };
        if held.len() > most {
            let thinned: Vec<(u64, Hash)> = held.keys().take(most / 2).step_by(2).copied().collect();
            for gone in thinned.iter().filter_map(|key| held.remove(key)) {
                rows.remove(key_of(&gone));
            }
        }
    }

    /// Reads a row back; `None` when it is none.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Option<()> {
        let anchor = Anchor::decode(bytes).ok()?;
        self.of.entry(anchor.node).or_default().insert((anchor.index, anchor.hash), anchor);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(index: u64) -> Anchor {
        Anchor { node: NodeId([7; 32]), index, hash: [index as u8; 32], at_ms: index, signature: [0; 64] }
    }

    #[test]
    fn old_anchors_are_thinned_and_the_newest_all_kept() {
        let (mut anchors, mut rows) = (Anchors::default(), Rows::default());
        (0..1_000).for_each(|n| anchors.hold(&anchor(n), false, &mut rows));
        let held: Vec<u64> = anchors.of(&NodeId([7; 32])).map(|anchor| anchor.index).collect();
        assert!(held.len() <= ANCHORS_OF_NODE_MAX && held.ends_with(&[997, 998, 999]), "{held:?}");
        assert!(held[0] < 900, "some of the old ones stay: {held:?}");
        let kept: Vec<_> = rows.take().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        assert_eq!(kept.len(), held.len());
        let mut read = Anchors::default();
        kept.iter().for_each(|(key, value)| assert!(is_key(key) && read.load(value).is_some()));
        assert_eq!(read.iter().collect::<Vec<_>>(), anchors.iter().collect::<Vec<_>>());
    }
}
