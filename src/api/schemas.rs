//! `/v1/schemas`: what the fields of a collection are. A schema is a document, `schemas/<collection>`, whose field
//! `definition` holds it as JSON: it replicates like any other.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::body::Received;
use super::condition;
use super::docs::{DURABILITY, JSON, commit};
use super::operation::{Ask, Operation, Outcome, answer};
use super::problem::{Kind, Problem};
use crate::conflict::Judge;
use crate::document::address::check_collection;
use crate::document::builtin::builtins;
use crate::document::{Address, Schema, SchemaError};
use crate::engine::member;
use crate::engine::schemas::{ADVISOR, COLLECTION, DEFINITION, POLICIES};
use crate::node::{DocumentWrite, Missing, WriteBody};

/// Collections the engine itself reads: their types are fixed.
const FIXED: [&str; 4] = [COLLECTION, POLICIES, ADVISOR, member::COLLECTION];
/// Declared schemas in one list.
const LIST_MAX: usize = 1_000;

const PATH: &str = "/v1/schemas/{collection}";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/schemas",
        id: "listSchemas",
        says: "Lists the declared schemas, at most 1,000, and the built-in ones. Fields of other collections are inferred.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "SchemaListing"),
        session: true,
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
    },
    Operation {
        method: Method::GET,
        path: PATH,
        id: "readSchema",
        says: "The schema this node uses for a collection, and where it comes from.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Schema"),
        session: true,
        problems: &[Kind::BadName],
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::PUT,
        path: PATH,
        id: "putSchema",
        says: "Declares the schema of a collection, for all nodes.",
        parameters: &[&DURABILITY],
        headers: &[
            ("If-Match", "Only if the schema's document has one of these tags."),
            ("If-None-Match", "`*`: only if none is declared."),
        ],
        accepts: &[(JSON, "SchemaDefinition"), ("application/toml", "SchemaText"), ("text/x-toml", "SchemaText")],
        gives: (JSON, "Receipt"),
        session: true,
        problems: &[Kind::BadSchema],
        handler: |ask| Box::pin(put(ask)),
    },
];

async fn list(ask: Ask) -> Outcome {
    let listing = ask.api.node.list(COLLECTION, "", None, LIST_MAX);
    let clock = ask.clock_with(&listing.token);
    let declared = listing.items.iter().map(|(id, _)| id.as_str());
    let collections: BTreeSet<&str> = declared.chain(builtins().keys().map(String::as_str)).collect();
    let items: Vec<_> = collections.into_iter().map(|collection| described(&ask, collection)).collect();
    Ok(answer(StatusCode::OK, &clock, &json!({ "items": items, "clock": clock.to_string() })))
}

async fn read(ask: Ask) -> Outcome {
    check_collection(ask.collection())?;
    let seen = ask.api.node.read(&Address::new(COLLECTION, ask.collection())?).token;
    let clock = ask.clock_with(&seen);
    let mut schema = described(&ask, ask.collection());
    schema.insert("clock".into(), clock.to_string().into());
    Ok(answer(StatusCode::OK, &clock, &Value::Object(schema)))
}

fn described(ask: &Ask, collection: &str) -> Map<String, Value> {
    let (schema, origin) = ask.api.node.schema(collection);
    let mut members = match schema.to_json() {
        Value::Object(members) => members,
        other => [("fields".to_owned(), other)].into_iter().collect(),
    };
    members.insert("collection".into(), collection.into());
    members.insert("origin".into(), json!(origin));
    members
}

async fn put(ask: Ask) -> Outcome {
    check_collection(ask.collection())?;
    if FIXED.contains(&ask.collection()) {
        let detail =
            format!("the types of `{}` are fixed, because every node reads it: declare others", ask.collection());
        return Err(Problem::new(Kind::BadSchema, detail));
    }
    let schema = parse(ask.received()?)?;
    let (if_match, create_only) = condition::of_write(&ask.headers)?;
    let body = WriteBody::Put([(DEFINITION.to_owned(), schema.to_json())].into_iter().collect());
    let address = Address::new(COLLECTION, ask.collection())?;
    let write = DocumentWrite { address, body, if_match, create_only, missing: Missing::Create };
    Ok(commit(ask, vec![write]).await?)
}

/// Text that does not parse is a 400; text that parses to no schema is a 422. Both name the line.
fn parse(received: &Received) -> Result<Schema, Problem> {
    let text = received.text()?;
    let schema = if received.media == JSON {
        received.json::<serde::de::IgnoredAny>()?;
        Schema::from_json(text)
    } else {
        if let Err(error) = toml::from_str::<toml::Table>(text) {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let detail = format!("the body is no TOML, at line {line}: {}", error.message());
            return Err(Problem::new(Kind::BadJson, detail).with("line", line));
        }
        Schema::parse(text)
    };
    let schema = schema.map_err(|error| refused(&error))?;
    check_expressions(&schema, text)?;
    Ok(schema)
}

/// An expression that does not parse is named with the line of the schema on which it begins.
fn check_expressions(schema: &Schema, text: &str) -> Result<(), Problem> {
    Judge::check(schema).map_err(|bad| {
        let begin = bad.text.lines().next().unwrap_or_default();
        let line = text.lines().position(|line| line.contains(begin)).map_or(1, |line| line + 1);
        refused(&SchemaError { line, column: 1, cause: bad.to_string() })
    })
}

