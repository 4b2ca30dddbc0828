//! A lock that is kept: renewed as long as somebody holds on to it, and told to be lost before another can have it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{sleep_until, timeout_at};

use super::lock::{Grant, Lock, LockError};
use crate::engine::ballot::{Duty, Lease};

/// Keeps a lock until it is dropped. The lease then runs out, unless the lock is given back.
#[derive(Debug)]
pub struct Kept {
    lost: watch::Receiver<Option<Lost>>,
    keeper: tokio::task::JoinHandle<()>,
}

/// Why a lock is not kept any more. What it protected has to be left alone from now on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the lock is not held under this token any more: {0}")]
    Taken(LockError),
    #[error("the lease ends in {left_ms} ms and could not be renewed: {cause}")]
    RunsOut { left_ms: u64, cause: LockError },
}

impl Lock {
    /// Renews what was granted for as long as the result is held. `lease`: as it was asked for.
    pub fn keep(&self, grant: &Grant, lease: Duration) -> Kept {
        let (told, lost) = watch::channel(None);
        let (lock, token, counted) = (self.clone(), grant.token, Lease::begun(grant.expires - lease, lease));
        let keeper =
            tokio::spawn(async move { drop(told.send(Some(lock.renew_until_lost(token, lease, counted).await))) });
        Kept { lost, keeper }
    }

    async fn renew_until_lost(&self, token: u64, length: Duration, mut lease: Lease<Instant>) -> Lost {
        let mut cause = LockError::Invalid("it was never asked".to_owned());
        loop {
            sleep_until(lease.due().into()).await;
            match timeout_at(lease.stop_at().into(), self.renew(token)).await {
                Ok(Ok(grant)) => {
                    lease.renewed(grant.expires - length);
                    continue;
                }
                Ok(Err(error @ (LockError::NotHolder { .. } | LockError::Held { .. }))) => return Lost::Taken(error),
                Ok(Err(error)) => cause = error,
                // Nobody answered.
                Err(_) => {}
            }
            let now = Instant::now();
            lease.not_renewed(now);
            if lease.duty(now) == Duty::Stop {
                let left_ms = lease.ends_at().saturating_duration_since(now).as_millis() as u64;
                return Lost::RunsOut { left_ms, cause };
            }
        }
    }
}

impl Kept {
    /// Resolves when the lock is lost, or about to be: a fifth of the lease before its end at the latest.
    pub async fn lost(&mut self) -> Lost {
        match self.lost.wait_for(Option::is_some).await.map(|lost| lost.clone()) {
            Ok(Some(lost)) => lost,
            // The keeper is gone with its node.
            _ => Lost::Taken(LockError::Invalid("the node was shut down".to_owned())),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;

    #[tokio::test]
    async fn a_lock_is_kept_beyond_its_lease_and_lost_when_it_is_given_away() {
        let node = Node::builder().start().await.unwrap();
        let (lock, lease) = (node.lock("l"), Duration::from_millis(300));
        let grant = lock.acquire("ada", lease, Duration::ZERO).await.unwrap();
        let mut kept = lock.keep(&grant, lease);
        // Bob waits for longer than the lease, in vain.
        let refused = lock.acquire("bob", lease, Duration::from_millis(900)).await.unwrap_err();
        assert!(matches!(refused, LockError::Held { ref holder, .. } if holder == "ada"), "{refused}");
        lock.release(grant.token).await.unwrap();
        assert!(matches!(kept.lost().await, Lost::Taken(LockError::NotHolder { .. })));
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_lock_that_is_not_kept_any_more_goes_to_the_next() {
        let node = Node::builder().start().await.unwrap();
        let (lock, lease) = (node.lock("l"), Duration::from_millis(200));
        let grant = lock.acquire("ada", lease, Duration::ZERO).await.unwrap();
        drop(lock.keep(&grant, lease));
        let bob = lock.acquire("bob", lease, Duration::from_secs(10)).await.unwrap();
        assert_eq!(bob.token, grant.token + 1);
        node.shutdown().await;
    }
}
