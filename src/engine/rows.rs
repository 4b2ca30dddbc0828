//! The state as rows of a store: what is written after a change, and how it is read back at a start.
//!
//! | tree | key | value |
//! |---|---|---|
//! | `meta` | `cluster` | cluster id, 16 bytes |
//! | `meta` | `replica/` slot u32 BE | replica id, seq, head's seq, head |
//! | `meta` | `floor` | (slot, seq) pairs, varints |
//! | `meta` | `digest` | clock digest, state digest, number of entries |
//! | `cells` | document, 0, page id u32 BE | the page's bytes |
//! | `outbox` | slot u32 BE, first seq u64 BE | a signed batch under full ids |
//!
//! The digests are written in the same atomic step as the pages. A page that silently went missing is thus found at the
//! next start, whatever the backend promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::persist::{Tree, WriteBatch};
use super::state::State;
use crate::clock::{Clock, ClusterId, Dot, ReplicaId, Slot};
use crate::document::Document;
use crate::document::batch::check_name;
use crate::document::codec::{DecodeError, Reader, Writer};
use crate::document::page::Page;

/// Pages and rows that changed since they were last written out.
#[derive(Debug, Default)]
pub(super) struct DirtyRows {
    pages: Vec<(u32, u32)>,
    gone: Vec<Vec<u8>>,
    pub floor: bool,
    pub cluster: bool,
    /// Clock and heads as last written out.
    written: BTreeMap<Slot, (u64, u64)>,
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

fn replica_key(slot: Slot) -> Vec<u8> {
    [b"replica/".as_slice(), &slot.0.to_be_bytes()].concat()
}

/// The outbox row of the batch that starts at `first`.
pub(super) fn outbox_key(slot: Slot, first: u64) -> Vec<u8> {
    [slot.0.to_be_bytes().as_slice(), &first.to_be_bytes()].concat()
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
            if self.dirty.written.get(&slot) != Some(&row) {
                self.dirty.written.insert(slot, row);
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
            rows.put(Tree::Meta, b"cluster".as_slice(), id);
        }
        if !rows.is_empty() {
            rows.put(Tree::Meta, b"digest".as_slice(), self.digest_row());
        }
        rows
    }

    fn digest_row(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(40);
        row.extend_from_slice(&self.clock_digest().to_le_bytes());
        row.extend_from_slice(&self.digest().to_le_bytes());
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

/// Reads rows back: all of `meta` first, then all of `cells`, then `finish`.
#[derive(Debug, Default)]
pub struct Loader {
    state: State,
    cluster: Option<ClusterId>,
    digest: Option<Vec<u8>>,
    /// Pages of the document being read; rows come in order, so one document at a time.
    name: String,
    pages: Vec<Page>,
}

/// What a store held.
#[derive(Debug)]
pub struct Loaded {
    pub state: State,
    pub cluster: Option<ClusterId>,
}

impl Loader {
    pub fn row(&mut self, tree: Tree, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let read = match tree {
            Tree::Meta => self.meta(key, value),
            Tree::Cells => self.page(key, value),
            _ => Ok(()),
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
            _ => Ok(Loaded { state: self.state, cluster: self.cluster }),
        }
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(value);
        match key {
            b"cluster" => self.cluster = Some(ClusterId(reader.array()?)),
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
                self.state.dirty.written.insert(slot, (seq, head_seq));
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

    fn end_document(&mut self) -> Result<(), DecodeError> {
        let pages = std::mem::take(&mut self.pages);
        if !pages.is_empty() {
            let document = Document::from_pages(pages).ok_or(DecodeError::Bounds("a document's pages"))?;
            self.state.adopt(&self.name, document);
        }
        Ok(())
    }
}
