//! Writes: checked and applied in one step under the lock, then waited for as durably as was asked.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::conflicts::COLLECTION;
use super::decide::{DecideError, Decided};
use super::handle::Node;
use super::patch::{PatchRefused, apply_patch};
use super::read::show;
use super::token::Token;
use crate::clock::{Clock, SkewError};
use crate::document::{Address, Edit, PlanError, Write};
use crate::engine::{Replica, write as engine};

/// How long a write waits for the disks of other nodes.
const REPLICAS_WAIT: Duration = Duration::from_secs(10);
/// How long a write waits for this disk before it says that it does not know.
pub(super) const DISK_WAIT: Duration = Duration::from_secs(30);

/// What a document may grow to by a JSON Patch, as text: what a request may bring.
const PATCHED_BYTES_MAX: usize = 8 << 20;

/// A write of one document.
#[derive(Debug, Clone)]
pub struct DocumentWrite {
    pub address: Address,
    pub body: WriteBody,
    pub if_match: Option<IfMatch>,
    /// Refuse when the document exists.
    pub create_only: bool,
    pub missing: Missing,
}

#[derive(Debug, Clone)]
pub enum WriteBody {
    Put(Map<String, Json>),
    /// The fields become these; only what differs is written, and that the document exists is not affirmed anew.
    Replace(Map<String, Json>),
    Edits(Vec<Edit>),
    JsonPatch(json_patch::Patch),
    MergePatch(Json),
    Delete,
}

/// What an edit of a document that is not there does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Create,
}

/// A local precondition: two partitioned writers may both meet it, and show as siblings later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    Any,
    Tags(Vec<String>),
}

/// What a write waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Applied here.
    Memory,
    /// On this disk, power cuts included.
    #[default]
    Local,
    /// On the disks of this many nodes, this one included.
    Replicas(u16),
    /// Decided by a majority of the voters: for fields of the type `quorum`, and for no others.
    Quorum,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Local => f.write_str("local"),
            Self::Replicas(n) => write!(f, "replicas:{n}"),
            Self::Quorum => f.write_str("quorum"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no durability: use memory, local, replicas:N or quorum")]
pub struct ParseDurabilityError(String);

impl FromStr for Durability {
    type Err = ParseDurabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let replicas = |text: &str| text.strip_prefix("replicas:")?.parse().ok().filter(|n| *n > 0).map(Self::Replicas);
        match text {
            "memory" => Ok(Self::Memory),
            "local" => Ok(Self::Local),
            "quorum" => Ok(Self::Quorum),
            _ => replicas(text).ok_or_else(|| ParseDurabilityError(text.chars().take(80).collect())),
        }
    }
}

/// What a write came to.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// `<replica>:<seq>` of its last op; `None` when nothing had to change.
    pub dot: Option<String>,
    pub token: Token,
    /// What was reached.
    pub durability: String,
    /// Of a quorum's decision: how many there were about the document.
    pub version: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("{address} does not exist; nothing was written")]
    NotFound { index: usize, address: Address },
    #[error("{address} is not in the state the request asks for; nothing was written")]
    Precondition { index: usize, address: Address, etag: Option<String> },
    #[error("`{field}` of {address} is frozen until someone settles its conflict {id}; nothing was written")]
    Frozen { index: usize, address: Address, field: String, id: String },
    #[error("{error}; nothing was written")]
    Plan { index: usize, error: PlanError },
    #[error("{reason}; nothing was written")]
    Patch { index: usize, reason: String },
    #[error("{detail}; nothing was written")]
    TooLarge { detail: String },
    #[error("the disk is full: {detail}")]
    StorageFull { detail: String },
    #[error("the store failed: {detail}")]
    Storage { detail: String },
    #[error("{detail}; nothing was written")]
    Busy { detail: String },
    #[error("the write is kept here, and reached {reached} of the {wanted} replicas asked for in time")]
    NotReplicated { wanted: u16, reached: u16 },
    #[error("{0}")]
    Decide(DecideError),
    #[error("{0}; nothing was written")]
    Clock(#[from] SkewError),
    #[error("{0}; nothing was written")]
    Fenced(String),
    #[error("this node is shutting down; nothing was written")]
    ShuttingDown,
}

