//! The state as rows of a store: what is written after a change, and how it is read back at a start.
//!
//! | tree | key | value |
//! |---|---|---|
//! | `meta` | `cluster` | cluster id, 16 bytes |
//! | `meta` | `replica/` slot u32 BE | replica id, seq, head's seq, head |
//! | `meta` | `floor` | (slot, seq) pairs, varints |
//! | `meta` | `digest` | clock digest, state digest, digest of the removal records, number of entries |
//! | `cells` | document, 0, page id u32 BE | the page's bytes |
//! | `history` | see [`ledger`] | a value that had rivals |
//! | `audit` | see [`row`](crate::history::audit::row) and [`anchors`](super::audit::anchors) | a record, an anchor |
//! | `ballots` | see [`booth`](super::ballot::booth) | what a voter promised and accepted |
//! | `outbox` | slot u32 BE, first seq u64 BE | a signed batch under full ids |
//! | `aside` | slot u32 BE, first seq u64 BE | the same, beyond a fence |
//! | `aside` | `wrote/` incarnation | nothing: this node's replica wrote into this store |
//!
//! The digests are written in the same atomic step as the pages. A page that silently went missing is thus found at the
//! next start, whatever the backend promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::audit::Loss;
use super::fence::WROTE;
use super::persist::{Tree, WriteBatch};
use super::state::State;
use crate::clock::{Clock, ClusterId, Dot, Incarnation, ReplicaId, Slot};
use crate::document::Document;
use crate::document::batch::{OPS_MAX, check_name};
use crate::document::codec::{DecodeError, FORMAT_VERSION, Reader, Writer};
use crate::document::page::Page;
use crate::history::ledger::{self, Ledger};

/// Pages and rows that changed since they were last written out.
#[derive(Debug, Default)]
pub(super) struct DirtyRows {
    pages: Vec<(u32, u32)>,
    gone: Vec<Vec<u8>>,
    pub floor: bool,
    pub cluster: bool,
    /// Clock and heads as last written out.
    written: Vec<(u64, u64)>,
    compact_at: usize,
}

impl DirtyRows {
    pub fn page(&mut self, document: u32, page: u32) {
        if self.pages.last() == Some(&(document, page)) {
            return;
        }
        self.pages.push((document, page));
        // While the disk is slow, hot pages repeat: fold them, so that this holds at most twice the distinct ones.
        if self.pages.len() > self.compact_at.max(4096) {
            self.pages.sort_unstable();
            self.pages.dedup();
            self.compact_at = 2 * self.pages.len();
        }
    }

    pub fn gone(&mut self, name: &Arc<str>, page: u32) {
        self.gone.push(page_key(name, page));
    }
}

fn page_key(name: &str, page: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 5);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key.extend_from_slice(&page.to_be_bytes());
    key
}

/// The key in `meta` of the cluster that a store is of, and the length of its id.
pub const CLUSTER: &[u8] = b"cluster";
pub const CLUSTER_LEN: usize = 16;

fn replica_key(slot: Slot) -> Vec<u8> {
    [b"replica/".as_slice(), &slot.0.to_be_bytes()].concat()
}

/// The outbox row of the batch that starts at `first`.
pub(super) fn outbox_key(slot: Slot, first: u64) -> Vec<u8> {
    [slot.0.to_be_bytes().as_slice(), &first.to_be_bytes()].concat()
}

fn read_outbox_key(key: &[u8]) -> Result<(Slot, u64), DecodeError> {
    let (slot, first) = key.split_first_chunk::<4>().ok_or(DecodeError::Truncated)?;
    let first = first.try_into().map_err(|_| DecodeError::Bounds("an outbox key"))?;
    let slot = Slot(u32::from_be_bytes(*slot));
    if slot.0 > Slot::MAX { Err(DecodeError::Bounds("a slot")) } else { Ok((slot, u64::from_be_bytes(first))) }
}

/// The replicas and the own batches that can still be read in a damaged store: `meta` rows, then `outbox` rows. What
/// does not decode is left out.
pub fn salvage_outbox(meta: &[(Vec<u8>, Vec<u8>)], outbox: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(ReplicaId, Vec<u8>)> {
    let id_of = |slot: Slot| {
        let key = replica_key(slot);
        let (_, row) = meta.iter().find(|(of, _)| *of == key)?;
        row.first_chunk().map(ReplicaId::from_bytes)
    };
    let named = outbox.into_iter().filter_map(|(key, row)| {
        let (slot, _) = read_outbox_key(&key).ok()?;
        PortableBatch::decode(&row).ok()?;
        Some((id_of(slot)?, row))
    });
    named.collect()
}

/// A signed batch under full ids, which stands on its own: version, first, count, signature, ops.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortableBatch<'a> {
    pub first: u64,
    pub count: usize,
    pub signature: [u8; 64],
    pub ops: &'a [u8],
}

