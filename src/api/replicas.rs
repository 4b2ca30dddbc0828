//! `/v1/replicas`: the incarnations of nodes that ever wrote, and how a quorum fences one.

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use crate::engine::fence::FenceState;
use crate::node::FenceError;

const DECIDES: &[Kind] = &[
    Kind::NotFound,
    Kind::BadParameter,
    Kind::BadFence,
    Kind::WrongState,
    Kind::Held,
    Kind::NoQuorum,
    Kind::Undecided,
    Kind::TooNew,
    Kind::Busy,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];

static OF: Parameter = Parameter {
    name: "of",
    takes: Takes::Text { bytes_max: 256 },
    says: "Only those of this node, by its id, or by the name of the member.",
};
static BY: Parameter =
    Parameter { name: "by", takes: Takes::Text { bytes_max: 128 }, says: "Who does it, for the record." };
/// Of the words that say why, bytes.
const REASON_BYTES_MAX: usize = 1_024;

/// What most of them have in common.
const OPERATION: Operation = Operation {
    method: Method::POST,
    path: "/v1/replicas/{id}/fence",
    id: "",
    says: "",
    parameters: &[&BY],
    headers: &[],
    accepts: &[(JSON, "FenceReason")],
    gives: (JSON, "Replica"),
    session: true,
    problems: DECIDES,
    handler: |ask| Box::pin(fence(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/replicas",
        id: "listReplicas",
        says: "The replicas that this node ever heard of, in order of their ids: one for each start of a node.",
        parameters: &[&OF, &AFTER, &LIMIT],
        accepts: &[],
        gives: (JSON, "Replicas"),
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::GET,
        path: "/v1/replicas/{id}",
        id: "readReplica",
        says: "A replica, by its id or the beginning of it: how far this node took it in, and what is kept aside of it.",
        parameters: &[],
        accepts: &[],
        problems: &[Kind::NotFound],
        handler: |ask| Box::pin(read(ask)),
        ..OPERATION
    },
    Operation {
        id: "fenceReplica",
        says: "What the replica wrote after `seq` is kept aside at every node that hears of this, until it is released or \
               discarded. Without a seq: after all that this node took in.",
        accepts: &[(JSON, "NewFence")],
        ..OPERATION
    },
    Operation {
        path: "/v1/replicas/{id}/release",
        id: "releaseReplica",
        says: "What was kept aside is taken in, and the replica goes on.",
        handler: |ask| Box::pin(release(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/replicas/{id}/discard",
        id: "discardReplica",
        says: "What was kept aside is gone for good. The node of the replica sets its store aside at its next start, and takes \
               over what the others have.",
        handler: |ask| Box::pin(discard(ask)),
        ..OPERATION
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let (text, integer) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let reason = json!({ "type": "string", "maxLength": REASON_BYTES_MAX, "description": "Why, for the record." });
    let fence = json!({ "type": "object", "required": ["replica", "seq", "state", "by", "at_ms"], "properties": {
        "replica": text, "version": integer, "seq": { "type": "integer", "description": "The last of its ops that is let in." },
        "state": { "enum": ["fenced", "released", "discarded"] }, "by": text, "reason": text, "at_ms": integer,
    } });
    json!({
        "NewFence": { "type": "object", "properties": { "seq": integer, "reason": reason } },
        "FenceReason": { "type": "object", "properties": { "reason": reason } },
        "Replica": { "type": "object", "required": ["id", "node", "name", "seq", "aside"], "properties": {
            "id": { "type": "string", "description": "Of the incarnation: 32 hex digits." },
            "node": text, "name": { "type": "string", "description": "Of the member; empty if it is none." },
            "seq": { "type": "integer", "description": "The last of its ops that this node took in." },
            "fence": fence,
            "told": { "type": "integer", "description": "While it is fenced: the last of its ops that its node told to have." },
            "aside": { "type": "object", "description": "What is kept aside of it here.", "properties": {
                "batches": integer, "bytes": integer,
                "dropped": { "type": "integer", "description": "Batches that there was no room for since the start." },
            } },
        } },
        "Replicas": { "type": "object", "required": ["items", "next"], "properties": {
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Replica" } },
            "next": { "type": ["string", "null"] },
        } },
    })
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct NewFence {
    #[serde(default)]
    seq: Option<u64>,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[serde(default)]
    reason: String,
}

async fn list(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let (items, next) = ask.api.node.replicas().list(ask.params.text(&OF), ask.params.after(), limit);
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next })))
}

async fn read(ask: Ask) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(ask.api.node.replicas().get(ask.name())?)))
}

