//! Capacity: never exceeded, also when both halves of a split place at once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Http, Node, Reply, run_with_input, until};

const LIMIT: Duration = Duration::from_secs(20);
const MEMORY: u64 = 1_000;

async fn place(http: &Http, thing: &str, memory_mb: u64) -> Reply {
    let path = format!("/v1/capacity/ash/placements/{thing}");
    http.ask("PUT", &path, &[], json!({ "memory_mb": memory_mb })).await
}

async fn read(http: &Http) -> Value {
    http.get("/v1/capacity/ash").await.ok()
}

/// Nodes that all vote, and a worker.
async fn cluster(nodes: usize) -> Cluster {
    let cluster = Cluster::start_alone(nodes).await;
    cluster.voters(nodes).await;
    cluster[0].http.ask("PUT", "/v1/capacity/ash", &[], json!({ "memory_mb": MEMORY })).await.ok();
    cluster.agree().await;
    cluster
}

/// Places until the node refuses; gives how often it was placed, and the last answer.
async fn fill(http: &Http, side: &str, memory_mb: u64) -> (u64, Reply) {
    for n in 0.. {
        let reply = place(http, &format!("vms/{side}-{n}"), memory_mb).await;
        if reply.status != 200 {
            return (n, reply);
        }
    }
    unreachable!("a worker has its limits")
}

fn replica_of(cluster: &Value, node: &str) -> String {
    let rights = cluster["rights"].as_object().unwrap();
    rights.keys().find(|replica| replica.starts_with(node)).unwrap().clone()
}