impl<'a> PortableBatch<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(FORMAT_VERSION);
        writer.varint(self.first);
        writer.varint(self.count as u64);
        writer.raw(&self.signature);
        writer.raw(self.ops);
        writer.bytes
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            FORMAT_VERSION => {}
            version => return Err(DecodeError::Version(version)),
        }
        let (first, count, signature) = (reader.varint()?, reader.varint()?, reader.array()?);
        let fits = (1..=OPS_MAX as u64).contains(&count) && first > 0 && first <= Dot::SEQ_MAX - count;
        if !fits {
            return Err(DecodeError::Bounds("a batch's header"));
        }
        Ok(Self { first, count: count as usize, signature, ops: reader.rest() })
    }

    pub fn last(&self) -> u64 {
        self.first + self.count as u64 - 1
    }
}

impl State {
    /// Takes every row that changed since the last call: one consistent image of the state as it is now.
    pub(super) fn take_rows(&mut self, cluster: Option<ClusterId>) -> WriteBatch {
        let mut rows = WriteBatch::default();
        for key in std::mem::take(&mut self.dirty.gone) {
            rows.remove(Tree::Cells, key);
        }
        let mut pages = std::mem::take(&mut self.dirty.pages);
        pages.sort_unstable();
        pages.dedup();
        for (at, page) in pages {
            let stored = self.stored(at);
            if let Some(page) = stored.document.page(page) {
                rows.put(Tree::Cells, page_key(&stored.name, page.id), page.bytes());
            }
        }
        for (slot, id) in self.roster.iter() {
            let (head_seq, head) = self.heads[slot.index()];
            let row = (self.clock.get(slot), head_seq);
            if self.dirty.written.get(slot.index()) != Some(&row) {
                // Slots come in order, each at most one beyond the last.
                self.dirty.written.resize(self.dirty.written.len().max(slot.index() + 1), (0, 0));
                self.dirty.written[slot.index()] = row;
                let mut writer = Writer::new();
                writer.raw(&id.to_bytes());
                writer.u64(row.0);
                writer.u64(row.1);
                writer.raw(&head);
                rows.put(Tree::Meta, replica_key(slot), writer.bytes);
            }
        }
        if std::mem::take(&mut self.dirty.floor) {
            let mut writer = Writer::new();
            for (slot, seq) in self.floor.iter() {
                writer.varint(u64::from(slot.0));
                writer.varint(seq);
            }
            rows.put(Tree::Meta, b"floor".as_slice(), writer.bytes);
        }
        if let Some(ClusterId(id)) = cluster.filter(|_| std::mem::take(&mut self.dirty.cluster)) {
            rows.put(Tree::Meta, CLUSTER, id);
        }
        if !rows.is_empty() {
            rows.put(Tree::Meta, b"digest".as_slice(), self.digest_row());
        }
        rows
    }

    fn digest_row(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(56);
        row.extend_from_slice(&self.clock_digest().to_le_bytes());
        row.extend_from_slice(&self.digest().to_le_bytes());
        row.extend_from_slice(&self.records_digest().to_le_bytes());
        row.extend_from_slice(&(self.counts().entries as u64).to_le_bytes());
        row
    }
}

/// A store that is not what this node wrote. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    #[error("the {tree} row {key:?} does not decode: {reason}")]
    Row { tree: &'static str, key: String, reason: String },
    #[error("{0}")]
    Inconsistent(String),
}

/// Reads rows back: all of `meta` first, then all of `cells` and of `outbox`, then `finish`.
#[derive(Debug, Default)]
pub struct Loader {
    state: State,
    cluster: Option<ClusterId>,
    digest: Option<Vec<u8>>,
    /// Pages of the document being read; rows come in order, so one document at a time.
    name: String,
    pages: Vec<Page>,
    outbox: Vec<OutboxRow>,
    ledger: Ledger,
    audit: BTreeMap<Vec<u8>, Vec<u8>>,
    ballots: BTreeMap<Vec<u8>, Vec<u8>>,
    aside: BTreeMap<(Slot, u64), Vec<u8>>,
    wrote: BTreeSet<Incarnation>,
}

/// What a store held.
#[derive(Debug, Default)]
pub struct Loaded {
    pub state: State,
    pub cluster: Option<ClusterId>,
    /// Own batches that some member may not have, oldest first.
    pub(super) outbox: Vec<OutboxRow>,
    /// Values that others overruled.
    pub(super) ledger: Ledger,
    /// The rows of the audit: bounded by what a replica keeps, and read when it starts.
    pub(super) audit: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The rows of the acceptor. Those of a store that was damaged are gone: it is a new one.
    pub(super) ballots: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Batches beyond a fence.
    pub(super) aside: BTreeMap<(Slot, u64), Vec<u8>>,
    /// The replicas of this node that wrote into this very store.
    pub(super) wrote: BTreeSet<Incarnation>,
    /// Own batches read back from a store that was damaged, to be offered again once the rest was caught up.
    pub salvaged: Vec<(ReplicaId, Vec<u8>)>,
    /// What is known of a store that was damaged.
    pub loss: Option<Loss>,
}

/// Where an outbox row is, and the last dot of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OutboxRow {
    pub last: Dot,
    pub key: Vec<u8>,
}

