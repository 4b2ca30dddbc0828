//! What a store promises, and how it fails.

use std::fmt;
use std::io;
use std::ops::ControlFlow;

use crate::engine::persist::{Tree, WriteBatch};

/// The longest key a store takes. Longer ones would push sled's index pages into files of their own, which sled never
/// syncs.
pub const KEY_BYTES_MAX: usize = 1024;

/// Ordered maps on a disk. One writer; a batch is atomic over all trees; batches take effect in the order given.
pub trait Store: Send {
    /// Writes a batch, whole or not at all. After a `Durable` one, it and every batch before it survive a power cut.
    /// A key that is written twice in one batch ends as its last write.
    fn apply(&mut self, batch: &WriteBatch, durability: Durability) -> Result<(), StoreError>;

    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys at and above `from` in key order until the visitor breaks. Stops with `Damaged` at the first
    /// record that cannot be trusted; records visited before it were good. A scan from the empty key to the end also
    /// finds missing records: `Damaged`, after the last visit.
    fn range(&self, tree: Tree, from: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// What the store takes on its disk.
    fn size_bytes(&self) -> Result<u64, StoreError>;
}

/// Takes a key and its value, and says whether to go on.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// What an `apply` waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Lost, newest first and by whole batches, when the process or the machine stops before the next `Durable` apply.
    Buffered,
    /// Survives a power cut.
    Durable,
}

/// What a failed `apply` left behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// Nothing: the store is as it was.
    Nothing,
    /// The batch is there as a whole or not at all, and only reading tells which. Writing it again is safe.
    Unknown,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Reads go on. Writes are taken again as soon as there is room; nobody has to reopen the store.
    #[error("the disk is full ({cause}); {changed}. Free some space on it and write again")]
    Full { cause: String, changed: Changed },
    /// Nothing this store says can be trusted any more: quarantine it and rebuild it from peers.
    #[error("the store is damaged: {what}. Set it aside and rebuild it from peers; what was written is unknown")]
    Damaged { what: String },
    #[error("the disk failed: {cause}; {changed}. Check the disk and its mount, then write again")]
    Io { cause: io::Error, changed: Changed },
    /// A mistake of the caller.
    #[error("a key of {len} bytes is longer than the {KEY_BYTES_MAX} a store takes; nothing was written. Hash the key")]
    KeyTooLong { len: usize },
}

impl StoreError {
    pub fn changed(&self) -> Changed {
        match self {
            Self::Full { changed, .. } | Self::Io { changed, .. } => *changed,
            Self::Damaged { .. } => Changed::Unknown,
            Self::KeyTooLong { .. } => Changed::Nothing,
        }
    }

    /// Sorts an error of the operating system, which may come wrapped in a backend's own.
    pub(super) fn from_io(cause: io::Error, changed: Changed) -> Self {
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { cause: cause.to_string(), changed }
            }
            // A file that ends too early or holds nonsense is not a failing disk.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Damaged { what: cause.to_string() }
            }
            _ => Self::Io { cause, changed },
        }
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing was written",
            Self::Unknown => "the batch is on it as a whole or not at all",
        })
    }
}
