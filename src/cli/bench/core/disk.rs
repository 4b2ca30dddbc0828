//! Real disks: durable writes through a real node, and its start over a million cells.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use super::bench::{Bench, Case, Target};
use super::fixture::{self, Disk, Time};
use crate::document::Address;
use crate::engine::Now;
use crate::engine::persist::{Tree, WriteBatch};
use crate::node::{DocumentWrite, Durability, Missing, Node, WriteBody};
use crate::store::{self, StoreKind};

const KINDS: [StoreKind; 2] = [StoreKind::Sled, StoreKind::Redb];
const WRITING: Duration = Duration::from_secs(3);

pub fn measure(bench: &mut dyn Bench) {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else { return };
    for kind in KINDS {
        for (writers, target) in [(1, Target::None), (8, Target::None), (64, Target::AtLeast(20_000.0))] {
            let rate = durable_writes(&runtime, kind, writers);
            let name = format!("durable writes in process, {kind}, {writers} at once");
            bench.value(Case::new(name, target), "/s", rate);
        }
    }
    let rows = million_cells();
    for kind in KINDS {
        let seconds = restart(&runtime, kind, &rows);
        bench.value(Case::new(format!("start a node on 1 M cells, {kind}"), Target::AtMost(2.0)), "s", seconds);
    }
}

fn start(runtime: &Runtime, dir: &Path, kind: StoreKind) -> Node {
    let node = runtime.block_on(Node::builder().name("bench").data_dir(dir).store(kind).start());
    node.unwrap_or_else(|error| panic!("the node for the measurement does not start: {error}"))
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary directory: {error}"))
}

fn durable_writes(runtime: &Runtime, kind: StoreKind, writers: usize) -> f64 {
    let dir = temporary();
    let node = start(runtime, dir.path(), kind);
    let count = Arc::new(AtomicU64::new(0));
    let begin = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| runtime.spawn(write_durably(node.clone(), writer, begin + WRITING, count.clone())))
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap_or_else(|error| panic!("{error}"));
    }
    let rate = count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    runtime.block_on(node.shutdown());
    rate
}

async fn write_durably(node: Node, writer: usize, until: Instant, count: Arc<AtomicU64>) {
    let mut n = 0u64;
    while Instant::now() < until {
        n += 1;
        let Ok(address) = Address::parse(&format!("bench/w-{writer}-{}", n % 100)) else { return };
        let fields = json!({ "text": format!("{n:0100}") });
        let fields = if let Json::Object(fields) = fields { fields } else { Default::default() };
        let body = WriteBody::Put(fields);
        let write = DocumentWrite { address, body, if_match: None, create_only: false, missing: Missing::Create };
        let written = node.write(vec![write], Durability::Local).await;
        written.unwrap_or_else(|error| panic!("a write for the measurement failed: {error}"));
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// The rows of a replica that holds a million cells.
fn million_cells() -> Vec<Arc<WriteBatch>> {
    let (time, (mut disk, rows)) = (Time::start(), Disk::keeping());
    let mut replica = fixture::replica(1, fixture::state(50_000, 20), time.now());
    let _ = replica.announce_self(&[], "", time.now());
    let now = time.now();
    disk.serve(&mut replica, now, drop);
    // By then it has answered.
    disk.serve(&mut replica, Now { mono_us: now.mono_us + 10_000, ..now }, drop);
    rows.try_iter().collect()
}

fn restart(runtime: &Runtime, kind: StoreKind, rows: &[Arc<WriteBatch>]) -> f64 {
    let dir = temporary();
    let mut store = store::open(dir.path(), kind).unwrap_or_else(|error| panic!("{error}"));
    let mut cluster = WriteBatch::default();
    cluster.put(Tree::Meta, b"cluster".as_slice(), fixture::CLUSTER.0);
    for part in rows.iter().flat_map(|rows| rows.writes.chunks(10_000)) {
        let part = WriteBatch { writes: part.to_vec() };
        store.apply(&part, store::Durability::Buffered).unwrap_or_else(|error| panic!("{error}"));
    }
    store.apply(&cluster, store::Durability::Durable).unwrap_or_else(|error| panic!("{error}"));
    drop(store);
    let begin = Instant::now();
    let node = start(runtime, dir.path(), kind);
    let seconds = begin.elapsed().as_secs_f64();
    let there = node.read(&match Address::parse(&fixture::document(49_999)) {
        Ok(address) => address,
        Err(error) => panic!("{error}"),
    });
    assert!(there.document.is_some(), "the last document is there");
    runtime.block_on(node.shutdown());
    seconds
}
