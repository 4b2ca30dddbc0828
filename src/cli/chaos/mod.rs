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
//! | [`lockers`], [`deciders`] | the workload's verbs `lock` and `decide`, and their oracles |
//! | [`contest`], [`worker`] | workers, each a process, of which one at a time has a lock or a VM |
//! | [`fence`], [`tenure`] | what they write to, who had it when, and the oracles over that |
//! | [`voters`] | waits until all who may decide do |
//! | [`verdict`] | the oracles |
//! | [`repeat`] | a scenario several times |
//! | [`report`], [`lanes`] | what came of it: text, JSON, the simulator's page |

mod clients;
mod command;
mod contest;
mod deciders;
mod fence;
mod lanes;
mod lockers;
mod namespace;
mod repeat;
mod report;
mod stage;
mod switch;
mod tenure;
mod timeline;
mod verdict;
mod voters;
mod wire;
mod worker;

pub use command::{ChaosArgs, chaos};
pub use fence::{Fence, Said, Word};
pub use voters::wait_for_voters;
pub use worker::{WorkerArgs, worker};
