//! The advisor and knowledge, over HTTP and on the command line, at more than one node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, Node, run_with_input, until};

const LIMIT: Duration = Duration::from_secs(30);
/// Boxes whose size is in conflict.
const BOXES: usize = 90;
/// Of these, settled by hand.
const DECIDED: usize = 84;

async fn at(node: &Node, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &node.ready.api)], "", LIMIT).await
}

fn is(holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err("not yet".to_owned()) }
}

async fn declare(node: &Node, field: Value) {
    node.http.ask("PUT", "/v1/schemas/boxes", &[], json!({ "fields": { "size": field } })).await.ok();
}

/// Writes a size to each box; every other one is the larger of the two that its box will have.
async fn write_sizes(node: &Node, side: usize) {
    let put = |n: usize| {
        let size = if n % 2 == side { 900 + n } else { 100 + n };
        json!({ "op": "put", "collection": "boxes", "id": format!("b-{n:03}"), "fields": { "size": size } })
    };
    let writes: Vec<Value> = (0..BOXES).map(put).collect();
    node.http.ask("POST", "/v1/batch", &[], json!({ "writes": writes })).await.ok();
}

async fn waiting(node: &Node) -> Vec<Value> {
    let page = node.http.get("/v1/conflicts?collection=boxes&limit=1000").await.ok();
    page["items"].as_array().unwrap().iter().filter(|item| item["status"] != "settled").cloned().collect()
}

fn larger(conflict: &Value) -> &Value {
    let siblings = conflict["siblings"].as_array().unwrap();
    siblings.iter().max_by_key(|sibling| sibling["value"].as_u64()).unwrap()
}

/// A person decides, always for the larger.
async fn decide(node: &Node, conflict: &Value) {
    let path = format!("/v1/conflicts/{}/resolve?durability=memory", conflict["id"].as_str().unwrap());
    node.http.ask("POST", &path, &[], json!({ "choose": larger(conflict)["dot"], "by": "ann" })).await.ok();
}

#[tokio::test]
async fn what_one_node_learns_from_decisions_settles_and_suggests_at_every_node() {
    let cluster = Cluster::start(2).await;
    let (here, there) = (&cluster[0], &cluster[1]);
    declare(here, json!({ "type": "contested", "resolver": "manual" })).await;
    cluster.agree().await;
    cluster.partition(&[&[0], &[1]]).await;
    write_sizes(here, 0).await;
    write_sizes(there, 1).await;
    cluster.heal().await;
    cluster.agree().await;
    let conflicts = waiting(here).await;
    assert_eq!(conflicts.len(), BOXES);
    assert!(conflicts.iter().all(|conflict| conflict["advice"].is_null()), "nobody has learned anything");

    let off = at(here, &["advisor", "train"]).await;
    assert!(off.failed(1).contains("0 decisions are recorded"), "{off:?}");
    at(here, &["advisor", "eval"]).await.failed(1);
    assert!(at(here, &["advisor", "show"]).await.ok().starts_with("off: "));

    for conflict in &conflicts[..DECIDED] {
        decide(here, conflict).await;
    }
    let trained = at(here, &["advisor", "train", "--by", "ann", "--json"]).await.json();
    assert_eq!((&trained["model"]["version"], &trained["model"]["decisions"]), (&json!(1), &json!(DECIDED)));
    assert_eq!(trained["model"]["strategies"], json!(["max"]), "not who wrote last, though every other one did");
    cluster.agree().await;

    let left = &conflicts[DECIDED..];
    for node in [here, there] {
        let suggested = waiting(node).await;
        assert_eq!(suggested.len(), BOXES - DECIDED);
        for conflict in &suggested {
            assert_eq!(conflict["advice"]["strategy"], "max", "{conflict}");
            assert!(conflict["advice"]["confidence"].as_f64().unwrap() >= 0.8, "{conflict}");
        }
    }
    let id = left[0]["id"].as_str().unwrap();
    let told = at(there, &["advisor", "explain", id, "--json"]).await.json();
    assert_eq!((&told["advice"], &told["version"]), (&json!("max"), &json!(1)), "{told}");
    assert_eq!(told["case"]["habit"], json!({ "max": 1.0 }), "the habit comes with the model: {told}");
    assert!(at(there, &["advisor", "explain", id]).await.ok().starts_with("max, "));
    at(there, &["advisor", "explain", "nobody"]).await.failed(4);

    declare(there, json!({ "type": "contested", "resolver": "advisor" })).await;
    cluster.agree().await;
    for node in [here, there] {
        assert_eq!(waiting(node).await, [] as [Value; 0]);
        for conflict in left {
            let settled = node.http.get(&format!("/v1/conflicts/{}", conflict["id"].as_str().unwrap())).await.ok();
            assert_eq!((&settled["resolver"], &settled["value"]), (&json!("advisor"), &larger(conflict)["value"]));
            assert_eq!(settled["advice"]["strategy"], "max", "{settled}");
        }
    }
    let evaluation = at(there, &["advisor", "eval", "--json"]).await.json();
    assert!(evaluation["evaluation"]["decisions"].as_u64().unwrap() > 20, "{evaluation}");
    let status = there.http.get("/v1/advisor").await.ok();
    assert_eq!((&status["on"], &status["model"]["by"]), (&json!(true), &json!("ann")), "{status}");
    let again = there.http.ask("POST", "/v1/advisor/train", &[], json!({})).await.ok();
    assert_eq!(again["model"]["version"], 2, "versions count up, wherever it is trained");
    // Without a model the conflicts wait again, and say why.
    there.http.delete("advisor/model").await.ok();
    cluster.agree().await;
    let unresolved = waiting(here).await;
    assert_eq!(unresolved.len(), BOXES - DECIDED);
    assert!(unresolved[0]["cause"].as_str().unwrap().contains("the advisor is off"), "{}", unresolved[0]);
}

