//! A task as its document reads, and what may be decided about it: each verb is a [`Decision`] that holds only if the task is
//! still as it was read.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{
    ATTEMPTS_DEFAULT, BACKOFF_DEFAULT, BACKOFF_MAX, ERROR_MAX, QUEUE_DEFAULT, TaskError, TaskState, check_worker,
};
use crate::document::Edit;
use crate::engine::ballot::{Decision, Take};

/// The fields that a quorum decides.
#[cfg(test)]
pub(super) const DECIDED: [&str; 7] = ["state", "worker", "attempt", "not_before_ms", "result", "error", "ended_under"];

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    pub id: String,
    pub state: TaskState,
    pub queue: String,
    pub payload: Json,
    pub priority: i64,
    pub created_ms: u64,
    /// How often it was claimed.
    pub attempt: u32,
    pub max_attempts: u32,
    pub backoff_ms: u64,
    /// It is handed out from then on, ms since the Unix epoch.
    pub not_before_ms: u64,
    /// Who has it, or had it when it ended.
    pub worker: Option<String>,
    pub progress: Option<Json>,
    pub result: Option<Json>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// The token of who had it last and let it go.
    pub ended_under: Option<u64>,
    /// Whoever has it is to stop.
    pub cancel: bool,
    /// Decided fields that may be others by now: this node reaches no quorum.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
}

/// How a worker's time with a task ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    Done {
        result: Json,
    },
    /// Tried again, after a while, where attempts are left and `retry` says so.
    Failed {
        error: String,
        retry: bool,
    },
    /// As if it had not been claimed.
    GivenBack,
    /// As it was asked for.
    Cancelled,
}

impl Task {
    /// What a document says; what it does not say is as little as can be.
    pub fn of(id: &str, fields: &Map<String, Json>, stale: Vec<String>) -> Self {
        let text = |field: &str| fields.get(field).and_then(Json::as_str);
        let number = |field: &str| fields.get(field).and_then(Json::as_u64);
        let count = |field: &str| number(field).and_then(|n| u32::try_from(n).ok());
        Self {
            id: id.to_owned(),
            state: text("state").and_then(|name| name.parse().ok()).unwrap_or(TaskState::Pending),
            queue: text("queue").unwrap_or(QUEUE_DEFAULT).to_owned(),
            payload: fields.get("payload").cloned().unwrap_or_default(),
            priority: fields.get("priority").and_then(Json::as_i64).unwrap_or_default(),
            created_ms: number("created_ms").unwrap_or_default(),
            attempt: count("attempt").unwrap_or_default(),
            max_attempts: count("max_attempts").unwrap_or(ATTEMPTS_DEFAULT),
            backoff_ms: number("backoff_ms").unwrap_or(BACKOFF_DEFAULT.as_millis() as u64),
            not_before_ms: number("not_before_ms").or_else(|| number("from_ms")).unwrap_or_default(),
            worker: text("worker").map(str::to_owned),
            progress: fields.get("progress").cloned(),
            result: fields.get("result").cloned(),
            error: text("error").map(str::to_owned),
            ended_under: number("ended_under"),
            cancel: fields.get("cancel").and_then(Json::as_bool).unwrap_or_default(),
            stale,
        }
    }

    /// A worker gets it, for a lease.
    pub fn claim(&self, take: Take, now_ms: u64) -> Result<Decision, TaskError> {
        check_worker(&take.holder)?;
        self.check(self.state == TaskState::Pending, "claimed", "pending")?;
        if self.cancel {
            return Err(TaskError::Cancelled);
        }
        if self.not_before_ms > now_ms {
            return Err(TaskError::Early { ms: self.not_before_ms - now_ms });
        }
        let set = [
            ("worker", json!(take.holder)),
            ("attempt", json!(self.attempt.saturating_add(1))),
            ("not_before_ms", Json::Null),
        ];
        Ok(Decision { take: Some(take), ..self.becomes(TaskState::Claimed, set) })
    }

    /// The worker begins.
    pub fn start(&self, token: u64) -> Result<Decision, TaskError> {
        self.check(self.state == TaskState::Claimed, "started", "claimed")?;
        Ok(Decision { token: Some(token), ..self.becomes(TaskState::Running, []) })
    }

    /// The worker is done with it, one way or the other.
    pub fn end(&self, token: u64, ended: &Ended, now_ms: u64) -> Result<Decision, TaskError> {
        self.check(self.state.is_held(), "ended", "claimed or running")?;
        let mut decision = match ended {
            Ended::Done { result } => {
                self.becomes(TaskState::Done, [("result", result.clone()), ("error", Json::Null)])
            }
            Ended::Cancelled => self.becomes(TaskState::Cancelled, []),
            Ended::Failed { error, .. } if error.len() > ERROR_MAX => return Err(TaskError::TooLong),
            Ended::Failed { error, retry } if *retry && self.attempt < self.max_attempts => {
                self.waits([("error", json!(error)), ("not_before_ms", json!(now_ms + self.backoff_ms()))])
            }
            Ended::Failed { error, .. } => self.becomes(TaskState::Failed, [("error", json!(error))]),
            Ended::GivenBack => self.waits([("attempt", counted(self.attempt.saturating_sub(1)))]),
        };
        decision.set.push(("ended_under".to_owned(), Some(token.into())));
        Ok(Decision { token: Some(token), release: true, ..decision })
    }

