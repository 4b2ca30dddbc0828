//! `/v1/audit`: what this node found and decided, as a chain of records that can be verified.

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use super::body::JSON_LINES;
use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer, with_clock};
use super::page::LIMIT;
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use crate::engine::audit::ShelfError;
use crate::history::audit::{self, ImportError, Query, Window};
use crate::node::{AuditError, Node};

const ANY: Takes = Takes::Integer { min: 0, max: u64::MAX };

static CONFLICT: Parameter = Parameter {
    name: "conflict",
    takes: Takes::Text { bytes_max: 64 },
    says: "Only records of this conflict: its id of 32 hex digits, or the first of them, at least 4.",
};
static DOCUMENT: Parameter = Parameter {
    name: "document",
    takes: Takes::Text { bytes_max: 600 },
    says: "Only records of this document, `collection/id`.",
};
static PREFIX: Parameter = Parameter {
    name: "prefix",
    takes: Takes::Text { bytes_max: 600 },
    says: "Only records of documents whose name starts with this: `vms/` for a collection.",
};
static FIELD: Parameter =
    Parameter { name: "field", takes: Takes::Text { bytes_max: 512 }, says: "Only records of this field." };
static KIND: Parameter = Parameter {
    name: "kind",
    takes: Takes::Text { bytes_max: 256 },
    says: "Only records of this kind; several with commas between.",
};
static ACTOR: Parameter =
    Parameter { name: "actor", takes: Takes::Text { bytes_max: 256 }, says: "Only what this person or node did." };
static SINCE: Parameter = Parameter { name: "since_ms", takes: ANY, says: "From this millisecond on." };
static UNTIL: Parameter = Parameter { name: "until_ms", takes: ANY, says: "Before this millisecond." };
static NEWEST: Parameter = Parameter { name: "newest", takes: Takes::Flag, says: "The newest first." };
static AFTER: Parameter = Parameter { name: "after", takes: ANY, says: "Go on here: the `next` of the page before." };
static NODE: Parameter = Parameter {
    name: "node",
    takes: Takes::Text { bytes_max: 64 },
    says: "Another node, whose audit was imported here; else this one.",
};

