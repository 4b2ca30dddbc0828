//! What a fleet keeps: the built-in collections as typed documents with a few verbs each. Nothing below knows them.
//!
//! Like the floors below, nothing here does I/O, reads a clock or draws a random number.

pub mod knowledge;
pub mod vms;
