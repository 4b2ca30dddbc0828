//! Fields that a quorum decides, conflicts that voters settle, and what operators do about what is lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::dispute::listed;
use crate::harness::{Cluster, Ended, Http, Node, Reply, run_with_input, until};

const LIMIT: Duration = Duration::from_secs(20);
const VM: &str = "/v1/docs/machines/7";

async fn at(node: &Node, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &node.ready.api)], "", LIMIT).await
}

/// Nodes that all vote, and a document with a field that a quorum decides.
async fn cluster(nodes: usize) -> Cluster {
    let cluster = Cluster::start(nodes).await;
    cluster.voters(nodes).await;
    let schema = json!({ "fields": { "host": { "type": "quorum" } } });
    cluster[0].http.ask("PUT", "/v1/schemas/machines", &[], schema).await.ok();
    cluster[0].http.put("machines/7", json!({ "cores": 2 })).await.ok();
    cluster.agree().await;
    cluster
}

async fn decide(http: &Http, query: &str, patch: Value) -> Reply {
    http.ask("PATCH", &format!("{VM}?durability=quorum{query}"), &[], patch).await
}

async fn json_patch(http: &Http, steps: Value) -> Reply {
    let media = [("content-type", "application/json-patch+json")];
    http.ask("PATCH", &format!("{VM}?durability=quorum"), &media, steps).await
}

async fn host(http: &Http, query: &str) -> Value {
    http.get(&format!("{VM}{query}")).await.ok()["fields"]["host"].clone()
}

#[tokio::test]
async fn a_field_is_decided_by_a_quorum_and_read_by_one() {
    let cluster = cluster(3).await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster[node].http.clone());
    let receipt = decide(&a, "", json!({ "host": "ash" })).await.ok();
    assert_eq!((&receipt["durability"], &receipt["version"]), (&json!("quorum"), &json!(1)));
    assert_eq!(host(&a, "").await, "ash", "read at once where it was asked");
    assert_eq!(host(&b, "?consistency=quorum").await, "ash", "and by whoever asks a quorum");
    cluster.agree().await;
    assert_eq!(host(&c, "").await, "ash");

    // Tests and changes are one decision, whoever asks what at the same time.
    let moved = |to: &str| json!([{ "op": "test", "path": "/host", "value": "ash" }, { "op": "replace", "path": "/host", "value": to }]);
    let (first, second) = tokio::join!(json_patch(&b, moved("oak")), json_patch(&c, moved("elm")));
    let refused = if first.status == 200 { second } else { first };
    assert!(refused.refused(409, "patch-conflict").contains("`host` of machines/7"), "{refused:?}");
    let now = host(&a, "?consistency=quorum").await;
    assert!(now == "oak" || now == "elm", "{now}");

    // Other writes leave it alone, and are told how it is written.
    let plain = a.ask("PATCH", VM, &[], json!({ "host": "yew" })).await;
    assert!(plain.refused(422, "does-not-fit").contains("durability=quorum"), "{plain:?}");
    a.ask("PATCH", VM, &[], json!({ "cores": 4 })).await.ok();
    let read = a.get(VM).await.ok();
    assert_eq!(read["fields"], json!({ "cores": 4, "host": now }));
    a.put("machines/7", read["fields"].clone()).await.ok();
    let other = decide(&a, "", json!({ "cores": 8 })).await;
    assert!(other.refused(422, "does-not-fit").contains("`cores` is not of type quorum"), "{other:?}");
    decide(&a, "&token=1", json!({ "host": "yew" })).await.refused(409, "not-holder");
    a.ask("PATCH", &format!("{VM}?token=1"), &[], json!({ "cores": 1 })).await.refused(400, "bad-parameter");
    a.ask("PUT", &format!("{VM}?durability=quorum"), &[], json!({})).await.refused(400, "bad-parameter");
    a.ask("PATCH", "/v1/docs/machines/none?durability=quorum", &[], json!({ "host": 1 }))
        .await
        .refused(404, "not-found");
}

