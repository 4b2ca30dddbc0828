//! All buffers are bounded: the engine's limits are this oracle's input.

use super::{Verdict, wrong};
use crate::document::batch::BATCH_BYTES_MAX;
use crate::engine::{Limits, Replica};

pub fn check(replica: &Replica, limits: &Limits) -> Verdict {
    let held = [
        ("parked batches", replica.parked().len(), limits.parked_batches),
        ("bytes of parked batches", replica.parked().bytes(), limits.parked_bytes),
        ("sessions served", replica.server().len(), limits.serves),
        ("bytes staged", replica.puller().current().map_or(0, |(_, bytes)| bytes), limits.staged_bytes),
        ("alarms", replica.alarms().count(), limits.alarms),
        ("peers", replica.peers().count(), limits.peers),
        ("rows of the outbox", replica.outbox_len(), limits.outbox_batches),
    ];
    if let Some((what, held, allowed)) = held.into_iter().find(|(_, held, allowed)| held > allowed) {
        return wrong("bounds", format!("{held} {what} are held, {allowed} are allowed"));
    }
    let windows = replica.peers().filter_map(|(_, peer)| peer.link.as_ref()).map(|link| link.window_bytes());
    match windows.max() {
        // The batch that fills a window is still sent.
        Some(bytes) if bytes > limits.live_window_bytes + BATCH_BYTES_MAX => wrong(
            "bounds",
            format!("{bytes} bytes are under way to one peer, {} are allowed", limits.live_window_bytes),
        ),
        _ => Ok(()),
    }
}
