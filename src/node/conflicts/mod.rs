//! Conflicts, for people: listed, settled, undone. A settlement is an ordinary causal write beside a *decision*, the
//! document `conflicts/<id>`, which says who chose what over which values. Both are written in one transaction.
//!
//! [`list`] shows what there is and what the ledger kept, [`resolve`] settles and opens again, [`undo`] brings an overruled
//! value back, [`preview`] tells what another policy would do. They write through `register`, and keep a `note`.

pub mod error;
pub mod list;
mod note;
pub mod preview;
mod register;
pub mod resolve;
pub mod undo;

pub use error::ResolveError;
pub use list::{ConflictFilter, Rival};
pub use preview::{Preview, Previewed};
pub use resolve::{Reopened, Resolution, Resolved};

pub(super) use register::contested;

use crate::engine::conflicts::SYSTEM;
pub use crate::engine::escalation::COLLECTION;
