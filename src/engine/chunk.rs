//! The cells of a catch-up session as bytes: runs of documents in order of names, each with cells in order of keys.
//!
//! ```text
//! document: name (length, bytes; 0 = the one before) | cell key | entries: count, then for each
//!     kind u8 (0 known, 1 removal, 2 value) | replica | seq | time u64, unless known | value, if any
//! ```
//!
//! An entry whose dot the receiver's clock covered is only named: it has the entry, or the entry is dead.

use crate::clock::{Clock, Dot, HybridTime, Slot};
use crate::document::batch::{Naming, OwnSlots, PeerSlots, VALUE_BYTES_MAX, check_name};
use crate::document::cell::{CellKey, CellRef};
use crate::document::codec::{DecodeError, Reader, Writer};

use super::state::{Content, StagedCell, StagedEntry};

/// Writes cells for a receiver that had `clock`.
#[derive(Debug)]
pub struct ChunkWriter<'a> {
    writer: Writer,
    clock: &'a Clock,
    document: String,
}

impl<'a> ChunkWriter<'a> {
    pub fn new(clock: &'a Clock) -> Self {
        Self { writer: Writer::new(), clock, document: String::new() }
    }

    pub fn push(&mut self, document: &str, cell: CellRef<'_>) {
        let w = &mut self.writer;
        if self.document == document {
            w.varint(0);
        } else {
            w.slice(document.as_bytes());
            document.clone_into(&mut self.document);
        }
        w.slice(cell.key);
        w.varint(cell.entries().count() as u64);
        for entry in cell.entries() {
            let known = self.clock.covers(entry.dot);
            w.u8(if known { 0 } else { 1 + u8::from(entry.value.is_some()) });
            OwnSlots.write(entry.dot.slot(), w);
            w.varint(entry.dot.seq());
            if !known {
                w.u64(entry.at.0);
                if let Some(value) = entry.value {
                    w.slice(value);
                }
            }
        }
    }

    pub fn len(&self) -> usize {
        self.writer.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writer.bytes.is_empty()
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.writer.bytes
    }
}

/// One cell of a chunk with the document it belongs to.
#[derive(Debug)]
pub struct ChunkCell<'a> {
    pub document: &'a str,
    pub cell: StagedCell<'a>,
}

/// Reads cells, checking every bound.
#[derive(Debug)]
pub struct ChunkReader<'a, 't> {
    reader: Reader<'a>,
    names: PeerSlots<'t>,
    document: &'a str,
}

impl<'a, 't> ChunkReader<'a, 't> {
    pub fn new(bytes: &'a [u8], table: &'t [Slot]) -> Self {
        Self { reader: Reader::new(bytes), names: PeerSlots { table }, document: "" }
    }

    fn read(&mut self) -> Result<ChunkCell<'a>, DecodeError> {
        let r = &mut self.reader;
        let name = r.str()?;
        if !name.is_empty() {
            check_name(name)?;
            self.document = name;
        }
        let key = r.slice()?;
        if self.document.is_empty() || CellKey::decode(key).is_none() {
            return Err(DecodeError::Bounds("a cell's name"));
        }
        let count = r.count(3)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = r.u8()?;
            let (slot, seq) = (self.names.read(r)?, r.varint()?);
            if seq == 0 || seq > Dot::SEQ_MAX {
                return Err(DecodeError::Bounds("a dot"));
            }
            let at = HybridTime(if kind == 0 { 0 } else { r.u64()? });
            let content = match kind {
                0 => Content::Known,
                1 => Content::Removal,
                2 => Content::Value(r.slice()?),
                _ => return Err(DecodeError::Bounds("an entry's kind")),
            };
            if matches!(content, Content::Value(value) if value.len() > VALUE_BYTES_MAX) {
                return Err(DecodeError::Bounds("a value's length"));
            }
            entries.push(StagedEntry { dot: Dot::new(slot, seq), at, content });
        }
        // The sender's order of slots need not be ours.
        entries.sort_by_key(|entry| entry.dot);
        if entries.windows(2).any(|pair| pair[0].dot == pair[1].dot) {
            return Err(DecodeError::Bounds("a dot twice in one cell"));
        }
        Ok(ChunkCell { document: self.document, cell: StagedCell { key, entries } })
    }
}

impl<'a> Iterator for ChunkReader<'a, '_> {
    type Item = Result<ChunkCell<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let cell = self.read();
        if cell.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::document::cell::EntryRef;

    fn chunk(clock: &Clock) -> Vec<u8> {
        let entry = |seq, value| EntryRef { dot: Dot::new(Slot(0), seq), at: HybridTime(9), value };
        let mut packed = Vec::new();
        for entry in [entry(1, Some(&b"old"[..])), entry(4, None), entry(5, Some(&b"new"[..]))] {
            entry.encode_into(&mut packed);
        }
        let mut writer = ChunkWriter::new(clock);
        writer.push("vms/1", CellRef { key: b"\x01a\x02", packed: &packed });
        writer.push("vms/1", CellRef { key: b"\x01b\x02", packed: &packed });
        writer.into_bytes()
    }

    #[test]
    fn what_the_receiver_covered_is_named_without_its_value() {
        let clock: Clock = [(Slot(0), 3)].into_iter().collect();
        let bytes = chunk(&clock);
        let cells: Result<Vec<_>, _> = ChunkReader::new(&bytes, &[Slot(6)]).collect();
        let cells = cells.unwrap();
        assert_eq!(cells.iter().map(|cell| cell.document).collect::<Vec<_>>(), ["vms/1", "vms/1"]);
        let read: Vec<_> = cells[0].cell.entries.iter().map(|e| (e.dot.slot().0, e.dot.seq(), e.content)).collect();
        assert_eq!(read, [(6, 1, Content::Known), (6, 4, Content::Removal), (6, 5, Content::Value(b"new"))]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(flips: Vec<(usize, u8)>, cut: usize, noise: Vec<u8>) {
            let mut bytes = chunk(&Clock::new());
            for (at, flip) in flips {
                let at = at % bytes.len();
                bytes[at] ^= flip;
            }
            bytes.truncate(cut % (bytes.len() + 1));
            let _ = ChunkReader::new(&bytes, &[Slot(0)]).count();
            let _ = ChunkReader::new(&noise, &[Slot(0)]).count();
        }
    }
}
