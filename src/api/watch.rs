//! `GET /v1/watch`: changes as they become visible here, as server-sent events.
//!
//! The stream never skips silently. It begins with `ready`, whose id is where it starts; every change carries the id to
//! resume from; and a client too slow for what this node keeps gets `gap` as the last event.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderName, Method};
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

use super::operation::{Ask, Operation, Outcome};
use super::problem::{Kind, Problem, RESYNC};
use super::query::{Parameter, Takes};
use super::wire;
use crate::document::address::{COLLECTION_BYTES_MAX, ID_BYTES_MAX};
use crate::node::{Change, Position, Watch};

static PREFIX: Parameter = Parameter {
    name: "prefix",
    takes: Takes::Text { bytes_max: COLLECTION_BYTES_MAX + 1 + ID_BYTES_MAX },
    says: "Only documents whose `collection/id` starts with this, e.g. `vms/` or `vms/eu-`.",
};
static SINCE: Parameter = Parameter {
    name: "since",
    takes: Takes::Text { bytes_max: 512 },
    says: "The id of the last event that was processed: the stream goes on after it. `Last-Event-ID` wins over it.",
};
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Keeps proxies from closing a silent stream, and lets a dead client be noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

pub(super) static OPERATIONS: &[Operation] = &[Operation {
    method: Method::GET,
    path: "/v1/watch",
    id: "watch",
    says: "Server-sent events: `ready` first, then `put` and `delete` as they become visible here. A client that is too \
           slow gets `gap` and must resync: open a watch without `since`, then list, then apply what the watch gives.",
    parameters: &[&PREFIX, &SINCE],
    headers: &[("Last-Event-ID", "The id of the last event that was processed; browsers send it when they reconnect.")],
    accepts: &[],
    gives: ("text/event-stream", "Change"),
    session: true,
    problems: &[Kind::PositionExpired],
    handler: |ask| Box::pin(watch(ask)),
}];

async fn watch(ask: Ask) -> Outcome {
    let since = since(&ask)?;
    let changes = ask.api.node.watch(ask.params.text(&PREFIX).unwrap_or(""), since)?;
    let events = events(changes, ask.api.stopping.clone());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")).into_response())
}

fn since(ask: &Ask) -> Result<Option<Position>, Problem> {
    let header = ask.headers.get(&LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let text = header.as_deref().or(ask.params.text(&SINCE)).filter(|text| !text.is_empty());
    Ok(text.map(str::parse).transpose()?)
}

fn events(changes: Watch, mut stopping: Receiver<bool>) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    async_stream::stream! {
        let mut changes = changes;
        let start = changes.position();
        yield Ok(named("ready", Some(start), &json!({ "position": start.to_string() })));
        loop {
            let next = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                next = changes.next() => next,
            };
            match next {
                Some(change) => yield Ok(event(change)),
                None => {
                    let detail = format!("changes were lost to this stream because it was too slow; {RESYNC}");
                    yield Ok(named("gap", None, &json!({ "detail": detail })));
                    return;
                }
            }
        }
    }
}

fn event(change: Change) -> Event {
    let Change { position, address, document } = change;
    let name = if document.is_some() { "put" } else { "delete" };
    let mut data = match document {
        Some(view) => wire::content(address.id(), view),
        None => [("id".to_owned(), address.id().into())].into_iter().collect(),
    };
    data.insert("collection".into(), address.collection().into());
    data.insert("position".into(), position.to_string().into());
    named(name, Some(position), &Value::Object(data))
}

fn named(name: &str, position: Option<Position>, data: &Value) -> Event {
    let event = Event::default().event(name).data(data.to_string());
    match position {
        Some(position) => event.id(position.to_string()),
        None => event,
    }
}
