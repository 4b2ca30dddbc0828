//! A cell is the unit that merges. Its state is a set of entries, each with its own dot; an entry without a value is a
//! *removal record*: a remove that some member may not have seen yet.
//!
//! Packed form of a cell's entries, in order of their dots, little-endian:
//! `dot u64 | hybrid time u64 | value length + 1, u32 (0 = removal record) | value`.

use crate::clock::{Dot, HybridTime};

/// Longest field name, in bytes.
pub const FIELD_BYTES_MAX: usize = 128;
/// Longest set element or map key, in bytes.
pub const SUB_BYTES_MAX: usize = 4096;

const ENTRY_HEADER: usize = 20;

/// The name of a cell within its document: a field, the tag of the field's type, and, for sets and maps, which element.
/// The tag is part of the name, so nodes that believe in different types never mix their entries.
///
/// Written as `field length u8 | field | tag u8 | sub`. The cells of one field are neighbours in that order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CellKey<'a> {
    pub field: &'a str,
    pub tag: u8,
    pub sub: &'a [u8],
}

impl<'a> CellKey<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.field.len() + self.sub.len());
        self.encode_into(&mut bytes);
        bytes
    }

    /// A field name beyond [`FIELD_BYTES_MAX`] is refused where names come in.
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        debug_assert!(self.field.len() <= FIELD_BYTES_MAX);
        bytes.push(self.field.len() as u8);
        bytes.extend_from_slice(self.field.as_bytes());
        bytes.push(self.tag);
        bytes.extend_from_slice(self.sub);
    }

    /// `None` when the bytes are no cell key.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first()?;
        let (field, rest) = rest.split_at_checked(*len as usize)?;
        let (tag, sub) = rest.split_first()?;
        let well_formed = field.len() <= FIELD_BYTES_MAX && sub.len() <= SUB_BYTES_MAX;
        well_formed.then_some(Self { field: std::str::from_utf8(field).ok()?, tag: *tag, sub })
    }
}

/// One entry of a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRef<'a> {
    pub dot: Dot,
    pub at: HybridTime,
    /// `None` marks a removal record.
    pub value: Option<&'a [u8]>,
}

impl<'a> EntryRef<'a> {
    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.dot.0.to_le_bytes());
        bytes.extend_from_slice(&self.at.0.to_le_bytes());
        bytes.extend_from_slice(&self.value.map_or(0, |v| v.len() as u32 + 1).to_le_bytes());
        bytes.extend_from_slice(self.value.unwrap_or_default());
    }

    fn split_from(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_at_checked(ENTRY_HEADER)?;
        let word = |from: usize| u64::from_le_bytes(header[from..from + 8].try_into().unwrap_or_default());
        let len = u32::from_le_bytes(header[16..20].try_into().unwrap_or_default()) as usize;
        let (value, rest) = rest.split_at_checked(len.saturating_sub(1))?;
        let value = (len > 0).then_some(value);
        Some((Self { dot: Dot(word(0)), at: HybridTime(word(8)), value }, rest))
    }
}

/// A cell in packed form, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CellRef<'a> {
    pub key: &'a [u8],
    pub packed: &'a [u8],
}

impl<'a> CellRef<'a> {
    pub fn entries(&self) -> Entries<'a> {
        Entries { rest: self.packed }
    }

    /// Entries that hold a value: what read rules see.
    pub fn valued(&self) -> impl Iterator<Item = EntryRef<'a>> + use<'a> {
        self.entries().filter(|entry| entry.value.is_some())
    }
}

/// Entries in the order of their dots. Stops at bytes that are no entry; [`entries_are_whole`] tells whether it would.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = EntryRef<'a>;

    fn next(&mut self) -> Option<EntryRef<'a>> {
        let (entry, rest) = EntryRef::split_from(self.rest)?;
        self.rest = rest;
        Some(entry)
    }
}

/// Whether `packed` is a whole number of entries in rising order of dots: what bytes from a disk must be.
pub fn entries_are_whole(packed: &[u8]) -> bool {
    let (mut rest, mut last) = (packed, None);
    while !rest.is_empty() {
        let Some((entry, tail)) = EntryRef::split_from(rest) else { return false };
        if last >= Some(entry.dot) {
            return false;
        }
        (rest, last) = (tail, Some(entry.dot));
    }
    true
}

/// Writes into `packed` the entries of `cell` without the dots in `superseded`, plus `new`.
/// The one way an op changes a cell (rule R5: no type, schema or time is asked).
pub fn apply_op(cell: &[u8], superseded: &[Dot], new: EntryRef<'_>, packed: &mut Vec<u8>) {
    packed.clear();
    let mut pending = Some(new);
    for entry in (Entries { rest: cell }) {
        if pending.is_some_and(|new| new.dot < entry.dot)
            && let Some(new) = pending.take()
        {
            new.encode_into(packed);
        }
        if !superseded.contains(&entry.dot) {
            entry.encode_into(packed);
        }
    }
    if let Some(new) = pending {
        new.encode_into(packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Slot;

    fn entry(seq: u64, value: Option<&[u8]>) -> EntryRef<'_> {
        EntryRef { dot: Dot::new(Slot(1), seq), at: HybridTime(seq * 10), value }
    }

    fn pack(entries: &[EntryRef<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        entries.iter().for_each(|entry| entry.encode_into(&mut bytes));
        bytes
    }

    #[test]
    fn an_op_removes_what_it_supersedes_and_adds_itself_in_order() {
        let cell = pack(&[entry(1, Some(b"a")), entry(3, None), entry(9, Some(b""))]);
        let mut packed = Vec::new();
        apply_op(&cell, &[Dot::new(Slot(1), 1), Dot::new(Slot(1), 3)], entry(5, Some(b"b")), &mut packed);
        assert_eq!(packed, pack(&[entry(5, Some(b"b")), entry(9, Some(b""))]));
        assert!(entries_are_whole(&packed));
    }

    #[test]
    fn an_empty_value_is_not_a_removal_record() {
        let packed = pack(&[entry(1, Some(b"")), entry(2, None)]);
        let values: Vec<_> = CellRef { key: &[], packed: &packed }.entries().map(|e| e.value).collect();
        assert_eq!(values, [Some(&b""[..]), None]);
    }

    #[test]
    fn cut_or_disordered_entries_are_noticed() {
        let packed = pack(&[entry(1, Some(b"abc")), entry(2, None)]);
        assert!((1..packed.len()).filter(|cut| *cut != 23).all(|cut| !entries_are_whole(&packed[..cut])));
        assert!(!entries_are_whole(&pack(&[entry(2, None), entry(1, None)])));
        assert!(!entries_are_whole(&pack(&[entry(2, None), entry(2, None)])));
    }

    #[test]
    fn a_cell_key_survives_its_packed_form() {
        let key = CellKey { field: "größe", tag: 5, sub: b"\x01gpu" };
        assert_eq!(CellKey::decode(&key.encode()), Some(key));
        assert_eq!(CellKey::decode(b""), None);
        assert_eq!(CellKey::decode(b"\x05abc"), None);
    }
}
