//! Real node processes on loopback, hurt and healed: what the product promises, seen from outside.
//!
//! Nothing here looks into the library: a node is its process, its ready line, its HTTP API, its files and its exit code.
//! The one exception is `hostile`, which borrows the transport to be a peer that lies.
//!
//! Every test owns its cluster; at most two live at once, and those that measure time run alone.
//! Longer variants: `FOLKMOOT_KILL_ROUNDS=200`, `FOLKMOOT_LONG=1`, `FOLKMOOT_TRACES=<folder>`.

mod harness;

mod admission;
mod advisor_knowledge;
mod audit;
mod capacity;
mod conflicts;
mod contract;
mod crash;
mod damage;
mod decided;
mod demo;
mod durability;
mod fleet;
mod hostile;
mod join;
mod lab;
mod layers;
mod locks;
mod overruled;
mod partition;
mod partitions;
mod policies;
mod program;
mod refusal;
mod replay;
mod replicas;
mod restored;
mod session;
mod surfaces;
mod tasks;
mod vms;