#[tokio::test]
async fn while_the_lock_of_a_document_is_held_only_its_token_decides_and_the_command_line_says_so() {
    let cluster = cluster(3).await;
    let at = async |args: &[&str]| at(&cluster[1], args).await;
    let granted = at(&["lock", "acquire", "machines/7", "--holder", "ada", "--lease", "30s"]).await;
    assert_eq!(granted.ok(), "1\n");
    let patch = ["patch", "machines/7", r#"{"host":"ash"}"#, "--durability", "quorum"];
    assert!(at(&patch).await.failed(6).contains("`ada` holds the lock"), "exit code 6: another holds it");
    let decided = at(&[&patch[..], &["--token", "1"]].concat()).await;
    assert_eq!(decided.ok(), "decided by a quorum, version 1\n");
    let read = at(&["get", "machines/7", "--consistency", "quorum"]).await.json();
    assert_eq!(read["host"], "ash");
    assert_eq!(at(&["lock", "ls"]).await.ok(), "machines/7\tada\ttoken 1\tlease 30000 ms\t0 waiting\n");
    at(&["lock", "release", "machines/7", "--token", "1"]).await.ok();
    assert_eq!(at(&["lock", "ls"]).await.ok(), "");
}

#[tokio::test]
async fn the_side_without_a_quorum_is_refused_at_once_and_marks_what_it_reads_as_stale() {
    let cluster = cluster(3).await;
    let [a, b] = [0, 1].map(|node| cluster[node].http.clone());
    decide(&a, "", json!({ "host": "ash" })).await.ok();
    cluster.agree().await;
    assert_eq!(a.get(VM).await.ok().get("stale"), None);
    cluster.partition(&[&[0], &[1, 2]]).await;
    until("the minority knows", LIMIT, async || {
        let voters = a.get("/v1/voters").await.ok();
        if voters["quorum"] == false { Ok(()) } else { Err(voters.to_string()) }
    })
    .await;
    let asked = Instant::now();
    let refused = decide(&a, "", json!({ "host": "oak" })).await;
    refused.refused(503, "no-quorum");
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    a.get(&format!("{VM}?consistency=quorum")).await.refused(503, "no-quorum");
    let read = a.get(VM).await.ok();
    assert_eq!((&read["fields"]["host"], &read["stale"]), (&json!("ash"), &json!(["host"])));
    let patch = ["patch", "machines/7", r#"{"host":"oak"}"#, "--durability", "quorum"];
    at(&cluster[0], &patch).await.failed(7);
    // What merges goes on, and the other side decides.
    a.ask("PATCH", VM, &[], json!({ "cores": 9 })).await.ok();
    decide(&b, "", json!({ "host": "elm" })).await.ok();
    cluster.heal().await;
    cluster.agree().await;
    let read = a.get(VM).await.ok();
    assert_eq!((&read["fields"], read.get("stale")), (&json!({ "cores": 9, "host": "elm" }), None));
}

#[tokio::test]
async fn voters_settle_what_is_put_to_the_vote() {
    let cluster = Cluster::start(3).await;
    cluster.voters(3).await;
    let schema = json!({ "fields": { "f": { "type": "contested", "resolver": "vote", "fallback": ["max"] } } });
    cluster[0].http.ask("PUT", "/v1/schemas/things", &[], schema).await.ok();
    cluster[0].http.put("things/1", json!({ "f": 0 })).await.ok();
    cluster.agree().await;
    cluster.partition(&[&[0], &[1, 2]]).await;
    cluster[0].http.ask("PATCH", "/v1/docs/things/1", &[], json!({ "f": 9 })).await.ok();
    cluster[1].http.ask("PATCH", "/v1/docs/things/1", &[], json!({ "f": 4 })).await.ok();
    cluster.heal().await;
    let settled = async |node: &Node| {
        let fields = node.http.fields("things/1").await;
        let listed = listed(&node.http, "").await;
        if fields["f"] == 9 && listed.is_empty() { Ok(()) } else { Err(format!("{fields:?} {listed:?}")) }
    };
    for node in cluster.running() {
        until("the vote's outcome", LIMIT, async || settled(node).await).await;
    }
    let notes = cluster[2].http.get("/v1/docs/conflicts").await.ok();
    let note = &notes["items"][0]["fields"];
    assert_eq!(
        (&note["status"], &note["by"], &note["value"]),
        (&json!("resolved"), &json!("vote"), &json!(9)),
        "{notes}"
    );
}

#[tokio::test]
async fn a_lost_member_is_evicted_by_a_quorum_and_one_that_is_there_is_not() {
    let mut cluster = cluster(5).await;
    let lost = cluster[4].id().to_owned();
    let evict = ["peers", "evict", lost.as_str(), "--yes"];
    assert!(at(&cluster[0], &evict).await.failed(5).contains("is not lost"));
    let named = ["peers", "evict", "node-4"];
    assert!(at(&cluster[0], &named).await.failed(2).contains(&lost), "asked about first, whose id it is");
    at(&cluster[0], &["peers", "evict", "nobody", "--yes"]).await.failed(4);
    cluster[0].http.ask("DELETE", "/v1/peers/nonsense", &[], Value::Null).await.refused(400, "bad-parameter");
    let own = format!("/v1/peers/{}", cluster[0].id());
    cluster[0].http.ask("DELETE", &own, &[], Value::Null).await.refused(409, "not-lost");
    cluster[4].kill();
    until("it is down", LIMIT, async || match at(&cluster[0], &evict).await {
        ended if ended.code == Some(0) => Ok(()),
        ended => Err(ended.stderr),
    })
    .await;
    assert!(at(&cluster[0], &evict).await.failed(5).contains("was evicted already"));
    // Nobody waits for it: the cluster is whole again, and it votes no more.
    cluster.all_joined_of(4).await;
    until("it is no voter", LIMIT, async || {
        let voters = cluster[1].http.get("/v1/voters").await.ok();
        let names = voters["voters"].as_array().unwrap().iter().any(|voter| *voter == lost.as_str());
        if names || voters["changing"] == true { Err(voters.to_string()) } else { Ok(()) }
    })
    .await;
    // It comes back as one that takes over all there is.
    cluster[0].http.put("machines/8", json!({ "cores": 1 })).await.ok();
    cluster.restart(4).await;
    cluster.all_joined().await;
    cluster.agree().await;
    assert_eq!(cluster[4].http.fields("machines/8").await["cores"], 1);
}

#[tokio::test]
async fn a_lost_majority_is_given_up_by_an_operator_and_by_nobody_else() {
    let mut cluster = cluster(3).await;
    decide(&cluster[0].http, "", json!({ "host": "ash" })).await.ok();
    cluster.agree().await;
    let version = async |node: &Node| node.http.get("/v1/voters").await.ok()["version"].as_u64().unwrap().to_string();
    let seen = version(&cluster[0]).await;
    let recover = ["cluster", "recover", "--version", seen.as_str()];
    assert!(at(&cluster[0], &recover).await.failed(5).contains("not lost: this node reaches 3 of the 3 voters"));
    for lost in [1, 2] {
        cluster[lost].kill();
    }
    until("no quorum", LIMIT, async || {
        let voters = cluster[0].http.get("/v1/voters").await.ok();
        if voters["quorum"] == false { Ok(()) } else { Err(voters.to_string()) }
    })
    .await;
    assert!(at(&cluster[0], &["cluster", "recover", "--version", "1"]).await.failed(5).contains("look at them again"));
    assert!(at(&cluster[0], &recover).await.ok().starts_with("this node decides alone"));
    decide(&cluster[0].http, "", json!({ "host": "oak" })).await.ok();
    let granted =
        cluster[0].http.ask("POST", "/v1/locks/l", &[], json!({ "holder": "ada", "lease_ms": 9_000 })).await.ok();
    assert!(granted["token"].as_u64().unwrap() > u64::from(u32::MAX), "{granted}");
    let audit = cluster[0].http.get("/v1/audit?kind=member_changed").await.ok();
    assert!(audit.to_string().contains("voters_recovered"), "{audit}");
    // Those who come back obey, and vote again.
    for lost in [1, 2] {
        cluster.restart(lost).await;
    }
    cluster.voters(3).await;
    cluster.agree().await;
    assert_eq!(host(&cluster[2].http, "?consistency=quorum").await, "oak");
}
