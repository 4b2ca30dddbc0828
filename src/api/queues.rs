//! `/v1/queues`: tasks by the name of their queue, handed out to whoever asks.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::docs::JSON;
use super::locks::WAIT_MS_MAX;
use super::operation::{Ask, Operation, Outcome, answer};
use super::problem::{Kind, Problem};
use super::tasks::{DECIDES, WRITES, claimed};
use crate::domain::tasks::{TaskSpec, TaskState};
use crate::node::Depth;

const PATH: &str = "/v1/queues/{queue}";

/// What all of them have in common.
const OPERATION: Operation = Operation {
    method: Method::GET,
    path: PATH,
    id: "",
    says: "",
    parameters: &[],
    headers: &[],
    accepts: &[],
    gives: (JSON, "Queue"),
    session: true,
    problems: &[],
    handler: |ask| Box::pin(read(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/queues",
        id: "listQueues",
        says: "The queues that hold a task, in order of their names.",
        gives: (JSON, "Queues"),
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation { id: "readQueue", says: "How many tasks of a queue stand where, as this node has them.", ..OPERATION },
    Operation {
        method: Method::POST,
        id: "pushTask",
        says: "A new task in this queue, under an id of its own.",
        accepts: &[(JSON, "TaskSpec")],
        gives: (JSON, "TaskPushed"),
        problems: WRITES,
        handler: |ask| Box::pin(push(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/queues/{queue}/claim",
        id: "claimFromQueue",
        says: "A task of the queue for this worker, for a lease: the urgent and the old ones first. Waits for at most `wait_ms` \
               for one; `task` is null if there was none.",
        accepts: &[(JSON, "QueueClaimRequest")],
        gives: (JSON, "QueueClaim"),
        problems: DECIDES,
        handler: |ask| Box::pin(claim(ask)),
        ..OPERATION
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let (text, integer) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let counts: Map<String, Value> =
        TaskState::ALL.iter().map(|state| (state.name().to_owned(), integer.clone())).collect();
    json!({
        "QueueClaimRequest": { "type": "object", "required": ["worker", "lease_ms"], "additionalProperties": false, "properties": {
            "worker": text, "lease_ms": { "type": "integer", "minimum": 100, "maximum": 86_400_000 },
            "wait_ms": { "type": "integer", "minimum": 0, "maximum": WAIT_MS_MAX, "default": 0 },
        } },
        "QueueClaim": { "type": "object", "required": ["task"], "properties": {
            "task": { "oneOf": [{ "$ref": "#/components/schemas/Task" }, { "type": "null" }] },
            "token": integer, "expires_in_ms": integer,
        } },
        "TaskPushed": { "type": "object", "required": ["id", "clock"], "properties": { "id": text, "clock": text } },
        "Queue": { "type": "object", "required": ["queue", "tasks"], "properties": {
            "queue": text, "tasks": { "type": "object", "properties": counts },
        } },
        "Queues": { "type": "object", "required": ["items"], "properties": {
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Queue" } },
        } },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimRequest {
    worker: String,
    lease_ms: u64,
    #[serde(default)]
    wait_ms: u64,
}

fn shown(queue: &str, depth: &Depth) -> Value {
    let count = |state: &TaskState| (state.name().to_owned(), depth.get(state).copied().unwrap_or_default().into());
    let tasks: Map<String, Value> = TaskState::ALL.iter().map(count).collect();
    json!({ "queue": queue, "tasks": tasks })
}

async fn list(ask: Ask) -> Outcome {
    let queues = ask.api.node.queues();
    let items: Vec<Value> = queues.iter().map(|(queue, depth)| shown(queue, depth)).collect();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items })))
}

async fn read(ask: Ask) -> Outcome {
    let depth = ask.api.node.queue(ask.name()).depth();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &shown(ask.name(), &depth)))
}

async fn push(ask: Ask) -> Outcome {
    let spec: TaskSpec = ask.json()?;
    let (id, receipt) = ask.api.node.queue(ask.name()).push(&spec).await?;
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &json!({ "id": id, "clock": clock.to_string() })))
}

async fn claim(mut ask: Ask) -> Outcome {
    let ClaimRequest { worker, lease_ms, wait_ms } = ask.json()?;
    if wait_ms > WAIT_MS_MAX {
        return Err(Problem::new(
            Kind::BadParameter,
            format!("`wait_ms` is at most {WAIT_MS_MAX}: ask again to wait for longer"),
        ));
    }
    // Waiting is no work.
    ask.working = None;
    let (lease, wait) = (Duration::from_millis(lease_ms), Duration::from_millis(wait_ms));
    let claim = ask.api.node.queue(ask.name()).claim(&worker, lease, wait).await?;
    let body = claim.as_ref().map_or_else(|| json!({ "task": null }), claimed);
    Ok(answer(StatusCode::OK, &ask.clock_now(), &body))
}
