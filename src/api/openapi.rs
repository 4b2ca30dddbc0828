//! `/openapi.json`: the API described from the very list the router is made of.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::problem::{Kind, MEDIA_TYPE};
use super::query::{Parameter, Takes};
use super::routes::operations;
use super::{
    advisor, agents, capacity, conflicts, knowledge, locks, partitions, policies, queues, replicas, tasks, vms, workers,
};

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    method: Method::GET,
    path: "/openapi.json",
    id: "describe",
    says: "This description.",
    parameters: &[],
    headers: &[],
    accepts: &[],
    gives: (JSON, "Object"),
    session: false,
    problems: &[],
    handler: |ask| Box::pin(describe(ask)),
}];

async fn describe(ask: Ask) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock, &description()))
}

/// Problems any operation may answer with.
const COMMON: [Kind; 11] = [
    Kind::BadRequest,
    Kind::BadParameter,
    Kind::BadClock,
    Kind::ForeignHost,
    Kind::ForeignOrigin,
    Kind::MethodNotAllowed,
    Kind::UrlTooLong,
    Kind::HeadersTooLarge,
    Kind::Internal,
    Kind::Busy,
    Kind::TimedOut,
];
/// Problems of operations that take a body.
const OF_BODIES: [Kind; 4] = [Kind::BadJson, Kind::BodyTimeout, Kind::BodyTooLarge, Kind::MediaType];

pub(super) fn description() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let path = paths.entry(operation.path.replace("{*", "{")).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = described(operation);
    }
    let kind = |kind: Kind| json!({ "type": kind.urn(), "status": kind.status().as_u16(), "title": kind.title() });
    let kinds: Vec<Value> = Kind::ALL.into_iter().map(kind).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Folkmoot",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0" },
            "description": "One node of a replicated state store. Every answer carries Folkmoot-Clock; sent back, it makes \
                            any node show at least what the session has written and read. Every error is a problem \
                            (RFC 9457) whose `type` is stable.",
        },
        "paths": paths,
        "components": { "schemas": all_schemas() },
        "x-problem-types": kinds,
    })
}

fn described(operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.says,
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    if !operation.accepts.is_empty() {
        let content: Map<_, _> = operation
            .accepts
            .iter()
            .map(|(media, schema)| ((*media).to_owned(), json!({ "schema": named(schema) })))
            .collect();
        described["requestBody"] = json!({ "required": true, "content": content });
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let in_path =
        operation.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).map(|name| {
            let name = name.trim_start_matches('*');
            let (says, schema) = match name {
                "collection" => ("The collection.", json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,63}$" })),
                _ => (
                    "The rest of the path, percent-decoded; `/` is allowed.",
                    json!({ "type": "string", "minLength": 1, "maxLength": 512 }),
                ),
            };
            json!({ "name": name, "in": "path", "required": true, "description": says, "schema": schema })
        });
    let in_query = operation.all_parameters().into_iter().map(|parameter| {
        json!({ "name": parameter.name, "in": "query", "description": parameter.says, "schema": taken(parameter) })
    });
    let clock = ("Folkmoot-Clock", "What the session has seen: the header of its last answer.");
    let headers = operation.headers.iter().chain([&clock]).map(
        |(name, says)| json!({ "name": name, "in": "header", "description": says, "schema": { "type": "string" } }),
    );
    in_path.chain(in_query).chain(headers).collect()
}

fn taken(parameter: &Parameter) -> Value {
    match parameter.takes {
        Takes::Text { bytes_max } => json!({ "type": "string", "maxLength": bytes_max }),
        Takes::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Takes::Flag => json!({ "type": "boolean" }),
        Takes::OneOf(words) => json!({ "type": "string", "enum": words }),
        Takes::Durability => json!({ "type": "string", "pattern": "^(memory|local|replicas:[1-9][0-9]*)$" }),
    }
}

