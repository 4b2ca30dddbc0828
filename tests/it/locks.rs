//! What takes a quorum: voters, and locks that one holder has at a time, also when the network splits or a holder dies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, Http, Reply, run, until};

const LIMIT: Duration = Duration::from_secs(20);

async fn acquire(http: &Http, lock: &str, holder: &str, lease_ms: u64, wait_ms: u64) -> Reply {
    let body = json!({ "holder": holder, "lease_ms": lease_ms, "wait_ms": wait_ms });
    http.ask("POST", &format!("/v1/locks/{lock}"), &[], body).await
}

async fn renew(http: &Http, lock: &str, token: u64) -> Reply {
    http.ask("PUT", &format!("/v1/locks/{lock}"), &[], json!({ "token": token })).await
}

async fn release(http: &Http, lock: &str, token: u64) -> Reply {
    http.ask("DELETE", &format!("/v1/locks/{lock}"), &[], json!({ "token": token })).await
}

fn token(granted: &Value) -> u64 {
    granted["token"].as_u64().unwrap()
}

#[tokio::test]
async fn members_of_a_fresh_cluster_are_voters_within_five_seconds() {
    for nodes in [3, 5] {
        let cluster = Cluster::start_alone(nodes).await;
        let since = Instant::now();
        let seen = cluster.voters(nodes).await;
        assert!(since.elapsed() < Duration::from_secs(5), "{nodes} nodes took {:?}", since.elapsed());
        assert!(seen.iter().all(|view| view["is_voter"] == true && view["quorum"] == true), "{seen:?}");
    }
}

#[tokio::test]
async fn a_lock_is_got_renewed_waited_for_and_given_back_over_http() {
    let cluster = Cluster::start(3).await;
    cluster.voters(3).await;
    let [a, b, c] = [0, 1, 2].map(|node| cluster[node].http.clone());
    let free = a.get("/v1/locks/vm/7").await.ok();
    assert_eq!((&free["token"], &free["holder"], &free["waiting"]), (&json!(0), &Value::Null, &json!([])));

    let granted = acquire(&a, "vm/7", "ada", 10_000, 0).await.ok();
    assert_eq!((token(&granted), &granted["holder"]), (1, &json!("ada")));
    let left = granted["expires_in_ms"].as_u64().unwrap();
    assert!((9_000..=10_000).contains(&left), "{left}");
    let refused = acquire(&b, "vm/7", "bob", 10_000, 0).await;
    assert!(refused.refused(423, "held").contains("`ada` has the lock"), "{refused:?}");
    assert_eq!(refused.json()["token"], 1);
    assert_eq!(token(&renew(&c, "vm/7", 1).await.ok()), 1);
    renew(&b, "vm/7", 9).await.refused(409, "not-holder");
    release(&b, "vm/7", 9).await.refused(409, "not-holder");

    // Bob stands in the queue, and has it as soon as it is free.
    let waits = tokio::spawn({
        let b = b.clone();
        async move { acquire(&b, "vm/7", "bob", 10_000, 15_000).await.ok() }
    });
    until("bob in the queue", LIMIT, async || {
        let lock = a.get("/v1/locks/vm/7").await.ok();
        if lock["waiting"] == json!(["bob"]) { Ok(()) } else { Err(lock.to_string()) }
    })
    .await;
    let since = Instant::now();
    release(&a, "vm/7", 1).await.ok();
    assert_eq!(token(&waits.await.unwrap()), 2);
    assert!(since.elapsed() < Duration::from_millis(900), "woken, and did not look by itself: {:?}", since.elapsed());
    release(&b, "vm/7", 2).await.ok();
    assert_eq!(release(&b, "vm/7", 2).await.ok()["released"], true, "asked again");
    assert_eq!(a.get("/v1/locks/vm/7").await.ok()["token"], 2, "a free lock keeps its token");

    // The same request is the same grant, wherever it is asked.
    let request = json!({ "holder": "ada", "lease_ms": 10_000, "request": "0123456789abcdef0123456789abcdef" });
    for http in [&a, &b, &c] {
        assert_eq!(token(&http.ask("POST", "/v1/locks/vm/7", &[], request.clone()).await.ok()), 3);
    }
    for body in [
        json!({ "holder": "ada", "lease_ms": 1 }),
        json!({ "holder": "", "lease_ms": 1_000 }),
        json!({ "holder": "ada", "lease_ms": 1_000, "request": "x" }),
        json!({ "holder": "ada", "lease_ms": 1_000, "wait_ms": 31_000 }),
    ] {
        a.ask("POST", "/v1/locks/l", &[], body).await.refused(400, "bad-parameter");
    }
    a.ask("POST", "/v1/locks/l", &[], json!({ "holder": "ada" })).await.refused(400, "bad-json");
}

