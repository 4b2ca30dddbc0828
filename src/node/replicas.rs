//! Replicas, for operators: which there are, and how a quorum fences one; see [`fence`](crate::engine::fence).

use serde::Serialize;
use serde_json::json;

use super::decide::DecideError;
use super::handle::Node;
use super::write::{Durability, WriteError};
use super::{DocumentWrite, Missing, WriteBody};
use crate::clock::{Dot, ReplicaId};
use crate::document::{AddressError, Edit};
use crate::engine::ballot::FieldsOutcome;
use crate::engine::ballot::lock::RequestId;
use crate::engine::fence::{Fence, FenceState, Kept, Standing};

/// Replicas of this node's cluster.
#[derive(Clone, Debug)]
pub struct Replicas {
    node: Node,
}

/// One incarnation of a node, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplicaStatus {
    /// Of the incarnation: 32 hex digits.
    pub id: String,
    pub node: String,
    /// Of the member; empty if it is none.
    pub name: String,
    /// The last of its ops that this node took in.
    pub seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// While it is fenced: the last of its ops that its node told this one to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<u64>,
    pub aside: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FenceError {
    #[error("no replica has an id that begins with `{0}`")]
    NoSuchReplica(String),
    #[error("the ids of {count} replicas begin with `{id}`: give more of it")]
    Ambiguous { id: String, count: usize },
    #[error("this is a replica of this node itself: it could not write down what is decided. Ask another node")]
    Itself,
    #[error("{}; nothing was changed", not_from(*.now, *.next))]
    State { now: Option<FenceState>, next: FenceState },
    #[error("the seq {0} is beyond all that a replica can write; nothing was changed")]
    Seq(u64),
    #[error("somebody decided otherwise about this replica meanwhile: look again; nothing was changed")]
    Changed,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Decide(#[from] DecideError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn not_from(now: Option<FenceState>, next: FenceState) -> &'static str {
    match (now, next) {
        (Some(FenceState::Discarded), _) => "what this replica wrote later was discarded, for good",
        (Some(FenceState::Fenced), _) => "this replica is fenced already: release it first, to fence it at another seq",
        (_, FenceState::Fenced) => "this replica cannot be fenced",
        _ => "this replica is not fenced",
    }
}

impl Node {
    pub fn replicas(&self) -> Replicas {
        Replicas { node: self.clone() }
    }
}

impl Replicas {
    /// Those after the id `after`, in order of ids, at most `limit`; and the id to go on from. `of`: of this node or
    /// member only.
    pub fn list(&self, of: Option<&str>, after: Option<&str>, limit: usize) -> (Vec<ReplicaStatus>, Option<String>) {
        let mut all = self.all();
        all.retain(|replica| of.is_none_or(|of| replica.node == of || replica.name == of));
        all.retain(|replica| after.is_none_or(|after| replica.id.as_str() > after));
        let more = all.len() > limit;
        all.truncate(limit);
        let next = all.last().filter(|_| more).map(|last| last.id.clone());
        (all, next)
    }

    /// By the beginning of its id.
    pub fn get(&self, id: &str) -> Result<ReplicaStatus, FenceError> {
        let mut found: Vec<ReplicaStatus> =
            self.all().into_iter().filter(|replica| replica.id.starts_with(id)).collect();
        match (found.pop(), found.len()) {
            (Some(only), 0) if !id.is_empty() => Ok(only),
            (Some(_), more) => Err(FenceError::Ambiguous { id: id.to_owned(), count: more + 1 }),
            (None, _) => Err(FenceError::NoSuchReplica(id.to_owned())),
        }
    }

    /// What the replica wrote after `seq` is kept aside at every node that hears of this, until it is released or
    /// discarded. Without a seq: after all that this node took in.
    pub async fn fence(&self, id: &str, seq: Option<u64>, by: &str, reason: &str) -> Result<ReplicaStatus, FenceError> {
        self.decide(id, FenceState::Fenced, seq, by, reason).await
    }

    /// What was kept aside is taken in, and the replica goes on.
    pub async fn release(&self, id: &str, by: &str, reason: &str) -> Result<ReplicaStatus, FenceError> {
        self.decide(id, FenceState::Released, None, by, reason).await
    }

    /// What was kept aside is gone, and so is what the replica wrote later and nobody took in: its node sets its store aside
    /// at its next start, and takes over what the others have. **This cannot be taken back.**
    pub async fn discard(&self, id: &str, by: &str, reason: &str) -> Result<ReplicaStatus, FenceError> {
        self.decide(id, FenceState::Discarded, None, by, reason).await
    }

    fn all(&self) -> Vec<ReplicaStatus> {
        let replica = self.node.inner.replica.read();
        let shown = |standing: Standing| ReplicaStatus {
            id: incarnation(&standing.replica),
            node: standing.replica.node.to_string(),
            name: replica.members().get(&standing.replica.node).map(|member| member.name.clone()).unwrap_or_default(),
            seq: standing.seq,
            fence: standing.fence,
            told: standing.told,
            aside: standing.aside,
        };
        let mut all: Vec<ReplicaStatus> = replica.replicas().map(shown).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    async fn decide(
        &self,
        id: &str,
        state: FenceState,
        seq: Option<u64>,
        by: &str,
        reason: &str,
    ) -> Result<ReplicaStatus, FenceError> {
        let known = self.get(id)?;
        let replica = self.replica(&known).ok_or_else(|| FenceError::NoSuchReplica(id.to_owned()))?;
        if replica.node == self.node.id() {
            return Err(FenceError::Itself);
        }
        if !Fence::may_become(known.fence.as_ref(), state) {
            return Err(FenceError::State { now: known.fence.map(|fence| fence.state), next: state });
        }
        if let Some(seq) = seq.filter(|seq| *seq > Dot::SEQ_MAX) {
            return Err(FenceError::Seq(seq));
        }
        let fenced_at = known.fence.as_ref().filter(|_| state != FenceState::Fenced).map(|fence| fence.seq);
        let next = Fence {
            replica: replica.to_string(),
            version: known.fence.as_ref().map_or(0, |fence| fence.version) + 1,
            seq: fenced_at.or(seq).unwrap_or(known.seq),
            state,
            by: by.to_owned(),
            reason: reason.to_owned(),
            at_ms: self.node.now().wall_ms,
        };
        let address = Fence::address(&replica)?;
        if !self.node.inner.replica.read().state().is_visible(address.as_str()) {
            let node = Edit::Set { field: "node".into(), value: json!(known.node) };
            let body = WriteBody::Edits(vec![node]);
            let write = DocumentWrite {
                address: address.clone(),
                body,
                if_match: None,
                create_only: false,
                missing: Missing::Create,
            };
            self.node.write(vec![write], Durability::Local).await?;
        }
        let request = RequestId(u128::from_le_bytes(super::builder::random()));
        let change = Fence::change(request, known.fence.as_ref(), &next);
        let verdict = self.node.ask_fields(&address, change).await?;
        match verdict.outcome {
            FieldsOutcome::Done => self.get(&known.id),
            FieldsOutcome::Differs(_) => Err(FenceError::Changed),
            // Somebody holds a lock by the name of the document.
            _ => {
                let token = verdict.guard.lock.token;
                let holder = verdict.guard.lock.held.map(|held| held.holder).unwrap_or_default();
                Err(DecideError::Held { address, holder, token }.into())
            }
        }
    }

    fn replica(&self, status: &ReplicaStatus) -> Option<ReplicaId> {
        format!("{}/{}", status.node, status.id).parse().ok()
    }
}

fn incarnation(replica: &ReplicaId) -> String {
    let id = replica.to_string();
    id.rsplit('/').next().unwrap_or_default().to_owned()
}
