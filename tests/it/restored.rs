//! An old data directory comes back: from a backup, or as a copy that runs beside its original.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Cluster, DIGESTS_TIMEOUT, Node, until};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            // Keeps the mode, and with it the key's.
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Ten increments and as many documents; their dots.
async fn write(node: &Node, part: &str) -> Vec<String> {
    let mut dots = Vec::new();
    for n in 0..10 {
        let put = node.http.put(&format!("tasks/{part}-{n}"), json!({ "part": part })).await.ok();
        let count = node.http.incr("fleet/totals", "requests", 1).await.ok();
        dots.extend([put, count].map(|receipt| receipt["dot"].as_str().unwrap().to_owned()));
    }
    dots
}

async fn alert_of(node: &Node, kind: &str) -> Value {
    until(&format!("the alert {kind} of {}", node.launch.name), DIGESTS_TIMEOUT, async || {
        let view = node.http.cluster().await;
        let found = view["alerts"].as_array().unwrap().iter().find(|alert| alert["kind"] == kind).cloned();
        found.ok_or_else(|| view["alerts"].to_string())
    })
    .await
}

#[tokio::test]
async fn a_node_on_an_old_copy_of_its_data_reuses_no_dot_says_so_and_loses_nothing() {
    for store in ["sled", "redb"] {
        let mut cluster = Cluster::start_on(&["sled", store]).await;
        let mut dots = write(&cluster[1], "before").await;
        let data = cluster[1].launch.data_dir.clone();
        let backup = cluster.dir().join("backup");
        cluster[1].stop().await;
        copy(&data, &backup);
        cluster.restart(1).await;
        dots.extend(write(&cluster[1], "lost").await);
        cluster.all_joined().await;
        cluster.agree().await;
        cluster[1].kill();
        fs::remove_dir_all(&data).unwrap();
        copy(&backup, &data);

        cluster.restart(1).await;
        dots.extend(write(&cluster[1], "after").await);
        let alert = alert_of(&cluster[1], "rolled_back").await;
        assert_eq!((&alert["ours"], &alert["peer"]), (&json!(0), &json!(cluster[0].id())), "{alert}");
        assert!(alert["text"].as_str().unwrap().contains("rolled back or copied"), "{alert}");
        assert!(cluster[1].stderr().contains("rolled back or copied"), "{}", cluster[1].stderr());

        cluster.all_joined().await;
        cluster.agree().await;
        let distinct: BTreeSet<&String> = dots.iter().collect();
        assert_eq!(distinct.len(), 60, "{store}: a dot was reused");
        for node in &cluster.nodes {
            assert_eq!(node.http.fields("fleet/totals").await, json!({ "requests": 30 }), "{store}");
            assert_eq!(node.http.list("tasks").await.len(), 30, "{store}");
        }
    }
}

#[tokio::test]
async fn a_copy_that_runs_beside_its_original_is_noticed_and_harms_nobody() {
    let mut cluster = Cluster::start(2).await;
    write(&cluster[1], "before").await;
    cluster.agree().await;
    cluster[1].stop().await;
    let mut twin = cluster[1].launch.clone();
    twin.data_dir = cluster.dir().join("twin");
    copy(&cluster[1].launch.data_dir, &twin.data_dir);
    cluster.restart(1).await;
    cluster.all_joined().await;
    // Two processes with one key: the network lets one of them in at a time. What both write must survive.
    write(&cluster[1], "original").await;
    cluster.agree().await;
    cluster[1].kill();
    let twin = cluster.launch(twin).await;
    write(&cluster[twin], "twin").await;
    cluster.agree().await;
    cluster[twin].kill();
    cluster.restart(1).await;
    cluster.agree().await;
    for index in [0, 1] {
        assert_eq!(cluster[index].http.fields("fleet/totals").await, json!({ "requests": 30 }));
        assert_eq!(cluster[index].http.list("tasks").await.len(), 30);
    }
}

/// A token leaves out what every member has, so it cannot show a lone old disk that it lags.
#[tokio::test]
async fn a_node_on_an_old_disk_answers_no_session_before_it_has_met_a_member() {
    let mut cluster = Cluster::start(2).await;
    cluster[0].http.put("notes/n", json!({ "v": "old" })).await.ok();
    cluster.agree().await;
    cluster[1].stop().await;
    let data = cluster[1].launch.data_dir.clone();
    let kept = data.with_extension("kept");
    copy(&data, &kept);
    cluster.restart(1).await;
    let body = json!({ "v": "new" });
    cluster[0].http.ask("PUT", "/v1/docs/notes/n?durability=replicas:2", &[], body).await.ok();
    cluster.agree().await;
    // Once every member has it, nothing is left to name.
    let nothing = "AQ";
    until("a token without entries", DIGESTS_TIMEOUT, async || {
        let clock = cluster[0].http.ask("GET", "/v1/docs/notes/n", &[], Value::Null).await;
        let clock = clock.header("folkmoot-clock").to_owned();
        if clock == nothing { Ok(()) } else { Err(clock) }
    })
    .await;
    cluster[0].stop().await;
    cluster[1].stop().await;
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&kept, &data).unwrap();
    cluster.restart(1).await;
    let read = async |cluster: &Cluster| {
        cluster[1].http.ask("GET", "/v1/docs/notes/n", &[("folkmoot-clock", nothing)], Value::Null).await
    };
    read(&cluster).await.refused(503, "behind");
    let local = cluster[1].http.ask("GET", "/v1/docs/notes/n?consistency=local", &[], Value::Null).await;
    assert_eq!(local.ok()["fields"], json!({ "v": "old" }), "who asks for no session is served");
    cluster.restart(0).await;
    cluster.agree().await;
    assert_eq!(read(&cluster).await.ok()["fields"], json!({ "v": "new" }));
}

#[tokio::test]
async fn a_member_is_written_by_its_node_alone() {
    let cluster = Cluster::start(2).await;
    let path = format!("/v1/docs/members/{}", cluster[1].id());
    for (method, body) in [("DELETE", Value::Null), ("PUT", json!({ "status": "left" }))] {
        let refused = cluster[0].http.ask(method, &path, &[], body).await;
        assert!(refused.refused(422, "does-not-fit").contains("/v1/leave"));
    }
    cluster.all_joined().await;
}
