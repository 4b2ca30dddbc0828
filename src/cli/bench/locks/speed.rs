//! How long one lock takes, and how many a second there are, of whichever service.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::service::Service;
use crate::cli::bench::figure::Times;
use crate::cli::exit::Error;

/// Locks that nobody has asked for before: `first`, and so many after it.
pub async fn cold(service: &Service, first: u64, samples: u64) -> Result<Times, Error> {
    let mut times = times()?;
    for n in first..first + samples {
        let name = format!("cold-{n}");
        let before = Instant::now();
        service.acquire(&name).await?;
        times.record(before.elapsed());
    }
    Ok(times)
}

/// A lock that was given back here just before.
pub async fn warm(service: &Service, samples: u64) -> Result<Times, Error> {
    let mut times = times()?;
    let mut held = service.acquire("warm").await?;
    for _ in 0..samples {
        service.release(&held).await?;
        let before = Instant::now();
        held = service.acquire("warm").await?;
        times.record(before.elapsed());
    }
    service.release(&held).await?;
    Ok(times)
}

pub async fn renew(service: &Service, samples: u64) -> Result<Times, Error> {
    let mut times = times()?;
    let held = service.acquire("renewed").await?;
    for _ in 0..samples {
        let before = Instant::now();
        service.renew(&held).await?;
        times.record(before.elapsed());
    }
    service.release(&held).await?;
    Ok(times)
}

/// So many clients, each of which gets and gives back a lock of its own, at one node: decisions, and the time they took.
pub async fn at_once(service: &Service, clients: u64, length: Duration) -> Result<(u64, Duration), Error> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let service = service.clone();
        running.spawn(async move {
            let (name, mut decided) = (format!("own-{client}"), 0);
            while start.elapsed() < length {
                let held = service.acquire(&name).await?;
                service.release(&held).await?;
                decided += 2;
            }
            Ok::<u64, Error>(decided)
        });
    }
    let mut decided = 0;
    while let Some(ended) = running.join_next().await {
        decided += ended.map_err(|error| Error::Failed(error.to_string()))??;
    }
    Ok((decided, start.elapsed()))
}

pub(super) fn times() -> Result<Times, Error> {
    Times::new().map_err(Error::Failed)
}
