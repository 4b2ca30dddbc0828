//! Many cells in one allocation: a page is a sorted run of packed cells.
//!
//! `key length u16 | entries length u32 | key | entries`, one after another, in rising order of keys. A document of 20
//! small fields is one page of under a kilobyte; a set of a million elements is a run of pages.

use super::cell::{CellKey, CellRef, entries_are_whole};

/// A page that outgrows this is split in two. Half of it is what an edit moves at most, on average.
pub const PAGE_BYTES_MAX: usize = 4096;

const CELL_HEADER: usize = 6;

/// A run of cells. Its `id` is unique within its document and names its row on disk.
#[derive(Clone, Debug)]
pub struct Page {
    pub id: u32,
    bytes: Vec<u8>,
}

/// Where a cell is, or where it would be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Found { start: usize, end: usize },
    Vacant { at: usize },
}

/// Bytes that are no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a run of cells in rising order")]
pub struct MalformedPage;

impl Page {
    pub(super) fn new(id: u32) -> Self {
        Self { id, bytes: Vec::new() }
    }

    /// Takes bytes from a disk, checking that they are a page.
    pub fn from_bytes(id: u32, bytes: Vec<u8>) -> Result<Self, MalformedPage> {
        let page = Self { id, bytes };
        let (mut end, mut last): (usize, &[u8]) = (0, &[]);
        for cell in page.cells() {
            let rising = cell.key > last;
            if !rising || CellKey::decode(cell.key).is_none() || !entries_are_whole(cell.packed) {
                return Err(MalformedPage);
            }
            end += CELL_HEADER + cell.key.len() + cell.packed.len();
            last = cell.key;
        }
        if end == page.bytes.len() { Ok(page) } else { Err(MalformedPage) }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes this page holds on to, slack included.
    pub fn allocated(&self) -> usize {
        self.bytes.capacity() + size_of::<Self>()
    }

    pub fn cells(&self) -> Cells<'_> {
        Cells { rest: &self.bytes }
    }

    pub(super) fn first_key(&self) -> Option<&[u8]> {
        self.cells().next().map(|cell| cell.key)
    }

    pub(super) fn place(&self, key: &[u8]) -> Place {
        // Most edits and reads are of a cell that is there, and equality is told faster than order.
        if let Some(found) = self.find(key) {
            return found;
        }
        let mut at = 0;
        for cell in self.cells().take_while(|cell| cell.key < key) {
            at += CELL_HEADER + cell.key.len() + cell.packed.len();
        }
        Place::Vacant { at }
    }

    /// The place of a cell that is there. Keys differ most at their ends, so these are compared first.
    fn find(&self, key: &[u8]) -> Option<Place> {
        let end_of_key = key.last_chunk::<8>();
        let mut rest = self.bytes.as_slice();
        while let Some((header, cell)) = rest.split_first_chunk::<CELL_HEADER>() {
            let (key_len, packed_len) = lengths(header);
            let (name, after) = cell.split_at_checked(key_len)?;
            if key_len == key.len() && name.last_chunk::<8>() == end_of_key && name == key {
                let start = self.bytes.len() - rest.len();
                return Some(Place::Found { start, end: start + CELL_HEADER + key_len + packed_len });
            }
            rest = after.get(packed_len..)?;
        }
        None
    }

    /// The cell at `place`, which was found for a key of `key_len` bytes.
    pub(super) fn cell_at(&self, place: Place, key_len: usize) -> Option<CellRef<'_>> {
        let Place::Found { start, end } = place else { return None };
        let (key, packed) = self.bytes[start + CELL_HEADER..end].split_at(key_len);
        Some(CellRef { key, packed })
    }

    /// Makes `entries` the whole state of the cell at `place`; no entries means no cell.
    pub(super) fn put(&mut self, place: Place, key: &[u8], entries: &[u8]) {
        let (start, end) = match place {
            Place::Found { start, end } => (start, end),
            Place::Vacant { at } => (at, at),
        };
        if entries.is_empty() {
            self.bytes.drain(start..end);
            return;
        }
        let len = CELL_HEADER + key.len() + entries.len();
        self.make_room(start, end, len);
        let cell = &mut self.bytes[start..start + len];
        cell[..2].copy_from_slice(&(key.len() as u16).to_le_bytes());
        cell[2..6].copy_from_slice(&(entries.len() as u32).to_le_bytes());
        cell[6..6 + key.len()].copy_from_slice(key);
        cell[6 + key.len()..].copy_from_slice(entries);
    }

    /// Makes `start..end` exactly `len` bytes wide. Grows with little slack: there are as many pages as documents.
    fn make_room(&mut self, start: usize, end: usize, len: usize) {
        let (old_len, have) = (self.bytes.len(), end - start);
        if len > have {
            let more = len - have;
            if self.bytes.capacity() < old_len + more {
                self.bytes.reserve_exact(more + (old_len + more) / 16);
            }
            self.bytes.resize(old_len + more, 0);
            self.bytes.copy_within(end..old_len, end + more);
        } else if len < have {
            self.bytes.copy_within(end..old_len, start + len);
            self.bytes.truncate(old_len - (have - len));
        }
    }

    /// Whether the page has outgrown its bound and can be cut between cells.
    pub(super) fn wants_split(&self) -> bool {
        self.bytes.len() > PAGE_BYTES_MAX && self.cells().nth(1).is_some()
    }

    /// Cuts off the upper half into a new page.
    pub(super) fn split(&mut self, id: u32) -> Page {
        let (mut at, middle) = (0, self.bytes.len() / 2);
        for cell in self.cells() {
            let end = at + CELL_HEADER + cell.key.len() + cell.packed.len();
            if at > 0 && end > middle {
                break;
            }
            at = end;
        }
        // A cell larger than half of the page at its end would leave nothing to cut off.
        if at == self.bytes.len() {
            at = self.bytes.len() - self.last_cell_len();
        }
        let upper = Page { id, bytes: self.bytes[at..].to_vec() };
        self.bytes.truncate(at);
        self.bytes.shrink_to_fit();
        upper
    }

    fn last_cell_len(&self) -> usize {
        self.cells().last().map_or(0, |cell| CELL_HEADER + cell.key.len() + cell.packed.len())
    }
}

/// Of a cell's key and of its entries.
fn lengths(header: &[u8; CELL_HEADER]) -> (usize, usize) {
    let [a, b, c, d, e, f] = *header;
    (u16::from_le_bytes([a, b]) as usize, u32::from_le_bytes([c, d, e, f]) as usize)
}

/// Cells in rising order of keys.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Cells<'a> {
    type Item = CellRef<'a>;

    fn next(&mut self) -> Option<CellRef<'a>> {
        let (header, rest) = self.rest.split_first_chunk::<CELL_HEADER>()?;
        let (key_len, packed_len) = lengths(header);
        let (key, rest) = rest.split_at_checked(key_len)?;
        let (packed, rest) = rest.split_at_checked(packed_len)?;
        self.rest = rest;
        Some(CellRef { key, packed })
    }
}
