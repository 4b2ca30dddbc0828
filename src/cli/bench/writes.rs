//! How many durable writes one node takes, and what they cost on the wire.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::cli::bench::figure::{Figure, Times};
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;
use crate::cli::traffic;

/// Each client overwrites this many documents of its own in turn.
const DOCUMENTS_PER_CLIENT: u64 = 100;

/// Single durable writes of 100 bytes at one node, from so many clients at once.
pub async fn durable(cluster: &LocalCluster, clients: u64, length: Duration) -> Result<Vec<Figure>, Error> {
    let Some(process) = cluster.processes.first() else { return Ok(Vec::new()) };
    let start = Instant::now();
    let mut running = JoinSet::new();
    for index in 0..clients {
        running.spawn(write(process.client.clone(), index, start + length));
    }
    let (mut times, mut count) = (Times::new().map_err(Error::Failed)?, 0);
    while let Some(ended) = running.join_next().await {
        let (own, writes) = ended.map_err(|error| Error::Failed(error.to_string()))??;
        times.add(&own).map_err(Error::Failed)?;
        count += writes;
    }
    let took = start.elapsed();
    Ok(vec![
        Figure::rate(format!("durable writes at one node, {clients} HTTP clients"), count, took),
        Figure::times(format!("… one such write, {clients} HTTP clients"), &times),
    ])
}

async fn write(client: Client, index: u64, until: Instant) -> Result<(Times, u64), Error> {
    let (mut times, mut count) = (Times::new().map_err(Error::Failed)?, 0);
    while Instant::now() < until {
        let path = format!("/v1/docs/bench/w-{index}-{}?durability=local", count % DOCUMENTS_PER_CLIENT);
        let before = Instant::now();
        let body = Body::json(json!({ "text": text(count) }));
        client.send(reqwest::Method::PUT, &path, Some(body), &Terms::default()).await?;
        times.record(before.elapsed());
        count += 1;
    }
    Ok((times, count))
}

/// What one write of 100 bytes makes all nodes send together, heartbeats of that time included.
pub async fn wire_bytes(cluster: &LocalCluster, writes: u64) -> Result<Vec<Figure>, Error> {
    let clients = cluster.clients();
    let Some(writer) = clients.first() else { return Ok(Vec::new()) };
    let before = traffic::bytes_sent(&clients).await?;
    for n in 0..writes {
        let path = format!("/v1/docs/bench/wire-{n}?durability=memory");
        let body = Body::json(json!({ "text": text(n) }));
        writer.send(reqwest::Method::PUT, &path, Some(body), &Terms::default()).await?;
    }
    cluster.wait_equal(Duration::from_secs(30)).await?;
    let sent = traffic::bytes_sent(&clients).await?.zip(before).map(|(after, before)| after.saturating_sub(before));
    let name = format!("bytes sent cluster-wide per 100-byte write, {} nodes", clients.len());
    Ok(sent
        .map(|sent| Figure { samples: writes, ..Figure::once(name, sent as f64 / writes as f64, "B") })
        .into_iter()
        .collect())
}

/// 100 bytes that differ from write to write and do not compress to nothing.
fn text(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'a' + u8::try_from((state >> 33) % 26).unwrap_or(0))
    };
    (0..100).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_has_100_bytes_and_is_another() {
        let texts: std::collections::BTreeSet<String> = (0..1_000).map(text).collect();
        assert_eq!(texts.len(), 1_000);
        assert!(texts.iter().all(|text| text.len() == 100));
    }
}
