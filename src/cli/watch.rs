//! `watch`: changes as they happen, without a gap that is not told.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::cli::address;
use crate::cli::client::{ApiArg, Client};
use crate::cli::events::{Event, Parser};
use crate::cli::exit::Error;
use crate::cli::output::Output;

/// Follow changes as they happen.
///
/// Prints one change per line; with --json, its `event` is put, delete, conflict or conflict-ended. A broken connection is taken up where it ended; when the node no longer holds that
/// place, the command says so and ends with 1, because a gap must never look like silence.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot watch
  folkmoot watch vms/ --json | jq .fields.power_state
  folkmoot watch tasks/run-7/ --since \"$LAST_ID\" --limit 100")]
pub struct WatchArgs {
    /// Only documents whose collection/id starts with this
    prefix: Option<String>,
    /// Go on after this event id
    #[arg(long, value_name = "ID")]
    since: Option<String>,
    /// Tell of conflicts too, as they begin and end
    #[arg(long)]
    conflicts: bool,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    api: ApiArg,
}

/// Tries in a row that bring no event before the command gives up: about a minute.
const RECONNECTS_MAX: u32 = 12;
const BACKOFF_MAX: Duration = Duration::from_secs(8);

pub async fn watch(args: WatchArgs, output: Output) -> Result<(), Error> {
    let client = args.api.client()?;
    let mut stream = Stream::new(args.prefix, args.since).with_conflicts(args.conflicts);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let event = stream.next(&client, output).await?;
        left -= 1;
        match (output.json, serde_json::from_str::<Value>(&event.data)) {
            (false, Ok(change)) => output.line(describe(&change, &event))?,
            (true, Ok(change)) => output.compact(&with_event(change, &event))?,
            (_, Err(_)) => output.line(&event.data)?,
        }
    }
    Ok(())
}

/// A stream of changes that outlives its connections.
#[derive(Debug)]
pub struct Stream {
    prefix: Option<String>,
    conflicts: bool,
    last: Option<String>,
    open: Option<(reqwest::Response, Parser)>,
    ready: std::collections::VecDeque<Event>,
    failures: u32,
}

impl Stream {
    pub fn new(prefix: Option<String>, since: Option<String>) -> Self {
        Self {
            prefix,
            conflicts: false,
            last: since,
            open: None,
            ready: std::collections::VecDeque::new(),
            failures: 0,
        }
    }

    /// Tells of conflicts too.
    pub fn with_conflicts(self, conflicts: bool) -> Self {
        Self { conflicts, ..self }
    }

    /// The next event. Reconnects by itself; an expired place is an error.
    pub async fn next(&mut self, client: &Client, output: Output) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.failures = 0;
                if event.id.is_some() {
                    self.last.clone_from(&event.id);
                }
                match event.name.as_str() {
                    // Where the stream starts; its id is what counts.
                    "ready" => continue,
                    "gap" => return Err(missed(&event.data)),
                    _ => return Ok(event),
                }
            }
            if let Err(error) = self.fill(client).await {
                self.on_failure(error, output).await?;
            }
        }
    }

    async fn fill(&mut self, client: &Client) -> Result<(), Error> {
        if self.open.is_none() {
            // `since` too: not every proxy passes Last-Event-ID on.
            let conflicts = self.conflicts.then(|| "true".to_owned());
            let asked = [("prefix", self.prefix.clone()), ("since", self.last.clone()), ("conflicts", conflicts)];
            let query = address::query(&asked);
            let response = client.open(&format!("/v1/watch{query}"), self.last.as_deref()).await?;
            self.open = Some((response, Parser::default()));
        }
        let Some((response, parser)) = &mut self.open else { return Ok(()) };
        let ended = || Error::NoAnswer { api: client.api().to_owned(), cause: String::from("the stream ended") };
        let bytes = response.chunk().await.map_err(|error| client.unanswered(&error))?.ok_or_else(ended)?;
        let bad = |cause| Error::Answer { api: client.api().to_owned(), cause };
        self.ready.extend(parser.feed(&bytes).map_err(bad)?);
        Ok(())
    }

    async fn on_failure(&mut self, error: Error, output: Output) -> Result<(), Error> {
        self.open = None;
        self.failures += 1;
        let lasting = match &error {
            Error::Refused(problem) if problem.status == 410 => {
                return Err(missed(&problem.to_string()));
            }
            Error::Refused(problem) => problem.status < 500,
            Error::Unreachable { .. } => self.last.is_none(),
            Error::NoAnswer { .. } => false,
            _ => true,
        };
        if lasting || self.failures > RECONNECTS_MAX {
            return Err(error);
        }
        let backoff = Duration::from_millis(100 << self.failures.min(7)).min(BACKOFF_MAX);
        output.say(format!("{error}; trying again in {:.1} s", backoff.as_secs_f64()));
        tokio::time::sleep(backoff).await;
        Ok(())
    }
}

