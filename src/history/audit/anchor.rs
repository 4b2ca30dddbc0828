//! Anchors: a node's signed word on where its chain stood.
//!
//! ```text
//! anchor     version u8 | node (32) | index varint | hash (32) | at_ms varint | signature (64)
//! signed     blake3(tag of an anchor, node | index u64 BE | hash | at_ms u64 BE)
//! ```
//!
//! Anchors are made to be given away: what others hold, the node itself can no longer change. Who carries them is not
//! known here.

use super::hash::{Hash, Tag, from_hex, to_hex};
use super::row::INDEX_MAX;
use crate::clock::NodeId;
use crate::document::codec::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;

/// Signs 32 bytes with the key of this node.
pub type Sign<'a> = &'a dyn Fn(&[u8; 32]) -> [u8; 64];
/// Whether a node signed 32 bytes.
pub type Check<'a> = &'a dyn Fn(&NodeId, &[u8; 32], &[u8; 64]) -> bool;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub node: NodeId,
    /// The record it names, and with it all before.
    pub index: u64,
    pub hash: Hash,
    pub at_ms: u64,
    pub signature: [u8; 64],
}

impl Anchor {
    pub fn sign(node: NodeId, index: u64, hash: Hash, at_ms: u64, sign: Sign<'_>) -> Self {
        let mut anchor = Self { node, index, hash, at_ms, signature: [0; 64] };
        anchor.signature = sign(&anchor.message());
        anchor
    }

    /// Whether its node signed it.
    pub fn verify(&self, check: Check<'_>) -> bool {
        self.index <= INDEX_MAX && check(&self.node, &self.message(), &self.signature)
    }

    fn message(&self) -> [u8; 32] {
        Tag::Anchor.hash(&self.fields())
    }

    /// Everything but the signature, each at a fixed width.
    pub(super) fn fields(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[..32].copy_from_slice(&self.node.0);
        bytes[32..40].copy_from_slice(&self.index.to_be_bytes());
        bytes[40..72].copy_from_slice(&self.hash);
        bytes[72..].copy_from_slice(&self.at_ms.to_be_bytes());
        bytes
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer { bytes: Vec::with_capacity(150) };
        writer.u8(VERSION);
        writer.raw(&self.node.0);
        writer.varint(self.index);
        writer.raw(&self.hash);
        writer.varint(self.at_ms);
        writer.raw(&self.signature);
        writer.bytes
    }

    /// Reads an anchor. Its signature is not looked at: see [`Anchor::verify`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let (node, index, hash) = (NodeId(reader.array()?), reader.varint()?, reader.array()?);
        let (at_ms, signature) = (reader.varint()?, reader.array()?);
        reader.finish()?;
        Ok(Self { node, index, hash, at_ms, signature })
    }

    /// The encoded anchor in hex: for documents, files and people.
    pub fn to_hex(&self) -> String {
        to_hex(&self.encode())
    }

    pub fn from_hex(text: &str) -> Result<Self, DecodeError> {
        // 1 + 32 + 10 + 32 + 10 + 64 bytes at most, two digits each.
        let bytes = Some(text).filter(|text| text.len() <= 2 * 149).and_then(from_hex);
        Self::decode(&bytes.ok_or(DecodeError::Bounds("an anchor's hex digits"))?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{Signer, check};
    use super::*;

    #[test]
    fn an_anchor_holds_for_its_node_and_for_nothing_else_than_it_says() {
        let (alice, bob) = (Signer::new(1), Signer::new(2));
        let anchor = Anchor::sign(alice.node(), 300, [7; 32], 5, &alice.sign());
        assert_eq!(Anchor::decode(&anchor.encode()), Ok(anchor));
        assert_eq!(Anchor::from_hex(&anchor.to_hex()), Ok(anchor));
        assert!(anchor.verify(&check));
        for forged in [
            Anchor { node: bob.node(), ..anchor },
            Anchor { index: 301, ..anchor },
            Anchor { hash: [8; 32], ..anchor },
            Anchor { at_ms: 6, ..anchor },
        ] {
            assert!(!forged.verify(&check), "{forged:?}");
        }
        assert!(Anchor::from_hex(&"0".repeat(1_000)).is_err());
    }

    /// The key signs other 32-byte hashes too, such as those of batches: none may pass for an anchor.
    #[test]
    fn a_signature_over_the_bare_fields_is_no_anchor() {
        let alice = Signer::new(1);
        let mut anchor = Anchor::sign(alice.node(), 1, [7; 32], 5, &alice.sign());
        anchor.signature = (alice.sign())(blake3::hash(&anchor.fields()).as_bytes());
        assert!(!anchor.verify(&check));
    }
}
