//! The ledger: every value that ever stood beside a concurrent one, so that none is lost without trace.
//!
//! An entry says what was written, where and when, which value readers saw instead, and by what rule. It is kept by each
//! node about what that node saw, in a store tree of its own, and the oldest go when there are too many. A value that is
//! wanted after all is brought back by an ordinary write.
//!
//! Row: key `ledger/` and the number, big-endian; value: a version byte, then the entry.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::document::codec::{DecodeError, FORMAT_VERSION, decode_serde, encode_serde};

/// Entries kept. At 1 KB each, 64 MB of memory and of disk; the bytes are bounded beside.
pub const ENTRIES_MAX: usize = 65_536;
/// The bytes of their values.
pub const BYTES_MAX: usize = 64 << 20;
const PREFIX: &[u8] = b"ledger/";

/// One value that had rivals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `collection/id`.
    pub document: String,
    /// The field, or `field.key` of a map.
    pub field: String,
    /// `<replica>:<seq>`.
    pub dot: String,
    /// When it was written, by its writer's clock, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The value, as JSON text.
    pub value: String,
    /// When this node saw it beside another.
    pub seen_ms: u64,
    /// The dot of the value that readers saw then; `None` where it was made of several.
    pub winner: Option<String>,
    /// The field's type, or the resolver of a contested one.
    pub rule: String,
    /// `policy@version/rule`, where a policy chose the resolver.
    pub policy: Option<String>,
}

impl Entry {
    /// Whether readers saw another value.
    pub fn is_overruled(&self) -> bool {
        self.winner.as_deref() != Some(&self.dot)
    }
}

/// What a change comes to on a disk: rows to put, and keys to remove.
#[derive(Debug, Default)]
pub struct Rows {
    pub put: Vec<(Vec<u8>, Vec<u8>)>,
    pub remove: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    entries: VecDeque<(u64, Entry)>,
    next: u64,
    bytes: usize,
    /// The dots of the entries, with the cells they are of: each is entered once.
    known: BTreeSet<(String, String)>,
}

impl Ledger {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn knows(&self, dot: &str, field: &str) -> bool {
        self.known.contains(&(dot.to_owned(), field.to_owned()))
    }

    /// Enters a value, unless it is there.
    pub fn enter(&mut self, entry: Entry, rows: &mut Rows) {
        if self.knows(&entry.dot, &entry.field) {
            return;
        }
        let number = self.next;
        rows.put.push((key(number), encode(&entry)));
        self.keep(number, entry);
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some((number, oldest)) = self.entries.pop_front() else { break };
            self.bytes -= oldest.value.len();
            self.known.remove(&(oldest.dot, oldest.field));
            rows.remove.push(key(number));
        }
    }

    /// Reads a row back. Rows come in the order of their keys.
    pub fn load(&mut self, key: &[u8], row: &[u8]) -> Result<(), DecodeError> {
        let number = key.strip_prefix(PREFIX).and_then(|number| number.try_into().ok()).map(u64::from_be_bytes);
        let number = number.ok_or(DecodeError::Bounds("a key of the ledger"))?;
        let entry = match row.split_first() {
            Some((&FORMAT_VERSION, entry)) => decode_serde(entry)?,
            Some((version, _)) => return Err(DecodeError::Version(*version)),
            None => return Err(DecodeError::Truncated),
        };
        self.keep(number, entry);
        Ok(())
    }

    /// The entries, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().rev().map(|(number, entry)| (*number, entry))
    }

    /// The entry with this number.
    pub fn get(&self, number: u64) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.entries.get(at).map(|(_, entry)| entry)
    }

    fn keep(&mut self, number: u64, entry: Entry) {
        self.next = number + 1;
        self.bytes += entry.value.len();
        self.known.insert((entry.dot.clone(), entry.field.clone()));
        self.entries.push_back((number, entry));
    }
}

/// Whether a key of the history tree is one of the ledger's.
pub fn is_key(key: &[u8]) -> bool {
    key.starts_with(PREFIX)
}

fn key(number: u64) -> Vec<u8> {
    [PREFIX, &number.to_be_bytes()].concat()
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut row = vec![FORMAT_VERSION];
    row.extend(encode_serde(entry));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64, value: &str) -> Entry {
        Entry {
            document: "vms/1".into(),
            field: "state".into(),
            dot: format!("r:{n}"),
            at_ms: n,
            value: value.into(),
            seen_ms: n + 5,
            winner: Some("r:7".into()),
            rule: "lww".into(),
            policy: None,
        }
    }

    #[test]
    fn a_value_is_entered_once_and_read_back_as_it_was() {
        let (mut ledger, mut rows) = (Ledger::default(), Rows::default());
        ledger.enter(entry(1, "\"a\""), &mut rows);
        ledger.enter(entry(1, "\"a\""), &mut rows);
        ledger.enter(entry(7, "\"b\""), &mut rows);
        assert_eq!((ledger.len(), rows.put.len()), (2, 2));
        let mut read = Ledger::default();
        rows.put.iter().for_each(|(key, row)| read.load(key, row).unwrap());
        assert_eq!(read.iter().collect::<Vec<_>>(), ledger.iter().collect::<Vec<_>>());
        assert_eq!(read.get(0), Some(&entry(1, "\"a\"")));
        assert!(read.get(0).unwrap().is_overruled() && !read.get(1).unwrap().is_overruled());
        assert!(read.load(b"ledger/x", &rows.put[0].1).is_err());
        assert!(read.load(&rows.put[0].0, &rows.put[0].1[..9]).is_err());
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_and_their_rows_with_them() {
        let (mut ledger, mut rows) = (Ledger::default(), Rows::default());
        let long = "x".repeat(BYTES_MAX / 4);
        (1..=6).for_each(|n| ledger.enter(entry(n, &long), &mut rows));
        assert_eq!(ledger.len(), 4);
        assert_eq!(rows.remove, [key(0), key(1)]);
        assert!(ledger.bytes() <= BYTES_MAX);
        assert_eq!((ledger.get(1), ledger.get(2).map(|entry| entry.at_ms)), (None, Some(3)));
    }
}
