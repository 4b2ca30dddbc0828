//! A member is written off by itself or by a quorum: no side without one evicts anybody (invariant 9). Whether there was a
//! quorum is looked up at the voters, not taken from who says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::decisions;
use super::{Verdict, wrong};
use crate::clock::NodeId;
use crate::document::Address;
use crate::engine::Replica;
use crate::engine::ballot::ask::GUARD;
use crate::engine::ballot::{Guard, Voter, Voters};
use crate::engine::member::COLLECTION;

#[derive(Debug, Default)]
pub struct History {
    /// Who left, or was agreed to be evicted.
    gone: BTreeSet<NodeId>,
    pub decisions: decisions::History,
}

impl History {
    pub fn leaves(&mut self, member: NodeId) {
        self.gone.insert(member);
    }

    /// Somebody was told that this was decided at this version. `voters`: those that there were meanwhile.
    pub fn agreed(
        &mut self,
        member: NodeId,
        address: &Address,
        version: u64,
        voters: &[&Voters],
        replicas: &[&Replica],
    ) -> Verdict {
        let may_have = |voter: &Voter| !replicas.iter().any(|replica| lacks(replica, voter, address, version));
        if !voters.iter().any(|voters| voters.is_quorum(may_have)) {
            let text = format!("{address} was evicted at version {version}, which no majority of the voters accepted");
            return wrong("evictions", text);
        }
        self.gone.insert(member);
        Ok(())
    }

    /// Documents of members changed: who is written off in them left, or a quorum agreed.
    pub fn check(&self, replica: &Replica, changed: &[Arc<str>]) -> Verdict {
        let ids = changed.iter().filter_map(|name| name.strip_prefix(COLLECTION)?.strip_prefix('/')?.parse().ok());
        let mut gone = ids.filter(|id: &NodeId| replica.members().get(id).is_some_and(|member| member.left));
        match gone.find(|id| !self.gone.contains(id)) {
            Some(id) => wrong("evictions", format!("{id} is written off, and no quorum agreed to that")),
            None => Ok(()),
        }
    }
}

/// Whether this is the voter, with the very store that its word rests on, and it has not accepted that. One that is down, or
/// began anew since, says nothing.
fn lacks(replica: &Replica, voter: &Voter, address: &Address, version: u64) -> bool {
    let booth = replica.ballots();
    if replica.id().node != voter.node || booth.store() != voter.store {
        return false;
    }
    let held = booth.acceptor().get(&format!("{GUARD}{address}"));
    let accepted = held.and_then(|held| held.accepted.as_ref());
    let guard = accepted.and_then(|accepted| Guard::decode(Some(&accepted.value)).ok());
    guard.is_none_or(|guard| guard.fields.version < version)
}