impl Loader {
    pub fn row(&mut self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let read = match tree {
            Tree::Meta => self.meta(key, value),
            Tree::Cells => self.page(key, value),
            Tree::Outbox => self.outbox_row(key, value),
            Tree::Aside => match key.strip_prefix(WROTE).and_then(|id| id.try_into().ok()) {
                Some(id) => {
                    self.wrote.insert(Incarnation(id));
                    Ok(())
                }
                None => self.aside_row(key, value),
            },
            Tree::History if ledger::is_key(key) => self.ledger.load(key, value),
            // What is wrong in it is for the audit to tell; the state does not hang on it.
            Tree::Audit => {
                self.audit.insert(key.to_vec(), value.to_vec());
                Ok(())
            }
            // Nor on this: an acceptor whose rows are wrong is a new one.
            Tree::Ballots => {
                self.ballots.insert(key.to_vec(), value.to_vec());
                Ok(())
            }
            Tree::History | Tree::Checkpoints => Ok(()),
        };
        read.map_err(|error| LoadError::Row {
            tree: tree.name(),
            key: String::from_utf8_lossy(&key[..key.len().min(80)]).into_owned(),
            reason: error.to_string(),
        })
    }

    pub fn finish(mut self) -> Result<Loaded, LoadError> {
        self.end_document().map_err(|error| LoadError::Inconsistent(error.to_string()))?;
        self.state.finish_adopting();
        match &self.digest {
            Some(row) if *row != self.state.digest_row() => Err(LoadError::Inconsistent(
                "rows are missing or altered: the digest of what was read is not the digest that was written".into(),
            )),
            None if !self.state.roster.is_empty() || self.state.counts().entries > 0 => {
                Err(LoadError::Inconsistent("the digest row is missing".into()))
            }
            _ => Ok(Loaded {
                state: self.state,
                cluster: self.cluster,
                outbox: self.outbox,
                ledger: self.ledger,
                audit: self.audit,
                ballots: self.ballots,
                aside: self.aside,
                wrote: self.wrote,
                salvaged: Vec::new(),
                loss: None,
            }),
        }
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(value);
        match key {
            CLUSTER => self.cluster = Some(ClusterId(reader.array()?)),
            b"digest" => self.digest = Some(reader.raw(value.len())?.to_vec()),
            b"floor" => {
                let mut floor = Clock::new();
                while !reader.is_empty() {
                    let slot = Slot(reader.varint()?.min(u64::from(Slot::MAX)) as u32);
                    floor.set(slot, reader.varint()?);
                }
                self.state.floor = floor;
            }
            key => {
                let slot = key.strip_prefix(b"replica/").and_then(|slot| slot.try_into().ok());
                let slot = Slot(u32::from_be_bytes(slot.ok_or(DecodeError::Bounds("a meta key"))?));
                let id = ReplicaId::from_bytes(&reader.array()?);
                let (seq, head_seq, head) = (reader.u64()?, reader.u64()?, reader.array()?);
                // Rows come in order of slots, so interning them in turn gives each its old slot.
                if self.state.intern(id) != Some(slot) || seq > Dot::SEQ_MAX {
                    return Err(DecodeError::Bounds("a replica's row"));
                }
                self.state.clock.set(slot, seq);
                self.state.heads[slot.index()] = (head_seq, head);
                self.state.dirty.written.push((seq, head_seq));
            }
        }
        reader.finish()
    }

    fn page(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let (name, id) = key.split_last_chunk::<4>().ok_or(DecodeError::Truncated)?;
        let name = name.strip_suffix(&[0]).ok_or(DecodeError::Bounds("a page's key"))?;
        let name = std::str::from_utf8(name).map_err(|_| DecodeError::Utf8)?;
        if name != self.name {
            check_name(name)?;
            self.end_document()?;
            self.name = name.to_owned();
        }
        let page = Page::from_bytes(u32::from_be_bytes(*id), value.to_vec());
        let page = page.map_err(|_| DecodeError::Bounds("a page"))?;
        let known = |dot: Dot| self.state.clock.covers(dot) && dot.slot().index() < self.state.roster.len();
        if !page.cells().flat_map(|cell| cell.entries()).all(|entry| known(entry.dot)) {
            return Err(DecodeError::Bounds("a dot beyond the clock"));
        }
        self.pages.push(page);
        Ok(())
    }

    fn outbox_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let (slot, _) = read_outbox_key(key)?;
        let batch = PortableBatch::decode(value)?;
        self.outbox.push(OutboxRow { last: Dot::new(slot, batch.last()), key: key.to_vec() });
        Ok(())
    }

    fn aside_row(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let place = read_outbox_key(key)?;
        if place.0.index() >= self.state.roster.len() {
            return Err(DecodeError::Bounds("the replica of a batch kept aside"));
        }
        PortableBatch::decode(value)?;
        self.aside.insert(place, value.to_vec());
        Ok(())
    }

    fn end_document(&mut self) -> Result<(), DecodeError> {
        let pages = std::mem::take(&mut self.pages);
        if !pages.is_empty() {
            let document = Document::from_pages(pages).ok_or(DecodeError::Bounds("a document's pages"))?;
            self.state.adopt(&self.name, document);
        }
        Ok(())
    }
}
