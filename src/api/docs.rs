//! `/v1/docs`: one document, and the list of a collection.

use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::condition::{self, Condition, quoted};
use super::operation::{Ask, Operation, Outcome, answer};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use super::{schemas, wire};
use crate::document::address::{ID_BYTES_MAX, check_collection};
use crate::node::{DocumentWrite, Durability, Missing, WriteBody, WriteError};

pub(super) static DURABILITY: Parameter = Parameter {
    name: "durability",
    takes: Takes::Durability,
    says: "When the write is acknowledged: `memory`, `local` (default: on this node's disk, survives a power cut), or \
           `replicas:N` (on N other nodes' disks too).",
};
pub(super) static UPSERT: Parameter = Parameter {
    name: "upsert",
    takes: Takes::Flag,
    says: "Whether a patch creates a document that is missing (default false: 404).",
};
static PREFIX: Parameter = Parameter {
    name: "prefix",
    takes: Takes::Text { bytes_max: ID_BYTES_MAX },
    says: "Only ids that start with this.",
};
static AFTER: Parameter = Parameter {
    name: "after",
    takes: Takes::Text { bytes_max: ID_BYTES_MAX },
    says: "Only ids after this one, in byte order: the `next` of the page before.",
};
static LIMIT: Parameter =
    Parameter { name: "limit", takes: Takes::Integer { min: 1, max: 1_000 }, says: "Documents a page (default 100)." };

const LIMIT_DEFAULT: u64 = 100;
/// Bytes of a page of a list; a page that would be larger ends earlier and says where to go on.
const PAGE_BYTES_MAX: usize = 16 << 20;

pub(super) const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const OPS: &str = "application/vnd.folkmoot.ops+json";

