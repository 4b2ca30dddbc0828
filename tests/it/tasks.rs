//! Tasks and queues: each task is at one worker at a time, also when workers stand still and networks split.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, Http, Node, Reply, run_with_input, until};

const LIMIT: Duration = Duration::from_secs(20);

async fn at(node: &Node, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &node.ready.api)], "", LIMIT).await
}

async fn post(http: &Http, path: &str, body: Value) -> Reply {
    http.ask("POST", path, &[], body).await
}

async fn claim(http: &Http, worker: &str, lease_ms: u64, wait_ms: u64) -> Value {
    let body = json!({ "worker": worker, "lease_ms": lease_ms, "wait_ms": wait_ms });
    post(http, "/v1/queues/mail/claim", body).await.ok()
}

async fn push(http: &Http, payload: Value) -> String {
    let pushed = post(http, "/v1/queues/mail", json!({ "payload": payload, "backoff_ms": 10 })).await.ok();
    pushed["id"].as_str().unwrap().to_owned()
}

async fn task(http: &Http, id: &str) -> Value {
    http.get(&format!("/v1/tasks/{id}")).await.ok()
}

/// Nodes that all vote.
async fn cluster(nodes: usize) -> Cluster {
    let cluster = Cluster::start_alone(nodes).await;
    cluster.voters(nodes).await;
    cluster
}

#[tokio::test]
async fn a_task_goes_from_hand_to_hand_over_http() {
    let cluster = cluster(3).await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster[node].http.clone());
    post(
        &a,
        "/v1/tasks/t%2F1",
        json!({ "queue": "mail", "payload": { "to": "ada" }, "max_attempts": 2, "backoff_ms": 10 }),
    )
    .await
    .ok();
    post(&a, "/v1/tasks/t%2F1", json!({})).await.refused(412, "precondition-failed");
    post(&a, "/v1/tasks/t2", json!({ "max_attempts": 0 })).await.refused(422, "bad-task");
    post(&a, "/v1/tasks/t%2Fagents%2Fx", json!({})).await.refused(422, "bad-task");
    post(&a, "/v1/tasks/none/claim", json!({ "worker": "ash", "lease_ms": 1000 })).await.refused(404, "not-found");
    cluster.agree().await;
    let claimed = post(&a, "/v1/tasks/t%2F1/claim", json!({ "worker": "ash", "lease_ms": 20_000 })).await.ok();
    let token = claimed["token"].as_u64().unwrap();
    assert_eq!((&claimed["task"]["state"], &claimed["task"]["payload"]), (&json!("claimed"), &json!({ "to": "ada" })));
    let late = post(&b, "/v1/tasks/t%2F1/claim", json!({ "worker": "oak", "lease_ms": 1_000 })).await;
    assert!(late.status == 409 || late.status == 423, "{late:?}");
    post(&b, "/v1/tasks/t%2F1/start", json!({ "token": 99 })).await.refused(409, "not-holder");
    assert_eq!(post(&b, "/v1/tasks/t%2F1/start", json!({ "token": token })).await.ok()["state"], "running");
    post(&c, "/v1/tasks/t%2F1/progress", json!({ "progress": 40 })).await.ok();
    let extended = c.ask("PUT", "/v1/tasks/t%2F1/claim", &[], json!({ "token": token })).await.ok();
    assert_eq!(extended["cancel"], false);
    // Whoever writes what is decided by another way is told how.
    b.ask("PATCH", "/v1/docs/tasks/t%2F1", &[], json!({ "state": "done" })).await.refused(422, "does-not-fit");

    let failed = post(&c, "/v1/tasks/t%2F1/fail", json!({ "token": token, "error": "no route" })).await.ok();
    assert_eq!(
        (&failed["state"], &failed["attempt"], &failed["error"]),
        (&json!("pending"), &json!(1), &json!("no route"))
    );
    let again = claim(&a, "elm", 20_000, 5_000).await;
    assert!(again["token"].as_u64().unwrap() > token, "{again}");
    let end = json!({ "token": again["token"], "result": { "sent": true } });
    let done = post(&b, "/v1/tasks/t%2F1/complete", end.clone()).await.ok();
    assert_eq!(
        (&done["state"], &done["result"], &done["worker"]),
        (&json!("done"), &json!({ "sent": true }), &json!("elm"))
    );
    assert_eq!(post(&c, "/v1/tasks/t%2F1/complete", end).await.ok()["state"], "done", "asked again");
    let stale = post(&c, "/v1/tasks/t%2F1/complete", json!({ "token": token })).await;
    stale.refused(409, "not-holder");
    cluster.agree().await;
    for http in [&a, &b, &c] {
        assert_eq!(task(http, "t%2F1").await["state"], "done");
        assert_eq!(http.get("/v1/queues/mail").await.ok()["tasks"]["done"], 1);
    }
}

