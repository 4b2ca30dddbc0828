//! Log lines on stderr, for a person or for a collector.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line is written: `plain` for a terminal, `json` (one object a line) for a log collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Plain,
    Json,
}

/// Why logging could not be set up. Nothing changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("`{0}` is no log format: use plain or json")]
    Format(String),
    #[error(
        "the log filter `{filter}` does not parse ({reason}): write levels like `info` or `warn,folkmoot::net=debug`"
    )]
    Filter { filter: String, reason: String },
    #[error("this process already has a logger; set it up once, at its start")]
    AlreadySet,
}

/// Sends this process's log lines to stderr from here on. `filter` is a level, or levels by module:
/// `info,folkmoot::net=debug`.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let targets: Targets =
        filter.parse().map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: format!("{error}") })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Plain => {
            let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr());
            lines.with_ansi(coloured).with_target(true).with_filter(targets).boxed()
        }
        LogFormat::Json => lines.with_ansi(false).event_format(JsonLine).with_filter(targets).boxed(),
    };
    tracing_subscriber::registry().with(lines).try_init().map_err(|_| LogError::AlreadySet)
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(text.chars().take(80).collect())),
        }
    }
}

/// `{"at":…,"level":…,"target":…,"message":…,<fields>}`.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut at = String::new();
        SystemTime.format_time(&mut Writer::new(&mut at))?;
        let mut line = Line::default();
        event.record(&mut line);
        // Written last, so that a field of the same name cannot pass for them.
        line.0.insert("at".into(), at.into());
        line.0.insert("level".into(), event.metadata().level().as_str().into());
        line.0.insert("target".into(), event.metadata().target().into());
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

#[derive(Default)]
struct Line(Map<String, Value>);

impl Visit for Line {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_one_object_whatever_the_values_hold() {
        let sink = Sink::default();
        let writer = sink.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(JsonLine);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(peers = 3, name = "a\"b\nc", level = "forged", "split");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["message"], &line["peers"], &line["name"]), (&"split".into(), &3.into(), &"a\"b\nc".into()));
        assert_eq!(line["level"], "WARN");
    }

    #[test]
    fn a_filter_or_format_that_does_not_parse_is_named() {
        let error = init("info,folkmoot=loud", LogFormat::Plain).unwrap_err();
        assert!(error.to_string().contains("loud"), "{error}");
        assert!("xml".parse::<LogFormat>().unwrap_err().to_string().contains("plain or json"));
    }
}
