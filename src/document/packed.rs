//! One document: its cells, over one or more pages.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cell::CellRef;
use super::page::{Page, Place};

/// The cells of a document in rising order of their keys.
///
/// Pages are shared with snapshots: an edit copies a page only while a snapshot holds it, so a snapshot costs one
/// pointer a page and never blocks a writer.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// In rising order of keys; none is empty.
    pages: SmallVec<[Arc<Page>; 1]>,
    next_page_id: u32,
}

/// What an edit did to the document's rows on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    Page(u32),
    /// The page outgrew its bound: both halves changed.
    Split(u32, u32),
    /// The page's last cell went.
    Gone(u32),
    Nothing,
}

/// Where a cell is, or would be. Good until the document changes.
#[derive(Clone, Copy, Debug)]
pub struct Seat(Option<(usize, Place)>);

impl Document {
    /// Puts a document together from its pages as they were stored. `None` when their cells overlap.
    pub fn from_pages(mut pages: Vec<Page>) -> Option<Self> {
        pages.retain(|page| !page.is_empty());
        pages.sort_by(|a, b| a.first_key().cmp(&b.first_key()));
        let last_key = |page: &Page| page.cells().last().map(|cell| cell.key.to_vec());
        let disjoint = pages.windows(2).all(|pair| last_key(&pair[0]).as_deref() < pair[1].first_key());
        let next_page_id = pages.iter().map(|page| page.id).max().map_or(0, |id| id.wrapping_add(1));
        disjoint.then(|| Self { pages: pages.into_iter().map(Arc::new).collect(), next_page_id })
    }

    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    pub fn page(&self, id: u32) -> Option<&Arc<Page>> {
        self.pages.iter().find(|page| page.id == id)
    }

    pub fn cells(&self) -> impl Iterator<Item = CellRef<'_>> {
        self.pages.iter().flat_map(|page| page.cells())
    }

    /// The cells of one field, whatever their tags.
    pub fn cells_of(&self, field: &str) -> impl Iterator<Item = CellRef<'_>> {
        self.cells_with_prefix(field_prefix(field))
    }

    /// The cells whose key starts with `prefix`.
    pub fn cells_with_prefix(&self, prefix: SmallVec<[u8; 32]>) -> impl Iterator<Item = CellRef<'_>> {
        let first = self.page_for(&prefix).unwrap_or(0);
        let within = prefix.clone();
        self.pages[first..]
            .iter()
            .flat_map(|page| page.cells())
            .skip_while(move |cell| cell.key < prefix.as_slice())
            .take_while(move |cell| cell.key.starts_with(&within))
    }

    pub fn cell(&self, key: &[u8]) -> Option<CellRef<'_>> {
        let (page, place) = self.seek(key).0?;
        self.pages[page].cell_at(place, key.len())
    }

    /// The packed entries of a cell; none when there is no such cell.
    pub fn entries_of(&self, key: &[u8]) -> &[u8] {
        self.entries_at(self.seek(key), key)
    }

    /// Makes `entries` the whole state of the cell `key`; no entries removes the cell.
    pub fn put(&mut self, key: &[u8], entries: &[u8]) -> Touched {
        self.put_at(self.seek(key), key, entries)
    }

    /// Looks for `key` once, for what is then read and written there.
    pub fn seek(&self, key: &[u8]) -> Seat {
        let seat = |page: usize| (page, self.pages[page].place(key));
        Seat(self.page_for(key).map(seat))
    }

    /// As [`Document::entries_of`], where `key` was found.
    pub fn entries_at(&self, seat: Seat, key: &[u8]) -> &[u8] {
        let cell = seat.0.and_then(|(page, place)| self.pages[page].cell_at(place, key.len()));
        cell.map_or(&[], |cell| cell.packed)
    }

    /// As [`Document::put`], where `key` was found.
    pub fn put_at(&mut self, seat: Seat, key: &[u8], entries: &[u8]) -> Touched {
        let Some((at, place)) = seat.0 else {
            return self.put_first(key, entries);
        };
        if entries.is_empty() && matches!(place, Place::Vacant { .. }) {
            return Touched::Nothing;
        }
        let page = Arc::make_mut(&mut self.pages[at]);
        let id = page.id;
        page.put(place, key, entries);
        if page.is_empty() {
            self.pages.remove(at);
            return Touched::Gone(id);
        }
        if !page.wants_split() {
            return Touched::Page(id);
        }
        let new_id = self.next_page_id;
        let upper = page.split(new_id);
        self.pages.insert(at + 1, Arc::new(upper));
        self.next_page_id = new_id.wrapping_add(1);
        Touched::Split(id, new_id)
    }

    fn put_first(&mut self, key: &[u8], entries: &[u8]) -> Touched {
        if entries.is_empty() {
            return Touched::Nothing;
        }
        let mut page = Page::new(self.next_page_id);
        self.next_page_id = self.next_page_id.wrapping_add(1);
        page.put(Place::Vacant { at: 0 }, key, entries);
        let id = page.id;
        self.pages.push(Arc::new(page));
        Touched::Page(id)
    }

    /// The page that holds `key`, or would: the last that starts at or below it, else the first. `None` without pages.
    fn page_for(&self, key: &[u8]) -> Option<usize> {
        match self.pages.len() {
            0 => None,
            1 => Some(0),
            _ => Some(self.pages.partition_point(|page| page.first_key() <= Some(key)).saturating_sub(1)),
        }
    }
}

