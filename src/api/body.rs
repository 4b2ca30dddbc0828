//! The body of a request: its media type, its size, its JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Kind, Problem};

/// Largest body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 8 << 20;
/// Largest body of JSON lines, which are read one after the other: a whole audit of 65,536 records is 34 MiB.
pub(super) const LINES_BYTES_MAX: usize = 48 << 20;
/// JSON lines, one value on each.
pub(super) const JSON_LINES: &str = "application/x-ndjson";
/// All bodies together, in bytes: six of the largest JSON. A tree takes several times its text, so this is what keeps
/// many large requests at once from filling the memory.
pub(super) const BODIES_BYTES_MAX: usize = LINES_BYTES_MAX;
const BODY_TIME_MAX: Duration = Duration::from_secs(20);
const ROOM_TIME_MAX: Duration = Duration::from_secs(2);
/// What is read of a body that is too large, so that its client hears why. Beyond it the connection is simply closed.
const DISCARDED_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// A media type an operation takes, and the name of its schema in the API's description.
pub(super) type Accepted = (&'static str, &'static str);

/// A received body. While it lives, its bytes count against [`BODIES_BYTES_MAX`].
#[derive(Debug)]
pub(super) struct Received {
    pub media: &'static str,
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl Received {
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            let problem = Problem::new(Kind::BadJson, format!("the body is not what this operation takes: {error}"));
            problem.with("line", error.line()).with("column", error.column())
        })
    }

    /// Where all that it may say may be left out, so may the body.
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.bytes.is_empty() {
            return Ok(T::default());
        }
        // A list would pass for an object that leaves all out.
        self.json::<serde_json::Map<String, serde_json::Value>>()?;
        self.json()
    }

    pub fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.bytes).map_err(|error| {
            let line = 1 + self.bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
            Problem::new(Kind::BadJson, format!("the body is not UTF-8 at line {line}")).with("line", line)
        })
    }
}

/// Takes in a whole body, after its head says that it may come.
pub(super) async fn receive(
    headers: &HeaderMap,
    body: Body,
    accepts: &'static [Accepted],
    room: &Arc<Semaphore>,
) -> Result<Received, Problem> {
    let media = media_type(headers, accepts)?;
    let announced = announced_bytes(headers)?;
    let most = if media == JSON_LINES { LINES_BYTES_MAX } else { BODY_BYTES_MAX };
    if announced.is_some_and(|bytes| bytes > most) {
        // A client that asked before sending is told before sending.
        if !headers.contains_key(header::EXPECT) {
            discard(body.into_data_stream()).await;
        }
        return Err(too_large(most));
    }
    let reading = tokio::time::timeout(BODY_TIME_MAX, read(body, announced.unwrap_or(0), most, room));
    let Ok(read) = reading.await else {
        let detail = format!("the body did not arrive within {} s: send it at once", BODY_TIME_MAX.as_secs());
        return Err(Problem::new(Kind::BodyTimeout, detail));
    };
    let (bytes, room) = read?;
    Ok(Received { media, bytes, _room: room })
}

/// Room is taken for what has arrived, not for what was announced: a client that promises much and sends nothing takes
/// none from the others.
async fn read(
    body: Body,
    announced: usize,
    most: usize,
    room: &Arc<Semaphore>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
    let mut bytes = Vec::with_capacity(announced.min(64 << 10));
    let mut taken: Option<OwnedSemaphorePermit> = None;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk
            .map_err(|error| Problem::new(Kind::BadRequest, format!("the body broke off ({error}): send it whole")))?;
        if bytes.len() + chunk.len() > most {
            discard(chunks).await;
            return Err(too_large(most));
        }
        let waiting = tokio::time::timeout(ROOM_TIME_MAX, Arc::clone(room).acquire_many_owned(chunk.len() as u32));
        let Ok(Ok(more)) = waiting.await else {
            return Err(Problem::new(Kind::Busy, "other large requests fill the room for bodies: ask again"));
        };
        match &mut taken {
            Some(taken) => taken.merge(more),
            None => taken = Some(more),
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, taken))
}

/// Reads on for a while and keeps nothing: a client that still sends when the connection closes gets a reset instead of
/// the answer.
async fn discard(mut chunks: BodyDataStream) {
    let mut left = DISCARDED_BYTES_MAX;
    let reading = async {
        while left > 0
            && let Some(Ok(chunk)) = chunks.next().await
        {
            left = left.saturating_sub(chunk.len());
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME_MAX, reading).await;
}

fn too_large(most: usize) -> Problem {
    let detail = format!("the body is larger than {} MiB: split it into several requests", most >> 20);
    Problem::new(Kind::BodyTooLarge, detail)
}

fn announced_bytes(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = length.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::new(Kind::BadRequest, "the Content-Length is not a number of bytes"))
}

/// What curl and others say when nobody told them what they send: it says nothing of the body. A page of another origin
/// that could send it too is refused by its `Origin`.
const UNSAID: &str = "application/x-www-form-urlencoded";

/// The one of `accepts` the body is said to be. One of which nothing is said is the only one there is to be.
fn media_type(headers: &HeaderMap, accepts: &'static [Accepted]) -> Result<&'static str, Problem> {
    let refuse = |what: String| {
        let names: Vec<_> = accepts.iter().map(|(media, _)| *media).collect();
        let detail = format!("{what}: this operation takes {}", names.join(", "));
        Problem::new(Kind::MediaType, detail).with("accepted", names)
    };
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(refuse("the body is encoded, which is not understood here".to_owned()));
    }
    let unsaid = |what: &str| match accepts {
        [(only, _)] => Ok(*only),
        _ => Err(refuse(what.to_owned())),
    };
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return unsaid("the Content-Type is missing") };
    let given = String::from_utf8_lossy(given.as_bytes()).to_ascii_lowercase();
    let (essence, parameters) = given.split_once(';').unwrap_or((&given, ""));
    let charset = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("charset="));
    if charset.is_some_and(|charset| charset.trim_matches('"') != "utf-8") {
        return Err(refuse("the charset is not utf-8".to_owned()));
    }
    let shown: String = essence.trim().chars().take(80).collect();
    if essence.trim() == UNSAID {
        return unsaid("the Content-Type says nothing of the body");
    }
    let known = accepts.iter().find(|(media, _)| *media == essence.trim());
    known.map(|(media, _)| *media).ok_or_else(|| refuse(format!("the Content-Type is `{shown}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    static JSON: [Accepted; 1] = [("application/json", "Fields")];

    #[tokio::test]
    async fn room_is_held_while_a_body_lives_and_without_room_a_body_is_refused() {
        let room = Arc::new(Semaphore::new(10));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, "8000000".parse().unwrap());
        let first = receive(&headers, Body::from("{\"a\":1}"), &JSON, &room).await.unwrap();
        assert_eq!(room.available_permits(), 3, "what was announced and did not come takes no room");
        let refused = receive(&headers, Body::from("{\"b\":2}"), &JSON, &room).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Busy);
        drop(first);
        assert_eq!(room.available_permits(), 10);
        assert!(receive(&headers, Body::from("{\"b\":2}"), &JSON, &room).await.is_ok());
    }
}
