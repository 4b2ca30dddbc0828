//! The causal token: what a session wrote and read, compactly, for any node to wait for.
//!
//! It names, for each replica the session saw something of, the highest seq it saw: not the whole clock, whose size
//! grows with the cluster. Dots that every member has on its disk need no mention, so what is left is what was written
//! in the last moments. [`ENTRIES_MAX`] replicas fit; a session that saw unsettled writes of more of them at once is
//! held to that many.
//!
//! Text: base64url of `version u8 | (hash of the replica id, 5 bytes | seq varint)…`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::{Clock, Dot, ReplicaId, Roster};
use crate::document::Document;
use crate::document::codec::{Reader, Writer};

const VERSION: u8 = 1;
/// At 8 bytes each, and 4 characters for 3 bytes, under 4 KiB of text.
pub const ENTRIES_MAX: usize = 350;

/// What a session has seen. Empty: nothing, so any node will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    seen: BTreeMap<u64, u64>,
}

/// 40 bits of a hash tell a thousand replicas apart but once in two million clusters; a clash makes a session wait for
/// more than it saw, never for less.
pub(super) fn replica_key(id: &ReplicaId) -> u64 {
    xxh3_64(&id.to_bytes()) & ((1 << 40) - 1)
}

impl Token {
    pub fn merge(&mut self, other: &Token) {
        for (replica, seq) in &other.seen {
            let seen = self.seen.entry(*replica).or_default();
            *seen = (*seen).max(*seq);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    pub(super) fn see(&mut self, id: &ReplicaId, seq: u64) {
        let seen = self.seen.entry(replica_key(id)).or_default();
        *seen = (*seen).max(seq);
    }

    /// Whether this write of a replica was seen.
    pub(super) fn covers(&self, id: &ReplicaId, seq: u64) -> bool {
        self.seen.get(&replica_key(id)).is_some_and(|seen| seq <= *seen)
    }

    /// Notes every entry of a document, removals too, that `stable` does not cover.
    pub(super) fn see_document(&mut self, document: &Document, roster: &Roster, stable: &Clock) {
        let mut seen: Clock = Clock::new();
        let unstable = |dot: &Dot| !stable.covers(*dot);
        for dot in document.cells().flat_map(|cell| cell.entries()).map(|entry| entry.dot).filter(unstable) {
            seen.raise(dot.slot(), dot.seq());
        }
        seen.iter().for_each(|(slot, seq)| self.see(roster.id(slot), seq));
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u64, u64) -> bool) {
        self.seen.retain(|replica, seq| keep(*replica, *seq));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.seen.iter().map(|(replica, seq)| (*replica, *seq))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = Writer::new();
        writer.u8(VERSION);
        for (replica, seq) in self.iter().take(ENTRIES_MAX) {
            writer.raw(&replica.to_le_bytes()[..5]);
            writer.varint(seq);
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(writer.bytes))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no clock token: send back a Folkmoot-Clock header as it came")]
pub struct ParseTokenError(String);

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseTokenError(text.chars().take(80).collect());
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| error())?;
        let mut reader = Reader::new(&bytes);
        if reader.u8() != Ok(VERSION) || bytes.len() > 8 * ENTRIES_MAX * 2 {
            return Err(error());
        }
        let mut seen = BTreeMap::new();
        while !reader.is_empty() {
            let low: [u8; 5] = reader.array().map_err(|_| error())?;
            let mut replica = [0; 8];
            replica[..5].copy_from_slice(&low);
            seen.insert(u64::from_le_bytes(replica), reader.varint().map_err(|_| error())?);
        }
        Ok(Self { seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Incarnation, NodeId};

    fn replica(n: u16) -> ReplicaId {
        let mut node = [0; 32];
        node[..2].copy_from_slice(&n.to_le_bytes());
        ReplicaId { node: NodeId(node), incarnation: Incarnation([1; 16]) }
    }

    #[test]
    fn a_token_survives_its_text_and_stays_under_four_kibibytes() {
        let mut token = Token::default();
        (0..350).for_each(|n| token.see(&replica(n), 1_000_000));
        let text = token.to_string();
        assert!(text.len() < 4096, "{}", text.len());
        assert_eq!(text.parse::<Token>(), Ok(token));
        (0..1000).for_each(|n| {
            let mut more = Token::default();
            more.see(&replica(n), 1 << 20);
            assert!(more.to_string().len() < 20);
        });
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["%%", "AA", "AQE", "AQEBAQEB"] {
            assert!(text.parse::<Token>().is_err(), "{text}");
        }
        assert_eq!("".parse::<Token>(), Ok(Token::default()));
    }
}
