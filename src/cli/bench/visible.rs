//! How long until a write can be read on every node.
//!
//! One client writes at the first node and, with the receipt's clock, reads at all others at once; each answers as
//! soon as it has seen the write. So both figures hold HTTP round trips: one, and two.

use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::bench::figure::{Figure, Times};
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;

pub async fn visible(cluster: &LocalCluster, samples: u32) -> Result<Vec<Figure>, Error> {
    let clients = cluster.clients();
    let nodes = clients.len();
    let (mut commit, mut sent) = (Times::new().map_err(Error::Failed)?, Times::new().map_err(Error::Failed)?);
    let Some((writer, others)) = clients.split_first() else { return Ok(Vec::new()) };
    // The first ones also open the connections.
    for n in 0..samples + 20 {
        let before = Instant::now();
        let body = Body::json(json!({ "n": n, "text": "x".repeat(80) }));
        let path = "/v1/docs/bench/visible";
        let written = format!("{path}?durability=memory");
        let answer = writer.send(reqwest::Method::PUT, &written, Some(body), &Terms::default()).await?;
        let committed = Instant::now();
        let terms = Terms { clock: answer.clock, if_match: None };
        futures::future::try_join_all(others.iter().map(|other| read(other, path, &terms, n))).await?;
        if n >= 20 {
            commit.record(committed.elapsed());
            sent.record(before.elapsed());
        }
    }
    Ok(vec![
        Figure::times(format!("commit → readable on all, {nodes} nodes"), &commit),
        Figure::times(format!("request → readable on all, {nodes} nodes"), &sent),
    ])
}

async fn read(client: &Client, path: &str, terms: &Terms, expected: u32) -> Result<(), Error> {
    let answer = client.send(reqwest::Method::GET, path, None, terms).await?;
    let document: Value = client.parse(&answer)?;
    match document["fields"]["n"] == expected {
        true => Ok(()),
        false => Err(Error::Failed(format!("{} answered a clock with older state: {document}", client.api()))),
    }
}
