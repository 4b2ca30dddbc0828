//! `/v1/locks`, `/v1/voters` and `/v1/ballots`: what takes a quorum.

use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::owned;
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use crate::engine::ballot::AskError;
use crate::engine::ballot::lock::RequestId;
use crate::node::{Grant, Lock, LockError, LockStatus};

/// Longest wait of one request, ms: well under the time a request may take.
pub(super) const WAIT_MS_MAX: u64 = 30_000;
const PATH: &str = "/v1/locks/{*id}";
const PROBLEMS: &[Kind] = &[Kind::NoQuorum, Kind::Undecided, Kind::TooNew, Kind::BadParameter];

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::POST,
        path: PATH,
        id: "acquireLock",
        says: "Gets a lock for a lease, waiting in its queue for at most `wait_ms`. Hand the token to what the lock protects, \
               and have it refuse a token below the highest it has seen: the lease alone makes nothing safe.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "LockRequest")],
        gives: (JSON, "LockGrant"),
        session: false,
        problems: &[Kind::NoQuorum, Kind::Undecided, Kind::TooNew, Kind::BadParameter, Kind::Held, Kind::Busy],
        handler: |ask| Box::pin(acquire(ask)),
    },
    Operation {
        method: Method::PUT,
        path: PATH,
        id: "renewLock",
        says: "The lease of whoever holds the lock under this token begins anew.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "LockToken")],
        gives: (JSON, "LockGrant"),
        session: false,
        problems: &[Kind::NoQuorum, Kind::Undecided, Kind::TooNew, Kind::BadParameter, Kind::NotHolder],
        handler: |ask| Box::pin(renew(ask)),
    },
    Operation {
        method: Method::DELETE,
        path: PATH,
        id: "releaseLock",
        says: "Gives the lock back, to whoever waits for it. Asked again, it comes to the same.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "LockToken")],
        gives: (JSON, "LockReleased"),
        session: false,
        problems: &[Kind::NoQuorum, Kind::Undecided, Kind::TooNew, Kind::BadParameter, Kind::NotHolder],
        handler: |ask| Box::pin(release(ask)),
    },
    Operation {
        method: Method::GET,
        path: PATH,
        id: "readLock",
        says: "What a quorum knows of a lock. One that nobody ever held has the token 0.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Lock"),
        session: false,
        problems: PROBLEMS,
        handler: |ask| Box::pin(read(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/locks",
        id: "listLocks",
        says: "The locks that somebody holds, as this node accepted them as a voter, in order of their names. Nobody else is \
               asked: one that is no voter lists none, and one that was away may be behind.",
        parameters: &[&AFTER, &LIMIT],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Locks"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/voters",
        id: "readVoters",
        says: "Whose word counts, as this node knows it.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Voters"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(voters(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/voters/recover",
        id: "recoverVoters",
        says: "Gives a majority of the voters up for lost: from now on this node decides alone, until others become voters. If \
               the others are not lost, both sides decide.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "VotersVersion")],
        gives: (JSON, "Voters"),
        session: false,
        problems: &[Kind::NotLost],
        handler: |ask| Box::pin(recover(ask)),
    },
    Operation {
        method: Method::GET,
        path: "/v1/ballots",
        id: "readBallots",
        says: "What came of the ballots that this node held since its start.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Ballots"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(ballots(ask)),
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let (text, integer) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    json!({
        "LockRequest": {
            "type": "object",
            "required": ["holder", "lease_ms"],
            "additionalProperties": false,
            "properties": {
                "holder": { "type": "string", "description": "Who it is, for people." },
                "lease_ms": { "type": "integer", "minimum": 100, "maximum": 86_400_000 },
                "wait_ms": { "type": "integer", "minimum": 0, "maximum": WAIT_MS_MAX, "default": 0 },
                "request": { "type": "string", "description": "32 hex digits drawn by the caller: asked again with the same, it comes to the same grant." },
            },
        },
        "LockToken": { "type": "object", "required": ["token"], "additionalProperties": false, "properties": { "token": integer } },
        "LockGrant": {
            "type": "object",
            "required": ["token", "holder", "expires_in_ms"],
            "properties": {
                "token": { "type": "integer", "description": "Grows whenever the holder changes, and never shrinks." },
                "holder": text, "name": text,
                "expires_in_ms": { "type": "integer", "description": "Counted from before it was asked for." },
            },
        },
        "LockReleased": { "type": "object", "properties": { "released": { "const": true }, "name": text } },
        "Lock": {
            "type": "object",
            "required": ["name", "token", "holder", "waiting"],
            "properties": {
                "name": text, "token": integer, "holder": { "type": ["string", "null"] },
                "lease_ms": { "type": ["integer", "null"] }, "waiting": { "type": "array", "items": text },
            },
        },
        "Locks": {
            "type": "object",
            "required": ["items", "next", "is_voter"],
            "properties": {
                "items": { "type": "array", "items": { "$ref": "#/components/schemas/Lock" } },
                "next": { "type": ["string", "null"] }, "is_voter": { "type": "boolean" },
            },
        },
        "Voters": {
            "type": "object",
            "required": ["version", "voters", "changing"],
            "properties": {
                "version": { "type": "integer", "description": "0: this node has not met its cluster." },
                "voters": { "type": "array", "items": text, "description": "Node ids." },
                "changing": { "type": "boolean" }, "is_voter": { "type": "boolean" },
                "quorum": { "type": "boolean", "description": "Whether this node reaches enough of them." },
            },
        },
        "VotersVersion": {
            "type": "object",
            "required": ["version"],
            "additionalProperties": false,
            "properties": { "version": { "type": "integer", "description": "Of the voters, as `GET /v1/voters` showed them." } },
        },
        "Ballots": {
            "type": "object",
            "properties": { "decided": integer, "no_quorum": integer, "unknown": integer, "refused": integer, "overtaken": integer },
        },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    holder: String,
    lease_ms: u64,
    #[serde(default)]
    wait_ms: u64,
    request: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    token: u64,
}

fn lock(ask: &Ask) -> Result<Lock, Problem> {
    owned::guard_lock(ask.name())?;
    Ok(ask.api.node.lock(ask.name()))
}

async fn acquire(mut ask: Ask) -> Outcome {
    let Request { holder, lease_ms, wait_ms, request } = ask.json()?;
    if wait_ms > WAIT_MS_MAX {
        let detail =
            format!("`wait_ms` is at most {WAIT_MS_MAX}: ask again with the same `request` to wait for longer");
        return Err(Problem::new(Kind::BadParameter, detail));
    }
    let (lease, wait) = (Duration::from_millis(lease_ms), Duration::from_millis(wait_ms));
    // Waiting is no work.
    ask.working.take();
    let lock = lock(&ask)?;
    let grant = match request {
        None => lock.acquire(&holder, lease, wait).await?,
        Some(text) => lock.acquire_as(request_id(&text)?, &holder, lease, wait).await?,
    };
    Ok(answer(StatusCode::OK, &ask.clock, &granted(&grant)))
}

fn request_id(text: &str) -> Result<RequestId, Problem> {
    let id = Some(text).filter(|text| text.len() == 32).and_then(|text| u128::from_str_radix(text, 16).ok());
    id.map(RequestId).ok_or_else(|| Problem::new(Kind::BadParameter, "`request` is 32 hex digits, drawn at random"))
}

fn granted(grant: &Grant) -> Value {
    let left = grant.expires.saturating_duration_since(Instant::now());
    json!({ "token": grant.token, "holder": grant.holder, "name": grant.name, "expires_in_ms": left.as_millis() as u64 })
}

async fn renew(ask: Ask) -> Outcome {
    let Token { token } = ask.json()?;
    Ok(answer(StatusCode::OK, &ask.clock, &granted(&lock(&ask)?.renew(token).await?)))
}

async fn release(ask: Ask) -> Outcome {
    let Token { token } = ask.json()?;
    lock(&ask)?.release(token).await?;
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "released": true, "name": ask.name() })))
}

async fn read(ask: Ask) -> Outcome {
    let status: LockStatus = ask.api.node.lock(ask.name()).read().await?;
    Ok(answer(StatusCode::OK, &ask.clock, &json!(status)))
}

async fn list(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let (items, next) = ask.api.node.locks_held(ask.params.after(), limit);
    let is_voter = ask.api.node.voters().is_voter;
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "items": items, "next": next, "is_voter": is_voter })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VotersVersion {
    version: u64,
}

