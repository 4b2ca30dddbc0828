//! `/v1/partitions`: what happened while members could not reach each other, in one account that every node gives alike.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::LIMIT;
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use crate::domain::partitions::Partition;

static BEFORE: Parameter = Parameter {
    name: "before",
    takes: Takes::Text { bytes_max: 64 },
    says: "Go on before this id: the `next` of the page before.",
};
/// How its conflicts were settled follows what is read within a moment.
const JUDGED_WAIT: Duration = Duration::from_secs(1);

/// What both have in common.
const OPERATION: Operation = Operation {
    method: Method::GET,
    path: "/v1/partitions",
    id: "",
    says: "",
    parameters: &[],
    headers: &[],
    accepts: &[],
    gives: (JSON, "Partition"),
    session: true,
    problems: &[],
    handler: |ask| Box::pin(read(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listPartitions",
        says: "The partitions that are over, the newest first: when, who was on which side, and how much came of it.",
        parameters: &[&BEFORE, &LIMIT],
        gives: (JSON, "Partitions"),
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/partitions/{id}",
        id: "readPartition",
        says: "The account of a partition, by its id or that of any observation of it: who was where and how long, what \
               diverged, what somebody was at work on, how each conflict was settled. Nodes that agree give the same, byte \
               for byte.",
        problems: &[Kind::NotFound],
        ..OPERATION
    },
];

/// What the operations above give.
pub(super) fn schemas() -> Value {
    let (text, integer, flag) =
        (json!({ "type": "string" }), json!({ "type": "integer" }), json!({ "type": "boolean" }));
    let texts = json!({ "type": "array", "items": text });
    let node = json!({ "type": "string", "description": "A node id." });
    let nodes = json!({ "type": "array", "items": node });
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    let array = |items: Value| json!({ "type": "array", "items": items });
    let counted = json!({ "type": "object", "properties": { "count": integer, "names": texts },
        "description": "How many, and some of their names." });
    let lost = object(json!({ "node": node, "from_ms": integer, "until_ms": integer, "restarted": flag }));
    let told = object(json!({
        "id": text, "observer": node, "from_ms": integer, "until_ms": integer, "lost": array(lost), "reached": nodes,
        "away": nodes, "quorum": flag, "here": integer, "there": integer, "both": integer,
    }));
    let side = object(json!({
        "members": nodes, "quorum": { "type": ["boolean", "null"], "description": "null: none of them has told." },
        "changed": { "type": "integer", "description": "Documents that it changed and another side lacked." },
    }));
    let dispute = json!({ "type": "object", "required": ["id", "document", "status"], "properties": {
        "id": text, "document": text, "field": text, "by": text, "policy": text, "value": {},
        "status": { "type": "string", "description": "`settled`, `open`, `no_quorum`, `unresolved`; or as somebody noted, \
                    `resolved`, `undone`, `reopened`, `escalated`; or `written_since`." },
    } });
    let times = json!({ "id": text, "from_ms": integer, "until_ms": integer, "complete": {
        "type": "boolean", "description": "Everybody who could not be reached has told what it saw itself." } });
    let more = json!({
        "silent": nodes, "sides": array(side), "away": nodes, "apart_within": array(nodes.clone()),
        "one_way": array(object(json!({ "node": node, "could_not_reach": node }))),
        "diverged": counted, "work": counted, "locks": array(object(json!({ "name": text, "token": integer }))),
        "conflict_count": integer, "conflicts": array(dispute),
        "names": { "type": "object", "additionalProperties": text }, "observations": array(told),
    });
    let mut all = times.clone();
    let mut short = times;
    if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
        all.extend(more);
    }
    for count in ["diverged", "work", "conflicts"] {
        short[count] = integer.clone();
    }
    short["sides"] = array(texts.clone());
    json!({
        "Partition": { "type": "object", "required": ["id", "complete", "sides"], "properties": all },
        "Partitions": { "type": "object", "required": ["items", "next"], "properties": {
            "items": array(object(short)), "next": { "type": ["string", "null"] },
        } },
    })
}

async fn list(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let (partitions, next) = ask.api.node.partitions().list(ask.params.text(&BEFORE), limit);
    let items: Vec<Value> = partitions.iter().map(shortened).collect();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next })))
}

fn shortened(partition: &Partition) -> Value {
    let named = |id: &String| partition.names.get(id).unwrap_or(id).clone();
    let sides: Vec<Vec<String>> = partition.sides.iter().map(|side| side.members.iter().map(named).collect()).collect();
    json!({
        "id": partition.id, "from_ms": partition.from_ms, "until_ms": partition.until_ms,
        "complete": partition.complete, "sides": sides, "diverged": partition.diverged.count,
        "work": partition.work.count, "conflicts": partition.conflict_count,
    })
}

async fn read(ask: Ask) -> Outcome {
    let node = &ask.api.node;
    node.judged(JUDGED_WAIT).await;
    let none = || {
        Problem::new(
            Kind::NotFound,
            format!("there is no partition `{}` that is over: GET /v1/partitions lists them", ask.name()),
        )
    };
    let partition = node.partitions().get(ask.name()).ok_or_else(none)?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(partition)))
}
