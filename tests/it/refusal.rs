//! What a node refuses to start on, with which exit code, and that nothing was changed by it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Cluster, run};

const DENIED: i32 = 6;
const USAGE: i32 = 2;

#[track_caller]
fn says(words: &str, parts: &[&str]) {
    for part in parts {
        assert!(words.contains(part), "`{part}` is missing in: {words}");
    }
}

#[tokio::test]
async fn a_second_process_on_one_data_dir_is_refused_and_the_first_goes_on() {
    let cluster = Cluster::start(1).await;
    let mut second = cluster[0].launch.clone();
    (second.api, second.listen) = ("127.0.0.1:0".to_owned(), "/ip4/127.0.0.1/tcp/0".to_owned());
    let words = second.refused().await.failed(DENIED).to_owned();
    says(&words, &["is in use by process", "node-0", "choose another data directory"]);
    cluster[0].http.put("vms/vm-1", json!({})).await.ok();
}

#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    let mut cluster = Cluster::start(1).await;
    cluster[0].stop().await;
    let key = cluster[0].launch.data_dir.join("node.key");
    let mode = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o640, 0o604, 0o666] {
        mode(open);
        let words = cluster[0].launch.refused().await.failed(DENIED).to_owned();
        says(&words, &["can be read by others", "chmod 600", "node.key"]);
    }
    mode(0o600);
    cluster.restart(0).await;
}

#[tokio::test]
async fn a_store_of_a_newer_format_or_another_kind_is_refused_and_left_alone() {
    let mut cluster = Cluster::start(1).await;
    cluster[0].http.put("vms/vm-1", json!({ "n": 1 })).await.ok();
    cluster[0].stop().await;
    let format = cluster[0].launch.data_dir.join("store").join("FORMAT");
    let written = std::fs::read_to_string(&format).unwrap();
    assert_eq!(written, "folkmoot-store 1 sled\n");
    std::fs::write(&format, "folkmoot-store 2 sled\n").unwrap();
    // Also where there would be peers to rebuild from: a newer store is whole, not damaged.
    let joining = cluster[0].launch.clone().joining("/ip4/127.0.0.1/tcp/9");
    for launch in [&cluster[0].launch, &joining] {
        let words = launch.refused().await.failed(DENIED).to_owned();
        says(&words, &["has format 2", "knows up to 1"]);
    }
    std::fs::write(&format, written).unwrap();
    let mut other = cluster[0].launch.clone();
    other.store = "redb".to_owned();
    let words = other.refused().await.failed(DENIED).to_owned();
    says(&words, &["is a sled store", "--store sled"]);
    assert_eq!(entries(&cluster[0].launch.data_dir), ["lock", "node.key", "store"]);
    cluster.restart(0).await;
    assert_eq!(cluster[0].http.fields("vms/vm-1").await, json!({ "n": 1 }));
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_node_with_the_data_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(1).await;
    let mut founder = cluster.next("sled");
    founder.join.clear();
    let other = cluster.launch(founder).await;
    cluster[other].http.put("vms/theirs", json!({})).await.ok();
    let foreign = cluster[other].http.cluster().await["cluster_id"].clone();
    assert_ne!(foreign, cluster[0].http.cluster().await["cluster_id"]);
    cluster[other].stop().await;
    let joining = cluster[other].launch.clone().joining(cluster[0].address());
    // It serves what it has until it meets the wrong cluster, which it may do before or after its ready line.
    let ended = joining.refused().await;
    says(ended.failed(DENIED), &["belongs to cluster", "empty --data-dir"]);
    cluster[0].http.get("/v1/docs/vms/theirs").await.refused(404, "not-found");
    assert_eq!(cluster[0].http.cluster().await["members"].as_array().unwrap().len(), 1);
    cluster.restart(other).await;
    let view = cluster[other].http.cluster().await;
    assert_eq!((&view["cluster_id"], &view["members"][1]), (&foreign, &json!(null)), "it is what it was");
}

#[tokio::test]
async fn a_name_that_a_live_node_has_is_refused() {
    let cluster = Cluster::start(2).await;
    let mut twin = cluster.next("sled");
    twin.name = "node-1".to_owned();
    let words = twin.refused().await.failed(DENIED).to_owned();
    says(&words, &["the name `node-1` is taken by the live node", "--name"]);
    assert_eq!(cluster[0].http.cluster().await["members"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_api_beyond_loopback_needs_to_be_insisted_on() {
    let mut cluster = Cluster::empty().await;
    let mut open = cluster.next("memory");
    open.api = "0.0.0.0:0".to_owned();
    let words = open.refused().await.failed(USAGE).to_owned();
    says(&words, &["0.0.0.0", "not a loopback address", "--insecure"]);
    let index = cluster.launch(open.with("--insecure")).await;
    assert!(cluster[index].ready.api.starts_with("http://0.0.0.0:"));
}

#[tokio::test]
async fn what_cannot_be_listened_on_or_read_is_a_clear_usage_error() {
    let mut cluster = Cluster::start_on(&["memory"]).await;
    let mut taken = cluster.next("memory");
    taken.api = cluster[0].ready.api.trim_start_matches("http://").to_owned();
    says(taken.refused().await.failed(USAGE), &["cannot serve the API", "is the port free?"]);
    let mut taken = cluster.next("memory");
    taken.listen = format!("/ip4/127.0.0.1/tcp/{}", cluster[0].peer_port());
    says(taken.refused().await.failed(USAGE), &["cannot listen on", "is the port free"]);
    let key = cluster.dir().join("bad.key");
    std::fs::write(&key, "secret").unwrap();
    let bad = cluster.next("memory").with(format!("--psk={}", key.display()));
    says(bad.refused().await.failed(USAGE), &["bad.key", "line 1 of the swarm key"]);
    let nowhere = cluster.next("memory").with("--psk=/nowhere/at.all");
    says(nowhere.refused().await.failed(USAGE), &["cannot read the pre-shared key"]);
    cluster[0].stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_usage_errors() {
    for (args, word) in [
        (["run", "--store=rocksdb"], "no store"),
        (["run", "--listen=10.0.0.5:7118"], "multiaddr"),
        (["run", "--api=localhost"], "no address with a port"),
        (["run", "--join=nonsense"], "multiaddr"),
        (["run", "--name=a/b"], "no name"),
        (["run", "--frobnicate"], "--frobnicate"),
    ] {
        let ended = run(&args, Duration::from_secs(10)).await;
        says(ended.failed(USAGE), &[word]);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}
