//! Finding records: conditions, and pages of what meets them.

use super::index::{Index, Probe, bit_of, hash_of};
use super::kind::Kind;
use super::record::{Record, RecordRef};

/// Most records of one page.
pub const PAGE_RECORDS_MAX: usize = 1_000;
/// A page ends behind the record that takes it over so many stored bytes: a thousand of the longest would be 68 MB.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Most rows read for one page, matching or not: a query about what no digest is kept of must not read a disk through.
pub const PAGE_READS_MAX: usize = 20_000;

/// What is asked. Conditions that are absent are met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub conflict: Option<String>,
    /// `collection/id`.
    pub document: Option<String>,
    /// The start of a document's name: `vms/` for a collection.
    pub document_prefix: Option<String>,
    pub field: Option<String>,
    /// Any of these; none for all.
    pub kinds: Vec<Kind>,
    pub actor: Option<String>,
    /// From this millisecond on.
    pub from_ms: Option<u64>,
    /// Before this millisecond.
    pub until_ms: Option<u64>,
    pub newest_first: bool,
    /// Records of a page: at most [`PAGE_RECORDS_MAX`]; 0 asks for as many.
    pub limit: usize,
    /// Where the page before ended: [`Page::next`].
    pub cursor: Option<u64>,
}

/// Some of what meets a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub records: Vec<Record>,
    /// Where to go on. A page may be short, or empty, and still have a next one.
    pub next: Option<u64>,
    /// Records that should be there and could not be read, in the order they were come by.
    pub unreadable: Vec<u64>,
}

impl Query {
    fn probe(&self) -> Probe {
        let hash = |text: &Option<String>| text.as_deref().map(hash_of);
        let collection = self.document_prefix.as_deref().and_then(|prefix| Some(prefix.split_once('/')?.0));
        Probe {
            conflict: hash(&self.conflict),
            document: hash(&self.document),
            collection: collection.map(hash_of),
            field: hash(&self.field),
            actor: hash(&self.actor),
            kinds: self.kinds.iter().fold(0, |bits, kind| bits | bit_of(*kind)),
            from_ms: self.from_ms,
            until_ms: self.until_ms,
        }
    }

    /// Whether a record meets every condition.
    pub fn matches(&self, record: &RecordRef<'_>) -> bool {
        let same = |asked: &Option<String>, is: Option<&str>| asked.is_none() || asked.as_deref() == is;
        let begins = |prefix: &String| record.document.is_some_and(|name| name.starts_with(prefix.as_str()));
        same(&self.conflict, record.conflict)
            && same(&self.document, record.document)
            && self.document_prefix.as_ref().is_none_or(begins)
            && same(&self.field, record.field)
            && same(&self.actor, Some(record.actor))
            && (self.kinds.is_empty() || self.kinds.contains(&record.kind))
            && self.from_ms.is_none_or(|from| record.at_ms >= from)
            && self.until_ms.is_none_or(|until| record.at_ms < until)
    }

    /// One page. `span` is the chain's, from its first index to before the second; `index` is of the same chain, and `read`
    /// gives the stored row at an index. Records that are appended meanwhile do
    /// not shift later pages: a cursor is an index of the chain.
    pub fn page(&self, span: (u64, u64), index: &Index, read: &dyn Fn(u64) -> Option<Vec<u8>>) -> Page {
        let probe = self.probe();
        let limit = if self.limit == 0 { PAGE_RECORDS_MAX } else { self.limit.min(PAGE_RECORDS_MAX) };
        let (mut from, mut until) = span;
        match self.cursor {
            Some(cursor) if self.newest_first => until = until.min(cursor.saturating_add(1)),
            Some(cursor) => from = from.max(cursor),
            None => {}
        }
        let (mut page, mut bytes, mut reads) = (Page::default(), 0, 0);
        while let Some(at) = index.next(from, until, self.newest_first, &probe) {
            if page.records.len() == limit || bytes >= PAGE_BYTES_MAX || reads == PAGE_READS_MAX {
                page.next = Some(at);
                break;
            }
            reads += 1;
            (from, until) = if self.newest_first { (from, at) } else { (at + 1, until) };
            bytes += self.look_at(at, read, &mut page);
        }
        page
    }

