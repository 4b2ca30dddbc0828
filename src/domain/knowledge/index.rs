//! Items, and whom to compare with whom.
//!
//! Words lead from an item to others: for each word a list of the items that have it. The rarest words of the item at
//! hand are looked up first, and those that share the most information with it are compared in full. Texts here are
//! short, so such a list costs less than the many hashes of MinHash, and it misses no pair that shares a rare word: a
//! contradiction or an overlap is often only half alike, where hashing by likeness finds little. Embeddings lead to
//! items that share no word, by their signatures.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use super::claim::{Reading, Term};
use super::compare::{Class, Options, Verdict, Why, read_and_compare};
use super::embedding::{Signature, cosine, distance_max};
use super::item::{Invalid, Item};

/// Items that an index holds. At about a kilobyte each without an embedding: 1 GB.
pub const ITEMS_MAX: usize = 1 << 20;

/// Entries of word lists looked at in one check: under a millisecond. The lists of the rarest words come first, so what
/// is left out are words that nearly all items have.
const VISITS_MAX: usize = 1 << 17;

/// ... but so many lists always, for a fleet that says the same few words all day.
const LISTS_MIN: usize = 2;

/// Items that one check compares because of their embeddings alone.
const NEAR_MAX: usize = 16;

/// Terms of the item at hand times the items it is compared with: a longer text is compared with fewer, the likeliest,
/// since comparing two texts of 600 terms takes 20 ms.
const TERMS_COMPARED: usize = 2_000;
const COMPARED_MIN: usize = 4;

/// Words by which one item is found; the first ones of a text say what it is about.
const KEYS_MAX: usize = 512;

/// Another item, and what it is to the one at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub id: String,
    pub class: Class,
    pub score: f64,
    pub why: Why,
}

/// Why an item was not taken. Nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Full {
    #[error("the item is invalid: {0}")]
    Invalid(#[from] Invalid),
    #[error("the index holds {ITEMS_MAX} items, the most it may: remove old ones first")]
    Items,
}

#[derive(Debug, Default)]
pub struct Index {
    shelves: BTreeMap<String, Shelf>,
    /// The shelf of each item, and its place there.
    places: BTreeMap<String, (String, u32)>,
}

/// The items of one kind.
#[derive(Debug, Default)]
struct Shelf {
    slots: Vec<Option<Entry>>,
    /// By slot: what ranking looks at, close together, since it may look at all of them.
    marks: Vec<Mark>,
    free: Vec<u32>,
    /// Looked up, never walked.
    lists: FxHashMap<u64, Vec<u32>>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// A hash of the id: it settles ties alike on every node, whatever slots the items have.
    id: u64,
    at_ms: u64,
}

#[derive(Debug)]
struct Entry {
    item: Item,
    signature: Option<Signature>,
}

impl Index {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn get(&self, id: &str) -> Option<&Item> {
        let (kind, slot) = self.places.get(id)?;
        self.shelves.get(kind)?.entry(*slot).map(|entry| &entry.item)
    }

    /// Adds an item, or replaces the one of the same id, which it returns.
    pub fn insert(&mut self, item: Item) -> Result<Option<Item>, Full> {
        item.check()?;
        if self.places.len() >= ITEMS_MAX && !self.places.contains_key(&item.id) {
            return Err(Full::Items);
        }
        let before = self.remove(&item.id);
        let (id, kind) = (item.id.clone(), item.kind.clone());
        let slot = self.shelves.entry(kind.clone()).or_default().insert(item);
        self.places.insert(id, (kind, slot));
        Ok(before)
    }

    pub fn remove(&mut self, id: &str) -> Option<Item> {
        let (kind, slot) = self.places.remove(id)?;
        let shelf = self.shelves.get_mut(&kind)?;
        let item = shelf.remove(slot);
        if shelf.free.len() == shelf.slots.len() {
            self.shelves.remove(&kind);
        }
        item
    }

    /// What the items of the same kind, said within the window, are to this one, which need not be in the index. The
    /// highest score comes first, then the lowest id.
    pub fn similar(&self, item: &Item, options: &Options) -> Vec<Finding> {
        let Some(shelf) = self.shelves.get(&item.kind) else { return Vec::new() };
        let reading = Reading::of(&item.content);
        let long = (TERMS_COMPARED / reading.terms().count().max(1)).max(COMPARED_MIN);
        let options = &Options { candidates: options.candidates.min(long), ..*options };
        let mut slots = shelf.by_words(item, &reading, options);
        slots.extend(shelf.by_embedding(item, options));
        slots.sort_unstable();
        slots.dedup();
        let entries = slots.into_iter().filter_map(|slot| shelf.entry(slot));
        let mut findings: Vec<Finding> =
            entries.filter_map(|entry| judge(item, &reading, &entry.item, options)).collect();
        findings.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        findings
    }
}

