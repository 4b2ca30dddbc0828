//! Probes: what ought to happen sometimes. A run of many seeds in which one never does, tests less than it seems to.

use std::collections::BTreeMap;

macro_rules! probes {
    ($($variant:ident, $name:literal;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Probe { $($variant,)* }

        impl Probe {
            pub const ALL: &[Probe] = &[$(Probe::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Probe::$variant => $name,)* }
            }
        }
    };
}

probes! {
    LinkBroke, "a link breaks while messages are under way";
    LinkReplaced, "a link is replaced while the other end still holds the old one";
    SessionBroke, "a catch-up session breaks off in the middle";
    FullPath, "a peer below the floor takes the full path";
    BatchParked, "a batch waits for an earlier one";
    BatchDropped, "there is no room to park a batch";
    BatchDuplicate, "a batch comes twice";
    WindowClosed, "a peer lags and is left to catch up";
    CrashInFlight, "power is cut while a write is under way";
    InFlightKept, "... and the write had reached the disk";
    StoreDamaged, "a damaged store is found at a start";
    Rebuilt, "a store is rebuilt from peers";
    Salvaged, "own batches are read back from a damaged store";
    RolledBack, "a peer has more of a node's ops than its disk";
    SetBack, "a voter hears that its disk was set back";
    Cloned, "two processes under one identity are noticed";
    Forked, "two batches under one dot are noticed";
    Forged, "a batch with a wrong signature is noticed";
    Diverged, "two states differ where they should not";
    MendedByMajority, "... and what most have is taken";
    MendedByUnion, "... and nobody knows who is right";
    Relayed, "a batch is passed on for its origin";
    Compared, "two states are compared by what differs";
    Checked, "a node checks itself against a peer";
    Skewed, "a stamp from the future is noticed";
    ClockBehind, "a write is refused because the clock fell behind";
    StorageFailed, "a disk fails";
    StorageRecovered, "a disk works again";
    FloorRaised, "removal records become stable and go";
    FloorForced, "there are too many removal records, and they go";
    Siblings, "two values stand side by side";
    Partitioned, "a node says that it cannot reach members";
    AckUnknown, "a client never learns what became of its write";
    SessionWaits, "a node is behind a client's session, and must not answer";
    SessionMoved, "a client reads at another node than before";
    MalformedPeer, "a peer is hung up on";
    LinkHalfOpen, "one end believes in a link that the other gave up";
    Left, "a member leaves for good";
    Conflict, "values or rules that do not go together are found";
    ConflictEnded, "... and a write settles them";
    ConflictAcross, "documents break a rule together";
    ConflictWaits, "a conflict waits for somebody";
    Escalated, "... and waits for too long";
    ConflictTurned, "a conflict stands otherwise, by what changed around it";
    ByAdvisor, "the advisor settles a conflict";
    ByPolicy, "a policy settles what a schema would have settled otherwise";
    SettledByPerson, "a person settles a conflict";
    Reopened, "... and takes that back";
    PartitionTold, "a planned partition is held to its account";
    Anchored, "a node signs where its audit stands, and tells the others";
    AuditProven, "... and its disk holds what it signed";
    VotersChanged, "voters become others";
    Decided, "a ballot is decided";
    NoQuorum, "a side without a quorum is told so";
    Undecided, "nobody knows what became of a ballot";
    LockTaken, "a lock changes its holder";
    LockWaits, "somebody stands in a lock's queue";
    LockHandedOn, "... and is given the lock";
    LockLost, "a holder hears that another has the lock";
    StaleTokenRefused, "... after it wrote to what the lock protects, and was refused";
    SettledByVote, "the voters settle a conflict";
    FieldDecided, "a quorum decides about a field";
    TestFailed, "... and not as asked, since the field is another by then";
    GuardedByAnother, "... or since another holds the document's lock";
    StaleTokenDecidesNothing, "a write under a token that was overtaken is refused by the quorum";
    TaskClaimed, "a worker is given a task";
    TaskLapsed, "... and its lease runs out: the task is handed out again";
    TaskLost, "... and hears that the task is another's by then";
    TaskDone, "a task is done";
    TaskFailed, "all attempts at a task fail";
    TaskCancelled, "a task is cancelled";
    Placed, "a thing is placed on a worker";
    RightGranted, "a quorum gives a right to place";
    RightGivenBack, "... and is given one back";
    NoRoom, "... and has none left to give";
    RightReclaimed, "the right of a replica that is gone is taken back";
    PlacementSettled, "... and what it had placed stays";
    PlacementVoid, "a replica that was reclaimed places on, and that counts for nothing";
    Fenced, "a node hears that a replica is fenced";
    KeptAside, "... and keeps aside what that wrote later";
    Released, "... until it is released";
    Discarded, "... or discarded";
    FencedWriteRefused, "a fenced node refuses a write";
    VmRuns, "a host runs a VM";
    VmRenewed, "... and renews its lease";
    VmStopped, "... and stops it, since the lease ends";
    VmTakenOver, "... and another takes it over, whose host does not answer";
    VmWriteRefused, "... and what the first wrote too late is refused";
    VmMigrated, "a VM goes where its host sends it";
    Evicted, "a quorum evicts a member that is lost";
    EvictionRefused, "... and a side without one does not";
    CameBack, "one that was evicted is there after all, and says so";
    Overruled, "a value that was overruled is in the ledger";
}

/// How often each was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    counts: BTreeMap<Probe, u64>,
}

impl Probes {
    pub fn reached(&mut self, probe: Probe) {
        *self.counts.entry(probe).or_default() += 1;
    }

    pub fn reached_if(&mut self, probe: Probe, holds: bool) {
        if holds {
            self.reached(probe);
        }
    }

    pub fn count(&self, probe: Probe) -> u64 {
        self.counts.get(&probe).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Probes) {
        for (probe, count) in &other.counts {
            *self.counts.entry(*probe).or_default() += count;
        }
    }

    pub fn missed(&self) -> Vec<Probe> {
        Probe::ALL.iter().copied().filter(|probe| self.count(*probe) == 0).collect()
    }
}
