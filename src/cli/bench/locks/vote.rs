//! How long voters take to settle what two sides wrote.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::speed::times;
use crate::cli::bench::figure::Times;
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;

const COLLECTION: &str = "bench-votes";
/// Disputes of one cut. They are settled side by side, so there are few.
const DISPUTES: u64 = 8;
const EQUAL_TIMEOUT: Duration = Duration::from_secs(30);
const VOTE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the documents are looked at.
const LOOK: Duration = Duration::from_millis(1);

/// What one cut's disputes took.
pub struct Settled {
    pub after_heal: Times,
    /// Since both values could be read at the first node.
    pub after_seen: Times,
}

pub async fn declare(cluster: &LocalCluster) -> Result<(), Error> {
    let schema = json!({ "fields": { "f": { "type": "contested", "resolver": "vote", "fallback": ["max"] } } });
    let path = format!("/v1/schemas/{COLLECTION}");
    cluster.clients()[0].send(Method::PUT, &path, Some(Body::json(schema)), &Terms::default()).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await.map(drop)
}

/// The first node is cut off, both sides write the same documents, and meet again.
pub async fn settled(cluster: &LocalCluster, round: u64) -> Result<Settled, Error> {
    let clients = cluster.clients();
    let paths: Vec<String> = (0..DISPUTES).map(|n| format!("/v1/docs/{COLLECTION}/{round}-{n}")).collect();
    write_all(&clients[0], Method::PUT, &paths, 0).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    let others: Vec<usize> = (1..clients.len()).collect();
    cluster.split(&[0], &others).await?;
    write_all(&clients[0], Method::PATCH, &paths, 4).await?;
    write_all(&clients[1], Method::PATCH, &paths, 9).await?;
    let healed = Instant::now();
    cluster.rejoin().await?;
    let settled = watch(&clients[0], paths, healed).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    Ok(settled)
}

async fn write_all(client: &Client, method: Method, paths: &[String], value: u64) -> Result<(), Error> {
    for path in paths {
        let body = Some(Body::json(json!({ "f": value })));
        client.send(method.clone(), path, body, &Terms::default()).await?;
    }
    Ok(())
}

/// Until every document shows the outcome, and no siblings beside it.
async fn watch(client: &Client, paths: Vec<String>, healed: Instant) -> Result<Settled, Error> {
    let (mut after_heal, mut after_seen) = (times()?, times()?);
    let mut waiting: BTreeMap<String, Option<Instant>> = paths.into_iter().map(|path| (path, None)).collect();
    while !waiting.is_empty() {
        if healed.elapsed() > VOTE_TIMEOUT {
            return Err(Error::Failed(format!("{} disputes were not settled by a vote", waiting.len())));
        }
        for path in waiting.keys().cloned().collect::<Vec<_>>() {
            let document: Value = client.read(&path).await?;
            let (disputed, outcome) = (!document["siblings"]["f"].is_null(), document["fields"]["f"] == 9);
            if disputed {
                if let Some(seen) = waiting.get_mut(&path) {
                    seen.get_or_insert_with(Instant::now);
                }
            } else if outcome && let Some(seen) = waiting.remove(&path) {
                after_heal.record(healed.elapsed());
                // Settled between two looks: no time that can be told.
                seen.iter().for_each(|seen| after_seen.record(seen.elapsed()));
            }
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(Settled { after_heal, after_seen })
}
