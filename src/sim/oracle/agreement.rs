//! After the network heals, all nodes reach equal clocks and equal states, byte for byte.

use std::collections::BTreeMap;

use super::{Verdict, wrong};
use crate::clock::ReplicaId;
use crate::engine::Replica;

/// Whether the nodes hold the same, as their digests tell.
pub fn agree<'a>(replicas: impl IntoIterator<Item = &'a Replica>) -> bool {
    let mut digests = replicas.into_iter().map(Replica::digests);
    let first = digests.next();
    digests.all(|other| Some(other) == first)
}

/// Valued entries of all documents, in names that mean the same on every node.
type Content = BTreeMap<(String, Vec<u8>, ReplicaId, u64), (u64, Vec<u8>)>;

fn content(replica: &Replica) -> Content {
    let roster = &replica.state().roster;
    let mut content = Content::new();
    for (name, document) in replica.state().names_from(std::ops::Bound::Unbounded) {
        for cell in document.cells() {
            for entry in cell.valued() {
                let key = (name.to_string(), cell.key.to_vec(), *roster.id(entry.dot.slot()), entry.dot.seq());
                content.insert(key, (entry.at.0, entry.value.unwrap_or_default().to_vec()));
            }
        }
    }
    content
}

/// Holds nodes whose digests are equal to what the digests claim.
pub fn check_bytes<'a>(replicas: impl IntoIterator<Item = &'a Replica>) -> Verdict {
    let mut replicas = replicas.into_iter();
    let Some(first) = replicas.next() else { return Ok(()) };
    let (clock, entries) = (clock(first), content(first));
    for other in replicas {
        if self::clock(other) != clock {
            return wrong("agreement", "equal clock digests, different clocks");
        }
        if content(other) != entries {
            return wrong("agreement", "equal state digests, different entries");
        }
    }
    Ok(())
}

fn clock(replica: &Replica) -> BTreeMap<ReplicaId, u64> {
    let state = replica.state();
    state.clock.iter().map(|(slot, seq)| (*state.roster.id(slot), seq)).collect()
}
