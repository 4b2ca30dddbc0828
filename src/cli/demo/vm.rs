//! The demo's last act: elm runs a VM, and is cut off. It is told before its lease ends, oak takes the VM over after that, and
//! when they meet again everybody sees that elm went on, until it stops.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::{Body, Client, Terms};
use crate::cli::demo::checks::Check;
use crate::cli::demo::script::{ASH, ELM, OAK};
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;

/// Long enough to be told in: a cut that nobody announced is noticed within two seconds.
const LEASE: Duration = Duration::from_secs(4);
const TAKEN_TIMEOUT: Duration = Duration::from_secs(20);
const EQUAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether a node knows yet.
const LOOK: Duration = Duration::from_millis(50);
const VM: &str = "/v1/vms/web";

pub async fn play(cluster: &LocalCluster) -> Result<Vec<Check>, Error> {
    let clients = cluster.clients();
    let (oak, elm) = (&clients[OAK], &clients[ELM]);
    oak.post(VM, json!({ "cpus": 2, "memory_mb": 1024 })).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    let asked = Instant::now();
    let token = run(elm, "elm", Duration::ZERO).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    cluster.split(&[OAK, ASH], &[ELM]).await?;

    let told = refused(elm, token).await?;
    let mut checks = vec![Check {
        claim: format!(
            "elm, which runs VM web and is cut off, is told so {:.1} s before its lease ends",
            (LEASE.as_secs_f64() - told.duration_since(asked).as_secs_f64())
        ),
        held: told < asked + LEASE,
        found: Vec::new(),
    }];
    let taken = run(oak, "oak", TAKEN_TIMEOUT).await?;
    let after = asked.elapsed().saturating_sub(LEASE);
    checks.push(Check {
        claim: format!(
            "oak takes it over {:.1} s after that lease ended, under the token {taken}, not {token}",
            after.as_secs_f64()
        ),
        held: asked.elapsed() >= LEASE && taken > token,
        found: Vec::new(),
    });

    cluster.rejoin().await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    let split = |count: usize| move |critical: &Value| critical.as_array().is_some_and(|items| items.len() == count);
    let claim = "elm has not said that it stopped: all three list a critical conflict, the VM on two hosts".to_owned();
    checks.push(Check::on_each(claim, &critical(&clients).await?, split(1)));
    let stop = Some(Body::json(json!({ "worker": "elm", "token": token })));
    elm.send(Method::DELETE, &format!("{VM}/run"), stop, &Terms::default()).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    let claim = "once elm stops, the conflict is over on all three".to_owned();
    checks.push(Check::on_each(claim, &critical(&clients).await?, split(0)));
    Ok(checks)
}

/// The token under which the worker runs it.
async fn run(client: &Client, worker: &str, wait: Duration) -> Result<u64, Error> {
    let (lease_ms, wait_ms) = (LEASE.as_millis() as u64, wait.as_millis() as u64);
    let body = json!({ "worker": worker, "lease_ms": lease_ms, "wait_ms": wait_ms });
    let granted: Value = client.parse(&client.post(&format!("{VM}/run"), body).await?)?;
    granted["token"].as_u64().ok_or_else(|| Error::Failed(format!("no token in {granted}")))
}

/// When a renewal was refused for want of a quorum.
async fn refused(client: &Client, token: u64) -> Result<Instant, Error> {
    let since = Instant::now();
    loop {
        let body = Some(Body::json(json!({ "token": token })));
        match client.send(Method::PUT, &format!("{VM}/run"), body, &Terms::default()).await {
            Err(Error::Refused(problem)) if problem.status == 503 => return Ok(Instant::now()),
            Ok(_) | Err(Error::Refused(_)) if since.elapsed() < TAKEN_TIMEOUT => tokio::time::sleep(LOOK).await,
            Ok(_) => return Err(Error::Failed("elm is cut off and still renews its lease".to_owned())),
            Err(error) => return Err(error),
        }
    }
}

/// The critical conflicts over VMs, as each node lists them.
async fn critical(clients: &[Client]) -> Result<Vec<Value>, Error> {
    let mut all = Vec::new();
    for client in clients {
        let page: Value = client.read("/v1/conflicts?severity=critical&collection=vms").await?;
        all.push(page["items"].clone());
    }
    Ok(all)
}
