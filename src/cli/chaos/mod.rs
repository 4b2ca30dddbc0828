//! `folkmoot chaos`: the simulator's scenarios on real processes.
//!
//! | | |
//! |---|---|
//! | [`command`] | the command, from the scenario to the verdict |
//! | [`timeline`] | a scenario's faults as steps, and what cannot be done here |
//! | [`namespace`] | hosts: network namespaces on one switch |
//! | [`switch`] | what becomes of a packet between two hosts, and when it is handed on |
//! | [`wire`] | the switch at work: a thread between the hosts' devices |
//! | [`stage`] | the processes, and what is done to them |
//! | [`clients`] | the workload over HTTP, and what was told to whom |
//! | [`verdict`] | the oracles |
//! | [`report`], [`lanes`] | what came of it: text, JSON, the simulator's page |

mod clients;
mod command;
mod lanes;
mod namespace;
mod report;
mod stage;
mod switch;
mod timeline;
mod verdict;
mod wire;

pub use command::{ChaosArgs, chaos};