fn missed(why: &str) -> Error {
    Error::Failed(format!(
        "{why}. Changes were missed: watch without --since, and read what you follow again (`folkmoot ls`)"
    ))
}

/// A line of JSON says what happened: nothing else tells the end of a conflict from its beginning.
fn with_event(mut change: Value, event: &Event) -> Value {
    if let Value::Object(members) = &mut change {
        members.insert("event".to_owned(), event.name.clone().into());
    }
    change
}

fn describe(change: &Value, event: &Event) -> String {
    let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
    if event.name.starts_with("conflict") {
        let words = if event.name == "conflict" { text("status") } else { "over".to_owned() };
        // A conflict over many documents has a rule instead of a field.
        let field = change["field"].as_str().map_or_else(|| text("rule"), str::to_owned);
        let place = format!("{} {field}", text("document"));
        return format!("{}\t{} {} {words} ({})", place.trim(), event.name, text("id"), text("class"));
    }
    let name = format!("{}/{}", text("collection"), text("id"));
    match (&change["fields"], name.len() > 1) {
        (_, false) => event.data.clone(),
        (Value::Object(fields), true) => format!("{name}\t{}", Value::Object(fields.clone())),
        (_, true) => format!("{name}\tdeleted"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::IntoResponse;
    use axum::routing::get;

    use super::*;

    const QUIET: Output = Output { json: true };

    async fn serve(router: Router) -> Client {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Client::new(&api).unwrap()
    }

    /// Gives one event per connection, the one after the id it is told.
    fn one_event_at_a_time(connections: Arc<AtomicUsize>) -> Router {
        Router::new().route(
            "/v1/watch",
            get(move |headers: HeaderMap| async move {
                connections.fetch_add(1, Ordering::SeqCst);
                let last = headers.get("last-event-id").map_or(0, |id| id.to_str().unwrap().parse().unwrap());
                match last {
                    2 => (StatusCode::GONE, r#"{"title":"Gone","detail":"expired","status":410}"#).into_response(),
                    last => {
                        let ready = format!("event: ready\nid: {last}\ndata: {{}}\n\n");
                        format!("{ready}event: put\nid: {}\ndata: {{\"n\":{}}}\n\n", last + 1, last + 1).into_response()
                    }
                }
            }),
        )
    }

    #[tokio::test]
    async fn a_broken_stream_goes_on_after_the_last_event_and_an_expired_one_ends_it() {
        let connections = Arc::new(AtomicUsize::new(0));
        let client = serve(one_event_at_a_time(connections.clone())).await;
        let mut stream = Stream::new(None, None);
        for n in 1..=2 {
            assert_eq!(stream.next(&client, QUIET).await.unwrap().data, format!("{{\"n\":{n}}}"));
        }
        let error = stream.next(&client, QUIET).await.unwrap_err();
        assert_eq!(error.code(), 1);
        assert!(error.to_string().contains("Changes were missed"), "{error}");
        assert_eq!(connections.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_gap_in_the_stream_is_told_and_ends_it() {
        let gap = || async { "event: ready\nid: 1\ndata: {}\n\nevent: gap\ndata: {\"detail\":\"too slow\"}\n\n" };
        let client = serve(Router::new().route("/v1/watch", get(gap))).await;
        let error = Stream::new(None, None).next(&client, QUIET).await.unwrap_err();
        assert!(error.to_string().contains("too slow"), "{error}");
    }

    #[test]
    fn the_beginning_of_a_conflict_and_its_end_are_different_lines() {
        let note =
            serde_json::json!({"id": "4f0c", "document": "vms/1", "field": "host", "class": "value", "status": "open"});
        let told = |name: &str| {
            let event = Event { name: name.to_owned(), ..Event::default() };
            (with_event(note.clone(), &event)["event"].take(), describe(&note, &event))
        };
        assert_eq!(told("conflict"), ("conflict".into(), "vms/1 host\tconflict 4f0c open (value)".to_owned()));
        let ended = "vms/1 host\tconflict-ended 4f0c over (value)".to_owned();
        assert_eq!(told("conflict-ended"), ("conflict-ended".into(), ended));
    }

    #[test]
    fn a_change_without_fields_is_a_deletion() {
        let change = serde_json::json!({ "collection": "vms", "id": "a", "fields": null });
        assert_eq!(describe(&change, &Event::default()), "vms/a\tdeleted");
    }
}
