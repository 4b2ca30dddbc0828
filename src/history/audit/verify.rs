//! Looking for what was changed.

use super::anchor::{Anchor, Check};
use super::finding::Report;
use super::walk::Walk;
use crate::clock::NodeId;

/// Walks the rows of `node`'s chain in the order of their keys, holds `anchors` against them, and tells every record that
/// was deleted, edited, exchanged, reordered or cut off, up to the last anchor. Behind it only clumsy changes show.
///
/// Anchors are worth what their source is worth: ask other nodes for them, not the disk that is in doubt.
pub fn verify<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    node: NodeId,
    rows: impl IntoIterator<Item = (K, V)>,
    anchors: &[Anchor],
    check: Check<'_>,
) -> Report {
    walked(node, rows, anchors, check).finish()
}

/// As [`verify`] does, of a copy that somebody keeps while the chain goes on at its node: anchors behind the copy's last
/// record are told in [`Report::later`], and are no finding.
pub fn verify_copy<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    node: NodeId,
    rows: impl IntoIterator<Item = (K, V)>,
    anchors: &[Anchor],
    check: Check<'_>,
) -> Report {
    walked(node, rows, anchors, check).finish_copy(None)
}

fn walked<'a, K: AsRef<[u8]>, V: AsRef<[u8]>>(
    node: NodeId,
    rows: impl IntoIterator<Item = (K, V)>,
    anchors: &[Anchor],
    check: Check<'a>,
) -> Walk<'a> {
    let mut walk = Walk::new(node, anchors, check);
    for (key, bytes) in rows {
        walk.row(key.as_ref(), bytes.as_ref());
    }
    walk
}
