//! `folkmoot sim`: scenarios run, replayed, made smaller and shown. The simulator itself is `crate::sim`, which does no
//! I/O and knows no threads; files, threads and words are here.
//!
//! [`args`] names the commands, [`many`] runs seeds on threads, [`one`] looks at one of them, [`file`] reads scenarios.

mod args;
pub mod file;
mod many;
#[cfg(feature = "mutants")]
mod mutants;
mod one;
mod pool;

pub use args::{SimArgs, sim};
