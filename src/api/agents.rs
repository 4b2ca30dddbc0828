//! `/v1/tasks/{id}/agents` and `/v1/tasks/{id}/messages`: those that work on one task, and what they tell each other.

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::LIMIT;
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use crate::domain::agents::{AgentChange, AgentError, Letter, Message};
use crate::node::{Agents, AgentsError, Inbox, Receipt, Token};

const PATH: &str = "/v1/tasks/{id}/agents/{agent}";
const MESSAGES: &str = "/v1/tasks/{id}/agents/{agent}/messages";
const WRITES: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadAgent,
    Kind::Busy,
    Kind::Frozen,
    Kind::DoesNotFit,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];

static SINCE: Parameter = Parameter {
    name: "since",
    takes: Takes::Text { bytes_max: 8 << 10 },
    says: "Go on after what was read: the `next` of the answer before, from whatever node. It misses nothing that a split \
           brings late.",
};
static FORGET: Parameter =
    Parameter { name: "forget", takes: Takes::Flag, says: "Takes the agent away altogether, with what it said." };

/// What all of them have in common.
const OPERATION: Operation = Operation {
    method: Method::GET,
    path: PATH,
    id: "",
    says: "",
    parameters: &[],
    headers: &[],
    accepts: &[],
    gives: (JSON, "Receipt"),
    session: true,
    problems: WRITES,
    handler: |ask| Box::pin(read(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/tasks/{id}/agents",
        id: "listAgents",
        says: "The agents of a task, in order of their names; those that left, too.",
        gives: (JSON, "Agents"),
        problems: &[Kind::BadName],
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation {
        id: "readAgent",
        says: "An agent of a task: what it says of itself, and whether it is there by this node's clock.",
        gives: (JSON, "Agent"),
        problems: &[Kind::NotFound, Kind::BadName, Kind::BadAgent],
        ..OPERATION
    },
    Operation {
        method: Method::PUT,
        id: "joinAgent",
        says: "An agent joins a task, or comes back. Whatever it writes says that it is there; it has to write something, or \
               PATCH nothing, within its time to live, 15 s.",
        accepts: &[(JSON, "AgentRole")],
        handler: |ask| Box::pin(join(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::PATCH,
        id: "changeAgent",
        says: "What an agent says of itself. What is not named stays; nothing at all only says that it is there.",
        accepts: &[(JSON, "AgentChange")],
        handler: |ask| Box::pin(change(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::DELETE,
        id: "leaveAgent",
        says: "An agent leaves the task. What it said stays, unless it is forgotten.",
        parameters: &[&FORGET],
        handler: |ask| Box::pin(leave(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: MESSAGES,
        id: "sendMessage",
        says: "The agent tells another, or all of the task, something. With an `id` of its own it may be sent again when no \
               answer came. The last 256 of each agent are kept.",
        accepts: &[(JSON, "Letter")],
        gives: (JSON, "Sent"),
        handler: |ask| Box::pin(send(ask)),
        ..OPERATION
    },
    Operation {
        path: MESSAGES,
        id: "readInbox",
        says: "What was sent to the agent, or by others to all, in the order that all nodes have.",
        parameters: &[&SINCE, &LIMIT],
        gives: (JSON, "Messages"),
        problems: &[Kind::BadName, Kind::BadAgent],
        handler: |ask| Box::pin(inbox(ask)),
        ..OPERATION
    },
    Operation {
        path: "/v1/tasks/{id}/messages",
        id: "listMessages",
        says: "Every message of a task, in the order that all nodes have.",
        parameters: &[&SINCE, &LIMIT],
        gives: (JSON, "Messages"),
        problems: &[Kind::BadName],
        handler: |ask| Box::pin(messages(ask)),
        ..OPERATION
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let maybe = json!({ "type": ["string", "null"] });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties });
    let to = json!({ "type": ["string", "null"], "description": "Null: all agents of the task." });
    json!({
        "AgentRole": object(&[], json!({ "role": maybe })),
        "AgentChange": object(&[], json!({
            "role": maybe, "state": maybe, "data": { "type": "object", "description": "By key; null takes one away." },
        })),
        "Letter": object(&["body"], json!({ "to": to, "body": {}, "id": maybe })),
        "Sent": { "type": "object", "required": ["id", "receipt"], "properties": {
            "id": text, "receipt": { "$ref": "#/components/schemas/Receipt" },
        } },
        "Agent": { "type": "object", "required": ["task", "agent", "alive"], "properties": {
            "task": text, "agent": text, "role": maybe, "state": maybe, "data": { "type": "object" },
            "alive": { "type": "boolean", "description": "It has not left, and its heartbeat has not run out by this node's clock." },
            "heartbeat_ms": { "type": ["integer", "null"] },
        } },
        "Agents": { "type": "object", "required": ["items"], "properties": {
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Agent" } },
        } },
        "Messages": { "type": "object", "required": ["items", "next", "more"], "properties": {
            "items": { "type": "array", "items": {
                "type": "object", "required": ["id", "from", "to", "body", "at_ms"],
                "properties": { "id": text, "from": text, "to": to, "body": {}, "at_ms": { "type": "integer" } },
            } },
            "next": { "type": "string", "description": "Send it as `since` to go on." },
            "more": { "type": "boolean", "description": "There is more already." },
        } },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    #[serde(default)]
    role: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    #[serde(default)]
    to: Option<String>,
    body: Value,
    #[serde(default)]
    id: Option<String>,
}

/// The agents of the task that the path names.
fn agents(ask: &Ask) -> Agents {
    ask.api.node.agents(ask.name())
}

async fn list(ask: Ask) -> Outcome {
    let items = agents(&ask).list()?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items })))
}

async fn read(ask: Ask) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(agents(&ask).get(ask.second_name())?)))
}

async fn join(ask: Ask) -> Outcome {
    let Role { role } = ask.json()?;
    let receipt = agents(&ask).join(ask.second_name(), role.as_deref()).await?;
    written(&ask, &receipt)
}

async fn change(ask: Ask) -> Outcome {
    let change: AgentChange = ask.json()?;
    let receipt = agents(&ask).change(ask.second_name(), &change).await?;
    written(&ask, &receipt)
}

async fn leave(ask: Ask) -> Outcome {
    let agents = agents(&ask);
    let receipt = match ask.params.flag(&FORGET) {
        true => agents.forget(ask.second_name()).await?,
        false => agents.leave(ask.second_name()).await?,
    };
    written(&ask, &receipt)
}

async fn send(ask: Ask) -> Outcome {
    let Posted { to, body, id } = ask.json()?;
    let (id, receipt) = agents(&ask).send(ask.second_name(), &Letter { to, body }, id.as_deref()).await?;
    let clock = ask.clock_with(&receipt.token);
    let receipt = super::wire::receipt(&receipt, &clock);
    Ok(answer(StatusCode::OK, &clock, &json!({ "id": id, "receipt": receipt })))
}

async fn inbox(ask: Ask) -> Outcome {
    let (since, limit) = place(&ask)?;
    let inbox = agents(&ask).inbox(ask.second_name(), &since, limit);
    Ok(answer(StatusCode::OK, &ask.clock_now(), &shown(&inbox)))
}

async fn messages(ask: Ask) -> Outcome {
    let (since, limit) = place(&ask)?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &shown(&agents(&ask).messages(&since, limit))))
}

