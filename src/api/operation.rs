//! One operation of the API: what it is called with, what it answers, and the steps every request takes before its
//! handler: parameters, the session's clock, room to work.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{self, Accepted, Received};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Params, Takes, decoded};
use super::serve::Api;
use crate::document::Address;
use crate::node::Token;

/// Carries what a session has seen, in both directions.
pub(super) const CLOCK: HeaderName = HeaderName::from_static("folkmoot-clock");
const CLOCK_BYTES_MAX: usize = 8 << 10;
const WAIT_MS_DEFAULT: u64 = 2_000;
const WAIT_MS_MAX: u64 = 30_000;
/// From the end of the head to the start of the answer: the longest wait, the longest body, and as much again.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Requests at work at once; waiting for a clock does not count.
pub(super) const WORKING_MAX: usize = 256;
const WORK_TIME_MAX: Duration = Duration::from_secs(1);

/// How any write may fail.
const WRITES: &[Kind] = &[
    Kind::PreconditionFailed,
    Kind::BodyTooLarge,
    Kind::Storage,
    Kind::StorageFull,
    Kind::ClockSkew,
    Kind::Fenced,
    Kind::ShuttingDown,
    Kind::NotReplicated,
];

pub(super) static CONSISTENCY: Parameter = Parameter {
    name: "consistency",
    takes: Takes::OneOf(&["session", "local"]),
    says: "`session` (default) waits until this node has what the request's Folkmoot-Clock names; `local` answers with what is here.",
};
pub(super) static WAIT_MS: Parameter = Parameter {
    name: "wait_ms",
    takes: Takes::Integer { min: 0, max: WAIT_MS_MAX },
    says: "How long to wait for the session's clock, in milliseconds (default 2000). Then 503.",
};

pub(super) type Outcome = Result<Response, Problem>;

/// An operation as data. The router, the checks and the API's description are made from it.
pub(super) struct Operation {
    pub method: Method,
    /// In axum's notation; `{*id}` takes the rest of the path.
    pub path: &'static str,
    pub id: &'static str,
    pub says: &'static str,
    pub parameters: &'static [&'static Parameter],
    /// Request headers it heeds, besides the clock.
    pub headers: &'static [(&'static str, &'static str)],
    pub accepts: &'static [Accepted],
    /// Media type and schema of its good answer.
    pub gives: (&'static str, &'static str),
    /// Whether it waits for the session's clock. What operates a node must answer also when it is cut off.
    pub session: bool,
    /// Kinds of problems beyond those every operation has, and those of every write.
    pub problems: &'static [Kind],
    pub handler: fn(Ask) -> BoxFuture<'static, Outcome>,
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A request whose parameters are good and whose session is covered here.
pub(super) struct Ask {
    pub api: Api,
    pub params: Params,
    pub headers: HeaderMap,
    /// What the session had seen when it asked.
    pub clock: Token,
    /// The body, where the operation takes one.
    pub body: Option<Received>,
    /// The request's place among those at work. What waits for others gives it back first.
    pub working: Option<OwnedSemaphorePermit>,
    path: Vec<String>,
}

impl Ask {
    pub fn collection(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// The one piece of a path that names something else than a collection.
    pub fn name(&self) -> &str {
        self.collection()
    }

    /// The second, where there are two.
    pub fn second_name(&self) -> &str {
        self.path.get(1).map_or("", String::as_str)
    }

    pub fn address(&self) -> Result<Address, Problem> {
        let id = self.path.get(1).map_or("", String::as_str);
        Ok(Address::new(self.collection(), id)?)
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.received()?.json()
    }

    pub fn received(&self) -> Result<&Received, Problem> {
        let missing = || Problem::new(Kind::Internal, "this operation takes no body: this is a bug");
        self.body.as_ref().ok_or_else(missing)
    }

    /// The session's clock with all that this node has: what an answer showed of it, and what it did not find.
    pub fn clock_now(&self) -> Token {
        self.clock_with(&self.api.node.token())
    }

    /// The session's clock after an answer that shows `seen`.
    pub fn clock_with(&self, seen: &Token) -> Token {
        let mut clock = self.clock.clone();
        clock.merge(seen);
        self.api.node.compact(&mut clock);
        clock
    }
}

impl Operation {
    pub fn all_parameters(&self) -> Vec<&'static Parameter> {
        let session: &[&'static Parameter] = if self.session { &[&CONSISTENCY, &WAIT_MS] } else { &[] };
        // One that knows more ways to be consistent says so itself.
        let is_said = |parameter: &&&'static Parameter| self.parameters.iter().any(|said| said.name == parameter.name);
        self.parameters.iter().chain(session.iter().filter(|parameter| !is_said(parameter))).copied().collect()
    }

    /// What takes a durability writes, and may fail as every write may.
    pub fn of_writes(&self) -> &'static [Kind] {
        if self.parameters.iter().any(|parameter| matches!(parameter.takes, Takes::Durability)) { WRITES } else { &[] }
    }

