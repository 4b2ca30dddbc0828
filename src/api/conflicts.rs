//! `/v1/conflicts` and `/v1/ledger`: what does not go together, who settles it, and what was overruled.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::{DURABILITY, JSON};
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use super::wire;
use crate::conflict::Status;
use crate::crdt::Resolver;
use crate::document::rule::Severity;
use crate::history::ledger::Outcome as Fate;
use crate::node::{ConflictFilter, Durability, Reopened, Resolution, ResolveError, Resolved, Rival};

/// Longest name of whoever settles a conflict.
const BY_BYTES_MAX: usize = 128;

static STATUS: Parameter = Parameter {
    name: "status",
    takes: Takes::OneOf(&["settled", "open", "no_quorum", "unresolved"]),
    says: "Only conflicts that stand so.",
};
static SEVERITY: Parameter = Parameter {
    name: "severity",
    takes: Takes::OneOf(&["info", "warning", "critical"]),
    says: "Only conflicts so severe.",
};
static COLLECTION: Parameter =
    Parameter { name: "collection", takes: Takes::Text { bytes_max: 64 }, says: "Only conflicts of this collection." };
static OLDER: Parameter = Parameter {
    name: "older_than_ms",
    takes: Takes::Integer { min: 0, max: u64::MAX },
    says: "Only conflicts whose newest sibling is at least so old.",
};
static PREVIEW: Parameter =
    Parameter { name: "preview", takes: Takes::Flag, says: "Say what would be written, and write nothing." };
static DOCUMENT: Parameter = Parameter {
    name: "document",
    takes: Takes::Text { bytes_max: 600 },
    says: "Only values of this document, `collection/id`.",
};
static BEFORE: Parameter = Parameter {
    name: "before",
    takes: Takes::Integer { min: 0, max: u64::MAX },
    says: "Go on before this number: the `next` of the page before.",
};

/// A new policy is followed by the list within milliseconds, but for some hundred thousand conflicts.
const JUDGED_WAIT: Duration = Duration::from_secs(1);

