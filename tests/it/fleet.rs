//! Workers and the agents of a task, on real processes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, Http, Launch, Node, run_with_input, stays, until};

const LIMIT: Duration = Duration::from_secs(20);
/// Of a heartbeat, in the built-in schema.
const TTL: Duration = Duration::from_secs(15);

async fn at(node: &Node, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &node.ready.api)], "", LIMIT).await
}

/// The ids of what a list of workers gave.
async fn workers(http: &Http, query: &str) -> Vec<String> {
    let page = http.get(&format!("/v1/workers{query}")).await.ok();
    page["items"].as_array().unwrap().iter().map(|worker| worker["id"].as_str().unwrap().to_owned()).collect()
}

async fn beat(http: &Http, id: &str) {
    http.ask("POST", &format!("/v1/workers/{id}/heartbeat"), &[], json!({})).await.ok();
}

fn bodies(messages: &Value) -> Vec<&str> {
    messages["items"].as_array().unwrap().iter().map(|message| message["body"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn workers_register_are_chosen_drained_and_leave_over_http() {
    let cluster = Cluster::start(2).await;
    let [a, b] = [0, 1].map(|node| cluster[node].http.clone());
    for (id, cpus, zone) in [("ash", 8, "eu"), ("elm/1", 4, "eu"), ("oak", 16, "us")] {
        let spec = json!({ "capacity": { "cpus": cpus, "memory_mb": 4096 }, "labels": { "zone": zone } });
        a.ask("PUT", &format!("/v1/workers/{}", id.replace('/', "%2F")), &[], spec).await.ok();
    }
    cluster.agree().await;
    assert_eq!(workers(&b, "?active=true").await, ["ash", "elm/1", "oak"]);
    assert_eq!(workers(&b, "?active=true&labels=zone%3Deu").await, ["ash", "elm/1"]);
    let first = b.get("/v1/workers?limit=1&labels=zone%3Deu").await.ok();
    assert_eq!((&first["items"][0]["id"], &first["next"]), (&json!("ash"), &json!("ash")));
    assert_eq!(workers(&b, "?limit=1&labels=zone%3Deu&after=ash").await, ["elm/1"]);

    let assign = async |body: Value| b.ask("POST", "/v1/assign", &[], body).await;
    let chosen = assign(json!({ "needs": { "cpus": 2, "memory_mb": 512 } })).await.ok();
    let ids = |chosen: &Value| -> Vec<String> {
        chosen["candidates"].as_array().unwrap().iter().map(|one| one["worker"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&chosen), ["oak", "ash", "elm/1"]);
    assert_eq!(chosen["candidates"][1]["fits"], 4);
    assert_eq!(ids(&assign(json!({ "needs": { "cpus": 5 }, "labels": { "zone": "eu" } })).await.ok()), ["ash"]);

    b.ask("POST", "/v1/workers/oak/drain", &[], Value::Null).await.ok();
    a.ask("PUT", "/v1/workers/oak", &[], json!({})).await.ok();
    cluster.agree().await;
    assert_eq!(workers(&a, "?active=true").await, ["ash", "elm/1"]);
    assert_eq!(workers(&a, "?status=draining").await, ["oak"]);
    assert_eq!(a.metric_where("folkmoot_workers", "draining").await, 1.0);
    assert_eq!(a.metric_where("folkmoot_workers", "active").await, 2.0);
    b.ask("DELETE", "/v1/workers/oak/drain", &[], Value::Null).await.ok();
    assert_eq!(workers(&b, "?active=true").await.len(), 3);
    let running = json!({ "running_tasks": ["t-1", "t-2"] });
    b.ask("POST", "/v1/workers/oak/heartbeat", &[], running).await.ok();
    let oak = b.get("/v1/workers/oak").await.ok();
    assert_eq!((&oak["running_tasks"], &oak["tasks_started"]), (&json!(["t-1", "t-2"]), &json!(2)));

    a.ask("DELETE", "/v1/workers/elm%2F1", &[], Value::Null).await.ok();
    assert_eq!(a.get("/v1/workers/elm%2F1").await.ok()["state"], "gone");
    let gone = a.ask("POST", "/v1/workers/elm%2F1/heartbeat", &[], json!({})).await;
    assert!(gone.refused(422, "bad-worker").contains("registers when it comes back"), "{gone:?}");
    a.ask("PATCH", "/v1/workers/yew", &[], json!({})).await.refused(404, "not-found");
    a.ask("PUT", "/v1/workers/yew", &[], json!({ "capacity": { "cpus": -1 } })).await.refused(400, "bad-json");
    a.get("/v1/workers?labels=zone").await.refused(422, "bad-worker");
    a.get("/v1/workers?status=asleep").await.refused(400, "bad-parameter");
}

#[tokio::test]
async fn a_worker_whose_heartbeat_stopped_is_dropped_on_another_node() {
    let cluster = Cluster::start(2).await;
    let [here, there] = [0, 1].map(|node| cluster[node].http.clone());
    let heard = Instant::now();
    for id in ["ash", "oak"] {
        here.ask("PUT", &format!("/v1/workers/{id}"), &[], json!({ "capacity": { "cpus": 2 } })).await.ok();
    }
    cluster.agree().await;
    assert_eq!(workers(&there, "?active=true").await, ["ash", "oak"]);
    // Only ash goes on.
    until("oak is dropped", TTL + LIMIT, async || {
        beat(&here, "ash").await;
        let active = workers(&there, "?active=true").await;
        assert!(active.contains(&"ash".to_owned()), "{active:?}");
        if active == ["ash"] { Ok(()) } else { Err(format!("{active:?}")) }
    })
    .await;
    assert!(heard.elapsed() >= TTL, "too early: {:?}", heard.elapsed());
    println!("dropped {:?} after its last heartbeat at the most", heard.elapsed());
    let oak = there.get("/v1/workers/oak").await.ok();
    assert_eq!((&oak["status"], &oak["alive"], &oak["state"]), (&json!("active"), &json!(false), &json!("silent")));
    assert_eq!(there.metric_where("folkmoot_workers", "silent").await, 1.0);
    let chosen = there.ask("POST", "/v1/assign", &[], json!({ "needs": { "cpus": 1 } })).await.ok();
    assert_eq!(chosen["candidates"].as_array().unwrap().len(), 1, "{chosen}");
    // It is back as soon as it is heard of.
    beat(&here, "oak").await;
    cluster.agree().await;
    assert_eq!(workers(&there, "?active=true").await, ["ash", "oak"]);
}

#[tokio::test]
async fn a_drain_on_one_side_of_a_cut_stands_against_a_worker_that_comes_back_on_the_other() {
    let cluster = Cluster::start(2).await;
    let [a, b] = [0, 1].map(|node| cluster[node].http.clone());
    a.ask("PUT", "/v1/workers/ash", &[], json!({})).await.ok();
    cluster.agree().await;
    cluster.partition(&[&[0], &[1]]).await;
    a.ask("POST", "/v1/workers/ash/drain", &[], Value::Null).await.ok();
    b.ask("DELETE", "/v1/workers/ash", &[], Value::Null).await.ok();
    b.ask("PUT", "/v1/workers/ash", &[], json!({})).await.ok();
    assert_eq!(workers(&b, "?active=true").await, ["ash"]);
    cluster.heal().await;
    cluster.agree().await;
    for node in cluster.running() {
        assert_eq!(node.http.get("/v1/workers/ash").await.ok()["status"], "draining");
        assert_eq!(workers(&node.http, "?active=true").await, [""; 0]);
    }
}

#[tokio::test]
async fn a_host_that_is_drained_stays_so_while_its_node_reports() {
    let mut cluster = Cluster::empty().await;
    let mut launch: Launch = cluster.next("sled");
    launch.name = "ash".to_owned();
    let index = cluster.launch(launch.with("--host-report=on")).await;
    let http = cluster[index].http.clone();
    until("its report", LIMIT, async || {
        let active = workers(&http, "?active=true").await;
        if active == ["ash"] { Ok(()) } else { Err(format!("{active:?}")) }
    })
    .await;
    assert!(http.get("/v1/workers/ash").await.ok()["figures"]["cpu_count"].as_u64().unwrap() > 0);
    http.ask("PATCH", "/v1/workers/ash", &[], json!({ "capacity": { "cpus": 2, "memory_mb": 512 } })).await.ok();
    http.ask("POST", "/v1/workers/ash/drain", &[], Value::Null).await.ok();
    let heard = async || http.get("/v1/workers/ash").await.ok()["heartbeat_ms"].as_u64().unwrap();
    let drained = heard().await;
    until("two more reports", LIMIT, async || {
        let at = heard().await;
        if at > drained + 2_500 { Ok(()) } else { Err(format!("{at}")) }
    })
    .await;
    let ash = http.get("/v1/workers/ash").await.ok();
    assert_eq!((&ash["state"], &ash["capacity"]), (&json!("draining"), &json!({ "cpus": 2, "memory_mb": 512 })));
}

#[tokio::test]
async fn messages_written_on_both_sides_of_a_cut_are_all_there_after_it_in_one_order() {
    let cluster = Cluster::start(2).await;
    let [a, b] = [0, 1].map(|node| cluster[node].http.clone());
    let path = "/v1/tasks/build%2F7/agents";
    let send = async |http: &Http, from: &str, body: &str| {
        let sent = http.ask("POST", &format!("{path}/{from}/messages"), &[], json!({ "body": body })).await;
        sent.ok()["id"].as_str().unwrap().to_owned()
    };
    for (http, agent) in [(&a, "ada"), (&b, "bob")] {
        http.ask("PUT", &format!("{path}/{agent}"), &[], json!({ "role": "tester" })).await.ok();
        send(http, agent, &format!("{agent} before")).await;
    }
    cluster.agree().await;
    cluster.partition(&[&[0], &[1]]).await;
    // Turn by turn, so that in time they stand between each other.
    for n in 0..5 {
        send(&a, "ada", &format!("ada {n}")).await;
        send(&b, "bob", &format!("bob {n}")).await;
    }
    let inbox = |since: &Value| format!("{path}/cleo/messages?since={}", since.as_str().unwrap());
    let apart = a.get(&inbox(&json!(""))).await.ok();
    assert_eq!(bodies(&apart).len(), 7, "{apart}");
    stays(Duration::from_millis(300), async || {
        let all = b.get("/v1/tasks/build%2F7/messages").await.ok();
        assert!(bodies(&all).iter().all(|body| !body.starts_with("ada ") || *body == "ada before"), "{all}");
    })
    .await;
    cluster.heal().await;
    cluster.agree().await;

    let [all_a, all_b] = [&a, &b].map(|http| async { http.get("/v1/tasks/build%2F7/messages").await.ok() });
    let (all_a, all_b) = (all_a.await, all_b.await);
    assert_eq!(all_a["items"], all_b["items"], "one order");
    assert_eq!(bodies(&all_a).len(), 12);
    let of = |agent: &str| -> Vec<&str> { bodies(&all_a).into_iter().filter(|body| body.starts_with(agent)).collect() };
    assert_eq!(of("ada"), ["ada before", "ada 0", "ada 1", "ada 2", "ada 3", "ada 4"]);
    assert_eq!(of("bob"), ["bob before", "bob 0", "bob 1", "bob 2", "bob 3", "bob 4"]);
    // Whoever read on one side of the cut goes on at the other node, and misses nothing that is earlier in that order.
    let late = b.get(&inbox(&apart["next"])).await.ok();
    assert_eq!(bodies(&late), ["bob 0", "bob 1", "bob 2", "bob 3", "bob 4"]);
    assert_eq!(bodies(&a.get(&inbox(&late["next"])).await.ok()), [""; 0]);
}

#[tokio::test]
async fn agents_join_say_what_they_are_at_and_leave_over_http() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    let ask = async |method: &str, path: &str, body: Value| {
        http.ask(method, &format!("/v1/tasks/t-1/agents{path}"), &[], body).await
    };
    ask("PATCH", "/ada", json!({})).await.refused(404, "not-found");
    ask("PUT", "/ada", json!({ "role": "lead" })).await.ok();
    ask("PUT", "/bob", json!({})).await.ok();
    ask("PATCH", "/ada", json!({ "state": "planning", "data": { "shard": 3 } })).await.ok();
    let ada = ask("GET", "/ada", Value::Null).await.ok();
    assert_eq!((&ada["role"], &ada["state"], &ada["data"]["shard"]), (&json!("lead"), &json!("planning"), &json!(3)));
    assert_eq!(ada["alive"], true);
    // A task has a state of its own, which an agent's leaves alone.
    http.put("tasks/t-1", json!({ "payload": "mail" })).await.ok();
    assert_eq!(http.fields("tasks/t-1").await, json!({ "payload": "mail" }));
    assert_eq!(http.document("tasks/t-1/agents/ada").await["inferred"], Value::Null, "all are declared");

    let sent = ask("POST", "/ada/messages", json!({ "to": "bob", "body": { "take": [1, 2] }, "id": "m-1" })).await.ok();
    assert_eq!(sent["id"], "m-1");
    ask("POST", "/ada/messages", json!({ "to": "bob", "body": "twice", "id": "m-1" })).await.ok();
    let inbox = ask("GET", "/bob/messages", Value::Null).await.ok();
    assert_eq!((inbox["items"].as_array().unwrap().len(), &inbox["items"][0]["body"]), (1, &json!({ "take": [1, 2] })));
    assert_eq!(ask("GET", "/ada/messages", Value::Null).await.ok()["items"], json!([]));
    ask("POST", "/ada/messages", json!({ "body": "x".repeat(5_000) })).await.refused(422, "bad-agent");
    ask("PATCH", "/ada", json!({ "state": "left" })).await.refused(422, "bad-agent");
    ask("PUT", "/a%2Fb", json!({})).await.refused(422, "bad-agent");
    ask("GET", "/bob/messages?since=nowhere!", Value::Null).await.refused(400, "bad-parameter");

    ask("DELETE", "/bob", Value::Null).await.ok();
    ask("POST", "/bob/messages", json!({ "body": "x" })).await.refused(422, "bad-agent");
    let listed = ask("GET", "", Value::Null).await.ok();
    let there = |at: usize| (&listed["items"][at]["agent"], &listed["items"][at]["alive"]);
    assert_eq!((there(0), there(1)), ((&json!("ada"), &json!(true)), (&json!("bob"), &json!(false))));
    ask("DELETE", "/bob?forget=true", Value::Null).await.ok();
    assert_eq!(ask("GET", "", Value::Null).await.ok()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_command_line_knows_workers_and_agents() {
    let cluster = Cluster::start(1).await;
    let at = async |args: &[&str]| at(&cluster[0], args).await;
    let registered = at(&[
        "worker",
        "register",
        "w1",
        "--cpus",
        "8",
        "--memory-mb",
        "1024",
        "--label",
        "zone=eu",
        "--resource",
        "gpus=2",
    ]);
    assert_eq!(registered.await.ok(), "worker w1 is there\n");
    at(&["worker", "register", "w2", "--cpus", "2", "--memory-mb", "1024"]).await.ok();
    assert_eq!(
        at(&["worker", "ls", "--active"]).await.ok(),
        "w1\tactive\t0\t{\"cpus\":8,\"gpus\":2,\"memory_mb\":1024}\nw2\tactive\t0\t{\"cpus\":2,\"memory_mb\":1024}\n"
    );
    assert!(at(&["worker", "ls", "--labels", "zone=eu"]).await.ok().starts_with("w1\t"));
    assert_eq!(at(&["worker", "heartbeat", "w1", "--running", "t-1,t-2"]).await.ok(), "worker w1 is there\n");
    let ranked = at(&["worker", "assign", "--cpus", "1", "--json"]).await.json();
    assert_eq!((&ranked["candidates"][0]["worker"], &ranked["candidates"][0]["fits"]), (&json!("w1"), &json!(8)));
    at(&["worker", "assign", "--cpus", "2", "--labels", "zone=us"]).await.failed(4);
    at(&["worker", "drain", "w1"]).await.ok();
    assert!(at(&["worker", "assign", "--cpus", "1"]).await.ok().starts_with("w2\t2\t"));
    at(&["worker", "undrain", "w1"]).await.ok();
    at(&["worker", "update", "w1", "--no-label", "zone", "--label", "rack=a"]).await.ok();
    let shown = at(&["worker", "show", "w1", "--json"]).await.json();
    assert_eq!((&shown["labels"], &shown["tasks_started"]), (&json!({ "rack": "a" }), &json!(2)));
    assert_eq!(at(&["worker", "leave", "w1"]).await.ok(), "worker w1 is gone\n");
    at(&["worker", "heartbeat", "w1"]).await.failed(2);
    at(&["worker", "drain", "w9"]).await.failed(4);
    at(&["worker", "ls", "--status", "asleep"]).await.failed(2);

    assert_eq!(at(&["agent", "join", "build/7", "ada", "--role", "lead"]).await.ok(), "ada works on build/7\n");
    at(&["agent", "join", "build/7", "bob"]).await.ok();
    at(&["agent", "set", "build/7", "ada", "--state", "testing", "--data", "{\"shard\":3}"]).await.ok();
    at(&["agent", "send", "build/7", "ada", "shard 3 is red", "--to", "bob"]).await.ok();
    let inbox = at(&["agent", "inbox", "build/7", "bob"]).await;
    assert_eq!(inbox.ok(), "ada\tbob\tshard 3 is red\n");
    let place = inbox.stderr.trim().strip_prefix("go on with --since ").unwrap().to_owned();
    assert_eq!(at(&["agent", "inbox", "build/7", "bob", "--since", &place]).await.ok(), "");
    at(&["agent", "send", "build/7", "bob", "[1,2]"]).await.ok();
    let all = at(&["agent", "messages", "build/7", "--since", &place, "--json"]).await.json();
    assert_eq!(all["items"][0]["body"], json!([1, 2]));
    assert_eq!(at(&["agent", "leave", "build/7", "bob"]).await.ok(), "bob has left build/7\n");
    assert_eq!(at(&["agent", "heartbeat", "build/7", "ada"]).await.ok(), "ada is there\n");
    assert_eq!(at(&["agent", "ls", "build/7"]).await.ok(), "ada\tthere\tlead\ttesting\nbob\tnot there\t-\tleft\n");
    at(&["agent", "leave", "build/7", "bob", "--forget"]).await.ok();
    at(&["agent", "show", "build/7", "bob"]).await.failed(4);
}
