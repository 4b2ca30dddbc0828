//! What a fleet keeps: the built-in collections as typed documents with a few verbs each. Nothing below knows them.
//!
//! Like the floors below, nothing here does I/O, reads a clock or draws a random number.

pub mod agents;
pub mod capacity;
pub mod knowledge;
pub mod partitions;
pub mod tasks;
pub mod vms;
pub mod workers;
