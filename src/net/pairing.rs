//! Which connection of a peer carries its link.
//!
//! The smaller id opens: see [`hello`](super::hello) for the agreement itself. This file keeps the books of connections,
//! attempts and links, and says what is to be done next; the loop does it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::event::LinkId;
use super::hello::{HELLO_BYTES, Hello, Nonce};
use super::link::{self, End, Link, Run, Start};
use super::outlet::{Closing, ask_to_close};
use crate::clock::NodeId;

/// Notes from links and greetings to the loop. It never waits for them in turn, so this cannot lock up.
pub(super) const NOTES_MAX: usize = 1_024;
/// A connection on which no link came up in this time is closed: a stranger, or a spare.
const LINKLESS_MAX: Duration = Duration::from_secs(10);
/// A connection that answered no ping in this time is dead.
const SILENT_MAX: Duration = Duration::from_secs(8);
/// An attempt so old gives way to one on a newer connection.
const ATTEMPT_PATIENCE: Duration = Duration::from_millis(500);
const GREETING_MAX: Duration = Duration::from_secs(5);
/// A link that lived at least this long is opened again on the same connection; else the connection goes too, and the
/// planner's backoff decides.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// Greetings under way on one connection.
const GREETINGS_MAX: u32 = 2;

/// What the tasks tell the loop.
#[derive(Debug)]
pub(super) enum Note {
    Asked { connection: ConnectionId, stream: Stream, nonce: Nonce, current: Nonce },
    Answered { connection: ConnectionId, stream: Stream, nonce: Nonce, kept: bool },
    GreetingFailed { connection: ConnectionId, reason: String, hostile: bool },
    Ended { peer: NodeId, link: LinkId, end: End },
}

/// What the loop shall do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Open(PeerId, ConnectionId),
    Close(ConnectionId),
    LinkUp(NodeId),
    LinkDown { peer: NodeId, connected: bool, reason: String },
}

#[derive(Debug)]
pub(super) struct Connection {
    pub peer: NodeId,
    pub peer_id: PeerId,
    pub outbound: bool,
    pub address: String,
    /// When it was made, or last lost its link.
    since: Instant,
    heard: Instant,
    answers_pings: bool,
    tried: bool,
    greetings: u32,
}

#[derive(Debug)]
struct Attempt {
    connection: ConnectionId,
    nonce: Nonce,
    since: Instant,
}

#[derive(Debug)]
pub(super) struct Pairing {
    run: Run,
    connections: BTreeMap<ConnectionId, Connection>,
    attempts: BTreeMap<NodeId, Attempt>,
    links: BTreeMap<NodeId, Link>,
}

impl Pairing {
    pub fn new(run: Run) -> Self {
        Self { run, connections: BTreeMap::new(), attempts: BTreeMap::new(), links: BTreeMap::new() }
    }

    pub fn connection(&self, id: &ConnectionId) -> Option<&Connection> {
        self.connections.get(id)
    }

    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    pub fn link_count(&self) -> usize {
        self.links.len()
    }

    pub fn on_connected(
        &mut self,
        id: ConnectionId,
        peer: (NodeId, PeerId),
        outbound: bool,
        address: String,
    ) -> Vec<Act> {
        let now = Instant::now();
        let (peer, peer_id) = peer;
        let connection = Connection {
            peer,
            peer_id,
            outbound,
            address,
            since: now,
            heard: now,
            answers_pings: true,
            tried: false,
            greetings: 0,
        };
        self.connections.insert(id, connection);
        self.next_attempt(peer)
    }

    /// Second value: whether it was the peer's last connection.
    pub fn on_disconnected(&mut self, id: &ConnectionId, reason: &str) -> (Vec<Act>, bool) {
        let Some(connection) = self.connections.remove(id) else { return (Vec::new(), false) };
        let peer = connection.peer;
        if self.attempts.get(&peer).is_some_and(|attempt| attempt.connection == *id) {
            self.attempts.remove(&peer);
        }
        if let Some(link) = self.links.get(&peer).filter(|link| link.connection == *id) {
            ask_to_close(&link.outlet.closing, Closing::Lost(reason.to_owned()));
        }
        let last = !self.connections.values().any(|connection| connection.peer == peer);
        (self.next_attempt(peer), last)
    }

