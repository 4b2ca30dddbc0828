//! Every bound of the engine, with its arithmetic. A slow or hostile peer costs memory up to these and no more.
//!
//! [`Limits`] are handed to a replica with its configuration: a node takes the defaults, a simulator makes them small,
//! so that windows close, sessions break into many chunks and bounds are met with a state of a few kilobytes.

/// Heartbeats go out this often. Five of them in the time a person takes to notice.
pub const HEARTBEAT_MS: u64 = 400;

/// Local ops are grouped into one signed batch until they are this large: one frame on a stream.
pub const GROUP_BYTES_MAX: usize = 16 << 10;

/// A peer whose link is down for this long is down; before that it is suspect.
pub const LINK_DOWN_MS: u64 = 800;

/// How often a store that failed is tried again.
pub const PERSIST_RETRY_MS: u64 = 1_000;

/// What a replica holds at most, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Local ops are grouped into one signed batch for at most this long after the last one was sent, µs.
    pub group_us: u64,
    /// ... or until they are this large, bytes.
    pub group_bytes: usize,
    /// Live bytes sent to a peer and not yet reported durable there. Beyond it the peer is left to catch up by cells,
    /// which costs what differs instead of what happened. At 50 MB/s and a report every 100 ms, 5 MB are under way.
    pub live_window_bytes: usize,
    /// A receiver reports after this many live bytes, so that the window of a busy sender never runs dry: a quarter.
    pub report_bytes: usize,
    /// Batches waiting for an earlier one, over all peers. What does not fit is dropped and caught up.
    pub parked_batches: usize,
    /// The bytes of their ops.
    pub parked_bytes: usize,
    /// Batches beyond a fence that are kept aside, over all replicas. What does not fit is dropped.
    pub aside_batches: usize,
    /// Their bytes.
    pub aside_bytes: usize,
    /// A dot that a peer reported and that has not arrived for this long is asked for, ms.
    pub missing_ms: u64,
    /// Cells travel in chunks of about this size, bytes ...
    pub chunk_bytes: usize,
    /// ... of which this many may be under way: half a megabyte a session.
    pub chunks_unacked: usize,
    /// Most bytes a session may stage before its one atomic join. Staged cells become state, so this is what a state
    /// may hold over the wire form: about two million documents of a kilobyte. A peer that sends more is given up.
    pub staged_bytes: usize,
    /// Catch-up sessions served at once. A snapshot holds on to pages that change meanwhile.
    pub serves: usize,
    /// A session without progress for this long is given up, and another peer is asked, ms.
    pub session_stall_ms: u64,
    /// A session whose link broke may be resumed for this long, ms.
    pub session_resume_ms: u64,
    /// Removal records kept for members that are away. At about 60 bytes each: 60 MB. Beyond it the floor moves on and
    /// whoever was away takes the full path.
    pub removal_records: usize,
    /// Members up to which everyone is linked to everyone; beyond, batches travel along [`tree`](super::tree)s.
    pub mesh_members: usize,
    /// ... in groups of about so many.
    pub group_members: usize,
    /// How often the state is compared with a peer's, shard by shard, ms. It costs up to 17 KB each time.
    pub self_check_ms: u64,
    /// How often stability is looked at, ms.
    pub collect_ms: u64,
    /// Replicas that a roster may hold. At 150 bytes each: 10 MB.
    pub replicas: usize,
    /// Peers the engine keeps a record of.
    pub peers: usize,
    /// Documents judged in one step; what else a catch-up or a policy concerns has its turn between other inputs. At
    /// 20 to 40 µs each: 10 ms.
    pub judged_at_once: usize,
    /// Alarms kept to be looked at.
    pub alarms: usize,
    /// Voters there are to be, an odd number; with fewer members, as many of them as make one.
    pub voters: usize,
    /// Own batches kept for members that may not have them. Beyond it the oldest rows go: catch-up does not need them.
    pub outbox_batches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let live_window_bytes = 8 << 20;
        Self {
            group_us: 1_000,
            group_bytes: GROUP_BYTES_MAX,
            live_window_bytes,
            report_bytes: live_window_bytes / 4,
            parked_batches: 4096,
            parked_bytes: 32 << 20,
            aside_batches: 4096,
            aside_bytes: 32 << 20,
            missing_ms: 1_000,
            chunk_bytes: 64 << 10,
            chunks_unacked: 8,
            staged_bytes: 2 << 30,
            serves: 16,
            session_stall_ms: 3_000,
            session_resume_ms: 30_000,
            removal_records: 1 << 20,
            mesh_members: 32,
            group_members: 28,
            self_check_ms: 30_000,
            collect_ms: 5_000,
            replicas: 1 << 16,
            peers: 4096,
            judged_at_once: 256,
            alarms: 64,
            voters: 5,
            outbox_batches: 65_536,
        }
    }
}
