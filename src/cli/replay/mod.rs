//! `folkmoot replay`: feeds a cluster trace to a cluster.
//!
//! `mapping` knows which column means what, `trace` reads the files, `plan` decides what is written in which order
//! (pure), `write` turns events into writes, `lane` sends them, `drive` runs the lanes and `verdict` compares what the nodes hold at the end
//! with the plan. `split` does it while the cluster is cut and healed, `tight` as
//! work for hosts that have hardly room for it.
//! `recording` makes of it what the simulator's clients do.

mod drive;
mod lane;
mod mapping;
mod plan;
mod recording;
mod split;
mod tight;
mod trace;
mod verdict;
mod write;

pub use drive::{ReplayArgs, TraceFiles, replay};
