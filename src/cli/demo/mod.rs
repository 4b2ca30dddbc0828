//! `folkmoot demo`: three nodes, a split, conflicting writes, a healing, and a report.
//!
//! `script` says what is written where, `checks` what must come out, `conflict` and `vm` are the last acts, `story` plays all of it on
//! real processes, `report` tells it.

mod checks;
mod conflict;
mod report;
mod script;
mod story;
mod vm;

pub use story::{DemoArgs, demo};
