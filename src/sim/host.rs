//! A host: a disk, a clock that may be wrong, and, while it runs, the process of one node.

use std::sync::Arc;

use super::disk::Disk;
use super::fault::Misdeed;
use super::keys::SimKeys;
use super::oracle::removal::Graveyard;
use super::oracle::state::Shadow;
use crate::clock::NodeId;
use crate::engine::{Input, Now, Replica};

/// 2023-11-14, in milliseconds since 1970: when every simulation begins.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// The wall clock of a host.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock {
    pub offset_ms: i64,
    /// It was set back, so that stamps it gave before lie ahead of it.
    pub went_back: bool,
}

impl WallClock {
    pub fn shift(&mut self, ms: i64) {
        self.offset_ms += ms;
        self.went_back |= ms < 0;
    }

    pub fn now(self, at_us: u64) -> Now {
        let wall_ms = (EPOCH_MS + at_us / 1_000).saturating_add_signed(self.offset_ms);
        // Processes do not start with time 0: nothing may take it for "never".
        Now { wall_ms, mono_us: at_us + 1_000_000 }
    }
}

#[derive(Debug)]
pub struct Host {
    pub node: NodeId,
    pub name: String,
    pub keys: Arc<SimKeys>,
    pub disk: Disk,
    pub clock: WallClock,
    /// Counts starts: what was meant for an earlier process is not given to a later one.
    pub life: u64,
    pub process: Option<Process>,
    /// When it is to start again, if it is down.
    pub paused: bool,
    /// What came while it stood still.
    pub waiting: Vec<Input>,
    pub misdeed: Option<Misdeed>,
    pub fork: Option<Fork>,
    /// It speaks the next version of the wire.
    pub speaks_next: bool,
    /// It is to be there at the end.
    pub stays: bool,
    /// It was started on a copy of this host's disk.
    pub copy_of: Option<usize>,
    pub was_rebuilt: bool,
    /// It stood still once, or was not there throughout.
    pub disturbed: bool,
}

/// The second history that a forking member tells to some of its peers.
#[derive(Debug, Default)]
pub struct Fork {
    /// Where it has come to.
    pub seq: u64,
    pub head: [u8; 32],
    /// Its last batch, as it was sent.
    pub last: Option<(u64, Arc<[u8]>)>,
}

#[derive(Debug)]
pub struct Process {
    pub replica: Replica,
    pub shadow: Shadow,
    pub graveyard: Graveyard,
    /// The tick asked for last; older ones are not given.
    pub tick_us: u64,
    /// Transactions whose durability is waited for.
    pub waiting: Vec<Waiting>,
}

/// A client's transaction that was not yet acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub seq: u64,
    /// Disks it must be on.
    pub disks: usize,
    pub client: usize,
}

impl Host {
    pub fn new(index: usize, node: NodeId) -> Self {
        Self {
            node,
            name: format!("n{index}"),
            keys: Arc::new(SimKeys::new(node)),
            disk: Disk::default(),
            clock: WallClock::default(),
            life: 0,
            process: None,
            paused: false,
            waiting: Vec::new(),
            misdeed: None,
            fork: None,
            speaks_next: false,
            stays: true,
            copy_of: None,
            was_rebuilt: false,
            disturbed: false,
        }
    }

    pub fn replica(&self) -> Option<&Replica> {
        self.process.as_ref().map(|process| &process.replica)
    }
}
