//! The command line: the top of the house. It starts nodes and talks to them over HTTP like any other client.
//!
//! Data goes to stdout and words to stderr; exit codes are a contract. Nothing here reaches into a node: `run` hands
//! settings to floor 8, everything else goes through `client`.
//!
//! Start reading in `args`, then `client`; `processes` runs local clusters for `cluster`, `demo` and `bench`.

mod about;
mod address;
mod advisor;
mod agent;
mod args;
mod audit;
mod bench;
mod capacity;
mod chaos;
mod client;
mod cluster;
mod config;
mod conflicts;
mod daemon;
mod demo;
mod events;
mod exit;
mod input;
mod knowledge;
mod lock;
mod output;
mod partition;
mod policy;
mod problem;
mod processes;
mod queue;
mod read;
mod replay;
mod replica;
mod run;
mod settings;
mod sim;
mod status;
mod task;
mod traffic;
mod transfer;
mod view;
mod vm;
mod watch;
mod worker;
mod write;

pub use args::{Cli, run};
pub use exit::Error;
