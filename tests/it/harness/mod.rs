//! The harness: nodes as processes, clusters of them, an HTTP client, the command line, and waiting with a deadline.

mod cluster;
mod command;
pub mod dispute;
mod events;
mod http;
mod node;
mod wait;

pub use cluster::{Cluster, DIGESTS_TIMEOUT, JOIN_TIMEOUT};
pub use command::{Ended, program, run, run_with_input};
pub use events::Events;
pub use http::{Http, Reply, TIMEOUT as HTTP_TIMEOUT};
pub use node::{Launch, Node, free_port};
pub use wait::{stays, until};
