//! A store with flipped bits is never taken for data.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Cluster, DIGESTS_TIMEOUT, until};

const INTEGRITY: i32 = 8;
const DOCUMENTS: usize = 400;

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// One flipped bit in each KiB of the store's largest file, which is where the records are.
fn flip_bits(store: &Path) {
    let largest = files(store).into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    bytes.iter_mut().skip(517).step_by(1024).for_each(|byte| *byte ^= 0x10);
    fs::write(&largest, bytes).unwrap();
}

/// One flipped bit in each place where a value lies, and nothing else: no page, no length, no pointer is wrong.
fn flip_a_bit_of(value: &str, store: &Path) {
    let mut flipped = 0;
    for file in files(store) {
        let mut bytes = fs::read(&file).unwrap();
        let places: Vec<usize> = bytes
            .windows(value.len())
            .enumerate()
            .filter(|(_, at)| *at == value.as_bytes())
            .map(|(at, _)| at)
            .collect();
        places.iter().for_each(|at| bytes[at + value.len() / 2] ^= 1);
        flipped += places.len();
        fs::write(&file, bytes).unwrap();
    }
    assert!(flipped > 0, "`{value}` is not in the store as it was written");
}

fn set_aside(data_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("store.damaged-")).collect()
}

async fn fill(cluster: &Cluster, node: usize) {
    let put = |n| json!({ "op": "put", "collection": "vms", "id": format!("vm-{n:04}"), "fields": { "n": n } });
    let writes: Vec<Value> = (0..DOCUMENTS).map(put).collect();
    cluster[node].http.ask("POST", "/v1/batch", &[], json!({ "writes": writes })).await.ok();
    cluster[node].http.incr("fleet/totals", "requests", 7).await.ok();
    cluster.agree().await;
}

#[tokio::test]
async fn a_damaged_sled_store_is_set_aside_and_rebuilt_from_peers() {
    rebuilt("sled").await;
}

#[tokio::test]
async fn a_damaged_redb_store_is_set_aside_and_rebuilt_from_peers() {
    rebuilt("redb").await;
}

async fn rebuilt(store: &str) {
    let mut cluster = Cluster::start_on(&["sled", store]).await;
    fill(&cluster, 1).await;
    cluster[1].stop().await;
    let data_dir = cluster[1].launch.data_dir.clone();
    flip_bits(&data_dir.join("store"));

    cluster.restart(1).await;
    let aside = set_aside(&data_dir);
    assert_eq!(aside.len(), 1, "{aside:?}");
    let reason = fs::read_to_string(aside[0].join("REASON.txt")).unwrap();
    assert!(reason.trim().len() > 10, "{reason}");
    assert!(files(&aside[0]).len() > 1, "the damaged files are kept");
    let words = cluster[1].stderr();
    assert!(words.contains("the store is damaged: set aside, rebuilding from peers"), "{words}");
    assert!(words.contains(reason.trim()), "{words}");

    until("the rebuilt node is ready", DIGESTS_TIMEOUT, async || {
        let ready = cluster[1].http.get("/readyz").await;
        if ready.status == 200 { Ok(()) } else { Err(ready.json().to_string()) }
    })
    .await;
    cluster.all_joined().await;
    cluster.agree().await;
    assert_eq!(cluster[1].http.list("vms").await.len(), DOCUMENTS);
    // It is the same member: it writes on, and its own counter shares are not counted twice.
    cluster[1].http.incr("fleet/totals", "requests", 1).await.ok();
    cluster.agree().await;
    for node in &cluster.nodes {
        assert_eq!(node.http.fields("fleet/totals").await, json!({ "requests": 8 }));
        assert_eq!(node.http.cluster().await["members"].as_array().unwrap().len(), 2);
    }
    on_record(&cluster, &aside[0], &reason).await;
    cluster[1].stop().await;
    cluster.restart(1).await;
    assert_eq!(set_aside(&data_dir).len(), 1, "the new store is whole");
    assert_eq!(cluster[1].http.list("vms").await.len(), DOCUMENTS);
}

/// The audit says once that the store was rebuilt, why, and what was read back.
async fn on_record(cluster: &Cluster, aside: &Path, reason: &str) {
    let page = cluster[1].http.get("/v1/audit?kind=damage").await.ok();
    let alarms = page["items"].as_array().unwrap().iter().map(|record| &record["detail"]);
    let rebuilt: Vec<&Value> = alarms.filter(|detail| detail["alarm"] == "store_rebuilt").collect();
    assert_eq!(rebuilt.len(), 1, "{page}");
    assert_eq!(rebuilt[0]["set_aside"], aside.file_name().unwrap().to_string_lossy().as_ref());
    let why = rebuilt[0]["reason"].as_str().unwrap();
    assert!(why.len() > 10 && reason.contains(why), "{why}");
    for tree in ["meta", "outbox", "audit"] {
        assert!(rebuilt[0]["read_back"][tree]["rows"].is_u64(), "{rebuilt:?}");
    }
}

#[tokio::test]
async fn a_damaged_store_without_peers_is_refused_and_left_where_it_is() {
    for store in ["sled", "redb"] {
        let mut cluster = Cluster::start_on(&[store]).await;
        fill(&cluster, 0).await;
        cluster[0].stop().await;
        let data_dir = cluster[0].launch.data_dir.clone();
        flip_bits(&data_dir.join("store"));
        for _ in 0..2 {
            let ended = cluster[0].launch.refused().await;
            let words = ended.failed(INTEGRITY);
            for part in ["is damaged", "--join", "nothing was changed"] {
                assert!(words.contains(part), "`{part}` is missing in: {words}");
            }
            assert_eq!(ended.stdout, "", "no ready line");
            assert!(set_aside(&data_dir).is_empty() && data_dir.join("store").join("FORMAT").exists());
        }
    }
}

#[tokio::test]
async fn one_flipped_bit_in_a_value_is_found_before_it_is_served() {
    const VALUE: &str = "the quick brown fox jumps over the lazy dog";
    for store in ["sled", "redb"] {
        let mut cluster = Cluster::start_on(&[store]).await;
        cluster[0].http.put("vms/fox", json!({ "text": VALUE })).await.ok();
        cluster[0].stop().await;
        let data_dir = cluster[0].launch.data_dir.clone();
        flip_a_bit_of(VALUE, &data_dir.join("store"));
        let ended = cluster[0].launch.refused().await;
        assert!(ended.failed(INTEGRITY).contains("is damaged"), "{store}: {ended:?}");
    }
}

#[tokio::test]
async fn a_damaged_key_is_refused_and_never_replaced() {
    let mut cluster = Cluster::start(1).await;
    cluster[0].stop().await;
    let key = cluster[0].launch.data_dir.join("node.key");
    let good = fs::read(&key).unwrap();
    let mut bad = good.clone();
    let digit = bad.iter().position(|byte| *byte == b' ').unwrap() + 5;
    bad[digit] = if bad[digit] == b'0' { b'1' } else { b'0' };
    fs::write(&key, &bad).unwrap();
    let ended = cluster[0].launch.refused().await;
    assert!(ended.failed(INTEGRITY).contains("node.key"), "{ended:?}");
    assert_eq!(fs::read(&key).unwrap(), bad);
    fs::write(&key, good).unwrap();
    cluster.restart(0).await;
}
