//! `/v1/advisor`: what was learned from the cluster's own decisions, and what it says about a conflict. The model is the
//! document `advisor/model`, whose field `definition` holds it: it replicates like any other.

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::conflicts::{by, durability};
use super::docs::{DURABILITY, JSON};
use super::operation::{Ask, Operation, Outcome, answer};
use super::problem::{Kind, Problem};
use super::wire;
use crate::conflict::advisor::Standing;
use crate::engine::schemas::{ADVISOR, ADVISOR_MODEL, DEFINITION};
use crate::node::{AdvisorError, DocumentWrite, ModelStatus, WriteBody};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/advisor",
        id: "readAdvisor",
        says: "Whether the advisor is on, or why it is off; its model, and how good it was on decisions it had not seen.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Advisor"),
        session: true,
        problems: &[],
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/advisor/train",
        id: "trainAdvisor",
        says: "Learns from every decision on conflicts that is kept, and puts the model in force at all nodes. With too few \
               decisions nothing is changed: 422.",
        parameters: &[&DURABILITY],
        headers: &[],
        accepts: &[(JSON, "By")],
        gives: (JSON, "AdvisorTrained"),
        session: true,
        problems: &[Kind::TooFewDecisions, Kind::Busy],
        handler: |ask| Box::pin(train(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/advisor/explain",
        id: "explainAdvice",
        says: "What the advisor says about a conflict of now, what it was told of it, and what spoke for its choice.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "AdvisorQuestion")],
        gives: (JSON, "AdvisorExplanation"),
        session: true,
        problems: &[Kind::AdvisorOff, Kind::NoSuchConflict, Kind::NotSettled],
        handler: |ask| Box::pin(explain(ask)),
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let share = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let rated = json!({
        "type": "object",
        "description": "How good the advice was on decisions that the model did not see.",
        "properties": {
            "coverage": share, "accuracy": { "type": ["number", "null"], "description": "Of the answered; null: nothing was." },
            "decisions": { "type": "integer" }, "answered": { "type": "integer" }, "right": { "type": "integer" },
        },
    });
    json!({
        "Advisor": {
            "type": "object",
            "required": ["on", "decisions", "answers_from"],
            "properties": {
                "on": { "type": "boolean" },
                "why": { "type": "string", "description": "Why it is off." },
                "decisions": { "type": "integer", "description": "Decisions that are kept." },
                "answers_from": share,
                "model": { "$ref": "#/components/schemas/AdvisorModel" },
                "evaluation": rated,
                "since": rated,
            },
        },
        "AdvisorModel": {
            "type": "object",
            "properties": {
                "version": { "type": "integer" }, "trained_ms": { "type": "integer" }, "by": text,
                "decisions": { "type": "integer" }, "learned_from": { "type": "integer" }, "held_out": { "type": "integer" },
                "strategies": { "type": "array", "items": text }, "habits": { "type": "object" },
            },
        },
        "AdvisorTrained": {
            "type": "object",
            "properties": {
                "model": { "$ref": "#/components/schemas/AdvisorModel" }, "receipt": { "$ref": "#/components/schemas/Receipt" },
            },
        },
        "AdvisorQuestion": {
            "type": "object",
            "required": ["conflict"],
            "additionalProperties": false,
            "properties": { "conflict": { "type": "string", "description": "Its id." } },
        },
        "AdvisorExplanation": {
            "type": "object",
            "required": ["advice", "confidence", "version", "explanation", "case"],
            "properties": {
                "advice": { "type": ["string", "null"], "description": "The strategy; null: it abstains." },
                "confidence": share, "abstains": text, "version": { "type": "integer" },
                "explanation": { "type": "object" }, "case": { "type": "object" },
            },
        },
    })
}

async fn read(ask: Ask) -> Outcome {
    let status = ask.api.node.advisor().await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(status)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct By {
    by: Option<String>,
}

async fn train(ask: Ask) -> Outcome {
    let body: By = ask.json()?;
    let trained = ask.api.node.train_advisor(by(body.by.as_ref())?, durability(&ask)).await?;
    let clock = ask.clock_with(&trained.receipt.token);
    let model = ModelStatus::of(&trained.standing);
    let body = json!({ "model": model, "receipt": wire::receipt(&trained.receipt, &clock) });
    Ok(answer(StatusCode::OK, &clock, &body))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    conflict: String,
}

async fn explain(ask: Ask) -> Outcome {
    let Question { conflict } = ask.json()?;
    let explained = match ask.api.node.explain_conflict(&conflict) {
        // Of a conflict that is not there, that is the news, and not that nobody could explain it.
        Err(AdvisorError::Off) if ask.api.node.conflict(&conflict).is_none() => {
            return Err(AdvisorError::NoConflict(conflict).into());
        }
        explained => explained?,
    };
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(explained)))
}

