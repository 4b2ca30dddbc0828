//! Tasks: work that a queue hands out, each to one worker at a time.
//!
//! | field | merges | rule |
//! |---|---|---|
//! | `state`, `worker`, `attempt`, `not_before_ms`, `result`, `error`, `ended_under` | not: a quorum decides, under the lock of the task's document | legal transitions, one worker, one token |
//! | `queue`, `payload`, `priority`, `max_attempts`, `backoff_ms`, `created_ms` | written once, with the task | |
//! | `progress` | `lww` | one worker at a time writes it |
//! | `cancel` | `flag` | asked for on either side of a split, it stays asked for |
//!
//! A task is done *at least once*. Two workers are at one task only after the lease of the first ran out, and the token of
//! the second tells them apart; a task is done again only if what came of it could not be told before its lease ended.

mod state;
mod task;

pub use state::TaskState;
pub use task::{Ended, Task};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

pub const COLLECTION: &str = "tasks";
/// The queue of a task that names none.
pub const QUEUE_DEFAULT: &str = "default";
/// Attempts at a task that says nothing of them.
pub const ATTEMPTS_DEFAULT: u32 = 5;
pub const ATTEMPTS_MAX: u32 = 1_000;
/// Before the second attempt; doubled before each further one.
pub const BACKOFF_DEFAULT: Duration = Duration::from_secs(1);
/// Never longer between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3_600);
/// Longest name of a queue and of a worker, bytes.
pub const NAME_MAX: usize = 128;
/// Longest word on why an attempt failed, bytes.
pub const ERROR_MAX: usize = 4_096;

/// A task that is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSpec {
    pub queue: String,
    /// What the worker is to do, in words of its own.
    pub payload: Json,
    /// A higher one is handed out first.
    pub priority: i64,
    pub max_attempts: u32,
    /// Before the second attempt, ms; doubled before each further one.
    pub backoff_ms: u64,
    /// Not handed out before so long, ms.
    pub delay_ms: u64,
}

impl Default for TaskSpec {
    fn default() -> Self {
        Self {
            queue: QUEUE_DEFAULT.to_owned(),
            payload: Json::Null,
            priority: 0,
            max_attempts: ATTEMPTS_DEFAULT,
            backoff_ms: BACKOFF_DEFAULT.as_millis() as u64,
            delay_ms: 0,
        }
    }
}

/// Why something cannot be done with a task. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("the task is {state}, and only one that is {wanted} can be {verb}")]
    State { state: TaskState, verb: &'static str, wanted: &'static str },
    #[error("the task is to be cancelled and is handed to nobody")]
    Cancelled,
    #[error("the task is not handed out for another {ms} ms")]
    Early { ms: u64 },
    #[error("the name of {what} has 1 to {NAME_MAX} bytes and no control characters: `{name}`")]
    Name { what: &'static str, name: String },
    #[error("a task is tried 1 to {ATTEMPTS_MAX} times, and not {0}")]
    Attempts(u32),
    #[error("at most an hour lies between two attempts, or before the first, and not {0} ms")]
    Wait(u64),
    #[error("a word on why it failed has at most {ERROR_MAX} bytes")]
    TooLong,
    #[error("`{0}` holds what an agent of a task says, and is no task: a task's id does not hold `/agents/`")]
    NotATask(String),
}

impl TaskSpec {
    /// The document of the new task.
    pub fn fields(&self, now_ms: u64) -> Result<Map<String, Json>, TaskError> {
        check_name("a queue", &self.queue)?;
        if !(1..=ATTEMPTS_MAX).contains(&self.max_attempts) {
            return Err(TaskError::Attempts(self.max_attempts));
        }
        let longest = BACKOFF_MAX.as_millis() as u64;
        if let Some(ms) = [self.backoff_ms, self.delay_ms].into_iter().find(|ms| *ms > longest) {
            return Err(TaskError::Wait(ms));
        }
        let fields = json!({
            "queue": self.queue, "payload": self.payload, "priority": self.priority, "created_ms": now_ms,
            "max_attempts": self.max_attempts, "backoff_ms": self.backoff_ms, "from_ms": now_ms + self.delay_ms,
        });
        let Json::Object(fields) = fields else { return Ok(Map::new()) };
        Ok(fields)
    }
}

/// Whether a document of the collection is a task, and not what an agent of one says.
pub fn is_task(id: &str) -> bool {
    !id.contains("/agents/")
}

pub fn check_worker(worker: &str) -> Result<(), TaskError> {
    check_name("a worker", worker)
}

pub fn check_queue(queue: &str) -> Result<(), TaskError> {
    check_name("a queue", queue)
}

fn check_name(what: &'static str, name: &str) -> Result<(), TaskError> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(TaskError::Name { what, name: name.chars().take(40).collect() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crdt::FieldKind;
    use crate::document::builtin;

    #[test]
    fn every_field_of_a_task_is_declared_and_those_that_a_quorum_decides_are_of_that_type() {
        let schema = builtin(COLLECTION).unwrap();
        let fields = TaskSpec::default().fields(5).unwrap();
        let plain = fields.keys().map(String::as_str).chain(["progress", "cancel"]);
        for name in plain {
            assert!(schema.field(name).is_some_and(|field| field.kind != FieldKind::Quorum), "{name}");
        }
        for name in task::DECIDED {
            assert_eq!(schema.field(name).map(|field| field.kind), Some(FieldKind::Quorum), "{name}");
        }
    }

    #[test]
    fn what_makes_no_task_is_refused_by_name() {
        let spec = TaskSpec { max_attempts: 0, ..TaskSpec::default() };
        assert_eq!(spec.fields(0), Err(TaskError::Attempts(0)));
        let spec = TaskSpec { delay_ms: 3_600_001, ..TaskSpec::default() };
        assert_eq!(spec.fields(0), Err(TaskError::Wait(3_600_001)));
        let spec = TaskSpec { queue: String::new(), ..TaskSpec::default() };
        assert!(spec.fields(0).unwrap_err().to_string().starts_with("the name of a queue"));
        assert!(serde_json::from_value::<TaskSpec>(json!({ "que": "x" })).is_err(), "a name that is misspelt");
        assert!(is_task("a/b") && !is_task("a/agents/b"));
    }
}
