//! Why a conflict was not settled, opened again or undone.

use super::super::write::WriteError;
use crate::conflict::merge::SIDES_MAX;
use crate::crdt::Resolver;
use crate::document::AddressError;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResolveError {
    #[error("there is no conflict {0} here: it may have been settled meanwhile, or its documents have changed")]
    NotFound(String),
    #[error("the conflict {id} is over: {told}. The note conflicts/{id} tells all of it")]
    Over { id: String, told: String },
    #[error("no sibling has the dot {dot}: the conflict has {known}")]
    NoSuchSibling { dot: String, known: String },
    #[error("{resolver} does not settle this conflict: {cause}")]
    Unable { resolver: Resolver, cause: String },
    #[error(
        "the rule `{rule}` is broken by the documents themselves: {cause}. No resolver settles that: change {documents}"
    )]
    OfRule { rule: String, cause: String, documents: String },
    #[error("no decision about {0} is kept here: only what a person settled can be opened again")]
    NotDecided(String),
    #[error("{id} is {status} already: see the list of conflicts for the one that is open now")]
    Reopened { id: String, status: String },
    #[error(
        "{document} was written since: `{field}` no longer holds what was decided. Write the value you want, or undo one by \
         its dot"
    )]
    WrittenSince { document: String, field: String },
    #[error(
        "there is no conflict or decision {0}, and no value with this dot in the ledger of this node: each keeps what it saw, ask another"
    )]
    NotInLedger(String),
    #[error("{0} is read by every node and is not changed from here: write it by its own path")]
    System(String),
    #[error("the note about {id} names {siblings} values: a conflict that is opened again has 2 to {SIDES_MAX}")]
    Unlikely { id: String, siblings: usize },
    #[error("readers see all its values: none was overruled")]
    NothingOverruled,
    #[error("several values were overruled; name one by its dot: {0}")]
    Several(String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Write(#[from] WriteError),
}
