//! How long it takes until the smaller side of a split is told that it has no quorum.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;

const TOLD_TIMEOUT: Duration = Duration::from_secs(30);
const QUORUM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a node is asked whether it reaches a quorum again.
const LOOK: Duration = Duration::from_millis(20);

/// Connections are cut, and both ends see it.
pub async fn announced(cluster: &LocalCluster) -> Result<Duration, Error> {
    let (few, many) = sides(cluster);
    let start = Instant::now();
    cluster.split(&few, &many).await?;
    let took = told(&cluster.processes[0].client, start).await;
    cluster.rejoin().await?;
    wait_quorum(cluster).await?;
    took
}

/// The greater side falls silent: its connections stand, and nothing comes.
pub async fn silent(cluster: &LocalCluster) -> Result<Duration, Error> {
    let (_, many) = sides(cluster);
    let all = |signal| many.iter().for_each(|index| cluster.processes[*index].signal(signal));
    let start = Instant::now();
    all(Signal::STOP);
    let took = told(&cluster.processes[0].client, start).await;
    all(Signal::CONT);
    wait_quorum(cluster).await?;
    took
}

/// The most that are no majority, and the others.
fn sides(cluster: &LocalCluster) -> (Vec<usize>, Vec<usize>) {
    let nodes = cluster.processes.len();
    (0..nodes).partition(|index| *index < nodes.div_ceil(2) - 1)
}

/// Asks for locks, one after the other, until one is refused for want of a quorum.
async fn told(client: &Client, start: Instant) -> Result<Duration, Error> {
    let body = json!({ "holder": "bench", "lease_ms": 1_000 });
    for n in 0_u64.. {
        // Each has a name of its own: nobody holds it.
        let name = format!("/v1/locks/cut-{}-{n}", start.elapsed().as_nanos());
        match client.post(&name, body.clone()).await {
            Err(Error::Refused(problem)) if problem.status == 503 => return Ok(start.elapsed()),
            // Asked of voters before the cut was known.
            Ok(_) => {}
            Err(Error::Refused(problem)) if problem.status == 504 => {}
            Err(error) => return Err(error),
        }
        if start.elapsed() > TOLD_TIMEOUT {
            break;
        }
    }
    Err(Error::Failed(format!("nobody was told of the missing quorum within {} s", TOLD_TIMEOUT.as_secs())))
}

/// Until every node reaches a majority of as many voters as there are nodes.
pub async fn wait_quorum(cluster: &LocalCluster) -> Result<(), Error> {
    let start = Instant::now();
    let clients = cluster.clients();
    loop {
        let seen: Vec<Value> =
            futures::future::try_join_all(clients.iter().map(|client| client.read("/v1/voters"))).await?;
        let good = |view: &Value| {
            view["quorum"] == true
                && view["changing"] == false
                && view["voters"].as_array().is_some_and(|voters| voters.len() == clients.len())
        };
        if seen.iter().all(good) {
            return cluster.wait_equal(QUORUM_TIMEOUT).await.map(drop);
        }
        if start.elapsed() > QUORUM_TIMEOUT {
            return Err(Error::Failed(format!("not all of {} nodes became voters: {seen:?}", clients.len())));
        }
        tokio::time::sleep(LOOK).await;
    }
}
