//! What a node's audit says is on its disk as the node signed it: every anchor that any node holds of it matches, and no
//! record up to the last of them is missing, edited or in another place.
//!
//! Disks that broke their promise, hosts that ran twice and members that lie are the explained exceptions; who calls this
//! leaves them out.

use super::{Verdict, wrong};
use crate::clock::NodeId;
use crate::engine::Replica;
use crate::engine::keys::Keys;
use crate::history::audit::row::own_range;
use crate::history::audit::{Anchor, Report, verify};

/// Holds the rows of a node's tree `audit` to the anchors that `holders` have of it.
pub fn check<'a>(
    node: NodeId,
    keys: &dyn Keys,
    rows: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    holders: impl Iterator<Item = &'a Replica>,
) -> Result<Report, Verdict> {
    let (first, end) = own_range();
    let own = rows.filter(|(key, _)| *key >= first.as_slice() && *key < end.as_slice());
    let mut anchors: Vec<Anchor> = holders.flat_map(|holder| holder.audit().anchors().of(&node)).copied().collect();
    anchors.sort_by_key(|anchor| (anchor.index, anchor.hash));
    anchors.dedup();
    let report = verify(node, own, &anchors, &|node, message, signature| keys.verify(node, message, signature));
    match report.findings.first() {
        Some(finding) => Err(wrong("audit", format!("{finding} ({} anchors)", anchors.len()))),
        None => Ok(report),
    }
}