fn refused(error: &SchemaError) -> Problem {
    let detail = format!("the schema is not valid, at {error}");
    Problem::new(Kind::BadSchema, detail).with("line", error.line).with("column", error.column)
}

/// A schema written as a plain document must still be a schema: every node reads it.
pub(super) fn guard(write: &DocumentWrite) -> Result<(), Problem> {
    let address = &write.address;
    let refuse = |what: String| Problem::new(Kind::DoesNotFit, what);
    if address.collection() == crate::engine::member::COLLECTION {
        return Err(refuse(format!(
            "{address} is written by its node alone; POST /v1/leave there takes it out of the cluster"
        )));
    }
    if address.collection() != COLLECTION {
        return Ok(());
    }
    if check_collection(address.id()).is_err() || FIXED.contains(&address.id()) {
        return Err(refuse(format!(
            "{address} is no schema: its id must be the collection it is for, and not one whose types are fixed"
        )));
    }
    match &write.body {
        WriteBody::Delete => Ok(()),
        WriteBody::Put(fields) => {
            let Some(definition) = fields.get(DEFINITION).filter(|_| fields.len() == 1) else {
                return Err(refuse(format!(
                    "{address} takes the one field `{DEFINITION}`: use PUT /v1/schemas/{}",
                    address.id()
                )));
            };
            let text = definition.to_string();
            let schema = Schema::from_json(&text).map_err(|error| refused(&error))?;
            check_expressions(&schema, &text)
        }
        _ => Err(refuse(format!("{address} is replaced as a whole: use PUT /v1/schemas/{}", address.id()))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    const TOML: [(&str, &str); 1] = [("content-type", "application/toml")];

    #[tokio::test]
    async fn a_schema_is_declared_in_either_notation_and_read_back_with_its_origin() {
        let server = Server::start().await;
        assert_eq!(server.get("/v1/schemas/crates").await.value()["origin"], "inferred");
        let definition = json!({"fields": {"restarts": {"type": "pncounter"}}});
        assert_eq!(server.json("PUT", "/v1/schemas/crates", definition).await.status, 200);
        let read = server.get("/v1/schemas/crates").await.value();
        assert_eq!((&read["origin"], &read["fields"]["restarts"]["type"]), (&json!("declared"), &json!("pncounter")));
        let text = b"[fields.power]\ntype = \"contested\"\n";
        assert_eq!(server.ask("PUT", "/v1/schemas/boxes", &TOML, text).await.status, 200);
        let list = server.get("/v1/schemas").await.value();
        let items = list["items"].as_array().unwrap();
        let origin =
            |name: &str| items.iter().find(|item| item["collection"] == name).map(|item| item["origin"].clone());
        assert_eq!((origin("crates"), origin("boxes")), (Some(json!("declared")), Some(json!("declared"))));
        assert!(origin("workers").is_some() && items.len() >= builtins().len());
    }

    #[tokio::test]
    async fn a_schema_that_is_none_is_refused_with_its_line() {
        let server = Server::start().await;
        let json = async |body: &str| {
            server.ask("PUT", "/v1/schemas/crates", &[("content-type", JSON)], body.as_bytes()).await
        };
        assert!(json("{\n\"fields\": }").await.problem("bad-json").contains("line 2"));
        assert!(json("{\"fields\":{\"a\":{\"type\":\"nonsense\"}}}").await.problem("bad-schema").contains("line"));
        let broken = server.ask("PUT", "/v1/schemas/crates", &TOML, b"[fields.a]\ntype = \n").await;
        assert!(broken.problem("bad-json").contains("line 2"));
        server.ask("PUT", "/v1/schemas/crates", &TOML, b"\xff").await.problem("bad-json");
        server.ask("PUT", "/v1/schemas/crates", &[], b"{}").await.problem("media-type");
        server.json("PUT", "/v1/schemas/VMS", json!({"fields": {}})).await.problem("bad-name");
        server.json("PUT", "/v1/schemas/members", json!({"fields": {}})).await.problem("bad-schema");
        assert_eq!(server.get("/v1/schemas/crates").await.value()["origin"], "inferred");
    }

    #[tokio::test]
    async fn a_schema_cannot_be_broken_by_writing_its_document() {
        let server = Server::start().await;
        let put = async |id: &str, body: Value| server.json("PUT", &format!("/v1/docs/schemas/{id}"), body).await;
        put("vms", json!({"x": 1})).await.problem("does-not-fit");
        put("vms", json!({"definition": {"fields": {"a": {"type": "nonsense"}}}})).await.problem("bad-schema");
        put("a/b", json!({"definition": {"fields": {}}})).await.problem("does-not-fit");
        let merge = server.json("PATCH", "/v1/docs/schemas/vms?upsert=true", json!({"definition": 1})).await;
        merge.problem("does-not-fit");
        let batch = json!({"writes": [{"op": "put", "collection": "schemas", "id": "vms", "fields": {}}]});
        assert!(server.json("POST", "/v1/batch", batch).await.problem("does-not-fit").starts_with("write 0: "));
        let whole = put("vms", json!({"definition": {"fields": {"a": {"type": "lww"}}}})).await;
        assert_eq!(whole.status, 200, "an export can be imported again");
        assert_eq!(server.ask("DELETE", "/v1/docs/schemas/vms", &[], b"").await.status, 200);
    }
}