    /// Whether it ended so under this token: then it was said before, and nobody heard the answer.
    pub fn has_ended(&self, token: u64, ended: &Ended) -> bool {
        let is_so = match ended {
            Ended::Done { result } => {
                self.state == TaskState::Done && self.result.as_ref().unwrap_or(&Json::Null) == result
            }
            Ended::Cancelled => self.state == TaskState::Cancelled,
            Ended::GivenBack => self.state == TaskState::Pending,
            Ended::Failed { error, .. } => {
                matches!(self.state, TaskState::Pending | TaskState::Failed) && self.error.as_ref() == Some(error)
            }
        };
        is_so && self.ended_under == Some(token)
    }

    /// The lease of its worker ran out.
    pub fn lapse(&self, take: Take) -> Result<Decision, TaskError> {
        self.check(self.state.is_held(), "taken back", "claimed or running")?;
        let said = || json!(format!("the lease of {} ran out", self.worker.as_deref().unwrap_or("its worker")));
        let decision = if self.cancel {
            self.becomes(TaskState::Cancelled, [])
        } else if self.attempt < self.max_attempts {
            self.waits([("error", said())])
        } else {
            self.becomes(TaskState::Failed, [("error", said())])
        };
        Ok(Decision { take: Some(take), release: true, ..decision })
    }

    /// Nobody has it, and nobody is to.
    pub fn cancel(&self) -> Result<Decision, TaskError> {
        self.check(self.state == TaskState::Pending, "cancelled", "pending")?;
        Ok(self.becomes(TaskState::Cancelled, []))
    }

    /// All attempts failed, and it is to be tried anew.
    pub fn retry(&self) -> Result<Decision, TaskError> {
        self.check(self.state == TaskState::Failed, "tried again", "failed")?;
        if self.cancel {
            return Err(TaskError::Cancelled);
        }
        Ok(self.waits([("attempt", Json::Null), ("ended_under", Json::Null)]))
    }

    /// Whoever has the task, or gets it, is to stop.
    pub fn ask_to_cancel() -> Edit {
        Edit::Set { field: "cancel".into(), value: true.into() }
    }

    pub fn progress(progress: Json) -> Edit {
        Edit::Set { field: "progress".into(), value: progress }
    }

    /// How long after a failed attempt the next begins, ms.
    pub fn backoff_ms(&self) -> u64 {
        let doubled = self.attempt.saturating_sub(1).min(32);
        self.backoff_ms.saturating_mul(1 << doubled).min(BACKOFF_MAX.as_millis() as u64)
    }

    fn check(&self, is_so: bool, verb: &'static str, wanted: &'static str) -> Result<(), TaskError> {
        if is_so { Ok(()) } else { Err(TaskError::State { state: self.state, verb, wanted }) }
    }

    /// For its next attempt.
    fn waits<const N: usize>(&self, set: [(&str, Json); N]) -> Decision {
        let mut decision = self.becomes(TaskState::Pending, set);
        decision.set.push(("worker".into(), None));
        decision
    }

    /// If it still is as it was read. What is `null` is unset.
    fn becomes<const N: usize>(&self, state: TaskState, set: [(&str, Json); N]) -> Decision {
        let set = [("state", said(state))].into_iter().chain(set);
        Decision {
            tests: vec![
                ("state".to_owned(), given(said(self.state))),
                ("attempt".to_owned(), given(counted(self.attempt))),
            ],
            set: set.map(|(field, value)| (field.to_owned(), given(value))).collect(),
            ..Decision::default()
        }
    }
}

/// A task is pending until it is decided otherwise: that it is need not be said.
fn said(state: TaskState) -> Json {
    if state == TaskState::Pending { Json::Null } else { json!(state) }
}

fn counted(attempt: u32) -> Json {
    if attempt == 0 { Json::Null } else { json!(attempt) }
}

