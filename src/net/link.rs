//! The life of one link: up, messages both ways, down.
//!
//! A link is three tasks: one reads, one writes, one watches both and tells the node. The watcher alone reports `LinkUp`
//! and `LinkDown`, and it waits for the reader to be gone in between, which is what keeps the order of events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::event::{Event, LinkId};
use super::frame::{self, Encoded, Encoder, HEADER_BYTES, Header};
use super::hello::{HELLO_BYTES, Nonce};
use super::inbox::Inbox;
use super::outlet::{Closing, Outlet, cost};
use super::pairing::Note;
use super::shared::Shared;
use crate::clock::NodeId;

/// Memory is taken for a frame as it arrives, in steps of this.
const READ_BYTES: usize = 64 << 10;
/// How long the last bytes of a lost connection are read for.
const LOST_GRACE: Duration = Duration::from_millis(500);
const CLOSED: &str = "the peer closed the link";
const GREETING_MAX: Duration = Duration::from_secs(5);

/// What all links of one run of the transport share.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub shared: Arc<Shared>,
    pub inbox: Arc<Inbox>,
    pub notes: mpsc::Sender<Note>,
    /// Ends every link of the run.
    pub closing: watch::Receiver<Closing>,
    /// Held by every link until it has reported its end, so that the supervisor can wait for the last.
    pub _alive: mpsc::Sender<()>,
}

/// A stream on which both ends have agreed to have a link.
#[derive(Debug)]
pub(super) struct Start {
    pub peer: NodeId,
    pub nonce: Nonce,
    pub connection: ConnectionId,
    pub address: String,
    pub outbound: bool,
    pub stream: Stream,
    /// What the acceptor still has to answer.
    pub greeting: Option<[u8; HELLO_BYTES]>,
    /// The link this one replaces: it must be reported down first.
    pub after: Option<JoinHandle<()>>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub id: LinkId,
    pub nonce: Nonce,
    pub connection: ConnectionId,
    pub since: Instant,
    pub outlet: Arc<Outlet>,
    pub task: JoinHandle<()>,
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub reason: String,
    /// The peer broke the rules; do not trust the connection either.
    pub hostile: bool,
}

impl End {
    fn plain(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hostile: false }
    }
}

pub(super) fn spawn(start: Start, run: Run) -> Link {
    let shared = &run.shared;
    let id = shared.next_link();
    let traffic = shared.traffic(start.peer);
    let (outlet, queue) = Outlet::new(id, start.outbound, traffic, shared.config.limits.queue_bytes_max);
    let outlet = Arc::new(outlet);
    let (nonce, connection, since) = (start.nonce, start.connection, Instant::now());
    let task = tokio::spawn(watch_over(start, run, outlet.clone(), queue));
    Link { id, nonce, connection, since, outlet, task }
}

type Queue = mpsc::UnboundedReceiver<Arc<[u8]>>;

async fn watch_over(start: Start, run: Run, outlet: Arc<Outlet>, queue: Queue) {
    let (peer, link) = (start.peer, outlet.link);
    let end = live(start, &run, &outlet, queue).await;
    tracing::debug!(peer = %peer.short(), ?link, reason = %end.reason, "link ended");
    let _ = run.notes.send(Note::Ended { peer, link, end }).await;
}

