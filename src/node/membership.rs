//! What an operator does about members that are gone for good: one is evicted, a majority of the voters is given up.

use super::decide::DecideError;
use super::handle::Node;
use super::write::{Durability, WriteError};
use super::{DocumentWrite, Missing, WriteBody};
use crate::clock::NodeId;
use crate::engine::ballot::Voters;
use crate::engine::ballot::lock::RequestId;
use crate::engine::eviction::{NotAgreed, NotLost, departure};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvictError {
    #[error(transparent)]
    NotLost(#[from] NotLost),
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
        // One that leaves by itself announces nothing any more.
        if node.inner.replica.read().is_written_off() && node.inner.announced_api.lock().is_some() {
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
        let request = RequestId(u128::from_le_bytes(super::builder::random()));
        let now = self.now();
        let (address, change) = self.inner.replica.read().plan_eviction(&member, by, request, now)?;
        if self.inner.is_stopping() {
            return Err(DecideError::ShuttingDown.into());
        }
        let outcome = self.inner.ask(|replica, now| replica.ask_fields(address.as_str(), change, now)).await;
        let agreed = self.inner.replica.read().agreed_to_evict(&outcome);
        agreed.map_err(|error| match error {
            NotAgreed::Ask(error) => DecideError::Ask(error),
            NotAgreed::Held { holder, token } => DecideError::Held { address: address.clone(), holder, token },
        })?;
        let body = WriteBody::Edits(vec![departure()]);
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
