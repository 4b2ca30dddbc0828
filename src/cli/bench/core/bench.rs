//! What a case reports to.

use std::fmt;
use std::time::Duration;

/// Takes the cases of a group, one after another.
pub trait Bench {
    /// A group of cases begins.
    fn begin(&mut self, group: &str);

    /// A case that can be repeated at will. `run(n)` does it `n` times and tells how long that took, without what it had
    /// to prepare.
    fn time(&mut self, case: Case, run: &mut dyn FnMut(u64) -> Duration);

    /// A figure that was measured as a whole: bytes, or one long run.
    fn value(&mut self, case: Case, unit: &'static str, value: f64);
}

/// What is measured, and what it should come to.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub target: Target,
}

impl Case {
    pub fn new(name: impl Into<String>, target: Target) -> Self {
        Self { name: name.into(), target }
    }
}

/// What the design asks for, in the unit of the figure; times of repeated cases in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    /// How many times worse than the target; below 1 it is met.
    pub fn miss(self, value: f64) -> Option<f64> {
        match self {
            Target::None => None,
            Target::AtMost(target) => Some(value / target),
            Target::AtLeast(target) => Some(target / value),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::None => Ok(()),
            Target::AtMost(target) => write!(f, "≤ {target}"),
            Target::AtLeast(target) => write!(f, "≥ {target}"),
        }
    }
}
