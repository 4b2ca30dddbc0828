//! The sled backend (0.34.7), with what its own durability leaves out.
//!
//! **One tree.** A batch on one sled tree is atomic and cheap; a transaction over several is not (1.6 k/s against 6.7 k/s
//! measured). So all records lie in the default tree.
//!
//! **Durable.** sled's `flush` ends in `sync_file_range`, which a power cut does not respect. So a second handle on its
//! file is synced after every flush.
//!
//! **No blobs.** sled puts a page larger than a quarter of a segment into a file of its own and never syncs that file. So
//! a long value is cut into parts, and parts and segments are sized so that no page gets there:
//! 20 records of 16 KiB and their keys, or 320 keys of 1 KiB, stay below 2 MiB / 4.
//!
//! ```text
//! head   key → number of further parts (u32, little endian) · first part
//! parts  key with the top bit of its first byte set · index from 1 (u32, big endian) → part
//! ```

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use sled::{Batch, Db, IVec};

use super::checked::{Backend, FlatWrites, Order};
use super::contract::{Changed, Durability, StoreError, Visit};
use super::durable;
use super::record::checksum_of;

const SEGMENT_BYTES: usize = 2 << 20;
const PART_BYTES: usize = 16 << 10;
const HEAD_LEN: usize = 4;
/// Set in the tree's tag for the parts behind a head, which thus sort behind all heads.
const PART_BIT: u8 = 0x80;
/// The live state is in memory; the store is read at the start and in repairs.
const CACHE_BYTES: u64 = 32 << 20;
/// How long the threads of a database just closed may hold on to its file.
const UNLOCK_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Sled {
    db: Db,
    /// sled's own handle is out of reach, and `sync_all` works through any.
    file: File,
}

impl Sled {
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        forget_unfinished_snapshots(dir).map_err(|cause| StoreError::from_io(cause, Changed::Nothing))?;
        let deadline = Instant::now() + UNLOCK_WAIT;
        let db = loop {
            match config(dir).open() {
                Err(sled::Error::Io(error)) if is_locked(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => break other.map_err(sled_error)?,
            }
        };
        let io = |cause| StoreError::from_io(cause, Changed::Nothing);
        let file = File::options().read(true).write(true).open(dir.join("db")).map_err(io)?;
        // Names first created by this open: the log, the configuration, a snapshot.
        file.sync_all().map_err(io)?;
        File::open(dir.join("conf")).and_then(|conf| conf.sync_all()).map_err(io)?;
        durable::sync_dir(&dir.join("blobs")).and_then(|()| durable::sync_dir(dir)).map_err(io)?;
        Ok(Self { db, file })
    }

    fn join(&self, key: &[u8], head: &[u8]) -> Result<Vec<u8>, StoreError> {
        let Some((count, first)) = head.split_first_chunk::<HEAD_LEN>() else { return Ok(Vec::new()) };
        let mut value = first.to_vec();
        for index in 1..=u32::from_le_bytes(*count) {
            // A missing part leaves the value short, and its checksum tells.
            let Some(part) = self.db.get(part_key(key, index)).map_err(sled_error)? else { break };
            value.extend_from_slice(&part);
        }
        Ok(value)
    }

    /// The number of parts behind the head that is stored now.
    fn parts(&self, key: &[u8]) -> Result<u32, StoreError> {
        let head = self.db.get(key).map_err(sled_error)?;
        Ok(head.and_then(|head| head.first_chunk().map(|count| u32::from_le_bytes(*count))).unwrap_or(0))
    }

    fn split(&self, batch: &mut Batch, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let old_parts = self.parts(key)?;
        let mut parts = 0;
        if let Some(value) = value {
            let (first, rest) = value.split_at(value.len().min(PART_BYTES));
            for part in rest.chunks(PART_BYTES) {
                parts += 1;
                batch.insert(part_key(key, parts), part);
            }
            let mut head = Vec::with_capacity(HEAD_LEN + first.len());
            head.extend_from_slice(&parts.to_le_bytes());
            head.extend_from_slice(first);
            batch.insert(key, head);
        } else {
            batch.remove(key);
        }
        (parts + 1..=old_parts).for_each(|index| batch.remove(part_key(key, index)));
        Ok(())
    }
}

