//! Where an audit lies in its tree.
//!
//! ```text
//! 00                         the base, once old records were dropped
//! index (8, big endian)      one record; its first byte is 0
//! ff | node (32) | key       the same two of another node's imported chain
//! ```
//!
//! The base sorts before all records, and imported chains after them, so one pass over a range sees a chain in order.

use crate::clock::NodeId;

/// Highest index of a record, so that its key begins with 0: two thousand years at a million records a second.
pub const INDEX_MAX: u64 = (1 << 56) - 1;

/// Where the base lies.
pub const BASE_KEY: &[u8] = &[0];

const IMPORTED: u8 = 0xff;

/// One key and its value, to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub key: Vec<u8>,
    pub bytes: Vec<u8>,
}

pub fn key_of(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}

/// The index that `key` stands for; `None` when it is no record's.
pub fn index_of(key: &[u8]) -> Option<u64> {
    let index = u64::from_be_bytes(key.try_into().ok()?);
    (index <= INDEX_MAX).then_some(index)
}

/// The keys of this node's own chain: from the first to before the second.
pub fn own_range() -> (Vec<u8>, Vec<u8>) {
    (vec![0], vec![1])
}

/// Where `key` of an imported chain of `node` lies.
pub fn imported_key(node: &NodeId, key: &[u8]) -> Vec<u8> {
    [&[IMPORTED][..], &node.0, key].concat()
}

/// The node whose imported chain a key belongs to, and the key within that chain.
pub fn split_imported(key: &[u8]) -> Option<(NodeId, &[u8])> {
    let (node, key) = key.strip_prefix(&[IMPORTED])?.split_first_chunk::<32>()?;
    Some((NodeId(*node), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_base_first_then_records_then_imported_chains() {
        let node = NodeId([0; 32]);
        let keys = [
            BASE_KEY.to_vec(),
            key_of(0).to_vec(),
            key_of(1).to_vec(),
            key_of(256).to_vec(),
            key_of(INDEX_MAX).to_vec(),
            imported_key(&node, BASE_KEY),
            imported_key(&node, &key_of(0)),
        ];
        assert!(keys.is_sorted());
        let (first, end) = own_range();
        assert!(keys[..5].iter().all(|key| *key >= first && *key < end) && keys[5] > end);
        assert_eq!(split_imported(&keys[6]), Some((node, &key_of(0)[..])));
        assert_eq!(split_imported(&keys[1]), None);
        assert_eq!(index_of(&key_of(INDEX_MAX)), Some(INDEX_MAX));
        assert_eq!(index_of(&key_of(INDEX_MAX + 1)), None);
    }
}
