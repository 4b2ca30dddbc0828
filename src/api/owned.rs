//! Documents that verbs of their own write: a write by another way that would break them is refused, with the way named.

use super::problem::{Kind, Problem};
use crate::document::Address;
use crate::domain::{capacity, tasks};
use crate::engine::fence;
use crate::node::{DocumentWrite, WriteBody};

const FENCE: &str = "`/v1/replicas/{id}/fence` and its like (`folkmoot replica`)";

/// What a capacity says only its verbs know to write. A task's other fields are anybody's.
pub(super) fn guard(write: &DocumentWrite) -> Result<(), Problem> {
    match write.address.collection() {
        fence::COLLECTION => Err(refused(&write.address, FENCE)),
        capacity::COLLECTION if !matches!(write.body, WriteBody::Delete) => {
            Err(refused(&write.address, "`/v1/capacity/{worker}` and what is below it (`folkmoot capacity`)"))
        }
        _ => Ok(()),
    }
}

/// What a quorum decides about these holds together, which a patch does not know.
pub(super) fn guard_decision(address: &Address) -> Result<(), Problem> {
    match address.collection() {
        capacity::COLLECTION => Err(refused(address, "`/v1/capacity/{worker}` (`folkmoot capacity`)")),
        fence::COLLECTION => Err(refused(address, FENCE)),
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
