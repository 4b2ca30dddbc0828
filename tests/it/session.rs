//! What a session saw, it never unsees: clock tokens between nodes, receipts from other disks, watches that resume.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Cluster, Events, Http};

#[tokio::test]
async fn a_read_elsewhere_with_the_token_of_a_write_always_sees_it() {
    let cluster = Cluster::start(3).await;
    let mut clock = String::new();
    for n in 0..200 {
        let (here, there) = (&cluster[n % 3].http, &cluster[(n + 1) % 3].http);
        let path = format!("/v1/docs/vms/vm-{}", n % 20);
        // Without a wait for the disk the answer is back before the others can have the write.
        let put = format!("{path}?durability=memory");
        let wrote = here.ask("PUT", &put, &[("folkmoot-clock", &clock)], json!({ "n": n })).await;
        wrote.ok();
        clock = wrote.header("folkmoot-clock").to_owned();
        assert!(clock.len() < 4096);
        let read = there.ask("GET", &path, &[("folkmoot-clock", &clock)], Value::Null).await;
        assert_eq!(read.ok()["fields"], json!({ "n": n }), "stale after {n}");
        clock = read.header("folkmoot-clock").to_owned();
    }
}

#[tokio::test]
async fn a_node_that_cannot_have_what_the_session_saw_says_so_and_why() {
    let cluster = Cluster::start(2).await;
    cluster.partition(&[&[0], &[1]]).await;
    let wrote = cluster[0].http.put("vms/vm-1", json!({ "n": 1 })).await;
    let clock = wrote.header("folkmoot-clock").to_owned();
    let start = Instant::now();
    let read = async |more: &str| {
        let path = format!("/v1/docs/vms/vm-1{more}");
        cluster[1].http.ask("GET", &path, &[("folkmoot-clock", &clock)], Value::Null).await
    };
    let behind = read("").await;
    let waited = start.elapsed();
    assert!(!behind.refused(503, "behind").is_empty() && behind.header("retry-after") == "1");
    assert!((Duration::from_millis(1_900)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
    read("?consistency=local").await.refused(404, "not-found");
    cluster.heal().await;
    cluster.agree().await;
    read("").await.ok();
}

#[tokio::test]
async fn a_receipt_for_two_replicas_means_two_disks() {
    let mut cluster = Cluster::start(2).await;
    let replicated = async |http: &Http, id: &str| {
        http.ask("PUT", &format!("/v1/docs/vms/{id}?durability=replicas:2"), &[], json!({ "n": 1 })).await
    };
    for n in 0..20 {
        assert_eq!(replicated(&cluster[0].http, &format!("vm-{n}")).await.ok()["durability"], "replicas:2");
    }
    // Both processes die at once; the writer's data is lost for good.
    cluster[0].kill();
    cluster[1].kill();
    cluster[1].launch.join.clear();
    cluster.restart(1).await;
    assert_eq!(cluster[1].http.list("vms").await.len(), 20);

    let detail = replicated(&cluster[1].http, "alone").await.refused(504, "not-replicated");
    assert!(detail.contains("reached 1 of the 2"), "{detail}");
    assert_eq!(cluster[1].http.fields("vms/alone").await, json!({ "n": 1 }), "kept here all the same");
}

#[tokio::test]
async fn a_watch_resumes_without_loss_across_disconnects_and_shows_what_other_nodes_write() {
    let cluster = Cluster::start(2).await;
    let watched = &cluster[0].http;
    let mut events = Events::open(watched, "/v1/watch?prefix=vms/", None).await;
    let ready = events.next().await;
    assert_eq!(ready.name, "ready");
    let mut last = ready.id;
    let mut seen = BTreeMap::new();
    for round in 0..5 {
        // Written while nobody listens, at both nodes, and something that is not asked for.
        drop(events);
        for n in 0..20 {
            let id = format!("vms/r{round}-{n}");
            cluster[n % 2].http.put(&id, json!({ "n": n })).await.ok();
            cluster[n % 2].http.put(&format!("tasks/r{round}-{n}"), json!({})).await.ok();
        }
        cluster[1].http.delete(&format!("vms/r{round}-1")).await.ok();
        events = Events::open(watched, "/v1/watch?prefix=vms/", Some(&last)).await;
        assert_eq!(events.next().await.name, "ready");
        while seen.len() < (round + 1) * 20 || seen[&format!("r{round}-1")] != Value::Null {
            let event = events.next().await;
            assert_eq!(event.data["collection"], "vms");
            assert_eq!(event.name == "delete", event.data["fields"].is_null(), "{event:?}");
            seen.insert(event.data["id"].as_str().unwrap().to_owned(), event.data["fields"].clone());
            last = event.id;
        }
    }
    for (id, fields) in seen {
        let n: usize = id.split('-').nth(1).unwrap().parse().unwrap();
        assert_eq!(fields, if n == 1 { Value::Null } else { json!({ "n": n }) });
    }
}

#[tokio::test]
async fn a_position_of_another_node_or_an_earlier_run_is_gone_and_never_a_silent_gap() {
    let mut cluster = Cluster::start(2).await;
    let position = Events::open(&cluster[0].http, "/v1/watch", None).await.next().await.id;
    let resume = async |http: &Http| http.ask("GET", "/v1/watch", &[("last-event-id", &position)], Value::Null).await;
    let detail = resume(&cluster[1].http).await.refused(410, "position-expired");
    assert!(detail.contains("watch"), "it says how to resync: {detail}");
    cluster[0].stop().await;
    cluster.restart(0).await;
    resume(&cluster[0].http).await.refused(410, "position-expired");
    let nonsense = cluster[0].http.get("/v1/watch?since=nonsense").await;
    assert_eq!(nonsense.status, 400);
}

#[tokio::test]
async fn sigterm_is_not_held_up_by_an_open_watch() {
    let mut cluster = Cluster::start(1).await;
    let mut events = Events::open(&cluster[0].http, "/v1/watch", None).await;
    events.next().await;
    let took = cluster[0].stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}