const SETTLES: &[Kind] = &[Kind::NoSuchConflict, Kind::NotFound, Kind::NotSettled, Kind::DoesNotFit];

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/conflicts",
        id: "listConflicts",
        says: "What does not go together, in the order of ids: the same on every node that has the same state.",
        parameters: &[&STATUS, &SEVERITY, &COLLECTION, &OLDER, &AFTER, &LIMIT],
        headers: &[],
        accepts: &[],
        gives: (JSON, "ConflictListing"),
        session: true,
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/conflicts/{id}",
        id: "readConflict",
        says: "One conflict: its siblings, what settles it or whom it waits for, and what readers see meanwhile. Of one that \
               is over the problem says what became of it; the document `conflicts/{id}` tells all.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Conflict"),
        session: true,
        problems: &[Kind::NoSuchConflict],
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/conflicts/{id}/resolve",
        id: "resolveConflict",
        says: "Settles a conflict by a write: with one of its siblings, a value, or what a resolver makes of them.",
        parameters: &[&PREVIEW, &DURABILITY],
        headers: &[],
        accepts: &[(JSON, "Resolution")],
        gives: (JSON, "Resolved"),
        session: true,
        problems: SETTLES,
        handler: |ask| Box::pin(resolve(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/conflicts/{id}/reopen",
        id: "reopenConflict",
        says: "Takes a person's decision back: the siblings stand side by side again.",
        parameters: &[&DURABILITY],
        headers: &[],
        accepts: &[(JSON, "By")],
        gives: (JSON, "Reopened"),
        session: true,
        problems: SETTLES,
        handler: |ask| Box::pin(reopen(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/conflicts/{id}/undo",
        id: "undoConflict",
        says: "Brings an overruled value back, as a new write; the id may also be the dot of a value in the ledger.",
        parameters: &[&DURABILITY],
        headers: &[],
        accepts: &[(JSON, "Undo")],
        gives: (JSON, "Resolved"),
        session: true,
        problems: SETTLES,
        handler: |ask| Box::pin(undo(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/ledger",
        id: "readLedger",
        says: "Values that stood beside others, as this node saw it, the newest first.",
        parameters: &[&DOCUMENT, &BEFORE, &LIMIT],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Ledger"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(ledger(ask)),
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    json!({
        "Resolution": {
            "type": "object",
            "additionalProperties": false,
            "description": "Exactly one of `choose`, `value` and `resolver`.",
            "properties": {
                "choose": { "type": "string", "description": "The dot of a sibling." },
                "value": {},
                "resolver": text,
                "by": { "type": "string", "description": "Who settles it, for the record." },
            },
        },
        "Resolved": {
            "type": "object",
            "properties": { "conflict": named("Conflict"), "value": {}, "written": { "type": "boolean" }, "receipt": {} },
        },
        "Reopened": {
            "allOf": [named("Receipt"), { "type": "object", "properties": {
                "conflict": { "type": ["string", "null"], "description": "The id it has now." },
            } }],
        },
        "By": { "type": "object", "additionalProperties": false, "properties": { "by": text } },
        "Undo": { "type": "object", "additionalProperties": false, "properties": { "dot": text, "by": text } },
        "Ledger": {
            "type": "object",
            "properties": {
                "items": { "type": "array", "items": { "type": "object", "properties": {
                    "number": { "type": "integer" }, "document": text, "field": text, "dot": text, "value": {}, "rule": text,
                    "winner": { "type": ["string", "null"], "description": "The dot of what readers saw; null: made of several." },
                    "outcome": { "enum": ["stood", "kept", "merged", "overruled", "waits"] },
                    "now": { "description": "What its field reads now, whatever became of it since." },
                    "says": { "type": "string", "description": "The outcome in words." },
                    "overruled": { "type": "boolean" },
                } } },
                "next": { "type": ["integer", "null"] },
            },
        },
    })
}

async fn list(ask: Ask) -> Outcome {
    let filter = ConflictFilter {
        status: ask.params.text(&STATUS).and_then(|name| Status::ALL.into_iter().find(|status| status.name() == name)),
        severity: ask.params.text(&SEVERITY).and_then(|name| Severity::ALL.into_iter().find(|s| s.name() == name)),
        collection: ask.params.text(&COLLECTION).map(str::to_owned),
        older_than_ms: ask.params.integer(&OLDER),
        after: ask.params.after().map(str::to_owned),
    };
    let limit = ask.params.limit();
    let behind = !ask.api.node.judged(JUDGED_WAIT).await;
    let (items, next) = ask.api.node.conflicts(&filter, limit);
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next, "behind": behind })))
}

async fn read(ask: Ask) -> Outcome {
    let id = ask.name();
    ask.api.node.judged(JUDGED_WAIT).await;
    let conflict = ask.api.node.conflict(id).ok_or_else(|| Problem::from(ask.api.node.missing_conflict(id)))?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(conflict)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolutionWire {
    choose: Option<String>,
    #[serde(default, deserialize_with = "wire::present")]
    value: Option<Value>,
    resolver: Option<String>,
    by: Option<String>,
}

impl ResolutionWire {
    fn resolution(self) -> Result<Resolution, Problem> {
        let refuse = |detail: String| Problem::new(Kind::NotSettled, detail);
        match (self.choose, self.value, self.resolver) {
            (Some(dot), None, None) => Ok(Resolution::Choose(dot)),
            (None, Some(value), None) => Ok(Resolution::Value(value)),
            (None, None, Some(name)) => {
                name.parse::<Resolver>().map(Resolution::With).map_err(|error| refuse(error.to_string()))
            }
            _ => Err(refuse("give exactly one of `choose` (a dot), `value` and `resolver` (a name)".to_owned())),
        }
    }
}

pub(super) fn by(given: Option<&String>) -> Result<&str, Problem> {
    match given {
        None => Ok("api"),
        Some(by) if by.len() <= BY_BYTES_MAX && !by.chars().any(char::is_control) => Ok(by),
        Some(_) => {
            let detail = format!("`by` takes at most {BY_BYTES_MAX} bytes without control characters");
            Err(Problem::new(Kind::BadJson, detail))
        }
    }
}

pub(super) fn durability(ask: &Ask) -> Durability {
    ask.params.durability(&DURABILITY).unwrap_or(Durability::Local)
}

async fn resolve(ask: Ask) -> Outcome {
    let body: ResolutionWire = ask.json()?;
    let who = by(body.by.as_ref())?.to_owned();
    let resolution = body.resolution()?;
    let preview = ask.params.flag(&PREVIEW);
    let resolved = ask.api.node.resolve(ask.name(), &resolution, &who, preview, durability(&ask)).await?;
    Ok(tell(&ask, &resolved))
}

fn tell(ask: &Ask, resolved: &Resolved) -> axum::response::Response {
    let clock = resolved.receipt.as_ref().map_or_else(|| ask.clock.clone(), |receipt| ask.clock_with(&receipt.token));
    let receipt = resolved.receipt.as_ref().map(|receipt| wire::receipt(receipt, &clock));
    let Resolved { conflict, value, .. } = resolved;
    let body = json!({ "conflict": conflict, "value": value, "written": receipt.is_some(), "receipt": receipt });
    answer(StatusCode::OK, &clock, &body)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    by: Option<String>,
}

async fn reopen(ask: Ask) -> Outcome {
    let body: By = ask.json()?;
    let Reopened { receipt, conflict } =
        ask.api.node.reopen(ask.name(), by(body.by.as_ref())?, durability(&ask)).await?;
    let clock = ask.clock_with(&receipt.token);
    let mut told = json!(wire::receipt(&receipt, &clock));
    told["conflict"] = json!(conflict);
    Ok(answer(StatusCode::OK, &clock, &told))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Undo {
    dot: Option<String>,
    by: Option<String>,
}

async fn undo(ask: Ask) -> Outcome {
    let body: Undo = ask.json()?;
    let who = by(body.by.as_ref())?.to_owned();
    let undone = ask.api.node.undo(ask.name(), body.dot.as_deref(), &who, durability(&ask)).await?;
    Ok(tell(&ask, &undone))
}

async fn ledger(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let rivals = ask.api.node.ledger(ask.params.text(&DOCUMENT), ask.params.integer(&BEFORE), limit + 1);
    let next = (rivals.len() > limit).then(|| rivals[limit - 1].number);
    let items: Vec<Value> = rivals
        .into_iter()
        .take(limit)
        .map(|Rival { number, entry, outcome, told, now }| {
            let value: Value = serde_json::from_str(&entry.value).unwrap_or(Value::Null);
            json!({
                "number": number, "document": entry.document, "field": entry.field, "dot": entry.dot, "value": value,
                "at": entry.at_ms, "seen_ms": entry.seen_ms, "winner": entry.winner, "outcome": outcome.name(),
                "says": told, "now": now, "overruled": outcome == Fate::Overruled, "rule": entry.rule, "policy": entry.policy,
            })
        })
        .collect();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next })))
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        let kind = match &error {
            ResolveError::NotFound(_)
            | ResolveError::Over { .. }
            | ResolveError::NotDecided(_)
            | ResolveError::NotInLedger(_) => Kind::NoSuchConflict,
            ResolveError::Reopened { .. } | ResolveError::WrittenSince { .. } => Kind::PreconditionFailed,
            ResolveError::Write(error) => return error.clone().into(),
            ResolveError::Address(error) => return error.clone().into(),
            _ => Kind::NotSettled,
        };
        Problem::new(kind, error.to_string())
    }
}
