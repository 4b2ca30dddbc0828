//! Durable applies per second, printed by hand:
//! `cargo test --release --lib store::speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::{Durability, StoreKind, open};
use crate::engine::persist::{Tree, WriteBatch};

#[test]
#[ignore = "a measurement, not a test"]
fn durable_applies_per_second() {
    // On the disk of the target directory: a temporary directory may be in memory.
    let base = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    for kind in [StoreKind::Sled, StoreKind::Redb] {
        for (group, durability) in [
            (1, Durability::Durable),
            (64, Durability::Durable),
            (1000, Durability::Durable),
            (1, Durability::Buffered),
        ] {
            let dir = tempfile::tempdir_in(&base).unwrap();
            let mut store = open(dir.path(), kind).unwrap();
            let (start, mut applies, mut key) = (Instant::now(), 0u32, 0u64);
            while start.elapsed() < Duration::from_secs(4) {
                let mut batch = WriteBatch::default();
                for _ in 0..group {
                    key += 1;
                    let spread = blake3::hash(&(key % 100_000).to_be_bytes());
                    batch.put(Tree::Cells, &spread.as_bytes()[..16], vec![key as u8; 100]);
                }
                store.apply(&batch, durability).unwrap();
                applies += 1;
            }
            let rate = f64::from(applies) / start.elapsed().as_secs_f64();
            println!(
                "{kind:8} {durability:?} groups of {group:4}: {rate:8.0} applies/s, {:9.0} records/s",
                rate * group as f64
            );
        }
    }
}

#[test]
#[ignore = "a measurement, not a test"]
fn opening_a_million_records() {
    let base = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    for kind in [StoreKind::Sled, StoreKind::Redb] {
        let dir = tempfile::tempdir_in(&base).unwrap();
        let mut store = open(dir.path(), kind).unwrap();
        let start = Instant::now();
        for chunk in 0..1000u64 {
            let mut batch = WriteBatch::default();
            for key in chunk * 1000..(chunk + 1) * 1000 {
                batch.put(Tree::Cells, &blake3::hash(&key.to_be_bytes()).as_bytes()[..16], vec![key as u8; 100]);
            }
            store.apply(&batch, if chunk % 16 == 15 { Durability::Durable } else { Durability::Buffered }).unwrap();
        }
        store.apply(&WriteBatch::default(), Durability::Durable).unwrap();
        let filled = start.elapsed();
        drop(store);
        let start = Instant::now();
        let store = open(dir.path(), kind).unwrap();
        let opened = start.elapsed();
        let mut records = 0u32;
        store
            .range(Tree::Cells, b"", &mut |_, _| {
                records += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        let size = store.size_bytes().unwrap() >> 20;
        println!(
            "{kind:8} fill {filled:.1?}, open {opened:.2?}, open and scan {:.2?}, {records} records, {size} MiB",
            start.elapsed()
        );
    }
}
