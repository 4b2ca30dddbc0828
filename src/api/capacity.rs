//! `/v1/capacity`: what workers may be given, and what is placed on them.

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use crate::clock::ReplicaId;
use crate::domain::capacity::{Amounts, Capacity, CapacityError};
use crate::node::{EscrowError, Released};

const PATH: &str = "/v1/capacity/{name}";
const PLACEMENT: &str = "/v1/capacity/{name}/placements/{*id}";
const PROBLEMS: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadCapacity,
    Kind::BadParameter,
    Kind::NoRoom,
    Kind::Held,
    Kind::NoQuorum,
    Kind::Undecided,
    Kind::TooNew,
    Kind::Busy,
    Kind::BodyTooLarge,
    Kind::DoesNotFit,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];

/// What all of them have in common.
const OPERATION: Operation = Operation {
    method: Method::GET,
    path: PATH,
    id: "",
    says: "",
    parameters: &[],
    headers: &[],
    accepts: &[],
    gives: (JSON, "Capacity"),
    session: true,
    problems: PROBLEMS,
    handler: |ask| Box::pin(read(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/capacity",
        id: "listCapacity",
        says: "The workers that have limits, in order of their names.",
        parameters: &[&AFTER, &LIMIT],
        gives: (JSON, "Capacities"),
        problems: &[],
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation {
        id: "readCapacity",
        says: "A worker: its limits, who holds the right to how much, what counts as placed there, and what is void: it counts \
               for nothing, and is not to be started.",
        problems: &[Kind::NotFound, Kind::BadName, Kind::TooNew],
        ..OPERATION
    },
    Operation {
        method: Method::PUT,
        id: "setCapacity",
        says: "Has a quorum decide how much a worker has, by resource. What is allotted already has to fit.",
        accepts: &[(JSON, "Amounts")],
        handler: |ask| Box::pin(set(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::PUT,
        path: PLACEMENT,
        id: "place",
        says: "Places a thing on the worker, or gives it another size. Within the right that this node holds nobody is asked; \
               else a quorum is, for more of a right. It is on this node's disk once this is answered.",
        accepts: &[(JSON, "Amounts")],
        gives: (JSON, "Placement"),
        handler: |ask| Box::pin(place(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::DELETE,
        path: PLACEMENT,
        id: "releasePlacement",
        says: "Gives a thing's room back: at once if this node placed it; else whoever did, or a quorum, is asked. Asked again, it \
               comes to the same.",
        gives: (JSON, "Released"),
        handler: |ask| Box::pin(release(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/capacity/{name}/give-back",
        id: "giveBackCapacity",
        says: "This node gives back what it holds the right to and does not use.",
        gives: (JSON, "GivenBack"),
        handler: |ask| Box::pin(give_back(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/capacity/{name}/reclaim",
        id: "reclaimCapacity",
        says: "Has a quorum take back the right of a replica that is gone. What it had placed, as far as this node knows, stays; \
               whatever else it placed or still places is void.",
        accepts: &[(JSON, "CapacityReclaim")],
        gives: (JSON, "Reclaimed"),
        problems: &[
            Kind::NotFound,
            Kind::BadName,
            Kind::BadCapacity,
            Kind::BadParameter,
            Kind::NotLost,
            Kind::Held,
            Kind::NoQuorum,
            Kind::Undecided,
            Kind::TooNew,
            Kind::Busy,
            Kind::BodyTooLarge,
            Kind::ShuttingDown,
        ],
        handler: |ask| Box::pin(reclaim(ask)),
        ..OPERATION
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let named = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    let placements = json!({ "type": "array", "items": named("Placement") });
    json!({
        "Amounts": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 0 },
            "description": "By resource, such as memory_mb and cpus." },
        "Placement": { "type": "object", "required": ["thing", "amounts", "by", "settled"], "properties": {
            "thing": text, "amounts": named("Amounts"),
            "by": { "type": "string", "description": "The replica that placed it." },
            "settled": { "type": "boolean", "description": "That replica is gone: only a quorum releases it." },
        } },
        "Capacity": { "type": "object", "required": ["worker", "limits", "free", "used", "rights", "placements", "void", "stale"],
            "properties": {
                "worker": text, "limits": named("Amounts"),
                "free": { "allOf": [named("Amounts")], "description": "What a quorum has left to give." },
                "used": named("Amounts"),
                "rights": { "type": "object", "additionalProperties": named("Amounts"), "description": "By replica." },
                "placements": placements,
                "void": { "allOf": [placements], "description": "Placed by a replica that was reclaimed meanwhile." },
                "stale": { "type": "boolean", "description": "This node reaches no quorum: limits and rights may be others by now." },
            } },
        "Capacities": { "type": "object", "required": ["items", "next"], "properties": {
            "items": { "type": "array", "items": named("Capacity") }, "next": { "type": ["string", "null"] },
        } },
        "Released": { "type": "object", "required": ["released"], "properties": {
            "released": { "enum": ["freed", "asked", "nothing"] },
        } },
        "GivenBack": { "type": "object", "required": ["given"], "properties": { "given": named("Amounts") } },
        "CapacityReclaim": { "type": "object", "required": ["replica"], "additionalProperties": false,
            "properties": { "replica": text } },
        "Reclaimed": { "type": "object", "required": ["settled", "freed"], "properties": {
            "settled": { "type": "array", "items": text, "description": "The things that stay." }, "freed": named("Amounts"),
        } },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reclaim {
    replica: String,
}

fn shown(capacity: &Capacity) -> Value {
    let (counts, void) = capacity.placements();
    let rights = capacity.escrow.rights.iter().map(|(replica, right)| (replica.clone(), json!(right.amounts)));
    json!({
        "worker": capacity.worker, "limits": capacity.escrow.limits, "free": capacity.escrow.free(),
        "used": capacity.used(), "rights": rights.collect::<serde_json::Map<_, _>>(),
        "placements": counts, "void": void, "stale": capacity.stale,
    })
}

async fn list(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let (read, next) = ask.api.node.capacity().list(ask.params.after(), limit);
    let items: Vec<Value> = read.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next })))
}

async fn read(ask: Ask) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock_now(), &shown(&ask.api.node.capacity().read(ask.name())?)))
}

async fn set(mut ask: Ask) -> Outcome {
    let limits: Amounts = ask.json()?;
    // Waiting for a quorum is no work.
    ask.working = None;
    let capacity = ask.api.node.capacity();
    capacity.set_limits(ask.name(), &limits).await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &shown(&capacity.read(ask.name())?)))
}

async fn place(mut ask: Ask) -> Outcome {
    let amounts: Amounts = ask.json()?;
    ask.working = None;
    let placed = ask.api.node.capacity().place(ask.name(), ask.second_name(), &amounts).await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(placed)))
}

async fn release(mut ask: Ask) -> Outcome {
    ask.working = None;
    let released = match ask.api.node.capacity().release(ask.name(), ask.second_name()).await? {
        Released::Freed => "freed",
        Released::Asked => "asked",
        Released::Nothing => "nothing",
    };
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "released": released })))
}

