//! Names that mean the same on every node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node: the ed25519 public key of its libp2p identity. Printed as its libp2p peer id (`12D3KooW…`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 32]);

/// The multihash and protobuf header of an inlined ed25519 key in a libp2p peer id
/// (libp2p specs, "Peer Ids and Keys": identity multihash of the protobuf-encoded key).
const PEER_ID_HEADER: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl NodeId {
    /// The last six characters of the printed id: enough to tell the nodes of one cluster apart in a log.
    pub fn short(&self) -> String {
        let full = self.to_string();
        full[full.len() - 6..].to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0u8; 38];
        bytes[..6].copy_from_slice(&PEER_ID_HEADER);
        bytes[6..].copy_from_slice(&self.0);
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
}

pub(crate) fn parse_error(text: &str, what: &'static str) -> ParseIdError {
    ParseIdError { text: text.chars().take(80).collect(), what }
}

impl FromStr for NodeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || parse_error(text, "node id (a libp2p peer id of an ed25519 key, 12D3KooW…)");
        if text.len() > 64 {
            return Err(error());
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| error())?;
        let key = bytes.strip_prefix(&PEER_ID_HEADER).ok_or_else(error)?;
        Ok(Self(key.try_into().map_err(|_| error())?))
    }
}

/// 128 random bits drawn at each start of a process. Two runs of one node never share dots (rule R4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub [u8; 16]);

/// One incarnation of a node: the origin of dots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

impl ReplicaId {
    /// Bytes of a replica id wherever it is written out: node, then incarnation.
    pub const LEN: usize = 48;

    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..32].copy_from_slice(&self.node.0);
        bytes[32..].copy_from_slice(&self.incarnation.0);
        bytes
    }

    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let (mut node, mut incarnation) = ([0; 32], [0; 16]);
        node.copy_from_slice(&bytes[..32]);
        incarnation.copy_from_slice(&bytes[32..]);
        Self { node: NodeId(node), incarnation: Incarnation(incarnation) }
    }
}

/// `12D3KooW…/0f3a…`: the node, then the incarnation in hex.
impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.node)?;
        write_hex(f, &self.incarnation.0)
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.node.short())?;
        write_hex(f, &self.incarnation.0[..3])
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl FromStr for ReplicaId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || parse_error(text, "replica id (<node id>/<32 hex digits>)");
        let (node, incarnation) = text.split_once('/').ok_or_else(error)?;
        Ok(Self { node: node.parse()?, incarnation: Incarnation(parse_hex(incarnation).ok_or_else(error)?) })
    }
}

/// A cluster: 128 random bits drawn by its founder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..3])
    }
}

pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

pub(crate) fn parse_hex(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_printed_form() {
        let node = NodeId([7; 32]);
        assert!(node.to_string().starts_with("12D3KooW"));
        assert_eq!(node.to_string().parse::<NodeId>(), Ok(node));
        let replica = ReplicaId { node, incarnation: Incarnation([0xab; 16]) };
        assert_eq!(replica.to_string().parse::<ReplicaId>(), Ok(replica));
        assert_eq!(ReplicaId::from_bytes(&replica.to_bytes()), replica);
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "12D3KooW", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "é"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
        assert!(format!("{}/zz", NodeId([7; 32])).parse::<ReplicaId>().is_err());
    }
}
