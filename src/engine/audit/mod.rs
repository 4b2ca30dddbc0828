//! The audit of this replica: what it found and what was decided, appended to its chain as it happens.
//!
//! | | |
//! |---|---|
//! | [`log`], [`rows`] | the chain in memory: appending, bounds, what goes to the disk and what it said to have |
//! | [`look`] | paged, surveyed, exported, verified |
//! | [`retain`] | the oldest records go |
//! | [`flood`] | conflicts that settle by themselves: one by one while they are few, grouped when they are many |
//! | [`anchors`] | signed heads of all members, as their documents told them |
//! | [`shelves`] | chains of other nodes that somebody imported |
//! | [`events`], [`decisions`] | which event becomes which record |
//! | [`standing`] | conflicts that were told and are not over, across restarts |
//! | [`damage`] | a store that was set aside, on record |
//! | [`publish`] | this node's own anchor, on its way to the others |
//! | [`counts`] | the same events as numbers |
//!
//! Records are this node's own: they are no replicated state and change no digest. Only the newest anchor is, as the field
//! `audit` of `members/<node>`, written at most once a minute.

pub mod anchors;
pub mod counts;
pub mod damage;
mod decisions;
mod events;
pub mod flood;
pub mod log;
mod look;
mod publish;
mod retain;
mod rows;
pub mod shelves;
pub mod standing;

#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;

pub use counts::Counts;
pub use damage::{Loss, ReadBack};
pub use log::Audit;
pub use look::Verified;
pub use publish::FIELD;
pub use shelves::ShelfError;
