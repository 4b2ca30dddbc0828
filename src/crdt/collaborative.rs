//! What `text` and `json` share: a cell whose every entry is a saved Automerge document.
//!
//! Concurrent edits leave several entries; the reading is their merge, and the next edit saves the merge with its own
//! change as one entry that supersedes them all. Two things make documents that never met merge well:
//!
//! - All start from one *base*: a change by a fixed actor at time 0 that makes the empty text or object, the same bytes
//!   everywhere. Were each writer to make its own, merging would keep one of them and hide the others.
//! - Every edit has an actor of its own, a hash of the writer, of what it edits and of the edit. An actor's changes are
//!   numbered, and a writer that removed a field and starts it anew would otherwise number different changes alike.

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, AutoCommit, AutomergeError, ObjType, ROOT};

use super::live::{Change, Live, State};
use crate::clock::ReplicaId;

/// Where the base keeps its object.
pub(super) const KEY: &str = "value";

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error("the text has {len} characters: position {at} with {delete} to delete lies outside")]
    Outside { at: usize, delete: usize, len: usize },
    #[error("Automerge refused the edit: {0}")]
    Automerge(String),
}

impl From<AutomergeError> for EditError {
    fn from(error: AutomergeError) -> Self {
        Self::Automerge(error.to_string())
    }
}

/// The merge of all live documents, over the base. Entries that do not load (of a newer version) do not take part.
pub(super) fn merged(live: &[Live<'_>], empty: ObjType) -> Result<AutoCommit, AutomergeError> {
    let mut document = base(empty)?;
    let mut sorted = live.to_vec();
    sorted.sort_by_key(Live::rank);
    for entry in sorted {
        if let Ok(mut other) = AutoCommit::load(entry.value) {
            document.merge(&mut other)?;
        }
    }
    Ok(document)
}

/// Makes `edit` on the merge of the live documents. `None` when it changed nothing. `what` tells this edit from others
/// on the same document.
pub(super) fn edited(
    state: &State<'_>,
    me: ReplicaId,
    empty: ObjType,
    what: &[u8],
    edit: impl FnOnce(&mut AutoCommit) -> Result<(), EditError>,
) -> Result<Option<Change>, EditError> {
    let mut document = merged(&state.live, empty)?;
    let actor = actor(me, &mut document, what);
    document.set_actor(actor);
    edit(&mut document)?;
    let changed = document.pending_ops() > 0;
    if !changed && !state.live.is_empty() {
        return Ok(None);
    }
    if changed {
        document.commit_with(CommitOptions::default().with_time(0));
    }
    Ok(Some(state.replace(document.save())))
}

fn base(empty: ObjType) -> Result<AutoCommit, AutomergeError> {
    let mut document = AutoCommit::new().with_actor(ActorId::from([0u8; 16]));
    document.put_object(ROOT, KEY, empty)?;
    document.commit_with(CommitOptions::default().with_time(0));
    Ok(document)
}

fn actor(me: ReplicaId, document: &mut AutoCommit, what: &[u8]) -> ActorId {
    let mut heads = document.get_heads();
    heads.sort();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&me.to_bytes());
    heads.iter().for_each(|head| {
        hasher.update(&head.0);
    });
    hasher.update(what);
    ActorId::from(&hasher.finalize().as_bytes()[..16])
}