    pub fn on_ping(&mut self, id: &ConnectionId, answered: Option<bool>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match answered {
            Some(true) => connection.heard = Instant::now(),
            Some(false) => {}
            None => connection.answers_pings = false,
        }
    }

    /// Tries the connections of peers that have become wanted since they were made.
    pub fn try_wanted(&mut self) -> Vec<Act> {
        let untried =
            self.connections.values().filter(|connection| !connection.tried).map(|connection| connection.peer);
        let peers: BTreeSet<NodeId> = untried.filter(|peer| self.living(peer).is_none()).collect();
        peers.into_iter().flat_map(|peer| self.next_attempt(peer)).collect()
    }

    /// Opens a link with `peer` if that is this node's part and there is a connection to try it on.
    fn next_attempt(&mut self, peer: NodeId) -> Vec<Act> {
        if self.run.shared.local > peer || !self.run.shared.planner.lock().seeks(&peer) {
            return Vec::new();
        }
        let carrying = self.living(&peer).map(|link| link.connection);
        let untried = |(id, connection): &(&ConnectionId, &mut Connection)| {
            connection.peer == peer && !connection.tried && carrying != Some(**id)
        };
        if self.attempts.get(&peer).is_some_and(|attempt| attempt.since.elapsed() < ATTEMPT_PATIENCE) {
            return Vec::new();
        }
        // The newest: an old one may be dead at the other end.
        let newest =
            self.connections.iter_mut().filter(untried).max_by_key(|(id, connection)| (connection.since, **id));
        let Some((id, connection)) = newest else { return Vec::new() };
        connection.tried = true;
        let attempt = Attempt { connection: *id, nonce: fresh_nonce(), since: Instant::now() };
        let act = Act::Open(connection.peer_id, *id);
        self.attempts.insert(peer, attempt);
        vec![act]
    }

    /// The stream asked for by `Act::Open`.
    pub fn on_opened(&mut self, id: ConnectionId, stream: Stream) {
        let Some(peer) = self.connections.get(&id).map(|connection| connection.peer) else { return };
        let Some(attempt) = self.attempts.get(&peer).filter(|attempt| attempt.connection == id) else { return };
        let current = self.living(&peer).map_or(0, |link| link.nonce);
        tokio::spawn(ask(id, stream, attempt.nonce, current, self.run.notes.clone()));
    }

    pub fn on_open_failed(&mut self, id: ConnectionId) -> Vec<Act> {
        self.drop_attempt(id);
        vec![Act::Close(id)]
    }

