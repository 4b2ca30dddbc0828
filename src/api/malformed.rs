//! A thousand malformed requests: each is refused as a problem, none harms the node.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::server::Server;

const PATHS: [&str; 14] = [
    "/v1/docs/vms/a",
    "/v1/docs/vms",
    "/v1/docs/VMS/a",
    "/v1/docs/vms/%ff%00",
    "/v1/docs/vms/%zz",
    "/v1/docs/vms/a%0a",
    "/v1/docs//",
    "/v1/docs/vms?limit=x",
    "/v1/batch",
    "/v1/watch?since=%00",
    "/v1/schemas/vms",
    "/v1/chaos/block",
    "/v1/nothing",
    "*",
];
const METHODS: [&str; 10] = ["GET", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "CONNECT"];
const MEDIA: [&str; 7] = [
    "application/json",
    "application/json-patch+json",
    "application/vnd.folkmoot.ops+json",
    "application/toml",
    "text/plain",
    "application/json; charset=latin1",
    ";;;",
];
const HEADERS: [&str; 8] = [
    "folkmoot-clock: \u{ff}garbage",
    "folkmoot-clock: garbage",
    "if-match: garbage",
    "if-none-match: \"a\"",
    "origin: http://evil.example",
    "last-event-id: garbage",
    "content-encoding: gzip",
    "x-long: ",
];
const BODIES: [&str; 14] = [
    "",
    "{",
    "[]",
    "null",
    "\"text\"",
    "[{\"field\":1}]",
    "[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]",
    "[{\"op\":\"copy\",\"from\":\"/x\",\"path\":\"/y\"}]",
    "{\"writes\":3}",
    "{\"writes\":[{\"op\":\"put\"}]}",
    "{\"writes\":[]}",
    "{\"peers\":[\"x\"]}",
    "{\"fields\":{\"a\":{\"type\":\"nonsense\"}}}",
    "{\"a\":1e999}",
];

/// One request, malformed in one to all of its parts.
fn request(dice: &mut StdRng, host: &str) -> Vec<u8> {
    let pick = |dice: &mut StdRng, of: &[&'static str]| of[dice.random_range(0..of.len())];
    let method = pick(dice, &METHODS);
    let mut path = pick(dice, &PATHS).to_owned();
    if dice.random_bool(0.3) {
        path.push_str(if path.contains('?') { "&" } else { "?" });
        let noise: String = (0..dice.random_range(1..40)).map(|_| dice.random_range(b'!'..b'~') as char).collect();
        path.push_str(&noise.replace('#', "x"));
    }
    let mut bytes =
        format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-type: {}\r\n", pick(dice, &MEDIA));
    let host = if dice.random_bool(0.1) { "evil.example" } else { host };
    bytes.push_str(&format!("host: {host}\r\n"));
    if dice.random_bool(0.4) {
        bytes.push_str(pick(dice, &HEADERS));
        bytes.push_str(&"y".repeat(dice.random_range(0..200)));
        bytes.push_str("\r\n");
    }
    let body = match dice.random_range(0..3) {
        0 => (0..dice.random_range(0..300)).map(|_| dice.random()).collect(),
        1 => "[".repeat(dice.random_range(1..5_000)).into_bytes(),
        _ => pick(dice, &BODIES).as_bytes().to_vec(),
    };
    bytes.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    [bytes.into_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_malformed_requests_are_refused_as_problems_and_the_node_goes_on() {
    let server = Server::start().await;
    let host = server.address.to_string();
    let mut dice = StdRng::seed_from_u64(9457);
    let mut refused = 0;
    for round in 0..1_000 {
        let bytes = request(&mut dice, &host);
        let shown = || format!("round {round}: {}", String::from_utf8_lossy(&bytes[..bytes.len().min(400)]));
        let answer = server.send(&bytes).await.unwrap_or_else(|| panic!("no answer; {}", shown()));
        assert!((200..500).contains(&answer.status), "{}; {}", answer.status, shown());
        if answer.status < 400 {
            continue;
        }
        refused += 1;
        // What is no HTTP never reaches the API: the HTTP library refuses it without a body.
        if !(answer.body.is_empty() && answer.status == 400) {
            let kind = answer.value()["type"].as_str().unwrap_or("").rsplit(':').next().unwrap_or("").to_owned();
            assert!(!answer.problem(&kind).is_empty(), "{}", shown());
        }
    }
    assert!(refused > 900, "only {refused} of 1,000 were refused");
    assert_eq!(server.json("PUT", "/v1/docs/vms/after", json!({"cpu": 1})).await.status, 200);
    assert_eq!(server.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn bytes_that_are_no_http_end_the_connection_and_nothing_else() {
    let server = Server::start().await;
    let mut dice = StdRng::seed_from_u64(1);
    for _ in 0..200 {
        let mut bytes: Vec<u8> = (0..dice.random_range(1..200)).map(|_| dice.random()).collect();
        bytes.extend(b"\r\n\r\n");
        if let Some(answer) = server.send(&bytes).await {
            assert!((400..500).contains(&answer.status), "{}", answer.status);
        }
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}
