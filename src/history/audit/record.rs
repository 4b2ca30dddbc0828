//! One record, and its bytes.
//!
//! ```text
//! row   body | hash (32)          hash = blake3(tag of a record, body)
//! body  version u8 | kind u8 | index varint | at_ms varint | actor slice
//!       | conflict, document, field: optional slices | detail slice (JSON text) | previous (32)
//! ```
//!
//! The hash is stored beside what it is the hash of. That tells a record whose bytes were changed (its own hash is wrong)
//! from one that was exchanged for another (its neighbours' are).

use serde_json::Value;

use super::detail;
use super::hash::{Hash, Tag};
use super::kind::Kind;
use crate::document::codec::{DecodeError, Reader, Writer};

/// Layout of a record's body. Older ones stay readable beside it.
const VERSION: u8 = 1;

/// Longest actor, conflict id, document name or field. A document's name takes 577 bytes at most; the rest is names too.
pub const TEXT_BYTES_MAX: usize = 1024;

/// What happened, before it has a place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Milliseconds since the Unix epoch, by this node's clock: as wrong as the clock is.
    pub at_ms: u64,
    pub kind: Kind,
    /// Who did it: an operator's name, a node's id, a policy's name.
    pub actor: String,
    pub conflict: Option<String>,
    /// `collection/id`.
    pub document: Option<String>,
    pub field: Option<String>,
    pub detail: Value,
}

impl Entry {
    pub fn new(kind: Kind, actor: impl Into<String>, at_ms: u64) -> Self {
        let actor = actor.into();
        Self { at_ms, kind, actor, conflict: None, document: None, field: None, detail: Value::Null }
    }

    pub fn conflict(self, id: impl Into<String>) -> Self {
        Self { conflict: Some(id.into()), ..self }
    }

    pub fn document(self, name: impl Into<String>) -> Self {
        Self { document: Some(name.into()), ..self }
    }

    pub fn field(self, name: impl Into<String>) -> Self {
        Self { field: Some(name.into()), ..self }
    }

    pub fn detail(self, detail: Value) -> Self {
        Self { detail, ..self }
    }

    /// The row at `index` behind a record of hash `previous`, and the row's own hash. Texts that are too long are cut,
    /// with a mark that says so.
    pub(super) fn encode(&self, index: u64, previous: &Hash) -> (Vec<u8>, Hash) {
        let mut body = Writer { bytes: Vec::with_capacity(256) };
        body.u8(VERSION);
        body.u8(self.kind.code());
        body.varint(index);
        body.varint(self.at_ms);
        body.slice(bounded(&self.actor).as_bytes());
        for text in [&self.conflict, &self.document, &self.field] {
            body.optional_slice(text.as_deref().map(bounded).as_deref().map(str::as_bytes));
        }
        body.slice(detail::text_of(&self.detail).as_bytes());
        body.raw(previous);
        let hash = Tag::Record.hash(&body.bytes);
        body.raw(&hash);
        (body.bytes, hash)
    }
}

/// `text`, or its start and how long it was.
fn bounded(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= TEXT_BYTES_MAX {
        return text.into();
    }
    let mark = format!("… (cut, {} bytes)", text.len());
    let start = &text[..text.floor_char_boundary(TEXT_BYTES_MAX - mark.len())];
    format!("{start}{mark}").into()
}

/// A record as it was stored. Read from a row whose hash is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its place in the chain. The first is 0.
    pub index: u64,
    pub at_ms: u64,
    pub kind: Kind,
    pub actor: String,
    pub conflict: Option<String>,
    pub document: Option<String>,
    pub field: Option<String>,
    pub detail: Value,
    /// Hash of the record before it.
    pub previous: Hash,
    pub hash: Hash,
}

/// Why a row is no record. Nothing was changed by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a record does not decode: {0}")]
    Decode(#[from] DecodeError),
    #[error("a record's bytes are not those its hash was made of")]
    Edited,
    #[error("a record's detail is not JSON: {0}")]
    Detail(String),
}

impl Record {
    pub fn decode(row: &[u8]) -> Result<Self, RecordError> {
        let read = RecordRef::decode(row)?;
        if !read.is_sealed() {
            return Err(RecordError::Edited);
        }
        read.to_owned()
    }

    /// What happened, without its place.
    pub fn entry(&self) -> Entry {
        let Self { at_ms, kind, actor, conflict, document, field, detail, .. } = self.clone();
        Entry { at_ms, kind, actor, conflict, document, field, detail }
    }
}

