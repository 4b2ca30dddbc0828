//! The one list of operations, and the router made from it.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodFilter, on};

use super::operation::Operation;
use super::problem::{Kind, Problem};
use super::serve::Api;
use super::{
    advisor, agents, audit, batch, capacity, cluster, conflicts, docs, gate, health, knowledge, locks, openapi,
    partitions, policies, queues, replicas, schemas, tasks, vms, watch, workers,
};

/// Every operation of the API.
pub(super) fn operations() -> impl Iterator<Item = &'static Operation> {
    [
        docs::OPERATIONS,
        batch::OPERATIONS,
        watch::OPERATIONS,
        schemas::OPERATIONS,
        conflicts::OPERATIONS,
        policies::OPERATIONS,
        audit::OPERATIONS,
        advisor::OPERATIONS,
        knowledge::OPERATIONS,
        locks::OPERATIONS,
        vms::OPERATIONS,
        tasks::OPERATIONS,
        queues::OPERATIONS,
        workers::OPERATIONS,
        agents::OPERATIONS,
        partitions::OPERATIONS,
        replicas::OPERATIONS,
        capacity::OPERATIONS,
        cluster::OPERATIONS,
        health::OPERATIONS,
        openapi::OPERATIONS,
    ]
    .into_iter()
    .flatten()
}

pub(super) fn router(api: Api) -> Router {
    let mut router = Router::new();
    for operation in operations() {
        let Ok(filter) = MethodFilter::try_from(operation.method.clone()) else { continue };
        let handler = move |State(api): State<Api>, request: Request| operation.serve(api, request);
        router = router.route(operation.path, on(filter, handler));
    }
    router
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(no_such_path)
        .layer(from_fn_with_state(api.clone(), gate::gate))
        .with_state(api)
}

async fn method_not_allowed(request: Request) -> Response {
    let method: String = request.method().as_str().chars().take(40).collect();
    let detail = format!("this path does not take {method}: the Allow header lists what it takes");
    Problem::new(Kind::MethodNotAllowed, detail).render(request.uri().path())
}

async fn no_such_path(request: Request) -> Response {
    let detail = "there is nothing here: /openapi.json lists every path";
    Problem::new(Kind::NoSuchPath, detail).render(request.uri().path())
}
