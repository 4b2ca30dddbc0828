//! `/v1/vms`: virtual machines, each run by one worker at a time.

use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::locks::WAIT_MS_MAX;
use super::operation::{Ask, Operation, Outcome, answer};
use super::page::{AFTER, LIMIT};
use super::problem::{Kind, Problem};
use crate::domain::vms::{Vm, VmError, VmSpec};
use crate::node::{Grant, Receipt, VmsError};

const PATH: &str = "/v1/vms/{id}";
const RUN: &str = "/v1/vms/{id}/run";
const WRITES: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadVm,
    Kind::Frozen,
    Kind::DoesNotFit,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];
const DECIDES: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadVm,
    Kind::BadParameter,
    Kind::Held,
    Kind::NotHolder,
    Kind::NoQuorum,
    Kind::Undecided,
    Kind::TooNew,
    Kind::Busy,
    Kind::Frozen,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
];
/// Where a worker has a capacity, the VM has to find room there.
const RUNS: &[Kind] = &[
    Kind::NotFound,
    Kind::BadName,
    Kind::BadVm,
    Kind::BadParameter,
    Kind::BadCapacity,
    Kind::NoRoom,
    Kind::Held,
    Kind::NotHolder,
    Kind::NoQuorum,
    Kind::Undecided,
    Kind::TooNew,
    Kind::Busy,
    Kind::Frozen,
    Kind::BodyTooLarge,
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
    gives: (JSON, "Vm"),
    session: true,
    problems: &[],
    handler: |ask| Box::pin(read(ask)),
};

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/vms",
        id: "listVms",
        says: "The VMs, in order of their ids.",
        parameters: &[&AFTER, &LIMIT],
        gives: (JSON, "Vms"),
        handler: |ask| Box::pin(list(ask)),
        ..OPERATION
    },
    Operation {
        id: "readVm",
        says: "A VM: who runs it, as a quorum decided; who says to run it; and what else is known of it.",
        problems: &[Kind::NotFound, Kind::BadName],
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        id: "createVm",
        says: "A new VM, which nobody runs yet.",
        accepts: &[(JSON, "VmSpec")],
        gives: (JSON, "Receipt"),
        problems: &[
            Kind::BadName,
            Kind::BadVm,
            Kind::PreconditionFailed,
            Kind::DoesNotFit,
            Kind::Storage,
            Kind::StorageFull,
            Kind::ClockSkew,
            Kind::Fenced,
            Kind::ShuttingDown,
        ],
        handler: |ask| Box::pin(create(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: RUN,
        id: "runVm",
        says: "Has a quorum decide that this worker runs the VM, for a lease, waiting for at most `wait_ms` while another does. \
               Start the VM once this is answered; stop it before the lease ends unless it was renewed. Hand the token to what \
               the VM writes to, and have it refuse a lower one.",
        accepts: &[(JSON, "VmRunRequest")],
        gives: (JSON, "VmRun"),
        problems: RUNS,
        handler: |ask| Box::pin(run(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::PUT,
        path: RUN,
        id: "renewVm",
        says: "The lease of whoever runs the VM under this token begins anew.",
        accepts: &[(JSON, "LockToken")],
        gives: (JSON, "VmRun"),
        problems: DECIDES,
        handler: |ask| Box::pin(renew(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::DELETE,
        path: RUN,
        id: "stopVm",
        says: "The worker has stopped the VM: another may run it. Without a quorum that cannot be told to anybody, and the lease \
               runs out by itself: `released` is false then.",
        accepts: &[(JSON, "VmStopRequest")],
        gives: (JSON, "VmStopped"),
        problems: DECIDES,
        handler: |ask| Box::pin(stop(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/vms/{id}/migrate",
        id: "migrateVm",
        says: "Whoever runs the VM has a quorum note where it goes. Once it is stopped here, the other runs it.",
        accepts: &[(JSON, "VmMigration")],
        gives: (JSON, "VmMigrates"),
        problems: DECIDES,
        handler: |ask| Box::pin(migrate(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/vms/{id}/disks",
        id: "growVmDisk",
        says: "Makes a disk, or makes it larger. A disk never shrinks.",
        accepts: &[(JSON, "VmDisk")],
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(grow(ask)),
        ..OPERATION
    },
    Operation {
        method: Method::POST,
        path: "/v1/vms/{id}/snapshots",
        id: "snapshotVm",
        says: "Adds a snapshot, or hides one: with `hidden` it is listed no more, and its name is not given again.",
        accepts: &[(JSON, "VmSnapshot")],
        gives: (JSON, "Receipt"),
        problems: WRITES,
        handler: |ask| Box::pin(snapshot(ask)),
        ..OPERATION
    },
];

/// What the operations above take and give.
pub(super) fn schemas() -> Value {
    let (text, integer) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let texts = json!({ "type": "array", "items": text });
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties });
    let disks = json!({ "type": "object", "additionalProperties": integer, "description": "MiB by the disk's id." });
    let network = json!({ "type": "object", "description": "By interface." });
    json!({
        "VmSpec": object(&["cpus", "memory_mb"], json!({ "cpus": integer, "memory_mb": integer, "disks": disks, "network": network })),
        "VmRunRequest": object(&["worker", "lease_ms"], json!({
            "worker": text, "lease_ms": { "type": "integer", "minimum": 100, "maximum": 86_400_000 },
            "wait_ms": { "type": "integer", "minimum": 0, "maximum": WAIT_MS_MAX, "default": 0 },
        })),
        "VmRun": { "type": "object", "required": ["token", "worker", "expires_in_ms"], "properties": {
            "token": { "type": "integer", "description": "Grows whenever another worker runs it, and never shrinks." },
            "worker": text, "expires_in_ms": integer,
        } },
        "VmStopRequest": object(&["worker", "token"], json!({ "worker": text, "token": integer })),
        "VmStopped": { "type": "object", "required": ["released"], "properties": {
            "released": { "type": "boolean" }, "cause": { "type": "string", "description": "Why it was not." },
        } },
        "VmMigration": object(&["token", "to"], json!({ "token": integer, "to": text })),
        "VmMigrates": { "type": "object", "properties": { "from": text, "to": text } },
        "VmDisk": object(&["disk", "size_mb"], json!({ "disk": text, "size_mb": integer })),
        "VmSnapshot": object(&["name"], json!({ "name": text, "hidden": { "type": "boolean", "default": false } })),
        "Vm": { "type": "object", "required": ["id", "power", "host", "running_on", "split"], "properties": {
            "id": text, "power": { "enum": ["running", "paused", "stopped"] },
            "host": { "type": ["string", "null"], "description": "Who runs it, as a quorum decided." },
            "migration": { "type": ["object", "null"] }, "size": { "type": ["object", "null"] }, "disks": disks,
            "network": network, "snapshots": texts, "hidden_snapshots": texts, "restarts": integer,
            "running_on": { "type": "array", "items": text, "description": "The workers that say to run it." },
            "split": { "type": "boolean", "description": "More than one says so." },
            "stale": { "type": "array", "items": text, "description": "What may be otherwise by now: this node reaches no quorum." },
        } },
        "Vms": { "type": "object", "required": ["items", "next"], "properties": {
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Vm" } }, "next": { "type": ["string", "null"] },
        } },
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunRequest {
    worker: String,
    lease_ms: u64,
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenOnly {
    token: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopRequest {
    worker: String,
    token: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MigrateRequest {
    token: u64,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disk {
    disk: String,
    size_mb: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    name: String,
    #[serde(default)]
    hidden: bool,
}

fn shown(vm: &Vm) -> Value {
    let mut json = json!(vm);
    json["split"] = vm.is_split().into();
    json
}

async fn list(ask: Ask) -> Outcome {
    let limit = ask.params.limit();
    let (vms, next) = ask.api.node.vms().list(ask.params.after(), limit);
    let items: Vec<Value> = vms.iter().map(shown).collect();
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!({ "items": items, "next": next })))
}

async fn read(ask: Ask) -> Outcome {
    Ok(answer(StatusCode::OK, &ask.clock_now(), &shown(&ask.api.node.vms().get(ask.name())?)))
}

async fn create(ask: Ask) -> Outcome {
    let spec: VmSpec = ask.json()?;
    let receipt = ask.api.node.vms().create(ask.name(), &spec).await?;
    written(&ask, &receipt)
}

fn written(ask: &Ask, receipt: &Receipt) -> Outcome {
    let clock = ask.clock_with(&receipt.token);
    Ok(answer(StatusCode::OK, &clock, &super::wire::receipt(receipt, &clock)))
}

async fn run(mut ask: Ask) -> Outcome {
    let RunRequest { worker, lease_ms, wait_ms } = ask.json()?;
    if wait_ms > WAIT_MS_MAX {
        return Err(Problem::new(
            Kind::BadParameter,
            format!("`wait_ms` is at most {WAIT_MS_MAX}: ask again to wait for longer"),
        ));
    }
    // Waiting is no work.
    ask.working = None;
    let (lease, wait) = (Duration::from_millis(lease_ms), Duration::from_millis(wait_ms));
    let run = ask.api.node.vms().run(ask.name(), &worker, lease, wait).await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &granted(&run.grant)))
}

fn granted(grant: &Grant) -> Value {
    let left = grant.expires.saturating_duration_since(Instant::now());
    json!({ "token": grant.token, "worker": grant.holder, "expires_in_ms": left.as_millis() as u64 })
}

async fn renew(mut ask: Ask) -> Outcome {
    let TokenOnly { token } = ask.json()?;
    ask.working = None;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &granted(&ask.api.node.vms().renew(ask.name(), token).await?)))
}

async fn stop(mut ask: Ask) -> Outcome {
    let StopRequest { worker, token } = ask.json()?;
    ask.working = None;
    let stopped = ask.api.node.vms().stop(ask.name(), &worker, token).await?;
    let body = match stopped.unreleased {
        None => json!({ "released": true }),
        Some(cause) => json!({ "released": false, "cause": cause.to_string() }),
    };
    Ok(answer(StatusCode::OK, &ask.clock_now(), &body))
}

async fn migrate(mut ask: Ask) -> Outcome {
    let MigrateRequest { token, to } = ask.json()?;
    ask.working = None;
    let migration = ask.api.node.vms().migrate(ask.name(), token, &to).await?;
    Ok(answer(StatusCode::OK, &ask.clock_now(), &json!(migration)))
}

async fn grow(ask: Ask) -> Outcome {
    let Disk { disk, size_mb } = ask.json()?;
    let receipt = ask.api.node.vms().grow_disk(ask.name(), &disk, size_mb).await?;
    written(&ask, &receipt)
}

async fn snapshot(ask: Ask) -> Outcome {
    let Snapshot { name, hidden } = ask.json()?;
    let vms = ask.api.node.vms();
    let receipt = match hidden {
        false => vms.snapshot(ask.name(), &name).await?,
        true => vms.hide_snapshot(ask.name(), &name).await?,
    };
    written(&ask, &receipt)
}

impl From<VmError> for Problem {
    fn from(error: VmError) -> Self {
        Self::new(Kind::BadVm, format!("{error}; nothing was changed"))
    }
}

impl From<VmsError> for Problem {
    fn from(error: VmsError) -> Self {
        let said = error.to_string();
        match error {
            VmsError::NotFound(_) => Self::new(Kind::NotFound, format!("{said}: POST /v1/vms/{{id}} makes one")),
            VmsError::Exists(_) => Self::new(Kind::PreconditionFailed, format!("{said}: take another id")),
            VmsError::Runs { worker, token, .. } => {
                let advice = "ask with `wait_ms` to wait until it is free, or its lease ran out";
                Self::new(Kind::Held, format!("{said}; {advice}")).with("holder", worker).with("token", token)
            }
            VmsError::Vm(error) => error.into(),
            VmsError::Address(error) => error.into(),
            VmsError::Decide(error) => error.into(),
            VmsError::Lock(error) => error.into(),
            VmsError::Write(error) => error.into(),
            VmsError::Capacity(error) => error.into(),
        }
    }
}
