//! Floor 7: what a node says about itself to those who watch it: log lines on stderr, figures at `/metrics`.
//!
//! [`log`] sets up the lines, [`metrics`] keeps the registry and counts requests. Nothing here knows what a document
//! is; the floors above hand in names and numbers.

pub mod log;
pub mod metrics;

pub use log::{LogError, LogFormat};
pub use metrics::{Figure, FigureKind, Metrics};
