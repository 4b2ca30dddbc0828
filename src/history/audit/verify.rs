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
    let mut walk = Walk::new(node, anchors, check);
    for (key, bytes) in rows {
        walk.row(key.as_ref(), bytes.as_ref());
    }
    walk.finish()
}
