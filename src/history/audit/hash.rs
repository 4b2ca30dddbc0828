//! Hashes of the audit: blake3, each use under a tag of its own, so that no bytes mean two things.

use crate::clock::NodeId;

/// 32 bytes of blake3.
pub type Hash = [u8; 32];

/// What is hashed. The tag comes first; each ends with a zero, so none is the start of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// The `previous` of a chain's first record.
    Genesis,
    Record,
    Anchor,
    Base,
    /// Bytes found where a record should be.
    Debris,
}

impl Tag {
    fn bytes(self) -> &'static [u8] {
        match self {
            Tag::Genesis => b"folkmoot/audit/genesis/1\0",
            Tag::Record => b"folkmoot/audit/record/1\0",
            Tag::Anchor => b"folkmoot/audit/anchor/1\0",
            Tag::Base => b"folkmoot/audit/base/1\0",
            Tag::Debris => b"folkmoot/audit/debris/1\0",
        }
    }

    pub(super) fn hash(self, bytes: &[u8]) -> Hash {
        *blake3::Hasher::new().update(self.bytes()).update(bytes).finalize().as_bytes()
    }
}

/// What the first record of `node` continues. It names the node, so a chain does not pass for another node's.
pub(super) fn genesis(node: &NodeId) -> Hash {
    Tag::Genesis.hash(&node.0)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

/// Bytes of lower-case hex; anything else is `None`, so that each value has one text.
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| DIGITS.iter().position(|d| *d == digit).map(|at| at as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(nibble(pair[0])? << 4 | nibble(*pair.get(1)?)?)).collect()
}

pub(super) fn hash_from_hex(text: &str) -> Option<Hash> {
    if text.len() != 64 {
        return None;
    }
    from_hex(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_one_text_for_each_value() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        for text in ["0", "0g", "AB", "é", " 0"] {
            assert_eq!(from_hex(text), None, "{text}");
        }
        assert_eq!(hash_from_hex("00"), None);
    }

    #[test]
    fn the_same_bytes_hash_apart_under_each_tag() {
        let mut hashes = [Tag::Genesis, Tag::Record, Tag::Anchor, Tag::Base, Tag::Debris].map(|tag| tag.hash(b"x"));
        hashes.sort_unstable();
        assert!(hashes.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
