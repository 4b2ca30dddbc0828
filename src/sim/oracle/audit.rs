//! What a node's audit says is on its disk as the node signed it: every anchor that any node holds of it matches, and no
//! record up to the last of them is missing, edited or in another place. And what stands is told once, restarts or not.
//!
//! Disks that broke their promise, hosts that ran twice and members that lie are the explained exceptions; who calls this
//! leaves them out.

use std::collections::BTreeSet;

use super::{Verdict, wrong};
use crate::clock::NodeId;
use crate::engine::Replica;
use crate::engine::keys::Keys;
use crate::history::audit::row::own_range;
use crate::history::audit::{Anchor, Kind, RecordRef, Report, verify};

/// Holds the rows of a node's tree `audit` to the anchors that `holders` have of it.
pub fn check<'a>(
    node: NodeId,
    keys: &dyn Keys,
    rows: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    holders: impl Iterator<Item = &'a Replica>,
) -> Result<Report, Verdict> {
    let (first, end) = own_range();
    let own: Vec<_> = rows.filter(|(key, _)| *key >= first.as_slice() && *key < end.as_slice()).collect();
    let told = told_once(own.iter().map(|(_, row)| *row));
    if told.is_err() {
        return Err(told);
    }
    let mut anchors: Vec<Anchor> = holders.flat_map(|holder| holder.audit().anchors().of(&node)).copied().collect();
    anchors.sort_by_key(|anchor| (anchor.index, anchor.hash));
    anchors.dedup();
    let report = verify(node, own, &anchors, &|node, message, signature| keys.verify(node, message, signature));
    match report.findings.first() {
        Some(finding) => Err(wrong("audit", format!("{finding} ({} anchors)", anchors.len()))),
        None => Ok(report),
    }
}

/// No conflict of a rule, whose id is the same each time it comes, is told of twice without an end between.
fn told_once<'a>(rows: impl Iterator<Item = &'a [u8]>) -> Verdict {
    let mut open = BTreeSet::new();
    for record in rows.filter_map(|row| RecordRef::decode(row).ok()) {
        let of_rule = record.detail_value().is_ok_and(|detail| detail["rule"].is_string());
        match (record.kind, record.conflict) {
            (Kind::Detected, Some(id)) if of_rule && !open.insert(id) => {
                let text = format!("record {} tells of conflict {id}, which stood already", record.index);
                return wrong("audit", text);
            }
            (Kind::Resolved, Some(id)) => drop(open.remove(id)),
            // Of a group it is not said whose ends they are, nor of records that were left out.
            (Kind::Resolved, None) | (Kind::Damage, _) => open.clear(),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::audit::{Chain, Entry};

    #[test]
    fn a_conflict_that_stands_may_be_told_of_once_and_again_when_it_comes_back() {
        let is_right = |kinds: &[Kind]| {
            let mut chain = Chain::new(NodeId([7; 32]));
            let told = |kind: &Kind| Entry::new(*kind, "n", 1).conflict("c").detail(json!({ "rule": "r" }));
            let rows: Vec<Vec<u8>> = kinds.iter().map(|kind| chain.append(&told(kind)).row.bytes).collect();
            told_once(rows.iter().map(Vec::as_slice)).is_ok()
        };
        assert!(is_right(&[Kind::Detected, Kind::Resolved, Kind::Detected]));
        assert!(!is_right(&[Kind::Detected, Kind::Started, Kind::Detected]));
    }
}
