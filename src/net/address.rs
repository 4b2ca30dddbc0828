//! Multiaddrs: with and without a peer's id, and which of them are worth telling.

use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::config::Error;
use super::key;
use crate::clock::NodeId;

/// Addresses kept per peer. A host with more interfaces is still reachable on some of these.
pub(super) const ADDRESSES_MAX: usize = 16;
/// Longer text is no address of anyone.
const ADDRESS_BYTES_MAX: usize = 512;

/// Splits `/ip4/…/tcp/…/p2p/<id>` into the way there and who should be there.
pub(super) fn parse(text: &str) -> Result<(Multiaddr, Option<NodeId>), Error> {
    let refuse = |reason: String| Error::Address { address: text.chars().take(80).collect(), reason };
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(refuse(format!("longer than {ADDRESS_BYTES_MAX} bytes")));
    }
    let address: Multiaddr =
        text.trim().parse().map_err(|error: libp2p::multiaddr::Error| refuse(error.to_string()))?;
    match split(address.clone()) {
        (address, _) if address.is_empty() => Err(refuse("it names no host and port".to_owned())),
        (address, None) => Ok((address, None)),
        (address, Some(peer)) => match key::node_id(&peer) {
            Some(node) => Ok((address, Some(node))),
            None => Err(refuse("its peer id is not of an ed25519 key".to_owned())),
        },
    }
}

fn split(mut address: Multiaddr) -> (Multiaddr, Option<libp2p::PeerId>) {
    match address.pop() {
        Some(Protocol::P2p(peer)) => (address, Some(peer)),
        Some(other) => (address.with(other), None),
        None => (address, None),
    }
}

pub(super) fn without_peer(address: &Multiaddr) -> Multiaddr {
    split(address.clone()).0
}

/// As told to people and to other nodes.
pub(super) fn with_peer(address: &Multiaddr, peer: &NodeId) -> String {
    format!("{}/p2p/{peer}", without_peer(address))
}

pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => name == "localhost",
        _ => false,
    }
}

fn is_unspecified(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_unspecified(),
        Some(Protocol::Ip6(ip)) => ip.is_unspecified(),
        _ => false,
    }
}

/// Of the addresses a peer claims, those that make sense where we met it: another host's loopback is not ours, and
/// dialling it would knock at our own door.
pub(super) fn worth_dialling(
    claimed: impl IntoIterator<Item = Multiaddr>,
    met_at: Option<&Multiaddr>,
) -> Vec<Multiaddr> {
    let here = met_at.is_none_or(is_loopback);
    let mut kept = Vec::new();
    for address in claimed {
        let address = without_peer(&address);
        let sensible = !address.is_empty() && !is_unspecified(&address) && (here || !is_loopback(&address));
        if sensible && address.len() <= ADDRESS_BYTES_MAX && !kept.contains(&address) {
            kept.push(address);
        }
        if kept.len() == ADDRESSES_MAX {
            break;
        }
    }
    kept
}

/// The port an address ends in, TCP or UDP.
pub(super) fn port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    })
}

/// Where a TCP address binds.
pub(super) fn tcp_socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let host: IpAddr = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(host, port)),
        _ => None,
    }
}

/// The same address, with port 0 made concrete.
pub(super) fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(0) => Protocol::Tcp(port),
            Protocol::Udp(0) => Protocol::Udp(port),
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_and_its_node_come_apart_and_together() {
        let node = key::node_id(&key::keypair(&[1; 32]).unwrap().public().to_peer_id()).unwrap();
        let text = format!("/ip4/10.0.0.7/tcp/7700/p2p/{node}");
        let (address, peer) = parse(&text).unwrap();
        assert_eq!((address.to_string().as_str(), peer), ("/ip4/10.0.0.7/tcp/7700", Some(node)));
        assert_eq!(with_peer(&address, &node), text);
        assert_eq!(parse("/dns4/seed/tcp/1").unwrap().1, None);
    }

    #[test]
    fn bad_addresses_say_so() {
        let only_peer = format!("/p2p/{}", libp2p::PeerId::random());
        for text in ["", "10.0.0.7:7700", "/ip4/10.0.0.256/tcp/1", only_peer.as_str(), &"/ip4/1.2.3.4".repeat(50)] {
            assert!(matches!(parse(text), Err(Error::Address { .. })), "{text}");
        }
    }

    #[test]
    fn another_hosts_loopback_is_not_ours() {
        let claimed = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.7/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/10.0.0.7/tcp/1"];
        let claimed = || claimed.map(addr);
        let far = worth_dialling(claimed(), Some(&addr("/ip4/10.0.0.7/tcp/999")));
        assert_eq!(far, [addr("/ip4/10.0.0.7/tcp/1")]);
        let near = worth_dialling(claimed(), Some(&addr("/ip4/127.0.0.1/tcp/999")));
        assert_eq!(near, [addr("/ip4/127.0.0.1/tcp/1"), addr("/ip4/10.0.0.7/tcp/1")]);
    }

    #[test]
    fn port_zero_becomes_the_port_that_was_given() {
        assert_eq!(with_port(&addr("/ip4/0.0.0.0/tcp/0"), 77), addr("/ip4/0.0.0.0/tcp/77"));
        assert_eq!(with_port(&addr("/ip4/0.0.0.0/udp/5/quic-v1"), 77), addr("/ip4/0.0.0.0/udp/5/quic-v1"));
    }
}