/// A model written as a plain document, as an import does, must still be a model: every node reads it.
pub(super) fn guard(write: &DocumentWrite) -> Result<(), Problem> {
    if write.address.collection() != ADVISOR {
        return Ok(());
    }
    let refuse = |what: String| Problem::new(Kind::BadModel, format!("{} {what}", write.address));
    if write.address.id() != ADVISOR_MODEL {
        return Err(refuse(format!("is no model: the one document of `{ADVISOR}` is {ADVISOR}/{ADVISOR_MODEL}")));
    }
    match &write.body {
        WriteBody::Delete => Ok(()),
        WriteBody::Put(fields) => {
            let definition = fields.get(DEFINITION).filter(|_| fields.len() == 1);
            let definition = definition.ok_or_else(|| refuse(format!("takes the one field `{DEFINITION}`")))?;
            Standing::parse(&definition.to_string())
                .map(drop)
                .map_err(|error| refuse(format!("holds no model: {error}")))
        }
        _ => Err(refuse("is replaced as a whole, by POST /v1/advisor/train".to_owned())),
    }
}

impl From<AdvisorError> for Problem {
    fn from(error: AdvisorError) -> Self {
        let kind = match error {
            AdvisorError::Write(error) => return error.into(),
            AdvisorError::Address(error) => return error.into(),
            AdvisorError::Off => Kind::AdvisorOff,
            AdvisorError::NoConflict(_) => Kind::NoSuchConflict,
            AdvisorError::TooFew(_) => Kind::TooFewDecisions,
            AdvisorError::OfRule(_) => Kind::NotSettled,
            AdvisorError::Large(_) => Kind::BodyTooLarge,
            AdvisorError::Busy => Kind::Busy,
            AdvisorError::Lost => Kind::Internal,
        };
        Problem::new(kind, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[tokio::test]
    async fn without_decisions_it_is_off_and_says_how_many_are_missing() {
        let server = Server::start().await;
        let status = server.get("/v1/advisor").await.value();
        assert_eq!((&status["on"], &status["decisions"]), (&json!(false), &json!(0)), "{status}");
        assert!(status["why"].as_str().unwrap().contains("0 decisions are recorded"), "{status}");
        let train = server.json("POST", "/v1/advisor/train", json!({"by": "ann"})).await;
        assert!(train.problem("too-few-decisions").contains("stays off"));
        let explain = server.json("POST", "/v1/advisor/explain", json!({"conflict": "00"})).await;
        assert!(explain.problem("no-such-conflict").contains("no conflict 00 here"));
    }

    #[tokio::test]
    async fn a_model_cannot_be_broken_by_writing_its_document() {
        let server = Server::start().await;
        let put = async |id: &str, body: Value| server.json("PUT", &format!("/v1/docs/advisor/{id}"), body).await;
        put("other", json!({})).await.problem("bad-model");
        put("model", json!({"x": 1})).await.problem("bad-model");
        assert!(put("model", json!({"definition": {"version": 1}})).await.problem("bad-model").contains("no model"));
        let batch = json!({"writes": [{"op": "put", "collection": "advisor", "id": "model", "fields": {}}]});
        server.json("POST", "/v1/batch", batch).await.problem("bad-model");
    }
}
