//! A column of digests: enough of each record to tell most of them from what is asked for, without reading them.
//!
//! A digest is 40 bytes: a million records take 40 MB. Any mix of conditions is one scan over them, in about 8 ms for a
//! million; an ordered map for each condition would take as much memory and answer only one. Names are kept as 32-bit
//! hashes: a digest that matches is looked up, and the record itself decides.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64;

use super::kind::Kind;
use super::record::RecordRef;

/// Digests kept unless asked otherwise: the newest million records, 40 MB. Older ones are found by reading them.
pub const INDEX_RECORDS_MAX: usize = 1 << 20;

/// Longest gap that is filled with unknowns; behind a longer one the index begins anew.
const GAP_MAX: u64 = 4_096;

/// What a query asks about, hashed. `None` asks nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    pub conflict: Option<u32>,
    pub document: Option<u32>,
    pub collection: Option<u32>,
    pub field: Option<u32>,
    pub actor: Option<u32>,
    /// Bits of the kinds wanted; 0 for all.
    pub kinds: u16,
    pub from_ms: Option<u64>,
    pub until_ms: Option<u64>,
}

/// 0 stands for none, so a hash is never 0.
pub(super) fn hash_of(text: &str) -> u32 {
    (xxh3_64(text.as_bytes()) as u32).max(1)
}

pub(super) fn bit_of(kind: Kind) -> u16 {
    1 << (kind.code() - 1)
}

#[derive(Clone, Copy, Debug)]
struct Digest {
    at_ms: u64,
    conflict: u32,
    document: u32,
    collection: u32,
    field: u32,
    actor: u32,
    /// 0: nothing is known of this record.
    kind: u16,
}

impl Digest {
    const UNKNOWN: Self = Self { at_ms: 0, conflict: 0, document: 0, collection: 0, field: 0, actor: 0, kind: 0 };

    fn of(record: &RecordRef<'_>) -> Self {
        let optional = |text: Option<&str>| text.map_or(0, hash_of);
        Self {
            at_ms: record.at_ms,
            conflict: optional(record.conflict),
            document: optional(record.document),
            collection: optional(record.collection()),
            field: optional(record.field),
            actor: hash_of(record.actor),
            kind: bit_of(record.kind),
        }
    }

    fn may_match(&self, probe: &Probe) -> bool {
        let same = |asked: Option<u32>, is: u32| asked.is_none_or(|asked| asked == is);
        self.kind == 0
            || (same(probe.document, self.document)
                && same(probe.conflict, self.conflict)
                && same(probe.collection, self.collection)
                && same(probe.field, self.field)
                && same(probe.actor, self.actor)
                && (probe.kinds == 0 || probe.kinds & self.kind != 0)
                && probe.from_ms.is_none_or(|from| self.at_ms >= from)
                && probe.until_ms.is_none_or(|until| self.at_ms < until))
    }
}

/// Digests of the newest records, without a gap.
#[derive(Clone, Debug)]
pub struct Index {
    /// Index of the record that the first digest is of.
    first: u64,
    digests: VecDeque<Digest>,
    records_max: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self::new(INDEX_RECORDS_MAX)
    }
}

impl Index {
    /// Keeps the newest `records_max` digests, 40 bytes each.
    pub fn new(records_max: usize) -> Self {
        Self { first: 0, digests: VecDeque::new(), records_max: records_max.max(1) }
    }

    /// Takes the next record. One that is not newer than the last is not taken.
    pub fn insert(&mut self, record: &RecordRef<'_>) {
        let next = self.end();
        match record.index.checked_sub(next) {
            _ if self.digests.is_empty() => self.first = record.index,
            None => return,
            Some(gap) if gap <= GAP_MAX => (0..gap).for_each(|_| self.push(Digest::UNKNOWN)),
            Some(_) => {
                self.digests.clear();
                self.first = record.index;
            }
        }
        self.push(Digest::of(record));
    }

    fn push(&mut self, digest: Digest) {
        if self.digests.len() == self.records_max {
            self.digests.pop_front();
            self.first += 1;
        }
        self.digests.push_back(digest);
    }

    /// Forgets what is before `first`: the chain was cut.
    pub fn cut(&mut self, first: u64) {
        let gone = first.saturating_sub(self.first).min(self.digests.len() as u64);
        self.digests.drain(..gone as usize);
        self.first += gone;
    }

    pub fn len(&self) -> usize {
        self.digests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Behind the last digest.
    fn end(&self) -> u64 {
        self.first + self.digests.len() as u64
    }

    /// The first of `from..until` (the last, when `newest_first`) that may match. What is not in the index may.
    pub(super) fn next(&self, from: u64, until: u64, newest_first: bool, probe: &Probe) -> Option<u64> {
        let may = |index: u64| {
            let digest = index.checked_sub(self.first).and_then(|place| self.digests.get(place as usize));
            digest.is_none_or(|digest| digest.may_match(probe))
        };
        let mut range = from..until;
        if newest_first { range.rfind(|index| may(*index)) } else { range.find(|index| may(*index)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Entry;
    use super::*;

    fn insert(index: &mut Index, at: u64, document: &str) {
        let (row, _) = Entry::new(Kind::Voted, "a", at).document(document).encode(at, &[0; 32]);
        index.insert(&RecordRef::decode(&row).unwrap());
    }

    fn found(index: &Index, until: u64, document: &str) -> Vec<u64> {
        let probe = Probe { document: Some(hash_of(document)), ..Probe::default() };
        let next = |from: &u64| index.next(from + 1, until, false, &probe);
        std::iter::successors(index.next(0, until, false, &probe), next).collect()
    }

    #[test]
    fn what_is_outside_of_the_index_may_match_and_what_is_inside_is_told_apart() {
        let mut index = Index::new(4);
        (0..8).for_each(|at| insert(&mut index, at, if at % 2 == 0 { "vms/a" } else { "vms/b" }));
        assert_eq!(found(&index, 9, "vms/a"), [0, 1, 2, 3, 4, 6, 8], "0 to 3 were pushed out, 8 is not there yet");
        index.cut(6);
        assert_eq!((index.len(), index.first), (2, 6));
    }

    #[test]
    fn gaps_stay_unknown_and_a_huge_one_costs_nothing() {
        let mut index = Index::default();
        insert(&mut index, 3, "vms/a");
        insert(&mut index, 6, "vms/b");
        insert(&mut index, 5, "vms/a");
        assert_eq!((index.first, found(&index, 7, "vms/a")), (3, vec![0, 1, 2, 3, 4, 5]));
        insert(&mut index, 1 << 50, "vms/b");
        assert_eq!((index.len(), index.first), (1, 1 << 50));
    }

    #[test]
    fn a_digest_takes_40_bytes() {
        assert!(std::mem::size_of::<Digest>() <= 40);
    }
}
