//! Talks to one node's HTTP API. Every client command goes through here.

use std::time::Duration;

use clap::Args;
use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::exit::Error;
use crate::cli::problem::Problem;

/// Where a node's API is when nothing else is said.
pub const API_DEFAULT: &str = "http://127.0.0.1:7117";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than any wait a node promises (2 s for a clock, more for `replicas:N`), so that its reason arrives.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A node sends a comment on an idle event stream well within this; a stream silent for longer is dead.
const STREAM_SILENCE_MAX: Duration = Duration::from_secs(60);
/// A page of 1,000 documents fits many times over.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Which node to ask.
#[derive(Debug, Clone, Default, Args)]
pub struct ApiArg {
    /// The node's API [default: $FOLKMOOT_API, or http://127.0.0.1:7117]
    #[arg(long = "api", value_name = "URL", help_heading = "Connection")]
    pub url: Option<String>,
}

impl ApiArg {
    pub fn client(&self) -> Result<Client, Error> {
        let from_env = std::env::var("FOLKMOOT_API").ok().filter(|url| !url.is_empty());
        Client::new(self.url.as_deref().or(from_env.as_deref()).unwrap_or(API_DEFAULT))
    }
}

/// One node's API. Cheap to clone; the clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// What is sent with a request.
#[derive(Debug, Clone)]
pub struct Body {
    pub media: &'static str,
    pub text: String,
}

impl Body {
    pub fn json(value: Value) -> Self {
        Self { media: "application/json", text: value.to_string() }
    }

    pub fn merge_patch(value: Value) -> Self {
        Self { media: "application/merge-patch+json", text: value.to_string() }
    }

    pub fn json_patch(value: Value) -> Self {
        Self { media: "application/json-patch+json", text: value.to_string() }
    }

    pub fn operations(value: Value) -> Self {
        Self { media: "application/vnd.folkmoot.ops+json", text: value.to_string() }
    }

    /// JSON lines, as they are.
    pub fn lines(text: String) -> Self {
        Self { media: "application/x-ndjson", text }
    }
}

/// A request's optional headers.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Answer only once the node has seen what this clock holds.
    pub clock: Option<String>,
    pub if_match: Option<String>,
}

/// A good answer.
#[derive(Debug)]
pub struct Answer {
    pub clock: Option<String>,
    pub etag: Option<String>,
    pub body: Vec<u8>,
}

impl Client {
    /// A client of the node at `api`: `http://host:port`, or `host:port` alone.
    pub fn new(api: &str) -> Result<Self, Error> {
        let base = base_url(api)?;
        let built = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STREAM_SILENCE_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build();
        let http = built.map_err(|error| Error::Failed(format!("cannot set up an HTTP client: {}", chain(&error))))?;
        Ok(Self { http, base })
    }

    pub fn api(&self) -> &str {
        &self.base
    }

