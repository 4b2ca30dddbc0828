//! A replica that is fenced: what it wrote later is kept aside until it is released or discarded.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, Node, run_with_input, until};

const LIMIT: Duration = Duration::from_secs(20);
const FENCED: usize = 2;

async fn at(node: &Node, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &node.ready.api)], "", LIMIT).await
}

async fn count(node: &Node) -> Value {
    node.http.fields("fleet/totals").await["n"].clone()
}

/// Three voters that agree; the third counted once.
async fn start() -> Cluster {
    let cluster = Cluster::start_alone(3).await;
    cluster.voters(3).await;
    cluster[FENCED].http.incr("fleet/totals", "n", 1).await.ok();
    cluster.agree().await;
    cluster
}

/// Fences the third node's replica while it is cut off, has it count ten more, and heals the network. Gives the id.
async fn fence_and_heal(cluster: &Cluster) -> String {
    let listed = cluster[0].http.get(&format!("/v1/replicas?of={}", cluster[FENCED].launch.name)).await.ok();
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let own = at(&cluster[FENCED], &["replica", "fence", &id]).await;
    assert!(own.failed(5).contains("Ask another node"), "{own:?}");
    cluster.partition(&[&[0, 1], &[FENCED]]).await;
    let fenced = at(&cluster[0], &["replica", "fence", &id[..8], "--reason", "odd writes", "--json"]).await.json();
    assert_eq!((&fenced["fence"]["state"], &fenced["fence"]["reason"]), (&json!("fenced"), &json!("odd writes")));
    assert_eq!(fenced["fence"]["seq"], fenced["seq"], "after all that was taken in");
    until("the other hears of it", LIMIT, async || {
        let seen = cluster[1].http.get(&format!("/v1/replicas/{id}")).await.ok();
        if seen["fence"]["state"] == "fenced" { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    assert!(at(&cluster[1], &["replica", "fence", &id]).await.failed(5).contains("fenced already"));
    cluster[FENCED].http.incr("fleet/totals", "n", 10).await.ok();
    cluster.heal().await;
    until("the fenced node hears of it", LIMIT, async || {
        let refused = cluster[FENCED].http.ops("fleet/totals", json!([{ "field": "n", "incr": 100 }])).await;
        if refused.status == 503 { Ok(()) } else { Err(refused.json().to_string()) }
    })
    .await;
    id
}

/// What the fenced node does until it hears of its fence counts for it alone.
async fn others_do_not_count(cluster: &Cluster) {
    cluster[0].http.incr("fleet/others", "n", 1).await.ok();
    until("all have what the others wrote", LIMIT, async || {
        for node in cluster.running() {
            let others = node.http.get("/v1/docs/fleet/others").await;
            if others.status != 200 || others.json()["fields"]["n"] != 1 {
                return Err(others.json().to_string());
            }
        }
        Ok(())
    })
    .await;
    assert_eq!([count(&cluster[0]).await, count(&cluster[1]).await], [json!(1), json!(1)]);
}

#[tokio::test]
async fn what_a_fenced_replica_wrote_later_comes_when_it_is_released() {
    let cluster = start().await;
    let id = fence_and_heal(&cluster).await;
    others_do_not_count(&cluster).await;
    let refused = cluster[FENCED].http.put("fleet/more", json!({ "n": 1 })).await.refused(503, "fenced");
    assert!(refused.contains("releases or discards"), "{refused}");
    let direct = cluster[0].http.delete(&format!("replicas/{id}")).await.refused(422, "does-not-fit");
    assert!(direct.contains("/v1/replicas/{id}/fence"), "{direct}");
    let told = at(&cluster[1], &["replica", "release", &id]).await;
    assert!(told.ok().contains("released"), "{told:?}");
    cluster.agree().await;
    let counted = count(&cluster[0]).await.as_i64().unwrap();
    assert!(counted >= 11, "{counted}");
    cluster[FENCED].http.put("fleet/more", json!({ "n": 1 })).await.ok();
    cluster.agree().await;
}

#[tokio::test]
async fn what_was_discarded_is_gone_and_its_node_begins_anew() {
    let mut cluster = start().await;
    let id = fence_and_heal(&cluster).await;
    others_do_not_count(&cluster).await;
    let asked = at(&cluster[0], &["replica", "discard", &id]).await;
    assert!(asked.ok().is_empty() && asked.stderr.contains("--yes"), "{asked:?}");
    let told = at(&cluster[0], &["replica", "discard", &id, "--yes"]).await;
    assert!(told.ok().contains("discarded after"), "{told:?}");
    assert!(at(&cluster[0], &["replica", "release", &id]).await.failed(5).contains("for good"));
    until("the node hears of it", LIMIT, async || {
        let refused = cluster[FENCED].http.put("fleet/more", json!({ "n": 1 })).await.refused(503, "fenced");
        if refused.contains("discarded") { Ok(()) } else { Err(refused) }
    })
    .await;
    cluster[FENCED].stop().await;
    cluster.restart(FENCED).await;
    cluster.all_joined().await;
    cluster.agree().await;
    for node in cluster.running() {
        assert_eq!(count(node).await, 1, "what it counted later is gone");
    }
    until("its new store is let in as a voter", LIMIT, async || {
        let seen = cluster[FENCED].http.get("/v1/voters").await.ok();
        if seen["is_voter"] == true && seen["changing"] == false { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    let aside = fs::read_dir(&cluster[FENCED].launch.data_dir).unwrap();
    let aside = aside.filter_map(|entry| entry.unwrap().file_name().into_string().ok()).collect::<Vec<_>>();
    assert!(aside.iter().any(|name| name.contains("damaged")), "{aside:?}");
    cluster[FENCED].http.incr("fleet/totals", "n", 1).await.ok();
    cluster.agree().await;
    // Once is enough: the new store goes on, also where nobody says which cluster to join.
    cluster[FENCED].stop().await;
    cluster[FENCED].launch.join.clear();
    cluster.restart(FENCED).await;
    cluster.agree().await;
    assert_eq!(count(&cluster[0]).await, 2);
    let entries = fs::read_dir(&cluster[FENCED].launch.data_dir).unwrap().count();
    assert_eq!(entries, aside.len(), "nothing more was set aside");
}
