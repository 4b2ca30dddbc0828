//! Opening what a data directory holds: checked from end to end, and set aside when it is not what this node wrote.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::settings::RunError;
use crate::clock::NodeId;
use crate::engine::audit::{Loss, ReadBack};
use crate::engine::persist::{Tree, WriteBatch};
use crate::engine::rows::{CLUSTER, CLUSTER_LEN, salvage_outbox};
use crate::engine::{LoadError, Loaded, Loader};
use crate::store::{self, Durability, OpenError, Salvaged, Store, StoreError, StoreKind};

/// Most that is kept of one tree of a damaged store: an outbox is that large only after days alone.
const SALVAGED_BYTES_MAX: usize = 256 << 20;

/// A store that was read and found whole, or a new one in the place of one that was not.
pub(super) struct Opened {
    pub store: Box<dyn Store>,
    pub loaded: Loaded,
    /// Where the damaged store went, if there was one.
    pub set_aside: Option<PathBuf>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("set_aside", &self.set_aside).finish_non_exhaustive()
    }
}

enum Trouble {
    Damaged(String),
    Fatal(RunError),
}

/// `can_rebuild`: there are peers to fetch the state from. Without them a damaged store stays where it is, and the
/// node does not start: a new, empty store would look like an answer.
pub(super) fn open(dir: &Path, kind: StoreKind, node: &NodeId, can_rebuild: bool) -> Result<Opened, RunError> {
    let (reason, discarded) = match open_and_load(dir, kind) {
        Ok((store, loaded)) => match loaded.discarded(node) {
            None => return Ok(Opened { store, loaded, set_aside: None }),
            Some(reason) => (reason, true),
        },
        Err(Trouble::Fatal(error)) => return Err(error),
        Err(Trouble::Damaged(reason)) => (reason, false),
    };
    if !can_rebuild && discarded {
        return Err(RunError::Integrity(format!(
            "the store in {} cannot be gone on with: {reason}. Start this node with --join and the address of a member to \
             set the store aside and take over what the cluster has; nothing was changed",
            dir.display()
        )));
    }
    if !can_rebuild {
        return Err(RunError::Integrity(format!(
            "the store in {} is damaged ({reason}). Start this node with --join and the address of a member to set the \
             damaged store aside and rebuild it from the cluster; nothing was changed",
            dir.display()
        )));
    }
    let failed = |error: &dyn std::fmt::Display| {
        RunError::Integrity(format!(
            "the store in {} cannot be gone on with ({reason}) and could not be set aside: {error}",
            dir.display()
        ))
    };
    let set_aside = store::quarantine(dir, &reason).map_err(|error| failed(&error))?;
    let what = if discarded { "the store holds what was discarded" } else { "the store is damaged" };
    tracing::error!(reason, set_aside = %set_aside.display(), "{what}: set aside, rebuilding from peers");
    let mut trees = Vec::new();
    let [meta, outbox, audit] =
        [Tree::Meta, Tree::Outbox, Tree::Audit].map(|tree| salvage(&set_aside, kind, tree, &mut trees));
    let name = set_aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let loss = Loss { reason: reason.clone(), set_aside: name, trees };
    let mut kept = WriteBatch::default();
    audit.into_iter().for_each(|(key, row)| kept.put(Tree::Audit, key, row));
    // The node is a member, not a newcomer, if that can still be read.
    let cluster = meta.iter().find(|(key, id)| key == CLUSTER && id.len() == CLUSTER_LEN);
    cluster.into_iter().for_each(|(key, id)| kept.put(Tree::Meta, key.clone(), id.clone()));
    match open_with(dir, kind, &kept) {
        Ok((store, mut loaded)) => {
            // What was discarded is not offered again.
            loaded.salvaged = if discarded { Vec::new() } else { salvage_outbox(&meta, outbox) };
            loaded.loss = Some(loss);
            tracing::warn!(batches = loaded.salvaged.len(), "own batches read back from the damaged store");
            Ok(Opened { store, loaded, set_aside: Some(set_aside) })
        }
        Err(Trouble::Fatal(error)) => Err(error),
        Err(Trouble::Damaged(again)) => Err(failed(&format!("a new store fails too: {again}"))),
    }
}

/// A new store that begins with what is kept of the one before: of which cluster it is, and what can still be read of the
/// audit. A chain with a hole says more than none.
fn open_with(dir: &Path, kind: StoreKind, kept: &WriteBatch) -> Result<(Box<dyn Store>, Loaded), Trouble> {
    let (mut store, _) = open_and_load(dir, kind)?;
    store
        .apply(kept, Durability::Durable)
        .map_err(|error| Trouble::Fatal(RunError::Failed(format!("the new store does not take it: {error}"))))?;
    let loaded = load(&*store)?;
    Ok((store, loaded))
}

fn open_and_load(dir: &Path, kind: StoreKind) -> Result<(Box<dyn Store>, Loaded), Trouble> {
    let store = store::open(dir, kind).map_err(|error| match error {
        OpenError::Damaged { reason } => Trouble::Damaged(reason),
        error @ (OpenError::NewerFormat { .. } | OpenError::WrongKind { .. }) => {
            Trouble::Fatal(RunError::Denied(error.to_string()))
        }
        error => Trouble::Fatal(RunError::Failed(error.to_string())),
    })?;
    let loaded = load(&*store)?;
    Ok((store, loaded))
}

fn load(store: &dyn Store) -> Result<Loaded, Trouble> {
    let mut loader = Loader::default();
    for tree in Tree::LOADED {
        let mut refused: Option<LoadError> = None;
        let read = store.range(tree, b"", &mut |key, value| match loader.row(tree, key, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                refused = Some(error);
                ControlFlow::Break(())
            }
        });
        if let Some(error) = refused {
            return Err(Trouble::Damaged(error.to_string()));
        }
        read.map_err(|error| match error {
            StoreError::Damaged { what } => Trouble::Damaged(what),
            error => Trouble::Fatal(RunError::Failed(error.to_string())),
        })?;
    }
    loader.finish().map_err(|error| Trouble::Damaged(error.to_string()))
}

/// The rows of a tree that can still be read, at most [`SALVAGED_BYTES_MAX`] of them. Notes in `trees` how many.
fn salvage(set_aside: &Path, kind: StoreKind, tree: Tree, trees: &mut Vec<ReadBack>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let read = store::salvage(set_aside, kind, tree, &mut |key, value| {
        bytes += key.len() + value.len();
        if bytes <= SALVAGED_BYTES_MAX {
            rows.push((key.to_vec(), value.to_vec()));
        }
    });
    let read = read.unwrap_or_else(|error| {
        tracing::warn!(%error, tree = tree.name(), "nothing could be read back from the damaged store");
        Salvaged::default()
    });
    let kept = rows.len() as u64;
    trees.push(ReadBack { tree: tree.name(), rows: kept, bad: read.bad, whole: read.whole && kept == read.good });
    rows
}