const PATH: &str = "/v1/docs/{collection}/{*id}";
const IF_MATCH: (&str, &str) = ("If-Match", "Only if the document has one of these tags (`*`: exists). Else 412.");
const IF_NONE_MATCH: (&str, &str) = ("If-None-Match", "`*`: only if the document does not exist. Else 412.");
const IF_CHANGED: (&str, &str) = ("If-None-Match", "304 if the document still has one of these tags.");
pub(super) const WRITE_PROBLEMS: &[Kind] = &[
    Kind::BadName,
    Kind::PreconditionFailed,
    Kind::DoesNotFit,
    Kind::BodyTooLarge,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::ShuttingDown,
    Kind::NotReplicated,
];

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: PATH,
        id: "readDocument",
        says: "Reads a document as this node has it.",
        parameters: &[],
        headers: &[IF_MATCH, IF_CHANGED],
        accepts: &[],
        gives: (JSON, "Document"),
        session: true,
        problems: &[Kind::BadName, Kind::NotFound, Kind::PreconditionFailed],
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::PUT,
        path: PATH,
        id: "putDocument",
        says: "Creates or replaces a document: fields that are absent are removed, equal values write nothing, a \
               counter is set by the difference.",
        parameters: &[&DURABILITY],
        headers: &[IF_MATCH, IF_NONE_MATCH],
        accepts: &[(JSON, "Fields")],
        gives: (JSON, "Receipt"),
        session: true,
        problems: WRITE_PROBLEMS,
        handler: |ask| Box::pin(put(ask)),
    },
    Operation {
        method: Method::PATCH,
        path: PATH,
        id: "patchDocument",
        says: "Changes fields of a document. Plain JSON is taken as a merge patch.",
        parameters: &[&DURABILITY, &UPSERT],
        headers: &[IF_MATCH, IF_NONE_MATCH],
        accepts: &[(OPS, "Ops"), (MERGE_PATCH, "Fields"), (JSON_PATCH, "JsonPatch"), (JSON, "Fields")],
        gives: (JSON, "Receipt"),
        session: true,
        problems: &[
            Kind::BadName,
            Kind::NotFound,
            Kind::PatchConflict,
            Kind::PreconditionFailed,
            Kind::DoesNotFit,
            Kind::BodyTooLarge,
            Kind::Storage,
            Kind::StorageFull,
            Kind::ClockSkew,
            Kind::ShuttingDown,
            Kind::NotReplicated,
        ],
        handler: |ask| Box::pin(patch(ask)),
    },
    Operation {
        method: Method::DELETE,
        path: PATH,
        id: "deleteDocument",
        says: "Deletes a document: all that is visible here goes; a concurrent write elsewhere does not revive half of it.",
        parameters: &[&DURABILITY],
        headers: &[IF_MATCH],
        accepts: &[],
        gives: (JSON, "Receipt"),
        session: true,
        problems: &[
            Kind::BadName,
            Kind::NotFound,
            Kind::PreconditionFailed,
            Kind::Storage,
            Kind::StorageFull,
            Kind::ClockSkew,
            Kind::ShuttingDown,
            Kind::NotReplicated,
        ],
        handler: |ask| Box::pin(delete(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/docs/{collection}",
        id: "listDocuments",
        says: "Lists a collection in id order.",
        parameters: &[&PREFIX, &LIMIT, &AFTER],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Listing"),
        session: true,
        problems: &[Kind::BadName],
        handler: |ask| Box::pin(list(ask)),
    },
];

async fn read(ask: Ask) -> Outcome {
    let address = ask.address()?;
    let if_match = Condition::parse(&ask.headers, &header::IF_MATCH)?;
    let if_none_match = Condition::parse(&ask.headers, &header::IF_NONE_MATCH)?;
    let read = ask.api.node.read(&address);
    let clock = ask.clock_with(&read.token);
    let Some(view) = read.document else {
        if if_match.is_some() {
            let detail = format!("{address} does not exist, and If-Match asks for one that does");
            return Err(Problem::new(Kind::PreconditionFailed, detail).with("etag", Value::Null).seen(read.token));
        }
        let detail = format!("{address} does not exist on this node: create it with PUT");
        return Err(Problem::new(Kind::NotFound, detail).seen(read.token));
    };
    let etag = quoted(&view.etag);
    if if_match.is_some_and(|condition| !condition.matches_strongly(&view.etag)) {
        let detail = format!("{address} has the tag {etag}, which If-Match does not name: read it again");
        return Err(Problem::new(Kind::PreconditionFailed, detail).with("etag", etag).seen(read.token));
    }
    let unchanged = if_none_match.is_some_and(|condition| condition.matches_weakly(&view.etag));
    let mut response = match unchanged {
        true => {
            let mut response = answer(StatusCode::NOT_MODIFIED, &clock, &Value::Null);
            *response.body_mut() = axum::body::Body::empty();
            response
        }
        false => answer(StatusCode::OK, &clock, &wire::document(&address, view, &clock)),
    };
    let etag = HeaderValue::from_str(&etag);
    let etag = etag.map_err(|_| Problem::new(Kind::Internal, "the document's tag is not ASCII: this is a bug"))?;
    response.headers_mut().insert(header::ETAG, etag);
    Ok(response)
}

async fn put(mut ask: Ask) -> Outcome {
    ask.address()?;
    let fields: Map<String, Value> = ask.receive().await?.json()?;
    write(ask, WriteBody::Put(fields)).await
}

async fn patch(mut ask: Ask) -> Outcome {
    ask.address()?;
    let received = ask.receive().await?;
    let body = match received.media {
        OPS => WriteBody::Edits(received.json::<wire::Indexed<wire::Op, { wire::PATCH_OPS_MAX }>>()?.edits()),
        JSON_PATCH => WriteBody::JsonPatch(json_patch::Patch(
            received.json::<wire::Indexed<json_patch::PatchOperation, { wire::PATCH_OPS_MAX }>>()?.0,
        )),
        // A merge patch that is no object would replace the document by something that is no document.
        _ => WriteBody::MergePatch(Value::Object(received.json()?)),
    };
    write(ask, body).await
}

async fn delete(ask: Ask) -> Outcome {
    write(ask, WriteBody::Delete).await
}

async fn write(ask: Ask, body: WriteBody) -> Outcome {
    let (if_match, create_only) = condition::of_write(&ask.headers)?;
    let missing = if ask.params.flag(&UPSERT) { Missing::Create } else { Missing::Refuse };
    let write = DocumentWrite { address: ask.address()?, body, if_match, create_only, missing };
    schemas::guard(&write)?;
    Ok(commit(ask, vec![write]).await?)
}

/// Writes, and answers with the receipt.
pub(super) async fn commit(ask: Ask, writes: Vec<DocumentWrite>) -> Result<Response, WriteError> {
    let durability = ask.params.durability(&DURABILITY).unwrap_or(Durability::Local);
    let receipt = ask.api.node.write(writes, durability).await?;
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &wire::receipt(&receipt, &clock)))
}

async fn list(ask: Ask) -> Outcome {
    check_collection(ask.collection())?;
    let (prefix, after) = (ask.params.text(&PREFIX).unwrap_or(""), ask.params.text(&AFTER));
    let limit = ask.params.integer(&LIMIT).unwrap_or(LIMIT_DEFAULT) as usize;
    let listing = ask.api.node.list(ask.collection(), prefix, after, limit);
    let clock = ask.clock_with(&listing.token);
    Ok(page(listing.items, listing.next, &clock))
}

fn page(items: Vec<(String, crate::node::DocumentView)>, next: Option<String>, clock: &crate::node::Token) -> Response {
    let mut body = String::from("{\"items\":[");
    let mut last: Option<String> = None;
    let mut cut = false;
    for (id, view) in items {
        let item = wire::item(&id, view).to_string();
        if last.is_some() && body.len() + item.len() > PAGE_BYTES_MAX {
            cut = true;
            break;
        }
        if last.is_some() {
            body.push(',');
        }
        body.push_str(&item);
        last = Some(id);
    }
    let next = if cut { last } else { next };
    body.push_str(&format!("],\"next\":{},\"clock\":{}}}", json!(next), json!(clock.to_string())));
    let mut response = answer(StatusCode::OK, clock, &Value::Null);
    *response.body_mut() = body.into();
    response
}