async fn live(start: Start, run: &Run, outlet: &Arc<Outlet>, queue: Queue) -> End {
    let Start { peer, address, outbound, stream, greeting, after, .. } = start;
    if let Some(after) = after {
        let _ = after.await;
    }
    let (reader, mut writer) = stream.split();
    if let Some(greeting) = greeting {
        let answer = async {
            writer.write_all(&greeting).await?;
            writer.flush().await
        };
        match timeout(GREETING_MAX, answer).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::plain(format!("the stream broke before the link was up: {error}")),
            Err(_) => return End::plain("the peer did not take the greeting"),
        }
    }
    let mut closing = outlet.closing.subscribe();
    let mut run_closing = run.closing.clone();
    if matches!(*closing.borrow(), Closing::Now(_)) || *run_closing.borrow() != Closing::No {
        return End::plain("closed before it was up");
    }
    let shared = &run.shared;
    let link = outlet.link;
    shared.open(peer, outlet.clone());
    if run.inbox.push(Event::LinkUp { peer, link, address, outbound }).await.is_err() {
        shared.close(peer, link);
        return End::plain("the node no longer listens");
    }
    shared.counters.links_up.add(1);
    let mut reading = tokio::spawn(read(reader, peer, outlet.clone(), run.clone()));
    let mut writing = tokio::spawn(write(writer, queue, outlet.clone(), run.clone()));
    let ended = |joined: Result<End, tokio::task::JoinError>| {
        joined.unwrap_or_else(|error| End::plain(format!("a bug ended the link: {error}")))
    };
    let end = tokio::select! {
        end = &mut reading => ended(end),
        end = &mut writing => ended(end),
        reason = told_to_end(&mut closing) => End::plain(reason),
        reason = told_to_end(&mut run_closing) => End::plain(reason),
    };
    shared.close(peer, link);
    reading.abort();
    writing.abort();
    // Both must be gone before the end is told: a message after it would be a lie.
    if !reading.is_finished() {
        let _ = reading.await;
    }
    if !writing.is_finished() {
        let _ = writing.await;
    }
    shared.counters.links_down.add(1);
    let end = match lost_because(outlet) {
        Some(reason) if end.reason != CLOSED && !end.hostile => End::plain(reason),
        _ => end,
    };
    let _ = run.inbox.push(Event::LinkDown { peer, link, reason: end.reason.clone() }).await;
    end
}

/// A connection's own reason says more than the broken stream does.
fn lost_because(outlet: &Outlet) -> Option<String> {
    match &*outlet.closing.borrow() {
        Closing::Lost(reason) | Closing::Now(reason) => Some(reason.clone()),
        _ => None,
    }
}

async fn told_to_end(closing: &mut watch::Receiver<Closing>) -> String {
    loop {
        let request = closing.borrow_and_update().clone();
        match request {
            Closing::Now(reason) => return reason,
            Closing::Lost(reason) => {
                tokio::time::sleep(LOST_GRACE).await;
                return reason;
            }
            Closing::No | Closing::Flush => {}
        }
        if closing.changed().await.is_err() {
            return "the transport ended".to_owned();
        }
    }
}

/// Reads until the stream ends or lies. Waits for the node where it must, which stops the peer's writer in turn.
async fn read(reader: ReadHalf<Stream>, peer: NodeId, outlet: Arc<Outlet>, run: Run) -> End {
    let counters = &run.shared.counters;
    let max = run.shared.config.limits.message_bytes_max;
    let mut reader = BufReader::with_capacity(READ_BYTES, reader);
    let (mut body, mut scratch) = (Vec::new(), Vec::new());
    let lie = |error: frame::Malformed| {
        run.shared.counters.malformed.add(1);
        End { reason: format!("the peer sent {error}"), hostile: true }
    };
    loop {
        let mut head = [0; HEADER_BYTES];
        match read_head(&mut reader, &mut head).await {
            Ok(true) => {}
            Ok(false) => return End::plain(CLOSED),
            Err(error) => return broke(&error),
        }
        let header = match Header::parse(head, max) {
            Ok(header) => header,
            Err(error) => return lie(error),
        };
        if let Err(error) = read_body(&mut reader, &mut body, header.body_bytes).await {
            return broke(&error);
        }
        let messages = match frame::open(header, &body, &mut scratch, max) {
            Ok(messages) => messages,
            Err(error) => return lie(error),
        };
        counters.frames_in.add(1);
        counters.bytes_in.add(HEADER_BYTES + body.len());
        counters.payload_bytes_in.add(messages.payload_bytes);
        for message in messages {
            counters.messages_in.add(1);
            outlet.traffic.bytes_in.add(message.len());
            let event = Event::Message { peer, link: outlet.link, bytes: message.to_vec() };
            if run.inbox.push(event).await.is_err() {
                return End::plain("the node no longer listens");
            }
        }
        for buffer in [&mut body, &mut scratch] {
            if buffer.capacity() > 4 * READ_BYTES {
                *buffer = Vec::new();
            }
        }
    }
}

fn broke(error: &std::io::Error) -> End {
    End::plain(match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the stream ended inside a frame".to_owned(),
        _ => format!("the stream broke: {error}"),
    })
}

