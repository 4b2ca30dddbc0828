//! `folkmoot chaos`: the simulator's scenarios on real processes.
//!
//! | | |
//! |---|---|
//! | [`command`] | the command, from the scenario to the verdict |
//! | [`timeline`] | a scenario's faults as steps, and what cannot be done here |
//! | [`namespace`] | hosts: network namespaces and what passes between them |
//! | [`stage`] | the processes, and what is done to them |
//! | [`clients`] | the workload over HTTP, and what was told to whom |
//! | [`verdict`] | the oracles |

mod clients;
mod command;
mod namespace;
mod stage;
mod timeline;
mod verdict;

pub use command::{ChaosArgs, chaos};
