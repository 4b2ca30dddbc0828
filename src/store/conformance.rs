//! What every backend must do, run on each of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::checked::Backend;
use super::record::flat_key;
use super::redb::Redb;
use super::sled::Sled;
use super::{Changed, Durability, KEY_BYTES_MAX, Memory, Store, StoreError, StoreKind, open};
use crate::engine::persist::{Tree, WriteBatch};

/// A disk that outlives the stores opened on it.
struct Disk {
    kind: StoreKind,
    dir: tempfile::TempDir,
    memory: Memory,
}

impl Disk {
    fn new(kind: StoreKind) -> Self {
        Self { kind, dir: tempfile::tempdir().unwrap(), memory: Memory::new() }
    }

    fn open(&self) -> Box<dyn Store> {
        match self.kind {
            StoreKind::Memory => self.memory.open().unwrap(),
            kind => open(self.dir.path(), kind).unwrap(),
        }
    }

    /// The disk without the checks.
    fn raw(&self) -> Box<dyn Backend> {
        let dir = self.dir.path().join("store");
        match self.kind {
            StoreKind::Memory => self.memory.raw(),
            StoreKind::Sled => Box::new(Sled::open(&dir).unwrap()),
            StoreKind::Redb => Box::new(Redb::open(&dir).unwrap()),
        }
    }

    /// Flips the first bit of a stored value behind the store's back.
    fn flip(&self, tree: Tree, key: &[u8]) {
        let mut backend = self.raw();
        let key = flat_key(tree, key);
        let mut sealed = backend.read(&key).unwrap().unwrap();
        sealed[8] ^= 1;
        backend.write(&[(key, Some(sealed))].into(), Durability::Durable).unwrap();
    }
}

type Records = Vec<(Vec<u8>, Vec<u8>)>;

