//! Nodes come together: what one of them takes, all of them hold.

use serde_json::{Value, json};

use crate::harness::Cluster;

#[tokio::test]
async fn the_ready_line_is_exactly_the_documented_one() {
    let cluster = Cluster::start(1).await;
    let node = &cluster[0];
    let ready = &node.ready;
    assert_eq!(ready.event, "ready");
    let text = |text: &str| Value::from(text).to_string();
    let expected = format!(
        r#"{{"event":"ready","node":{},"replica":{},"api":{},"listen":[{}]}}"#,
        text(&ready.node),
        text(&ready.replica),
        text(&ready.api),
        text(&ready.listen[0]),
    );
    assert_eq!(node.ready_line, expected);
    assert!(ready.api.starts_with("http://127.0.0.1:") && !ready.api.ends_with(":0"), "{expected}");
    assert!(ready.listen[0].ends_with(&format!("/p2p/{}", ready.node)), "{expected}");
    let cluster = node.http.cluster().await;
    assert_eq!((&cluster["node"], &cluster["replica"]), (&json!(ready.node), &json!(ready.replica)));
}

#[tokio::test]
async fn what_is_written_at_any_node_is_read_at_every_node() {
    let cluster = Cluster::start(3).await;
    for (index, node) in cluster.nodes.iter().enumerate() {
        node.http.put(&format!("vms/vm-{index}"), json!({ "power_state": "running", "memory_mib": index })).await.ok();
        node.http.incr("fleet/totals", "requests", 10 + index as i64).await.ok();
        node.http.ops("fleet/totals", json!([{ "field": "labels", "add": format!("l{index}") }])).await.ok();
    }
    cluster.agree().await;
    for node in &cluster.nodes {
        for index in 0..3 {
            let fields = node.http.fields(&format!("vms/vm-{index}")).await;
            assert_eq!(fields, json!({ "power_state": "running", "memory_mib": index }));
        }
        let totals = node.http.fields("fleet/totals").await;
        assert_eq!(totals, json!({ "requests": 33, "labels": ["l0", "l1", "l2"] }));
    }
    for node in &cluster.nodes {
        let view = node.http.cluster().await;
        let members = view["members"].as_array().unwrap();
        let names: Vec<&str> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
        assert_eq!(names.len(), 3);
        assert!((0..3).all(|index| names.contains(&format!("node-{index}").as_str())), "{names:?}");
        let itself: Vec<&Value> = members.iter().filter(|member| member["self"] == true).collect();
        assert!(itself.len() == 1 && itself[0]["node"] == node.id(), "{members:?}");
        assert_eq!((&view["partitioned"], &view["unreachable"]), (&json!(false), &json!([])));
        assert_eq!(view["alerts"], json!([]));
    }
}

#[tokio::test]
async fn a_late_joiner_gets_everything_and_nothing_that_was_deleted() {
    let mut cluster = Cluster::start_on(&["sled", "redb"]).await;
    for chunk in 0..5 {
        let put = |n| json!({ "op": "put", "collection": "vms", "id": format!("vm-{n:04}"), "fields": { "n": n } });
        let writes: Vec<Value> = (chunk * 200..chunk * 200 + 200).map(put).collect();
        cluster[chunk % 2].http.ask("POST", "/v1/batch", &[], json!({ "writes": writes })).await.ok();
    }
    cluster.agree().await;
    for n in (0..1_000).step_by(50) {
        cluster[0].http.delete(&format!("vms/vm-{n:04}")).await.ok();
    }
    let late = cluster.add("sled").await;
    cluster.all_joined().await;
    cluster.agree().await;
    let there = cluster[late].http.list("vms").await;
    let expected: Vec<(String, Value)> = (0..1_000).filter(|n| n % 50 != 0).map(document).collect();
    assert_eq!(there, expected);
    cluster[late].http.get("/v1/docs/vms/vm-0050").await.refused(404, "not-found");
    assert_eq!(cluster[late].http.get("/readyz").await.status, 200);
}

fn document(n: usize) -> (String, Value) {
    (format!("vm-{n:04}"), json!({ "n": n }))
}

#[tokio::test]
async fn after_all_nodes_restart_they_hold_what_they_held_and_go_on() {
    let mut cluster = Cluster::start_on(&["sled", "redb", "sled"]).await;
    for n in 0..30 {
        cluster[n % 3].http.put(&format!("vms/vm-{n:04}"), json!({ "n": n })).await.ok();
        cluster[n % 3].http.incr("fleet/totals", "requests", 1).await.ok();
    }
    cluster.agree().await;
    for node in &mut cluster.nodes {
        node.stop().await;
    }
    for index in [2, 0, 1] {
        cluster.restart(index).await;
    }
    cluster.all_joined().await;
    cluster[1].http.incr("fleet/totals", "requests", 1).await.ok();
    cluster.agree().await;
    for node in &cluster.nodes {
        assert_eq!(node.http.list("vms").await, (0..30).map(document).collect::<Vec<_>>());
        assert_eq!(node.http.fields("fleet/totals").await, json!({ "requests": 31 }));
        assert_eq!(node.http.cluster().await["members"].as_array().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn sled_redb_and_memory_nodes_form_one_cluster_and_the_forgetful_one_is_filled_again() {
    let mut cluster = Cluster::start_on(&["redb", "sled", "memory"]).await;
    for n in 0..30 {
        cluster[n % 3].http.put(&format!("vms/vm-{n:04}"), json!({ "n": n })).await.ok();
    }
    cluster.agree().await;
    cluster[2].stop().await;
    cluster[0].http.delete("vms/vm-0007").await.ok();
    cluster.restart(2).await;
    cluster.all_joined().await;
    cluster.agree().await;
    cluster[2].http.put("vms/vm-0100", json!({ "n": 100 })).await.ok();
    cluster.agree().await;
    let expected: Vec<(String, Value)> = (0..30).filter(|n| *n != 7).chain([100]).map(document).collect();
    for node in &cluster.nodes {
        assert_eq!(node.http.list("vms").await, expected);
    }
}
