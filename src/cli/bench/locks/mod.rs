//! `folkmoot bench locks`: what a decision of a quorum takes, beside one sync of the same disk and beside etcd.
//!
//! `service` is what is asked of either, `etcd` starts the other one; `speed` measures both alike, `vote`, `claims` and `cut`
//! what only this program has; `disk` is one sync; `rows` takes the medians of all rounds; `command` runs them in turn.

mod claims;
mod command;
mod cut;
mod disk;
mod etcd;
mod rows;
mod service;
mod speed;
mod vote;

pub use command::{LocksArgs, locks};