fn judge(item: &Item, reading: &Reading, other: &Item, options: &Options) -> Option<Finding> {
    let cosine = match (&item.embedding, &other.embedding) {
        (Some(one), Some(other)) => cosine(one, other),
        _ => None,
    };
    let equal = item.content == other.content;
    let verdict = read_and_compare(reading, &Reading::of(&other.content), equal, cosine, options)?;
    let Verdict { class, score, why } = verdict;
    Some(Finding { id: other.id.clone(), class, score, why })
}

impl Shelf {
    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn insert(&mut self, item: Item) -> u32 {
        let keys = keys(&Reading::of(&item.content));
        let signature = item.embedding.as_deref().map(Signature::of);
        let mark = Mark::of(&item);
        let entry = Some(Entry { item, signature });
        let slot = match self.free.pop() {
            Some(slot) => {
                (self.slots[slot as usize], self.marks[slot as usize]) = (entry, mark);
                slot
            }
            None => {
                self.slots.push(entry);
                self.marks.push(mark);
                self.slots.len() as u32 - 1
            }
        };
        for key in keys {
            self.lists.entry(key).or_default().push(slot);
        }
        slot
    }

    fn remove(&mut self, slot: u32) -> Option<Item> {
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        for key in keys(&Reading::of(&entry.item.content)) {
            let Some(list) = self.lists.get_mut(&key) else { continue };
            if let Some(at) = list.iter().position(|listed| *listed == slot) {
                list.swap_remove(at);
            }
            if list.is_empty() {
                self.lists.remove(&key);
            }
        }
        self.free.push(slot);
        Some(entry.item)
    }

    /// Said within the window, and not the item itself.
    fn is_compared(&self, item: &Mark, slot: u32, options: &Options) -> bool {
        let mark = &self.marks[slot as usize];
        mark.id != item.id && mark.at_ms.abs_diff(item.at_ms) <= options.window_ms
    }

    /// Those that share the most information by words: a word of one in 2ⁿ items counts n + 1.
    fn by_words(&self, item: &Item, reading: &Reading, options: &Options) -> Vec<u32> {
        let mut found: Vec<(u64, &Vec<u32>)> =
            keys(reading).into_iter().filter_map(|key| Some((key, self.lists.get(&key)?))).collect();
        found.sort_by_key(|(key, list)| (list.len(), *key));
        // Items, not slots: how many were removed before must not show.
        let held = self.slots.len() - self.free.len();
        let (mut sums, mut touched, mut visits) = (vec![0u32; self.slots.len()], Vec::new(), 0);
        for (taken, (_, list)) in found.into_iter().enumerate() {
            visits += list.len();
            if taken >= LISTS_MIN && visits > VISITS_MAX {
                break;
            }
            let information = 1 + (held / list.len().max(1)).max(1).ilog2();
            for slot in list {
                let sum = &mut sums[*slot as usize];
                if *sum == 0 {
                    touched.push(*slot);
                }
                *sum += information;
            }
        }
        let mark = Mark::of(item);
        touched.retain(|slot| self.is_compared(&mark, *slot, options));
        self.first(touched, options.candidates, |slot| std::cmp::Reverse(sums[slot as usize]))
    }

    fn by_embedding(&self, item: &Item, options: &Options) -> Vec<u32> {
        let Some(signature) = item.embedding.as_deref().map(Signature::of) else { return Vec::new() };
        let reach = distance_max(options.cosine);
        let distance = |slot: u32| Some(self.entry(slot)?.signature?.distance(&signature));
        let near = |slot: &u32| distance(*slot).is_some_and(|bits| bits <= reach);
        let near = (0..self.slots.len() as u32).filter(near);
        let mark = Mark::of(item);
        let near = near.filter(|slot| self.is_compared(&mark, *slot, options)).collect();
        self.first(near, NEAR_MAX.min(options.candidates), distance)
    }

    /// The first `count` by rank.
    fn first<R: Ord>(&self, mut slots: Vec<u32>, count: usize, rank: impl Fn(u32) -> R) -> Vec<u32> {
        if count > 0 && slots.len() > count {
            slots.select_nth_unstable_by_key(count - 1, |slot| (rank(*slot), self.marks[*slot as usize].id));
        }
        slots.truncate(count);
        slots
    }
}

impl Mark {
    fn of(item: &Item) -> Self {
        Self { id: xxh3_64(item.id.as_bytes()), at_ms: item.at_ms }
    }
}

