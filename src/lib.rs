//! Folkmoot: a replicated state store for fleets.
//!
//! The floors, lowest first; each imports only downwards. Floors 0 to 6 know no I/O, no clock, no randomness and no
//! async: `cargo check --no-default-features` builds them alone.

pub mod clock;
pub mod crdt;
pub mod document;
pub mod engine;

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