#[tokio::test]
async fn things_are_placed_sized_and_released_over_http() {
    let cluster = cluster(3).await;
    let [a, b] = [0, 1].map(|node| cluster[node].http.clone());
    let placed = place(&a, "vms/7", 600).await.ok();
    assert_eq!((&placed["thing"], &placed["settled"]), (&json!("vms/7"), &json!(false)));
    cluster.agree().await;
    let refused = place(&b, "vms/8", 500).await;
    assert!(
        refused.refused(409, "no-room").contains("500 more of `memory_mb` are needed; 400 are free"),
        "{refused:?}"
    );
    assert_eq!((&refused.json()["free"], &refused.json()["others"]), (&json!(400), &json!(0)));
    place(&a, "vms/7", 100).await.ok();
    a.ask("POST", "/v1/capacity/ash/give-back", &[], json!({})).await.ok();
    place(&b, "vms/8", 900).await.ok();
    cluster.agree().await;
    let shown = read(&cluster[2].http).await;
    assert_eq!((&shown["used"], &shown["void"]), (&json!({ "memory_mb": 1000 }), &json!([])));
    assert_eq!(shown["rights"].as_object().unwrap().len(), 2);

    let asked = a.ask("DELETE", "/v1/capacity/ash/placements/vms/8", &[], Value::Null).await.ok();
    assert_eq!(asked, json!({ "released": "asked" }), "b has it");
    until("b hears of it", LIMIT, async || {
        let shown = read(&a).await;
        if shown["used"] == json!({ "memory_mb": 100 }) { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    let again = a.ask("DELETE", "/v1/capacity/ash/placements/vms/8", &[], Value::Null).await.ok();
    assert_eq!(again, json!({ "released": "nothing" }));
    place(&a, "vms/9", 0).await.refused(422, "bad-capacity");
    a.ask("PUT", "/v1/capacity/ash/placements/x", &[], json!({ "gpus": 1 })).await.refused(422, "bad-capacity");
    a.ask("PUT", "/v1/capacity/ash", &[], json!({ "memory_mb": 10 })).await.refused(409, "no-room");
    a.get("/v1/capacity/oak").await.refused(404, "not-found");
    a.ask("POST", "/v1/capacity/ash/reclaim", &[], json!({ "replica": "x" })).await.refused(422, "bad-capacity");
    let alive = replica_of(&shown, cluster[1].id());
    a.ask("POST", "/v1/capacity/ash/reclaim", &[], json!({ "replica": alive })).await.refused(409, "not-lost");
    let all = a.get("/v1/capacity").await.ok();
    assert_eq!((all["items"].as_array().unwrap().len(), &all["items"][0]["worker"]), (1, &json!("ash")));
}

#[tokio::test]
async fn the_command_line_places_and_releases() {
    let cluster = cluster(1).await;
    let variables = [("FOLKMOOT_API", cluster[0].ready.api.as_str())];
    let at = async |args: &[&str]| run_with_input(args, &variables, "", LIMIT).await;
    let set = at(&["capacity", "set", "oak", "memory_mb=100", "cpus=4"]).await;
    assert_eq!(set.ok(), "oak has cpus=4 memory_mb=100\n");
    let placed = at(&["capacity", "place", "oak", "tasks/build", "memory_mb=60", "cpus=1"]).await;
    assert_eq!(placed.ok(), "tasks/build has cpus=1 memory_mb=60 on oak\n");
    assert!(at(&["capacity", "place", "oak", "x", "memory_mb=41"]).await.failed(5).contains("40 are free"));
    assert_eq!(
        at(&["capacity", "ls"]).await.ok(),
        "ash\tnothing\tof memory_mb=1000\noak\tcpus=1 memory_mb=60\tof cpus=4 memory_mb=100\n"
    );
    assert_eq!(at(&["capacity", "release", "oak", "tasks/build"]).await.ok(), "tasks/build is released on oak\n");
    assert_eq!(at(&["capacity", "release", "oak", "tasks/build"]).await.ok(), "tasks/build is not placed on oak\n");
    assert_eq!(at(&["capacity", "give-back", "oak"]).await.ok(), "gave back cpus=2 memory_mb=60\n");
    let shown = at(&["capacity", "show", "oak", "--json"]).await.json();
    assert_eq!((&shown["rights"], &shown["placements"]), (&json!({}), &json!([])));
    at(&["capacity", "place", "oak", "x", "memory_mb"]).await.failed(2);
    at(&["capacity", "place", "elm", "x", "memory_mb=1"]).await.failed(4);
}

#[tokio::test]
async fn both_halves_of_a_split_place_at_once_and_never_more_than_fits() {
    let cluster = cluster(5).await;
    // Each half has a right, or it could place nothing.
    let (minority, majority) = (&cluster[0].http, &cluster[3].http);
    place(minority, "vms/first", 10).await.ok();
    cluster.agree().await;
    cluster.partition(&[&[0, 1], &[2, 3, 4]]).await;
    until("the minority is told", LIMIT, async || match minority.metric("folkmoot_quorum").await {
        0.0 => Ok(()),
        quorum => Err(format!("{quorum}")),
    })
    .await;
    let ((few, refused), (many, full)) =
        futures::future::join(fill(minority, "west", 30), fill(majority, "east", 30)).await;
    refused.refused(503, "no-quorum");
    full.refused(409, "no-room");
    assert!(few >= 2, "it placed {few} within its right of a tenth");
    assert!(many >= 20, "it placed {many}");
    assert!(10 + 30 * (few + many) <= MEMORY, "{few} and {many}");

    cluster.heal().await;
    cluster.agree().await;
    for node in cluster.running() {
        let shown = read(&node.http).await;
        assert_eq!((&shown["used"]["memory_mb"], &shown["void"]), (&json!(10 + 30 * (few + many)), &json!([])));
    }
    println!("{few} on the side without a quorum, {many} on the other, of {MEMORY} MiB");
}

#[tokio::test]
async fn what_a_killed_node_held_comes_back_by_reclaim_only_and_what_it_placed_stays() {
    let mut cluster = cluster(3).await;
    let a = cluster[0].http.clone();
    place(&cluster[2].http, "vms/7", 600).await.ok();
    place(&cluster[2].http, "vms/8", 100).await.ok();
    cluster[2].http.ask("DELETE", "/v1/capacity/ash/placements/vms/8", &[], Value::Null).await.ok();
    cluster.agree().await;
    let gone = replica_of(&read(&a).await, cluster[2].id());
    let reclaim =
        async |http: &Http| http.ask("POST", "/v1/capacity/ash/reclaim", &[], json!({ "replica": gone })).await;
    reclaim(&a).await.refused(409, "not-lost");
    cluster[2].kill();
    let full = place(&a, "vms/9", 400).await;
    let held = full.json();
    assert_eq!((full.status, &held["others"]), (409, &json!(166)), "it is the dead one's: {full:?}");
    until("it is not heard", LIMIT, async || {
        let reply = reclaim(&a).await;
        if reply.status == 200 { Ok(()) } else { Err(format!("{reply:?}")) }
    })
    .await;
    place(&a, "vms/9", 400).await.ok();
    let shown = read(&a).await;
    assert_eq!(shown["used"], json!({ "memory_mb": 1000 }));
    assert_eq!((&shown["placements"][0]["thing"], &shown["placements"][0]["settled"]), (&json!("vms/7"), &json!(true)));
    reclaim(&a).await.refused(404, "not-found");
    let released = a.ask("DELETE", "/v1/capacity/ash/placements/vms/7", &[], Value::Null).await.ok();
    assert_eq!(released, json!({ "released": "freed" }));
    assert_eq!(read(&a).await["used"], json!({ "memory_mb": 400 }));
    assert!(a.metric_where("folkmoot_capacity_escrow", "memory_mb").await >= 0.0);
}

#[tokio::test]
async fn a_node_that_starts_again_has_what_it_placed_settled_by_itself() {
    let mut cluster = cluster(3).await;
    place(&cluster[2].http, "vms/7", 300).await.ok();
    cluster[2].kill();
    cluster.restart(2).await;
    let node: &Node = &cluster[2];
    until("it is settled", LIMIT, async || {
        let shown = read(&node.http).await;
        let is_so = shown["rights"] == json!({}) && shown["placements"][0]["settled"] == true;
        if is_so { Ok(()) } else { Err(shown.to_string()) }
    })
    .await;
    let again = place(&node.http, "vms/7", 300).await.ok();
    assert_eq!(again["settled"], true, "it is there, and not twice");
    place(&node.http, "vms/8", 700).await.ok();
}
