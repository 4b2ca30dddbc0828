//! What went over the wire, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Totals since the process started, over all links and all restarts of the transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Bytes of frames, as written to the streams; noise, yamux and TCP add their own.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub frames_in: u64,
    pub frames_out: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    /// Payload bytes of all frames sent, before compression: compare with `bytes_out`.
    pub payload_bytes_out: u64,
    pub payload_bytes_in: u64,
    /// Frames that were large enough, tried, and worth it.
    pub compressible_frames: u64,
    pub compression_tried: u64,
    pub compression_paid: u64,
    /// Of the frames that were sent compressed: their payload, and what it became.
    pub compression_raw_bytes: u64,
    pub compression_wire_bytes: u64,
    pub links_up: u64,
    pub links_down: u64,
    pub dials: u64,
    pub dials_failed: u64,
    /// Inbound connections that did not pass: wrong key, blocked, not allowed, over a limit, not our protocol.
    pub refused: u64,
    /// Frames and greetings that broke the rules. Each closed its connection.
    pub malformed: u64,
    pub queue_overflows: u64,
    pub write_stalls: u64,
    pub restarts: u64,
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// The same, counting.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub $name: Counter,)*
        }

        impl Counters {
            pub fn snapshot(&self) -> Statistics {
                Statistics { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters!(
    bytes_in,
    bytes_out,
    frames_in,
    frames_out,
    messages_in,
    messages_out,
    payload_bytes_out,
    payload_bytes_in,
    compressible_frames,
    compression_tried,
    compression_paid,
    compression_raw_bytes,
    compression_wire_bytes,
    links_up,
    links_down,
    dials,
    dials_failed,
    refused,
    malformed,
    queue_overflows,
    write_stalls,
    restarts,
);

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
