//! What libp2p is made of here: TCP, the pre-shared key, noise, yamux, and the behaviours on top.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::{TransportTimeout, TransportTimeoutError};
use libp2p::core::transport::{Boxed, Transport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::pnet::{PnetConfig, PreSharedKey};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour, Swarm};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, allow_block_list, connection_limits, dns, identify, kad, mdns, noise, ping, tcp,
    yamux,
};

use super::address::is_loopback;
use super::config::{Config, Error};
use super::{key, streams};

/// A SYN that got lost is sent again after 1 s; giving up just after means that, while dials are urgent, some SYN is sent
/// every second, however long the network was cut.
const CONNECT_MAX: Duration = Duration::from_millis(1_500);
/// From the first byte to an authenticated, multiplexed connection.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// One link, ping, identify, kademlia's queries, with room for those being closed. Each may hold 256 KiB unread.
const STREAMS_MAX: usize = 64;
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_MAX: Duration = Duration::from_secs(5);

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Behaviour {
    // The doorkeepers stand first: what they refuse, the others never see.
    limits: connection_limits::Behaviour,
    pub blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    allowed: Toggle<allow_block_list::Behaviour<allow_block_list::AllowedPeers>>,
    pub streams: streams::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub kad: Toggle<kad::Behaviour<MemoryStore>>,
}

pub(super) fn build(config: &Config, listen: &[Multiaddr]) -> Result<Swarm<Behaviour>, Error> {
    let keypair = key::keypair(&config.secret_key).ok_or(Error::SecretKey)?;
    let setup = |error: io::Error| Error::Setup { reason: error.to_string() };
    let transport = transport(&keypair, config.psk).map_err(setup)?;
    let peer = keypair.public().to_peer_id();
    let swarm_config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(HANDSHAKE_MAX)
        .with_max_negotiating_inbound_streams(STREAMS_MAX / 2);
    Ok(Swarm::new(transport, behaviour(config, &keypair, listen), peer, swarm_config))
}

/// With names looked up by the system's resolver; a host that has none still reaches addresses.
fn transport(keypair: &Keypair, psk: Option<[u8; 32]>) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    match dns::tokio::Transport::system(nameless(keypair, psk)?) {
        Ok(transport) => Ok(transport.boxed()),
        Err(error) => {
            tracing::warn!(%error, "no resolver: /dns addresses cannot be dialled");
            nameless(keypair, psk)
        }
    }
}

fn nameless(keypair: &Keypair, psk: Option<[u8; 32]>) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let tcp = TransportTimeout::with_outgoing_timeout(tcp, CONNECT_MAX)
        .map_err(|error| in_time(error, "no answer to the attempt to connect".to_owned()));
    let secured = match psk {
        None => secure(tcp, keypair)?,
        Some(psk) => {
            let pnet = PnetConfig::new(PreSharedKey::new(psk));
            secure(tcp.and_then(move |socket, _| pnet.handshake(socket)), keypair)?
        }
    };
    #[cfg(feature = "quic")]
    let secured = with_quic(secured, keypair, psk);
    Ok(secured)
}

fn secure<T>(transport: T, keypair: &Keypair) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let mut multiplexer = yamux::Config::default();
    multiplexer.set_max_num_streams(STREAMS_MAX);
    let secured = transport.upgrade(Version::V1Lazy).authenticate(noise).multiplex(multiplexer);
    let boxed = secured.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let late = || format!("the handshake did not end within {} s", HANDSHAKE_MAX.as_secs());
    Ok(TransportTimeout::new(boxed, HANDSHAKE_MAX).map_err(move |error| in_time(error, late())).boxed())
}

/// Says which of the two clocks ran out: the host is silent, or it answers and is not one of us.
fn in_time<E: std::error::Error + Send + Sync + 'static>(error: TransportTimeoutError<E>, late: String) -> io::Error {
    match error {
        TransportTimeoutError::Timeout => io::Error::new(io::ErrorKind::TimedOut, late),
        TransportTimeoutError::TimerError(error) => error,
        TransportTimeoutError::Other(error) => io::Error::other(error),
    }
}

/// The pre-shared key does not cover QUIC, so a private network has none.
#[cfg(feature = "quic")]
fn with_quic(
    tcp: Boxed<(PeerId, StreamMuxerBox)>,
    keypair: &Keypair,
    psk: Option<[u8; 32]>,
) -> Boxed<(PeerId, StreamMuxerBox)> {
    if psk.is_some() {
        return tcp;
    }
    let quic = libp2p::quic::tokio::Transport::new(libp2p::quic::Config::new(keypair));
    let quic = quic.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    quic.or_transport(tcp).map(|either, _| either.into_inner()).boxed()
}

fn behaviour(config: &Config, keypair: &Keypair, listen: &[Multiaddr]) -> Behaviour {
    let limits = &config.limits;
    let peer = keypair.public().to_peer_id();
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(limits.connections_max))
        .with_max_established_per_peer(Some(limits.connections_per_peer_max))
        .with_max_pending_incoming(Some(limits.pending_max))
        .with_max_pending_outgoing(Some(limits.pending_max));
    let allowed = config.allow.as_ref().map(|allow| {
        let mut allowed = allow_block_list::Behaviour::<allow_block_list::AllowedPeers>::default();
        for peer in allow.iter().filter_map(key::peer_id) {
            allowed.allow_peer(peer);
        }
        allowed
    });
    let identify = identify::Config::new("/folkmoot/1".to_owned(), keypair.public())
        .with_agent_version(concat!("folkmoot/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_push_listen_addr_updates(true)
        .with_cache_size(0);
    Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        blocked: Default::default(),
        allowed: allowed.into(),
        streams: Default::default(),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_MAX)),
        identify: identify::Behaviour::new(identify),
        mdns: mdns_behaviour(config, peer, listen).into(),
        kad: config.kademlia.then(|| kademlia(peer)).into(),
    }
}

fn mdns_behaviour(config: &Config, peer: PeerId, listen: &[Multiaddr]) -> Option<mdns::tokio::Behaviour> {
    if !config.mdns || listen.iter().all(is_loopback) {
        return None;
    }
    // A host without multicast is no reason not to start.
    mdns::tokio::Behaviour::new(mdns::Config::default(), peer)
        .inspect_err(|error| tracing::warn!(%error, "no peers will be found by multicast"))
        .ok()
}

/// Only for finding peers: no records are taken from anyone.
fn kademlia(peer: PeerId) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(StreamProtocol::new("/folkmoot/kad/1"));
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_query_timeout(Duration::from_secs(20))
        // Walks are started by the loop, when it lacks links.
        .set_periodic_bootstrap_interval(None);
    let mut kad = kad::Behaviour::with_config(peer, MemoryStore::new(peer), config);
    kad.set_mode(Some(kad::Mode::Server));
    kad
}
