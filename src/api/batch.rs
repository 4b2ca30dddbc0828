//! `POST /v1/batch`: several writes, all or none.

use axum::http::Method;

use super::docs::{DURABILITY, JSON, UPSERT, commit};
use super::operation::{Ask, Operation, Outcome};
use super::problem::{Kind, Problem};
use super::{schemas, wire};
use crate::node::WriteError;

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    method: Method::POST,
    path: "/v1/batch",
    id: "writeBatch",
    says: "Writes up to 1,000 documents, all or none: another reader sees the whole of it or nothing. A problem names the \
           `index` of the write it is about.",
    parameters: &[&DURABILITY, &UPSERT],
    headers: &[],
    accepts: &[(JSON, "Batch")],
    gives: (JSON, "Receipt"),
    session: true,
    problems: &[
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
    handler: |ask| Box::pin(write(ask)),
}];

async fn write(mut ask: Ask) -> Outcome {
    let batch: wire::Batch = ask.receive().await?.json()?;
    let upsert = ask.params.flag(&UPSERT);
    let writes: Vec<_> = batch.writes.0.into_iter().map(|write| write.write(upsert)).collect();
    if writes.is_empty() {
        return Err(Problem::new(Kind::BadJson, "the batch holds no writes: give at least one"));
    }
    for (index, write) in writes.iter().enumerate() {
        schemas::guard(write).map_err(|problem| problem.at(index))?;
    }
    commit(ask, writes).await.map_err(|error| match index_of(&error) {
        Some(index) => Problem::from(error).at(index),
        None => error.into(),
    })
}

/// The write an error is about, when it is about one.
fn index_of(error: &WriteError) -> Option<usize> {
    match error {
        WriteError::NotFound { index, .. }
        | WriteError::Precondition { index, .. }
        | WriteError::Plan { index, .. }
        | WriteError::Patch { index, .. } => Some(*index),
        WriteError::TooLarge { .. }
        | WriteError::StorageFull { .. }
        | WriteError::Storage { .. }
        | WriteError::Busy { .. }
        | WriteError::NotReplicated { .. }
        | WriteError::Clock(_)
        | WriteError::ShuttingDown => None,
    }
}
