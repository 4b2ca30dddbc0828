//! What goes into the replica and what comes out.

use std::sync::Arc;

use super::alarm::Alarm;
use super::ballot::{AskId, Outcome, Voters};
use super::detector::Liveness;
use super::message::Refusal;
use super::persist::WriteBatch;
use crate::clock::{ClusterId, NodeId, ReplicaId};
use crate::conflict::Conflict;

/// The time, told by whoever drives the replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Milliseconds since the Unix epoch; may jump.
    pub wall_ms: u64,
    /// Microseconds of a clock that only goes forward.
    pub mono_us: u64,
}

impl Now {
    pub fn mono_ms(self) -> u64 {
        self.mono_us / 1_000
    }
}

/// One incarnation of the streams to a peer, numbered by the transport.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// Names one write that a disk was asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

#[derive(Clone, Debug)]
pub enum Input {
    LinkUp {
        peer: NodeId,
        link: LinkId,
    },
    LinkDown {
        peer: NodeId,
        link: LinkId,
    },
    Message {
        peer: NodeId,
        link: LinkId,
        bytes: Vec<u8>,
    },
    Persisted {
        ticket: Ticket,
    },
    /// Nothing of that write is on the disk. It is asked for again later.
    PersistFailed {
        ticket: Ticket,
        reason: String,
    },
    /// A batch whose signature was checked off the delivery path turned out not to be signed by its origin.
    Forged {
        replica: ReplicaId,
        seq: u64,
    },
    /// The time asked for by [`Output::Schedule`] has come. Harmless at any other time.
    Tick,
}

/// What should happen. Matched in two places only: where it really does, and where it is simulated.
#[derive(Clone, Debug)]
pub enum Output {
    Send {
        peer: NodeId,
        link: LinkId,
        message: Arc<[u8]>,
    },
    /// Close the link; nothing more is wanted from it.
    Disconnect {
        peer: NodeId,
        link: LinkId,
        reason: String,
    },
    /// Make these rows durable in one atomic step, then hand in [`Input::Persisted`]. One at a time.
    Persist {
        ticket: Ticket,
        rows: Arc<WriteBatch>,
    },
    /// Hand in [`Input::Tick`] at this time. Replaces the time asked for before.
    Schedule {
        at_us: u64,
    },
    /// Check that `node` signed `hash`, whenever convenient; hand in [`Input::Forged`] if not.
    Verify(Signed),
    Emit(Event),
}

/// A claim to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub replica: ReplicaId,
    pub seq: u64,
    pub hash: [u8; 32],
    pub signature: [u8; 64],
}

/// What happened, for whoever embeds the replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Documents whose cells changed, in order. Read them for what they are now.
    Changed(Vec<Arc<str>>),
    /// Own ops up to `seq` are on this disk.
    Durable {
        seq: u64,
    },
    /// The store failed; writes that asked for durability did not get it. Tried again until it works.
    StorageFailed {
        reason: String,
    },
    StorageRecovered,
    /// A peer reported what is durable there.
    Reported {
        peer: NodeId,
    },
    Liveness {
        peer: NodeId,
        liveness: Liveness,
    },
    /// Members that cannot be reached changed; empty when all can.
    Partitioned(Vec<NodeId>),
    /// In a cluster too large for a full mesh: the members to be linked to changed.
    Neighbours,
    /// Founded or adopted, and durable.
    ClusterKnown(ClusterId),
    /// A peer will not speak to this node.
    Refused {
        peer: NodeId,
        refusal: Refusal,
    },
    CaughtUp {
        peer: NodeId,
        cells: usize,
        bytes: usize,
        complete: bool,
        took_ms: u64,
    },
    Alarm(Alarm),
    ConflictDetected(Arc<Conflict>),
    /// The same conflict waits now, or is settled otherwise, by what changed around it.
    ConflictTurned(Arc<Conflict>),
    /// It waited for too long, and something was done about it.
    ConflictEscalated(Arc<Conflict>),
    /// It was settled by a write, or its documents changed otherwise.
    ConflictEnded(Arc<Conflict>),
    /// What came of something that was asked of a quorum.
    Asked {
        id: AskId,
        outcome: Outcome,
    },
    /// Somebody was given what it waited for: whoever waits for this register may ask again.
    RegisterChanged(String),
    VotersChanged(Voters),
}
