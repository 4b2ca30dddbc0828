//! `folkmoot demo`: three nodes, a split, conflicting writes, a healing, and a report.
//!
//! `script` says what is written where, `checks` what must come out, `story` plays it on real processes, `report`
//! tells it.

mod checks;
mod report;
mod script;
mod story;

pub use story::{DemoArgs, demo};
