//! `/v1/workers` and `/v1/assign`: who is there, and which of them could take a piece of work.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use crate::domain::workers::{Needs, Resources, Selector, Status, Worker, WorkerError, WorkerSpec};
use crate::node::{Receipt, WorkerFilter, WorkersError};

const PATH: &str = "/v1/workers/{id}";
const WRITES: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadWorker,
    Kind::Busy,
    Kind::Frozen,
    Kind::DoesNotFit,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];

static STATUS: Parameter = Parameter {
    name: "status",
    takes: Takes::OneOf(&["active", "draining", "gone", "unknown"]),
    says: "Only workers of which this was said, whether they are there or not.",
};
static ACTIVE: Parameter = Parameter {
    name: "active",
    takes: Takes::Flag,
    says: "Only workers that take work and whose heartbeat has not run out by this node's clock.",
};
static LABELS: Parameter = Parameter {
    name: "labels",
    takes: Takes::Text { bytes_max: 4_096 },
    says: "Only workers with these labels: `zone=eu,disk=ssd`.",
};
/// Candidates of one answer.
const CANDIDATES_MAX: usize = 1_000;

/// What all of them have in common.
const OPERATION: Operation = Operation {
    method: Method::GET,
    path: PATH,
    id: "",
    says: "",
    parameters: &[],
    headers: &[],
    accepts: &[],
    gives: (JSON, "Worker"),
    session: true,
    problems: &[],
    handler: |ask| Box::pin(read(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/workers",
        id: "listWorkers",
        says: "The workers that were asked for, in order of their ids. A page may be short, also empty, and have a `next`.",
        parameters: &[&STATUS, &ACTIVE, &LABELS, &AFTER, &LIMIT],
        gives: (JSON, "Workers"),
        problems: &[Kind::BadWorker],
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation {
        id: "readWorker",
        says: "A worker: what was said of it, what it offers and runs, and whether it is there by this node's clock.",
        problems: &[Kind::NotFound, Kind::BadName],
        ..OPERATION
    },
    Operation {
        method: Method::PUT,
        id: "registerWorker",
        says: "A worker comes, or comes back: it offers this, has these labels, and takes work unless somebody drains it. It \
               has to be heard of again within its time to live, 15 s.",
        accepts: &[(JSON, "WorkerSpec")],
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(register(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::PATCH,
        id: "updateWorker",
        says: "What a worker offers, and its labels, said by anybody. It does not say that the worker is there.",
        accepts: &[(JSON, "WorkerSpec")],
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(update(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::DELETE,
        id: "leaveWorker",
        says: "The worker is gone until it registers again. Its document stays, with what it ran.",
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(leave(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/workers/{id}/heartbeat",
        id: "heartbeatWorker",
        says: "The worker is there. With `running_tasks` it tells all that it runs: what is new is counted as started, what is \
               no more as finished. Waits for no disk.",
        accepts: &[(JSON, "WorkerHeartbeat")],
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(heartbeat(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/workers/{id}/drain",
        id: "drainWorker",
        says: "The worker is given nothing new, also when it registers anew, until it is undrained.",
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(drain(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::DELETE,
        path: "/v1/workers/{id}/drain",
        id: "undrainWorker",
        says: "The worker takes work again.",
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(undrain(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/assign",
        id: "assignWork",
        says: "The active workers that could take it: where it would fit most often first, then where the fewest tasks run, then \
               in order of ids. Writes nothing, and promises nothing: two that ask at once may choose the same worker.",
        accepts: &[(JSON, "WorkNeeds")],
        gives: (JSON, "Candidates"),
        problems: &[Kind::BadWorker],
        handler: |ask| Box::pin(assign(ask)),
        ..OPERATION
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let (text, integer) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let amount = json!({ "type": "integer", "minimum": 0 });
    let resources = json!({
        "type": "object", "additionalProperties": amount, "maxProperties": 16,
        "description": "`cpus`, `memory_mb`, and what else a fleet counts.",
    });
    let labels = json!({ "type": "object", "additionalProperties": text });
    let texts = json!({ "type": "array", "items": text });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties });
    json!({
        "WorkerSpec": object(&[], json!({
            "capacity": resources,
            "labels": { "type": "object", "additionalProperties": { "type": ["string", "null"] }, "description": "Null takes one away." },
        })),
        "WorkerHeartbeat": object(&[], json!({ "running_tasks": { "type": "array", "items": text, "maxItems": 1_024 } })),
        "WorkNeeds": object(&[], json!({
            "needs": resources, "labels": labels,
            "limit": { "type": "integer", "minimum": 1, "maximum": CANDIDATES_MAX, "default": 10 },
        })),
        "Candidates": { "type": "object", "required": ["candidates"], "properties": { "candidates": { "type": "array", "items": {
            "type": "object", "required": ["worker", "fits", "free", "running"], "properties": {
                "worker": text, "free": resources, "running": integer,
                "fits": { "type": ["integer", "null"], "description": "How often it would fit; null where nothing is needed." },
            },
        } } } },
        "Worker": { "type": "object", "required": ["id", "status", "alive", "state", "capacity", "labels", "running_tasks"], "properties": {
            "id": text,
            "status": { "enum": ["active", "draining", "gone", "unknown"], "description": "What was said of it." },
            "alive": { "type": "boolean", "description": "Its heartbeat has not run out, by this node's clock." },
            "state": { "enum": ["active", "draining", "silent", "gone", "unknown"], "description": "Both in a word." },
            "heartbeat_ms": { "type": ["integer", "null"] },
            "capacity": resources, "labels": labels, "running_tasks": texts, "tasks_started": integer, "tasks_finished": integer,
            "node": { "type": ["string", "null"], "description": "The node on its host; null: a program that registered itself." },
            "figures": { "type": "object", "description": "What its host's node measures." },
        } },
        "Workers": { "type": "object", "required": ["items", "next"], "properties": {
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Worker" } }, "next": { "type": ["string", "null"] },
        } },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Heartbeat {
    #[serde(default)]
    running_tasks: Option<BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    needs: Resources,
    #[serde(default)]
    labels: Selector,
    #[serde(default = "ten")]
    limit: usize,
}

fn ten() -> usize {
    10
}

fn shown(worker: &Worker) -> Value {
    let mut json = json!(worker);
    json["state"] = worker.state().into();
    json
}

async fn list(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let status = ask.params.text(&STATUS);
    let filter = WorkerFilter {
        status: status.and_then(|name| Status::ALL.into_iter().find(|status| status.name() == name)),
        active: ask.params.flag(&ACTIVE),
        labels: ask.params.text(&LABELS).unwrap_or_default().parse()?,
    };
    let (workers, next) = ask.api.node.workers().list(&filter, ask.params.after(), limit);
    let items: Vec<Value> = workers.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next })))
}

async fn read(ask: Ask) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock_now(), &shown(&ask.api.node.workers().get(ask.name())?)))
}

async fn register(ask: Ask) -> Outcome {
    let spec: WorkerSpec = ask.json()?;
    let receipt = ask.api.node.workers().register(ask.name(), &spec).await?;
    written(&ask, &receipt)
}

async fn update(ask: Ask) -> Outcome {
    let spec: WorkerSpec = ask.json()?;
    let receipt = ask.api.node.workers().update(ask.name(), &spec).await?;
    written(&ask, &receipt)
}

async fn leave(ask: Ask) -> Outcome {
    let receipt = ask.api.node.workers().leave(ask.name()).await?;
    written(&ask, &receipt)
}

async fn heartbeat(ask: Ask) -> Outcome {
    let Heartbeat { running_tasks } = ask.json()?;
    let receipt = ask.api.node.workers().heartbeat(ask.name(), running_tasks.as_ref()).await?;
    written(&ask, &receipt)
}

async fn drain(ask: Ask) -> Outcome {
    let receipt = ask.api.node.workers().drain(ask.name()).await?;
    written(&ask, &receipt)
}

async fn undrain(ask: Ask) -> Outcome {
    let receipt = ask.api.node.workers().undrain(ask.name()).await?;
    written(&ask, &receipt)
}

async fn assign(ask: Ask) -> Outcome {
    let Wanted { needs, labels, limit } = ask.json()?;
    let candidates = ask.api.node.workers().assign(&Needs { needs, labels }, limit.min(CANDIDATES_MAX))?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "candidates": candidates })))
}

fn written(ask: &Ask, receipt: &Receipt) -> Outcome {
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &super::wire::receipt(receipt, &clock)))
}

impl From<WorkerError> for Problem {
    fn from(error: WorkerError) -> Self {
        Self::new(Kind::BadWorker, format!("{error}; nothing was changed"))
    }
}

impl From<WorkersError> for Problem {
    fn from(error: WorkersError) -> Self {
        let said = error.to_string();
        match error {
            WorkersError::NotFound(_) => {
                Self::new(Kind::NotFound, format!("{said}: PUT /v1/workers/{{id}} registers one"))
            }
            WorkersError::Contended(_) => Self::new(Kind::Busy, said),
            WorkersError::Worker(error) => error.into(),
            WorkersError::Address(error) => error.into(),
            WorkersError::Write(error) => error.into(),
        }
    }
}
