//! kill -9 between and during applies: every batch is there whole or not at all, and no durable one is missing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::conformance::Random;
use super::{Durability, Store, StoreKind, open};
use crate::engine::persist::{Tree, WriteBatch};

#[test]
fn a_killed_sled_store_keeps_whole_batches() {
    kill_often(StoreKind::Sled);
}

#[test]
fn a_killed_redb_store_keeps_whole_batches() {
    kill_often(StoreKind::Redb);
}

/// More rounds by hand: `FOLKMOOT_CRASH_ROUNDS=100`.
fn kill_often(kind: StoreKind) {
    let rounds = std::env::var("FOLKMOOT_CRASH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(rounds);
    let (mut durable, mut beyond) = (0, 0);
    for round in 0..rounds {
        let acknowledged = run_and_kill(dir.path(), kind, random.below(60), random.below(5000) as u64);
        durable = acknowledged.unwrap_or(durable);
        let found = generation(&*open(dir.path(), kind).unwrap());
        assert!(found >= durable, "{kind}, round {round}: {found} on disk, {durable} acknowledged");
        beyond += u64::from(found > durable);
    }
    assert!(durable > 0);
    println!("{kind}: {rounds} kills, {durable} batches acknowledged, in {beyond} rounds a later one was on disk too");
}

/// Lets a child write until it has acknowledged some batches, then kills it. Returns the last one acknowledged.
fn run_and_kill(dir: &Path, kind: StoreKind, batches: usize, delay_us: u64) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::crash::writes_until_killed", "--ignored", "--nocapture"])
        .env(CHILD, dir)
        .env(CHILD_KIND, kind.name())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("durable ")?.parse().ok());
    let mut last = (&mut lines).take(batches + 1).last();
    // Somewhere in one of the next applies.
    std::thread::sleep(Duration::from_micros(delay_us));
    child.kill().unwrap();
    // What it had still said before it died was acknowledged too.
    last = lines.last().or(last);
    child.wait().unwrap();
    last
}

const CHILD: &str = "FOLKMOOT_CRASH_CHILD_DIR";
const CHILD_KIND: &str = "FOLKMOOT_CRASH_CHILD_KIND";

/// The child's half; does nothing when run by hand.
#[test]
#[ignore = "run by the tests above in a process of its own"]
fn writes_until_killed() {
    let (Ok(dir), Ok(kind)) = (std::env::var(CHILD), std::env::var(CHILD_KIND)) else { return };
    let mut store = open(Path::new(&dir), kind.parse().unwrap()).unwrap();
    let mut out = std::io::stdout();
    for n in generation(&*store) + 1.. {
        let durability = if n.is_multiple_of(3) { Durability::Buffered } else { Durability::Durable };
        store.apply(&batch(n), durability).unwrap();
        if durability == Durability::Durable {
            writeln!(out, "\ndurable {n}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// What a store holds, for cuts made outside: run the child on a disk image, stop it, copy the image, ask the copy.
#[test]
#[ignore = "run by hand on a copy of a disk"]
fn says_what_is_there() {
    let (Ok(dir), Ok(kind)) = (std::env::var(CHILD), std::env::var(CHILD_KIND)) else { return };
    println!("\ngeneration {}", generation(&*open(Path::new(&dir), kind.parse().unwrap()).unwrap()));
}

const KEYS: u64 = 40;

/// Writes the number of the batch all over the store; some values are long, some keys come and go.
fn batch(n: u64) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for key in 0..KEYS {
        batch.put(tree(key), key.to_be_bytes(), value(n, key));
    }
    batch.put(Tree::History, n.to_be_bytes(), n.to_be_bytes());
    batch.remove(Tree::History, (n - 1).to_be_bytes());
    batch
}

fn tree(key: u64) -> Tree {
    [Tree::Cells, Tree::Outbox, Tree::Meta, Tree::Audit, Tree::Checkpoints][key as usize % 5]
}

fn value(n: u64, key: u64) -> Vec<u8> {
    let len = match (n + key) % 20 {
        0 => 50_000,
        rest => 8 + rest as usize * 10,
    };
    n.to_be_bytes().into_iter().cycle().take(len).collect()
}

/// The number of the last batch on disk; asserts that it is there whole and nothing of the one before.
fn generation(store: &dyn Store) -> u64 {
    let Some(first) = store.get(tree(0), &0u64.to_be_bytes()).unwrap() else { return 0 };
    let n = u64::from_be_bytes(first[..8].try_into().unwrap());
    for key in 0..KEYS {
        let found = store.get(tree(key), &key.to_be_bytes()).unwrap();
        assert!(found == Some(value(n, key)), "batch {n} is torn at key {key}");
    }
    assert!(store.get(Tree::History, &n.to_be_bytes()).unwrap().is_some());
    assert!(store.get(Tree::History, &(n - 1).to_be_bytes()).unwrap().is_none());
    n
}
