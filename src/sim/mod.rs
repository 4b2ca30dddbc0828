//! Floor 7: the deterministic simulator. It drives the same [`Replica`](crate::engine::Replica) that a node runs, under
//! virtual time, on disks and networks that fail on purpose, and holds it to the invariants at every step.
//!
//! ```
//! use folkmoot::sim::{How, Scenario, run};
//!
//! let scenario = Scenario::parse(
//!     r#"
//!     version = 1
//!     name = "two-sides"
//!     [[fault]]
//!     at = "1s"
//!     kind = "partition"
//!     groups = [[0], [1, 2]]
//!     heal = "3s"
//!     "#,
//! )?;
//! let outcome = run(&scenario, 1, How::default());
//! assert_eq!(outcome.finding, None);
//! assert_eq!(outcome.hash, run(&scenario, 1, How::default()).hash, "a seed replays to the byte");
//! # Ok::<(), folkmoot::sim::ScenarioError>(())
//! ```
//!
//! | | |
//! |---|---|
//! | [`scenario`], [`fault`], [`duration`] | what a file says |
//! | [`plan`] | what one seed makes of it |
//! | [`mod@run`] | the two acts, and what came of them |
//! | `world`, `links`, `life`, `client`, `deed` | the queue; the transport; processes and disks' answers; clients; people |
//! | `asking` | what nodes are asked to have decided, and who is told |
//! | [`network`], [`disk`], [`host`], [`keys`], [`chance`] | the parts a world is made of |
//! | `inject`, `evictions`, `hostile` | faults as they happen; members that are evicted, and come back; one that does what it must not |
//! | [`workload`], `disputes`, `locks`, `decisions`, `tasks`, `placements`, `vms`, `owners`, `fences` | what clients write, and what they ask a quorum |
//! | [`oracle`] | the invariants, one file each |
//! | [`shrink`](mod@shrink), [`report`] | the smallest run that still fails; pages, JSON, JUnit |
//! | [`probe`], [`trace`] | what ought to happen sometimes; what did happen |
//!
//! Nothing here does I/O, reads a clock or draws from anything but the seed.

mod acquaint;
mod asking;
pub mod chance;
mod client;
pub mod decisions;
mod deed;
pub mod disk;
mod disputes;
pub mod duration;
mod evictions;
pub mod fault;
mod fences;
pub mod figures;
pub mod host;
mod hostile;
mod inject;
pub mod keys;
mod life;
mod links;
mod locks;
pub mod network;
pub mod oracle;
mod owners;
mod placements;
pub mod plan;
pub mod probe;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
mod tasks;
#[cfg(test)]
mod tests;
pub mod trace;
mod vms;
pub mod workload;
mod world;

pub use oracle::Finding;
pub use plan::Plan;
pub use run::{How, Outcome, run, run_plan};
pub use scenario::{Scenario, ScenarioError};
pub use world::{HookChoice, Tally};
