//! Floor 7: disks.
//!
//! A store keeps what the engine asks it to keep ([`crate::engine::persist`]): seven ordered maps, written in batches that
//! take effect together or not at all. Start with [`Store`] in `contract.rs`; [`open`] gives you one; [`DataDir`] is the
//! directory around it, with the lock and the node's key.
//!
//! ```text
//! contract    what a store promises, and how it fails
//! checked     the half every backend shares: trees, checksums, tallies, panics, the space reserve
//! memory, sled, redb    the backends: one flat ordered map each
//! open        the directory's layout and format
//! datadir     the lock, the key, free space
//! tally, watermark      what finds missing records, and a store older than it was
//! quarantine  what to do with a damaged store
//! ```
//!
//! Nothing in `store` knows what the bytes mean. Nothing in it deletes a damaged store. No record leaves it whose
//! checksum is wrong, and a whole tree is not read to its end when records are missing. It does not come up older than
//! its last durable batch without saying so. What it cannot see is a directory restored as a whole: peers tell that.

mod checked;
mod contract;
mod datadir;
mod durable;
mod memory;
mod open;
mod quarantine;
mod record;
mod redb;
mod sled;
mod tally;
mod watermark;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod full;
#[cfg(test)]
mod speed;

pub use contract::{Changed, Durability, KEY_BYTES_MAX, Store, StoreError, Visit};
pub use datadir::{DataDir, DataDirError};
pub use memory::Memory;
pub use open::{OpenError, StoreKind, medium, open};
pub use quarantine::{Salvaged, quarantine, salvage};
