//! Bits flipped anywhere in a store's files. Whatever happens, no panic gets out, no value is wrong,
//! and nothing is missing without a word.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::conformance::Random;
use super::{Durability, OpenError, StoreError, StoreKind, open, quarantine, salvage};
use crate::engine::persist::{Tree, WriteBatch};

const RECORDS: u32 = 3000;
const BATCH: u32 = 100;

#[test]
fn flipped_bits_never_make_a_wrong_value_in_sled() {
    hurt(StoreKind::Sled);
}

#[test]
fn flipped_bits_never_make_a_wrong_value_in_redb() {
    hurt(StoreKind::Redb);
}

/// More seeds by hand: `FOLKMOOT_DAMAGE_SEEDS=300`.
fn hurt(kind: StoreKind) {
    let seeds = std::env::var("FOLKMOOT_DAMAGE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(30);
    let template = tempfile::tempdir().unwrap();
    fill(template.path(), kind);
    let mut outcomes = Outcomes::default();
    for seed in 0..seeds {
        let dir = tempfile::tempdir().unwrap();
        copy(template.path(), dir.path());
        flip(&dir.path().join("store"), seed);
        // A damaged store may also send its backend round in circles; a test that hangs says nothing.
        let (sender, receiver) = mpsc::channel();
        let path = dir.path().to_owned();
        let reader = std::thread::spawn(move || sender.send(read(&path, kind)));
        let outcome = receiver.recv_timeout(Duration::from_secs(120));
        match outcome {
            Ok(outcome) => outcomes.count(outcome),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("seed {seed} on {kind}: no end"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                std::panic::resume_unwind(reader.join().unwrap_err());
            }
        }
    }
    println!("{kind}, {seeds} seeds: {outcomes:?}");
    assert_eq!(outcomes.refused + outcomes.damaged + outcomes.unhurt, seeds);
    assert!(outcomes.refused + outcomes.damaged > 0, "no seed hurt anything: {outcomes:?}");
}

#[derive(Debug, Default)]
struct Outcomes {
    refused: u64,
    damaged: u64,
    unhurt: u64,
}

impl Outcomes {
    fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Refused => &mut self.refused,
            Outcome::Damaged => &mut self.damaged,
            Outcome::Unhurt => &mut self.unhurt,
        } += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Unhurt,
    Damaged,
    Refused,
}

fn value(key: u32) -> Vec<u8> {
    let len = if key.is_multiple_of(500) { 40_000 } else { 100 };
    blake3::hash(&key.to_be_bytes()).as_bytes().iter().copied().cycle().take(len).collect()
}

fn tree(key: u32) -> Tree {
    Tree::ALL[key as usize % Tree::ALL.len()]
}

fn fill(data_dir: &Path, kind: StoreKind) {
    let mut store = open(data_dir, kind).unwrap();
    for first in (0..RECORDS).step_by(BATCH as usize) {
        let mut batch = WriteBatch::default();
        for key in first..first + BATCH {
            batch.put(tree(key), key.to_be_bytes(), value(key));
        }
        store.apply(&batch, Durability::Durable).unwrap();
    }
}

/// Opens, reads everything both ways, writes; asserts that what came back is right.
fn read(data_dir: &Path, kind: StoreKind) -> Outcome {
    let mut store = match open(data_dir, kind) {
        Ok(store) => store,
        Err(OpenError::Damaged { .. } | OpenError::NewerFormat { .. }) => {
            check_salvage(data_dir, kind);
            return Outcome::Refused;
        }
        Err(error) => panic!("{error}"),
    };
    let (mut outcome, mut found) = (Outcome::Unhurt, 0);
    let mut damaged = |error: StoreError| match error {
        StoreError::Damaged { .. } => outcome = Outcome::Damaged,
        error => panic!("{error}"),
    };
    for tree in Tree::ALL {
        let ranged = store.range(tree, b"", &mut |key, value| {
            found += 1;
            check(tree, key, value);
            ControlFlow::Continue(())
        });
        ranged.unwrap_or_else(&mut damaged);
    }
    for key in 0..RECORDS {
        match store.get(tree(key), &key.to_be_bytes()) {
            Ok(value) => value.iter().for_each(|value| check(tree(key), &key.to_be_bytes(), value)),
            Err(error) => damaged(error),
        }
    }
    let mut batch = WriteBatch::default();
    (0..RECORDS).step_by(7).for_each(|key| batch.put(tree(key), key.to_be_bytes(), value(key)));
    store.apply(&batch, Durability::Durable).unwrap_or_else(&mut damaged);
    drop(store);
    if outcome == Outcome::Damaged {
        check_salvage(data_dir, kind);
    }
    if outcome == Outcome::Unhurt {
        assert_eq!(found, RECORDS, "records are missing without a word");
    }
    outcome
}

fn check(found_in: Tree, key: &[u8], found: &[u8]) {
    let key = u32::from_be_bytes(key.try_into().unwrap());
    assert!(found_in == tree(key) && found == value(key), "record {key} is wrong");
}

/// Salvage finds right records or says that it cannot.
fn check_salvage(data_dir: &Path, kind: StoreKind) {
    let aside = quarantine(data_dir, "bits flipped").unwrap();
    for tree in Tree::ALL {
        let mut good = 0;
        let salvaged = salvage(&aside, kind, tree, &mut |key, value| {
            good += 1;
            check(tree, key, value);
        });
        match salvaged {
            Ok(salvaged) => assert_eq!(salvaged.good, good),
            Err(OpenError::Damaged { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// One to four bits, or a page of zeros, somewhere in the files.
fn flip(store: &Path, seed: u64) {
    let mut random = Random(seed);
    let files = files(store);
    let total: usize = files.iter().map(|file| fs::metadata(file).unwrap().len() as usize).sum();
    for _ in 0..1 + random.below(4) {
        // Small files hold what matters most; let them have their share.
        let file = if random.below(4) == 0 {
            &files[random.below(files.len())]
        } else {
            let mut at = random.below(total);
            files
                .iter()
                .find(|file| {
                    let len = fs::metadata(file).unwrap().len() as usize;
                    let here = at < len;
                    at = at.saturating_sub(len);
                    here
                })
                .unwrap()
        };
        let mut bytes = fs::read(file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        // Most of a file may be empty space; what is in use is what can be hurt.
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        let at = if used.is_empty() { random.below(bytes.len()) } else { used[random.below(used.len())] };
        if random.below(8) == 0 {
            let page = at / 4096 * 4096;
            let end = bytes.len().min(page + 4096);
            bytes[page..end].fill(0);
        } else {
            bytes[at] ^= 1 << random.below(8);
        }
        fs::write(file, bytes).unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
