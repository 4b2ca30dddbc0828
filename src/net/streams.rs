//! The libp2p behaviour that opens and accepts our streams, on connections it is told.
//!
//! Not `libp2p-stream`: that one picks any connection of a peer, so a new link could be opened on the dead half of an
//! old connection; it does not say on which connection a stream came in; it drops streams that are accepted slowly; and
//! it keeps a sender for every connection there ever was.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
    StreamUpgradeError,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
    SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol};

pub(super) const PROTOCOL: StreamProtocol = StreamProtocol::new("/folkmoot/delta/1");
/// Streams a handler holds for the loop above. One is the rule; a peer that opens more loses the newest.
const INBOUND_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Event {
    pub connection: ConnectionId,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Inbound(Stream),
    Opened(Stream),
    OpenFailed(String),
}

#[derive(Debug, Default)]
pub(super) struct Behaviour {
    actions: VecDeque<ToSwarm<Event, Open>>,
}

/// The order to open a stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open;

impl Behaviour {
    /// Answered by `Opened` or `OpenFailed`, or by the connection's end. Call it from the task that polls the swarm.
    pub fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        let handler = NotifyHandler::One(connection);
        self.actions.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: Open });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, outcome: THandlerOutEvent<Self>) {
        self.actions.push_back(ToSwarm::GenerateEvent(Event { connection, outcome }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, THandlerInEvent<Self>>> {
        // No waker: every action is queued from within the task that polls the swarm, before it polls again.
        self.actions.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[derive(Debug, Default)]
pub(super) struct Handler {
    to_open: usize,
    events: VecDeque<Outcome>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Outcome;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// The loop above decides which connections live.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if self.to_open > 0 {
            self.to_open -= 1;
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // No waker: both fields change only in the calls below, after which the connection polls again.
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.to_open += 1;
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. })
                if self.events.len() < INBOUND_MAX =>
            {
                self.events.push_back(Outcome::Inbound(stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) => {
                self.events.push_back(Outcome::Opened(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.events.push_back(Outcome::OpenFailed(explain(error)));
            }
            _ => {}
        }
    }
}

fn explain(error: StreamUpgradeError<Infallible>) -> String {
    match error {
        StreamUpgradeError::Timeout => "the peer did not answer in time".to_owned(),
        StreamUpgradeError::NegotiationFailed => format!("the peer does not speak {PROTOCOL}; is it a Folkmoot node?"),
        StreamUpgradeError::Io(error) => error.to_string(),
        StreamUpgradeError::Apply(never) => match never {},
    }
}