    /// A stream the peer opened.
    pub fn on_inbound(&mut self, id: ConnectionId, stream: Stream) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.greetings < GREETINGS_MAX {
            connection.greetings += 1;
            tokio::spawn(listen(id, stream, self.run.notes.clone()));
        }
    }

    pub fn on_note(&mut self, note: Note) -> Vec<Act> {
        match note {
            Note::Asked { connection, stream, nonce, current } => self.on_asked(connection, stream, nonce, current),
            Note::Answered { connection, stream, nonce, kept } => self.on_answered(connection, stream, nonce, kept),
            Note::GreetingFailed { connection, reason, hostile } => {
                tracing::debug!(?connection, reason, hostile, "greeting failed");
                self.on_greeting_failed(connection, hostile)
            }
            Note::Ended { peer, link, end } => self.on_ended(peer, link, end),
        }
    }

    fn on_greeting_failed(&mut self, id: ConnectionId, hostile: bool) -> Vec<Act> {
        self.run.shared.counters.malformed.add(usize::from(hostile));
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        connection.greetings = connection.greetings.saturating_sub(1);
        let peer = connection.peer;
        self.drop_attempt(id);
        // An attempt the opener gave up on says nothing about the link that is there.
        if !hostile && self.living(&peer).is_some_and(|link| link.connection == id) {
            return Vec::new();
        }
        vec![Act::Close(id)]
    }

    /// The link with `peer`, unless it has lost its connection or was asked to end.
    fn living(&self, peer: &NodeId) -> Option<&Link> {
        let link = self.links.get(peer)?;
        let lives = self.connections.contains_key(&link.connection) && *link.outlet.closing.borrow() == Closing::No;
        lives.then_some(link)
    }

    /// Ends the links of peers that are no longer wanted.
    pub fn drop_unwanted(&mut self) {
        let planner = self.run.shared.planner.lock();
        for (_, link) in self.links.iter().filter(|(peer, _)| !planner.admits(peer)) {
            ask_to_close(&link.outlet.closing, Closing::Now("blocked by this node".to_owned()));
        }
    }

    fn on_asked(&mut self, id: ConnectionId, stream: Stream, nonce: Nonce, current: Nonce) -> Vec<Act> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        connection.greetings = connection.greetings.saturating_sub(1);
        let peer = connection.peer;
        if self.run.shared.local < peer {
            // Opening is this node's part: the peer breaks the rule.
            self.run.shared.counters.malformed.add(1);
            return vec![Act::Close(id)];
        }
        if !self.run.shared.planner.lock().admits(&peer) {
            return vec![Act::Close(id)];
        }
        let answer = Hello::answer(nonce, current, self.living(&peer).map(|link| link.nonce));
        if let Hello::Keep { .. } = answer {
            tokio::spawn(say(stream, answer));
            return Vec::new();
        }
        self.establish(id, stream, nonce, Some(answer.to_bytes()))
    }

    fn on_answered(&mut self, id: ConnectionId, stream: Stream, nonce: Nonce, kept: bool) -> Vec<Act> {
        let Some(peer) = self.connections.get(&id).map(|connection| connection.peer) else { return Vec::new() };
        if !self.attempts.get(&peer).is_some_and(|attempt| attempt.connection == id && attempt.nonce == nonce) {
            return Vec::new();
        }
        self.attempts.remove(&peer);
        if kept && self.living(&peer).is_some() {
            let mut acts = vec![Act::Close(id)];
            acts.extend(self.next_attempt(peer));
            return acts;
        }
        if kept {
            // It broke while we asked: ask again, with nothing to keep.
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.tried = false;
            }
            return self.next_attempt(peer);
        }
        let mut acts = self.establish(id, stream, nonce, None);
        // One connection per peer, and the opener chooses it.
        let spare = self.connections.iter().filter(|(other, connection)| connection.peer == peer && **other != id);
        acts.extend(spare.map(|(other, _)| Act::Close(*other)));
        acts
    }

    fn establish(
        &mut self,
        id: ConnectionId,
        stream: Stream,
        nonce: Nonce,
        greeting: Option<[u8; HELLO_BYTES]>,
    ) -> Vec<Act> {
        let Some(connection) = self.connections.get(&id) else { return Vec::new() };
        let peer = connection.peer;
        let mut acts = Vec::new();
        let after = self.links.remove(&peer).map(|old| {
            let reason = "replaced by a newer link".to_owned();
            ask_to_close(&old.outlet.closing, Closing::Now(reason.clone()));
            acts.push(Act::LinkDown { peer, connected: true, reason });
            old.task
        });
        let (address, outbound) = (connection.address.clone(), connection.outbound);
        let start = Start { peer, nonce, connection: id, address, outbound, stream, greeting, after };
        self.links.insert(peer, link::spawn(start, self.run.clone()));
        acts.push(Act::LinkUp(peer));
        acts
    }

    fn on_ended(&mut self, peer: NodeId, id: LinkId, end: End) -> Vec<Act> {
        let Some(link) = self.links.get(&peer).filter(|link| link.id == id) else { return Vec::new() };
        let (carrier, lived) = (link.connection, link.since.elapsed());
        self.links.remove(&peer);
        let carrier_lives = self.connections.contains_key(&carrier);
        let connected = self.connections.values().any(|connection| connection.peer == peer);
        let mut acts = vec![Act::LinkDown { peer, connected, reason: end.reason }];
        if let Some(connection) = self.connections.get_mut(&carrier) {
            connection.since = Instant::now();
            connection.tried = false;
        }
        if carrier_lives && (end.hostile || lived < REOPEN_AFTER) {
            acts.push(Act::Close(carrier));
        } else {
            acts.extend(self.next_attempt(peer));
        }
        acts
    }

    fn drop_attempt(&mut self, id: ConnectionId) {
        self.attempts.retain(|_, attempt| attempt.connection != id);
    }

    /// Closes what is dead or of no use. `paused`: the loop itself did not run for a while, so silence proves nothing.
    pub fn on_tick(&mut self, paused: bool) -> Vec<Act> {
        let mut acts = Vec::new();
        for (id, connection) in &mut self.connections {
            if paused {
                connection.heard = Instant::now();
            }
            let carries = self.links.get(&connection.peer).is_some_and(|link| link.connection == *id);
            let silent = connection.answers_pings && connection.heard.elapsed() > SILENT_MAX;
            if silent || !carries && connection.since.elapsed() > LINKLESS_MAX {
                acts.push(Act::Close(*id));
            }
        }
        let waiting: Vec<_> = self.attempts.keys().copied().collect();
        for peer in waiting {
            acts.extend(self.next_attempt(peer));
        }
        acts
    }
}

