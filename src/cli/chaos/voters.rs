//! Who decides: a run that takes a quorum begins once all who may become voters are.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::cli::client::Client;
use crate::cli::exit::Error;

/// Clusters have at most so many voters.
const VOTERS_MAX: usize = 5;
/// Members that stay become voters within seconds; a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

#[derive(Deserialize)]
struct Voters {
    voters: Vec<Value>,
    changing: bool,
    quorum: bool,
}

/// Until as many decide as a cluster of this size has voters: with fewer, the smaller side might have the majority.
pub async fn wait_for_voters(clients: &[&Client], nodes: usize) -> Result<(), Error> {
    let nodes = nodes.min(VOTERS_MAX);
    let expected = nodes - usize::from(nodes.is_multiple_of(2));
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let mut ready = true;
        for client in clients {
            let known = client.read::<Voters>("/v1/voters").await;
            ready &= known.is_ok_and(|known| known.voters.len() == expected && !known.changing && known.quorum);
        }
        if ready {
            return Ok(());
        }
        if Instant::now() > deadline {
            let within = READY_WITHIN.as_secs();
            return Err(Error::Failed(format!("the nodes did not all know {expected} voters within {within} s")));
        }
        sleep(POLL).await;
    }
}
