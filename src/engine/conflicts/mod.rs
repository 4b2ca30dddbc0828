//! The conflicts of the state as it is now, kept in step with it: each document that changes is judged anew, and the rules
//! over whole collections when one of theirs changed.
//!
//! | file | |
//! |---|---|
//! | `list` | what is kept: by id, by document, by collection |
//! | `judging` | documents are judged when they change, and when schemas or policies do |
//! | `across` | rules over whole collections, in their turn |
//! | `reading` | a document as it reads once settled |
//! | `rivals` | overruled values enter the ledger |

mod across;
mod judging;
mod list;
mod reading;
mod rivals;
#[cfg(test)]
mod tests;

pub use list::Conflicts;
pub(super) use list::Difference;

use super::{member, schemas};

/// Collections that every node reads by rules of its own.
pub const SYSTEM: [&str; 4] = [schemas::COLLECTION, schemas::POLICIES, schemas::ADVISOR, member::COLLECTION];

pub(super) fn collection_of(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}
