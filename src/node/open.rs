//! Opening what a data directory holds: checked from end to end, and set aside when it is not what this node wrote.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::settings::RunError;
use crate::engine::persist::Tree;
use crate::engine::{LoadError, Loaded, Loader};
use crate::store::{self, OpenError, Store, StoreError, StoreKind};

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
pub(super) fn open(dir: &Path, kind: StoreKind, can_rebuild: bool) -> Result<Opened, RunError> {
    let reason = match open_and_load(dir, kind) {
        Ok((store, loaded)) => return Ok(Opened { store, loaded, set_aside: None }),
        Err(Trouble::Fatal(error)) => return Err(error),
        Err(Trouble::Damaged(reason)) => reason,
    };
    if !can_rebuild {
        return Err(RunError::Integrity(format!(
            "the store in {} is damaged ({reason}). Start this node with --join and the address of a member to set the \
             damaged store aside and rebuild it from the cluster; nothing was changed",
            dir.display()
        )));
    }
    let failed = |error: &dyn std::fmt::Display| {
        RunError::Integrity(format!(
            "the store in {} is damaged ({reason}) and could not be set aside: {error}",
            dir.display()
        ))
    };
    let set_aside = store::quarantine(dir, &reason).map_err(|error| failed(&error))?;
    tracing::error!(reason, set_aside = %set_aside.display(), "the store is damaged: set aside, rebuilding from peers");
    let cluster = salvage_cluster(&set_aside, kind);
    match open_and_load(dir, kind) {
        Ok((store, mut loaded)) => {
            loaded.cluster = cluster;
            Ok(Opened { store, loaded, set_aside: Some(set_aside) })
        }
        Err(Trouble::Fatal(error)) => Err(error),
        Err(Trouble::Damaged(again)) => Err(failed(&format!("a new store fails too: {again}"))),
    }
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
    for tree in [Tree::Meta, Tree::Cells] {
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

/// The cluster the damaged store belonged to, if that can still be read: the node is a member, not a newcomer.
fn salvage_cluster(set_aside: &Path, kind: StoreKind) -> Option<crate::clock::ClusterId> {
    let mut cluster = None;
    let read = store::salvage(set_aside, kind, Tree::Meta, &mut |key, value| {
        if key == b"cluster" {
            cluster = value.try_into().ok().map(crate::clock::ClusterId);
        }
    });
    if let Err(error) = read {
        tracing::warn!(%error, "nothing could be read back from the damaged store");
    }
    cluster
}