static QUERY: &[&Parameter] =
    &[&NODE, &CONFLICT, &DOCUMENT, &PREFIX, &FIELD, &KIND, &ACTOR, &SINCE, &UNTIL, &NEWEST, &AFTER, &LIMIT];

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/audit",
        id: "readAudit",
        says: "Records of the audit, in the order in which this node made them.",
        parameters: QUERY,
        headers: &[],
        accepts: &[],
        gives: (JSON, "AuditPage"),
        session: false,
        problems: &[Kind::NotFound, Kind::BadParameter],
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/audit/verify",
        id: "verifyAudit",
        says: "Looks for records that were deleted, edited, reordered or cut off, by every anchor known here. An imported \
               chain may end before the newest anchor: it is whole, and `now.later` says so.",
        parameters: &[&NODE],
        headers: &[],
        accepts: &[],
        gives: (JSON, "AuditReport"),
        session: false,
        problems: &[Kind::NotFound],
        handler: |ask| Box::pin(verify(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/audit/anchors",
        id: "listAuditAnchors",
        says: "Signed heads of audits: what others can be held to. Ask several nodes.",
        parameters: &[&NODE],
        headers: &[],
        accepts: &[],
        gives: (JSON, "AuditAnchors"),
        session: false,
        problems: &[Kind::NotFound],
        handler: |ask| Box::pin(anchors(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/audit/patterns",
        id: "auditPatterns",
        says: "Hotspots, conflicts that keep coming back, values that go to and fro, and who settles what.",
        parameters: &[&SINCE, &UNTIL],
        headers: &[],
        accepts: &[],
        gives: (JSON, "AuditPatterns"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(patterns(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/audit/rollback-points",
        id: "listRollbackPoints",
        says: "Decisions and changes of rules, each with where the state stood before it, the newest first.",
        parameters: &[&AFTER, &LIMIT],
        headers: &[],
        accepts: &[],
        gives: (JSON, "RollbackPoints"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(points(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/audit/export",
        id: "exportAudit",
        says: "The whole chain as JSON lines, with the anchors of it that are known here.",
        parameters: &[&NODE],
        headers: &[],
        accepts: &[],
        gives: (JSON_LINES, "Text"),
        session: false,
        problems: &[Kind::NotFound, Kind::BadAudit],
        handler: |ask| Box::pin(export(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/audit/import",
        id: "importAudit",
        says: "Takes another node's exported chain, if every line of it is right and no anchor known here contradicts it.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON_LINES, "Text")],
        gives: (JSON, "AuditImported"),
        session: false,
        problems: &[Kind::BadAudit, Kind::AuditTampered, Kind::AuditHeld],
        handler: |ask| Box::pin(import(ask)),
    },
];

/// Hex digits of a conflict's id, and the fewest that may stand for it.
const ID_LEN: usize = 32;
const ID_LEN_MIN: usize = 4;
/// Pages that are read to find which id a few digits stand for: more than a node keeps of its own audit.
const PAGES_MAX: usize = 80;
/// Ids that are named where several begin so.
const CANDIDATES_MAX: usize = 5;

/// What the operations answer with, for the API's description.
pub(super) fn schemas() -> Map<String, Value> {
    let text = json!({ "type": "string" });
    let schemas = json!({
        "AuditPage": {
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": { "type": "array", "items": {
                    "type": "object",
                    "required": ["index", "at_ms", "kind", "actor", "previous", "hash"],
                    "properties": {
                        "index": { "type": "integer" }, "at_ms": { "type": "integer" },
                        "kind": { "enum": audit::Kind::ALL.map(audit::Kind::name) },
                        "actor": text, "conflict": text, "document": text, "field": text, "detail": {},
                        "previous": text, "hash": text,
                    },
                } },
                "next": { "type": ["integer", "null"] },
                "conflict": { "type": "string", "description": "The id that was asked for, in full." },
                "unreadable": { "type": "array", "items": { "type": "integer" } },
            },
        },
        "AuditReport": {
            "type": "object",
            "required": ["node", "whole", "now", "says"],
            "properties": {
                "node": text, "whole": { "type": "boolean" },
                "now": { "type": "object", "properties": {
                    "later": {
                        "type": "integer",
                        "description": "An imported chain ends before this record, which is anchored: it goes on at its node.",
                    },
                } },
                "at_start": { "type": ["object", "null"], "description": "What the disk held when the process began." },
                "says": { "type": "array", "items": text, "description": "The findings in words." },
            },
        },
        "AuditAnchors": { "type": "object", "properties": { "items": { "type": "array", "items": { "type": "object" } } } },
        "AuditPatterns": { "type": "object" },
        "RollbackPoints": {
            "type": "object",
            "properties": { "items": { "type": "array", "items": { "type": "object" } }, "next": { "type": ["integer", "null"] } },
        },
        "AuditImported": {
            "type": "object",
            "properties": {
                "node": text, "records": { "type": "integer" }, "anchors": { "type": "integer" },
                "proven": { "type": "array" }, "later": { "type": ["integer", "null"] },
            },
        },
    });
    match schemas {
        Value::Object(schemas) => schemas,
        _ => Map::new(),
    }
}

/// The id that was asked for, in full. One that no record has stays as it is: nothing is found, then.
async fn conflict(ask: &Ask) -> Result<Option<String>, Problem> {
    let Some(typed) = ask.params.text(&CONFLICT) else { return Ok(None) };
    let refuse = |says: String| Problem::new(Kind::BadParameter, says).with("parameter", "conflict");
    if !(ID_LEN_MIN..=ID_LEN).contains(&typed.len()) || !typed.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let says = format!(
            "`{typed}` is no id of a conflict: that is {ID_LEN} hex digits, of which the first {ID_LEN_MIN} or more will do"
        );
        return Err(refuse(says));
    }
    let prefix = typed.to_ascii_lowercase();
    if prefix.len() == ID_LEN {
        return Ok(Some(prefix));
    }
    let (node, of, start) = (ask.api.node.clone(), ask.params.text(&NODE).map(str::to_owned), prefix.clone());
    // A whole audit may be read: not where other requests wait.
    let found = tokio::task::spawn_blocking(move || begin_so(&node, of.as_deref(), &start)).await;
    let lost = |_| Problem::new(Kind::Internal, "the search for the id ended without a result");
    let found = found.map_err(lost)??;
    match &found[..] {
        [] => Ok(Some(prefix)),
        [id] => Ok(Some(id.clone())),
        several => Err(refuse(format!("several conflicts begin with `{prefix}`: {}", several.join(", ")))),
    }
}

/// Conflicts of an audit whose ids begin so: one more than are named at most.
fn begin_so(node: &Node, of: Option<&str>, prefix: &str) -> Result<Vec<String>, AuditError> {
    let mut found = std::collections::BTreeSet::new();
    let mut query = Query { newest_first: true, ..Query::default() };
    for _ in 0..PAGES_MAX {
        let page = node.audit(of, &query)?;
        let ids = page.records.into_iter().filter_map(|record| record.conflict);
        found.extend(ids.filter(|id| id.starts_with(prefix)));
        query.cursor = page.next;
        if query.cursor.is_none() || found.len() > CANDIDATES_MAX {
            break;
        }
    }
    Ok(found.into_iter().take(CANDIDATES_MAX).collect())
}

fn document(ask: &Ask) -> Result<Option<String>, Problem> {
    let Some(name) = ask.params.text(&DOCUMENT) else { return Ok(None) };
    if name.split_once('/').is_none_or(|(collection, id)| collection.is_empty() || id.is_empty()) {
        let says = format!(
            "`{name}` is no document: that is collection/id, as in vms/vm-1; `prefix` takes how names begin, as in vms/"
        );
        return Err(Problem::new(Kind::BadParameter, says).with("parameter", "document"));
    }
    Ok(Some(name.to_owned()))
}

async fn query(ask: &Ask) -> Result<Query, Problem> {
    let text = |parameter| ask.params.text(parameter).map(str::to_owned);
    let kinds = ask.params.text(&KIND).unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
    let kinds = kinds.map(str::parse).collect::<Result<_, audit::kind::UnknownKind>>();
    let kinds = kinds.map_err(|error| Problem::new(Kind::BadParameter, error.to_string()).with("parameter", "kind"))?;
    Ok(Query {
        conflict: conflict(ask).await?,
        document: document(ask)?,
        document_prefix: text(&PREFIX),
        field: text(&FIELD),
        kinds,
        actor: text(&ACTOR),
        from_ms: ask.params.integer(&SINCE),
        until_ms: ask.params.integer(&UNTIL),
        newest_first: ask.params.flag(&NEWEST),
        limit: ask.params.limit(),
        cursor: ask.params.integer(&AFTER),
    })
}

async fn read(ask: Ask) -> Outcome {
    let query = query(&ask).await?;
    let page = ask.api.node.audit(ask.params.text(&NODE), &query)?;
    let items: Vec<Value> = page.records.iter().map(audit::Record::to_json).collect();
    let mut body = json!({ "items": items, "next": page.next, "unreadable": page.unreadable });
    if let Some(conflict) = query.conflict {
        body["conflict"] = conflict.into();
    }
    Ok(answer(StatusCode::OK, &ask.clock, &body))
}

async fn verify(ask: Ask) -> Outcome {
    let verified = ask.api.node.verify_audit(ask.params.text(&NODE))?;
    let told = |report: &audit::Report| report.findings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let says: Vec<String> = verified.at_start.iter().flat_map(told).chain(told(&verified.now)).collect();
    let mut body = json!(verified);
    body["says"] = json!(says);
    Ok(answer(StatusCode::OK, &ask.clock, &body))
}

async fn anchors(ask: Ask) -> Outcome {
    let anchors = ask.api.node.audit_anchors(ask.params.text(&NODE))?;
    let items: Vec<Value> = anchors
        .iter()
        .map(|anchor| {
            json!({ "node": anchor.node.to_string(), "index": anchor.index, "at_ms": anchor.at_ms, "anchor": anchor.to_hex() })
        })
        .collect();
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "items": items })))
}

async fn patterns(ask: Ask) -> Outcome {
    let (from, until) = (ask.params.integer(&SINCE).unwrap_or(0), ask.params.integer(&UNTIL).unwrap_or(u64::MAX));
    Ok(answer(StatusCode::OK, &ask.clock, &json!(ask.api.node.audit_patterns(Window::new(from, until)))))
}

async fn points(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let (items, next) = ask.api.node.rollback_points(limit, ask.params.integer(&AFTER))?;
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "items": items, "next": next })))
}

