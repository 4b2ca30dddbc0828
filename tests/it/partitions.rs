//! After a partition every node gives the same account of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, Node, run_with_input, until};

const LIMIT: Duration = Duration::from_secs(20);

async fn at(node: &Node, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &node.ready.api)], "", LIMIT).await
}

async fn set(cluster: &Cluster, node: usize, document: &str, value: &str) {
    cluster[node].http.ops(document, json!([{ "field": "note", "set": value }])).await.ok();
}

/// Waits until every node knows of a partition that all have told of.
async fn all_told(cluster: &Cluster) {
    for node in cluster.running() {
        until("the whole account", LIMIT, async || {
            let told = node.http.get("/v1/partitions").await.ok();
            match told["items"].as_array().unwrap().as_slice() {
                [one] if one["complete"] == true => Ok(()),
                _ => Err(told.to_string()),
            }
        })
        .await;
    }
    // What one has not told yet may change what the others have.
    until("five observations", LIMIT, async || {
        let told = cluster[0].http.list("partitions").await.len();
        if told == cluster.nodes.len() { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    cluster.agree().await;
}

#[tokio::test]
async fn after_a_split_all_five_nodes_print_the_same_report() {
    let cluster = Cluster::start_alone(5).await;
    cluster.voters(5).await;
    for document in ["tasks/1", "tasks/2", "tasks/3", "notes/1"] {
        set(&cluster, 0, document, "new").await;
    }
    cluster[0].http.ask("POST", "/v1/vms/7", &[], json!({ "cpus": 1, "memory_mb": 64 })).await.ok();
    cluster.agree().await;
    assert_eq!(at(&cluster[3], &["partition", "report", "--json"]).await.json(), Value::Null);
    cluster.partition(&[&[0, 1], &[2, 3, 4]]).await;
    until("all notice", LIMIT, async || {
        let views = cluster.views().await;
        if views.iter().all(|view| view["partitioned"] == true) { Ok(()) } else { Err(format!("{views:?}")) }
    })
    .await;
    set(&cluster, 0, "tasks/1", "west").await;
    set(&cluster, 1, "tasks/2", "west").await;
    set(&cluster, 3, "tasks/1", "east").await;
    set(&cluster, 4, "tasks/3", "east").await;
    let run = json!({ "worker": "oak", "lease_ms": 30_000, "wait_ms": 10_000 });
    let token = cluster[3].http.ask("POST", "/v1/vms/7/run", &[], run).await.ok()["token"].clone();
    cluster.heal().await;
    cluster.agree().await;
    all_told(&cluster).await;

    let mut reports = Vec::new();
    for node in cluster.running() {
        let text = at(node, &["partition", "report"]).await.ok().to_owned();
        reports.push((at(node, &["partition", "report", "--json"]).await.ok().to_owned(), text));
    }
    println!("{}", reports[0].1);
    assert!(reports.iter().all(|report| *report == reports[0]), "{reports:#?}");

    let report: Value = serde_json::from_str(&reports[0].0).unwrap();
    let side = |nodes: &[usize]| {
        let mut ids: Vec<&str> = nodes.iter().map(|node| cluster[*node].id()).collect();
        ids.sort_unstable();
        json!(ids)
    };
    assert_eq!((&report["sides"][0]["members"], &report["sides"][0]["quorum"]), (&side(&[2, 3, 4]), &json!(true)));
    assert_eq!((&report["sides"][1]["members"], &report["sides"][1]["quorum"]), (&side(&[0, 1]), &json!(false)));
    assert_eq!(report["diverged"], json!({ "count": 1, "names": ["tasks/1"] }));
    assert_eq!(report["work"]["names"], json!(["tasks/1", "tasks/2", "tasks/3", "vms/7"]));
    assert_eq!(report["locks"], json!([{ "name": "vms/7", "token": token }]));
    let [conflict] = report["conflicts"].as_array().unwrap().as_slice() else { panic!("{report}") };
    let settled = ["document", "field", "status", "by", "value"].map(|key| conflict[key].as_str().unwrap());
    assert_eq!(settled, ["tasks/1", "note", "settled", "last_writer", "east"]);
    assert_eq!((report["observations"].as_array().unwrap().len(), &report["silent"]), (5, &json!([])));

    // Any observation's id leads to it, and what is written since is told.
    let id = report["observations"][4]["id"].as_str().unwrap();
    assert_eq!(at(&cluster[1], &["partition", "report", id, "--json"]).await.json(), report);
    assert!(at(&cluster[1], &["partition", "report", "none"]).await.failed(4).contains("no partition `none`"));
    let listed = at(&cluster[2], &["partition", "ls"]).await;
    assert!(listed.ok().contains("1 diverged\t1 conflict\n") && listed.ok().lines().count() == 1, "{listed:?}");
    set(&cluster, 2, "tasks/1", "both").await;
    cluster.agree().await;
    let later = at(&cluster[0], &["partition", "report", "--json"]).await.json();
    assert_eq!(later["conflicts"][0]["status"], "written_since");
}

#[tokio::test]
async fn a_node_that_was_only_down_makes_no_partition() {
    let mut cluster = Cluster::start(3).await;
    cluster[2].kill();
    for node in [0, 1] {
        until("it is missed", LIMIT, async || {
            let view = cluster[node].http.cluster().await;
            if view["partitioned"] == true { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
    }
    set(&cluster, 0, "tasks/1", "on").await;
    cluster.restart(2).await;
    cluster.all_joined().await;
    cluster.agree().await;
    crate::harness::stays(Duration::from_secs(4), async || {
        assert_eq!(cluster[0].http.get("/v1/partitions").await.ok()["items"], json!([]));
    })
    .await;
}
