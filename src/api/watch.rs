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
use crate::node::{Change, ConflictNote, Position, Told};

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
static CONFLICTS: Parameter = Parameter {
    name: "conflicts",
    takes: Takes::Flag,
    says: "Tell of conflicts too, as `conflict` and `conflict-ended`.",
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
    parameters: &[&PREFIX, &SINCE, &CONFLICTS],
    headers: &[("Last-Event-ID", "The id of the last event that was processed; browsers send it when they reconnect.")],
    accepts: &[],
    gives: ("text/event-stream", "Change"),
    session: true,
    problems: &[Kind::PositionExpired],
    handler: |ask| Box::pin(watch(ask)),
}];

async fn watch(ask: Ask) -> Outcome {
    let since = since(&ask)?;
    let (node, prefix) = (&ask.api.node, ask.params.text(&PREFIX).unwrap_or(""));
    let told = match ask.params.flag(&CONFLICTS) {
        true => {
            let told = node.watch_all(prefix, since)?;
            (told.position(), told.left_stream())
        }
        false => {
            let changes = node.watch(prefix, since)?;
            (changes.position(), changes.map(Told::Change).right_stream())
        }
    };
    let events = events(told.0, told.1, ask.api.stopping.clone());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")).into_response())
}

fn since(ask: &Ask) -> Result<Option<Position>, Problem> {
    let header = ask.headers.get(&LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let text = header.as_deref().or(ask.params.text(&SINCE)).filter(|text| !text.is_empty());
    Ok(text.map(str::parse).transpose()?)
}

/// The events of a stream of changes from `start` on. The stream ends by itself only when it lost changes.
fn events(
    start: Position,
    changes: impl Stream<Item = Told> + Send,
    mut stopping: Receiver<bool>,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    async_stream::stream! {
        let mut changes = std::pin::pin!(changes);
        yield Ok(named("ready", Some(start), &json!({ "position": start.to_string() })));
        loop {
            let next = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                next = changes.next() => next,
            };
            match next {
                Some(Told::Change(change)) => yield Ok(event(change)),
                Some(Told::Conflict(position, note)) => yield Ok(of_conflict(position, &note)),
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
        Some(shown) => wire::content(address.id(), shown),
        None => [("id".to_owned(), address.id().into())].into_iter().collect(),
    };
    data.insert("collection".into(), address.collection().into());
    data.insert("position".into(), position.to_string().into());
    named(name, Some(position), &Value::Object(data))
}

fn of_conflict(position: Position, note: &ConflictNote) -> Event {
    let mut data = json!(note);
    data["position"] = position.to_string().into();
    named(if note.ended { "conflict-ended" } else { "conflict" }, Some(position), &data)
}

fn named(name: &str, position: Option<Position>, data: &Value) -> Event {
    let event = Event::default().event(name).data(data.to_string());
    match position {
        Some(position) => event.id(position.to_string()),
        None => event,
    }
}

#[cfg(test)]
mod tests {
    use super::super::server::Server;
    use super::*;

    #[tokio::test]
    async fn a_watch_tells_what_changes_and_resumes_where_it_was_left() {
        let server = Server::start().await;
        let mut events = server.events("/v1/watch?prefix=vms/", "").await;
        let (name, start, _) = events.next().await.unwrap();
        assert_eq!(name, "ready");
        server.json("PUT", "/v1/docs/tasks/t", json!({})).await;
        server.json("PUT", "/v1/docs/vms/a", json!({"n": 1})).await;
        let (name, id, data) = events.next().await.unwrap();
        assert_eq!((&*name, &data["position"]), ("put", &json!(id)));
        assert_eq!((&data["collection"], &data["id"], &data["fields"]), (&json!("vms"), &json!("a"), &json!({"n": 1})));
        drop(events);

        server.ask("DELETE", "/v1/docs/vms/a", &[], b"").await;
        let mut resumed =
            server.events(&format!("/v1/watch?prefix=vms/&since={start}"), &format!("last-event-id: {id}\r\n")).await;
        assert_eq!(
            resumed.next().await.unwrap(),
            ("ready".into(), id.clone(), json!({ "position": id })),
            "the header wins"
        );
        let (name, _, data) = resumed.next().await.unwrap();
        assert_eq!((&*name, &data["id"], data.get("fields")), ("delete", &json!("a"), None));
        let mut from_start = server.events(&format!("/v1/watch?prefix=vms/&since={start}"), "").await;
        assert_eq!(from_start.next().await.unwrap().0, "ready");
        let (name, _, data) = from_start.next().await.unwrap();
        assert_eq!((&*name, &data["id"]), ("delete", &json!("a")), "a change shows the document as it is now");
    }

    #[tokio::test]
    async fn a_position_of_elsewhere_is_refused_with_the_way_to_resync() {
        let server = Server::start().await;
        let other = Server::start().await;
        for n in 0..50 {
            other.json("PUT", "/v1/docs/vms/a", json!({ "n": n })).await;
        }
        let foreign = other.events("/v1/watch", "").await.next().await.unwrap().1;
        let gone = server.get(&format!("/v1/watch?since={foreign}")).await;
        assert_eq!(gone.status, 410);
        assert!(gone.problem("position-expired").contains("then list"));
        server.get("/v1/watch?since=nonsense").await.problem("bad-parameter");
    }

    #[tokio::test]
    async fn watches_end_when_the_api_ends_and_a_gap_is_never_claimed() {
        let server = Server::start().await;
        let mut events = server.events("/v1/watch", "").await;
        assert_eq!(events.next().await.unwrap().0, "ready");
        server.stop().await;
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn a_watch_that_lost_changes_ends_with_a_gap() {
        let start = super::super::server::node(false).await.watch("", None).unwrap().position();
        let (_running, stopping) = tokio::sync::watch::channel(false);
        let events: Vec<_> = events(start, futures::stream::empty(), stopping).collect().await;
        let names: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
        assert_eq!(names.len(), 2, "ready, then gap: {names:?}");
        assert!(names[1].contains("event: gap") && names[1].contains("then list"), "{names:?}");
    }
}
