//! What only a simulator may ask of a replica: a bug planted on purpose, and rare paths taken often.
//!
//! In a build for use both are constants, which the compiler removes. In tests, and with the feature `mutants`, they are
//! part of the configuration, so that one build runs every mutant.

/// Empty in a build for use.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    #[cfg(any(test, feature = "mutants"))]
    mutant: Option<Mutant>,
    #[cfg(any(test, feature = "mutants"))]
    rare: u8,
    #[cfg(any(test, feature = "mutants"))]
    chance: u64,
}

#[cfg(any(test, feature = "mutants"))]
impl Hooks {
    /// `rare`: how often a path that is always allowed and seldom needed is taken, of 256; 0 for only when it is needed.
    pub fn new(mutant: Option<Mutant>, rare: u8, seed: u64) -> Self {
        Self { mutant, rare, chance: seed }
    }

    #[inline]
    pub fn planted(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn rare(&mut self) -> bool {
        if self.rare == 0 {
            return false;
        }
        // A multiplier of Steele and Vigna for 64-bit congruential generators; the upper bits are good enough here.
        self.chance = self.chance.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        ((self.chance >> 56) as u8) < self.rare
    }
}

#[cfg(not(any(test, feature = "mutants")))]
impl Hooks {
    #[inline(always)]
    pub fn planted(&self, _: Mutant) -> bool {
        false
    }

    #[inline(always)]
    pub fn rare(&mut self) -> bool {
        false
    }
}

macro_rules! mutants {
    ($($variant:ident, $name:literal, $what:literal;)*) => {
        /// A bug to plant. Each stands where it does its harm, as `if hooks.planted(Mutant::…)`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mutant { $(#[doc = $what] $variant,)* }

        impl Mutant {
            pub const ALL: &[Mutant] = &[$(Mutant::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Mutant::$variant => $name,)* }
            }

            /// What the code does wrong once it is planted.
            pub fn what(self) -> &'static str {
                match self { $(Mutant::$variant => $what,)* }
            }

            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
            }
        }
    };
}

mutants! {
    NoCausalWait, "no-causal-wait", "R1: a batch is applied although a dot it supersedes is not in the clock";
    SkipGap, "skip-gap", "R1: a batch is applied although an earlier one of its replica is missing";
    PagesBeforeClock, "pages-before-clock", "R2: chunks are joined as they come, before the clock moves";
    ClockNotOfSnapshot, "clock-not-of-snapshot", "R2: catch-up ends at the sender's clock of later, not at its snapshot's";
    FloorIgnored, "floor-ignored", "R3: a peer below the collection floor is served incrementally";
    FloorStays, "floor-stays", "R3: the floor does not travel with catch-up";
    IncarnationReused, "incarnation-reused", "R4: a start goes on under its node's last incarnation";
    ApplyJudges, "apply-judges", "R5: applying keeps only the latest entry of a cell";
    PartialTakenForWhole, "partial-taken-for-whole", "a partial diff is taken for a whole one, and what it leaves out is deleted";
    ReconcileForgets, "reconcile-forgets", "the full reconcile keeps what only the asker has, which is dead";
    TouchedCompared, "touched-compared", "the self-check compares shards that were written to meanwhile";
    NeverMended, "never-mended", "a divergence is told and not repaired";
    PrunedTooEarly, "pruned-too-early", "removal records are pruned while a member is away, and the floor is not raised";
    DigestForgetsRemoves, "digest-forgets-removes", "the digest of the state stays as it was when an entry is removed";
    HearsayAcknowledged, "hearsay-acknowledged", "`replicas:N` counts what was sent, not what was reported on the connection";
    NeverAskedAgain, "never-asked-again", "a batch that was not applied is forgotten and never asked for";
    LostForGood, "lost-for-good", "a member that was away for two seconds is never let in again";
    CoversOneMore, "covers-one-more", "off by one: the dot just above the clock counts as covered";
    AckBeforeDisk, "ack-before-disk", "a write counts as durable when it is handed to the disk";
    ParkedLost, "parked-lost", "a parked batch counts as applied when its turn comes, and is lost";
    TornTransaction, "torn-transaction", "a transaction is torn over two batches";
    AppliedTwice, "applied-twice", "a batch that comes twice is applied twice";
    JoinDropsUncovered, "join-drops-uncovered", "catch-up drops what the sender lacks although its clock does not cover it";
    PagesNotWritten, "pages-not-written", "every other write to the disk leaves out the pages and holds the clock";
    ParkingUnbounded, "parking-unbounded", "the bound of parked batches is not held";
    FutureFolded, "future-folded", "a stamp from the future moves the own clock";
    SignatureUnchecked, "signature-unchecked", "the signature of a batch that a third node passed on is not checked";
    CreationNotAwaited, "creation-not-awaited", "a write of a document does not wait for the document's creation";
    ResolvedByArrival, "resolved-by-arrival", "resolvers see siblings in the order in which they came to this node";
    LedgerForgets, "ledger-forgets", "every other value that came to stand beside another is left out of the ledger";
    JudgedBeyondClock, "judged-beyond-clock", "conflicts are judged with ops that wait for others and are not in the clock";
    UnknownFieldLost, "unknown-field-lost", "an op on a field that the schema in force does not declare is dropped";
    JudgedOnce, "judged-once", "a document is judged when its conflict begins, and not again";
    SettledOnce, "settled-once", "reads go on with what a document was settled to before it changed";
    AuditSkips, "audit-skips", "every fifth record of the audit is not handed to the disk";
    PromiseNotSynced, "promise-not-synced", "a voter answers before its disk has what the answer rests on";
    VoteCountedTwice, "vote-counted-twice", "one voter's word counts for two";
    MinorityDecides, "minority-decides", "a voter decides alone";
    VoterChangeForgotten, "voter-change-forgotten", "new voters count before they accepted what the old ones decided";
    TokenNotChecked, "token-not-checked", "a write is decided about a document whoever holds its lock";
    OtherSideForgotten, "other-side-forgotten", "what the other side of a partition changed is left out of its account";
    CutForgotten, "cut-forgotten", "one of those that could not be reached is left out of the account of a partition";
    RightNotHeeded, "right-not-heeded", "a replica places beyond its right";
    GrantNotTested, "grant-not-tested", "a right is handed out over what was decided meanwhile";
    RightNotSettled, "right-not-settled", "the right of a replica that is gone is free, and what it had placed is forgotten";
    FenceIgnored, "fence-ignored", "what lies beyond a fence is taken in";
    OwnerGoesOn, "owner-goes-on", "who owns a VM does not stop when its lease ends";
    LeaseNotAwaited, "lease-not-awaited", "a lease counts as run out as soon as somebody reads it";
    EvictedAlone, "evicted-alone", "a member is written off though no quorum agreed";
    SetBackUnheeded, "set-back-unheeded", "a voter goes on although its disk lacks what others heard it tell";
    RestoredDotsClaimed, "restored-dots-claimed", "a start claims one dot more of its last replica than its disk holds";
}