fn fresh_nonce() -> Nonce {
    rand::random::<u64>().max(1)
}

/// The opener's part of the greeting.
async fn ask(connection: ConnectionId, mut stream: Stream, nonce: Nonce, current: Nonce, notes: mpsc::Sender<Note>) {
    let asked = async {
        stream.write_all(&Hello::Open { nonce, current }.to_bytes()).await?;
        stream.flush().await?;
        let mut answer = [0; HELLO_BYTES];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let failed = |reason: String, hostile| Note::GreetingFailed { connection, reason, hostile };
    let note = match timeout(GREETING_MAX, asked).await {
        Err(_) => failed("the peer did not answer the greeting".to_owned(), false),
        Ok(Err(error)) => failed(error.to_string(), false),
        Ok(Ok(answer)) => match Hello::parse(&answer) {
            Some(Hello::Accept { nonce: echo }) if echo == nonce => {
                Note::Answered { connection, stream, nonce, kept: false }
            }
            Some(Hello::Keep { nonce: echo }) if echo == nonce => {
                Note::Answered { connection, stream, nonce, kept: true }
            }
            _ => failed("that is no answer to a greeting".to_owned(), true),
        },
    };
    let _ = notes.send(note).await;
}

/// The acceptor's part, up to the decision.
async fn listen(connection: ConnectionId, mut stream: Stream, notes: mpsc::Sender<Note>) {
    let mut bytes = [0; HELLO_BYTES];
    let failed = |reason: String, hostile| Note::GreetingFailed { connection, reason, hostile };
    let note = match timeout(GREETING_MAX, stream.read_exact(&mut bytes)).await {
        Err(_) => failed("the peer opened a stream and said nothing".to_owned(), false),
        Ok(Err(error)) => failed(error.to_string(), false),
        Ok(Ok(())) => match Hello::parse(&bytes) {
            Some(Hello::Open { nonce, current }) => Note::Asked { connection, stream, nonce, current },
            _ => failed("that is no greeting".to_owned(), true),
        },
    };
    let _ = notes.send(note).await;
}

async fn say(mut stream: Stream, hello: Hello) {
    let said = async {
        stream.write_all(&hello.to_bytes()).await?;
        stream.close().await
    };
    let _ = timeout(GREETING_MAX, said).await;
}
