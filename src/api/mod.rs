//! Floor 9: one node over HTTP.
//!
//! Each file of resources ([`docs`], [`batch`], [`watch`], [`schemas`], [`conflicts`], [`policies`], [`advisor`], [`knowledge`], [`cluster`], [`health`]) lists its operations as
//! data: method, path, parameters, media types, problems, handler. The router, the check of query parameters and
//! `/openapi.json` are all made from that one list ([`routes`]), so they cannot disagree.
//!
//! A request's way: [`connection`] (a bounded number, idle ones closed) → [`gate`] (is it meant for this API, is there
//! room) → [`operation`] (parameters, the session's clock) → the handler. Errors are [`Problem`]s at every step.
//!
//! Nothing here decides what a write means: that is the node's. Start with [`docs`].

mod advisor;
mod agents;
mod audit;
mod batch;
mod body;
mod capacity;
mod cluster;
mod condition;
mod conflicts;
mod connection;
mod docs;
mod gate;
mod health;
mod host;
mod knowledge;
mod locks;
mod openapi;
mod operation;
mod owned;
mod page;
mod partitions;
mod policies;
mod problem;
mod query;
mod queues;
mod replicas;
mod routes;
mod schemas;
mod serve;
mod tasks;
mod vms;
mod watch;
mod wire;
mod workers;

#[cfg(test)]
mod malformed;
#[cfg(test)]
mod server;

/// Reads bytes as each kind of body there is.
#[cfg(any(test, feature = "mutants"))]
pub fn read_any_body(bytes: &[u8]) {
    let _ = serde_json::from_slice::<wire::Batch>(bytes);
    let _ = serde_json::from_slice::<Vec<wire::Op>>(bytes);
    let _ = serde_json::from_slice::<json_patch::Patch>(bytes);
    let _ = std::str::from_utf8(bytes).map(crate::document::Schema::from_json);
}

/// The edits that a patch's operations say, read as the API reads them.
pub fn edits_of(operations: Vec<serde_json::Value>) -> Result<Vec<crate::document::Edit>, serde_json::Error> {
    operations.into_iter().map(|operation| serde_json::from_value(operation).map(|wire::Op(edit)| edit)).collect()
}

pub use problem::{Kind, Problem};
pub use serve::{ApiSettings, BindError, bind, serve};