fn given(value: Json) -> Option<Json> {
    Some(value).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::ballot::lock::RequestId;

    fn take(holder: &str) -> Take {
        Take { holder: holder.to_owned(), lease: Duration::from_secs(5), request: RequestId(1) }
    }

    fn task(fields: Json) -> Task {
        Task::of("t", fields.as_object().unwrap(), Vec::new())
    }

    /// The task after a decision, if it holds.
    fn after(task: &Task, decision: &Decision) -> Task {
        let now = [("state", said(task.state)), ("attempt", counted(task.attempt))];
        for (field, value) in &decision.tests {
            let (_, is) = now.iter().find(|(name, _)| name == field).unwrap();
            assert_eq!(given(is.clone()), *value, "{field}");
        }
        let mut fields = json!({ "max_attempts": task.max_attempts, "backoff_ms": task.backoff_ms });
        let old = [("worker", json!(task.worker)), ("error", json!(task.error)), ("result", json!(task.result))];
        for (name, value) in now.into_iter().chain(old) {
            fields[name] = value;
        }
        for (field, value) in &decision.set {
            assert!(DECIDED.contains(&field.as_str()), "{field}");
            fields[field.as_str()] = value.clone().unwrap_or_default();
        }
        let next = super::Task::of("t", fields.as_object().unwrap(), Vec::new());
        assert!(task.state.may_become(next.state), "{} to {}", task.state, next.state);
        next
    }

    fn fails(retry: bool) -> Ended {
        Ended::Failed { error: "no disk".into(), retry }
    }

    #[test]
    fn a_task_is_claimed_begun_and_done_by_one_worker() {
        let new = task(json!({}));
        let claimed = after(&new, &new.claim(take("ash"), 5).unwrap());
        assert_eq!((claimed.state, claimed.attempt, claimed.worker.as_deref()), (TaskState::Claimed, 1, Some("ash")));
        let running = after(&claimed, &claimed.start(7).unwrap());
        let end = running.end(7, &Ended::Done { result: json!(42) }, 9).unwrap();
        assert!(end.release && end.token == Some(7));
        let done = after(&running, &end);
        assert_eq!((done.state, done.result, done.ended_under), (TaskState::Done, Some(json!(42)), Some(7)));
        assert!(matches!(done_again(&running, &end), Err(TaskError::State { .. })));
    }

    fn done_again(task: &Task, end: &Decision) -> Result<Decision, TaskError> {
        after(task, end).claim(take("oak"), 10)
    }

    #[test]
    fn a_failed_attempt_is_tried_again_later_and_later_until_none_is_left() {
        let mut task = task(json!({ "max_attempts": 3, "backoff_ms": 100 }));
        let mut now_ms = 0;
        for wait_ms in [100, 200] {
            let claimed = after(&task, &task.claim(take("ash"), now_ms).unwrap());
            task = after(&claimed, &claimed.end(1, &fails(true), now_ms).unwrap());
            assert_eq!((task.state, task.not_before_ms), (TaskState::Pending, now_ms + wait_ms));
            assert_eq!(task.claim(take("ash"), now_ms + 1), Err(TaskError::Early { ms: wait_ms - 1 }));
            assert_eq!(task.error.as_deref(), Some("no disk"));
            now_ms += wait_ms;
        }
        let claimed = after(&task, &task.claim(take("ash"), now_ms).unwrap());
        let dead = after(&claimed, &claimed.end(1, &fails(true), now_ms).unwrap());
        assert_eq!(dead.state, TaskState::Failed);
        let anew = after(&dead, &dead.retry().unwrap());
        assert_eq!((anew.state, anew.attempt), (TaskState::Pending, 0));
        let claimed = after(&anew, &anew.claim(take("ash"), now_ms).unwrap());
        assert_eq!(after(&claimed, &claimed.end(1, &fails(false), 0).unwrap()).state, TaskState::Failed, "at once");
    }

    #[test]
    fn what_a_lost_worker_had_is_handed_out_again_while_attempts_are_left() {
        let held = task(json!({ "state": "running", "attempt": 1, "worker": "ash", "max_attempts": 2 }));
        let again = after(&held, &held.lapse(take("voter")).unwrap());
        assert_eq!((again.state, again.attempt, again.worker), (TaskState::Pending, 1, None));
        assert_eq!(again.error.as_deref(), Some("the lease of ash ran out"));
        let last = Task { attempt: 2, ..held.clone() };
        assert_eq!(after(&last, &last.lapse(take("voter")).unwrap()).state, TaskState::Failed);
        let unwanted = Task { cancel: true, ..held };
        assert_eq!(after(&unwanted, &unwanted.lapse(take("voter")).unwrap()).state, TaskState::Cancelled);
    }

    #[test]
    fn a_task_that_is_given_back_has_lost_no_attempt() {
        let held = task(json!({ "state": "claimed", "attempt": 1, "worker": "ash" }));
        let back = after(&held, &held.end(1, &Ended::GivenBack, 5).unwrap());
        assert_eq!((back.state, back.attempt, back.worker.as_deref()), (TaskState::Pending, 0, None));
    }

    #[test]
    fn what_is_to_be_cancelled_is_handed_to_nobody_and_what_runs_is_cancelled_by_its_worker() {
        let asked = task(json!({ "cancel": true }));
        assert_eq!(asked.claim(take("ash"), 0), Err(TaskError::Cancelled));
        assert_eq!(after(&asked, &asked.cancel().unwrap()).state, TaskState::Cancelled);
        let running = task(json!({ "state": "running", "attempt": 1 }));
        assert!(matches!(running.cancel(), Err(TaskError::State { .. })));
        assert_eq!(after(&running, &running.end(1, &Ended::Cancelled, 0).unwrap()).state, TaskState::Cancelled);
    }

    #[test]
    fn the_wait_between_attempts_is_bounded() {
        let task = task(json!({ "attempt": 60, "max_attempts": 1_000 }));
        assert_eq!(task.backoff_ms(), BACKOFF_MAX.as_millis() as u64);
    }
}
