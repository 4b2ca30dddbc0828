//! `/v1/tasks`: work, each piece at one worker at a time.

use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use crate::domain::tasks::{Ended, NAME_MAX, Task, TaskError, TaskSpec};
use crate::node::{Claim, Receipt, TasksError};

const PATH: &str = "/v1/tasks/{id}";
const CLAIM: &str = "/v1/tasks/{id}/claim";
pub(super) const WRITES: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadTask,
    Kind::PreconditionFailed,
    Kind::Frozen,
    Kind::DoesNotFit,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];
pub(super) const DECIDES: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadTask,
    Kind::WrongState,
    Kind::BadParameter,
    Kind::Held,
    Kind::NotHolder,
    Kind::NoQuorum,
    Kind::Undecided,
    Kind::DoesNotFit,
    Kind::TooNew,
    Kind::Busy,
    Kind::Frozen,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];

static QUEUE: Parameter =
    Parameter { name: "queue", takes: Takes::Text { bytes_max: NAME_MAX }, says: "Only those of this queue." };
static STATE: Parameter = Parameter {
    name: "state",
    takes: Takes::OneOf(&["pending", "claimed", "running", "done", "failed", "cancelled"]),
    says: "Only those that stand so.",
};

/// What all of them have in common.
const OPERATION: Operation = Operation {
    method: Method::POST,
    path: PATH,
    id: "",
    says: "",
    parameters: &[],
    headers: &[],
    accepts: &[(JSON, "TaskToken")],
    gives: (JSON, "Task"),
    session: true,
    problems: DECIDES,
    handler: |ask| Box::pin(read(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/tasks",
        id: "listTasks",
        says: "The tasks, in order of their ids.",
        parameters: &[&QUEUE, &STATE, &AFTER, &LIMIT],
        accepts: &[],
        gives: (JSON, "Tasks"),
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::GET,
        id: "readTask",
        says: "A task: where it stands, as a quorum decided, and what is known of it.",
        accepts: &[],
        problems: &[Kind::NotFound, Kind::BadName],
        ..OPERATION
    },
    Operation {
        id: "createTask",
        says: "A new task. It merges: a side without a quorum makes tasks too, which are handed out once it has one again.",
        accepts: &[(JSON, "TaskSpec")],
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(create(ask)),
        ..OPERATION
    },
    Operation {
        path: CLAIM,
        id: "claimTask",
        says: "Has a quorum decide that this worker has the task, for a lease. Begin once this is answered, and stop before the \
               lease ends unless it was extended. Hand the token to what the work writes to, and have it refuse a lower one.",
        accepts: &[(JSON, "TaskClaimRequest")],
        gives: (JSON, "TaskClaim"),
        handler: |ask| Box::pin(claim(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::PUT,
        path: CLAIM,
        id: "extendTask",
        says: "The lease of whoever has the task under this token begins anew. `cancel` says that the worker is to stop.",
        gives: (JSON, "TaskExtended"),
        handler: |ask| Box::pin(extend(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::DELETE,
        path: CLAIM,
        id: "giveTaskBack",
        says: "The worker lets the task go: as if it had not been claimed, or, with `cancelled`, as it was asked to.",
        accepts: &[(JSON, "TaskGivenBack")],
        handler: |ask| Box::pin(give_back(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/tasks/{id}/start",
        id: "startTask",
        says: "The worker has begun.",
        handler: |ask| Box::pin(start(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/tasks/{id}/progress",
        id: "progressTask",
        says: "How far the worker has come, in words of its own. It merges, and no quorum is asked.",
        accepts: &[(JSON, "TaskProgress")],
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(progress(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/tasks/{id}/complete",
        id: "completeTask",
        says: "The task is done. Asked again under the same token, it comes to the same.",
        accepts: &[(JSON, "TaskResult")],
        handler: |ask| Box::pin(complete(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/tasks/{id}/fail",
        id: "failTask",
        says: "The attempt failed. While attempts are left, and unless `retry` is false, the task is handed out again after a \
               while; else it has failed for good, and waits for somebody to look at it.",
        accepts: &[(JSON, "TaskFailure")],
        handler: |ask| Box::pin(fail(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/tasks/{id}/cancel",
        id: "cancelTask",
        says: "Nobody is to begin the task, and whoever has it is to stop. Where nobody has it, and a quorum is there, it is \
               cancelled when this is answered.",
        accepts: &[],
        handler: |ask| Box::pin(cancel(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/tasks/{id}/retry",
        id: "retryTask",
        says: "A task that has failed for good is tried anew.",
        accepts: &[],
        handler: |ask| Box::pin(retry(ask)),
        ..OPERATION
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let (text, integer) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let optional = |kind: &str| json!({ "type": [kind, "null"] });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties });
    let lease = json!({ "type": "integer", "minimum": 100, "maximum": 86_400_000 });
    json!({
        "TaskSpec": object(&[], json!({
            "queue": { "type": "string", "default": "default" }, "payload": {}, "priority": { "type": "integer", "default": 0 },
            "max_attempts": { "type": "integer", "minimum": 1, "maximum": 1_000, "default": 5 },
            "backoff_ms": { "type": "integer", "maximum": 3_600_000, "default": 1_000, "description": "Before the second attempt; doubled before each further one." },
            "delay_ms": { "type": "integer", "maximum": 3_600_000, "default": 0, "description": "Not handed out before so long." },
        })),
        "TaskClaimRequest": object(&["worker", "lease_ms"], json!({ "worker": text, "lease_ms": lease })),
        "TaskClaim": { "type": "object", "required": ["task", "token", "expires_in_ms"], "properties": {
            "task": { "$ref": "#/components/schemas/Task" },
            "token": { "type": "integer", "description": "Grows whenever another worker gets it, and never shrinks." },
            "expires_in_ms": integer,
        } },
        "TaskExtended": { "type": "object", "required": ["token", "expires_in_ms", "cancel"], "properties": {
            "token": integer, "expires_in_ms": integer, "cancel": { "type": "boolean" },
        } },
        "TaskToken": object(&["token"], json!({ "token": integer })),
        "TaskGivenBack": object(&["token"], json!({ "token": integer, "cancelled": { "type": "boolean", "default": false } })),
        "TaskProgress": object(&["progress"], json!({ "progress": {} })),
        "TaskResult": object(&["token"], json!({ "token": integer, "result": {} })),
        "TaskFailure": object(&["token", "error"], json!({ "token": integer, "error": text, "retry": { "type": "boolean", "default": true } })),
        "Task": { "type": "object", "required": ["id", "state", "queue", "attempt"], "properties": {
            "id": text, "state": { "enum": ["pending", "claimed", "running", "done", "failed", "cancelled"] }, "queue": text,
            "payload": {}, "priority": integer, "created_ms": integer, "attempt": { "type": "integer", "description": "How often it was claimed." },
            "max_attempts": integer, "backoff_ms": integer, "not_before_ms": integer, "worker": optional("string"), "progress": {},
            "result": {}, "error": optional("string"), "ended_under": optional("integer"),
            "cancel": { "type": "boolean", "description": "Whoever has it is to stop." },
            "stale": { "type": "array", "items": text, "description": "What may be otherwise by now: this node reaches no quorum." },
        } },
        "Tasks": { "type": "object", "required": ["items", "next"], "properties": {
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Task" } }, "next": optional("string"),
        } },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimRequest {
    worker: String,
    lease_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenOnly {
    token: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenBack {
    token: u64,
    #[serde(default)]
    cancelled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    progress: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Completion {
    token: u64,
    #[serde(default)]
    result: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Failure {
    token: u64,
    error: String,
    #[serde(default = "yes")]
    retry: bool,
}

fn yes() -> bool {
    true
}

async fn list(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let state = ask.params.text(&STATE).and_then(|name| name.parse().ok());
    let (items, next) = ask.api.node.tasks().list(ask.params.text(&QUEUE), state, ask.params.after(), limit);
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next })))
}

async fn read(ask: Ask) -> Outcome {
    shown(&ask, &ask.api.node.tasks().get(ask.name())?)
}

fn shown(ask: &Ask, task: &Task) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(task)))
}

async fn create(ask: Ask) -> Outcome {
    let spec: TaskSpec = ask.json()?;
    let receipt = ask.api.node.tasks().create(ask.name(), &spec).await?;
    written(&ask, &receipt)
}

fn written(ask: &Ask, receipt: &Receipt) -> Outcome {
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &super::wire::receipt(receipt, &clock)))
}

async fn claim(mut ask: Ask) -> Outcome {
    let ClaimRequest { worker, lease_ms } = ask.json()?;
    ask.working = None;
    let claim = ask.api.node.tasks().claim(ask.name(), &worker, Duration::from_millis(lease_ms)).await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &claimed(&claim)))
}

/// A claim as it is answered.
pub(super) fn claimed(claim: &Claim) -> Value {
    json!({ "task": claim.task, "token": claim.grant.token, "expires_in_ms": left_ms(claim.grant.expires) })
}

fn left_ms(expires: Instant) -> u64 {
    expires.saturating_duration_since(Instant::now()).as_millis() as u64
}

async fn extend(mut ask: Ask) -> Outcome {
    let TokenOnly { token } = ask.json()?;
    ask.working = None;
    let extended = ask.api.node.tasks().extend(ask.name(), token).await?;
    let body = json!({ "token": token, "expires_in_ms": left_ms(extended.grant.expires), "cancel": extended.cancel });
    Ok(answer(StatusCode::OK, &ask.clock_now(), &body))
}

async fn give_back(ask: Ask) -> Outcome {
    let GivenBack { token, cancelled } = ask.json()?;
    end(ask, token, if cancelled { Ended::Cancelled } else { Ended::GivenBack }).await
}

async fn complete(ask: Ask) -> Outcome {
    let Completion { token, result } = ask.json()?;
    end(ask, token, Ended::Done { result }).await
}

async fn fail(ask: Ask) -> Outcome {
    let Failure { token, error, retry } = ask.json()?;
    end(ask, token, Ended::Failed { error, retry }).await
}

async fn end(mut ask: Ask, token: u64, ended: Ended) -> Outcome {
    ask.working = None;
    let task = ask.api.node.tasks().end(ask.name(), token, &ended).await?;
    shown(&ask, &task)
}

async fn start(mut ask: Ask) -> Outcome {
    let TokenOnly { token } = ask.json()?;
    ask.working = None;
    let task = ask.api.node.tasks().start(ask.name(), token).await?;
    shown(&ask, &task)
}

async fn progress(ask: Ask) -> Outcome {
    let Progress { progress } = ask.json()?;
    let receipt = ask.api.node.tasks().progress(ask.name(), progress).await?;
    written(&ask, &receipt)
}

async fn cancel(mut ask: Ask) -> Outcome {
    ask.working = None;
    let task = ask.api.node.tasks().cancel(ask.name()).await?;
    shown(&ask, &task)
}

async fn retry(mut ask: Ask) -> Outcome {
    ask.working = None;
    let task = ask.api.node.tasks().retry(ask.name()).await?;
    shown(&ask, &task)
}

impl From<TaskError> for Problem {
    fn from(error: TaskError) -> Self {
        let said = format!("{error}; nothing was changed");
        match error {
            TaskError::State { state, .. } => Self::new(Kind::WrongState, said).with("state", state.name()),
            TaskError::Cancelled | TaskError::Early { .. } => Self::new(Kind::WrongState, said),
            _ => Self::new(Kind::BadTask, said),
        }
    }
}

impl From<TasksError> for Problem {
    fn from(error: TasksError) -> Self {
        let said = error.to_string();
        match error {
            TasksError::NotFound(_) => Self::new(Kind::NotFound, format!("{said}: POST /v1/tasks/{{id}} makes one")),
            TasksError::Exists(_) => Self::new(Kind::PreconditionFailed, format!("{said}: take another id")),
            TasksError::Claimed { worker, token, .. } => {
                Self::new(Kind::Held, said).with("holder", worker).with("token", token)
            }
            TasksError::Contended(_) => Self::new(Kind::Busy, said),
            TasksError::Task(error) => error.into(),
            TasksError::Address(error) => error.into(),
            TasksError::Decide(error) => error.into(),
            TasksError::Lock(error) => error.into(),
            TasksError::Write(error) => error.into(),
        }
    }
}