impl Node {
    /// Writes all of `writes`, or none. Returns once `durability` is reached.
    pub async fn write(&self, writes: Vec<DocumentWrite>, durability: Durability) -> Result<Receipt, WriteError> {
        let replica = self.inner.id;
        let mut token = Token::default();
        if durability == Durability::Quorum {
            let decided = self.write_by_quorum(&writes).await?;
            return Ok(self.decided_receipt(&decided));
        }
        let (written, clock) = self.apply(&writes, durability)?;
        match written {
            Some(seq) => {
                token.see(&replica, seq);
                self.reach(durability, || self.inner.is_durable(seq), |engine| engine.replicated(seq)).await?;
            }
            // What was asked for is so already; the receipt still speaks for what it rests on.
            None => {
                let here = || self.inner.replica.read().durable().covers_all(&clock);
                self.reach(durability, here, |engine| engine.replicated_clock(&clock)).await?;
            }
        }
        Ok(Receipt {
            dot: written.map(|seq| format!("{replica}:{seq}")),
            token,
            durability: durability.to_string(),
            version: None,
        })
    }

    /// What was decided is written down here by now, and read by whoever has seen this receipt.
    pub fn decided_receipt(&self, decided: &Decided) -> Receipt {
        let mut token = Token::default();
        let seq = self.inner.replica.read().own_seq();
        token.see(&self.inner.id, seq);
        Receipt { dot: None, token, durability: Durability::Quorum.to_string(), version: Some(decided.version) }
    }

    /// Checks, plans and applies in one step; visible when this returns.
    pub(super) fn apply(
        &self,
        writes: &[DocumentWrite],
        durability: Durability,
    ) -> Result<(Option<u64>, Clock), WriteError> {
        if self.inner.is_stopping() {
            return Err(WriteError::ShuttingDown);
        }
        if let Some(detail) = self.inner.storage_trouble() {
            return Err(detail);
        }
        let prompt = matches!(durability, Durability::Replicas(n) if n > 1);
        self.inner.with_replica(|replica, now| {
            let mut plain = Vec::with_capacity(writes.len());
            for (index, write) in writes.iter().enumerate() {
                refuse_frozen(replica, index, write, writes)?;
                let before = &writes[..index];
                plain.push((write.address.clone(), resolve(replica, index, write, before, now.wall_ms)?));
            }
            let written = replica.write(&plain, prompt, now).map_err(|error| refusal(&plain, error))?;
            Ok((written.seq, if written.seq.is_none() { replica.state().clock.clone() } else { Clock::new() }))
        })
    }