async fn give_back(mut ask: Ask) -> Outcome {
    ask.working = None;
    let given = ask.api.node.capacity().give_back(ask.name()).await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "given": given })))
}

async fn reclaim(mut ask: Ask) -> Outcome {
    let Reclaim { replica } = ask.json()?;
    let gone: ReplicaId = replica.parse().map_err(|error: crate::clock::id::ParseIdError| {
        Problem::new(Kind::BadCapacity, format!("{error}: GET {PATH} lists those that hold a right"))
    })?;
    ask.working = None;
    let reclaimed = ask.api.node.capacity().reclaim(ask.name(), gone).await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "settled": reclaimed.settled, "freed": reclaimed.freed })))
}

impl From<CapacityError> for Problem {
    fn from(error: CapacityError) -> Self {
        let said = format!("{error}; nothing was changed");
        match error {
            CapacityError::NoRoom { resource, needed, free, others } => {
                let problem = Self::new(Kind::NoRoom, said).with("resource", resource).with("needed", needed);
                problem.with("free", free).with("others", others)
            }
            CapacityError::TooLow { resource, .. } => Self::new(Kind::NoRoom, said).with("resource", resource),
            CapacityError::NoRight(_) => Self::new(Kind::NotFound, said),
            CapacityError::Unreadable => Self::new(Kind::TooNew, said),
            CapacityError::Name { .. }
            | CapacityError::Resources
            | CapacityError::TooMuch(_)
            | CapacityError::Nothing
            | CapacityError::NoSuchResource(_)
            | CapacityError::TooMany { .. } => Self::new(Kind::BadCapacity, said),
        }
    }
}

impl From<EscrowError> for Problem {
    fn from(error: EscrowError) -> Self {
        let said = error.to_string();
        match error {
            EscrowError::NoWorker(_) => {
                Self::new(Kind::NotFound, format!("{said}: PUT /v1/capacity/{{worker}} sets its limits"))
            }
            EscrowError::NotGone(_) => Self::new(Kind::NotLost, said),
            EscrowError::Contended(_) | EscrowError::TooManyWorkers => Self::new(Kind::Busy, said),
            EscrowError::Capacity(error) => error.into(),
            EscrowError::Address(error) => error.into(),
            EscrowError::Decide(error) => error.into(),
            EscrowError::Write(error) => error.into(),
        }
    }
}
