//! The audit, from outside: what a cut brought about is on record at every node, and what was changed later is found.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, run, until};

const COMMAND: Duration = Duration::from_secs(20);

async fn records(cluster: &Cluster, node: usize, query: &str) -> Vec<Value> {
    let page = cluster[node].http.get(&format!("/v1/audit?{query}")).await.ok();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_conflict_is_on_record_everywhere_and_a_changed_record_is_named() {
    let cluster = Cluster::start(2).await;
    let early = run(&["audit", "export", "--api", &cluster[0].http.base], COMMAND).await.ok().to_owned();
    let schema = json!({ "fields": { "place": { "type": "contested", "resolver": "manual" } } });
    cluster[0].http.ask("PUT", "/v1/schemas/vms", &[], schema).await.ok();
    cluster[0].http.put("vms/vm-1", json!({ "place": "h0" })).await.ok();
    cluster.agree().await;
    cluster.partition(&[&[0], &[1]]).await;
    cluster[0].http.put("vms/vm-1", json!({ "place": "h1" })).await.ok();
    cluster[1].http.put("vms/vm-1", json!({ "place": "h2" })).await.ok();
    cluster.heal().await;
    cluster.agree().await;

    let open = cluster[0].http.get("/v1/conflicts?status=open").await.ok();
    let id = open["items"][0]["id"].as_str().unwrap().to_owned();
    for node in 0..2 {
        let found = records(&cluster, node, &format!("conflict={id}&kind=detected")).await;
        assert_eq!((found.len(), &found[0]["document"]), (1, &json!("vms/vm-1")), "{found:?}");
        assert!(cluster[node].http.metric("folkmoot_conflicts_open").await >= 1.0);
    }
    let body = json!({ "value": "h1", "by": "alice" });
    cluster[0].http.ask("POST", &format!("/v1/conflicts/{id}/resolve"), &[], body).await.ok();
    cluster.agree().await;
    for node in 0..2 {
        let resolved = records(&cluster, node, &format!("conflict={id}&kind=resolved")).await;
        assert_eq!((resolved.len(), &resolved[0]["actor"]), (1, &json!("alice")), "{resolved:?}");
        assert_eq!(cluster[node].http.metric_where("folkmoot_conflicts_resolutions_total", "decided").await, 1.0);
        let points = cluster[node].http.get("/v1/audit/rollback-points").await.ok();
        assert_eq!(points["items"][0]["actor"], "alice", "{points}");
    }
    verifies(&cluster).await;
    goes_on(&cluster, &early).await;
}

/// Each node's chain is whole, and the other node's anchor finds one changed byte of it.
async fn verifies(cluster: &Cluster) {
    let (first, second) = (&cluster[0].http.base, &cluster[1].http.base);
    until("an anchor of the first node at the second", Duration::from_secs(30), async || {
        let anchors = cluster[1].http.get(&format!("/v1/audit/anchors?node={}", cluster[0].id())).await.ok();
        if anchors["items"].as_array().is_some_and(|items| !items.is_empty()) {
            Ok(())
        } else {
            Err(anchors.to_string())
        }
    })
    .await;
    for api in [first, second] {
        assert!(run(&["audit", "verify", "--api", api], COMMAND).await.ok().contains("whole"));
    }
    let export = run(&["audit", "export", "--api", first], COMMAND).await.ok().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = file("whole.jsonl", &export);
    let verified = run(&["audit", "verify", &whole, "--api", second, "--json"], COMMAND).await.json();
    assert_eq!(verified["whole"], true, "{verified}");
    assert!(verified["anchors_of_others"].as_u64().unwrap() > 0, "{verified}");

    let edited = file("edited.jsonl", &export.replacen("alice", "alicf", 1));
    assert_ne!(export.replacen("alice", "alicf", 1), export);
    let found = run(&["audit", "verify", &edited, "--api", second], COMMAND).await;
    found.failed(8);
    assert!(found.stdout.contains("what it says is not what its hash was made of"), "{found:?}");

    // The first record goes, and all else stays: the chain does not close over the hole.
    let mut lines: Vec<&str> = export.lines().collect();
    let place = lines.iter().position(|line| line.contains("\"record\"")).unwrap();
    lines.remove(place);
    let cut = file("cut.jsonl", &lines.join("\n"));
    run(&["audit", "verify", &cut, "--offline"], COMMAND).await.failed(8);

    run(&["audit", "import", &whole, "--api", second], COMMAND).await.ok();
    let imported = run(&["audit", "verify", "--node", cluster[0].id(), "--api", second], COMMAND).await;
    assert!(imported.ok().contains("whole") && !imported.stdout.contains("Some("), "{imported:?}");
    let imported =
        run(&["audit", "query", "--node", cluster[0].id(), "--actor", "alice", "--api", second], COMMAND).await;
    assert!(imported.ok().contains("resolved"), "{imported:?}");
    assert!(run(&["audit", "tail", "--once", "--api", first], COMMAND).await.ok().contains("alice"));
    assert!(run(&["audit", "patterns", "--api", first], COMMAND).await.ok().contains("vms/vm-1"));
}

/// An export from before the first node went on is whole up to its end, and says that it is older.
async fn goes_on(cluster: &Cluster, early: &str) {
    let (first, second) = (&cluster[0].http.base, &cluster[1].http.base);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("early.jsonl");
    std::fs::write(&path, early).unwrap();
    let file = path.to_str().unwrap();
    let early = run(&["audit", "verify", file, "--offline", "--json"], COMMAND).await.json();
    let last = early["last"].as_u64().unwrap();
    until("an anchor behind the export", Duration::from_secs(90), async || {
        let anchors = cluster[1].http.get(&format!("/v1/audit/anchors?node={}", cluster[0].id())).await.ok();
        let mut indexes = anchors["items"].as_array().into_iter().flatten().filter_map(|item| item["index"].as_u64());
        if indexes.any(|index| index > last) { Ok(()) } else { Err(anchors.to_string()) }
    })
    .await;
    let older = run(&["audit", "verify", file, "--api", second], COMMAND).await;
    assert!(older.ok().contains(&format!("whole up to record {last}")), "{older:?}");
    assert!(older.stdout.contains("Later anchors of this node exist"), "{older:?}");
    let complete = run(&["audit", "verify", file, "--complete", "--api", second], COMMAND).await;
    complete.failed(8);
    assert!(complete.stdout.contains(&format!("what comes after record {last} is not in here")), "{complete:?}");
    run(&["audit", "verify", "--complete", "--api", first], COMMAND).await.ok();
}

#[tokio::test]
async fn a_restart_keeps_the_audit_and_adds_itself() {
    let mut cluster = Cluster::start(1).await;
    let definition = json!({ "rules": [{ "name": "r", "resolver": "max" }] });
    cluster[0].http.ask("PUT", "/v1/policies/p", &[], definition).await.ok();
    let before = records(&cluster, 0, "").await;
    cluster[0].stop().await;
    cluster.restart(0).await;
    let after = records(&cluster, 0, "").await;
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(after[before.len()]["kind"], "started");
    assert_eq!(cluster[0].http.get("/v1/audit/verify").await.ok()["whole"], true);
}
