//! What an operator does about members that are gone for good: one is evicted, a majority of the voters is given up.

use serde_json::json;

use super::decide::DecideError;
use super::handle::Node;
use super::write::{Durability, WriteError};
use super::{DocumentWrite, Missing, WriteBody};
use crate::clock::NodeId;
use crate::crdt::Value;
use crate::document::{Address, AddressError, Edit};
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{FieldsChange, FieldsOutcome, Voters};
use crate::engine::detector::Liveness;
use crate::engine::member::COLLECTION;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvictError {
    #[error("no member has the id {0}")]
    NoSuchMember(NodeId),
    #[error("this is this node itself: have it leave")]
    Itself,
    #[error("{0} has left or was evicted already")]
    Gone(NodeId),
    #[error("{0} is not lost: this node hears from it. Stop it, or have it leave")]
    NotLost(NodeId),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Decide(#[from] DecideError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    #[error("the majority is not lost: this node reaches {reached} of the {voters} voters")]
    NotLost { reached: usize, voters: usize },
    #[error("the voters are at version {now}, and not at {given}: look at them again")]
    Changed { given: u64, now: u64 },
    #[error("this node has not met its cluster, and knows no voters")]
    NoCluster,
}

/// One that was evicted and is there after all hears of it, and says so: it is a member again.
pub(super) async fn come_back(node: Node) {
    let mut progress = node.inner.progress.subscribe();
    loop {
        tokio::select! {
            moved = progress.changed() => if moved.is_err() { return },
            () = node.stopping() => return,
        }
        let has_left = || node.inner.replica.read().members().get(&node.id()).is_some_and(|member| member.left);
        // One that leaves by itself announces nothing any more.
        if has_left() && node.inner.announced_api.lock().is_some() {
            tracing::warn!("this node was evicted while it could not be reached; it says that it is there");
            node.announce_again();
        }
    }
}

impl Node {
    /// Takes a lost member out of the cluster: nobody waits for it any more, and what was removed need not be remembered for
    /// its sake. A quorum has to agree, so that no two sides evict each other. Should it come back, it takes over all there
    /// is as a newcomer does.
    pub async fn evict(&self, member: NodeId, by: &str) -> Result<(), EvictError> {
        let address = Address::new(COLLECTION, &member.to_string())?;
        {
            let replica = self.inner.replica.read();
            let known = replica.members().get(&member).ok_or(EvictError::NoSuchMember(member))?;
            match replica.liveness(&member) {
                _ if member == self.id() => return Err(EvictError::Itself),
                _ if known.left => return Err(EvictError::Gone(member)),
                Liveness::Alive => return Err(EvictError::NotLost(member)),
                Liveness::Suspect | Liveness::Down => {}
            }
        }
        let evicted = json!({ "by": by, "at_ms": self.now().wall_ms });
        let change = FieldsChange {
            set: vec![("evicted".to_owned(), Some(Value::encode_json(&evicted)))],
            ..FieldsChange::read(RequestId(u128::from_le_bytes(super::builder::random())))
        };
        let verdict = self.ask_fields(&address, change).await?;
        if verdict.outcome != FieldsOutcome::Done {
            // Somebody holds a lock by the name of a member's document.
            let (holder, token) = verdict
                .guard
                .lock
                .held
                .map(|held| held.holder)
                .map_or_else(Default::default, |holder| (holder, verdict.guard.lock.token));
            return Err(DecideError::Held { address, holder, token }.into());
        }
        let left = Edit::Set { field: "status".into(), value: "left".into() };
        let body = WriteBody::Edits(vec![left]);
        let write = DocumentWrite { address, body, if_match: None, create_only: false, missing: Missing::Refuse };
        self.write(vec![write], Durability::Local).await?;
        Ok(())
    }

    /// Gives a majority of the voters up for lost: from now on this node decides alone, until others become voters. `version`:
    /// of the voters as the operator saw them. What the lost ones decided and this node does not know is forgotten; tokens go
    /// on above all that was ever given out. **If the others are not lost, both sides decide.**
    pub fn recover_voters(&self, version: u64) -> Result<Voters, RecoverError> {
        self.inner.with_replica(|replica, now| {
            let known = replica.ballots().voters().cloned();
            let now_at = known.as_ref().map_or(0, |voters| voters.version);
            if replica.cluster().is_none() {
                return Err(RecoverError::NoCluster);
            }
            if now_at != version {
                return Err(RecoverError::Changed { given: version, now: now_at });
            }
            if replica.has_quorum() {
                let (reached, voters) = replica.voters_reached();
                return Err(RecoverError::NotLost { reached, voters });
            }
            Ok(replica.recover_voters(now))
        })
    }
}
