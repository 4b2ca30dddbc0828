//! Folkmoot: a replicated state store for fleets.
//!
//! A [`Node`](node::Node) keeps documents on its host, answers reads and takes writes there without asking anyone, and
//! tells other nodes what changed until all hold the same. What can merge merges by the type of its field; what cannot
//! stays visible as siblings.
//!
#![cfg_attr(feature = "node", doc = "```")]
#![cfg_attr(not(feature = "node"), doc = "```ignore")]
//! use folkmoot::document::Edit;
//! use folkmoot::node::Node;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! struct Vm {
//!     power_state: String,
//!     #[serde(default)]
//!     restarts: i64,
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // In memory and alone. `.data_dir(…)` keeps it, `.listen(…)` and `.join(…)` share it.
//! let node = Node::builder().name("worker-1").start().await?;
//!
//! let vms = node.collection::<Vm>("vms")?;
//! vms.put("vm-1", &Vm { power_state: "running".into(), restarts: 0 }).await?;
//! vms.edit("vm-1", vec![Edit::Incr { field: "restarts".into(), by: 1 }]).await?;
//! vms.update("vm-1", |vm| vm.power_state = "stopped".into()).await?;
//!
//! assert_eq!(vms.get("vm-1")?, Some(Vm { power_state: "stopped".into(), restarts: 1 }));
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` shows two nodes. To run one as a daemon or look at the HTTP API, see the README; to change
//! Folkmoot, see ARCHITECTURE.md.
//!
//! # The floors
//!
//! Lowest first; each imports only downwards. Those up to [`engine`] know no I/O, no clock, no randomness and no async:
//! `cargo check --no-default-features` builds them alone.
//!
//! | | |
//! |---|---|
//! | [`clock`] | ids, dots, version vectors, hybrid time |
//! | [`crdt`] | the field types |
//! | [`document`] | cells, documents, schemas, batches, the codec |
//! | [`conflict`] | what becomes of concurrent values |
//! | [`history`] | values that were overruled; what was found and decided here, provably whole |
//! | [`engine`] | the replica: inputs and a time go in, outputs come out |
//! | [`domain`] | what a fleet keeps: knowledge |
//! | [`sim`] | the same replica under virtual time, faults and oracles |
//! | `store`, `net`, `telemetry` | disks; links; logs and metrics |
//! | `node` | a running node, and what programs hold of it |
//! | `api`, `cli` | HTTP; the command |

pub mod clock;
pub mod conflict;
pub mod crdt;
pub mod document;
pub mod domain;
pub mod engine;
#[cfg(any(test, feature = "mutants"))]
#[doc(hidden)]
pub mod fuzz;
pub mod history;
pub mod sim;

#[cfg(feature = "node")]
pub mod api;
#[cfg(feature = "node")]
pub mod cli;
#[cfg(feature = "node")]
pub mod net;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "node")]
pub mod store;
#[cfg(feature = "node")]
pub mod telemetry;
