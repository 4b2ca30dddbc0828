//! Who may not be let in never is, however long it tries.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Cluster, JOIN_TIMEOUT, Node, free_port, until};

fn swarm_key(cluster: &Cluster, name: &str, digit: char) -> PathBuf {
    let path = cluster.dir().join(name);
    let key: String = std::iter::repeat_n(digit, 64).collect();
    std::fs::write(&path, format!("/key/swarm/psk/1.0.0/\n/base16/\n{key}\n")).unwrap();
    path
}

async fn is_outside(stranger: &Node) {
    let view = stranger.http.cluster().await;
    assert_eq!(view["cluster_id"], Value::Null, "{view}");
    let reasons = stranger.http.get("/readyz").await.refused(503, "not-ready");
    assert!(reasons.contains("no cluster yet"), "{reasons}");
}

#[tokio::test]
async fn a_node_with_the_wrong_pre_shared_key_never_joins_and_one_with_the_right_key_does() {
    let mut cluster = Cluster::empty().await;
    let psk = |path: PathBuf| format!("--psk={}", path.display());
    let (right, wrong) = (psk(swarm_key(&cluster, "right.key", 'a')), psk(swarm_key(&cluster, "wrong.key", 'b')));
    cluster.launch(cluster.next("sled").with(&right)).await;
    cluster[0].http.put("vms/secret", json!({ "n": 1 })).await.ok();
    let wrong = cluster.launch(cluster.next("sled").with(wrong)).await;
    let none = cluster.launch(cluster.next("sled")).await;
    for stranger in [wrong, none] {
        tried_and_failed(&cluster[stranger]).await;
    }
    assert!(cluster[0].http.metric("folkmoot_net_refused_total").await >= 1.0, "nobody was turned away");

    let joined = cluster.launch(cluster.next("sled").with(&right)).await;
    until("the node with the right key holds the document", JOIN_TIMEOUT, async || {
        let reply = cluster[joined].http.get("/v1/docs/vms/secret").await;
        if reply.status == 200 { Ok(()) } else { Err(reply.status.to_string()) }
    })
    .await;
    for stranger in [wrong, none] {
        is_outside(&cluster[stranger]).await;
        cluster[stranger].http.get("/v1/docs/vms/secret").await.refused(404, "not-found");
    }
    let members = cluster[0].http.cluster().await["members"].as_array().unwrap().len();
    assert_eq!(members, 2, "only the two with the key");

    // The key was all that kept it out.
    cluster[wrong].stop().await;
    cluster[wrong].launch.more.retain(|flag| !flag.starts_with("--psk"));
    cluster[wrong].launch.more.push(right);
    cluster.restart(wrong).await;
    cluster[none].stop().await;
    cluster.all_joined().await;
    cluster.agree().await;
    assert_eq!(cluster[wrong].http.fields("vms/secret").await, json!({ "n": 1 }));
}

/// It must have dialled and been turned away: a test that asks too early would pass for nothing. To ends with different
/// keys everything is noise, so it may take a handshake's whole 10 s until one of them gives up.
async fn tried_and_failed(stranger: &Node) {
    until("the stranger dialled in vain", JOIN_TIMEOUT * 2, async || {
        let failed = stranger.http.metric("folkmoot_net_dials_failed_total").await;
        if failed >= 1.0 { Ok(()) } else { Err(format!("{failed} dials failed")) }
    })
    .await;
    is_outside(stranger).await;
}

#[tokio::test]
async fn an_allow_list_lets_in_those_it_names_and_nobody_else() {
    let mut cluster = Cluster::empty().await;
    // A node's id is known once it has a data directory, so the guests come first and the host later.
    let port = free_port();
    let host = format!("/ip4/127.0.0.1/tcp/{port}");
    for _ in 0..2 {
        let guest = cluster.next("sled");
        let guest = crate::harness::Launch { join: vec![host.clone()], ..guest };
        cluster.launch(guest).await;
    }
    let [named, stranger] = [0, 1];
    let mut launch = cluster.next("sled").with(format!("--allow={}", cluster[named].id()));
    launch.join.clear();
    launch.listen = host;
    let host = cluster.launch(launch).await;
    cluster[host].http.put("vms/secret", json!({ "n": 1 })).await.ok();
    until("the named node holds the document", JOIN_TIMEOUT, async || {
        let reply = cluster[named].http.get("/v1/docs/vms/secret").await;
        if reply.status == 200 { Ok(()) } else { Err(reply.status.to_string()) }
    })
    .await;
    until("the stranger was turned away", JOIN_TIMEOUT, async || {
        let refused = cluster[host].http.metric("folkmoot_net_refused_total").await;
        if refused >= 2.0 { Ok(()) } else { Err(format!("{refused} refused")) }
    })
    .await;
    is_outside(&cluster[stranger]).await;
    let members = cluster[host].http.cluster().await["members"].as_array().unwrap().len();
    assert_eq!(members, 2);
}
