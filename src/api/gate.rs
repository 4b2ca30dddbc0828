//! The gate every request passes, also one that no operation takes: is it meant for this API, is its head of a sane
//! size; and on the way out, is it counted, does it carry a clock, did the handler live.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;

use super::operation::with_clock;
use super::problem::{Kind, Problem};
use super::routes::operations;
use super::serve::Api;
use crate::node::Token;

/// An id is at most 512 bytes, three times that when encoded; the rest is for parameters.
const URL_BYTES_MAX: usize = 8 << 10;
const HEADERS_BYTES_MAX: usize = 32 << 10;

pub(super) async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
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
    api.metrics.on_request(route, method, response.status().as_u16(), started.elapsed());
    with_clock(response, &Token::default())
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
