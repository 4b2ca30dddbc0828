//! How many tasks workers claim and complete, one after the other, from one queue.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;

/// Tasks made in one transaction.
const BATCH: u64 = 500;
/// More than are done in the time.
const A_SECOND: u64 = 2_000;
const AGREE_TIMEOUT: Duration = Duration::from_secs(30);

/// So many tasks were claimed and completed by so many workers, in that time. Workers ask one node after the other.
pub async fn claimed(
    cluster: &LocalCluster,
    round: u64,
    workers: u64,
    length: Duration,
) -> Result<(u64, Duration), Error> {
    let (clients, queue) = (cluster.clients(), format!("bench-{workers}-{round}"));
    let tasks = (length.as_secs().max(1) * A_SECOND).next_multiple_of(BATCH);
    for from in (0..tasks).step_by(BATCH as usize) {
        let task = |n: u64| json!({ "op": "put", "collection": "tasks", "id": format!("{queue}-{n:06}"), "fields": { "queue": queue } });
        let writes: Vec<Value> = (from..from + BATCH).map(task).collect();
        clients[0].post("/v1/batch", json!({ "writes": writes })).await?;
    }
    cluster.wait_equal(AGREE_TIMEOUT).await?;
    let start = Instant::now();
    let work = (0..workers).map(|n| {
        let client = clients[n as usize % clients.len()].clone();
        let queue = queue.clone();
        async move { work(&client, &queue, &format!("w{n}"), start + length).await }
    });
    let done: u64 = futures::future::try_join_all(work).await?.into_iter().sum();
    Ok((done, start.elapsed()))
}

async fn work(client: &Client, queue: &str, worker: &str, until: Instant) -> Result<u64, Error> {
    let mut done = 0;
    while Instant::now() < until {
        let ask = json!({ "worker": worker, "lease_ms": 60_000 });
        let claim: Value = client.parse(&client.post(&format!("/v1/queues/{queue}/claim"), ask).await?)?;
        let Some(id) = claim["task"]["id"].as_str() else {
            return Err(Error::Failed(format!("queue {queue} ran empty before the time was over")));
        };
        client.post(&format!("/v1/tasks/{id}/complete"), json!({ "token": claim["token"] })).await?;
        done += 1;
    }
    Ok(done)
}
