//! Floor 2: documents as packed cells, and what is written about them.
//!
//! A document is a set of *cells*; a cell's state is its *entries*. Everything a node stores or sends is built of these
//! two. Start with [`cell`], then [`page`] (many cells in one allocation), then [`packed`] (many pages, one document).
//!
//! Nothing here knows which dots are covered, or who is connected.

pub mod address;
pub mod cell;
pub mod packed;
pub mod page;

pub use address::{Address, AddressError};
pub use cell::{CellKey, CellRef, EntryRef};
pub use packed::Document;
