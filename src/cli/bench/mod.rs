//! `folkmoot bench`: the figures of this build on this machine, as a table.
//!
//! `figure` is one row; `core` measures in this process; `visible`, `writes` and `heal` measure whole clusters of real
//! processes over HTTP; `command` runs them in turn. `locks` is a command of its own, beside etcd.

mod command;
mod core;
mod figure;
mod heal;
mod locks;
mod visible;
mod writes;

pub use command::{BenchArgs, bench};
