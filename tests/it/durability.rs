//! What was acknowledged is there after the process was killed, or told to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Cluster, Http};

const ROUNDS: usize = 20;
const CLIENTS: usize = 8;
/// Kills come after so many acknowledgements, or a few more: early and late in the life of a group commit.
const ACKNOWLEDGED_PER_ROUND: [usize; 5] = [1, 9, 40, 120, 250];

/// What the clients tried and what they were told.
#[derive(Default)]
struct Ledger {
    /// Documents with the value they were acknowledged with.
    written: BTreeMap<String, u64>,
    /// The last acknowledged and the last tried value of the documents that are overwritten.
    overwritten: BTreeMap<String, (u64, u64)>,
    counted: u64,
    tried_to_count: u64,
    dots: BTreeSet<String>,
}

fn rounds() -> usize {
    std::env::var("FOLKMOOT_KILL_ROUNDS").ok().map_or(ROUNDS, |text| text.parse().expect("FOLKMOOT_KILL_ROUNDS"))
}

#[tokio::test]
async fn kill_minus_nine_loses_no_acknowledged_write_on_sled() {
    killed_again_and_again("sled").await;
}

#[tokio::test]
async fn kill_minus_nine_loses_no_acknowledged_write_on_redb() {
    killed_again_and_again("redb").await;
}

async fn killed_again_and_again(store: &str) {
    let mut cluster = Cluster::start_on(&[store]).await;
    let mut ledger = Ledger::default();
    for round in 0..rounds() {
        let enough = ACKNOWLEDGED_PER_ROUND[round % ACKNOWLEDGED_PER_ROUND.len()];
        write_until_killed(&mut cluster, round, enough, &mut ledger).await;
        cluster.restart(0).await;
        verify(&cluster[0].http, round, &ledger).await;
    }
    eprintln!("{store}: {} acknowledged writes survived {} kills", ledger.dots.len(), rounds());
}

/// What one client was told in one round.
#[derive(Default)]
struct Told {
    written: Vec<(String, u64)>,
    overwritten: (u64, u64),
    counted: u64,
    tried_to_count: u64,
    dots: Vec<String>,
}

async fn write_until_killed(cluster: &mut Cluster, round: usize, enough: usize, ledger: &mut Ledger) {
    let acknowledged = std::sync::atomic::AtomicUsize::new(0);
    let http = cluster[0].http.clone();
    let first = |client| ledger.overwritten.get(&own_document(client)).map_or(0, |(_, tried)| *tried);
    let clients = (0..CLIENTS).map(|client| {
        let (http, acknowledged, first) = (&http, &acknowledged, first(client));
        async move {
            let mut told = Told { overwritten: (0, first), ..Told::default() };
            for n in 0.. {
                let sent = write(http, round, client, n, &mut told).await;
                match sent {
                    Some(()) => acknowledged.fetch_add(1, Ordering::Relaxed),
                    None => break,
                };
            }
            told
        }
    });
    let clients = join_all(clients);
    tokio::pin!(clients);
    let reached = async {
        crate::harness::until("acknowledged writes", Duration::from_secs(30), async || {
            let count = acknowledged.load(Ordering::Relaxed);
            if count >= enough { Ok(()) } else { Err(format!("{count} of {enough}")) }
        })
        .await;
    };
    tokio::select! {
        _ = &mut clients => panic!("all clients ended before the kill: {}", cluster[0].stderr()),
        () = reached => {}
    }
    cluster[0].kill();
    for (client, told) in clients.await.into_iter().enumerate() {
        ledger.note(client, told);
    }
}

fn own_document(client: usize) -> String {
    format!("own-{client}")
}

/// One of three kinds of write; `None` when the node is gone, and the outcome with it.
async fn write(http: &Http, round: usize, client: usize, n: u64, told: &mut Told) -> Option<()> {
    let value = (round as u64) << 32 | n;
    let json = [("content-type", "application/json")];
    match n % 3 {
        0 => {
            let id = format!("r{round}-c{client}-{n}");
            let path = format!("/v1/docs/tasks/{id}");
            let sent = http.send("PUT", &path, &json, json!({ "value": value }).to_string());
            told.acknowledged(sent.await.ok()?.ok());
            told.written.push((id, value));
        }
        1 => {
            let value = told.overwritten.1 + 1;
            told.overwritten.1 = value;
            let path = format!("/v1/docs/agents/{}", own_document(client));
            let sent = http.send("PUT", &path, &json, json!({ "value": value }).to_string());
            told.acknowledged(sent.await.ok()?.ok());
            told.overwritten.0 = value;
        }
        _ => {
            told.tried_to_count += 1;
            let ops = [("content-type", "application/vnd.folkmoot.ops+json")];
            let body = json!([{ "field": "count", "incr": 1 }]).to_string();
            let sent = http.send("PATCH", "/v1/docs/fleet/totals?upsert=true", &ops, body);
            told.acknowledged(sent.await.ok()?.ok());
            told.counted += 1;
        }
    }
    Some(())
}

