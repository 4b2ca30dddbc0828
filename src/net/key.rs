//! Keys: a node's id as libp2p writes it, and the swarm key file of a private network.

use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

use crate::clock::NodeId;

/// The one place where the two names of a node meet. `None` for a peer whose key is not ed25519.
pub(super) fn node_id(peer: &PeerId) -> Option<NodeId> {
    peer.to_base58().parse().ok()
}

/// `None` if the 32 bytes are not a point on the curve: such a node cannot exist.
pub(super) fn peer_id(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&node.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

pub(super) fn keypair(seed: &[u8; 32]) -> Option<Keypair> {
    Keypair::ed25519_from_bytes(*seed).ok()
}

/// Why a swarm key file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwarmKeyError {
    #[error("line 1 of the swarm key must be `/key/swarm/psk/1.0.0/`, not `{found}`")]
    Header { found: String },
    #[error("line 2 of the swarm key must be `/base16/` (other encodings are not read), not `{found}`")]
    Encoding { found: String },
    #[error("line 3 of the swarm key must be 64 hex digits; it has {digits} characters")]
    Length { digits: usize },
    #[error("line 3 of the swarm key: `{found}` at column {column} is not a hex digit")]
    Digit { found: char, column: usize },
    #[error("line {line} of the swarm key: nothing may follow the key on line 3")]
    Trailing { line: usize },
}

/// Reads a libp2p swarm key: `/key/swarm/psk/1.0.0/`, `/base16/`, then 32 bytes in hex, one per line.
pub fn parse_swarm_key(text: &str) -> Result<[u8; 32], SwarmKeyError> {
    let shown = |line: &str| line.chars().take(40).collect::<String>();
    let mut lines = text.lines().map(str::trim_end);
    let header = lines.next().unwrap_or_default();
    if header != "/key/swarm/psk/1.0.0/" {
        return Err(SwarmKeyError::Header { found: shown(header) });
    }
    let encoding = lines.next().unwrap_or_default();
    if encoding != "/base16/" {
        return Err(SwarmKeyError::Encoding { found: shown(encoding) });
    }
    let key = parse_hex(lines.next().unwrap_or_default())?;
    match lines.position(|line| !line.is_empty()) {
        Some(extra) => Err(SwarmKeyError::Trailing { line: extra + 4 }),
        None => Ok(key),
    }
}

fn parse_hex(line: &str) -> Result<[u8; 32], SwarmKeyError> {
    let length = line.chars().count();
    // Never show more of a key than the digit that is wrong.
    if let Some((at, found)) = line.chars().enumerate().find(|(_, c)| !c.is_ascii_hexdigit()) {
        return Err(SwarmKeyError::Digit { found, column: at + 1 });
    }
    if length != 64 {
        return Err(SwarmKeyError::Length { digits: length });
    }
    let mut key = [0u8; 32];
    for (at, digit) in line.chars().enumerate() {
        key[at / 2] = key[at / 2] << 4 | digit.to_digit(16).unwrap_or_default() as u8;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_a_node_print_alike() {
        let pair = keypair(&[3; 32]).unwrap();
        let peer = pair.public().to_peer_id();
        let node = node_id(&peer).unwrap();
        assert_eq!(peer_id(&node), Some(peer));
        assert_eq!(node.to_string(), peer.to_string());
    }

    #[test]
    fn a_swarm_key_survives_its_file_form() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8 * 7);
        let file = libp2p::pnet::PreSharedKey::new(key).to_key_file();
        assert_eq!(parse_swarm_key(&file), Ok(key));
        assert_eq!(parse_swarm_key(file.trim_end()), Ok(key));
        assert_eq!(parse_swarm_key(&file.replace('\n', "\r\n")), Ok(key));
        assert_eq!(
            parse_swarm_key(
                &file.to_uppercase().replace("/KEY/SWARM/PSK/", "/key/swarm/psk/").replace("/BASE", "/base")
            ),
            Ok(key)
        );
    }

    #[test]
    fn a_bad_swarm_key_names_its_line() {
        let cases = [
            ("", "line 1"),
            ("/key/swarm/psk/2.0.0/\n/base16/\n00", "line 1"),
            ("/key/swarm/psk/1.0.0/\n/base64/\nAAAA", "line 2"),
            ("/key/swarm/psk/1.0.0/\n/base16/\n", "line 3"),
            ("/key/swarm/psk/1.0.0/\n/base16/\n00ff", "4 characters"),
            ("/key/swarm/psk/1.0.0/\n/base16/\n00zz", "column 3"),
            ("/key/swarm/psk/1.0.0/\n/base16/\né", "column 1"),
        ];
        for (text, expected) in cases {
            let error = parse_swarm_key(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let extra = format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n\nmore", "0".repeat(64));
        assert_eq!(parse_swarm_key(&extra), Err(SwarmKeyError::Trailing { line: 5 }));
    }
}
