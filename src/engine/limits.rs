//! Every bound of the engine, with its arithmetic. A slow or hostile peer costs memory up to these and no more.

/// Heartbeats go out this often. Five of them in the time a person takes to notice.
pub const HEARTBEAT_MS: u64 = 400;

/// Local ops are grouped into one signed batch for at most this long after the last one was sent.
pub const GROUP_US_MAX: u64 = 1_000;
/// ... or until they are this large: one frame on a stream.
pub const GROUP_BYTES_MAX: usize = 16 << 10;

/// Live bytes sent to a peer and not yet reported durable there. Beyond it the peer is left to catch up by cells,
/// which costs what differs instead of what happened. At 50 MB/s and a report every 100 ms, 5 MB are under way.
pub const LIVE_WINDOW_BYTES: usize = 8 << 20;
/// A receiver reports after this many live bytes, so that the window of a busy sender never runs dry: a quarter of it.
pub const REPORT_BYTES: usize = LIVE_WINDOW_BYTES / 4;

/// Batches waiting for an earlier one, over all peers: count and bytes. What does not fit is dropped and caught up.
pub const PARKED_BATCHES_MAX: usize = 4096;
pub const PARKED_BYTES_MAX: usize = 32 << 20;

/// A dot that a peer reported and that has not arrived for this long is asked for.
pub const MISSING_MS: u64 = 1_000;

/// Cells travel in chunks of about this size ...
pub const CHUNK_BYTES: usize = 64 << 10;
/// ... of which this many may be under way: half a megabyte a session.
pub const CHUNKS_UNACKED_MAX: usize = 8;
/// Most bytes a session may stage before its one atomic join. Staged cells become state, so this is what a state may
/// hold over the wire form: about two million documents of a kilobyte. A peer that sends more is given up.
pub const STAGED_BYTES_MAX: usize = 2 << 30;
/// Catch-up sessions served at once. A snapshot holds on to pages that change meanwhile.
pub const SERVES_MAX: usize = 16;
/// A session without progress for this long is given up, and another peer is asked.
pub const SESSION_STALL_MS: u64 = 3_000;
/// A session whose link broke may be resumed for this long.
pub const SESSION_RESUME_MS: u64 = 30_000;

/// Removal records kept for members that are away. At about 60 bytes each: 60 MB. Beyond it the floor moves on and
/// whoever was away takes the full path.
pub const REMOVAL_RECORDS_MAX: usize = 1 << 20;
/// How often stability is looked at.
pub const COLLECT_MS: u64 = 5_000;

/// Replicas that a roster may hold. At 150 bytes each: 10 MB.
pub const REPLICAS_MAX: usize = 1 << 16;
/// Peers the engine keeps a record of.
pub const PEERS_MAX: usize = 4096;

/// Alarms kept to be looked at.
pub const ALARMS_MAX: usize = 64;

/// A peer whose link is down for this long is down; before that it is suspect.
pub const LINK_DOWN_MS: u64 = 800;

/// Own batches kept for members that may not have them. Beyond it the oldest rows go: catch-up does not need them.
pub const OUTBOX_BATCHES_MAX: usize = 65_536;

/// How often a store that failed is tried again.
pub const PERSIST_RETRY_MS: u64 = 1_000;
