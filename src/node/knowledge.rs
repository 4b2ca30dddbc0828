//! Knowledge at a node: an index of the collection `knowledge`, kept in step with it, and asked.
//!
//! The index follows the changes of documents, one's own and others', on a thread of its own; no write waits for it. Each
//! item that comes or changes is compared with the others, and what is a duplicate of it, a contradiction to it, or
//! overlaps with it is a *finding*. Findings judge nobody: an item is taken whatever it contradicts.
//!
//! | bound | |
//! |---|---|
//! | [`ITEMS_MAX`], [`BYTES_MAX`] | what the index holds; other items are stored and listed, and not compared |
//! | [`FINDINGS_MAX`] | findings kept, the latest |
//! | [`LOOKED_AT_MAX`] | documents that one page of a query looks at |

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::builder::random;
use super::handle::Node;
use super::token::Token;
use super::write::{DocumentWrite, Durability, Missing, Receipt, WriteBody, WriteError};
use crate::document::{Address, AddressError};
use crate::domain::knowledge::{Finding, Index, Invalid, Item, Options};
use crate::engine::Replica;

pub const COLLECTION: &str = "knowledge";

/// Items compared: at about a kilobyte each 100 MB, and a check of some 3 ms.
pub const ITEMS_MAX: usize = 100_000;
/// Bytes of their texts and embeddings.
pub const BYTES_MAX: usize = 256 << 20;
/// Findings kept: what a person can look through, and some megabytes.
pub const FINDINGS_MAX: usize = 10_000;
/// Documents that one page of a query looks at, at some 10 µs each.
pub const LOOKED_AT_MAX: usize = 10_000;

/// Documents read at a time: the replica's lock is let go in between.
const PAGE: usize = 256;
/// Changes taken in at a time.
const CHANGES: usize = 64;

/// What a node knows of its knowledge.
#[derive(Debug, Default)]
pub(super) struct Known {
    shelf: RwLock<Shelf>,
    findings: Mutex<Findings>,
    /// Held while a document is read and taken in, so that an older reading never replaces a newer one.
    taking: Mutex<()>,
}

#[derive(Debug, Default)]
struct Shelf {
    index: Index,
    bytes: usize,
    /// Items there was no room for.
    left_out: BTreeSet<String>,
    /// The whole collection was read once.
    whole: bool,
}

#[derive(Debug, Default)]
struct Findings {
    /// The newest first.
    kept: VecDeque<Found>,
    count: u64,
}

/// Two items that have to do with each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// Counts up at this node.
    pub number: u64,
    /// The one that came or changed.
    pub id: String,
    #[serde(flatten)]
    pub similar: Similar,
    /// When this node found it, ms.
    pub seen_ms: u64,
}

/// What another item is to the one at hand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Similar {
    pub other: String,
    pub class: &'static str,
    pub score: f64,
    /// Words both say.
    pub shared: Vec<String>,
    /// What stands against each other.
    pub opposed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
}

/// What the index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Indexed {
    pub items: usize,
    /// Items there was no room for: they are not compared.
    pub left_out: usize,
    /// False for a moment after a start: not all items are read yet.
    pub whole: bool,
}

/// What came of adding an item.
#[derive(Debug, Clone)]
pub struct Added {
    pub id: String,
    pub receipt: Receipt,
    pub findings: Vec<Similar>,
}

/// Which items are asked for. Nothing set: all.
#[derive(Debug, Clone, Default)]
pub struct KnowledgeFilter {
    pub kind: Option<String>,
    pub source: Option<String>,
    /// Words that the content holds, all of them, in any case.
    pub text: Option<String>,
    /// Only ids after this one.
    pub after: Option<String>,
}

/// Items in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct KnowledgePage {
    pub items: Vec<(String, Map<String, Json>)>,
    /// The id to go on after, when there may be more.
    pub next: Option<String>,
    pub token: Token,
}