/// False if the stream ended where a frame would begin.
async fn read_head(reader: &mut BufReader<ReadHalf<Stream>>, head: &mut [u8; HEADER_BYTES]) -> std::io::Result<bool> {
    if reader.read(&mut head[..1]).await? == 0 {
        return Ok(false);
    }
    reader.read_exact(&mut head[1..]).await?;
    Ok(true)
}

/// Memory follows the bytes that came, not the length that was claimed.
async fn read_body(reader: &mut BufReader<ReadHalf<Stream>>, body: &mut Vec<u8>, bytes: usize) -> std::io::Result<()> {
    body.clear();
    while body.len() < bytes {
        let at = body.len();
        body.resize(bytes.min(at + READ_BYTES), 0);
        reader.read_exact(&mut body[at..]).await?;
    }
    Ok(())
}

/// Writes until told to end. A frame takes what is queued when it starts, so it never waits: while one is written the
/// next fills up, and an idle queue is flushed at once.
async fn write(mut writer: WriteHalf<Stream>, mut queue: Queue, outlet: Arc<Outlet>, run: Run) -> End {
    let stall_max = run.shared.config.limits.write_stall_max;
    let mut encoder = Encoder::default();
    let mut held: Option<Arc<[u8]>> = None;
    let mut run_closing = run.closing.clone();
    loop {
        let first = match held.take() {
            Some(message) => Some(message),
            None => next(&mut queue, &mut run_closing).await,
        };
        let Some(first) = first else {
            let _ = timeout(stall_max, writer.close()).await;
            return End::plain("this node shuts down");
        };
        let (mut taken, mut messages) = (cost(&first), 1);
        encoder.push(&first);
        while let Ok(message) = queue.try_recv() {
            if !encoder.has_room(&message) {
                held = Some(message);
                break;
            }
            taken += cost(&message);
            messages += 1;
            encoder.push(&message);
        }
        let encoded = encoder.finish();
        let written = write_all(&mut writer, encoded.wire, stall_max).await;
        outlet.on_sent(taken);
        count(&run.shared, &outlet, &encoded, messages);
        let flushed = match written {
            Ok(()) if held.is_none() && queue.is_empty() => {
                timeout(stall_max, writer.flush()).await.unwrap_or_else(|_| Err(stalled()))
            }
            other => other,
        };
        if let Err(error) = flushed {
            if error.kind() == std::io::ErrorKind::TimedOut {
                run.shared.counters.write_stalls.add(1);
                return End::plain(format!("the peer took no byte for {} s", stall_max.as_secs_f32()));
            }
            return broke(&error);
        }
    }
}

/// The next message; `None` once the run is flushed and the queue is empty.
async fn next(queue: &mut Queue, run_closing: &mut watch::Receiver<Closing>) -> Option<Arc<[u8]>> {
    if *run_closing.borrow_and_update() == Closing::Flush {
        queue.close();
    }
    tokio::select! {
        biased;
        message = queue.recv() => message,
        () = told_to_flush(run_closing), if !queue.is_closed() => {
            queue.close();
            queue.recv().await
        }
    }
}

async fn told_to_flush(run_closing: &mut watch::Receiver<Closing>) {
    let _ = run_closing.wait_for(|closing| *closing != Closing::No).await;
}

async fn write_all(writer: &mut WriteHalf<Stream>, mut bytes: &[u8], stall_max: Duration) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = timeout(stall_max, writer.write(bytes)).await.unwrap_or_else(|_| Err(stalled()))?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    Ok(())
}

fn stalled() -> std::io::Error {
    std::io::ErrorKind::TimedOut.into()
}

fn count(shared: &Shared, outlet: &Outlet, encoded: &Encoded<'_>, messages: usize) {
    let counters = &shared.counters;
    counters.frames_out.add(1);
    counters.messages_out.add(messages);
    counters.bytes_out.add(encoded.wire.len());
    counters.payload_bytes_out.add(encoded.payload_bytes);
    counters.compressible_frames.add(usize::from(encoded.compressible));
    counters.compression_tried.add(usize::from(encoded.tried));
    if encoded.paid {
        counters.compression_paid.add(1);
        counters.compression_raw_bytes.add(encoded.payload_bytes);
        counters.compression_wire_bytes.add(encoded.wire.len());
    }
    outlet.traffic.bytes_out.add(encoded.payload_bytes - 4 * messages);
}