    pub async fn serve(&'static self, api: Api, request: Request) -> Response {
        let instance = request.uri().path().to_owned();
        let mut clock = Token::default();
        let run = self.run(api, request, &mut clock);
        let outcome = tokio::time::timeout(REQUEST_TIME_MAX, run).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let detail = format!(
                "no answer within {} s; a write may or may not have happened: read before you repeat it",
                REQUEST_TIME_MAX.as_secs()
            );
            Err(Problem::new(Kind::TimedOut, detail))
        });
        let response = outcome.unwrap_or_else(|problem| {
            if let Some(seen) = problem.token() {
                clock.merge(seen);
            }
            problem.render(&instance)
        });
        with_clock(response, &clock)
    }

    async fn run(&'static self, api: Api, request: Request, clock: &mut Token) -> Outcome {
        let (parts, body) = request.into_parts();
        *clock = clock_of(&parts.headers)?;
        let params = Params::parse(parts.uri.query(), &self.all_parameters())?;
        let path = captured(self.path, parts.uri.path())?;
        if self.session && parts.headers.contains_key(CLOCK) && params.text(&CONSISTENCY) != Some("local") {
            let wait = Duration::from_millis(params.integer(&WAIT_MS).unwrap_or(WAIT_MS_DEFAULT));
            api.node.wait_for(clock, wait).await?;
        }
        let body = match self.accepts {
            [] => None,
            accepts => Some(body::receive(&parts.headers, body, accepts, &api.bodies).await?),
        };
        // Last, so that only work counts, not waiting for a clock or for a slow client.
        let working = Some(working(&api.working).await?);
        (self.handler)(Ask { api, params, headers: parts.headers, clock: clock.clone(), body, working, path }).await
    }
}

/// A JSON answer that moves the session's clock to `clock`.
pub(super) fn answer(status: StatusCode, clock: &Token, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    with_clock(response, clock)
}

/// Names the session's clock in an answer, unless it is named already.
pub(super) fn with_clock(mut response: Response, clock: &Token) -> Response {
    if !response.headers().contains_key(&CLOCK) {
        // A token is printable ASCII by construction.
        if let Ok(value) = HeaderValue::from_str(&clock.to_string()) {
            response.headers_mut().insert(CLOCK, value);
        }
    }
    response
}

/// What the session has seen by its own word; nothing when it sends no clock.
pub(super) fn clock_of(headers: &HeaderMap) -> Result<Token, Problem> {
    let mut values = headers.get_all(&CLOCK).iter();
    let Some(value) = values.next() else { return Ok(Token::default()) };
    let refuse = |what: &str| {
        Problem::new(Kind::BadClock, format!("{what}: send back the Folkmoot-Clock of the last answer as it came"))
    };
    if values.next().is_some() {
        return Err(refuse("the clock is given twice"));
    }
    if value.len() > CLOCK_BYTES_MAX {
        return Err(refuse(&format!("the clock is longer than {CLOCK_BYTES_MAX} bytes")));
    }
    let text = value.to_str().map_err(|_| refuse("the clock holds bytes beyond ASCII"))?;
    // An empty clock has seen nothing.
    if text.is_empty() { Ok(Token::default()) } else { Ok(text.parse()?) }
}

/// The decoded pieces of `path` where `template` has names. The router has already matched the two.
fn captured(template: &str, path: &str) -> Result<Vec<String>, Problem> {
    let mut pieces = Vec::new();
    let mut rest = path;
    for segment in template.split('/') {
        let (piece, after) = match segment.starts_with("{*") {
            true => (rest, ""),
            false => rest.split_once('/').unwrap_or((rest, "")),
        };
        rest = after;
        if segment.starts_with('{') {
            let text = decoded(piece, false).ok_or_else(|| {
                Problem::new(Kind::BadName, "the path holds percent-escapes that are not UTF-8: encode it as UTF-8")
            })?;
            pieces.push(text);
        }
    }
    Ok(pieces)
}

async fn working(room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let waiting = tokio::time::timeout(WORK_TIME_MAX, Arc::clone(room).acquire_owned());
    match waiting.await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(Problem::new(Kind::Busy, format!("{WORKING_MAX} requests are at work already: ask again"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart_before_they_are_decoded() {
        let template = "/v1/docs/{collection}/{*id}";
        assert_eq!(captured(template, "/v1/docs/vms/a/b%2Fc//d+e").unwrap(), ["vms", "a/b/c//d+e"]);
        assert_eq!(captured("/v1/docs/{collection}", "/v1/docs/v%6ds").unwrap(), ["vms"]);
        assert_eq!(captured("/healthz", "/healthz").unwrap(), [""; 0]);
        assert!(captured(template, "/v1/docs/vms/%ff").is_err());
        assert!(captured(template, "/v1/docs/vms/%2").is_err());
    }

    #[tokio::test]
    async fn a_request_without_room_to_work_is_told_so() {
        let refused = working(&Arc::new(Semaphore::new(0))).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Busy);
    }
}
