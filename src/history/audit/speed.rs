//! What the audit costs. Run in release: `cargo test --release --no-default-features --lib audit::speed -- --ignored
//! --nocapture`.

use std::collections::BTreeMap;
use std::time::Instant;

use super::row::key_of;
use super::survey::Window;
use super::world::{Signer, check, entry};
use super::*;

const RECORDS: u64 = 1_000_000;

#[test]
#[ignore = "a measurement: a million records, seconds and 500 MB"]
fn a_million_records() {
    let signer = Signer::new(1);
    let entries: Vec<Entry> = (0..1_000).map(|n| Entry { document: Some(format!("vms/vm-{n}")), ..entry(n) }).collect();
    let mut chain = Chain::new(signer.node());
    let mut rows: Vec<Row> = Vec::with_capacity(RECORDS as usize);
    let mut anchors = Vec::new();
    let start = Instant::now();
    for n in 0..RECORDS {
        let appended = chain.append(&entries[n as usize % entries.len()]);
        rows.push(appended.row);
        chain.stored(n);
    }
    let took = start.elapsed();
    let bytes: usize = rows.iter().map(|row| row.bytes.len()).sum();
    println!(
        "append        {:>10.0} ns each, {} bytes a row",
        took.as_nanos() as f64 / RECORDS as f64,
        bytes as u64 / RECORDS
    );
    for at in (255..RECORDS).step_by(256) {
        let hash = RecordRef::decode(&rows[at as usize].bytes).unwrap().hash;
        anchors.push(Anchor::sign(signer.node(), at, hash, 0, &signer.sign()));
    }
    let stored = || rows.iter().map(|row| (&row.key, &row.bytes));

    let start = Instant::now();
    assert!(verify(signer.node(), stored(), &[], &check).is_whole());
    println!("verify        {:>10.0} records/s", RECORDS as f64 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    let report = verify(signer.node(), stored(), &anchors, &check);
    assert!(report.is_whole() && report.anchors == RECORDS / 256);
    println!("  + {} anchors {:>6.0} records/s", anchors.len(), RECORDS as f64 / start.elapsed().as_secs_f64());

    let start = Instant::now();
    let mut index = Index::default();
    rows.iter().for_each(|row| index.insert(&RecordRef::decode(&row.bytes).unwrap()));
    println!("index         {:>10.0} ns each", start.elapsed().as_nanos() as f64 / index.len() as f64);
    queries(&chain, &index, &rows);

    let start = Instant::now();
    let mut survey = Survey::new(Window::new(0, u64::MAX));
    rows.iter().for_each(|row| survey.add(&RecordRef::decode(&row.bytes).unwrap()));
    assert_eq!(survey.finish().records, RECORDS);
    println!("survey        {:>10.0} records/s", RECORDS as f64 / start.elapsed().as_secs_f64());
    lines(&signer, &rows[..100_000], &anchors[..300]);
}

fn queries(chain: &Chain, index: &Index, rows: &[Row]) {
    let read = |at: u64| rows.get(at as usize).map(|row| row.bytes.clone());
    let one = Query { document: Some("vms/vm-7".into()), ..Query::default() };
    let newest = Query { limit: 50, newest_first: true, ..one.clone() };
    let none = Query { document: Some("vms/none".into()), ..Query::default() };
    let prefix = Query { document_prefix: Some("vms/vm-99".into()), limit: 50, ..Query::default() };
    for (name, query) in [("one document", one), ("its newest 50", newest), ("no match", none), ("prefix, 50", prefix)]
    {
        let start = Instant::now();
        let page = query.page(chain.span(), index, &read);
        println!("query {name:<14} {:>8.2} ms, {} records", start.elapsed().as_secs_f64() * 1e3, page.records.len());
    }
}

fn lines(signer: &Signer, rows: &[Row], anchors: &[Anchor]) {
    let stored: BTreeMap<_, _> = rows.iter().map(|row| (&row.key, &row.bytes)).collect();
    assert_eq!(*rows[5].key, key_of(5));
    let start = Instant::now();
    let lines: Vec<String> = export(signer.node(), stored, anchors).collect::<Result<_, _>>().unwrap();
    println!("export        {:>10.0} records/s", rows.len() as f64 / start.elapsed().as_secs_f64());
    let start = Instant::now();
    import(&lines, &[], &check, &mut |_| {}).unwrap();
    println!("import        {:>10.0} records/s", rows.len() as f64 / start.elapsed().as_secs_f64());
}