async fn recover(ask: Ask) -> Outcome {
    let VotersVersion { version } = ask.json()?;
    let recovered = ask.api.node.recover_voters(version);
    recovered.map_err(|error| Problem::new(Kind::NotLost, format!("{error}; nothing was changed")))?;
    voters(ask).await
}

async fn voters(ask: Ask) -> Outcome {
    let status = ask.api.node.voters();
    let nodes: Vec<String> =
        status.voters.iter().flat_map(|voters| &voters.set).map(|voter| voter.node.to_string()).collect();
    let body = json!({
        "version": status.voters.as_ref().map_or(0, |voters| voters.version),
        "voters": nodes,
        "changing": status.voters.as_ref().is_some_and(|voters| voters.next.is_some()),
        "is_voter": status.is_voter,
        "quorum": status.has_quorum,
    });
    Ok(answer(StatusCode::OK, &ask.clock, &body))
}

async fn ballots(ask: Ask) -> Outcome {
    let tally = ask.api.node.voters().tally;
    let body = json!({
        "decided": tally.decided, "no_quorum": tally.no_quorum, "unknown": tally.unknown, "refused": tally.refused,
        "overtaken": tally.lost,
    });
    Ok(answer(StatusCode::OK, &ask.clock, &body))
}

impl From<LockError> for Problem {
    fn from(error: LockError) -> Self {
        let said = error.to_string();
        match error {
            LockError::Held { holder, token } => {
                let advice = "ask with `wait_ms` to stand in the queue";
                Self::new(Kind::Held, format!("{said}; {advice}")).with("holder", holder).with("token", token)
            }
            LockError::NotHolder { now, .. } => Self::new(Kind::NotHolder, said).with("token", now),
            LockError::Full => Self::new(Kind::Busy, said),
            LockError::Invalid(_) => Self::new(Kind::BadParameter, said),
            LockError::Ask(error) => error.into(),
        }
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let kind = match error {
            AskError::NoQuorum { .. } | AskError::NoVoters => Kind::NoQuorum,
            AskError::Unknown => Kind::Undecided,
            AskError::Busy => Kind::Busy,
            AskError::Unreadable => Kind::TooNew,
        };
        let problem = Self::new(kind, error.to_string());
        match error {
            AskError::NoQuorum { reached, voters } => problem.with("reached", reached).with("voters", voters),
            _ => problem,
        }
    }
}