#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    #[error("{0}; nothing was written")]
    Invalid(#[from] Invalid),
    #[error("there is no item {0} here")]
    NotFound(String),
    #[error("the check ended without a result: this is a bug")]
    Lost,
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Node {
    /// Adds an item, whatever it repeats or contradicts, and tells what that is. Without an `id` it is given one that
    /// sorts by time.
    pub async fn add_knowledge(
        &self,
        id: Option<String>,
        fields: &Json,
        durability: Durability,
    ) -> Result<Added, KnowledgeError> {
        let now_ms = self.now().wall_ms;
        let id = id.unwrap_or_else(|| format!("{now_ms:012x}-{:08x}", u32::from_le_bytes(random())));
        let item = Item::from_json(&id, now_ms, fields)?;
        let Json::Object(fields) = item.to_json() else { return Err(Invalid::NotAnObject.into()) };
        let (address, body) = (Address::new(COLLECTION, &id)?, WriteBody::Put(fields));
        let write = DocumentWrite { address, body, if_match: None, create_only: true, missing: Missing::Create };
        let receipt = self.write(vec![write], durability).await?;
        let (node, taken) = (self.clone(), id.clone());
        let findings = blocking(move || node.take_in(&taken)).await?;
        Ok(Added { id, receipt, findings })
    }

    /// What the items of the same type are to this one, the likeliest first. `item` may be one that is kept.
    pub async fn similar_knowledge(&self, item: Item, options: Options) -> Result<Vec<Similar>, KnowledgeError> {
        item.check()?;
        let node = self.clone();
        blocking(move || {
            let shelf = node.inner.known.shelf.read();
            shelf.index.similar(&item, &options).into_iter().map(Similar::of).collect()
        })
        .await
    }

    /// An item as it is kept, to compare it with others.
    pub fn knowledge_item(&self, id: &str) -> Result<Item, KnowledgeError> {
        let (fields, at_ms) = self.read_item(id).ok_or_else(|| KnowledgeError::NotFound(id.to_owned()))?;
        Ok(Item::from_json(id, at_ms, &Json::Object(fields))?)
    }

    /// A page of items. It may hold fewer than `limit` and still have a `next`: a page looks at [`LOOKED_AT_MAX`] documents.
    pub async fn knowledge(&self, filter: KnowledgeFilter, limit: usize) -> Result<KnowledgePage, KnowledgeError> {
        let node = self.clone();
        blocking(move || node.page_of_knowledge(&filter, limit)).await
    }

    /// What this node found since its start, the newest first, before the number `before`.
    pub fn knowledge_findings(&self, class: Option<&str>, before: Option<u64>, limit: usize) -> Vec<Found> {
        let findings = self.inner.known.findings.lock();
        let asked = |found: &&Found| {
            before.is_none_or(|before| found.number < before) && class.is_none_or(|class| found.similar.class == class)
        };
        findings.kept.iter().filter(asked).take(limit).cloned().collect()
    }

    pub fn knowledge_indexed(&self) -> Indexed {
        let shelf = self.inner.known.shelf.read();
        Indexed { items: shelf.index.len(), left_out: shelf.left_out.len(), whole: shelf.whole }
    }

    fn page_of_knowledge(&self, filter: &KnowledgeFilter, limit: usize) -> KnowledgePage {
        let words = filter.text.as_deref().unwrap_or_default().to_lowercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        let (mut page, mut after, mut looked) = (KnowledgePage::default(), filter.after.clone(), 0);
        loop {
            let listing = self.list(COLLECTION, "", after.as_deref(), PAGE);
            page.token.merge(&listing.token);
            looked += listing.items.len();
            for (id, shown) in listing.items {
                if page.items.len() == limit {
                    page.next = page.items.last().map(|(id, _)| id.clone());
                    return page;
                }
                if filter.takes(&shown.view.fields, &words) {
                    page.items.push((id, shown.view.fields));
                }
            }
            if listing.next.is_none() || looked >= LOOKED_AT_MAX {
                page.next = listing.next;
                return page;
            }
            after = listing.next;
        }
    }

    /// Brings the index in step with one document, and tells what it found about it.
    fn take_in(&self, id: &str) -> Vec<Similar> {
        let known = &self.inner.known;
        let _taking = known.taking.lock();
        let item = self.knowledge_item(id).ok();
        let Some(item) = item else {
            known.shelf.write().remove(id);
            known.findings.lock().forget(id);
            return Vec::new();
        };
        let is_kept = {
            let shelf = known.shelf.read();
            shelf.index.get(id).is_some_and(|kept| says_the_same(kept, &item))
        };
        if is_kept {
            return known.findings.lock().of(id);
        }
        let similar = {
            let shelf = known.shelf.read();
            let findings = shelf.index.similar(&item, &Options::default());
            findings.into_iter().map(Similar::of).collect::<Vec<_>>()
        };
        known.shelf.write().put(item);
        let mut findings = known.findings.lock();
        findings.forget(id);
        // The likeliest is the newest.
        similar.iter().rev().for_each(|similar| findings.push(id, similar.clone(), self.now().wall_ms));
        similar
    }

    /// Reads the whole collection: at a start, and when changes came faster than they were taken in. What is alike in it
    /// is not looked for; a check for every item would take minutes.
    fn take_in_all(&self) {
        let known = &self.inner.known;
        let mut after = None;
        let again = known.shelf.read().whole;
        if again {
            // What is gone or changed meanwhile is not known one by one.
            *known.shelf.write() = Shelf::default();
            known.findings.lock().kept.clear();
        }
        loop {
            let page = self.list(COLLECTION, "", after.as_deref(), PAGE);
            for (id, _) in &page.items {
                let _taking = known.taking.lock();
                if let Ok(item) = self.knowledge_item(id) {
                    known.shelf.write().put(item);
                }
            }
            after = page.next;
            if after.is_none() || self.inner.is_stopping() {
                known.shelf.write().whole = true;
                return;
            }
        }
    }

    fn read_item(&self, id: &str) -> Option<(Map<String, Json>, u64)> {
        let name = format!("{COLLECTION}/{id}");
        let replica = self.inner.replica.read();
        let fields = replica.view(&name)?.fields;
        Some((fields, said_ms(&replica, &name)))
    }
}

/// Keeps the index in step until the node stops.
pub(super) async fn follow(node: Node) {
    tokio::select! {
        () = node.stopping() => {}
        () = keep_up(&node) => {}
    }
}

async fn keep_up(node: &Node) {
    const PAUSE: Duration = Duration::from_secs(1);
    loop {
        // The watch begins first: what changes while the collection is read is taken in again.
        if let Ok(watch) = node.watch(&format!("{COLLECTION}/"), None) {
            let all = node.clone();
            let _ = tokio::task::spawn_blocking(move || all.take_in_all()).await;
            let mut changes = watch.ready_chunks(CHANGES);
            while let Some(changed) = changes.next().await {
                let node = node.clone();
                let ids: BTreeSet<String> = changed.into_iter().map(|change| change.address.id().to_owned()).collect();
                let taken = move || ids.iter().for_each(|id| drop(node.take_in(id)));
                let _ = tokio::task::spawn_blocking(taken).await;
            }
            tracing::warn!("knowledge changed faster than it was compared; all of it is read anew");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// When the content was written, by its writer's clock.
fn said_ms(replica: &Replica, name: &str) -> u64 {
    let document = replica.state().document(name);
    let cells = document.into_iter().flat_map(|document| document.cells_of("content"));
    cells.flat_map(|cell| cell.valued().map(|entry| entry.at.ms()).collect::<Vec<_>>()).max().unwrap_or_default()
}

fn says_the_same(one: &Item, other: &Item) -> bool {
    (&one.kind, &one.content, &one.embedding, one.at_ms) == (&other.kind, &other.content, &other.embedding, other.at_ms)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, KnowledgeError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| KnowledgeError::Lost)
}

impl Shelf {
    fn put(&mut self, item: Item) {
        self.remove(&item.id);
        let (id, bytes) = (item.id.clone(), bytes_of(&item));
        let room = self.index.len() < ITEMS_MAX && self.bytes + bytes <= BYTES_MAX;
        if room && self.index.insert(item).is_ok() {
            self.bytes += bytes;
        } else {
            self.left_out.insert(id);
        }
    }

    fn remove(&mut self, id: &str) {
        self.left_out.remove(id);
        if let Some(item) = self.index.remove(id) {
            self.bytes -= bytes_of(&item);
        }
    }
}

fn bytes_of(item: &Item) -> usize {
    item.content.len() + item.embedding.as_ref().map_or(0, |embedding| embedding.len() * size_of::<f32>())
}

impl Findings {
    fn push(&mut self, id: &str, similar: Similar, seen_ms: u64) {
        self.count += 1;
        self.kept.push_front(Found { number: self.count, id: id.to_owned(), similar, seen_ms });
        self.kept.truncate(FINDINGS_MAX);
    }

    /// An item that changed or is gone: what was found about it holds no more.
    fn forget(&mut self, id: &str) {
        self.kept.retain(|found| found.id != id && found.similar.other != id);
    }

    fn of(&self, id: &str) -> Vec<Similar> {
        self.kept.iter().filter(|found| found.id == id).map(|found| found.similar.clone()).collect()
    }
}

impl Similar {
    fn of(finding: Finding) -> Self {
        let Finding { id, class, score, why } = finding;
        Self { other: id, class: class.name(), score, shared: why.shared, opposed: why.opposed, cosine: why.cosine }
    }

    /// The names of the classes.
    pub const CLASSES: [&str; 3] = ["contradiction", "duplicate", "overlap"];
}

impl KnowledgeFilter {
    fn takes(&self, fields: &Map<String, Json>, words: &[&str]) -> bool {
        let text = |key: &str| fields.get(key).and_then(Json::as_str).unwrap_or_default();
        let is = |key: &str, wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| text(key) == wanted);
        is("type", &self.kind) && is("source", &self.source) && {
            let content = if words.is_empty() { String::new() } else { text("content").to_lowercase() };
            words.iter().all(|word| content.contains(word))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::knowledge::Class;
    use serde_json::json;

    async fn node() -> Node {
        Node::builder().name("k").store(crate::store::StoreKind::Memory).start().await.unwrap()
    }

    fn fact(content: &str) -> Json {
        json!({"type": "fact", "content": content, "source": "a"})
    }

    async fn add(node: &Node, id: &str, content: &str) -> Vec<Similar> {
        let added = node.add_knowledge(Some(id.to_owned()), &fact(content), Durability::Local).await.unwrap();
        added.findings
    }

    async fn until(holds: impl Fn() -> bool) {
        for _ in 0..500 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it did not come to hold");
    }

    #[test]
    fn the_names_of_the_classes_are_those_of_the_domain() {
        let names = [Class::Contradiction, Class::Duplicate, Class::Overlap].map(Class::name);
        assert_eq!(names, Similar::CLASSES);
    }

    #[tokio::test]
    async fn an_item_is_taken_whatever_it_contradicts_and_the_finding_says_so() {
        let node = node().await;
        assert_eq!(add(&node, "1", "The port is 8080").await, []);
        let found = add(&node, "2", "The port is 9090").await;
        assert_eq!((found[0].other.as_str(), found[0].class), ("1", "contradiction"));
        assert_eq!(found[0].opposed, ["`9090` / `8080`"]);
        assert_eq!(node.knowledge_findings(None, None, 10)[0].id, "2");
        assert_eq!(node.knowledge_findings(Some("duplicate"), None, 10), []);
        assert_eq!(node.knowledge(KnowledgeFilter::default(), 10).await.unwrap().items.len(), 2);
        let again = node.add_knowledge(Some("2".into()), &fact("other"), Durability::Local).await;
        assert!(matches!(again, Err(KnowledgeError::Write(WriteError::Precondition { .. }))), "{again:?}");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn the_index_follows_documents_that_were_written_as_such() {
        let node = node().await;
        add(&node, "1", "The port is 8080").await;
        let write = |body| DocumentWrite {
            address: Address::new(COLLECTION, "2").unwrap(),
            body,
            if_match: None,
            create_only: false,
            missing: Missing::Create,
        };
        let put = |content: &str| write(WriteBody::Put(fact(content).as_object().cloned().unwrap()));
        node.write(vec![put("The port is 9090")], Durability::Local).await.unwrap();
        until(|| node.knowledge_findings(None, None, 9).iter().any(|found| found.id == "2")).await;
        // Corrected: what was found about it is forgotten.
        node.write(vec![put("The port is 8080")], Durability::Local).await.unwrap();
        until(|| node.knowledge_findings(Some("duplicate"), None, 9).len() == 1).await;
        assert_eq!(node.knowledge_findings(None, None, 9).len(), 1);
        node.write(vec![write(WriteBody::Delete)], Durability::Local).await.unwrap();
        until(|| node.knowledge_indexed().items == 1).await;
        assert_eq!(node.knowledge_findings(None, None, 9), []);
        node.shutdown().await;
    }

    #[tokio::test]
    async fn items_are_listed_by_type_source_and_words_page_by_page() {
        let node = node().await;
        for (id, content) in [("1", "The gateway of rack A"), ("2", "the Gateway is down"), ("3", "a disk")] {
            add(&node, id, content).await;
        }
        let page = async |filter: KnowledgeFilter, limit: usize| {
            let page = node.knowledge(filter, limit).await.unwrap();
            (page.items.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), page.next)
        };
        let text = |text: &str| KnowledgeFilter { text: Some(text.into()), ..KnowledgeFilter::default() };
        assert_eq!(page(text("gateway"), 9).await, (vec!["1".into(), "2".into()], None));
        assert_eq!(page(text("DOWN gateway"), 9).await.0, ["2"]);
        assert_eq!(page(text("gateway"), 1).await, (vec!["1".into()], Some("1".into())));
        let after = KnowledgeFilter { after: Some("1".into()), ..text("gateway") };
        assert_eq!(page(after, 1).await.0, ["2"]);
        let elsewhere = KnowledgeFilter { source: Some("b".into()), ..KnowledgeFilter::default() };
        assert_eq!(page(elsewhere, 9).await.0, [""; 0]);
        node.shutdown().await;
    }

    #[test]
    fn findings_are_bounded_and_the_oldest_go() {
        let similar = |other: String| Similar {
            other,
            class: "overlap",
            score: 1.0,
            shared: Vec::new(),
            opposed: Vec::new(),
            cosine: None,
        };
        let mut findings = Findings::default();
        (0..FINDINGS_MAX + 5).for_each(|n| findings.push(&n.to_string(), similar("x".into()), 0));
        assert_eq!((findings.kept.len(), findings.of("4").len(), findings.of("5").len()), (FINDINGS_MAX, 0, 1));
        findings.forget("x");
        assert!(findings.kept.is_empty());
    }

    #[test]
    fn what_finds_no_room_is_named_as_left_out() {
        let mut shelf = Shelf { bytes: BYTES_MAX - 10, ..Shelf::default() };
        let item = |id: &str, content: &str| Item::from_json(id, 1, &fact(content)).unwrap();
        shelf.put(item("1", "short"));
        shelf.put(item("2", "too long to fit"));
        assert_eq!((shelf.index.len(), shelf.left_out.len()), (1, 1));
        shelf.remove("2");
        assert!(shelf.left_out.is_empty());
    }
}
