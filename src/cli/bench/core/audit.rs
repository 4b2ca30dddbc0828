//! The audit: appending, verifying, asking.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bench::{Bench, Case, Target};
use crate::clock::NodeId;
use crate::engine::keys::{Ed25519, Keys};
use crate::history::audit::chain::ANCHOR_RECORDS;
use crate::history::audit::survey::Window;
use crate::history::audit::{Anchor, Chain, Entry, Index, Kind, Query, RecordRef, Row, Survey, export, import, verify};

/// Records of a chain: what a query walks over, 14 MB of rows. Ten times as many take ten times as long.
const RECORDS: usize = 100_000;
const DOCUMENTS: usize = 1_000;

/// A signed chain, as it is stored.
struct Audit {
    keys: Ed25519,
    chain: Chain,
    rows: Vec<Row>,
    anchors: Vec<Anchor>,
}

pub fn measure(bench: &mut dyn Bench) {
    let entries: Vec<Entry> = (0..DOCUMENTS).map(entry).collect();
    bench.time(Case::new("append a record", Target::None), &mut |n| {
        let mut chain = Chain::new(NodeId([1; 32]));
        let start = Instant::now();
        for (at, entry) in (0..n).zip(entries.iter().cycle()) {
            black_box(chain.append(entry));
            chain.stored(at);
        }
        start.elapsed()
    });
    let audit = Audit::of(&entries);
    verifying(bench, &audit);
    asking(bench, &audit);
}

fn verifying(bench: &mut dyn Bench, audit: &Audit) {
    let check = |node: &NodeId, message: &[u8; 32], signature: &[u8; 64]| audit.keys.verify(node, message, signature);
    let (node, rows) = (audit.keys.node(), || audit.rows.iter().map(|row| (&row.key, &row.bytes)));
    let took = timed(|| drop(black_box(verify(node, rows(), &[], &check))));
    bench.value(Case::new("verify a chain", Target::None), "records/s", per_second(took));
    let took = timed(|| drop(black_box(verify(node, rows(), &audit.anchors, &check))));
    bench.value(Case::new("verify it against an anchor every 256", Target::None), "records/s", per_second(took));
    let mut lines: Vec<String> = Vec::with_capacity(RECORDS);
    let took = timed(|| lines.extend(export(node, rows(), &audit.anchors).filter_map(Result::ok)));
    bench.value(Case::new("export", Target::None), "records/s", per_second(took));
    let took = timed(|| drop(black_box(import(&lines, &[], &check, &mut |row| drop(black_box(row))))));
    bench.value(Case::new("import", Target::None), "records/s", per_second(took));
}

fn asking(bench: &mut dyn Bench, audit: &Audit) {
    let records = || audit.rows.iter().filter_map(|row| RecordRef::decode(&row.bytes).ok());
    let mut index = Index::default();
    let took = timed(|| records().for_each(|record| index.insert(&record)));
    bench.value(Case::new("index", Target::None), "records/s", per_second(took));
    let read = |at: u64| audit.rows.get(at as usize).map(|row| row.bytes.clone());
    let newest = Query { document: Some("vms/vm-7".into()), limit: 50, newest_first: true, ..Query::default() };
    let none = Query { document: Some("vms/none".into()), ..Query::default() };
    for (name, query) in [("newest 50 of a document", newest), ("query without a match", none)] {
        bench.time(Case::new(name, Target::None), &mut |n| {
            timed(|| (0..n).for_each(|_| drop(black_box(query.page(audit.chain.span(), &index, &read)))))
        });
    }
    let mut survey = Survey::new(Window::new(0, u64::MAX));
    let took = timed(|| records().for_each(|record| survey.add(&record)));
    black_box(survey.finish());
    bench.value(Case::new("survey of patterns", Target::None), "records/s", per_second(took));
}

impl Audit {
    fn of(entries: &[Entry]) -> Self {
        let keys = Ed25519::from_seed(&[1; 32]);
        let mut chain = Chain::new(keys.node());
        let (mut rows, mut anchors) = (Vec::with_capacity(RECORDS), Vec::new());
        for (at, entry) in (0..RECORDS as u64).zip(entries.iter().cycle()) {
            rows.push(chain.append(entry).row);
            chain.stored(at);
            if at % ANCHOR_RECORDS == ANCHOR_RECORDS - 1 {
                anchors.extend(chain.anchor(at, &|message| keys.sign(message)));
            }
        }
        Self { keys, chain, rows, anchors }
    }
}

fn entry(n: usize) -> Entry {
    let kind = if n.is_multiple_of(2) { Kind::Detected } else { Kind::Resolved };
    Entry::new(kind, "policy/vms", 1_700_000_000_000 + n as u64)
        .conflict(format!("c{n}"))
        .document(format!("vms/vm-{n}"))
        .field("power_state")
        .detail(json!({ "nodes": ["worker-1", "worker-2"], "strategy": "last_writer", "value": "running" }))
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn per_second(took: Duration) -> f64 {
    RECORDS as f64 / took.as_secs_f64()
}
