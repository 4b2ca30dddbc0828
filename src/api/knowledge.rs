//! `/v1/knowledge`: what agents tell each other, and where it repeats or contradicts itself. An item is the document
//! `knowledge/<id>`; what is found about it is told and never refused.

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::conflicts::durability;
use super::docs::{DURABILITY, JSON};
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use super::wire;
use crate::domain::knowledge::item::NAME_BYTES_MAX;
use crate::domain::knowledge::{Item, Options};
use crate::node::{KnowledgeError, KnowledgeFilter, Similar};

static TYPE: Parameter =
    Parameter { name: "type", takes: Takes::Text { bytes_max: NAME_BYTES_MAX }, says: "Only items of this type." };
static SOURCE: Parameter =
    Parameter { name: "source", takes: Takes::Text { bytes_max: NAME_BYTES_MAX }, says: "Only what this source says." };
static TEXT: Parameter = Parameter {
    name: "text",
    takes: Takes::Text { bytes_max: 1_024 },
    says: "Only items whose content holds all of these words, in any case.",
};
static CLASS: Parameter = Parameter {
    name: "class",
    takes: Takes::OneOf(&["contradiction", "duplicate", "overlap"]),
    says: "Only findings of this class.",
};
static BEFORE: Parameter = Parameter {
    name: "before",
    takes: Takes::Integer { min: 0, max: u64::MAX },
    says: "Go on before this number: the `next` of the page before.",
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::POST,
        path: "/v1/knowledge",
        id: "addKnowledge",
        says: "Adds an item, whatever it repeats or contradicts, and says what that is.",
        parameters: &[&DURABILITY],
        headers: &[],
        accepts: &[(JSON, "KnowledgeItem")],
        gives: (JSON, "KnowledgeAdded"),
        session: true,
        problems: &[Kind::BadItem, Kind::DoesNotFit],
        handler: |ask| Box::pin(add(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/knowledge",
        id: "listKnowledge",
        says: "Items in the order of their ids.",
        parameters: &[&TYPE, &SOURCE, &TEXT, &AFTER, &LIMIT],
        headers: &[],
        accepts: &[],
        gives: (JSON, "KnowledgeListing"),
        session: true,
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/knowledge/similar",
        id: "similarKnowledge",
        says: "What the items of the same type are to one that is kept, or to one that is not: duplicates, contradictions, \
               overlaps.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "KnowledgeQuestion")],
        gives: (JSON, "KnowledgeSimilar"),
        session: true,
        problems: &[Kind::NotFound, Kind::BadItem],
        handler: |ask| Box::pin(similar(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/knowledge/findings",
        id: "listFindings",
        says: "What this node found about items that came or changed since its start, the newest first.",
        parameters: &[&CLASS, &BEFORE, &LIMIT],
        headers: &[],
        accepts: &[],
        gives: (JSON, "KnowledgeFindings"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(findings(ask)),
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let share = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let whole = json!({ "type": "integer" });
    let embedding = json!({ "type": "array", "maxItems": 4096, "items": { "type": "number" } });
    let similar = json!({
        "type": "object",
        "required": ["other", "class", "score"],
        "properties": {
            "other": { "type": "string", "description": "The id of the other item." },
            "class": { "enum": Similar::CLASSES },
            "score": share,
            "shared": { "type": "array", "items": text, "description": "Words both say." },
            "opposed": { "type": "array", "items": text, "description": "What stands against each other." },
            "cosine": { "type": "number", "description": "Of the embeddings, where both have one." },
        },
    });
    let list = json!({ "type": "array", "items": { "$ref": "#/components/schemas/KnowledgeFinding" } });
    json!({
        "KnowledgeItem": {
            "type": "object",
            "required": ["type", "content"],
            "additionalProperties": false,
            "properties": {
                "id": { "type": "string", "description": "Must be new. One that sorts by time is given where it is left out." },
                "type": { "type": "string", "description": "Only items of one type are compared." },
                "content": text, "source": text, "confidence": share, "urgency": whole, "priority": whole,
                "embedding": embedding,
            },
        },
        "KnowledgeFinding": similar,
        "KnowledgeAdded": {
            "type": "object",
            "required": ["id", "findings", "receipt"],
            "properties": { "id": text, "findings": list, "receipt": { "$ref": "#/components/schemas/Receipt" } },
        },
        "KnowledgeListing": {
            "type": "object",
            "required": ["items", "next"],
            "properties": {
                "items": { "type": "array", "items": { "type": "object" } }, "next": { "type": ["string", "null"] },
            },
        },
        "KnowledgeQuestion": {
            "type": "object",
            "additionalProperties": false,
            "description": "The `id` of an item, or `type` and `content` of one that is not kept.",
            "properties": {
                "id": text, "type": text, "content": text, "embedding": embedding,
                "window_ms": { "type": "integer", "description": "Only items said within this time of it." },
                "duplicate": share, "overlap": share, "cosine": share,
            },
        },
        "KnowledgeSimilar": {
            "type": "object",
            "required": ["findings", "index"],
            "properties": { "findings": list, "index": { "$ref": "#/components/schemas/KnowledgeIndex" } },
        },
        "KnowledgeFindings": {
            "type": "object",
            "required": ["items", "next", "index"],
            "properties": {
                "items": { "type": "array", "items": { "allOf": [
                    { "$ref": "#/components/schemas/KnowledgeFinding" },
                    { "type": "object", "properties": { "number": whole, "id": text, "seen_ms": whole } },
                ] } },
                "next": { "type": ["integer", "null"] },
                "index": { "$ref": "#/components/schemas/KnowledgeIndex" },
            },
        },
        "KnowledgeIndex": {
            "type": "object",
            "properties": {
                "items": whole,
                "left_out": { "type": "integer", "description": "Items there was no room to compare." },
                "whole": { "type": "boolean", "description": "False for a moment after a start." },
            },
        },
    })
}

async fn add(ask: Ask) -> Outcome {
    let mut fields: Map<String, Value> = ask.json()?;
    let id = match fields.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err(Problem::new(Kind::BadItem, "`id` must be a text, or be left out")),
    };
    if let Some(unknown) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        let shown: String = unknown.chars().take(80).collect();
        let detail = format!("`{shown}` is no field of an item: it takes id, {}", FIELDS.join(", "));
        return Err(Problem::new(Kind::BadItem, detail).with("field", shown));
    }
    let added = ask.api.node.add_knowledge(id, &Value::Object(fields), durability(&ask)).await?;
    let clock = ask.clock_with(&added.receipt.token);
    let receipt = wire::receipt(&added.receipt, &clock);
    Ok(answer(StatusCode::OK, &clock, &json!({ "id": added.id, "findings": added.findings, "receipt": receipt })))
}

const FIELDS: [&str; 7] = ["type", "content", "source", "confidence", "urgency", "priority", "embedding"];

async fn list(ask: Ask) -> Outcome {
    let text = |parameter| ask.params.text(parameter).map(str::to_owned);
    let filter = KnowledgeFilter { kind: text(&TYPE), source: text(&SOURCE), text: text(&TEXT), after: text(&AFTER) };
    let limit = ask.params.limit();
    let page = ask.api.node.knowledge(filter, limit).await?;
    let item = |(id, mut fields): (String, Map<String, Value>)| {
        fields.insert("id".to_owned(), id.into());
        Value::Object(fields)
    };
    let items: Vec<Value> = page.items.into_iter().map(item).collect();
    Ok(answer(StatusCode::OK, &ask.clock_with(&page.token), &json!({ "items": items, "next": page.next })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    content: Option<String>,
    embedding: Option<Value>,
    window_ms: Option<u64>,
    duplicate: Option<f64>,
    overlap: Option<f64>,
    cosine: Option<f64>,
}

impl Question {
    fn options(&self) -> Result<Options, Problem> {
        let by_default = Options::default();
        let share = |name: &str, given: Option<f64>, default: f64| match given {
            None => Ok(default),
            Some(share) if (0.0..=1.0).contains(&share) => Ok(share),
            Some(_) => Err(Problem::new(Kind::BadJson, format!("`{name}` must be a number from 0 to 1"))),
        };
        Ok(Options {
            duplicate: share("duplicate", self.duplicate, by_default.duplicate)?,
            overlap: share("overlap", self.overlap, by_default.overlap)?,
            cosine: share("cosine", self.cosine, by_default.cosine)?,
            window_ms: self.window_ms.unwrap_or(by_default.window_ms),
            ..by_default
        })
    }
}

async fn similar(ask: Ask) -> Outcome {
    let question: Question = ask.json()?;
    let (node, options) = (&ask.api.node, question.options()?);
    let item = match question {
        Question { id: Some(id), kind: None, content: None, embedding: None, .. } => node.knowledge_item(&id)?,
        Question { id: None, kind: Some(kind), content: Some(content), embedding, .. } => {
            let fields = json!({ "type": kind, "content": content, "embedding": embedding });
            // No item is called so: ids hold no control characters.
            Item::from_json("\u{1}", node.wall_ms(), &fields).map_err(KnowledgeError::from)?
        }
        _ => return Err(Problem::new(Kind::BadJson, "give `id`, or `type` and `content`")),
    };
    let findings = node.similar_knowledge(item, options).await?;
    let body = json!({ "findings": findings, "index": node.knowledge_indexed() });
    Ok(answer(StatusCode::OK, &ask.clock_now(), &body))
}

async fn findings(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let (class, before) = (ask.params.text(&CLASS), ask.params.integer(&BEFORE));
    let mut items = ask.api.node.knowledge_findings(class, before, limit + 1);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| last.number);
    let body = json!({ "items": items, "next": next, "index": ask.api.node.knowledge_indexed() });
    Ok(answer(StatusCode::OK, &ask.clock_now(), &body))
}

impl From<KnowledgeError> for Problem {
    fn from(error: KnowledgeError) -> Self {
        let kind = match error {
            KnowledgeError::Write(error) => return error.into(),
            KnowledgeError::Address(error) => return error.into(),
            KnowledgeError::NotFound(_) => Kind::NotFound,
            KnowledgeError::Invalid(_) => Kind::BadItem,
            KnowledgeError::Lost => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[tokio::test]
    async fn an_item_is_added_listed_compared_and_told_about() {
        let server = Server::start().await;
        let add = async |body: Value| server.json("POST", "/v1/knowledge", body).await;
        let first =
            add(json!({"type": "fact", "content": "The port is 8080", "source": "a", "confidence": 1})).await.value();
        assert_eq!(first["findings"], json!([]));
        let second = add(json!({"id": "second", "type": "fact", "content": "The port is 9090"})).await.value();
        assert_eq!((&second["id"], &second["findings"][0]["class"]), (&json!("second"), &json!("contradiction")));
        assert_eq!(second["findings"][0]["other"], first["id"]);
        let listed = server.get("/v1/knowledge?text=PORT&source=a").await.value();
        assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["id"]), (1, &first["id"]));
        let asked = json!({"type": "fact", "content": "The port is 8080"});
        let similar = server.json("POST", "/v1/knowledge/similar", asked).await.value();
        assert_eq!(similar["findings"].as_array().unwrap().len(), 2, "{similar}");
        let of_item = server.json("POST", "/v1/knowledge/similar", json!({"id": "second"})).await.value();
        assert_eq!(of_item["findings"][0]["other"], first["id"]);
        let findings = server.get("/v1/knowledge/findings?class=contradiction").await.value();
        assert_eq!((&findings["items"][0]["id"], &findings["next"]), (&json!("second"), &Value::Null));
        assert_eq!(findings["index"]["items"], 2);
    }

    #[tokio::test]
    async fn what_is_no_item_is_refused_by_name() {
        let server = Server::start().await;
        let add = async |body: Value| server.json("POST", "/v1/knowledge", body).await;
        let refused = async |body: Value, says: &str| {
            let detail = add(body).await.problem("bad-item");
            assert!(detail.contains(says), "{detail}");
        };
        refused(json!({"type": "fact"}), "`content` is missing").await;
        refused(json!({"type": "fact", "content": "x", "confidence": 2}), "from 0 to 1").await;
        refused(json!({"type": "fact", "content": "x", "confidence": null}), "leave it out").await;
        refused(json!({"type": "fact", "content": "x", "confidence": "NaN"}), "from 0 to 1").await;
        refused(json!({"type": "fact", "content": "x", "colour": "red"}), "`colour` is no field").await;
        refused(json!({"id": 7, "type": "fact", "content": "x"}), "`id` must be a text").await;
        add(json!({"id": "a\n", "type": "fact", "content": "x"})).await.problem("bad-name");
        assert_eq!(add(json!({"id": "a", "type": "fact", "content": "x"})).await.status, 200);
        add(json!({"id": "a", "type": "fact", "content": "y"})).await.problem("precondition-failed");
        let similar = async |body: Value| server.json("POST", "/v1/knowledge/similar", body).await;
        similar(json!({"id": "nobody"})).await.problem("not-found");
        similar(json!({"id": "a", "content": "x"})).await.problem("bad-json");
        similar(json!({"id": "a", "cosine": 7})).await.problem("bad-json");
    }
}
