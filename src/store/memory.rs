//! A store in memory, with faults to order. The [`Memory`] is the disk; the stores opened on it come and go.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checked::{Backend, Checked, FlatWrites, Order};
use super::contract::{Changed, Durability, Store, StoreError, Visit};
use super::record::{checksum_of, flat_key};
use crate::engine::persist::Tree;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Default)]
struct Disk {
    /// What readers see.
    now: Map,
    /// What a power cut leaves, as changes to undo: each key changed since the last sync, with its synced value.
    unsynced: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    applies: u64,
    failing_apply: Option<u64>,
    capacity_bytes: Option<u64>,
}

impl Memory {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open(&self) -> Result<Box<dyn Store>, StoreError> {
        let disk = Arc::clone(&self.disk);
        let opener = move || Ok(Box::new(Handle { disk: Arc::clone(&disk) }) as Box<dyn Backend>);
        Ok(Box::new(Checked::open(Box::new(opener), None)?))
    }

    #[cfg(test)]
    pub(super) fn raw(&self) -> Box<dyn Backend> {
        Box::new(Handle { disk: Arc::clone(&self.disk) })
    }

    /// Makes the `nth` apply from now (1 is the next) fail with an I/O error and change nothing.
    pub fn fail_apply(&self, nth: u64) {
        let mut disk = self.lock();
        disk.failing_apply = Some(disk.applies + nth);
    }

    /// From now on the disk holds this many bytes of keys and values; `None` takes the limit away.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// A power cut: whatever was not written `Durable` is gone, by whole batches.
    pub fn crash(&self) {
        let mut disk = self.lock();
        for (key, value) in std::mem::take(&mut disk.unsynced) {
            set(&mut disk.now, key, value);
        }
    }

    /// Flips one bit of a record as it is stored, checksum first. False when there is no such record or bit.
    pub fn flip_bit(&self, tree: Tree, key: &[u8], bit: usize) -> bool {
        let mut disk = self.lock();
        let Some(byte) = disk.now.get_mut(&flat_key(tree, key)).and_then(|sealed| sealed.get_mut(bit / 8)) else {
            return false;
        };
        *byte ^= 1 << (bit % 8);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        // No write to the map can panic halfway, so a poisoned lock still guards a whole map.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn write(&mut self, writes: &FlatWrites, durability: Durability) -> Result<(), StoreError> {
        self.applies += 1;
        if self.failing_apply == Some(self.applies) {
            let cause = std::io::Error::other("fault ordered by a test");
            return Err(StoreError::Io { cause, changed: Changed::Nothing });
        }
        self.check_capacity(writes)?;
        for (key, value) in writes {
            let old = set(&mut self.now, key.clone(), value.clone());
            self.unsynced.entry(key.clone()).or_insert(old);
        }
        if durability == Durability::Durable {
            self.unsynced.clear();
        }
        Ok(())
    }

    /// An upper bound: overwritten values are not given back.
    fn check_capacity(&self, writes: &FlatWrites) -> Result<(), StoreError> {
        let Some(capacity_bytes) = self.capacity_bytes else { return Ok(()) };
        let new_bytes: usize =
            writes.iter().filter_map(|(key, value)| value.as_ref().map(|value| key.len() + value.len())).sum();
        let needed_bytes = self.size_bytes() + new_bytes as u64;
        if new_bytes > 0 && needed_bytes > capacity_bytes {
            let cause = format!("{needed_bytes} bytes do not fit into {capacity_bytes}");
            return Err(StoreError::Full { cause, changed: Changed::Nothing });
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.now.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }
}

fn set(map: &mut Map, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

struct Handle {
    disk: Arc<Mutex<Disk>>,
}

impl Handle {
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Handle {
    fn write(&mut self, writes: &FlatWrites, durability: Durability) -> Result<(), StoreError> {
        self.lock().write(writes, durability)
    }

    fn checksums(&self, keys: &mut dyn Iterator<Item = &Vec<u8>>) -> Result<Vec<Option<u64>>, StoreError> {
        let disk = self.lock();
        Ok(keys.map(|key| disk.now.get(key).and_then(|sealed| checksum_of(sealed))).collect())
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().now.get(key).cloned())
    }

    /// Locks for each record, not for the scan: a visitor may order faults.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError> {
        let mut range = (Bound::Included(from.to_vec()), Bound::Excluded(to.to_vec()));
        loop {
            let disk = self.lock();
            let mut records = disk.now.range(range.clone());
            let next = match order {
                Order::Up => records.next(),
                Order::Down => records.next_back(),
            };
            let Some((key, value)) = next.map(|(key, value)| (key.clone(), value.clone())) else { return Ok(()) };
            drop(disk);
            if visit(&key, &value).is_break() {
                return Ok(());
            }
            match order {
                Order::Up => range.0 = Bound::Excluded(key),
                Order::Down => range.1 = Bound::Excluded(key),
            }
            // A range that excludes both its ends must not be asked with equal ends.
            if matches!(&range, (Bound::Excluded(low), Bound::Excluded(high)) if low >= high) {
                return Ok(());
            }
        }
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.lock().size_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::persist::WriteBatch;

    fn put(key: &str, value: &str) -> WriteBatch {
        let mut batch = WriteBatch::default();
        batch.put(Tree::Cells, key, value);
        batch
    }

    #[test]
    fn a_power_cut_takes_what_was_only_buffered() {
        let memory = Memory::new();
        let mut store = memory.open().unwrap();
        store.apply(&put("a", "1"), Durability::Durable).unwrap();
        store.apply(&put("a", "2"), Durability::Buffered).unwrap();
        store.apply(&put("b", "3"), Durability::Buffered).unwrap();
        memory.crash();
        let store = memory.open().unwrap();
        assert_eq!(store.get(Tree::Cells, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(store.get(Tree::Cells, b"b").unwrap(), None);
    }

    #[test]
    fn a_durable_apply_keeps_the_buffered_ones_before_it() {
        let memory = Memory::new();
        let mut store = memory.open().unwrap();
        store.apply(&put("a", "1"), Durability::Buffered).unwrap();
        store.apply(&put("b", "2"), Durability::Durable).unwrap();
        memory.crash();
        assert_eq!(memory.open().unwrap().get(Tree::Cells, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn an_ordered_fault_hits_its_apply_and_no_other() {
        let memory = Memory::new();
        let mut store = memory.open().unwrap();
        memory.fail_apply(2);
        store.apply(&put("a", "1"), Durability::Durable).unwrap();
        let error = store.apply(&put("b", "2"), Durability::Durable).unwrap_err();
        assert_eq!(error.changed(), Changed::Nothing);
        assert_eq!(store.get(Tree::Cells, b"b").unwrap(), None);
        store.apply(&put("b", "2"), Durability::Durable).unwrap();
    }

    #[test]
    fn a_full_disk_refuses_whole_batches_and_still_reads() {
        let memory = Memory::new();
        let mut store = memory.open().unwrap();
        store.apply(&put("a", "1"), Durability::Durable).unwrap();
        memory.set_capacity_bytes(Some(80));
        let mut batch = put("b", "2");
        batch.put(Tree::Meta, "c", vec![0; 100]);
        let error = store.apply(&batch, Durability::Durable).unwrap_err();
        assert!(matches!(error, StoreError::Full { changed: Changed::Nothing, .. }), "{error}");
        assert_eq!(store.get(Tree::Cells, b"b").unwrap(), None);
        assert_eq!(store.get(Tree::Cells, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        memory.set_capacity_bytes(None);
        store.apply(&batch, Durability::Durable).unwrap();
    }
}