#[tokio::test]
async fn the_minority_is_told_at_once_and_the_majority_takes_the_lock_once_its_lease_ran_out() {
    let cluster = Cluster::start_alone(5).await;
    cluster.voters(5).await;
    let (minority, majority) = (&cluster[0].http, &cluster[3].http);
    let held = token(&acquire(minority, "vm/7", "west", 3_000, 0).await.ok());
    let since = Instant::now();
    cluster.partition(&[&[0, 1], &[2, 3, 4]]).await;
    until("a minority that knows it is one", LIMIT, async || {
        let reply = renew(minority, "vm/7", held).await;
        if reply.status == 503 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    let told = Instant::now();
    let refused = renew(minority, "vm/7", held).await;
    assert!(refused.refused(503, "no-quorum").contains("2 of the 5 voters"), "{refused:?}");
    assert!(told.elapsed() < Duration::from_millis(500), "{:?}", told.elapsed());
    assert_eq!(minority.get("/v1/voters").await.ok()["quorum"], false);
    // What merges goes on.
    minority.put("vms/7", json!({ "seen": "west" })).await.ok();

    let granted = acquire(majority, "vm/7", "east", 3_000, 15_000).await.ok();
    assert_eq!(token(&granted), held + 1);
    assert!(since.elapsed() > Duration::from_millis(2_500), "before the lease ran out: {:?}", since.elapsed());
    cluster.heal().await;
    cluster.agree().await;
    until("a minority that is none any more", LIMIT, async || {
        let reply = renew(minority, "vm/7", held).await;
        if reply.status == 409 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_lock_outlives_its_voters_and_one_that_comes_back_empty_is_let_in_anew() {
    let mut cluster = Cluster::start(3).await;
    let before = cluster.voters(3).await[0]["version"].clone();
    let held = token(&acquire(&cluster[0].http, "l", "ada", 60_000, 0).await.ok());
    for node in 0..3 {
        cluster[node].kill();
    }
    for node in 0..3 {
        cluster.restart(node).await;
    }
    cluster.all_joined().await;
    acquire(&cluster[1].http, "l", "bob", 60_000, 0).await.refused(423, "held");
    assert_eq!(cluster.voters(3).await[0]["version"], before, "a restart changes nobody's vote");
    assert_eq!(token(&renew(&cluster[2].http, "l", held).await.ok()), held);

    // A copy of its directory in its place: as a voter it is another.
    cluster[2].kill();
    let dir = cluster.dir().join("node-2");
    let aside = cluster.dir().join("aside");
    std::fs::rename(&dir, &aside).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&aside, &dir]).status().unwrap();
    assert!(copied.success());
    cluster.restart(2).await;
    cluster.all_joined().await;
    until("another version of the voters", LIMIT, async || {
        let now = cluster[0].http.get("/v1/voters").await.ok();
        if now["version"].as_u64() > before.as_u64() { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    let seen = cluster.voters(3).await;
    assert!(seen.iter().all(|view| view["is_voter"] == true), "{seen:?}");
    assert_eq!(token(&renew(&cluster[2].http, "l", held).await.ok()), held, "it knows what was decided");
}

#[tokio::test]
async fn the_command_line_gets_a_lock_and_says_by_its_exit_code_why_not() {
    let cluster = Cluster::start(3).await;
    cluster.voters(3).await;
    let cli = async |node: usize, args: &[&str]| -> Ended {
        run(&[args, &["--api", &cluster[node].ready.api]].concat(), LIMIT).await
    };
    let acquired = cli(0, &["lock", "acquire", "vm/7", "--holder", "ada", "--lease", "20s"]).await;
    assert_eq!(acquired.ok(), "1\n");
    assert!(cli(1, &["lock", "acquire", "vm/7", "--holder", "bob"]).await.failed(6).contains("`ada` has the lock"));
    assert!(cli(1, &["lock", "show", "vm/7"]).await.ok().contains("ada\ttoken 1"));
    cli(2, &["lock", "renew", "vm/7", "--token", "1"]).await.ok();
    cli(2, &["lock", "release", "vm/7", "--token", "1"]).await.ok();
    assert!(cli(2, &["lock", "show", "vm/7"]).await.ok().contains("nobody\ttoken 1"));
    assert_eq!(cli(2, &["voters"]).await.ok().lines().count(), 3);
    cluster.partition(&[&[0], &[1, 2]]).await;
    until("exit code 7", LIMIT, async || {
        let ended = cli(0, &["lock", "acquire", "vm/7"]).await;
        if ended.code == Some(7) { Ok(()) } else { Err(format!("{ended:?}")) }
    })
    .await;
    assert!(cli(0, &["lock", "acquire", "vm/7"]).await.failed(7).contains("1 of the 3 voters"));
}