async fn export(ask: Ask) -> Outcome {
    let lines = ask.api.node.export_audit(ask.params.text(&NODE))?;
    let mut response = axum::response::Response::new(Body::from(lines.join("\n") + "\n"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON_LINES));
    Ok(with_clock(response, &ask.clock))
}

async fn import(ask: Ask) -> Outcome {
    let imported = ask.api.node.import_audit(ask.received()?.text()?)?;
    let body = json!({
        "node": imported.node.to_string(), "records": imported.report.records, "anchors": imported.anchors.len(),
        "proven": imported.report.proven, "later": imported.report.later,
    });
    Ok(answer(StatusCode::OK, &ask.clock, &body))
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        let kind = match &error {
            AuditError::Node(_) => {
                return Problem::new(Kind::BadParameter, error.to_string()).with("parameter", "node");
            }
            AuditError::NotHeld(_) => Kind::NotFound,
            AuditError::Import(ShelfError::Import(error)) => refused_for(error),
            AuditError::Import(ShelfError::Full { .. }) => Kind::BodyTooLarge,
            AuditError::Export(_) => Kind::BadAudit,
        };
        Problem::new(kind, error.to_string())
    }
}

/// A file that does not begin as an audit is none. One that does, and goes wrong later, was changed.
fn refused_for(error: &ImportError) -> Kind {
    match error {
        ImportError::Malformed { line: 1, .. } | ImportError::Order { line: 1, .. } => Kind::BadAudit,
        ImportError::Long { .. } | ImportError::ManyAnchors { .. } => Kind::BadAudit,
        ImportError::Own | ImportError::NotBeyond { .. } => Kind::AuditHeld,
        ImportError::Malformed { .. }
        | ImportError::Order { .. }
        | ImportError::Edited { .. }
        | ImportError::Found { .. }
        | ImportError::ForeignAnchor { .. }
        | ImportError::WrongEnd { .. }
        | ImportError::CutShort { .. }
        | ImportError::Contradicts { .. } => Kind::AuditTampered,
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[tokio::test]
    async fn a_policy_is_on_record_and_the_chain_verifies_and_travels() {
        let server = Server::start().await;
        server.json("PUT", "/v1/policies/p", json!({ "rules": [{ "name": "r", "resolver": "max" }] })).await.value();
        let page = server.get("/v1/audit?kind=policy_changed,started").await.value();
        let kinds: Vec<_> = page["items"].as_array().unwrap().iter().map(|item| item["kind"].clone()).collect();
        assert_eq!(kinds, ["started", "policy_changed"], "{page}");
        assert_eq!(page["items"][1]["document"], "policies/p");
        assert_eq!(server.get("/v1/audit?document=policies/p").await.value()["items"].as_array().unwrap().len(), 1);
        let points = server.get("/v1/audit/rollback-points").await.value();
        assert_eq!(
            (&points["items"][0]["before"], &points["items"][0]["exact"]),
            (&json!("policy_changed"), &json!(true))
        );
        let verified = server.get("/v1/audit/verify").await.value();
        assert_eq!((&verified["whole"], &verified["says"]), (&json!(true), &json!([])), "{verified}");

        let export = server.get("/v1/audit/export").await.body;
        let other = Server::start().await;
        let imported = other.ask("POST", "/v1/audit/import", &[], &export).await.value();
        let node = imported["node"].as_str().unwrap();
        let page = other.get(&format!("/v1/audit?node={node}&kind=policy_changed")).await.value();
        assert_eq!(page["items"][0]["document"], "policies/p");
        assert_eq!(other.get(&format!("/v1/audit/verify?node={node}")).await.value()["whole"], true);
        let edited = String::from_utf8(export).unwrap().replacen("policies/p", "policies/q", 1);
        let refused = other.ask("POST", "/v1/audit/import", &[], edited.as_bytes()).await.problem("audit-tampered");
        assert!(refused.contains("what it says is not what its hash was made of"), "{refused}");
        server.ask("POST", "/v1/audit/import", &[], b"{").await.problem("bad-audit");
        // A whole audit is larger than any other body may be.
        server.ask("POST", "/v1/audit/import", &[], &vec![b'x'; 12 << 20]).await.problem("bad-audit");
        let own = server.get("/v1/audit/export").await.body;
        server.ask("POST", "/v1/audit/import", &[], &own).await.problem("audit-held");
    }

    #[tokio::test]
    async fn what_is_not_known_is_refused_by_name() {
        let server = Server::start().await;
        assert!(server.get("/v1/audit?kind=solved").await.problem("bad-parameter").contains("unknown kind `solved`"));
        server.get("/v1/audit?node=x").await.problem("bad-parameter");
        for conflict in ["4f0", "4f0g", &"0".repeat(33)] {
            let refused = server.get(&format!("/v1/audit?conflict={conflict}")).await.problem("bad-parameter");
            assert!(refused.contains("32 hex digits"), "{refused}");
        }
        assert_eq!(server.get("/v1/audit?conflict=4F0C").await.value()["items"], json!([]));
        for document in ["vms", "vms/", "/1"] {
            let refused = server.get(&format!("/v1/audit?document={document}")).await.problem("bad-parameter");
            assert!(refused.contains("collection/id"), "{refused}");
        }
        let other = crate::clock::NodeId([7; 32]);
        server.get(&format!("/v1/audit/verify?node={other}")).await.problem("not-found");
    }
}
