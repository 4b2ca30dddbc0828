//! `POST /v1/batch`: several writes, all or none.

use axum::http::Method;

use super::docs::{DURABILITY, JSON, UPSERT, commit};
use super::operation::{Ask, Operation, Outcome};
use super::problem::{Kind, Problem};
use super::{advisor, owned, policies, schemas, wire};
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
        Kind::Frozen,
        Kind::DoesNotFit,
        Kind::BadSchema,
        Kind::BadPolicy,
        Kind::BadModel,
    ],
    handler: |ask| Box::pin(write(ask)),
}];

async fn write(ask: Ask) -> Outcome {
    let batch: wire::Batch = ask.json()?;
    let upsert = ask.params.flag(&UPSERT);
    let writes: Vec<_> = batch.writes.0.into_iter().map(|write| write.write(upsert)).collect();
    if writes.is_empty() {
        return Err(Problem::new(Kind::BadJson, "the batch holds no writes: give at least one"));
    }
    for (index, write) in writes.iter().enumerate() {
        schemas::guard(write).map_err(|problem| problem.at(index))?;
        policies::guard(&ask.api.node, write).map_err(|problem| problem.at(index))?;
        advisor::guard(write).map_err(|problem| problem.at(index))?;
        owned::guard(write).map_err(|problem| problem.at(index))?;
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
        | WriteError::Frozen { index, .. }
        | WriteError::Plan { index, .. }
        | WriteError::Patch { index, .. } => Some(*index),
        WriteError::TooLarge { .. }
        | WriteError::StorageFull { .. }
        | WriteError::Storage { .. }
        | WriteError::Busy { .. }
        | WriteError::NotReplicated { .. }
        | WriteError::Decide(_)
        | WriteError::Clock(_)
        | WriteError::Fenced(_)
        | WriteError::ShuttingDown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_batch_is_written_as_a_whole() {
        let server = Server::start().await;
        let writes = json!({"writes": [
            {"op": "put", "collection": "vms", "id": "a", "fields": {"n": 1}},
            {"op": "patch", "collection": "vms", "id": "a", "ops": [{"field": "seen", "incr": 2}]},
            {"op": "patch", "collection": "vms", "id": "b", "fields": {"x": true}, "upsert": true},
        ]});
        let answer = server.json("POST", "/v1/batch?durability=memory", writes).await;
        assert_eq!((answer.status, &answer.value()["durability"]), (200, &json!("memory")));
        assert_eq!(server.get("/v1/docs/vms/a").await.value()["fields"], json!({"n": 1, "seen": 2}));
        assert_eq!(server.get("/v1/docs/vms/b").await.value()["fields"], json!({"x": true}));
    }

    #[tokio::test]
    async fn a_batch_with_one_bad_write_writes_nothing_and_names_it() {
        let server = Server::start().await;
        let good = json!({"op": "put", "collection": "vms", "id": "a", "fields": {"n": 1}});
        let post = async |bad: Value| server.json("POST", "/v1/batch", json!({"writes": [good, bad]})).await;
        let missing = post(json!({"op": "delete", "collection": "vms", "id": "gone"})).await;
        assert!(missing.problem("not-found").starts_with("write 1: "));
        assert_eq!(missing.value()["index"], 1);
        let unfit =
            post(json!({"op": "patch", "collection": "vms", "id": "a", "ops": [{"field": "n", "add": 1}]})).await;
        assert!(unfit.problem("does-not-fit").contains("`n`"));
        let stale = post(json!({"op": "put", "collection": "vms", "id": "a", "fields": {}, "if_match": "\"x\""})).await;
        assert_eq!((stale.problem("precondition-failed").is_empty(), &stale.value()["index"]), (false, &json!(1)));
        for bad in [
            json!({"op": "put", "collection": "vms", "id": "b"}),
            json!({"op": "put", "collection": "vms", "id": "b", "fields": {}, "ops": []}),
            json!({"op": "delete", "collection": "vms", "id": "b", "fields": {}}),
            json!({"op": "move", "collection": "vms", "id": "b"}),
            json!({"op": "put", "collection": "vms", "id": "", "fields": {}}),
            json!({"op": "put", "collection": "vms", "id": "b", "fields": {}, "extra": 1}),
            json!(7),
        ] {
            assert!(post(bad.clone()).await.problem("bad-json").contains("item 1: "), "{bad}");
        }
        server.get("/v1/docs/vms/a").await.problem("not-found");
    }

    #[tokio::test]
    async fn a_batch_takes_a_thousand_writes_and_no_more() {
        let server = Server::start().await;
        let batch = |len: usize| {
            let writes: Vec<_> = (0..len)
                .map(|i| json!({"op": "put", "collection": "vms", "id": format!("{i}"), "fields": {"i": i}}))
                .collect();
            json!({ "writes": writes })
        };
        assert!(server.json("POST", "/v1/batch", batch(1_001)).await.problem("bad-json").contains("more than 1000"));
        server.get("/v1/docs/vms/0").await.problem("not-found");
        assert_eq!(server.json("POST", "/v1/batch", batch(1_000)).await.status, 200);
        assert!(server.json("POST", "/v1/batch", batch(0)).await.problem("bad-json").contains("at least one"));
    }
}