impl Told {
    fn acknowledged(&mut self, receipt: Value) {
        assert_eq!(receipt["durability"], "local", "the default");
        self.dots.push(receipt["dot"].as_str().expect("a write that changed something has a dot").to_owned());
    }
}

impl Ledger {
    fn note(&mut self, client: usize, told: Told) {
        self.written.extend(told.written);
        let own = self.overwritten.entry(own_document(client)).or_default();
        *own = (own.0.max(told.overwritten.0), own.1.max(told.overwritten.1));
        self.counted += told.counted;
        self.tried_to_count += told.tried_to_count;
        for dot in told.dots {
            assert!(self.dots.insert(dot.clone()), "the dot {dot} was given twice");
        }
    }
}

async fn verify(http: &Http, round: usize, ledger: &Ledger) {
    let there: BTreeMap<String, Value> = http.list("tasks").await.into_iter().collect();
    let lost: Vec<_> = ledger.written.iter().filter(|(id, n)| there.get(*id) != Some(&json!({ "value": n }))).collect();
    assert!(lost.is_empty(), "round {round}: {} of {} lost: {lost:?}", lost.len(), ledger.written.len());
    let own: BTreeMap<String, Value> = http.list("agents").await.into_iter().collect();
    for (id, (acknowledged, tried)) in &ledger.overwritten {
        let value = own.get(id).map_or(0, |fields| fields["value"].as_u64().unwrap());
        assert!(
            (*acknowledged..=*tried).contains(&value),
            "round {round}: {id} is {value} of {acknowledged}..={tried}"
        );
    }
    if ledger.counted > 0 {
        let count = http.fields("fleet/totals").await["count"].as_u64().unwrap();
        let range = ledger.counted..=ledger.tried_to_count;
        assert!(range.contains(&count), "round {round}: counted {count}, acknowledged and tried {range:?}");
    }
}

#[tokio::test]
async fn sigterm_ends_within_ten_seconds_with_every_acknowledged_write_on_disk() {
    for store in ["sled", "redb"] {
        let mut cluster = Cluster::start_on(&[store]).await;
        let http = cluster[0].http.clone();
        let clients = (0..CLIENTS).map(|client| write_in_memory(&http, client));
        let clients = join_all(clients);
        tokio::pin!(clients);
        let stopped = async {
            crate::harness::until("some writes", Duration::from_secs(20), async || {
                let written = http.cluster().await["documents"].as_u64().unwrap();
                if written > 200 { Ok(()) } else { Err(format!("{written} documents")) }
            })
            .await;
            cluster[0].stop().await
        };
        let (acknowledged, took) = tokio::join!(clients, stopped);
        assert!(took < Duration::from_secs(10), "{took:?}");
        cluster.restart(0).await;
        let there: BTreeSet<String> = cluster[0].http.list("tasks").await.into_iter().map(|(id, _)| id).collect();
        let lost: Vec<_> = acknowledged.iter().flatten().filter(|id| !there.contains(*id)).collect();
        assert!(lost.is_empty(), "{store}: {} of {} lost", lost.len(), there.len());
    }
}

/// Writes that wait for no disk, until the node no longer takes any.
async fn write_in_memory(http: &Http, client: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        let id = format!("c{client}-{n}");
        let path = format!("/v1/docs/tasks/{id}?durability=memory");
        let sent = http.send("PUT", &path, &[("content-type", "application/json")], r#"{"payload":"mail"}"#);
        match sent.await {
            Ok(reply) if reply.status == 200 => {
                assert_eq!(reply.ok()["durability"], "memory");
                acknowledged.push(id);
            }
            Ok(reply) => {
                reply.refused(503, "shutting-down");
                break;
            }
            Err(_) => break,
        }
    }
    acknowledged
}

#[tokio::test]
async fn a_member_killed_while_all_write_comes_back_and_the_sums_are_exact() {
    let mut cluster = Cluster::start_on(&["sled", "redb", "sled"]).await;
    let mut ledger = Ledger::default();
    for round in 0..4 {
        let others = cluster.nodes[1..].iter().map(|node| node.http.clone()).collect::<Vec<_>>();
        let stop = AtomicBool::new(false);
        let beside = join_all(others.iter().map(async |http| {
            let mut counted = 0;
            while !stop.load(Ordering::Relaxed) {
                http.incr("fleet/totals", "count", 1).await.ok();
                counted += 1;
            }
            counted
        }));
        let kills = async {
            write_until_killed(&mut cluster, round, 60, &mut ledger).await;
            stop.store(true, Ordering::Relaxed);
        };
        let (counted, ()) = tokio::join!(beside, kills);
        let counted: u64 = counted.iter().sum();
        ledger.counted += counted;
        ledger.tried_to_count += counted;
        cluster.restart(0).await;
        cluster.all_joined().await;
        cluster.agree().await;
        for node in &cluster.nodes {
            verify(&node.http, round, &ledger).await;
        }
    }
}