/// sled writes a snapshot under another name and renames it once it is whole. One that it could not finish, for want of
/// space, it takes for damage at the next open; the log holds all that was in it.
fn forget_unfinished_snapshots(dir: &Path) -> std::io::Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Backend for Sled {
    fn write(&mut self, writes: &FlatWrites, durability: Durability) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (key, value) in writes {
            self.split(&mut batch, key, value.as_deref())?;
        }
        self.db.apply_batch(batch).map_err(sled_error)?;
        if durability == Durability::Durable {
            self.db.flush().map_err(sled_error)?;
            self.file.sync_all().map_err(|cause| StoreError::from_io(cause, Changed::Unknown))?;
        }
        Ok(())
    }

    fn checksums(&self, keys: &mut dyn Iterator<Item = &Vec<u8>>) -> Result<Vec<Option<u64>>, StoreError> {
        let one = |key| {
            let head = self.db.get(key).map_err(sled_error)?;
            Ok(head.and_then(|head| checksum_of(head.get(HEAD_LEN..)?)))
        };
        keys.map(one).collect()
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let head = self.db.get(key).map_err(sled_error)?;
        head.map(|head| self.join(key, &head)).transpose()
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError> {
        let mut records = self.db.range(from..to);
        let mut next = || match order {
            Order::Up => records.next(),
            Order::Down => records.next_back(),
        };
        while let Some(record) = next() {
            let (key, head): (IVec, IVec) = record.map_err(sled_error)?;
            if visit(&key, &self.join(&key, &head)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(sled_error)
    }
}

fn config(dir: &Path) -> sled::Config {
    // Its own timer would write while we group commits; we flush when we mean it.
    sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None).segment_size(SEGMENT_BYTES)
}

fn part_key(key: &[u8], index: u32) -> Vec<u8> {
    let mut part = Vec::with_capacity(key.len() + 4);
    part.extend_from_slice(key);
    if let Some(tag) = part.first_mut() {
        *tag |= PART_BIT;
    }
    part.extend_from_slice(&index.to_be_bytes());
    part
}

fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn sled_error(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(cause) => StoreError::from_io(cause, Changed::Unknown),
        error => StoreError::Damaged { what: format!("sled: {error}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreKind, open};
    use crate::{engine::persist::Tree, engine::persist::WriteBatch, store::KEY_BYTES_MAX};

    /// A blob is a page sled does not sync.
    #[test]
    fn no_page_becomes_a_blob() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path(), StoreKind::Sled).unwrap();
        for round in 0..3u8 {
            let mut batch = WriteBatch::default();
            for key in 0..40u32 {
                batch.put(Tree::Checkpoints, key.to_be_bytes(), vec![round; 300_000]);
            }
            // Long keys that share no prefix sled could cut off make the largest index pages.
            for key in 0..6000u32 {
                let mut long = blake3::hash(&key.to_be_bytes()).as_bytes().to_vec();
                long.resize(KEY_BYTES_MAX, round);
                batch.put(Tree::Cells, long, vec![round; 10]);
            }
            store.apply(&batch, Durability::Durable).unwrap();
        }
        drop(store);
        let blobs = std::fs::read_dir(dir.path().join("store/blobs")).unwrap().count();
        assert_eq!(blobs, 0);
    }

    #[test]
    fn a_shrinking_value_leaves_no_parts_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut backend = Sled::open(dir.path()).unwrap();
        let key = b"\x01key".to_vec();
        for len in [200_000, 40_000, 10, 100_000] {
            backend.write(&[(key.clone(), Some(vec![7; len]))].into(), Durability::Buffered).unwrap();
            assert_eq!(backend.read(&key).unwrap(), Some(vec![7; len]));
            assert_eq!(backend.db.len(), 1 + (len - 1) / PART_BYTES);
        }
        backend.write(&[(key, None)].into(), Durability::Buffered).unwrap();
        assert!(backend.db.is_empty());
    }
}
