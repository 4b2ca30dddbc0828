//! Who has a task, or had it, and what it may have to say of it.

use std::time::{Duration, Instant};

use crate::cli::replay::tight::verbs::Word;

/// Longer than a cut lasts, so that those of the smaller side are not handed out again. Extended after a third.
pub const LEASE: Duration = Duration::from_secs(30);
/// Of who is to stand still for longer than that.
pub const SHORT_LEASE: Duration = Duration::from_secs(1);

/// A worker that asks for a task.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    pub number: u64,
    /// It speaks to this node only.
    pub node: usize,
    pub host: usize,
    /// It is going to stand still for longer than its lease.
    pub stands_still: bool,
}

/// A worker that has a task, or had it.
#[derive(Debug, Clone)]
pub struct Worker {
    pub by: Asker,
    pub task: usize,
    pub token: u64,
    /// When its lease was asked for last.
    pub since: Instant,
    /// Whether its room is taken.
    pub placed: bool,
}

/// What came of an attempt to begin.
#[derive(Debug)]
pub enum Begun {
    Works(Worker),
    /// It has a task and no room yet; its node cannot ask for any.
    Waits(Worker),
    /// It has a task, and its host has no room.
    Refused(Worker),
    /// The task fits no host. What is left to say of it, if no quorum heard it.
    Gone(Option<Owed>),
    /// The queue has nothing for it, its node reaches no quorum, or nobody knows.
    Nothing,
}

/// What a worker has to say of its task as soon as a quorum hears it.
#[derive(Debug)]
pub struct Owed {
    pub worker: Worker,
    pub word: Word,
}

/// What came of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    Yes,
    /// The task is another's by now, or nobody's.
    Lost,
    NotYet,
}

impl Worker {
    pub fn lease(&self) -> Duration {
        self.by.lease()
    }

    /// By its own count.
    pub fn is_over(&self) -> bool {
        self.since.elapsed() >= self.lease()
    }
}

impl Asker {
    pub fn lease(&self) -> Duration {
        if self.stands_still { SHORT_LEASE } else { LEASE }
    }
}