    /// Waits until `here` says that it is on this disk, or `nodes` counts enough of them.
    async fn reach(
        &self,
        durability: Durability,
        here: impl Fn() -> bool,
        nodes: impl Fn(&Replica) -> usize,
    ) -> Result<(), WriteError> {
        let wanted = match durability {
            Durability::Memory | Durability::Quorum => return Ok(()),
            Durability::Local => return self.inner.wait_durable(here, DISK_WAIT).await,
            Durability::Replicas(wanted) => wanted,
        };
        let mut progress = self.inner.progress.subscribe();
        let reached = || nodes(&self.inner.replica.read());
        let enough = async { while reached() < usize::from(wanted) && progress.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(REPLICAS_WAIT, enough).await;
        match reached() {
            n if n >= usize::from(wanted) => Ok(()),
            n => Err(WriteError::NotReplicated { wanted, reached: n.try_into().unwrap_or(u16::MAX) }),
        }
    }
}

/// A field that is frozen is written by whoever settles its conflict, whose decision stands beside the write.
fn refuse_frozen(
    replica: &Replica,
    index: usize,
    write: &DocumentWrite,
    all: &[DocumentWrite],
) -> Result<(), WriteError> {
    let settles =
        |id: &str| all.iter().any(|other| other.address.collection() == COLLECTION && other.address.id() == id);
    for conflict in replica.conflicts().of(write.address.as_str()).iter().filter(|conflict| conflict.is_frozen()) {
        let register = conflict.field.as_deref().unwrap_or_default();
        let names =
            |field: &str| register == field || register.starts_with(field) && register[field.len()..].starts_with('.');
        let touches = match &write.body {
            WriteBody::Edits(edits) => edits.iter().any(|edit| names(edit.field())),
            WriteBody::MergePatch(Json::Object(patch)) => patch.keys().any(|field| names(field)),
            WriteBody::JsonPatch(patch) => serde_json::to_value(patch).map_or(true, |steps| {
                let places = steps.as_array().into_iter().flatten().flat_map(|step| [&step["path"], &step["from"]]);
                places.filter_map(Json::as_str).any(|place| names(place.split('/').nth(1).unwrap_or_default()))
            }),
            WriteBody::Put(fields) | WriteBody::Replace(fields) => {
                let shown = replica.view(write.address.as_str()).map(|view| view.fields).unwrap_or_default();
                shown.iter().any(|(field, value)| names(field) && fields.get(field) != Some(value))
            }
            WriteBody::MergePatch(_) | WriteBody::Delete => true,
        };
        if touches && !settles(&conflict.id) {
            let (address, field, id) = (write.address.clone(), register.to_owned(), conflict.id.clone());
            return Err(WriteError::Frozen { index, address, field, id });
        }
    }
    Ok(())
}

/// Turns a write with its preconditions into a plain one.
fn resolve(
    replica: &Replica,
    index: usize,
    write: &DocumentWrite,
    before: &[DocumentWrite],
    now_ms: u64,
) -> Result<Write, WriteError> {
    let address = &write.address;
    let document = replica.state().document(address.as_str());
    let view = || document.and_then(|document| show(replica, address.as_str(), document, now_ms));
    let created_before = before.iter().any(|w| w.address == *address && !matches!(w.body, WriteBody::Delete));
    let exists = replica.state().is_visible(address.as_str()) || created_before;
    let refused = || WriteError::Precondition { index, address: address.clone(), etag: view().map(|shown| shown.etag) };
    let meets = match &write.if_match {
        None => true,
        Some(IfMatch::Any) => exists,
        Some(IfMatch::Tags(tags)) => view().is_some_and(|shown| tags.contains(&shown.etag)),
    };
    if !meets || write.create_only && exists {
        return Err(refused());
    }
    let create = write.missing == Missing::Create;
    if !exists && !create && !matches!(write.body, WriteBody::Put(_)) {
        return Err(WriteError::NotFound { index, address: address.clone() });
    }
    if created_before && matches!(write.body, WriteBody::JsonPatch(_) | WriteBody::MergePatch(_)) {
        let reason =
            format!("{address}: a patch in a batch cannot build on an earlier write of the same batch: join them");
        return Err(WriteError::Patch { index, reason });
    }
    let patched = |patch: &dyn Fn(&mut Json) -> Result<(), PatchRefused>| {
        let shown = view().map(|shown| shown.view).unwrap_or_default();
        let mut json = Json::Object(shown.fields.clone());
        let refused = |reason: String| WriteError::Patch { index, reason: format!("{address}: {reason}") };
        patch(&mut json).map_err(|error| refused(error.to_string()))?;
        if let (Json::Object(fields), false, Some(document)) = (&mut json, shown.siblings.is_empty(), document) {
            let merged = replica.merged(address.as_str(), document).map(|merged| merged.fields).unwrap_or_default();
            leave_settled(fields, &shown.fields, &merged);
        }
        match json {
            Json::Object(fields) if exists => Ok(Write::Replace(fields)),
            Json::Object(fields) => Ok(Write::Put(fields)),
            _ => Err(refused("the patch leaves no object of fields".to_owned())),
        }
    };
    match &write.body {
        WriteBody::Put(fields) => Ok(Write::Put(fields.clone())),
        WriteBody::Replace(fields) if exists => Ok(Write::Replace(fields.clone())),
        WriteBody::Replace(fields) => Ok(Write::Put(fields.clone())),
        WriteBody::Edits(edits) if create => Ok(Write::Upsert(edits.clone())),
        WriteBody::Edits(edits) => Ok(Write::Edits(edits.clone())),
        WriteBody::Delete => Ok(Write::Delete),
        WriteBody::JsonPatch(patch) => patched(&|json| apply_patch(json, patch, PATCHED_BYTES_MAX)),
        WriteBody::MergePatch(patch) => patched(&|json| {
            json_patch::merge(json, patch);
            Ok(())
        }),
    }
}

/// A patch shows the values that resolvers settled, and must not write them: what it left as shown goes back to what the
/// fields merged to, which is no change.
fn leave_settled(patched: &mut Map<String, Json>, shown: &Map<String, Json>, merged: &Map<String, Json>) {
    for (name, value) in patched {
        match (shown.get(name), merged.get(name)) {
            (Some(shown), Some(merged)) if value == shown => *value = merged.clone(),
            (Some(Json::Object(shown)), Some(Json::Object(merged))) => {
                if let Json::Object(value) = value {
                    leave_settled(value, shown, merged);
                }
            }
            _ => {}
        }
    }
}

fn refusal(writes: &[(Address, Write)], error: engine::WriteError) -> WriteError {
    match error {
        engine::WriteError::Plan { address, cause: PlanError::Missing } => {
            let index = writes.iter().position(|(of, _)| *of == address).unwrap_or_default();
            WriteError::NotFound { index, address }
        }
        engine::WriteError::Plan { address, cause } => {
            let index = writes.iter().position(|(of, _)| *of == address).unwrap_or_default();
            WriteError::Plan { index, error: cause }
        }
        engine::WriteError::Clock(skew) => WriteError::Clock(skew),
        error @ engine::WriteError::Fenced { .. } => WriteError::Fenced(error.to_string()),
        error @ (engine::WriteError::TooLarge { .. } | engine::WriteError::Address(_)) => {
            WriteError::TooLarge { detail: error.to_string() }
        }
    }
}