/// A record read in place. Its hash may be wrong: see [`RecordRef::is_sealed`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordRef<'a> {
    pub index: u64,
    pub at_ms: u64,
    pub kind: Kind,
    pub actor: &'a str,
    pub conflict: Option<&'a str>,
    pub document: Option<&'a str>,
    pub field: Option<&'a str>,
    /// JSON text.
    pub detail: &'a str,
    pub previous: Hash,
    /// The hash the row carries, right or wrong.
    pub hash: Hash,
    body: &'a [u8],
}

impl<'a> RecordRef<'a> {
    pub fn decode(row: &'a [u8]) -> Result<Self, DecodeError> {
        let (body, hash) = row.split_last_chunk::<32>().ok_or(DecodeError::Truncated)?;
        let mut reader = Reader::new(body);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let kind = Kind::from_code(reader.u8()?).ok_or(DecodeError::Bounds("a kind"))?;
        let (index, at_ms) = (reader.varint()?, reader.varint()?);
        let actor = within(reader.str()?, TEXT_BYTES_MAX)?;
        let [conflict, document, field] = [optional(&mut reader)?, optional(&mut reader)?, optional(&mut reader)?];
        let detail = within(reader.str()?, detail::DETAIL_BYTES_MAX)?;
        let previous = reader.array()?;
        reader.finish()?;
        Ok(Self { index, at_ms, kind, actor, conflict, document, field, detail, previous, hash: *hash, body })
    }

    /// The hash its bytes have.
    pub fn sealed_hash(&self) -> Hash {
        Tag::Record.hash(self.body)
    }

    /// Whether its bytes are those its hash was made of.
    pub fn is_sealed(&self) -> bool {
        self.sealed_hash() == self.hash
    }

    /// The detail, read.
    pub fn detail_value(&self) -> Result<Value, RecordError> {
        serde_json::from_str(self.detail).map_err(|error| RecordError::Detail(error.to_string()))
    }

    /// The collection of its document.
    pub fn collection(&self) -> Option<&'a str> {
        self.document.map(|name| name.split_once('/').map_or(name, |(collection, _)| collection))
    }

    pub(super) fn to_owned(self) -> Result<Record, RecordError> {
        Ok(Record {
            index: self.index,
            at_ms: self.at_ms,
            kind: self.kind,
            actor: self.actor.to_owned(),
            conflict: self.conflict.map(str::to_owned),
            document: self.document.map(str::to_owned),
            field: self.field.map(str::to_owned),
            detail: self.detail_value()?,
            previous: self.previous,
            hash: self.hash,
        })
    }
}

fn within(text: &str, bytes_max: usize) -> Result<&str, DecodeError> {
    if text.len() <= bytes_max { Ok(text) } else { Err(DecodeError::Bounds("a text's length")) }
}

fn optional<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, DecodeError> {
    let Some(bytes) = reader.optional_slice()? else { return Ok(None) };
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Utf8)?;
    within(text, TEXT_BYTES_MAX).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn entry() -> Entry {
        Entry::new(Kind::Resolved, "alice", 1_700_000_000_000)
            .conflict("c-1")
            .document("vms/vm-1")
            .field("power_state")
            .detail(json!({ "strategy": "manual" }))
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let (row, hash) = entry().encode(7, &[9; 32]);
        let record = Record::decode(&row).unwrap();
        assert_eq!((record.index, record.previous, record.hash), (7, [9; 32], hash));
        assert_eq!(record.entry(), entry());
        assert_eq!(RecordRef::decode(&row).unwrap().collection(), Some("vms"));
    }

    /// A store of today must be read by the next version: when this fails, the layout changed under an old number.
    #[test]
    fn the_bytes_of_version_1_stay_what_they_are() {
        let (row, _) = entry().encode(7, &[9; 32]);
        let body =
            [&[1, 3, 7][..], &[0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31], b"\x05alice", b"\x04c-1", b"\x09vms/vm-1"].concat();
        let rest = [&b"\x0cpower_state"[..], b"\x15{\"strategy\":\"manual\"}", &[9; 32]].concat();
        assert_eq!(row[..row.len() - 32], [body, rest].concat());
    }

    #[test]
    fn any_flipped_bit_is_an_error() {
        let (row, _) = entry().encode(7, &[9; 32]);
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_text_beyond_its_bound_is_cut_and_says_so() {
        let long = "é".repeat(5_000);
        let (row, _) = Entry::new(Kind::Voted, long.clone(), 0).document(long).encode(0, &[0; 32]);
        let record = Record::decode(&row).unwrap();
        for text in [record.actor, record.document.unwrap()] {
            assert!(text.len() <= TEXT_BYTES_MAX && text.ends_with("… (cut, 10000 bytes)"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
        }
    }
}
