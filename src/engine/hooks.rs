//! What only a simulator may ask for: a bug planted on purpose, and rare paths taken often.
//!
//! In a build for use both are constants that the compiler removes; in tests, and with the feature `mutants`, they are
//! fields of the configuration, so that one build runs every mutant.

#[cfg(any(test, feature = "mutants"))]
pub use planted::{Hooks, Mutant};

#[cfg(not(any(test, feature = "mutants")))]
pub use absent::{Hooks, Mutant};

macro_rules! mutants {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// A bug to plant. Each stands where it does its harm, as `if hooks.planted(Mutant::…)`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mutant { $($(#[doc = $doc])* $variant,)* }

        impl Mutant {
            pub const ALL: &[Mutant] = &[$(Mutant::$variant,)*];

            pub fn name(self) -> &'static str {
                match self { $(Mutant::$variant => $name,)* }
            }

            /// What is wrong with the code once it is planted.
            pub fn what(self) -> &'static str {
                match self { $(Mutant::$variant => concat!($($doc),*).trim_ascii(),)* }
            }

            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|mutant| mutant.name() == name)
            }
        }
    };
}
pub(crate) use mutants;

#[cfg(any(test, feature = "mutants"))]
mod planted {
    /// The bug planted in one replica, and how often its rare paths are taken.
    #[derive(Clone, Debug, Default)]
    pub struct Hooks {
        pub mutant: Option<Mutant>,
        /// Of 256; 0 never takes a rare path that the state does not call for.
        pub rare: u8,
        /// Moves on with every draw.
        pub chance: u64,
    }

    impl Hooks {
        #[inline]
        pub fn planted(&self, mutant: Mutant) -> bool {
            self.mutant == Some(mutant)
        }

        /// Whether to take a path now that is always allowed and seldom needed.
        pub fn rare(&mut self) -> bool {
            if self.rare == 0 {
                return false;
            }
            // The multiplier of L'Ecuyer's 64-bit congruential generator; its upper bits are good enough here.
            self.chance = self.chance.wrapping_mul(0x27bb_2ee6_87b0_b0fd).wrapping_add(0xb504_f32d);
            (self.chance >> 56) as u8 <= self.rare
        }
    }

    super::mutants! {
        /// R1: a batch is applied although a dot that it supersedes is not in the clock
        NoCausalWait = "no-causal-wait",
        /// R1: a batch is applied although an earlier one of its replica is missing
        SkipGap = "skip-gap",
        /// R2: pages of a catch-up are joined as they come, before the clock moves
        PagesBeforeClock = "pages-before-clock",
        /// R2: the sender's clock is taken at the end of the session instead of from its snapshot
        ClockNotOfSnapshot = "clock-not-of-snapshot",
        /// R3: a peer below the collection floor is served incrementally
        FloorIgnored = "floor-ignored",
        /// R3: the floor does not travel with catch-up
        FloorStays = "floor-stays",
        /// R4: a start goes on under the incarnation it had, from the seq its disk tells
        IncarnationReused = "incarnation-reused",
        /// R5: applying drops what loses by time
        ApplyJudges = "apply-judges",
        /// A partial diff is taken for a whole one: cells that were not sent are deleted
        PartialTakenForWhole = "partial-taken-for-whole",
        /// Removal records are pruned while a member is away
        PrunedTooEarly = "pruned-too-early",
        /// The digest forgets removes: two different states are called equal
        DigestOfClockOnly = "digest-of-clock-only",
        /// `replicas:N` is counted by what anyone passes on, not by who reports on its own connection
        HearsayAcknowledged = "hearsay-acknowledged",
        /// A batch that could not be applied is dropped and never asked for again
        NeverAskedAgain = "never-asked-again",
        /// A member lost for long is never synchronized with again
        NoSyncOnContact = "no-sync-on-contact",
        /// Off by one: the dot just above the clock counts as covered
        CoversOneMore = "covers-one-more",
        /// An acknowledgement does not wait for the disk
        AckBeforeDisk = "ack-before-disk",
        /// A parked batch is lost when the next one comes
        ParkedLost = "parked-lost",
        /// A transaction is torn over two batches
        TornTransaction = "torn-transaction",
        /// A batch that arrives twice is applied twice
        AppliedTwice = "applied-twice",
        /// Catch-up drops what the sender does not have, also where its clock does not cover it
        JoinDropsUncovered = "join-drops-uncovered",
        /// The disk is told of the clock before it is told of the cells
        ClockBeforeCells = "clock-before-cells",
        /// The bound of parked batches is not held
        ParkingUnbounded = "parking-unbounded",
        /// A stamp from the future is folded into the own clock
        FutureFolded = "future-folded",
        /// The signature of a batch that a third node passed on is not checked
        SignatureUnchecked = "signature-unchecked",
        /// A counter's increment supersedes the shares of other replicas
        CounterTakesAll = "counter-takes-all",
    }
}

#[cfg(not(any(test, feature = "mutants")))]
mod absent {
    /// Nothing is planted in a build for use.
    #[derive(Clone, Copy, Debug, Default)]
    pub struct Hooks;

    impl Hooks {
        #[inline(always)]
        pub fn rare(&mut self) -> bool {
            false
        }
    }
}
