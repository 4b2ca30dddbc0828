//! Oracles: what must hold whatever happens, one file for each invariant. They watch from outside, through what a
//! replica shows, and keep their own books of what was written ([`ledger`]).
//!
//! | invariant | held by |
//! |---|---|
//! | state is the join of the ops in the clock, at every step, by every path | [`state`] |
//! | a batch is visible as a whole or not at all | [`state`] |
//! | no dot is issued twice with different content; an own clock has no gaps | [`ledger`] |
//! | an acknowledged write is not lost while its durability holds | [`durability`] |
//! | a removed entry does not come back | [`removal`] |
//! | a reader with a session does not go back in time | [`session`] |
//! | a counter is the sum of the increments its clock covers | [`counter`] |
//! | conflicts follow from the state, and no value is overruled without an entry in the ledger | [`conflicts`] |
//! | an audit is on its disk as it was anchored | [`audit`] |
//! | one holder for each token, one set of voters for each version, one value for each ballot | [`locks`] |
//! | what a quorum decides is one history, and what nodes read of it was decided | [`decisions`] |
//! | one host runs a VM, and it is the one that was decided | [`vms`] |
//! | nobody is evicted but by a quorum | [`evictions`] |
//! | tasks go where they may, one worker has each, and none is lost | [`tasks`] |
//! | every node gives the same account of a partition, and what was planned is in it | [`partitions`] |
//! | nothing is placed beyond a worker's limits, and what was acknowledged counts | [`capacity`] |
//! | what lies beyond a fence is taken in only from who had it before it heard of that | [`replicas`] |
//! | buffers are bounded | [`bounds`] |
//! | equal clocks, equal states, equal bytes, within a bounded time | [`agreement`] |

pub mod agreement;
pub mod audit;
pub mod bounds;
pub mod capacity;
pub mod conflicts;
pub mod counter;
pub mod decisions;
pub mod durability;
pub mod evictions;
pub mod fence;
pub mod ledger;
pub mod locks;
pub mod partitions;
pub mod removal;
pub mod replicas;
pub mod session;
pub mod state;
pub mod tasks;
pub mod vms;

use serde::Serialize;

/// What an oracle found to be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub oracle: &'static str,
    pub node: usize,
    pub at_us: u64,
    pub text: String,
}

/// A finding before it is known where and when.
pub type Verdict = Result<(), Wrong>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    pub oracle: &'static str,
    pub text: String,
}

pub(super) fn wrong(oracle: &'static str, text: impl Into<String>) -> Verdict {
    Err(Wrong { oracle, text: text.into() })
}
