//! The ledger: every value that ever stood beside a concurrent one, so that none is lost without trace.
//!
//! An entry says what was written, where and when, which value readers saw instead, and by what rule. It is kept by each
//! node about what that node saw, in a store tree of its own, and the oldest go when there are too many. A value that is
//! wanted after all is brought back by an ordinary write.
//!
//! Row: key `ledger/` and the number, big-endian; value: a version byte, then the entry.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::crdt::{FieldKind, Resolver};
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

/// What became of a value that had rivals, as this node saw it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is what readers saw.
    Stood,
    /// Readers saw all of them.
    Kept,
    /// Readers saw one value made of all; a merge lists in its conflict what it left out.
    Merged,
    /// Readers saw another.
    Overruled,
    /// Its conflict waits for somebody, and is not over.
    Waits,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Stood => "stood",
            Outcome::Kept => "kept",
            Outcome::Merged => "merged",
            Outcome::Overruled => "overruled",
            Outcome::Waits => "waits",
        }
    }
}

impl Entry {
    fn outcome(&self) -> Outcome {
        if self.winner.as_deref() == Some(&self.dot) {
            return Outcome::Stood;
        }
        // A multi-value register has a last writer too, and readers see the others beside it.
        if self.rule == FieldKind::Mv.name() {
            return Outcome::Kept;
        }
        match (self.rule.parse(), &self.winner) {
            (Ok(Resolver::KeepAll), _) => Outcome::Kept,
            // Whatever it comes to holds every element, also where it equals one of the values.
            (Ok(Resolver::Union), _) => Outcome::Merged,
            (Ok(Resolver::DeepMerge | Resolver::ThreeWay | Resolver::Text | Resolver::Advisor), None) => {
                Outcome::Merged
            }
            _ => Outcome::Overruled,
        }
    }

    /// The outcome in words.
    fn told(&self) -> String {
        match (self.outcome(), &self.winner, self.rule.parse()) {
            (Outcome::Stood, ..) => "stood".to_owned(),
            (Outcome::Kept, ..) => "kept beside others".to_owned(),
            (Outcome::Merged, ..) => "merged with others".to_owned(),
            (Outcome::Waits, ..) => "stands beside others, and waits for somebody".to_owned(),
            (Outcome::Overruled, Some(winner), _) => format!("overruled by {winner}"),
            (Outcome::Overruled, None, Ok(Resolver::Discard | Resolver::Rollback)) => {
                "overruled by the value before".to_owned()
            }
            (Outcome::Overruled, None, _) => format!("overruled by what {} made of them", self.rule),
        }
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
    /// The numbers of the entries by their dots and the fields they are of: each is entered once.
    known: BTreeMap<(String, String), u64>,
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
        self.known.contains_key(&(dot.to_owned(), field.to_owned()))
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

    /// What became of a value, and the same in words.
    pub fn outcome(&self, entry: &Entry) -> (Outcome, String) {
        let of_winner = |winner: &String| self.get(*self.known.get(&(winner.clone(), entry.field.clone()))?);
        match (entry.outcome(), entry.winner.as_ref()) {
            (Outcome::Overruled, Some(winner)) if of_winner(winner).is_some_and(|other| other.value == entry.value) => {
                (Outcome::Stood, format!("stood: {winner} says the same"))
            }
            (outcome, _) => (outcome, entry.told()),
        }
    }

    /// The entry with this number.
    pub fn get(&self, number: u64) -> Option<&Entry> {
        let at = self.entries.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.entries.get(at).map(|(_, entry)| entry)
    }

    fn keep(&mut self, number: u64, entry: Entry) {
        self.next = number + 1;
        self.bytes += entry.value.len();
        self.known.insert((entry.dot.clone(), entry.field.clone()), number);
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
        assert_eq!(
            (read.get(0).map(Entry::outcome), read.get(1).map(Entry::outcome)),
            (Some(Outcome::Overruled), Some(Outcome::Stood))
        );
        assert!(read.load(b"ledger/x", &rows.put[0].1).is_err());
        assert!(read.load(&rows.put[0].0, &rows.put[0].1[..9]).is_err());
    }

    #[test]
    fn what_readers_saw_beside_others_or_within_another_value_was_not_overruled() {
        let told = |rule: &str, winner: Option<&str>| {
            Entry { rule: rule.into(), winner: winner.map(str::to_owned), ..entry(1, "1") }.told()
        };
        for (rule, winner, words) in [
            ("keep_all", None, "kept beside others"),
            ("mv", Some("r:7"), "kept beside others"),
            ("union", None, "merged with others"),
            ("union", Some("r:7"), "merged with others"),
            ("three_way", None, "merged with others"),
            ("three_way", Some("r:7"), "overruled by r:7"),
            ("discard", None, "overruled by the value before"),
            ("expr", None, "overruled by what expr made of them"),
            ("lww", Some("r:7"), "overruled by r:7"),
            ("max", Some("r:1"), "stood"),
        ] {
            assert_eq!(told(rule, winner), words, "{rule} {winner:?}");
        }
    }

    #[test]
    fn a_value_that_the_winner_says_too_was_not_overruled() {
        let (mut ledger, mut rows) = (Ledger::default(), Rows::default());
        for (n, value) in [(1, "\"a\""), (2, "\"b\""), (7, "\"a\"")] {
            ledger.enter(entry(n, value), &mut rows);
        }
        let outcome = |number| ledger.get(number).map(|entry| ledger.outcome(entry));
        assert_eq!(outcome(0), Some((Outcome::Stood, "stood: r:7 says the same".to_owned())));
        assert_eq!(outcome(1), Some((Outcome::Overruled, "overruled by r:7".to_owned())));
        assert_eq!(outcome(2), Some((Outcome::Stood, "stood".to_owned())));
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