    /// Reads the row at `at` and takes its record if it matches; gives the bytes it took.
    fn look_at(&self, at: u64, read: &dyn Fn(u64) -> Option<Vec<u8>>, page: &mut Page) -> usize {
        let row = read(at);
        let decoded = row.as_deref().and_then(|row| RecordRef::decode(row).ok());
        let Some(record) = decoded.filter(|record| record.index == at && record.is_sealed()) else {
            page.unreadable.push(at);
            return 0;
        };
        if !self.matches(&record) {
            return 0;
        }
        match record.to_owned() {
            Ok(record) => page.records.push(record),
            Err(_) => page.unreadable.push(at),
        }
        row.map_or(0, |row| row.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::row::key_of;
    use super::super::world::{World, entry};
    use super::*;

    fn index_of(world: &World, records_max: usize) -> Index {
        let mut index = Index::new(records_max);
        world.rows.values().filter_map(|row| RecordRef::decode(row).ok()).for_each(|record| index.insert(&record));
        index
    }

    /// All pages, one after another.
    fn all(world: &World, index: &Index, query: &Query) -> Vec<u64> {
        let read = |at| world.rows.get(&key_of(at)[..]).cloned();
        let mut query = query.clone();
        let mut found = Vec::new();
        loop {
            let page = query.page(world.chain.span(), index, &read);
            found.extend(page.records.iter().map(|record| record.index));
            assert!(page.unreadable.is_empty() && page.records.len() <= query.limit.max(1));
            query.cursor = page.next;
            if query.cursor.is_none() {
                return found;
            }
        }
    }

    fn any_query() -> impl Strategy<Value = Query> {
        let texts = (
            prop::option::of((0..30u64).prop_map(|n| format!("c{n}"))),
            prop::option::of((0..8u64).prop_map(|n| format!("vms/vm-{n}"))),
            prop::option::of(prop::sample::select(vec!["v", "vms/", "vms/vm-1", "tasks/", ""]).prop_map(str::to_owned)),
            prop::option::of(prop::sample::select(vec!["power_state", "none"]).prop_map(str::to_owned)),
            prop::option::of(prop::sample::select(vec!["alice", "bob", "carol"]).prop_map(str::to_owned)),
        );
        let kinds = prop::collection::vec(prop::sample::select(Kind::ALL.to_vec()), 0..3);
        let times = (prop::option::of(900..1_700u64), prop::option::of(900..1_700u64));
        (texts, kinds, times, any::<bool>(), 1..9usize).prop_map(|(texts, kinds, times, newest_first, limit)| {
            let (conflict, document, document_prefix, field, actor) = texts;
            let (from_ms, until_ms) = times;
            let cursor = None;
            Query {
                conflict,
                document,
                document_prefix,
                field,
                kinds,
                actor,
                from_ms,
                until_ms,
                newest_first,
                limit,
                cursor,
            }
        })
    }

    proptest! {
        #[test]
        fn pages_hold_what_reading_everything_finds(query in any_query(), records_max in 1..80usize) {
            let world = World::with(60);
            let records = world.rows.values().map(|row| RecordRef::decode(row).unwrap());
            let mut expected: Vec<u64> = records.filter(|record| query.matches(record)).map(|record| record.index).collect();
            if query.newest_first {
                expected.reverse();
            }
            prop_assert_eq!(all(&world, &index_of(&world, records_max), &query), expected);
        }
    }

    #[test]
    fn each_condition_picks_what_it_names() {
        let world = World::with(12);
        let found = |query: Query| {
            let query = Query { limit: 5, ..query };
            let [indexed, read] = [100, 1].map(|records_max| all(&world, &index_of(&world, records_max), &query));
            assert_eq!(indexed, read, "what no digest is kept of is read");
            read
        };
        assert_eq!(found(Query { conflict: Some("c3".into()), ..Query::default() }), [6, 7]);
        assert_eq!(found(Query { document: Some("vms/vm-2".into()), ..Query::default() }), [2, 9]);
        assert_eq!(found(Query { document_prefix: Some("vms/vm-4".into()), ..Query::default() }), [4, 11]);
        assert_eq!(found(Query { field: Some("owner".into()), ..Query::default() }), [1, 3, 5, 7, 9, 11]);
        assert_eq!(found(Query { actor: Some("bob".into()), newest_first: true, ..Query::default() }), [11, 8, 5, 2]);
        assert_eq!(found(Query { kinds: vec![Kind::Voted, Kind::Detected], ..Query::default() }), [0, 2, 9, 11]);
        let times = Query { from_ms: Some(1_030), until_ms: Some(1_050), ..Query::default() };
        assert_eq!(found(times), [3, 4], "the first millisecond counts, the last does not");
    }

    #[test]
    fn a_page_is_bounded_in_records_bytes_and_rows_read() {
        let mut world = World::with(PAGE_RECORDS_MAX as u64 + 5);
        let read = |world: &World, at: u64| world.rows.get(&key_of(at)[..]).cloned();
        let index = index_of(&world, 10_000);
        let page = Query::default().page(world.chain.span(), &index, &|at| read(&world, at));
        assert_eq!((page.records.len(), page.next), (PAGE_RECORDS_MAX, Some(PAGE_RECORDS_MAX as u64)));

        (0..100).for_each(|n| world.append(entry(n).detail(json!("x".repeat(60_000)))));
        let large = Query { newest_first: true, ..Query::default() };
        let page = large.page(world.chain.span(), &index_of(&world, 10_000), &|at| read(&world, at));
        assert!(page.records.len() < 80 && page.next.is_some(), "{}", page.records.len());

        let rows = std::cell::Cell::new(0);
        let count = |_| {
            rows.set(rows.get() + 1);
            Some(world.rows[&key_of(0)[..]].clone())
        };
        (0..PAGE_READS_MAX as u64).for_each(|n| drop(world.chain.append(&entry(n))));
        let nobody = Query { actor: Some("nobody".into()), ..Query::default() };
        let page = nobody.page(world.chain.span(), &Index::new(1), &count);
        assert_eq!((rows.get(), page.next), (PAGE_READS_MAX, Some(PAGE_READS_MAX as u64)));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_named() {
        let world = World::with(5);
        let read = |at| match at {
            2 => None,
            3 => Some(world.rows[&key_of(4)[..]].clone()),
            _ => Some(world.rows[&key_of(at)[..]].clone()),
        };
        let page = Query::default().page(world.chain.span(), &Index::default(), &read);
        assert_eq!((page.unreadable, page.records.len()), (vec![2, 3], 3));
    }
}