fn responses(operation: &Operation) -> Value {
    let mut by_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    let of_bodies: &[Kind] = if operation.accepts.is_empty() { &[] } else { &OF_BODIES };
    let of_names: &[Kind] = if operation.path.contains('{') { &[Kind::BadName] } else { &[] };
    let of_sessions: &[Kind] = if operation.session { &[Kind::Behind] } else { &[] };
    for kind in [&COMMON, operation.problems, operation.of_writes(), of_bodies, of_names, of_sessions].concat() {
        let kinds = by_status.entry(kind.status().as_u16()).or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let clock = json!({ "Folkmoot-Clock": { "description": "What the session has now seen.", "schema": { "type": "string" } } });
    let (media, schema) = operation.gives;
    let mut good_headers = clock.clone();
    if operation.id == "readDocument" {
        good_headers["ETag"] = json!({ "description": "The document's tag, the same on every node that has the same state.", "schema": { "type": "string" } });
    }
    let mut responses = Map::new();
    let good =
        json!({ "description": "Done.", "headers": good_headers, "content": { media: { "schema": named(schema) } } });
    responses.insert("200".into(), good);
    if operation.id == "readDocument" {
        responses.insert(
            "304".into(),
            json!({ "description": "Unchanged since the tag of If-None-Match.", "headers": clock }),
        );
    }
    for (status, kinds) in by_status {
        let lines: Vec<_> = kinds.iter().map(|kind| format!("`{}`: {}.", kind.urn(), kind.title())).collect();
        let content = json!({ MEDIA_TYPE: { "schema": named("Problem") } });
        responses.insert(
            status.to_string(),
            json!({ "description": lines.join("\n"), "headers": clock, "content": content }),
        );
    }
    Value::Object(responses)
}

fn named(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Those below, and those that stand beside their operations.
fn all_schemas() -> Value {
    let mut all = schemas();
    for (name, schema) in super::audit::schemas() {
        all[name] = schema;
    }
    for more in [
        conflicts::schemas(),
        policies::schemas(),
        advisor::schemas(),
        knowledge::schemas(),
        locks::schemas(),
        vms::schemas(),
        tasks::schemas(),
        queues::schemas(),
        workers::schemas(),
        agents::schemas(),
        partitions::schemas(),
        replicas::schemas(),
        capacity::schemas(),
    ] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let fields = json!({ "type": "object", "description": "Field name to value." });
    let siblings = json!({
        "type": "object",
        "description": "Fields with more than one live value, and those values.",
        "additionalProperties": { "type": "array", "items": {
            "type": "object",
            "properties": { "value": {}, "dot": text, "replica": text, "at": {} },
        } },
    });
    let inferred = json!({ "type": "array", "items": text, "description": "Fields no schema declares." });
    let stale = json!({ "type": "array", "items": text, "description": "Fields that a quorum decides, where this node reaches none: they may be others by now." });
    let expired = json!({ "type": "boolean", "description": "Whether a field outlived its time to live; only where a field has one." });
    let op = json!({
        "type": "object",
        "required": ["field"],
        "additionalProperties": false,
        "description": "`field` and exactly one of the verbs; `key` goes with `set`, `unset` and `incr`.",
        "properties": {
            "field": text,
            "key": text,
            "set": {},
            "unset": { "const": true },
            "incr": { "type": "integer", "format": "int64" },
            "add": {},
            "remove": {},
            "splice": {
                "type": "object",
                "required": ["at"],
                "properties": { "at": { "type": "integer" }, "delete": { "type": "integer" }, "insert": text },
            },
        },
    });
    let write = json!({
        "type": "object",
        "required": ["op", "collection", "id"],
        "additionalProperties": false,
        "properties": {
            "op": { "enum": ["put", "patch", "delete"] },
            "collection": text,
            "id": text,
            "fields": fields,
            "ops": named("Ops"),
            "if_match": { "type": "string", "description": "A tag, or `*`." },
            "upsert": { "type": "boolean", "description": "Overrides the parameter for this write." },
        },
    });
    json!({
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "instance"],
            "properties": {
                "type": { "type": "string", "enum": Kind::ALL.map(Kind::urn).to_vec() },
                "title": text,
                "status": { "type": "integer" },
                "detail": { "type": "string", "description": "The cause, and what to do." },
                "instance": { "type": "string", "description": "The path that was asked." },
                "line": { "type": "integer" },
                "column": { "type": "integer" },
                "parameter": text,
                "field": text,
                "index": { "type": "integer", "description": "The write of a batch it is about." },
                "etag": { "type": ["string", "null"], "description": "The tag the document has instead." },
                "reasons": { "type": "array", "items": text },
            },
        },
        "Fields": fields,
        "Document": {
            "type": "object",
            "required": ["collection", "id", "fields", "siblings", "clock"],
            "properties": {
                "collection": text, "id": text, "fields": fields, "siblings": siblings, "clock": text,
                "inferred": inferred, "expired": expired, "stale": stale,
            },
        },
        "Listing": {
            "type": "object",
            "required": ["items", "next", "clock"],
            "properties": {
                "items": { "type": "array", "items": {
                    "type": "object",
                    "required": ["id", "fields", "siblings", "etag"],
                    "properties": {
                        "id": text, "fields": fields, "siblings": siblings, "etag": text, "inferred": inferred,
                        "expired": expired, "stale": stale,
                    },
                } },
                "next": { "type": ["string", "null"], "description": "The last id given, when there are more." },
                "clock": text,
            },
        },
        "Receipt": {
            "type": "object",
            "required": ["dot", "clock", "durability"],
            "properties": {
                "dot": { "type": ["string", "null"], "description": "The write's last op; null when nothing changed." },
                "clock": text,
                "durability": { "type": "string", "description": "What was reached." },
                "version": { "type": "integer", "description": "Of a quorum's decision: it grows with every one about the document." },
            },
        },
        "Ops": { "type": "array", "maxItems": 1000, "items": op },
        "JsonPatch": { "type": "array", "maxItems": 1000, "items": { "type": "object" }, "description": "RFC 6902." },
        "Batch": {
            "type": "object",
            "required": ["writes"],
            "additionalProperties": false,
            "properties": { "writes": { "type": "array", "minItems": 1, "maxItems": 1000, "items": write } },
        },
        "Change": {
            "type": "string",
            "description": "Events `ready`, `put`, `delete`, `gap`; with `conflicts=true` also `conflict` and `conflict-ended`. The data of a change is \
                            {\"collection\",\"id\",\"fields\",\"siblings\",\"position\"}, without fields and siblings on delete.",
        },
        "SchemaDefinition": {
            "type": "object",
            "required": ["fields"],
            "properties": { "fields": { "type": "object", "additionalProperties": {
                "type": "object", "required": ["type"], "properties": { "type": text, "resolver": text },
            } } },
        },
        "SchemaText": { "type": "string", "description": "The same as TOML, `[fields.restarts]` and so on." },
        "Schema": {
            "type": "object",
            "required": ["collection", "origin", "fields"],
            "properties": {
                "collection": text, "origin": { "enum": ["declared", "builtin", "inferred"] }, "fields": fields, "clock": text,
            },
        },
        "SchemaListing": {
            "type": "object",
            "required": ["items", "clock"],
            "properties": { "items": { "type": "array", "items": named("Schema") }, "clock": text },
        },
        "Conflict": {
            "type": "object",
            "required": ["id", "document", "class", "severity", "status", "score"],
            "properties": {
                "id": { "type": "string", "description": "The same on every node." },
                "document": text, "field": text, "rule": text, "cause": text, "resolver": text, "policy": text, "value": {},
                "class": { "enum": crate::conflict::Class::ALL.map(crate::conflict::Class::name) },
                "severity": { "enum": ["info", "warning", "critical"] },
                "status": { "enum": crate::conflict::Status::ALL.map(crate::conflict::Status::name) },
                "score": { "type": "integer" },
                "others": { "type": "array", "items": text },
                "siblings": { "type": "array", "items": { "type": "object" } },
                "advice": {
                    "type": "object",
                    "description": "What the advisor suggests, where it waits for somebody; or why it settled it so.",
                    "properties": { "strategy": text, "confidence": { "type": "number" } },
                },
            },
        },
        "ConflictListing": {
            "type": "object",
            "required": ["items", "next", "behind"],
            "properties": {
                "items": { "type": "array", "items": named("Conflict") },
                "next": { "type": ["string", "null"] },
                "behind": { "type": "boolean", "description": "Documents are still judged by a new policy or schema: ask again." },
            },
        },
        "Cluster": { "type": "object" },
        "Peers": { "type": "object", "required": ["peers"], "properties": { "peers": { "type": "array", "items": { "type": "object" } } } },
        "Evicted": { "type": "object", "properties": { "evicted": text } },
        "Left": { "type": "object", "properties": { "left": { "const": true }, "node": text } },
        "Block": {
            "type": "object",
            "required": ["peers"],
            "additionalProperties": false,
            "properties": { "peers": { "type": "array", "maxItems": 1000, "items": text, "description": "Node ids." } },
        },
        "Blocked": { "type": "object", "properties": { "blocked": { "type": "array", "items": text } } },
        "Health": { "type": "object", "properties": { "status": { "const": "ok" } } },
        "Ready": { "type": "object", "properties": { "ready": { "const": true }, "reasons": { "type": "array" } } },
        "Object": { "type": "object" },
        "Text": text,
    })
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn every_operation_is_described_once_and_answers() {
        let server = Server::start().await;
        let description = server.get("/openapi.json").await.value();
        let described: usize =
            description["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, operations().count());
        let ids: BTreeSet<_> = operations().map(|operation| operation.id).collect();
        assert_eq!(ids.len(), operations().count());
        for operation in operations() {
            let path = operation
                .path
                .replace("{collection}", "vms")
                .replace("{*id}", "a")
                .replace("{id}", "a")
                .replace("{name}", "a")
                .replace("/v1/watch", "/v1/watch?x");
            let answer = server.ask(operation.method.as_str(), &path, &[], b"{").await;
            assert_ne!(answer.status, 405, "{operation:?} is routed");
            let kind = if answer.status == 404 { answer.value()["type"].clone() } else { Value::Null };
            assert_ne!(kind, Kind::NoSuchPath.urn(), "{operation:?} is routed");
            let responses = &description["paths"][operation.path.replace("{*", "{")]
                [operation.method.as_str().to_ascii_lowercase()]["responses"];
            let listed = &responses[answer.status.to_string()];
            assert!(listed.is_object(), "{operation:?} lists {}", answer.status);
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let description = description();
        let text = description.to_string();
        let used: BTreeSet<_> = text
            .split("#/components/schemas/")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .map(str::to_owned)
            .collect();
        let there: BTreeSet<_> = description["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(used, there);
    }

    #[test]
    fn every_kind_of_problem_is_among_some_operations_responses() {
        let paths = description()["paths"].to_string();
        let missing: Vec<_> =
            Kind::ALL.into_iter().filter(|kind| *kind != Kind::NoSuchPath && !paths.contains(&kind.urn())).collect();
        assert_eq!(missing, []);
    }
}
