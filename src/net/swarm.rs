//! The loop that owns the swarm: what libp2p reports goes to the planner, the pairing and the node; what they want done
//! is done here.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, kad, mdns, ping};
use tokio::sync::{mpsc, watch};

use super::address::{self, is_loopback, with_peer, without_peer, worth_dialling};
use super::config::Error;
use super::dial::{Dial, Target};
use super::event::Event;
use super::key;
use super::link::Run;
use super::outlet::Closing;
use super::pairing::{Act, Note, Pairing};
use super::shared::Shared;
use super::streams;
use super::transport::{Behaviour, BehaviourEvent};
use crate::clock::NodeId;

const TICK: Duration = Duration::from_millis(500);
/// Events of the loop itself that wait for a busy node. Over it the oldest is dropped: links wait on their own.
const OUTGOING_MAX: usize = 1_024;
/// How long `shutdown` flushes.
pub(super) const FLUSH_MAX: Duration = Duration::from_secs(2);
/// A walk through the overlay looks for peers this often, while there are fewer links than this.
const WALK_EVERY: Duration = Duration::from_secs(60);
const WALK_LINKS_MAX: usize = 16;

/// Why the loop ended of itself. Its other end is a panic.
#[derive(Debug)]
pub(super) enum Exit {
    Stopped,
    Failed(String),
}

pub(super) struct Loop {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    run: Run,
    closing: Arc<watch::Sender<Closing>>,
    notes: mpsc::Receiver<Note>,
    pairing: Pairing,
    dials: HashMap<ConnectionId, Dial>,
    listeners: HashMap<ListenerId, usize>,
    closed_listeners: BTreeSet<usize>,
    blocked: BTreeSet<NodeId>,
    outgoing: VecDeque<Event>,
    ticked: Instant,
    walked: Instant,
    flushing_since: Option<Instant>,
}

/// libp2p listens with `SO_REUSEPORT`: a second process on the same port would silently share its connections. So the
/// port is taken once without it.
pub(super) fn check_free(addresses: &[Multiaddr]) -> Result<(), Error> {
    for address in addresses {
        if let Some(socket) = address::tcp_socket(address).filter(|socket| socket.port() != 0) {
            let refuse =
                |error: std::io::Error| Error::Listen { address: address.to_string(), reason: error.to_string() };
            std::net::TcpListener::bind(socket).map_err(refuse)?;
        }
    }
    Ok(())
}

/// Starts to listen. With the ports of an earlier run, where there was one.
pub(super) fn listen(
    swarm: &mut Swarm<Behaviour>,
    addresses: &[Multiaddr],
    shared: &Shared,
) -> Result<HashMap<ListenerId, usize>, Error> {
    let mut listeners = HashMap::new();
    for (index, address) in addresses.iter().enumerate() {
        let known = shared.ports.lock().get(index).copied().flatten();
        let address = known.map_or_else(|| address.clone(), |port| address::with_port(address, port));
        let refuse = |error: String| Error::Listen { address: address.to_string(), reason: error };
        let id = swarm.listen_on(address.clone()).map_err(|error| refuse(chain(&error)))?;
        listeners.insert(id, index);
    }
    Ok(listeners)
}

impl Loop {
    pub fn new(
        swarm: Swarm<Behaviour>,
        listeners: HashMap<ListenerId, usize>,
        run: Run,
        notes: mpsc::Receiver<Note>,
        closing: Arc<watch::Sender<Closing>>,
    ) -> Self {
        Self {
            swarm,
            shared: run.shared.clone(),
            pairing: Pairing::new(run.clone()),
            run,
            closing,
            notes,
            dials: HashMap::new(),
            listeners,
            closed_listeners: BTreeSet::new(),
            blocked: BTreeSet::new(),
            outgoing: VecDeque::new(),
            ticked: Instant::now(),
            walked: Instant::now(),
            flushing_since: None,
        }
    }