#[tokio::test]
async fn the_command_line_works_through_a_queue() {
    let cluster = cluster(1).await;
    let node = &cluster[0];
    let id = at(node, &["queue", "push", "mail", "--payload", "{\"to\":\"ada\"}"]).await.ok().to_owned();
    let claimed = at(node, &["queue", "claim", "mail", "--worker", "ash"]).await.ok().to_owned();
    let columns: Vec<&str> = claimed.trim().split('\t').collect();
    assert_eq!((columns[0], columns[2]), (id.trim(), "{\"to\":\"ada\"}"));
    at(node, &["queue", "claim", "mail", "--worker", "oak"]).await.failed(4);
    at(node, &["task", "start", id.trim(), "--token", columns[1]]).await.ok();
    assert!(at(node, &["queue", "ls"]).await.ok().to_owned().contains("mail\t1 running"));
    at(node, &["task", "complete", id.trim(), "--token", "77"]).await.failed(5);
    at(node, &["task", "complete", id.trim(), "--token", columns[1], "--result", "7"]).await.ok();
    let shown = at(node, &["task", "show", id.trim()]).await.json();
    assert_eq!((&shown["state"], &shown["result"]), (&json!("done"), &json!(7)));
    // A dead letter, and how it is brought back.
    at(node, &["task", "create", "d", "--queue", "mail", "--max-attempts", "1"]).await.ok();
    let token = at(node, &["task", "claim", "d", "--worker", "ash"]).await.ok().to_owned();
    at(node, &["task", "fail", "d", "--token", token.trim(), "--error", "no disk"]).await.ok();
    let dead = at(node, &["task", "ls", "--state", "failed"]).await.ok().to_owned();
    assert_eq!(dead.trim(), "d\tmail\tfailed\t1/1\tash\tno disk");
    at(node, &["task", "retry", "d"]).await.ok();
    assert!(at(node, &["task", "cancel", "d"]).await.ok().to_owned().contains("is cancelled"));
}

#[tokio::test]
async fn what_a_worker_had_that_stands_still_is_handed_to_another_who_fences_it() {
    let cluster = cluster(3).await;
    let (a, b) = (&cluster[0].http, &cluster[1].http);
    let id = push(a, json!(1)).await;
    let lost = claim(a, "ash", 1_000, 5_000).await;
    let began = Instant::now();
    // Nobody extends it, and nobody asks for this very task: voters hand it out again.
    let next = claim(b, "oak", 20_000, 15_000).await;
    assert!(began.elapsed() >= Duration::from_millis(1_000), "{:?}: its lease had not ended", began.elapsed());
    assert_eq!((&next["task"]["id"], &next["task"]["attempt"]), (&json!(id), &json!(2)));
    assert_eq!(next["task"]["error"], "the lease of ash ran out");
    let late = post(a, &format!("/v1/tasks/{id}/complete"), json!({ "token": lost["token"] })).await;
    late.refused(409, "not-holder");
    post(b, &format!("/v1/tasks/{id}/complete"), json!({ "token": next["token"] })).await.ok();
    assert_eq!(claim(a, "ash", 1_000, 0).await["task"], json!(null));
}

#[tokio::test]
async fn many_workers_at_all_nodes_do_each_task_once() {
    const TASKS: usize = 60;
    let cluster = cluster(3).await;
    for n in 0..TASKS {
        push(&cluster[n % 3].http, json!(n)).await;
    }
    let workers = (0..9).map(|n| {
        let http = cluster[n % 3].http.clone();
        tokio::spawn(async move {
            let mut done = Vec::new();
            loop {
                let claim = claim(&http, &format!("w{n}"), 20_000, 0).await;
                let Some(id) = claim["task"]["id"].as_str() else { return done };
                let end = json!({ "token": claim["token"], "result": n });
                post(&http, &format!("/v1/tasks/{id}/complete"), end).await.ok();
                done.push((id.to_owned(), claim["task"]["attempt"].clone()));
            }
        })
    });
    let done: Vec<(String, Value)> =
        futures::future::join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
    // Who found nothing to claim may have looked before the last tasks came to its node.
    cluster.agree().await;
    let rest = claim(&cluster[0].http, "last", 20_000, 0).await;
    assert_eq!(rest["task"], json!(null), "{rest}");
    let ids: BTreeSet<&String> = done.iter().map(|(id, _)| id).collect();
    assert_eq!((done.len(), ids.len()), (TASKS, TASKS));
    assert!(done.iter().all(|(_, attempt)| *attempt == 1));
    for node in &cluster.nodes {
        assert_eq!(node.http.get("/v1/queues/mail").await.ok()["tasks"]["done"], TASKS);
    }
}

