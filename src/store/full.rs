//! A disk that really fills up. By hand, as root:
//! `mount -t tmpfs -o size=192m tmpfs /mnt/small && FOLKMOOT_SMALL_DISK=/mnt/small cargo test --lib store::full -- --ignored`.

use std::fs;
use std::path::{Path, PathBuf};

use super::checked::{Backend, Checked};
use super::redb::Redb;
use super::sled::Sled;
use super::{Changed, Durability, Store, StoreError, StoreKind, open};
use crate::engine::persist::{Tree, WriteBatch};

#[test]
#[ignore = "needs a small disk of its own"]
fn a_full_disk_takes_writes_again_when_there_is_room() {
    let Ok(disk) = std::env::var("FOLKMOOT_SMALL_DISK") else { return };
    for kind in [StoreKind::Sled, StoreKind::Redb] {
        for reserve in [true, false] {
            let dir = tempfile::tempdir_in(&disk).unwrap();
            let ballast = dir.path().join("ballast");
            fs::write(&ballast, vec![1; 64 << 20]).unwrap();
            let mut store: Box<dyn Store> = if reserve {
                open(dir.path(), kind).unwrap()
            } else {
                fs::create_dir(dir.path().join("store")).unwrap();
                Box::new(without_reserve(dir.path().join("store"), kind))
            };
            let (written, error) = fill(&mut *store, 0);
            println!("{kind}, reserve {reserve}: full after {written} batches: {error}");
            assert!(written > 3);
            assert!(matches!(error, StoreError::Full { .. }), "{error}");
            assert_eq!(error.changed() == Changed::Nothing, reserve);
            if reserve {
                check(&*store, written);
            }
            fs::remove_file(&ballast).unwrap();
            let (more, _) = fill_some(&mut *store, written, 5);
            assert_eq!(more, written + 5);
            check(&*store, more);
            drop(store);
            let store: Box<dyn Store> = if reserve {
                open(dir.path(), kind).unwrap()
            } else {
                Box::new(without_reserve(dir.path().join("store"), kind))
            };
            check(&*store, more);
        }
    }
}

fn without_reserve(dir: PathBuf, kind: StoreKind) -> Checked {
    let opener = move || -> Result<Box<dyn Backend>, StoreError> { open_raw(&dir, kind) };
    Checked::open(Box::new(opener), None).unwrap()
}

fn open_raw(dir: &Path, kind: StoreKind) -> Result<Box<dyn Backend>, StoreError> {
    Ok(if kind == StoreKind::Sled { Box::new(Sled::open(dir)?) } else { Box::new(Redb::open(dir)?) })
}

fn fill(store: &mut dyn Store, first: u32) -> (u32, StoreError) {
    let (written, error) = fill_some(store, first, 1000);
    (written, error.expect("the disk is too large for this test"))
}

fn fill_some(store: &mut dyn Store, first: u32, count: u32) -> (u32, Option<StoreError>) {
    for n in first..first + count {
        let mut batch = WriteBatch::default();
        for part in 0..16u32 {
            batch.put(Tree::Cells, [n.to_be_bytes(), part.to_be_bytes()].concat(), vec![n as u8; 20_000]);
        }
        if let Err(error) = store.apply(&batch, Durability::Durable) {
            return (n, Some(error));
        }
    }
    (first + count, None)
}

fn check(store: &dyn Store, batches: u32) {
    let mut seen = 0;
    store
        .range(Tree::Cells, b"", &mut |key, value| {
            assert!(value == vec![key[3]; 20_000]);
            seen += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, batches * 16);
}
