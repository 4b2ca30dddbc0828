//! Documents that verbs of their own write: a write by another way that would break them is refused, with the way named.

use super::problem::{Kind, Problem};
use crate::document::Address;
use crate::domain::{capacity, tasks};
use crate::node::{DocumentWrite, WriteBody};

/// What a capacity says only its verbs know to write. A task's other fields are anybody's.
pub(super) fn guard(write: &DocumentWrite) -> Result<(), Problem> {
    let by_verbs = write.address.collection() == capacity::COLLECTION;
    if !by_verbs || matches!(write.body, WriteBody::Delete) {
        return Ok(());
    }
    Err(refused(&write.address, "`/v1/capacity/{worker}` and what is below it (`folkmoot capacity`)"))
}

/// What a quorum decides about these holds together, which a patch does not know.
pub(super) fn guard_decision(address: &Address) -> Result<(), Problem> {
    match address.collection() {
        capacity::COLLECTION => Err(refused(address, "`/v1/capacity/{worker}` (`folkmoot capacity`)")),
        tasks::COLLECTION => Err(refused(address, "`/v1/tasks/{id}/claim` and its like (`folkmoot task`)")),
        _ => Ok(()),
    }
}

/// Whoever has a task holds its lock, and lets it go by what becomes of the task.
pub(super) fn guard_lock(name: &str) -> Result<(), Problem> {
    match Address::parse(name) {
        Ok(address) => guard_decision(&address),
        Err(_) => Ok(()),
    }
}

fn refused(address: &Address, by: &str) -> Problem {
    Problem::new(Kind::DoesNotFit, format!("{address} is written by verbs of its own: {by}; nothing was changed"))
}
