//! How a store notices that a record is missing.
//!
//! A checksum says that a record is right, not that all are there; one flipped bit in a sled file can drop a page of
//! records without a word. So each tree has a tally, the number of its records and the sum of their checksums, written in
//! the same batch as the records. A reader who has seen a whole tree compares.
//!
//! ```text
//! key    0 · tag of the tree
//! value  xxh3-64 · count · sum (8 bytes each, little endian)
//! ```
//!
//! A store that lost its last batches altogether still has a tally that fits: `watermark` finds that.

use super::record::seal;
use crate::engine::persist::Tree;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    pub count: u64,
    sum: u64,
}

impl Tally {
    pub fn add(&mut self, checksum: u64) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(checksum);
    }

    pub fn take(&mut self, checksum: u64) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(checksum);
    }

    pub fn to_bytes(self, tree: Tree) -> Vec<u8> {
        let body = [self.count.to_le_bytes(), self.sum.to_le_bytes()].concat();
        seal(tree, KEY, &body)
    }

    /// `None` when the bytes are not a tally of this tree.
    pub fn from_bytes(tree: Tree, bytes: &[u8]) -> Option<Self> {
        let (count, sum) = super::record::unseal(tree, KEY, bytes)?.split_first_chunk()?;
        Some(Self { count: u64::from_le_bytes(*count), sum: u64::from_le_bytes(sum.try_into().ok()?) })
    }
}

/// Stands for the key in the seal; too long to be a record's.
const KEY: &[u8] = &[0; super::contract::KEY_BYTES_MAX + 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_changes_does_not_matter() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        [3, u64::MAX, 9].into_iter().for_each(|sum| one.add(sum));
        [9, 5, 3, u64::MAX].into_iter().for_each(|sum| other.add(sum));
        assert_ne!(one, other);
        other.take(5);
        assert_eq!(one, other);
    }

    #[test]
    fn a_tally_survives_its_bytes_and_belongs_to_its_tree() {
        let mut tally = Tally::default();
        tally.add(77);
        let bytes = tally.to_bytes(Tree::Cells);
        assert_eq!(Tally::from_bytes(Tree::Cells, &bytes), Some(tally));
        assert_eq!(Tally::from_bytes(Tree::Meta, &bytes), None);
        assert_eq!(Tally::from_bytes(Tree::Cells, &bytes[..23]), None);
    }
}
