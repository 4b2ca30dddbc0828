//! Chains of other nodes that somebody imported: read only, bounded, each apart.

use std::collections::BTreeMap;

use super::rows::Rows;
use crate::clock::NodeId;
use crate::history::audit::archive::{Archive, range_of};
use crate::history::audit::row::{BASE_KEY, imported_key, key_of, split_imported};
use crate::history::audit::{Anchor, Check, ImportError, Imported};

/// Bytes of all imported chains: they are held in memory like this node's own.
pub const IMPORTED_BYTES_MAX: usize = 64 << 20;

type Kept = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug)]
pub struct Shelves {
    archive: Archive,
    /// Under the keys of the tree.
    rows: Kept,
    bytes: usize,
}

/// Why a chain was not imported. Nothing was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(
        "imported chains would take {bytes} bytes here, and {IMPORTED_BYTES_MAX} are allowed: verify the file where it is"
    )]
    Full { bytes: usize },
}

impl Shelves {
    pub(super) fn load(own: NodeId, rows: Kept, check: Check<'_>) -> Self {
        let (archive, _) = Archive::load(own, &rows, check, |_, _| {});
        let bytes = rows.values().map(Vec::len).sum();
        Self { archive, rows, bytes }
    }

    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// A node's chain, under the keys it has at home.
    pub fn chain(&self, node: &NodeId) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (first, end) = range_of(node);
        let own_key = |key| split_imported(key).map_or(BASE_KEY, |(_, key)| key);
        self.rows.range(first..end).map(move |(key, row)| (own_key(key), row.as_slice()))
    }

    pub(super) fn row(&self, node: &NodeId, index: u64) -> Option<Vec<u8>> {
        self.rows.get(&imported_key(node, &key_of(index))).cloned()
    }

    pub(super) fn import(
        &mut self,
        text: &str,
        known: &[Anchor],
        check: Check<'_>,
        rows: &mut Rows,
    ) -> Result<Imported, ShelfError> {
        let (mut kept, mut archive) = (Vec::new(), self.archive.clone());
        let imported = archive.import(text.lines(), known, check, &mut |row| kept.push(row))?;
        let (first, end) = range_of(&imported.node);
        let before: Vec<Vec<u8>> = self.rows.range(first..end).map(|(key, _)| key.clone()).collect();
        let freed: usize = before.iter().filter_map(|key| self.rows.get(key)).map(Vec::len).sum();
        let bytes = self.bytes - freed + kept.iter().map(|row| row.bytes.len()).sum::<usize>();
        if bytes > IMPORTED_BYTES_MAX {
            return Err(ShelfError::Full { bytes });
        }
        for key in before {
            self.rows.remove(&key);
            rows.remove(key);
        }
        for row in kept {
            self.rows.insert(row.key.clone(), row.bytes.clone());
            rows.put(row.key, row.bytes);
        }
        (self.archive, self.bytes) = (archive, bytes);
        Ok(imported)
    }
}
