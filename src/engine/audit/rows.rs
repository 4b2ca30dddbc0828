//! Changes to the tree `audit`, on their way to the disk.

use std::collections::BTreeMap;

/// Changes that wait for a disk that takes nothing. Records stop long before (see [`UNSTORED_MAX`](super::log::UNSTORED_MAX));
/// this is for what lies beside them: everything that stands, twice over, and a hundred thousand anchors.
pub const WAITING_MAX: usize = 1 << 18;

/// The last change of each key.
#[derive(Debug, Default)]
pub struct Rows(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Rows {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert(key, Some(value));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.0.insert(key, None);
    }

    /// Whether what can wait is to be left out.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= WAITING_MAX
    }

    pub(in crate::engine) fn take(&mut self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        std::mem::take(&mut self.0)
    }
}
