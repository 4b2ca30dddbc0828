//! The audit of one node: what was found, decided, overruled and undone here, as a chain of records nobody can change
//! unseen.
//!
//! Each [`Record`] carries the hash of the one before it, so a changed record no longer fits its successor. That alone
//! proves little: who can write to the disk can compute every hash anew. So a node now and then signs where its chain
//! stands, an [`Anchor`], and gives it to others. What an anchor names cannot be changed any more without being found by
//! [`verify()`].
//!
//! | | |
//! |---|---|
//! | [`record`], [`kind`], [`detail`] | one record, its bounds, its bytes |
//! | [`chain`], [`row`] | appending, resuming, and where the bytes lie |
//! | [`anchor`], [`retention`] | signed heads; forgetting old records without losing the proof |
//! | [`verify`](mod@verify), [`walk`], [`finding`] | looking for what was deleted, edited, exchanged or cut off |
//! | [`index`], [`query`] | finding records again |
//! | [`survey`], [`patterns`], [`tally`] | hotspots, recurring and flapping conflicts, who settled what |
//! | [`mark`] | clocks one could go back to |
//! | [`export`], [`import`], [`archive`] | JSON lines, and the chains of other nodes |
//!
//! The story starts in [`chain`]. What a chain can prove and what it cannot is told in `docs/audit.md`.

pub mod anchor;
pub mod archive;
pub mod chain;
pub mod detail;
pub mod export;
pub mod finding;
mod hash;
pub mod import;
pub mod index;
pub mod kind;
mod line;
pub mod mark;
#[cfg(test)]
mod mutations;
pub mod patterns;
pub mod query;
mod reader;
pub mod record;
pub mod retention;
pub mod row;
pub mod survey;
mod swing;
pub mod tally;
pub mod verify;
pub mod walk;
#[cfg(test)]
mod world;

pub use anchor::{Anchor, Check, Sign};
pub use archive::Archive;
pub use chain::{Chain, Head};
pub use export::export;
pub use finding::{Finding, Report};
pub use hash::Hash;
pub use import::{ImportError, Imported, import};
pub use index::Index;
pub use kind::Kind;
pub use mark::{Mark, RollbackPoint, rollback_points};
pub use query::{Page, Query};
pub use record::{Entry, Record, RecordRef};
pub use retention::{Base, Retention};
pub use row::Row;
pub use survey::{Survey, Window};
pub use verify::{verify, verify_copy};
