//! An additive hash of the state: what two nodes with equal clocks must agree on.
//!
//! The sum, over every valued live entry, of a 128-bit hash of `(replica id, seq, cell, time, value)`. Sums commute, so
//! the order in which entries came and went leaves no trace; removal records and local slots are left out, because nodes
//! in agreement may differ in them. Kept per shard of documents, so that a difference can be narrowed down.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use crate::clock::{HybridTime, ReplicaId};

/// Shards of the fingerprint. A document belongs to shard `document hash mod SHARDS`.
pub const SHARDS: usize = 4096;

/// Some of the shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards(Box<[u64; SHARDS / 64]>);

impl Shards {
    pub const BYTES: usize = SHARDS / 8;

    pub fn none() -> Self {
        Self(Box::new([0; SHARDS / 64]))
    }

    pub fn insert(&mut self, shard: usize) {
        self.0[shard / 64 % 64] |= 1 << (shard % 64);
    }

    pub fn contains(&self, shard: usize) -> bool {
        self.0[shard / 64 % 64] & (1 << (shard % 64)) != 0
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SHARDS).filter(|shard| self.contains(*shard))
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes.chunks_exact_mut(8).zip(*self.0).for_each(|(chunk, word)| chunk.copy_from_slice(&word.to_le_bytes()));
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut words = Box::new([0; SHARDS / 64]);
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Self(words)
    }
}

impl FromIterator<usize> for Shards {
    fn from_iter<I: IntoIterator<Item = usize>>(shards: I) -> Self {
        let mut some = Self::none();
        shards.into_iter().for_each(|shard| some.insert(shard));
        some
    }
}

/// The shard that a document belongs to.
pub fn shard_of(document_hash: u64) -> usize {
    document_hash as usize % SHARDS
}

/// Sums per shard, and over all.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    shards: Vec<u128>,
    total: u128,
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self { shards: vec![0; SHARDS], total: 0 }
    }
}

impl Fingerprint {
    /// The digest of the whole state.
    pub fn total(&self) -> u128 {
        self.total
    }

    pub fn shard(&self, shard: usize) -> u128 {
        self.shards[shard % SHARDS]
    }

    pub fn add(&mut self, document_hash: u64, entry_hash: u128) {
        let shard = &mut self.shards[shard_of(document_hash)];
        *shard = shard.wrapping_add(entry_hash);
        self.total = self.total.wrapping_add(entry_hash);
    }

    pub fn remove(&mut self, document_hash: u64, entry_hash: u128) {
        self.add(document_hash, entry_hash.wrapping_neg());
    }
}

pub fn replica_hash(id: &ReplicaId) -> u64 {
    xxh3_64(&id.to_bytes())
}

pub fn document_hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

pub fn cell_hash(document_hash: u64, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, document_hash)
}

pub fn entry_hash(replica_hash: u64, seq: u64, cell_hash: u64, at: HybridTime, value: &[u8]) -> u128 {
    let words = [replica_hash, seq, cell_hash, at.0, xxh3_64(value)];
    let mut bytes = [0u8; 40];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_128(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_and_removed_leaves_no_trace_whatever_the_order() {
        let hashes: Vec<u128> = (0..5).map(|n| entry_hash(n, 1, 2, HybridTime(3), b"v")).collect();
        let mut fingerprint = Fingerprint::default();
        hashes.iter().for_each(|hash| fingerprint.add(7, *hash));
        assert_ne!(fingerprint.total(), 0);
        hashes.iter().rev().for_each(|hash| fingerprint.remove(7, *hash));
        assert_eq!((fingerprint.total(), fingerprint.shard(7)), (0, 0));
    }
}