#[tokio::test]
async fn a_side_without_a_quorum_makes_tasks_and_cancels_them_and_hands_out_none() {
    let cluster = cluster(3).await;
    let before = push(&cluster[2].http, json!("before")).await;
    cluster.agree().await;
    cluster.partition(&[&[0, 1], &[2]]).await;
    let minority = &cluster[2].http;
    let made = push(minority, json!("made here")).await;
    let body = json!({ "worker": "elm", "lease_ms": 1_000 });
    post(minority, "/v1/queues/mail/claim", body.clone()).await.refused(503, "no-quorum");
    let cancelled = post(minority, &format!("/v1/tasks/{before}/cancel"), json!(null)).await.ok();
    assert_eq!((&cancelled["state"], &cancelled["cancel"]), (&json!("pending"), &json!(true)));
    // The others do not know that, and are at it.
    let claimed = claim(&cluster[0].http, "ash", 20_000, 0).await;
    assert_eq!(claimed["task"]["id"], json!(before));
    cluster.heal().await;
    cluster.agree().await;
    let path = format!("/v1/tasks/{before}/claim");
    let extended = cluster[1].http.ask("PUT", &path, &[], json!({ "token": claimed["token"] })).await.ok();
    assert_eq!(extended["cancel"], true, "its worker is told");
    let gone = json!({ "token": claimed["token"], "cancelled": true });
    assert_eq!(cluster[0].http.ask("DELETE", &path, &[], gone).await.ok()["state"], "cancelled");
    let next = claim(&cluster[1].http, "oak", 20_000, 5_000).await;
    assert_eq!(next["task"]["id"], json!(made));
    // One that nobody has is cancelled by the voters, once they hear of it.
    cluster.partition(&[&[0, 1], &[2]]).await;
    let other = push(minority, json!("unwanted")).await;
    post(minority, &format!("/v1/tasks/{other}/cancel"), json!(null)).await.ok();
    cluster.heal().await;
    until("the task is cancelled", LIMIT, async || match cluster[0].http.get(&format!("/v1/tasks/{other}")).await {
        reply if reply.status != 200 => Err(format!("{reply:?}")),
        reply if reply.json()["state"] == "cancelled" => Ok(()),
        reply => Err(reply.json()["state"].to_string()),
    })
    .await;
}

#[tokio::test]
async fn the_most_urgent_is_handed_out_first_at_every_node_and_a_long_id_is_like_any_other() {
    let cluster = cluster(3).await;
    let long = "z".repeat(512);
    for (id, priority) in [("low", 1), ("high", 9), (long.as_str(), 5)] {
        let body = json!({ "queue": "mail", "priority": priority });
        post(&cluster[0].http, &format!("/v1/tasks/{id}"), body).await.ok();
    }
    cluster.agree().await;
    for (node, wanted) in cluster.nodes.iter().zip(["high", &long, "low"]) {
        let claimed = claim(&node.http, "ash", 20_000, 0).await;
        assert_eq!(claimed["task"]["id"], wanted);
        let path = format!("/v1/tasks/{wanted}/claim");
        node.http.ask("PUT", &path, &[], json!({ "token": claimed["token"] })).await.ok();
        cluster.agree().await;
    }
}

#[tokio::test]
async fn a_token_that_is_not_the_holders_begins_and_ends_nothing() {
    let cluster = cluster(1).await;
    let http = &cluster[0].http;
    let id = push(http, json!(1)).await;
    let verb = |verb: &str| format!("/v1/tasks/{id}/{verb}");
    let first = claim(http, "ash", 20_000, 0).await["token"].clone();
    post(http, &verb("start"), json!({ "token": first })).await.ok();
    post(http, &verb("start"), json!({ "token": first })).await.ok();
    post(http, &verb("start"), json!({ "token": 999 })).await.refused(409, "not-holder");
    let failed = json!({ "token": first, "error": "no route" });
    post(http, &verb("fail"), failed.clone()).await.ok();
    post(http, &verb("fail"), failed).await.ok();
    post(http, &verb("complete"), json!({ "token": first, "result": 7 })).await.refused(409, "not-holder");
    let second = claim(http, "oak", 20_000, 5_000).await["token"].clone();
    post(http, &verb("complete"), json!({ "token": first, "result": 7 })).await.refused(409, "not-holder");
    post(http, &verb("complete"), json!({ "token": second, "result": 8 })).await.ok();
    post(http, &verb("complete"), json!({ "token": second, "result": 9 })).await.refused(409, "not-holder");
    assert_eq!(task(http, &id).await["result"], 8);
}

#[tokio::test]
async fn what_becomes_of_a_task_is_decided_by_its_verbs_alone() {
    let cluster = cluster(1).await;
    let http = &cluster[0].http;
    let id = push(http, json!(1)).await;
    let token = claim(http, "ash", 20_000, 0).await["token"].clone();
    let path = format!("/v1/docs/tasks/{id}?durability=quorum");
    http.ask("PATCH", &path, &[], json!({ "state": "done" })).await.refused(422, "does-not-fit");
    let lock = format!("/v1/locks/tasks%2F{id}");
    http.ask("DELETE", &lock, &[], json!({ "token": token })).await.refused(422, "does-not-fit");
    post(http, &lock, json!({ "holder": "thief", "lease_ms": 1_000 })).await.refused(422, "does-not-fit");
    http.ask("PATCH", "/v1/docs/capacity/ash", &[], json!({ "placed": {} })).await.refused(422, "does-not-fit");
    assert_eq!(task(http, &id).await["state"], "claimed");
    let taken = post(http, &format!("/v1/tasks/{id}/claim"), json!({ "worker": "oak", "lease_ms": 1_000 })).await;
    assert!(taken.refused(423, "held").contains("`ash` has task"));
}
