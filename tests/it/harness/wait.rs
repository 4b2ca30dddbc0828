//! Waiting for something to become true. The only place that sleeps.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Short enough to time a healing, long enough not to be the load itself.
const POLL: Duration = Duration::from_millis(15);

/// Asks until the answer is `Ok`; fails the test with the last reason when `limit` has passed.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        let asked = start.elapsed();
        match ask().await {
            Ok(answer) => return answer,
            Err(reason) if asked > limit => panic!("{what}: not within {limit:?}: {reason}"),
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Asks for as long as `span`, again and again: for what must not change meanwhile.
pub async fn stays(span: Duration, mut ask: impl AsyncFnMut()) {
    let start = Instant::now();
    while start.elapsed() < span {
        ask().await;
        sleep(POLL).await;
    }
}
