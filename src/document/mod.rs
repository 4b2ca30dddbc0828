//! Floor 2: documents as packed cells, and what is written about them.
//!
//! A document is a set of *cells*; a cell's state is its *entries*. Everything a node stores or sends is built of these
//! two. Start with [`cell`], then [`page`] (many cells in one allocation), then [`packed`] (many pages, one document).
//!
//! What the cells mean is said by a [`schema`], or inferred ([`infer`]). A [`plan`](plan::plan) turns a wished write into
//! ops, `field` by field; [`decided`] does so for what a quorum decided; a [`view`] reads a document back, by the rules in `reading`. `stories` tells both by example.
//!
//! Nothing here knows which dots are covered, or who is connected.

pub mod address;
pub mod batch;
pub mod builtin;
pub mod cell;
pub mod codec;
pub mod decided;
mod field;
pub mod infer;
pub mod packed;
pub mod page;
pub mod plan;
mod reading;
pub mod rule;
pub mod schema;
pub mod settings;
#[cfg(test)]
mod stories;
pub mod view;

pub use address::{Address, AddressError};
pub use builtin::builtin;
pub use cell::{CellKey, CellRef, EntryRef};
pub use packed::Document;
pub use plan::{Edit, PlanError, PlannedOp, Planner, Write, plan};
pub use schema::{Field, Schema, SchemaError};
pub use view::{DocumentView, Sibling, etag, exists};