    pub async fn get(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::GET, path, None, &Terms::default()).await
    }

    /// GETs a JSON answer of a known shape.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.parse(&self.get(path).await?)
    }

    pub async fn post(&self, path: &str, value: Value) -> Result<Answer, Error> {
        self.send(Method::POST, path, Some(Body::json(value)), &Terms::default()).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer, Error> {
        self.send(Method::DELETE, path, None, &Terms::default()).await
    }

    /// Sends one request and reads the whole answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<Body>, terms: &Terms) -> Result<Answer, Error> {
        let request = self.request(method, path, body, terms).timeout(ANSWER_TIMEOUT);
        let response = self.accepted(request.send().await).await?;
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let (clock, etag) = (header("folkmoot-clock"), header("etag"));
        Ok(Answer { clock, etag, body: self.body(response).await? })
    }

    /// Opens an answer that does not end: an event stream. Only silence ends it, not its length.
    pub async fn open(&self, path: &str, last_event: Option<&str>) -> Result<Response, Error> {
        let mut request = self.http.get(self.url(path)).header("accept", "text/event-stream");
        if let Some(id) = last_event {
            request = request.header("last-event-id", id);
        }
        self.accepted(request.send().await).await
    }

    /// Reads an answer as JSON of a known shape.
    pub fn parse<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Error> {
        // DELETE and others may answer with nothing; that reads as null.
        let bytes: &[u8] = if answer.body.is_empty() { b"null" } else { &answer.body };
        serde_json::from_slice(bytes)
            .map_err(|error| Error::Answer { api: self.base.clone(), cause: error.to_string() })
    }

    fn request(&self, method: Method, path: &str, body: Option<Body>, terms: &Terms) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, self.url(path));
        if let Some(clock) = &terms.clock {
            request = request.header("folkmoot-clock", clock);
        }
        if let Some(tag) = &terms.if_match {
            request = request.header("if-match", tag);
        }
        if let Some(body) = body {
            request = request.header("content-type", body.media).body(body.text);
        }
        request
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn accepted(&self, sent: Result<Response, reqwest::Error>) -> Result<Response, Error> {
        let response = sent.map_err(|error| self.unanswered(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        Err(Error::Refused(Problem::parse(status, &self.body(response).await?)))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let cause = format!("it is over {ANSWER_BYTES_MAX} bytes");
                return Err(Error::Answer { api: self.base.clone(), cause });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    pub(crate) fn unanswered(&self, error: &reqwest::Error) -> Error {
        let api = self.base.clone();
        match error.is_connect() || error.is_builder() {
            true => Error::Unreachable { api, cause: innermost(error) },
            false => Error::NoAnswer { api, cause: chain(error) },
        }
    }
}

/// `http://host:port` without a trailing slash.
fn base_url(api: &str) -> Result<String, Error> {
    let trimmed = api.trim().trim_end_matches('/');
    if trimmed.starts_with("https://") {
        return Err(Error::Usage(format!("{api}: the API speaks plain HTTP on loopback; write http://…")));
    }
    if trimmed.ends_with(':') {
        return Err(Error::Usage(format!("`{api}` has no port; write http://host:port")));
    }
    let full = match trimmed.contains("://") {
        true => trimmed.to_owned(),
        false => format!("http://{trimmed}"),
    };
    match reqwest::Url::parse(&full) {
        Ok(url) if url.scheme() == "http" && url.has_host() && url.path() == "/" && url.query().is_none() => Ok(full),
        _ => Err(Error::Usage(format!("`{api}` is no API address; write http://host:port"))),
    }
}

/// What the system said: that a request to this URL failed to connect is said by the caller already.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// An error with its causes: the outermost alone seldom says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    async fn serve(router: Router) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(&api).unwrap()
    }

    #[tokio::test]
    async fn a_refusal_keeps_the_nodes_words_and_gives_the_exit_code() {
        let problem = r#"{"type":"urn:x","title":"No such document","detail":"vms/a is missing","status":404}"#;
        let client =
            serve(Router::new().route("/x", get(move || async move { (StatusCode::NOT_FOUND, problem) }))).await;
        let error = client.get("/x").await.unwrap_err();
        assert_eq!(error.code(), 4);
        assert_eq!(error.to_string(), "No such document: vms/a is missing");
    }

    #[tokio::test]
    async fn the_clock_comes_back_with_the_answer_and_encoded_ids_arrive_as_written() {
        let id = |path: axum::extract::Path<String>| async move { ([("folkmoot-clock", "c1")], path.0) };
        let client = serve(Router::new().route("/v1/docs/vms/{*id}", get(id))).await;
        let address: crate::cli::address::Address = "vms/a b/ü?x#y%z".parse().unwrap();
        let answer = client.get(&address.path()).await.unwrap();
        assert_eq!(answer.clock.as_deref(), Some("c1"));
        assert_eq!(String::from_utf8(answer.body).unwrap(), "a b/ü?x#y%z");
    }

    #[tokio::test]
    async fn nobody_listening_is_unreachable() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = Client::new(&api).unwrap().get("/").await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        assert_eq!(error.code(), 3);
    }

    #[tokio::test]
    async fn a_connection_cut_before_the_answer_is_an_unknown_outcome() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut some = [0u8; 16];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await;
            }
        });
        let error = Client::new(&api).unwrap().get("/").await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
        assert!(!error.may_retry());
    }

    #[test]
    fn an_api_is_a_host_and_a_port() {
        assert_eq!(base_url("127.0.0.1:7117").unwrap(), "http://127.0.0.1:7117");
        assert_eq!(base_url("http://[::1]:7117/").unwrap(), "http://[::1]:7117");
        for bad in ["https://a:1", "ftp://a", "http://a/b", "", "http://"] {
            assert!(base_url(bad).is_err(), "{bad:?} was taken");
        }
    }
}
