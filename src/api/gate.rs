//! The gate every request passes, also one that no operation takes: is it meant for this API, is its head of a sane
//! size; and on the way out, is it counted, does it carry a clock, did the handler live.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;

use super::operation::{clock_of, with_clock};
use super::problem::{Kind, Problem};
use super::routes::operations;
use super::serve::Api;

/// An id is at most 512 bytes, three times that when encoded; the rest is for parameters.
const URL_BYTES_MAX: usize = 8 << 10;
const HEADERS_BYTES_MAX: usize = 32 << 10;

pub(super) async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Also a refusal gives the session its clock back: one that keeps the clock of its last answer must not forget.
    let clock = clock_of(request.headers()).unwrap_or_default();
    let (route, method) = (route_of(&request), method_of(request.method()));
    let instance: String = request.uri().path().chars().take(512).collect();
    let response = match admit(&api, &request) {
        Err(problem) => problem.render(&instance),
        Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(route, method, "a handler panicked; this is a bug");
            let detail = "the handler of this request failed; a write may or may not have happened: report it with \
                          this node's log";
            Problem::new(Kind::Internal, detail).render(&instance)
        }),
    };
    let (status, took) = (response.status().as_u16(), started.elapsed());
    api.metrics.on_request(route, method, status, took);
    tracing::debug!(route, method, status, took_us = took.as_micros() as u64, "answered");
    with_clock(response, &clock)
}

fn admit(api: &Api, request: &Request) -> Result<(), Problem> {
    let url_bytes = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    if url_bytes > URL_BYTES_MAX {
        let detail = format!("the URL is longer than {URL_BYTES_MAX} bytes: an id takes at most 512");
        return Err(Problem::new(Kind::UrlTooLong, detail));
    }
    let headers_bytes: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if headers_bytes > HEADERS_BYTES_MAX {
        let detail = format!("the headers are larger than {HEADERS_BYTES_MAX} bytes: send fewer");
        return Err(Problem::new(Kind::HeadersTooLarge, detail));
    }
    api.hosts.check(request.uri(), request.headers())
}

/// Labels of a metric come from fixed sets, whatever clients send.
fn route_of(request: &Request) -> &'static str {
    let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let operation = matched.and_then(|path| operations().find(|operation| operation.path == path));
    operation.map_or("unmatched", |operation| operation.path)
}

fn method_of(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::super::server::{Server, ask, node};
    use super::super::{ApiSettings, bind};
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn a_foreign_host_or_origin_is_refused_before_anything_happens() {
        let server = Server::start().await;
        let put = async |header: (&str, &str)| server.ask("PUT", "/v1/docs/vms/a", &[header], b"{}").await;
        put(("host", "evil.example")).await.problem("foreign-host");
        put(("origin", "http://evil.example")).await.problem("foreign-origin");
        put(("origin", "null")).await.problem("foreign-origin");
        server.get("/v1/docs/vms/a").await.problem("not-found");
        assert_eq!(put(("origin", &format!("http://{}", server.address))).await.status, 200);
        assert_eq!(put(("host", "localhost")).await.status, 200);
    }

    #[tokio::test]
    async fn unknown_paths_and_wrong_methods_are_problems() {
        let server = Server::start().await;
        for path in ["/", "/v1", "/v2/docs/vms/a", "/v1/docs", "/v1/docs/vms/"] {
            server.get(path).await.problem("no-such-path");
        }
        let wrong = server.json("POST", "/v1/docs/vms/a", json!({})).await;
        wrong.problem("method-not-allowed");
        assert!(wrong.header("allow").contains("PATCH"), "{:?}", wrong.headers);
        server.ask("DELETE", "/v1/batch", &[], b"").await.problem("method-not-allowed");
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let server = Server::start().await;
        server.get(&format!("/v1/docs/vms?prefix={}", "x".repeat(9_000))).await.problem("url-too-long");
        let long = "y".repeat(40_000);
        server.ask("GET", "/healthz", &[("x-long", &long)], b"").await.problem("headers-too-large");
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_answered_for_and_the_next_request_lives() {
        let listener = bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_running, stopping) = tokio::sync::watch::channel(false);
        let api = Api::new(node(false).await, address, &ApiSettings::default(), stopping);
        // Whether it panics is not known before it runs, or the route would have no type.
        let boom = move || async move { assert_eq!(address.port(), 0, "on purpose") };
        let router = axum::Router::new()
            .route("/boom", axum::routing::get(boom))
            .layer(axum::middleware::from_fn_with_state(api, gate));
        tokio::spawn(async move { axum::serve(listener, router).await });
        for _ in 0..2 {
            ask(address, "GET", "/boom", &[], b"").await.problem("internal");
        }
    }

    #[tokio::test]
    async fn every_answer_carries_a_clock_and_none_takes_one_away() {
        let server = Server::start().await;
        let clock = server.json("PUT", "/v1/docs/vms/a", json!({})).await.header("folkmoot-clock").to_owned();
        for (path, status) in [("/nothing", 404), ("/healthz", 200), ("/v1/docs/vms/a", 200), ("/v1/batch", 405)] {
            let answer = server.ask("GET", path, &[("folkmoot-clock", &clock)], b"").await;
            assert_eq!((answer.status, answer.header("folkmoot-clock")), (status, &*clock), "{path}");
        }
        for path in ["/", "/healthz", "/metrics", "/openapi.json", "/v1/peers", "/v1/docs/vms?limit=x"] {
            let answer = server.get(path).await;
            assert!(answer.headers.iter().any(|(name, _)| name == "folkmoot-clock"), "{path}");
        }
    }
}
