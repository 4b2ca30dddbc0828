//! Ballots: one decision on one thing, also when the network splits. Single-decree, leaderless consensus for each register
//! by a majority of the voters, after Rystsov, "CASPaxos: Replicated State Machines without logs" (2018).
//!
//! | | |
//! |---|---|
//! | [`number`] | which attempt comes before which |
//! | [`voters`] | whose word counts, and how that changes |
//! | [`acceptor`] | what one voter promised and accepted |
//! | [`proposal`] | one attempt to change one register, from the first question to the decision |
//! | [`ask`] | what may be asked of a register |
//! | [`decision`] | a change of decided fields, as programs say it |
//! | [`lock`], [`fields`], [`guard`] | what one holder has at a time, with a lease and a fencing token; the fields of a document that a quorum decides; both in one register |
//! | [`lease`] | how long a holder counts itself one |
//! | [`booth`], [`message`] | what this node knows of all of it, on its disk and not; what nodes say to each other |
//! | `driving`, [`transfer`] | how a replica asks, answers and tries again; how voters become others |
//! | `setback` | voters whose disk is not what it was |
//! | [`vote`] | conflicts that voters settle |
//! | `publish` | what was decided about fields, written where everybody reads it |
//!
//! The parts up to [`guard`] send, store and wait for nothing: the models in `tests/ballots` check these
//! very types, exhaustively where they can.

pub mod acceptor;
pub mod ask;
pub mod booth;
pub mod decision;
mod driving;
pub mod fields;
pub mod guard;
pub mod lease;
pub mod lock;
pub mod message;
pub mod number;
pub mod proposal;
mod publish;
mod setback;
pub mod transfer;
pub mod vote;
pub mod voters;

#[cfg(test)]
mod tests;

pub use acceptor::{Accepted, Acceptor, Answer, Question};
pub use ask::{Ask, Told};
pub use booth::{AskError, AskId, BallotTally, Booth, Due, Outcome};
pub use decision::{Decision, Take, Unfit};
pub use fields::{FieldValue, Fields, FieldsChange, FieldsOutcome, FieldsVerdict};
pub use guard::Guard;
pub use lease::{Duty, Lease};
pub use lock::Lock;
pub use message::BallotMessage;
pub use number::Ballot;
pub use proposal::{Applied, Change, Promise, Proposal, Step};
pub use setback::{Heard, Past};
pub use voters::{StoreId, Voter, Voters};
