//! Forgetting old records without losing the proof.
//!
//! Records go only up to an anchor. That anchor then stands at the front of the chain as its *base*: the first record
//! kept continues it. The base is signed once more, under a tag of its own, because anchors are public: anybody holds
//! anchors, and only the node may turn one into leave to forget.

use super::anchor::{Anchor, Check, Sign};
use super::hash::Tag;
use crate::document::codec::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;

/// The anchor that a chain begins behind.
///
/// ```text
/// base       version u8 | anchor slice | cut_at_ms varint | signature (64)
/// signed     blake3(tag of a base, the anchor's fields | the anchor's signature | cut_at_ms u64 BE)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub anchor: Anchor,
    /// When the records up to it were dropped.
    pub cut_at_ms: u64,
    pub signature: [u8; 64],
}

impl Base {
    pub(super) fn sign(anchor: Anchor, cut_at_ms: u64, sign: Sign<'_>) -> Self {
        let mut base = Self { anchor, cut_at_ms, signature: [0; 64] };
        base.signature = sign(&base.message());
        base
    }

    /// Whether its node signed both the anchor and the cut.
    pub fn verify(&self, check: Check<'_>) -> bool {
        self.anchor.verify(check) && check(&self.anchor.node, &self.message(), &self.signature)
    }

    fn message(&self) -> [u8; 32] {
        let cut_at = self.cut_at_ms.to_be_bytes();
        Tag::Base.hash(&[&self.anchor.fields()[..], &self.anchor.signature, &cut_at].concat())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(VERSION);
        writer.slice(&self.anchor.encode());
        writer.varint(self.cut_at_ms);
        writer.raw(&self.signature);
        writer.bytes
    }

    /// Reads a base. Its signatures are not looked at: see [`Base::verify`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let anchor = Anchor::decode(reader.slice()?)?;
        let (cut_at_ms, signature) = (reader.varint()?, reader.array()?);
        reader.finish()?;
        Ok(Self { anchor, cut_at_ms, signature })
    }
}

/// How long records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Records anchored longer ago may go. Twice as long as it takes people to ask.
    pub keep_ms: u64,
    /// Beyond so many records the oldest go, however young. A record takes 140 bytes and its detail.
    pub records_max: u64,
}

impl Default for Retention {
    /// A year, and two million records: about 500 MB.
    fn default() -> Self {
        Self { keep_ms: 365 * 24 * 3_600_000, records_max: 2_000_000 }
    }
}

impl Retention {
    /// The anchor to cut at: the newest that is old enough, or the first behind which few enough records are left,
    /// whichever drops more. `None` when nothing is due, or no anchor lies where it could be cut. `anchors` are this
    /// node's, verified; the order does not matter.
    pub fn due<'a>(&self, anchors: &'a [Anchor], head: u64, now_ms: u64) -> Option<&'a Anchor> {
        let written = || anchors.iter().filter(|anchor| anchor.index <= head);
        let old = written().filter(|a| a.at_ms.saturating_add(self.keep_ms) <= now_ms).max_by_key(|a| a.index);
        let excess = (head >= self.records_max)
            .then(|| written().filter(|a| head - a.index <= self.records_max).min_by_key(|a| a.index));
        old.into_iter().chain(excess.flatten()).max_by_key(|anchor| anchor.index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{Signer, check};
    use super::*;

    fn anchor(index: u64) -> Anchor {
        let alice = Signer::new(1);
        Anchor::sign(alice.node(), index, [index as u8; 32], index * 100, &alice.sign())
    }

    #[test]
    fn an_anchor_that_anybody_holds_does_not_make_a_base() {
        let (alice, mallory) = (Signer::new(1), Signer::new(2));
        let base = Base::sign(anchor(5), 7, &alice.sign());
        assert_eq!(Base::decode(&base.encode()), Ok(base));
        assert!(base.verify(&check));
        assert!(!Base { signature: anchor(5).signature, ..base }.verify(&check));
        assert!(!Base { anchor: anchor(6), ..base }.verify(&check));
        assert!(!Base { cut_at_ms: 8, ..base }.verify(&check));
        assert!(!Base::sign(anchor(5), 7, &mallory.sign()).verify(&check));
        let unsigned = Anchor { signature: [0; 64], ..anchor(5) };
        assert!(!Base::sign(unsigned, 7, &alice.sign()).verify(&check));
    }

    #[test]
    fn what_is_due_is_cut_at_an_anchor() {
        let anchors = [anchor(10), anchor(20), anchor(30), anchor(90)];
        let due = |keep_ms, records_max, head, now_ms| {
            Retention { keep_ms, records_max }.due(&anchors, head, now_ms).map(|anchor| anchor.index)
        };
        assert_eq!(due(500, 1_000, 40, 1_400), None, "nothing is old");
        assert_eq!(due(500, 1_000, 40, 2_500), Some(20), "the newest of those old enough");
        assert_eq!(due(u64::MAX, 25, 40, 0), Some(20), "no more than needed");
        assert_eq!(due(u64::MAX, 15, 60, 0), None, "90 is not written yet, and 30 would leave too many");
        assert_eq!(due(500, 5, 34, 1_600), Some(30), "whichever drops more");
    }
}