    pub async fn run(mut self) -> Exit {
        let mut ticker = tokio::time::interval(TICK);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let inbox = self.run.inbox.clone();
        let shared = self.shared.clone();
        loop {
            if let Some(exit) = self.on_wish() {
                return exit;
            }
            self.dial_due();
            self.tell();
            let idle = self.until_next_dial();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(note) = self.notes.recv() => {
                    let acts = self.pairing.on_note(note);
                    self.perform(acts);
                }
                () = shared.wake.notified() => {}
                () = tokio::time::sleep(idle) => {}
                _ = ticker.tick() => self.on_tick(),
                () = inbox.closed() => return Exit::Stopped,
            }
        }
    }

    /// What the handle asks for.
    fn on_wish(&mut self) -> Option<Exit> {
        assert!(!self.shared.crash.swap(false, Relaxed), "crashed for a test");
        self.apply_blocked();
        if self.flushing_since.is_none() && self.shared.stop.load(Relaxed) {
            self.flushing_since = Some(Instant::now());
            for id in std::mem::take(&mut self.listeners).into_keys() {
                self.swarm.remove_listener(id);
            }
            super::outlet::ask_to_close(&self.closing, Closing::Flush);
        }
        let since = self.flushing_since?;
        if self.pairing.link_count() == 0 {
            // Everything is written; now the connections may go, which sends what is still in their buffers.
            for peer in self.swarm.connected_peers().copied().collect::<Vec<_>>() {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
        let done = self.pairing.link_count() == 0 && self.pairing.connection_count() == 0;
        (done || since.elapsed() >= FLUSH_MAX).then_some(Exit::Stopped)
    }

    fn apply_blocked(&mut self) {
        let wished = self.shared.planner.lock().blocked().clone();
        if wished == self.blocked {
            return;
        }
        for peer in self.blocked.difference(&wished).filter_map(key::peer_id) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        for peer in wished.difference(&self.blocked).filter_map(key::peer_id) {
            self.swarm.behaviour_mut().blocked.block_peer(peer);
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        self.blocked = wished;
        self.pairing.drop_unwanted();
    }

    fn dial_due(&mut self) {
        if self.flushing_since.is_some() {
            return;
        }
        let acts = self.pairing.try_wanted();
        self.perform(acts);
        let now = self.shared.now_ms();
        let due = self.shared.planner.lock().due(now);
        for dial in due {
            let opts = match &dial.target {
                Target::Peer(node) => key::peer_id(node).map(|peer| {
                    let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always);
                    // A port of its own: reusing the listener's makes two nodes that dial each other collide.
                    opts.addresses(dial.addresses.clone()).allocate_new_port().build()
                }),
                Target::Seed(_) => dial
                    .addresses
                    .first()
                    .map(|address| DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build()),
            };
            let Some(opts) = opts else {
                self.on_dial_failed(dial, "its id is not a valid key".to_owned());
                continue;
            };
            self.shared.counters.dials.add(1);
            let id = opts.connection_id();
            match self.swarm.dial(opts) {
                Ok(()) => drop(self.dials.insert(id, dial)),
                Err(error) => self.on_dial_error(dial, &error),
            }
        }
    }

    fn until_next_dial(&self) -> Duration {
        let next = self.shared.planner.lock().next_at();
        next.map_or(TICK, |at| Duration::from_millis(at.saturating_sub(self.shared.now_ms())).min(TICK))
    }

    /// Tells the node what waits, as far as it listens.
    fn tell(&mut self) {
        while let Some(event) = self.outgoing.pop_front() {
            if let Err(event) = self.run.inbox.try_push(event) {
                self.outgoing.push_front(event);
                return;
            }
        }
    }

    fn say(&mut self, event: Event) {
        if self.outgoing.len() >= OUTGOING_MAX {
            self.outgoing.pop_front();
        }
        self.outgoing.push_back(event);
    }

    fn perform(&mut self, acts: Vec<Act>) {
        for act in acts {
            let now = self.shared.now_ms();
            match act {
                Act::Open(peer, connection) => self.swarm.behaviour_mut().streams.open(peer, connection),
                Act::Close(connection) => drop(self.swarm.close_connection(connection)),
                Act::LinkUp(peer) => self.shared.planner.lock().on_link_up(peer, now),
                Act::LinkDown { peer, connected, reason } => {
                    self.shared.planner.lock().on_link_down(peer, connected, &reason, now);
                }
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let outbound = endpoint.is_dialer();
                self.on_connected(peer_id, connection_id, outbound, endpoint.get_remote_address().clone());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let reason = cause.map_or_else(|| "the connection was closed".to_owned(), |cause| chain(&cause));
                self.on_disconnected(peer_id, connection_id, &reason);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(dial) = self.dials.remove(&connection_id) {
                    self.on_dial_error(dial, &error);
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                self.shared.counters.refused.add(1);
                tracing::debug!(address = %send_back_addr, reason = chain(&error), "refused a connection");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.on_listening(listener_id, &address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let expired = with_peer(&address, &self.shared.local);
                self.shared.listening.lock().retain(|known| *known != expired);
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                if let Some(index) = self.listeners.remove(&listener_id) {
                    tracing::warn!(?reason, "a listener closed; it will be opened again");
                    self.closed_listeners.insert(index);
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener has trouble"),
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, id: ConnectionId, outbound: bool, address: Multiaddr) {
        let dial = self.dials.remove(&id);
        let Some(node) = key::node_id(&peer) else {
            self.shared.counters.refused.add(1);
            if let Some(dial) = dial {
                self.on_dial_failed(dial, "its key is not ed25519".to_owned());
            }
            self.swarm.close_connection(id);
            return;
        };
        let target = dial.map(|dial| dial.target);
        self.shared.planner.lock().on_connected(node, target.as_ref(), self.shared.now_ms());
        let address = without_peer(&address).to_string();
        let acts = self.pairing.on_connected(id, (node, peer), outbound, address);
        self.perform(acts);
    }

    fn on_disconnected(&mut self, peer: PeerId, id: ConnectionId, reason: &str) {
        let (acts, last) = self.pairing.on_disconnected(&id, reason);
        if last && let Some(node) = key::node_id(&peer) {
            self.shared.planner.lock().on_disconnected(node, reason, self.shared.now_ms());
        }
        self.perform(acts);
    }

    fn on_dial_error(&mut self, dial: Dial, error: &DialError) {
        {
            let mut planner = self.shared.planner.lock();
            match (error, &dial.target) {
                (DialError::WrongPeerId { obtained, address }, Target::Peer(expected)) => {
                    let obtained = key::node_id(obtained).unwrap_or(*expected);
                    planner.on_wrong_peer(*expected, &without_peer(address), obtained);
                }
                (DialError::LocalPeerId { address }, _) => planner.on_self(&without_peer(address)),
                _ => {}
            }
        }
        self.on_dial_failed(dial, explain(error));
    }

    fn on_dial_failed(&mut self, dial: Dial, reason: String) {
        self.shared.counters.dials_failed.add(1);
        let tell = self.shared.planner.lock().on_failed(&dial.target, &reason, self.shared.now_ms());
        let Some(address) = dial.addresses.first().filter(|_| tell) else { return };
        let address = match &dial.target {
            Target::Peer(node) => with_peer(address, node),
            Target::Seed(_) => address.to_string(),
        };
        self.say(Event::DialFailed { address, reason });
    }

    fn on_listening(&mut self, id: ListenerId, address: &Multiaddr) {
        let index = self.listeners.get(&id).copied();
        if let (Some(index), Some(port)) = (index, address::port(address))
            && let Some(known) = self.shared.ports.lock().get_mut(index)
        {
            *known = Some(port);
        }
        let address = with_peer(address, &self.shared.local);
        self.shared.listening.lock().push(address.clone());
        self.say(Event::Listening { address });
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Streams(streams::Event { connection, outcome }) => match outcome {
                streams::Outcome::Inbound(stream) => self.pairing.on_inbound(connection, stream),
                streams::Outcome::Opened(stream) => self.pairing.on_opened(connection, stream),
                streams::Outcome::OpenFailed(reason) => {
                    tracing::debug!(?connection, reason, "no stream");
                    let acts = self.pairing.on_open_failed(connection);
                    self.perform(acts);
                }
            },
            BehaviourEvent::Ping(ping::Event { connection, result, .. }) => {
                let answered = match result {
                    Ok(_) => Some(true),
                    Err(ping::Failure::Unsupported) => None,
                    Err(_) => Some(false),
                };
                self.pairing.on_ping(&connection, answered);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, connection_id, info }) => {
                let met_at = self.pairing.connection(&connection_id).and_then(|c| c.address.parse().ok());
                self.discovered(peer_id, info.listen_addrs, met_at.as_ref());
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.discovered(peer, [address], None);
                }
            }
            BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetClosestPeers(Ok(found)),
                ..
            }) => {
                // Told by others: loopback makes sense only if that is all we have, too.
                let met_at = self.swarm.listeners().find(|address| !is_loopback(address)).cloned();
                for peer in found.peers {
                    self.discovered(peer.peer_id, peer.addrs, met_at.as_ref());
                }
            }
            _ => {}
        }
    }

    fn discovered(&mut self, peer: PeerId, claimed: impl IntoIterator<Item = Multiaddr>, met_at: Option<&Multiaddr>) {
        let Some(node) = key::node_id(&peer) else { return };
        let addresses = worth_dialling(claimed, met_at);
        if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
            for address in &addresses {
                kad.add_address(&peer, address.clone());
            }
        }
        let told = addresses.iter().map(|address| with_peer(address, &node)).collect();
        if self.shared.planner.lock().on_discovered(node, addresses, self.shared.now_ms()) {
            self.say(Event::Discovered { peer: node, addresses: told });
        }
    }

    fn on_tick(&mut self) {
        let paused = self.ticked.elapsed() > 4 * TICK;
        self.ticked = Instant::now();
        let acts = self.pairing.on_tick(paused);
        self.perform(acts);
        self.listen_again();
        if self.walked.elapsed() >= WALK_EVERY && self.pairing.link_count() < WALK_LINKS_MAX {
            self.walked = Instant::now();
            if let Some(kad) = self.swarm.behaviour_mut().kad.as_mut() {
                kad.get_closest_peers(PeerId::random());
            }
        }
    }

    fn listen_again(&mut self) {
        for index in std::mem::take(&mut self.closed_listeners) {
            let Some(Ok((address, _))) = self.shared.config.listen.get(index).map(|text| address::parse(text)) else {
                continue;
            };
            let port = self.shared.ports.lock().get(index).copied().flatten();
            let address = port.map_or_else(|| address.clone(), |port| address::with_port(&address, port));
            match self.swarm.listen_on(address) {
                Ok(id) => drop(self.listeners.insert(id, index)),
                Err(_) => drop(self.closed_listeners.insert(index)),
            }
        }
    }
}

/// An error with its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn explain(error: &DialError) -> String {
    let DialError::Transport(attempts) = error else { return chain(error) };
    let reasons: BTreeMap<String, String> =
        attempts.iter().take(3).map(|(address, error)| (without_peer(address).to_string(), deepest(error))).collect();
    let told: Vec<_> = reasons.into_iter().map(|(address, reason)| format!("{address}: {reason}")).collect();
    told.join("; ")
}

/// The last cause: what libp2p wraps around it names only its own layers.
fn deepest(error: &libp2p::TransportError<std::io::Error>) -> String {
    let libp2p::TransportError::Other(error) = error else { return error.to_string() };
    let text = match error.source() {
        Some(_) => chain(error),
        None => error.to_string(),
    };
    let reached = ["refused", "unreachable", "No route", "no answer"].iter().all(|word| !text.contains(word));
    match reached {
        true => {
            format!("{text} (the host answered, but not as a node of this network: is the pre-shared key the same?)")
        }
        false => text,
    }
}