/// What the keys of all cells of `field` start with.
fn field_prefix(field: &str) -> SmallVec<[u8; 32]> {
    let mut prefix = SmallVec::new();
    prefix.push(field.len() as u8);
    prefix.extend_from_slice(field.as_bytes());
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    use crate::clock::{Dot, HybridTime, Slot};
    use crate::document::cell::{CellKey, EntryRef};

    fn packed(seq: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let value = vec![seq as u8; len];
        EntryRef { dot: Dot::new(Slot(0), seq), at: HybridTime(seq), value: Some(&value) }.encode_into(&mut bytes);
        bytes
    }

    #[test]
    fn the_cells_of_a_field_are_found_among_others() {
        let mut document = Document::default();
        for (seq, (field, tag)) in [("ab", 2), ("a", 9), ("ab", 1), ("abc", 1)].into_iter().enumerate() {
            document.put(&CellKey { field, tag, sub: b"" }.encode(), &packed(seq as u64 + 1, 3));
        }
        let tags: Vec<u8> = document.cells_of("ab").map(|cell| cell.key[3]).collect();
        assert_eq!(tags, [1, 2]);
        assert_eq!(document.cells_of("b").count(), 0);
    }

    #[test]
    fn a_snapshot_keeps_what_it_saw_while_the_document_moves_on() {
        let mut document = Document::default();
        document.put(b"\x01a\x01", &packed(1, 3));
        let snapshot = document.clone();
        document.put(b"\x01a\x01", &packed(2, 9));
        assert_eq!(snapshot.entries_of(b"\x01a\x01"), packed(1, 3));
        assert_eq!(document.entries_of(b"\x01a\x01"), packed(2, 9));
    }

    proptest! {
        /// Against an ordered map, over edits that split and empty pages; and what is stored comes back.
        #[test]
        fn a_document_is_an_ordered_map_of_cells(
            edits in prop::collection::vec((0u8..40, 0usize..900, any::<bool>()), 1..200),
        ) {
            let (mut document, mut model, mut rows) = (Document::default(), BTreeMap::new(), BTreeMap::new());
            for (seq, (name, len, remove)) in edits.into_iter().enumerate() {
                let key = CellKey { field: &format!("f{name}"), tag: 1, sub: b"" }.encode();
                let entries = if remove { Vec::new() } else { packed(seq as u64 + 1, len) };
                let touched = document.put(&key, &entries);
                if remove { model.remove(&key); } else { model.insert(key, entries); }
                let store = |id: u32, rows: &mut BTreeMap<u32, Vec<u8>>| {
                    rows.insert(id, document.page(id).unwrap().bytes().to_vec());
                };
                match touched {
                    Touched::Page(id) => store(id, &mut rows),
                    Touched::Split(a, b) => { store(a, &mut rows); store(b, &mut rows); }
                    Touched::Gone(id) => { rows.remove(&id); }
                    Touched::Nothing => {}
                }
            }
            let cells: Vec<_> = document.cells().map(|c| (c.key.to_vec(), c.packed.to_vec())).collect();
            prop_assert_eq!(&cells, &model.into_iter().collect::<Vec<_>>());
            prop_assert!(cells.iter().all(|(key, entries)| document.entries_of(key) == entries));
            let pages = rows.into_iter().map(|(id, bytes)| Page::from_bytes(id, bytes).unwrap()).collect();
            let loaded = Document::from_pages(pages).unwrap();
            prop_assert_eq!(loaded.cells().map(|c| c.key.to_vec()).collect::<Vec<_>>(), cells.into_iter().map(|c| c.0).collect::<Vec<_>>());
        }
    }
}
