//! The field types by number and by name.

use std::fmt;
use std::str::FromStr;

/// How a field merges. The number is part of every cell's key, on disk and on the wire: never change one, never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FieldKind {
    /// The document's own cell: without a live entry in it, the document is hidden. No field can be declared so.
    Existence = 1,
    GCounter = 2,
    PnCounter = 3,
    GSet = 4,
    OrSet = 5,
    Flag = 6,
    Max = 7,
    Min = 8,
    Lww = 9,
    Fww = 10,
    Mv = 11,
    Map = 12,
    Text = 13,
    Json = 14,
    Contested = 15,
    /// Written by ballot only.
    Quorum = 16,
}

use FieldKind::*;

impl FieldKind {
    /// Every kind a schema can declare, by number.
    pub const DECLARABLE: [FieldKind; 15] =
        [GCounter, PnCounter, GSet, OrSet, Flag, Max, Min, Lww, Fww, Mv, Map, Text, Json, Contested, Quorum];

    pub fn tag(self) -> u8 {
        self as u8
    }

    /// `None` for a number this version does not know: such cells are replicated, not read.
    pub fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Existence),
            2..=16 => Some(Self::DECLARABLE[tag as usize - 2]),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Existence => "existence",
            GCounter => "gcounter",
            PnCounter => "pncounter",
            GSet => "gset",
            OrSet => "orset",
            Flag => "flag",
            Max => "max",
            Min => "min",
            Lww => "lww",
            Fww => "fww",
            Mv => "mv",
            Map => "map",
            Text => "text",
            Json => "json",
            Contested => "contested",
            Quorum => "quorum",
        }
    }

    pub fn is_counter(self) -> bool {
        matches!(self, GCounter | PnCounter)
    }

    pub fn is_set(self) -> bool {
        matches!(self, GSet | OrSet)
    }

    /// Whether the keys of a map can be of this kind: those whose state is one small cell.
    pub fn fits_map(self) -> bool {
        !matches!(self, Existence | GSet | OrSet | Map | Text | Json | Quorum)
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no field type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown field type `{0}`: use one of {names}", names = names())]
pub struct UnknownKind(pub String);

fn names() -> String {
    FieldKind::DECLARABLE.map(FieldKind::name).join(", ")
}

impl FromStr for FieldKind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        let found = Self::DECLARABLE.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| UnknownKind(name.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_its_number_and_by_its_name() {
        for kind in FieldKind::DECLARABLE {
            assert_eq!(FieldKind::from_tag(kind.tag()), Some(kind));
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!(FieldKind::from_tag(1), Some(Existence));
        assert_eq!([0, 17, 255].map(FieldKind::from_tag), [None; 3]);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "existence".parse::<FieldKind>().unwrap_err().to_string();
        assert!(error.contains("`existence`") && error.contains("pncounter") && error.contains("contested"), "{error}");
    }

    /// These numbers are in every stored cell.
    #[test]
    fn the_numbers_are_fixed() {
        let numbers = FieldKind::DECLARABLE.map(FieldKind::tag);
        assert_eq!(numbers, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    }
}
