//! Virtual machines: one worker runs each, also when the network splits.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::dispute::listed;
use crate::harness::{Cluster, Ended, Http, Node, Reply, run_with_input, until};

const LIMIT: Duration = Duration::from_secs(20);

async fn at(node: &Node, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &node.ready.api)], "", LIMIT).await
}

async fn post(http: &Http, path: &str, body: Value) -> Reply {
    http.ask("POST", path, &[], body).await
}

async fn run(http: &Http, worker: &str, lease_ms: u64, wait_ms: u64) -> Reply {
    post(http, "/v1/vms/7/run", json!({ "worker": worker, "lease_ms": lease_ms, "wait_ms": wait_ms })).await
}

/// Nodes that all vote, and a VM.
async fn cluster(nodes: usize) -> Cluster {
    let cluster = Cluster::start_alone(nodes).await;
    cluster.voters(nodes).await;
    post(&cluster[0].http, "/v1/vms/7", json!({ "cpus": 2, "memory_mb": 512, "disks": { "root": 10 } })).await.ok();
    cluster.agree().await;
    cluster
}

#[tokio::test]
async fn a_vm_is_made_run_moved_and_stopped_over_http() {
    let cluster = cluster(3).await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster[node].http.clone());
    let granted = run(&a, "ash", 20_000, 0).await.ok();
    let token = granted["token"].as_u64().unwrap();
    let refused = run(&b, "oak", 20_000, 0).await;
    assert!(refused.refused(423, "held").contains("`ash` runs VM `7`"), "{refused:?}");
    assert_eq!(refused.json()["holder"], "ash");
    cluster.agree().await;
    let vm = c.get("/v1/vms/7").await.ok();
    assert_eq!((&vm["host"], &vm["power"], &vm["running_on"]), (&json!("ash"), &json!("running"), &json!(["ash"])));
    c.ask("PUT", "/v1/vms/7/run", &[], json!({ "token": token })).await.ok();
    c.ask("PUT", "/v1/vms/7/run", &[], json!({ "token": 99 })).await.refused(409, "not-holder");
    // Whoever writes its fields by another way is told how.
    b.ask("PATCH", "/v1/docs/vms/7", &[], json!({ "host": "oak" })).await.refused(422, "does-not-fit");
    let wrong = b.ask("PATCH", "/v1/docs/vms/7?durability=quorum", &[], json!({ "host": "oak" })).await;
    wrong.refused(423, "held");

    let moves = post(&a, "/v1/vms/7/migrate", json!({ "token": token, "to": "oak" })).await.ok();
    assert_eq!(moves, json!({ "from": "ash", "to": "oak" }));
    let waits = tokio::spawn({
        let b = b.clone();
        async move { run(&b, "oak", 20_000, 15_000).await.ok() }
    });
    let stopped = a.ask("DELETE", "/v1/vms/7/run", &[], json!({ "worker": "ash", "token": token })).await.ok();
    assert_eq!(stopped, json!({ "released": true }));
    let next = waits.await.unwrap()["token"].as_u64().unwrap();
    assert!(next > token);
    let vm = b.get("/v1/vms/7").await.ok();
    assert_eq!((&vm["host"], &vm["migration"]), (&json!("oak"), &Value::Null));

    post(&a, "/v1/vms/7/disks", json!({ "disk": "root", "size_mb": 20 })).await.ok();
    let shrinks = post(&a, "/v1/vms/7/disks", json!({ "disk": "root", "size_mb": 5 })).await;
    assert!(shrinks.refused(422, "bad-vm").contains("only grows"), "{shrinks:?}");
    post(&a, "/v1/vms/7/snapshots", json!({ "name": "s1" })).await.ok();
    post(&a, "/v1/vms/7/snapshots", json!({ "name": "s1", "hidden": true })).await.ok();
    post(&a, "/v1/vms/7/snapshots", json!({ "name": "s1" })).await.refused(422, "bad-vm");
    post(&a, "/v1/vms/7", json!({ "cpus": 1, "memory_mb": 1 })).await.refused(412, "precondition-failed");
    post(&a, "/v1/vms/8", json!({ "cpus": 0, "memory_mb": 1 })).await.refused(422, "bad-vm");
    run(&a, "", 20_000, 0).await.refused(422, "bad-vm");
    a.get("/v1/vms/none").await.refused(404, "not-found");
    let all = a.get("/v1/vms").await.ok();
    assert_eq!((all["items"].as_array().unwrap().len(), &all["next"]), (1, &Value::Null));
    assert_eq!(all["items"][0]["disks"], json!({ "root": 20 }));
}