fn all(store: &dyn Store, tree: Tree, from: &[u8]) -> Records {
    let mut records = Vec::new();
    store
        .range(tree, from, &mut |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    records
}

fn pairs(pairs: &[(&str, &str)]) -> Records {
    pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

fn a_batch_spans_trees_and_its_last_write_counts(disk: &Disk) {
    let mut store = disk.open();
    let mut batch = WriteBatch::default();
    for tree in Tree::ALL {
        batch.put(tree, "key", tree.name());
    }
    batch.put(Tree::Meta, "twice", vec![1; 100_000]);
    batch.put(Tree::Meta, "twice", "last");
    batch.put(Tree::Meta, "gone", "x");
    batch.remove(Tree::Meta, "gone");
    store.apply(&batch, Durability::Durable).unwrap();
    for tree in Tree::ALL {
        assert_eq!(store.get(tree, b"key").unwrap().as_deref(), Some(tree.name().as_bytes()));
    }
    assert_eq!(all(&*store, Tree::Meta, b""), pairs(&[("key", "meta"), ("twice", "last")]));
    assert_eq!(all(&*store, Tree::Cells, b""), pairs(&[("key", "cells")]));
    store.apply(&WriteBatch::default(), Durability::Durable).unwrap();
}

fn ranges_are_in_key_order_and_stop_when_told(disk: &Disk) {
    let mut store = disk.open();
    assert_eq!(all(&*store, Tree::Cells, b""), []);
    let mut batch = WriteBatch::default();
    for key in ["b", "", "a", "ab", "b\0", "\u{ff}"] {
        batch.put(Tree::Outbox, key, key);
        batch.put(Tree::Cells, "other", "tree");
    }
    batch.put(Tree::Outbox, [0xff, 0xff], "ff");
    store.apply(&batch, Durability::Buffered).unwrap();
    let keys = |from: &[u8]| all(&*store, Tree::Outbox, from).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let sorted: [&[u8]; 7] = [b"", b"a", b"ab", b"b", b"b\0", "\u{ff}".as_bytes(), &[0xff, 0xff]];
    assert_eq!(keys(b""), sorted);
    assert_eq!(keys(b"ab"), sorted[2..]);
    assert_eq!(keys(b"aa"), sorted[2..]);
    assert_eq!(keys(&[0xff, 0xff, 0]), Vec::<Vec<u8>>::new());
    let mut seen = 0;
    let stop_at_two = &mut |_: &[u8], _: &[u8]| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.range(Tree::Outbox, b"", stop_at_two).unwrap();
    assert_eq!(seen, 2);
}

fn removed_keys_are_gone(disk: &Disk) {
    let mut store = disk.open();
    let mut batch = WriteBatch::default();
    batch.put(Tree::Cells, "keep", "1");
    batch.put(Tree::Cells, "drop", vec![1; 50_000]);
    store.apply(&batch, Durability::Durable).unwrap();
    let mut batch = WriteBatch::default();
    batch.remove(Tree::Cells, "drop");
    batch.remove(Tree::Cells, "never was");
    store.apply(&batch, Durability::Durable).unwrap();
    drop(store);
    let store = disk.open();
    assert_eq!(store.get(Tree::Cells, b"drop").unwrap(), None);
    assert_eq!(all(&*store, Tree::Cells, b""), pairs(&[("keep", "1")]));
}

fn reopening_keeps_durable_writes_and_those_before(disk: &Disk) {
    for round in 0..5u8 {
        let mut store = disk.open();
        for earlier in 0..round {
            assert_eq!(store.get(Tree::Meta, &[earlier, 0]).unwrap(), Some(vec![earlier]));
            assert_eq!(store.get(Tree::Meta, &[earlier, 1]).unwrap(), Some(vec![earlier]));
        }
        for (step, durability) in [(0, Durability::Buffered), (1, Durability::Durable)] {
            let mut batch = WriteBatch::default();
            batch.put(Tree::Meta, [round, step], [round]);
            store.apply(&batch, durability).unwrap();
        }
        disk.memory.crash();
    }
}

fn sizes_from_nothing_to_a_mebibyte(disk: &Disk) {
    let mut store = disk.open();
    let sizes = [0usize, 1, 16_375, 16_376, 16_377, 32_768, 65_535, 1 << 20, (1 << 20) + 1];
    let value = |size: usize| (0..size).map(|i| (i * 31 + size) as u8).collect::<Vec<u8>>();
    for size in sizes {
        let mut batch = WriteBatch::default();
        batch.put(Tree::Checkpoints, size.to_be_bytes(), value(size));
        store.apply(&batch, Durability::Durable).unwrap();
    }
    let mut batch = WriteBatch::default();
    batch.put(Tree::Meta, "", "");
    batch.put(Tree::Meta, vec![9; KEY_BYTES_MAX], "long key");
    store.apply(&batch, Durability::Durable).unwrap();
    drop(store);
    let store = disk.open();
    for size in sizes {
        assert!(store.get(Tree::Checkpoints, &size.to_be_bytes()).unwrap() == Some(value(size)), "{size}");
    }
    let ranged = all(&*store, Tree::Checkpoints, b"");
    assert!(ranged == sizes.map(|size| (size.to_be_bytes().to_vec(), value(size))));
    assert_eq!(store.get(Tree::Meta, b"").unwrap(), Some(Vec::new()));
    assert_eq!(store.get(Tree::Meta, &[9; KEY_BYTES_MAX]).unwrap().as_deref(), Some(&b"long key"[..]));
    assert!(store.size_bytes().unwrap() > 2 << 20);
}

fn a_key_too_long_is_refused_with_its_whole_batch(disk: &Disk) {
    let mut store = disk.open();
    let mut batch = WriteBatch::default();
    batch.put(Tree::Meta, "short", "1");
    batch.put(Tree::Meta, vec![9; KEY_BYTES_MAX + 1], "2");
    let error = store.apply(&batch, Durability::Durable).unwrap_err();
    assert!(matches!(error, StoreError::KeyTooLong { len } if len == KEY_BYTES_MAX + 1));
    assert_eq!(error.changed(), Changed::Nothing);
    assert_eq!(store.get(Tree::Meta, b"short").unwrap(), None);
}

/// Random writes beside a plain map, reopened now and then.
fn a_store_agrees_with_a_map(disk: &Disk) {
    let mut store = disk.open();
    let mut model: BTreeMap<(Tree, Vec<u8>), Vec<u8>> = BTreeMap::new();
    let mut random = Random(7);
    for step in 0..300u32 {
        let mut batch = WriteBatch::default();
        for _ in 0..random.below(20) {
            let tree = Tree::ALL[random.below(Tree::ALL.len())];
            let key = format!("key-{}", random.below(500)).into_bytes();
            if random.below(3) == 0 {
                model.remove(&(tree, key.clone()));
                batch.remove(tree, key);
            } else {
                // Now and then a value of several parts.
                let len = if random.below(30) == 0 { random.below(60_000) } else { random.below(200) };
                let value = vec![step as u8; len];
                model.insert((tree, key.clone()), value.clone());
                batch.put(tree, key, value);
            }
        }
        store.apply(&batch, if step % 8 == 0 { Durability::Durable } else { Durability::Buffered }).unwrap();
        if step % 50 == 49 {
            store.apply(&WriteBatch::default(), Durability::Durable).unwrap();
            drop(store);
            store = disk.open();
        }
    }
    for tree in Tree::ALL {
        let expected: Records = model
            .iter()
            .filter(|((t, _), _)| *t == tree)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert!(all(&*store, tree, b"") == expected, "{}", tree.name());
        assert!(!expected.is_empty());
    }
}

fn many_keys_come_back_in_order(disk: &Disk) {
    let mut store = disk.open();
    for chunk in 0..20u32 {
        let mut batch = WriteBatch::default();
        for key in 0..1000u32 {
            batch.put(Tree::Cells, (key * 20 + chunk).to_be_bytes(), key.to_le_bytes());
        }
        store.apply(&batch, Durability::Durable).unwrap();
    }
    drop(store);
    let records = all(&*disk.open(), Tree::Cells, b"");
    assert_eq!(records.len(), 20_000);
    assert!(
        records
            .iter()
            .zip(0u32..)
            .all(|((key, value), i)| key[..] == i.to_be_bytes() && value[..] == (i / 20).to_le_bytes())
    );
}

fn a_flipped_bit_in_a_record_is_damage(disk: &Disk) {
    let mut store = disk.open();
    let mut batch = WriteBatch::default();
    for key in ["a", "b", "c"] {
        batch.put(Tree::Cells, key, vec![1; 20_000]);
    }
    store.apply(&batch, Durability::Durable).unwrap();
    drop(store);
    disk.flip(Tree::Cells, b"b");
    let store = disk.open();
    assert!(store.get(Tree::Cells, b"a").is_ok_and(|value| value.is_some()));
    let error = store.get(Tree::Cells, b"b").unwrap_err();
    assert!(matches!(&error, StoreError::Damaged { what } if what.contains("`b` of cells")), "{error}");
    let mut seen = Vec::new();
    let result = store.range(Tree::Cells, b"", &mut |key, _| {
        seen.push(key.to_vec());
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(StoreError::Damaged { .. })));
    assert_eq!(seen, [b"a"]);
}

fn a_record_that_is_missing_is_damage(disk: &Disk) {
    let mut store = disk.open();
    let mut batch = WriteBatch::default();
    for key in ["a", "b", "c"] {
        batch.put(Tree::Cells, key, key);
        batch.put(Tree::Meta, key, key);
    }
    store.apply(&batch, Durability::Durable).unwrap();
    drop(store);
    disk.raw().write(&[(flat_key(Tree::Cells, b"b"), None)].into(), Durability::Durable).unwrap();
    let store = disk.open();
    assert_eq!(all(&*store, Tree::Meta, b"").len(), 3);
    // A part of a tree proves nothing.
    assert_eq!(all(&*store, Tree::Cells, b"a").len(), 2);
    let result = store.range(Tree::Cells, b"", &mut |_, _| ControlFlow::Continue(()));
    assert!(matches!(&result, Err(StoreError::Damaged { what }) if what.contains("2 records")), "{result:?}");
}

/// Numbers from a seed (splitmix64).
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }
}

macro_rules! conformance {
    ($($claim:ident)*) => {
        mod memory { $(#[test] fn $claim() { super::$claim(&super::Disk::new(super::StoreKind::Memory)); })* }
        mod sled { $(#[test] fn $claim() { super::$claim(&super::Disk::new(super::StoreKind::Sled)); })* }
        mod redb { $(#[test] fn $claim() { super::$claim(&super::Disk::new(super::StoreKind::Redb)); })* }
    };
}

conformance! {
    a_batch_spans_trees_and_its_last_write_counts
    ranges_are_in_key_order_and_stop_when_told
    removed_keys_are_gone
    reopening_keeps_durable_writes_and_those_before
    sizes_from_nothing_to_a_mebibyte
    a_key_too_long_is_refused_with_its_whole_batch
    a_store_agrees_with_a_map
    many_keys_come_back_in_order
    a_flipped_bit_in_a_record_is_damage
    a_record_that_is_missing_is_damage
}