async fn fence(ask: Ask) -> Outcome {
    let NewFence { seq, reason } = ask.received()?.json_or_default()?;
    decide(ask, FenceState::Fenced, seq, reason).await
}

async fn release(ask: Ask) -> Outcome {
    let Reason { reason } = ask.received()?.json_or_default()?;
    decide(ask, FenceState::Released, None, reason).await
}

async fn discard(ask: Ask) -> Outcome {
    let Reason { reason } = ask.received()?.json_or_default()?;
    decide(ask, FenceState::Discarded, None, reason).await
}

async fn decide(mut ask: Ask, state: FenceState, seq: Option<u64>, reason: String) -> Outcome {
    let by = super::conflicts::by(ask.params.text(&BY).map(str::to_owned).as_ref())?.to_owned();
    if reason.len() > REASON_BYTES_MAX {
        let detail = format!("`reason` takes at most {REASON_BYTES_MAX} bytes; nothing was changed");
        return Err(Problem::new(Kind::BadFence, detail));
    }
    // Voters are waited for; others may work meanwhile.
    ask.working = None;
    let (replicas, id) = (ask.api.node.replicas(), ask.name());
    let decided = match state {
        FenceState::Fenced => replicas.fence(id, seq, &by, &reason).await?,
        FenceState::Released => replicas.release(id, &by, &reason).await?,
        FenceState::Discarded => replicas.discard(id, &by, &reason).await?,
    };
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(decided)))
}

impl From<FenceError> for Problem {
    fn from(error: FenceError) -> Self {
        let said = error.to_string();
        match error {
            FenceError::NoSuchReplica(_) => Self::new(Kind::NotFound, format!("{said}: GET /v1/replicas lists them")),
            FenceError::Ambiguous { .. } | FenceError::Seq(_) => Self::new(Kind::BadFence, said),
            FenceError::Itself | FenceError::State { .. } | FenceError::Changed => Self::new(Kind::WrongState, said),
            FenceError::Address(error) => error.into(),
            FenceError::Decide(error) => error.into(),
            FenceError::Write(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[tokio::test]
    async fn replicas_are_listed_and_no_node_fences_itself() {
        let server = Server::start().await;
        let listed = server.get("/v1/replicas").await.value();
        let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!((id.len(), &listed["next"]), (32, &json!(null)));
        assert_eq!(server.get(&format!("/v1/replicas/{}", &id[..8])).await.value()["id"], id.as_str());
        assert_eq!(server.get("/v1/replicas?of=nobody").await.value()["items"], json!([]));
        server.get("/v1/replicas/zz").await.problem("not-found");
        for (verb, body) in
            [("fence", json!({ "seq": 1, "reason": "odd" })), ("release", json!({})), ("discard", json!({}))]
        {
            let refused = server.json("POST", &format!("/v1/replicas/{id}/{verb}"), body).await;
            assert!(refused.problem("wrong-state").contains("Ask another node"), "{verb}");
        }
        server.ask("POST", &format!("/v1/replicas/{id}/fence"), &[], b"").await.problem("wrong-state");
        server.json("POST", &format!("/v1/replicas/{id}/fence"), json!({ "seqs": 1 })).await.problem("bad-json");
        let long = json!({ "reason": "x".repeat(REASON_BYTES_MAX + 1) });
        server.json("POST", &format!("/v1/replicas/{id}/fence"), long).await.problem("bad-fence");
    }
}