#[tokio::test]
async fn the_command_line_runs_and_stops_a_vm() {
    let cluster = cluster(1).await;
    let at = async |args: &[&str]| at(&cluster[0], args).await;
    let made = at(&["vm", "create", "web", "--cpus", "2", "--memory-mb", "1024", "--disk", "root=100"]).await;
    assert_eq!(made.ok(), "made VM web\n");
    let granted = at(&["vm", "run", "web", "--worker", "ash"]).await;
    let token = granted.ok().trim().to_owned();
    assert!(at(&["vm", "run", "web", "--worker", "oak"]).await.failed(6).contains("`ash` runs VM `web`"));
    assert!(at(&["vm", "renew", "web", "--token", &token]).await.ok().starts_with("renewed for "));
    assert_eq!(
        at(&["vm", "migrate", "web", "--token", &token, "--to", "oak"]).await.ok(),
        "VM web goes to oak once it is stopped\n"
    );
    assert_eq!(at(&["vm", "ls"]).await.ok(), "7\tstopped\t-\nweb\trunning\tash\n");
    assert_eq!(at(&["vm", "stop", "web", "--worker", "ash", "--token", &token]).await.ok(), "VM web is free\n");
    at(&["vm", "grow", "web", "root", "200"]).await.ok();
    at(&["vm", "snapshot", "web", "s1"]).await.ok();
    let shown = at(&["vm", "show", "web", "--json"]).await.json();
    assert_eq!((&shown["disks"], &shown["snapshots"]), (&json!({ "root": 200 }), &json!(["s1"])));
    at(&["vm", "create", "web", "--cpus", "1", "--memory-mb", "1"]).await.failed(5);
    at(&["vm", "create", "x", "--cpus", "1", "--memory-mb", "1", "--disk", "root"]).await.failed(2);
}

#[tokio::test]
async fn the_majority_takes_a_vm_over_once_the_minoritys_lease_ended_and_who_went_on_is_found_out_at_once() {
    const LEASE_MS: u64 = 3_000;
    let cluster = cluster(5).await;
    let (minority, majority) = (&cluster[0].http, &cluster[3].http);
    let granted = run(minority, "ash", LEASE_MS, 0).await.ok();
    let (token, asked) = (granted["token"].as_u64().unwrap(), Instant::now());
    cluster.agree().await;
    cluster.partition(&[&[0, 1], &[2, 3, 4]]).await;
    // Ash is told while its lease still runs.
    until("ash is told", LIMIT, async || {
        let reply = minority.ask("PUT", "/v1/vms/7/run", &[], json!({ "token": token })).await;
        if reply.status == 503 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    assert!(asked.elapsed() < Duration::from_millis(LEASE_MS), "{:?}", asked.elapsed());
    assert_eq!(minority.get("/v1/vms/7").await.ok()["stale"], json!(["host"]));
    run(minority, "yew", LEASE_MS, 0).await.refused(503, "no-quorum");

    let taken = run(majority, "oak", LEASE_MS, 20_000).await.ok();
    assert!(asked.elapsed() >= Duration::from_millis(LEASE_MS), "before its lease ended: {:?}", asked.elapsed());
    assert!(taken["token"].as_u64().unwrap() > token);

    // Ash went on all the same: on contact that is a critical conflict everywhere.
    let healed = Instant::now();
    cluster.heal().await;
    for node in cluster.running() {
        until("the split is listed", LIMIT, async || {
            let listed = listed(&node.http, "&severity=critical&collection=vms").await;
            if listed.len() == 1 { Ok(()) } else { Err(format!("{listed:?}")) }
        })
        .await;
    }
    println!("found {:?} after the heal", healed.elapsed());
    assert_eq!(majority.get("/v1/vms/7").await.ok()["split"], true);
    let found = cluster[4].http.metric("folkmoot_split_brain_total").await;
    assert!(found >= 1.0, "{found}");
    let stopped = minority.ask("DELETE", "/v1/vms/7/run", &[], json!({ "worker": "ash", "token": token })).await.ok();
    assert_eq!(stopped["released"], false, "it is oak's");
    cluster.agree().await;
    for node in cluster.running() {
        assert_eq!(listed(&node.http, "&severity=critical&collection=vms").await, [] as [Value; 0]);
        let vm = node.http.get("/v1/vms/7").await.ok();
        assert_eq!((&vm["host"], &vm["power"], &vm["running_on"]), (&json!("oak"), &json!("running"), &json!(["oak"])));
    }
}
