//! How a record lies on a disk: its tree and key as one flat key, its value behind a checksum.
//!
//! ```text
//! key    tag of the tree (1 byte) · key
//! value  xxh3-64 of tree name, key and value (8 bytes, little endian) · value
//! ```
//!
//! The checksum covers the key, so a whole record in the wrong place is found too.

use xxhash_rust::xxh3::Xxh3Default;

use crate::engine::persist::Tree;

const CHECKSUM_LEN: usize = 8;

/// The tree's byte on disk. Never renumber; tags stay below 128, sled's backend needs the upper half.
fn tag(tree: Tree) -> u8 {
    match tree {
        Tree::Cells => 1,
        Tree::Outbox => 2,
        Tree::Meta => 3,
        Tree::History => 4,
        Tree::Audit => 5,
        Tree::Checkpoints => 6,
        Tree::Ballots => 7,
        Tree::Aside => 8,
    }
}

/// The flat key of a record.
pub(super) fn flat_key(tree: Tree, key: &[u8]) -> Vec<u8> {
    let mut flat = Vec::with_capacity(1 + key.len());
    flat.push(tag(tree));
    flat.extend_from_slice(key);
    flat
}

/// The first flat key behind a tree.
pub(super) fn end_of(tree: Tree) -> Vec<u8> {
    vec![tag(tree) + 1]
}

/// Where the number of the last batch lies: eight bytes, little endian.
pub(super) const NUMBER_KEY: &[u8] = &[0, 0];

/// Where a tree's tally lies: before all trees.
pub(super) fn tally_key(tree: Tree) -> Vec<u8> {
    vec![0, tag(tree)]
}

pub(super) fn tree_of(flat: &[u8]) -> Option<Tree> {
    let tagged = flat.first()?;
    Tree::ALL.into_iter().find(|tree| tag(*tree) == *tagged)
}

/// The checksum a sealed value carries, right or wrong.
pub(super) fn checksum_of(sealed: &[u8]) -> Option<u64> {
    sealed.first_chunk().map(|sum| u64::from_le_bytes(*sum))
}

pub(super) fn seal(tree: Tree, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(CHECKSUM_LEN + value.len());
    sealed.extend_from_slice(&checksum(tree, key, value));
    sealed.extend_from_slice(value);
    sealed
}

/// The value of a sealed record, or `None` when a bit of it is wrong.
pub(super) fn unseal<'a>(tree: Tree, key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = sealed.split_first_chunk::<CHECKSUM_LEN>()?;
    (*sum == checksum(tree, key, value)).then_some(value)
}

fn checksum(tree: Tree, key: &[u8], value: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hash = Xxh3Default::new();
    hash.update(tree.name().as_bytes());
    // The length keeps `a` + `bc` apart from `ab` + `c`.
    hash.update(&(key.len() as u64).to_le_bytes());
    hash.update(key);
    hash.update(value);
    hash.digest().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_breaks_the_seal() {
        let sealed = seal(Tree::Cells, b"key", b"value");
        assert_eq!(unseal(Tree::Cells, b"key", &sealed), Some(&b"value"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(Tree::Cells, b"key", &flipped), None, "bit {bit}");
        }
        assert_eq!(unseal(Tree::Cells, b"key", &sealed[..5]), None);
    }

    #[test]
    fn a_record_in_the_wrong_place_is_refused() {
        let sealed = seal(Tree::Cells, b"key", b"value");
        assert_eq!(unseal(Tree::Outbox, b"key", &sealed), None);
        assert_eq!(unseal(Tree::Cells, b"kez", &sealed), None);
        let shifted = seal(Tree::Cells, b"ab", b"c");
        assert_ne!(shifted[..8], seal(Tree::Cells, b"a", b"bc")[..8]);
    }

    #[test]
    fn trees_do_not_overlap() {
        for pair in Tree::ALL.windows(2) {
            assert!(flat_key(pair[0], &[0xff; 64]) < end_of(pair[0]));
            assert!(end_of(pair[0]) <= flat_key(pair[1], b""));
        }
        assert!(Tree::ALL.iter().all(|tree| tag(*tree) < 0x7f));
    }
}
