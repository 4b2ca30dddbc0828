//! For tests: the API on a real socket, and a client that sends exactly the bytes it is told to.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{ApiSettings, bind, serve};
use crate::node::Node;
use crate::store::StoreKind;

pub(super) struct Server {
    pub node: Node,
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

/// Longer than anything a test waits for, so that a hang is a failure and not a wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// A clock that names write 7 of a replica no node here has heard of.
pub(super) const FOREIGN_CLOCK: &str = "AQkJCQkJBw";

/// A node of its own, that keeps everything in memory.
pub(super) async fn node(chaos: bool) -> Node {
    Node::builder().name("api").store(StoreKind::Memory).chaos(chaos).start().await.unwrap()
}

impl Server {
    pub async fn start() -> Self {
        Self::of(node(false).await).await
    }

    pub async fn with_chaos() -> Self {
        Self::of(node(true).await).await
    }

    async fn of(node: Node) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let task = tokio::spawn(serve(node.clone(), listener, ApiSettings::default(), shutdown));
        Self { node, address, stop: Some(stop), task }
    }

    /// Tells the API to end, and waits until it has.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    /// A request with a JSON body.
    pub async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask(method, path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        ask(self.address, method, path, headers, body).await
    }

    pub async fn send(&self, bytes: &[u8]) -> Option<Answer> {
        send(self.address, bytes).await
    }

    /// An open stream of server-sent events.
    pub async fn events(&self, path: &str, headers: &str) -> Events {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", self.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        Events { stream, text: String::new() }
    }
}

pub(super) async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        bytes.extend(format!("host: {address}\r\n").bytes());
    }
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).bytes());
    bytes.extend(body);
    send(address, &bytes).await.expect("an answer")
}

/// Sends `bytes` and reads to the end. `None` when what comes back is no HTTP.
async fn send(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut received = Vec::new();
    let exchange = async {
        let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
        // The server may answer and close before it has read all: that is no failure of the exchange.
        let sending = async {
            let _ = writing.write_all(bytes).await;
            // The half stays open: a half-closed connection may be taken for a client that is gone.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = sending => {}
            _ = reading.read_to_end(&mut received) => {}
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server answers and closes");
    Answer::parse(&received)
}

#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts a well-formed problem of this kind, and gives its detail.
    #[track_caller]
    pub fn problem(&self, kind: &str) -> String {
        let body = self.value();
        assert_eq!(body["type"], format!("urn:folkmoot:problem:{kind}"), "{body}");
        assert_eq!(body["status"], self.status, "{body}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert!(self.headers.iter().any(|(name, _)| name == "folkmoot-clock"), "{:?}", self.headers);
        assert!(body["title"].is_string() && body["instance"].is_string(), "{body}");
        body["detail"].as_str().unwrap().to_owned()
    }
}

pub(super) struct Events {
    stream: TcpStream,
    text: String,
}

/// `(event, id, data)`.
pub(super) type SentEvent = (String, String, Value);

impl Events {
    /// The next event; `None` when the stream ended.
    pub async fn next(&mut self) -> Option<SentEvent> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event, or the end")
    }

    async fn read(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(event) = self.take() {
                return Some(event);
            }
            let mut bytes = [0; 4096];
            let len = self.stream.read(&mut bytes).await.ok().filter(|len| *len > 0)?;
            self.text.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
    }

    /// Cuts the next whole event out of what was received. The frames of the chunked encoding around it are skipped.
    fn take(&mut self) -> Option<SentEvent> {
        let start = self.text.find("event: ")?;
        let end = start + self.text[start..].find("\n\n")?;
        let event = self.text[start..end].to_owned();
        self.text.drain(..end);
        let line = |name: &str| {
            let line = event.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or("").to_owned()
        };
        Some((line("event: "), line("id: "), serde_json::from_str(&line("data: ")).unwrap()))
    }
}