fn place(ask: &Ask) -> Result<(Token, usize), Problem> {
    let since = ask.params.text(&SINCE).unwrap_or_default().parse().map_err(|_| {
        let detail =
            "`since` is no place among messages: send the `next` of the answer before as it came, or leave it out";
        Problem::new(Kind::BadParameter, detail).with("parameter", SINCE.name)
    })?;
    Ok((since, ask.params.limit()))
}

fn shown(inbox: &Inbox) -> Value {
    let message = |message: &Message| json!({ "id": message.id, "from": message.from, "to": message.to, "body": message.body, "at_ms": message.at.ms() });
    let items: Vec<Value> = inbox.messages.iter().map(message).collect();
    json!({ "items": items, "next": inbox.next.to_string(), "more": inbox.more })
}

fn written(ask: &Ask, receipt: &Receipt) -> Outcome {
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &super::wire::receipt(receipt, &clock)))
}

impl From<AgentError> for Problem {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Address(error) => error.into(),
            error => Self::new(Kind::BadAgent, format!("{error}; nothing was changed")),
        }
    }
}

impl From<AgentsError> for Problem {
    fn from(error: AgentsError) -> Self {
        let said = error.to_string();
        match error {
            AgentsError::NotFound { .. } => {
                Self::new(Kind::NotFound, format!("{said}: PUT /v1/tasks/{{id}}/agents/{{agent}} joins it"))
            }
            AgentsError::Contended(_) => Self::new(Kind::Busy, said),
            AgentsError::Agent(error) => error.into(),
            AgentsError::Write(error) => error.into(),
        }
    }
}
