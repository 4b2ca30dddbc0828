//! Reads server-sent events (WHATWG HTML, "Server-sent events") from bytes that arrive in any pieces.

/// One event of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    /// The event's name; empty for a plain message.
    pub name: String,
    pub data: String,
}

/// An event that does not fit is a broken or hostile stream.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// Turns bytes into events.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    event: Event,
    bytes: usize,
    has_data: bool,
}

impl Parser {
    /// Takes some bytes and gives the events they complete, or says that one grew past the bound.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                self.bytes += 1;
                if self.bytes > EVENT_BYTES_MAX {
                    return Err(format!("an event is over {EVENT_BYTES_MAX} bytes"));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            events.extend(self.handle_line(&String::from_utf8_lossy(line)));
        }
        Ok(events)
    }

    fn handle_line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            self.bytes = 0;
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            "event" => self.event.name = value.to_owned(),
            "id" => self.event.id = Some(value.to_owned()),
            // A comment (`:` first, keeps the connection alive), `retry`, or a field of a later version. A stream of
            // comments alone is not one long event.
            _ if !self.has_data => self.bytes = 0,
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\n\nid: 7\nevent: change\ndata: {\"a\":\ndata: 1}\r\n\r\ndata:x\n\nid: 9\n\n";

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let whole = Parser::default().feed(STREAM).unwrap();
        let change = Event { id: Some("7".into()), name: "change".into(), data: "{\"a\":\n1}".into() };
        assert_eq!(whole, [change, Event { data: "x".into(), ..Event::default() }]);
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let cut: Vec<Event> = STREAM.chunks(size).flat_map(|chunk| parser.feed(chunk).unwrap()).collect();
            assert_eq!(cut, whole, "cut every {size} bytes");
        }
    }

    #[test]
    fn an_event_without_an_end_is_refused_at_the_bound() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..17).any(|_| parser.feed(&piece).is_err()));
    }

    #[test]
    fn a_stream_of_comments_is_endless() {
        let mut parser = Parser::default();
        let comment = [b": ".as_slice(), &vec![b'x'; 1 << 20], b"\n"].concat();
        assert!((0..40).all(|_| parser.feed(&comment).unwrap().is_empty()));
    }
}