/// The words of a text, each once, by key.
fn keys(reading: &Reading) -> Vec<u64> {
    let mut keys: Vec<u64> = reading.terms().flat_map(Term::keys).take(KEYS_MAX).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(id: &str, content: &str) -> Item {
        Item {
            id: id.to_owned(),
            kind: "fact".to_owned(),
            content: content.to_owned(),
            source: "agent-1".to_owned(),
            confidence: 1.0,
            urgency: 0,
            priority: 0,
            embedding: None,
            at_ms: 1_000,
        }
    }

    fn index(items: impl IntoIterator<Item = Item>) -> Index {
        let mut index = Index::new();
        for item in items {
            index.insert(item).unwrap();
        }
        index
    }

    fn found(index: &Index, item: &Item, options: &Options) -> Vec<(String, Class)> {
        index.similar(item, options).into_iter().map(|finding| (finding.id, finding.class)).collect()
    }

    #[test]
    fn each_class_is_found_among_others() {
        let index = index([
            item("a", "The gateway listens on port 8080"),
            item("b", "The gateway listens on port 9090"),
            item("c", "The gateway listens on port 8080 and serves metrics on port 9100"),
            item("d", "Backups run every night"),
        ]);
        let asked = item("new", "The gateway is listening on port 8080.");
        let mut classes = found(&index, &asked, &Options::default());
        classes.sort();
        let expected = [("a", Class::Duplicate), ("b", Class::Contradiction), ("c", Class::Overlap)];
        assert_eq!(classes, expected.map(|(id, class)| (id.to_owned(), class)));
    }

    #[test]
    fn a_label_alone_finds_the_name_it_is_part_of() {
        let index = index([item("a", "Cell A7 is locked"), item("b", "Cell A8 is locked")]);
        let found = found(&index, &item("new", "A7 is unlocked"), &Options::default());
        assert_eq!(found, [("a".to_owned(), Class::Contradiction)]);
    }

    #[test]
    fn other_kinds_and_other_times_and_the_item_itself_are_left_alone() {
        let said = item("a", "The gateway is up");
        let index = index([said.clone(), Item { kind: "rumour".into(), ..item("b", "The gateway is up") }]);
        let options = Options { window_ms: 500, ..Options::default() };
        assert_eq!(found(&index, &said, &options), []);
        let asked = |at_ms| Item { at_ms, ..item("c", "The gateway is up") };
        assert_eq!(found(&index, &asked(1_500), &options).len(), 1);
        assert_eq!(found(&index, &asked(1_501), &options).len(), 0);
    }

    #[test]
    fn a_replaced_item_is_found_by_its_new_words_only() {
        let mut index = index([item("a", "The gateway is up")]);
        let before = index.insert(item("a", "Backups run nightly")).unwrap();
        assert_eq!(before.map(|item| item.content), Some("The gateway is up".to_owned()));
        assert!(found(&index, &item("x", "The gateway is up"), &Options::default()).is_empty());
        assert_eq!(found(&index, &item("x", "Backups run nightly"), &Options::default()).len(), 1);
        assert_eq!(index.remove("a").map(|item| item.id), Some("a".to_owned()));
        assert!(index.is_empty() && index.shelves.is_empty() && index.remove("a").is_none());
    }

    #[test]
    fn near_embeddings_are_found_without_a_common_word() {
        let with =
            |id: &str, content: &str, embedding: Vec<f32>| Item { embedding: Some(embedding), ..item(id, content) };
        let index = index([
            with("near", "The box died", vec![1.0, 0.1, 0.0]),
            with("far", "Bread is baked", vec![0.0, 1.0, 0.0]),
            with("other-model", "Tea is served", vec![1.0, 0.0]),
        ]);
        let asked = with("x", "Our machine passed away", vec![1.0, 0.0, 0.0]);
        assert_eq!(found(&index, &asked, &Options::default()), [("near".to_owned(), Class::Duplicate)]);
    }

    #[test]
    fn no_more_than_the_candidates_are_compared_and_the_nearest_come_first() {
        let many =
            (0..50).map(|n| item(&format!("k{n:02}"), &format!("The gateway serves port number {n} of the fleet")));
        let index = index(many.chain([item("same", "The gateway is slow since the update of its proxy")]));
        let options = Options { candidates: 1, ..Options::default() };
        let asked = item("x", "The gateway is slow since the update of its proxy.");
        assert_eq!(found(&index, &asked, &options), [("same".to_owned(), Class::Duplicate)]);
        assert!(found(&index, &asked, &Options { candidates: 0, ..options }).is_empty());
    }

    proptest! {
        #[test]
        fn the_order_of_insertion_does_not_matter(order in Just((0..40).collect::<Vec<usize>>()).prop_shuffle(), gone in 0usize..40) {
            let of = |n: usize| item(&format!("k{n}"), &format!("The gateway of zone {} is {} on port {}", n % 3, ["up", "down"][n % 2], n % 5));
            let straight = index((0..40).filter(|n| *n != gone).map(of));
            let mut shuffled = index(order.into_iter().map(of));
            shuffled.remove(&of(gone).id);
            let options = Options { candidates: 7, ..Options::default() };
            let asked = item("x", "The gateway of zone 1 is up on port 3");
            prop_assert_eq!(straight.similar(&asked, &options), shuffled.similar(&asked, &options));
        }

        #[test]
        fn no_text_makes_it_panic(texts in proptest::collection::vec("\\PC{1,60}", 1..6)) {
            let items = texts.iter().enumerate().map(|(n, text)| item(&format!("k{n}"), text));
            let mut index = Index::new();
            for item in items {
                let _ = index.insert(item);
            }
            let _ = index.similar(&item("x", &texts[0]), &Options::default());
        }
    }
}