#[tokio::test]
async fn what_is_known_at_one_node_is_compared_at_every_node_also_after_a_restart() {
    let mut cluster = Cluster::start(2).await;
    let add = ["knowledge", "add", "The gateway of rack A is 10.0.0.1", "--source", "agent-3", "--confidence", "0.9"];
    let id = at(&cluster[0], &add).await.ok().trim().to_owned();
    cluster.agree().await;
    let indexed = async |node: &Node| node.http.get("/v1/knowledge/findings").await.ok()["index"]["items"].clone();
    until("the other node compares it", LIMIT, async || is(indexed(&cluster[1]).await == 1)).await;

    let other =
        at(&cluster[1], &["knowledge", "add", "The gateway of rack A is 10.0.0.2", "--id", "k2", "--json"]).await;
    let other = other.json();
    assert_eq!((&other["findings"][0]["class"], &other["findings"][0]["other"]), (&json!("contradiction"), &json!(id)));
    let told = async || at(&cluster[0], &["knowledge", "findings", "--class", "contradiction"]).await.ok().to_owned();
    until("the first node finds it too", LIMIT, async || is(told().await.starts_with("k2\tcontradiction\t"))).await;

    let listed = at(&cluster[1], &["knowledge", "ls", "--text", "GATEWAY", "--source", "agent-3"]).await;
    assert_eq!(listed.ok(), format!("{id}\tfact\tagent-3\tThe gateway of rack A is 10.0.0.1\n"));
    let paged = cluster[0].http.get("/v1/knowledge?limit=1").await.ok();
    assert_eq!((&paged["items"][0]["confidence"], &paged["next"]), (&json!(0.9), &json!(id)));

    cluster[0].stop().await;
    cluster.restart(0).await;
    until("all is read again", LIMIT, async || is(indexed(&cluster[0]).await == 2)).await;
    let similar = at(&cluster[0], &["knowledge", "similar", "--id", "k2", "--json"]).await.json();
    assert_eq!((&similar["class"], &similar["other"]), (&json!("contradiction"), &json!(id)));
    cluster[1].http.delete("knowledge/k2").await.ok();
    until("what was said about it is forgotten", LIMIT, async || {
        let found = cluster[1].http.get("/v1/knowledge/findings").await.ok();
        is(found["items"] == json!([]) && found["index"]["items"] == 1)
    })
    .await;
    at(&cluster[1], &["knowledge", "similar", "--id", "k2"]).await.failed(4);
}
