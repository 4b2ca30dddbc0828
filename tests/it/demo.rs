//! The README's first command.

use std::time::{Duration, Instant};

use crate::harness::{Cluster, run};

/// The promise, on top of which a loaded machine gets nothing.
const DEMO_MAX: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_demo_converges_within_a_minute_and_says_what_happened() {
    // Three nodes of its own: it counts as a cluster.
    let _room = Cluster::empty().await;
    let start = Instant::now();
    let ended = run(&["demo"], DEMO_MAX).await;
    eprintln!("the demo took {:?}", start.elapsed());
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let conflict =
        ["settled by priority", "demo@", "oak's ledger keeps", "an undo at elm", "oak takes it over", "once elm stops"];
    for word in ["oak", "ash", "elm"].into_iter().chain(conflict) {
        assert!(ended.stdout.contains(word), "`{word}` is missing in:\n{}", ended.stdout);
    }
}
