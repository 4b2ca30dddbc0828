//! A member that is lost is taken out of the cluster: nobody waits for it any more. A quorum has to agree, so that no two sides
//! of a split evict each other; what came of it is an ordinary write then, see [`departure`].

use serde_json::json;

use super::ballot::lock::RequestId;
use super::ballot::{AskError, FieldsChange, FieldsOutcome, Outcome, Told};
use super::detector::Liveness;
use super::hooks::Mutant;
use super::io::Now;
use super::replica::Replica;
use crate::clock::NodeId;
use crate::crdt::Value;
use crate::document::plan::Edit;
use crate::document::{Address, AddressError};

/// What a quorum decides about the member's document: by whom it was evicted, and when.
const EVICTED: &str = "evicted";

/// Why a member is not to be evicted. Nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLost {
    #[error("no member has the id {0}")]
    NoSuchMember(NodeId),
    #[error("this is this node itself: have it leave")]
    Itself,
    #[error("{0} has left or was evicted already")]
    Gone(NodeId),
    #[error("{0} is not lost: this node hears from it. Stop it, or have it leave")]
    Alive(NodeId),
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Why a quorum did not agree. The member is one still, unless it is not known what was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAgreed {
    Ask(AskError),
    /// Somebody holds a lock by the name of the member's document.
    Held {
        holder: String,
        token: u64,
    },
}

/// What is written about a member that is gone, by itself or by others.
pub fn departure() -> Edit {
    Edit::Set { field: "status".into(), value: json!("left") }
}

impl Replica {
    /// What a quorum is asked, where this node does not hear from the member; and about which document.
    pub fn plan_eviction(
        &self,
        member: &NodeId,
        by: &str,
        request: RequestId,
        now: Now,
    ) -> Result<(Address, FieldsChange), NotLost> {
        let known = self.members().get(member).ok_or(NotLost::NoSuchMember(*member))?;
        match self.liveness(member) {
            _ if *member == self.id().node => return Err(NotLost::Itself),
            _ if known.left => return Err(NotLost::Gone(*member)),
            Liveness::Alive => return Err(NotLost::Alive(*member)),
            Liveness::Suspect | Liveness::Down => {}
        }
        let evicted = Value::encode_json(&json!({ "by": by, "at_ms": now.wall_ms }));
        let set = vec![(EVICTED.to_owned(), Some(evicted))];
        Ok((self.member_address(*member)?, FieldsChange { set, ..FieldsChange::read(request) }))
    }

    /// Whether that was decided. Only then the departure is written.
    pub fn agreed_to_evict(&self, outcome: &Outcome) -> Result<(), NotAgreed> {
        if self.config.hooks.planted(Mutant::EvictedAlone) {
            return Ok(());
        }
        match outcome {
            Ok(Told::Fields(verdict)) if verdict.outcome == FieldsOutcome::Done => Ok(()),
            Ok(Told::Fields(verdict)) => {
                let lock = &verdict.guard.lock;
                let holder = lock.held.as_ref().map(|held| held.holder.clone()).unwrap_or_default();
                Err(NotAgreed::Held { holder, token: lock.token })
            }
            Ok(_) => Err(NotAgreed::Ask(AskError::Unknown)),
            Err(error) => Err(NotAgreed::Ask(*error)),
        }
    }

    /// Whether this node is said to have left. One that is there after all says so, see [`Replica::announce_self`].
    pub fn is_written_off(&self) -> bool {
        self.members().get(&self.id().node).is_some_and(|member| member.left)
    }
}
