//! Reading an exported chain: verified line by line, refused at the first that is wrong.

use super::anchor::{Anchor, Check};
use super::chain::Head;
use super::finding::{Finding, Report};
use super::hash::{Hash, from_hex, to_hex};
use super::line::{End, FORMAT, Header, LINE_BYTES_MAX, Line, RecordLine};
use super::retention::Base;
use super::row::{BASE_KEY, Row, imported_key, key_of};
use super::walk::Walk;
use crate::clock::NodeId;

/// Most anchors of one import: 10 MB. At one in 256 records, those of 16 million.
pub const ANCHORS_MAX: usize = 65_536;

/// A chain that was read whole, and is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    pub node: NodeId,
    pub base: Option<Base>,
    /// The newest record; the base's when there is none behind it.
    pub head: Option<Head>,
    pub anchors: Vec<Anchor>,
    /// What is proven of it. It holds no findings.
    pub report: Report,
}

/// Why an export was refused. Whatever rows were handed out before are to be thrown away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("line {line} is not a line of an exported audit: {error}")]
    Malformed { line: u64, error: String },
    #[error("line {line} is longer than {LINE_BYTES_MAX} bytes")]
    Long { line: u64 },
    #[error("line {line} should be {wanted}")]
    Order { line: u64, wanted: &'static str },
    #[error("line {line}, record {index}: what it says is not what its hash was made of")]
    Edited { line: u64, index: u64 },
    #[error("line {line}: {finding}")]
    Found { line: u64, finding: Finding },
    #[error("line {line}: the anchor was not signed by the node whose chain this is")]
    ForeignAnchor { line: u64 },
    #[error("line {line}: there are more than {ANCHORS_MAX} anchors")]
    ManyAnchors { line: u64 },
    #[error("line {line}: the end speaks of other records than those above it")]
    WrongEnd { line: u64 },
    #[error("the file ends after line {line}, before its end line: it was cut short")]
    CutShort { line: u64 },
    #[error("this is the chain of this node itself: verify that one, and keep the file elsewhere")]
    Own,
    #[error("line {line}: record {index} is another one in the chain of this node that was imported before")]
    Contradicts { line: u64, index: u64 },
    #[error(
        "the chain of this node that was imported before goes up to record {held}, and this one does not hold that record: \
         export it anew, or remove the older one"
    )]
    NotBeyond { held: u64 },
}

/// Reads the lines of an export, holds its own anchors and those `known` here against it, and hands out its rows, under
/// keys that keep them apart from this node's own.
///
/// An anchor in the file proves nothing against whoever made the file: bring anchors from elsewhere as `known`. Nothing
/// that `keep` took may stay when this fails.
pub fn import<L: AsRef<str>>(
    lines: impl IntoIterator<Item = L>,
    known: &[Anchor],
    check: Check<'_>,
    keep: &mut dyn FnMut(Row),
) -> Result<Imported, ImportError> {
    Reader { lines: lines.into_iter(), line: 0 }.chain(known, check, &|_| Ok(None), keep)
}

/// What an archive holds of a node already: its head, to be met again. An error refuses the node.
pub(super) type Held<'a> = &'a dyn Fn(&NodeId) -> Result<Option<Head>, ImportError>;

pub(super) struct Reader<I> {
    pub lines: I,
    /// Number of the last line read.
    pub line: u64,
}

impl<L: AsRef<str>, I: Iterator<Item = L>> Reader<I> {
    pub fn chain(
        mut self,
        known: &[Anchor],
        check: Check<'_>,
        held: Held<'_>,
        keep: &mut dyn FnMut(Row),
    ) -> Result<Imported, ImportError> {
        let (node, base) = self.header()?;
        let held = held(&node)?;
        let (mut anchors, mut next) = self.anchors(&node, check)?;
        anchors.extend(known.iter().filter(|anchor| anchor.node == node));
        let mut walk = Walk::new(node, &anchors, check);
        self.refuse_findings(&walk)?;
        if let Some(base) = base {
            walk.row(BASE_KEY, &base);
            self.refuse_findings(&walk)?;
            keep(Row { key: imported_key(&node, BASE_KEY), bytes: base });
        }
        let mut met = self.meets(&walk, held)?;
        let (mut records, mut last) = (0, None);
        let end = loop {
            match next {
                Line::Record(record) => {
                    let (row, hash) = self.record(*record, &mut walk)?;
                    met |= self.meets(&walk, held)?;
                    keep(Row { key: imported_key(&node, &row.key), bytes: row.bytes });
                    (records, last) = (records + 1, Some(hash));
                }
                Line::End(end) => break end,
                _ => return Err(ImportError::Order { line: self.line, wanted: "a record or the end" }),
            }
            next = self.line()?;
        };
        self.end(&end, records, last)?;
        if let Some(held) = held.filter(|_| !met) {
            return Err(ImportError::NotBeyond { held: held.index });
        }
        let (base, head) = (walk.base(), walk.head());
        let report = walk.finish();
        match report.findings.first() {
            Some(finding) => Err(ImportError::Found { line: self.line, finding: finding.clone() }),
            None => Ok(Imported { node, base, head, anchors, report }),
        }
    }

    fn line(&mut self) -> Result<Line, ImportError> {
        let Some(text) = self.lines.next() else { return Err(ImportError::CutShort { line: self.line }) };
        self.line += 1;
        let (text, line) = (text.as_ref(), self.line);
        if text.len() > LINE_BYTES_MAX {
            return Err(ImportError::Long { line });
        }
        serde_json::from_str(text).map_err(|error| ImportError::Malformed { line, error: error.to_string() })
    }

    fn malformed(&self, error: &str) -> ImportError {
        ImportError::Malformed { line: self.line, error: error.to_owned() }
    }

    fn header(&mut self) -> Result<(NodeId, Option<Vec<u8>>), ImportError> {
        let Line::Header(Header { format, node, base }) = self.line()? else {
            return Err(ImportError::Order { line: self.line, wanted: "the header" });
        };
        if format != FORMAT {
            return Err(self.malformed(&format!("format {format} is not known here (this build reads {FORMAT})")));
        }
        let node = node.parse().map_err(|error: crate::clock::id::ParseIdError| self.malformed(&error.to_string()))?;
        let base = base.map(|hex| from_hex(&hex).ok_or_else(|| self.malformed("the base is not hex"))).transpose()?;
        Ok((node, base))
    }

    /// The anchors, and the first line that is none.
    fn anchors(&mut self, node: &NodeId, check: Check<'_>) -> Result<(Vec<Anchor>, Line), ImportError> {
        let mut anchors = Vec::new();
        loop {
            let hex = match self.line()? {
                Line::Anchor(hex) => hex,
                next => return Ok((anchors, next)),
            };
            let anchor = Anchor::from_hex(&hex).map_err(|error| self.malformed(&error.to_string()))?;
            if anchor.node != *node || !anchor.verify(check) {
                return Err(ImportError::ForeignAnchor { line: self.line });
            }
            if anchors.len() == ANCHORS_MAX {
                return Err(ImportError::ManyAnchors { line: self.line });
            }
            anchors.push(anchor);
        }
    }

    fn record(&self, record: RecordLine, walk: &mut Walk<'_>) -> Result<(Row, Hash), ImportError> {
        let index = record.index;
        let (entry, previous, claimed) = record.read().ok_or_else(|| self.malformed("a kind or a hash is none"))?;
        let (bytes, hash) = entry.encode(index, &previous);
        if hash != claimed {
            return Err(ImportError::Edited { line: self.line, index });
        }
        let key = key_of(index);
        walk.row(&key, &bytes);
        self.refuse_findings(walk)?;
        Ok((Row { key: key.to_vec(), bytes }, hash))
    }

    fn refuse_findings(&self, walk: &Walk<'_>) -> Result<(), ImportError> {
        match walk.report().findings.first() {
            Some(finding) => Err(ImportError::Found { line: self.line, finding: finding.clone() }),
            None => Ok(()),
        }
    }

    /// Whether the walk stands at the record that is held; an error when that is another one.
    fn meets(&self, walk: &Walk<'_>, held: Option<Head>) -> Result<bool, ImportError> {
        let Some(held) = held else { return Ok(true) };
        match walk.head().filter(|head| head.index == held.index) {
            None => Ok(false),
            Some(head) if head.hash == held.hash => Ok(true),
            Some(_) => Err(ImportError::Contradicts { line: self.line, index: held.index }),
        }
    }

    fn end(&mut self, end: &End, records: u64, last: Option<Hash>) -> Result<(), ImportError> {
        if end.records != records || end.hash != last.map(|hash| to_hex(&hash)) {
            return Err(ImportError::WrongEnd { line: self.line });
        }
        match self.lines.next() {
            Some(_) => Err(ImportError::Order { line: self.line + 1, wanted: "nothing: the end was above" }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::world::{World, check, entry};
    use super::super::{Entry, Kind, export, row};
    use super::*;

    fn world(with_base: bool) -> World {
        let mut world = World::with(4);
        let anchor = world.anchor();
        if with_base {
            world.cut(&anchor);
        }
        world.append(Entry::new(Kind::Damage, "node \"ä\"\n", 1).detail(json!({ "f": 0.1, "n": -0.0, "big": 1e300 })));
        (5..9).for_each(|n| world.append(entry(n)));
        world.anchor();
        world.append(entry(9));
        world
    }

    fn lines(world: &World) -> Vec<String> {
        export(world.node(), &world.rows, &world.anchors).collect::<Result<_, _>>().unwrap()
    }

    fn read(lines: &[String], known: &[Anchor]) -> Result<(Imported, Vec<Row>), ImportError> {
        let mut rows = Vec::new();
        let imported = import(lines, known, &check, &mut |row| rows.push(row))?;
        Ok((imported, rows))
    }

    #[test]
    fn what_is_exported_is_imported_byte_for_byte_and_kept_apart() {
        for with_base in [false, true] {
            let world = world(with_base);
            let (imported, rows) = read(&lines(&world), &[]).unwrap();
            let expected: Vec<Row> = world
                .rows
                .iter()
                .map(|(key, bytes)| Row { key: imported_key(&world.node(), key), bytes: bytes.clone() })
                .collect();
            assert_eq!(rows, expected);
            assert_eq!(
                (imported.node, imported.base, imported.head),
                (world.node(), world.chain.base().copied(), world.chain.head())
            );
            assert_eq!(imported.report, world.verify());
        }
    }

    #[test]
    fn no_line_is_longer_than_its_bound() {
        let mut world = World::new();
        let worst = "\u{1}".repeat(2_000);
        let entry = Entry::new(Kind::Voted, worst.clone(), u64::MAX).document(worst.clone()).field(worst.clone());
        world.append(entry.conflict(worst).detail(json!("\u{1}".repeat((64 << 10) / 6 - 1))));
        let lines = lines(&world);
        assert!(lines[1].len() > 80 << 10, "{}", lines[1].len());
        assert!(read(&lines, &[]).is_ok());
        let long = [lines[0].clone(), " ".repeat(LINE_BYTES_MAX + 1)];
        assert_eq!(read(&long, &[]), Err(ImportError::Long { line: 2 }));
    }

    #[test]
    fn tampering_is_refused_at_its_line() {
        let world = world(false);
        let sound = lines(&world);
        let refused = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = sound.clone();
            change(&mut lines);
            read(&lines, &[]).unwrap_err()
        };
        // Lines: header, two anchors, records 0 to 9, the end.
        assert_eq!(sound.len(), 14);
        let edit = |lines: &mut Vec<String>| lines[5] = lines[5].replace("vms/vm-2", "vms/vm-3");
        assert_eq!(refused(&edit), ImportError::Edited { line: 6, index: 2 });
        let deleted = Finding::Deleted { first: 2, last: 2 };
        assert_eq!(refused(&|lines| drop(lines.remove(5))), ImportError::Found { line: 6, finding: deleted });
        assert!(matches!(refused(&|lines| lines.swap(5, 6)), ImportError::Found { line: 6, .. }));
        assert!(matches!(refused(&|lines| lines.swap(2, 3)), ImportError::Order { line: 4, .. }));
        assert_eq!(refused(&|lines| lines.truncate(9)), ImportError::CutShort { line: 9 });
        assert_eq!(refused(&|lines| drop(lines.remove(12))), ImportError::WrongEnd { line: 13 });
        assert!(matches!(refused(&|lines| lines.push(sound[13].clone())), ImportError::Order { line: 15, .. }));
        assert!(matches!(refused(&|lines| lines[5].clear()), ImportError::Malformed { line: 6, .. }));
        let mut bob = World::of(2);
        bob.append(entry(0));
        let foreign = bob.anchor().to_hex();
        assert_eq!(
            refused(&|lines| lines[1] = format!("{{\"anchor\":\"{foreign}\"}}")),
            ImportError::ForeignAnchor { line: 2 }
        );
        let other_node = |lines: &mut Vec<String>| {
            lines.drain(1..3);
            lines[0] = lines[0].replace(&world.node().to_string(), &bob.node().to_string());
        };
        assert_eq!(refused(&other_node), ImportError::Found { line: 2, finding: Finding::Unlinked { index: 0 } });
    }

    /// The whole file made anew, anchors left out: only an anchor from elsewhere tells.
    #[test]
    fn a_file_made_anew_is_refused_by_an_anchor_that_is_known_here() {
        let world = world(false);
        let mut forged = World::new();
        (0..10).for_each(|n| forged.append(entry(n + u64::from(n > 2))));
        let lines = lines(&forged);
        assert!(read(&lines, &[]).is_ok());
        let rewritten = Finding::Rewritten { after: None, anchored: 3, started: None };
        assert_eq!(read(&lines, &world.anchors).unwrap_err(), ImportError::Found { line: 5, finding: rewritten });
        let cut_off = World::with(3);
        let gone = Finding::Truncated { stored: Some(2), anchored: 8, started: None };
        let found = read(&self::lines(&cut_off), &world.anchors).unwrap_err();
        assert_eq!(found, ImportError::Found { line: 5, finding: gone });
    }

    #[test]
    fn a_damaged_row_is_named_and_what_is_left_is_refused() {
        let mut world = world(false);
        world.rows.get_mut(&row::key_of(2)[..]).unwrap()[9] ^= 1;
        let (good, bad): (Vec<_>, Vec<_>) = export(world.node(), &world.rows, &[]).partition(Result::is_ok);
        assert_eq!(bad[0].as_ref().unwrap_err().index, Some(2));
        let good: Vec<String> = good.into_iter().map(Result::unwrap).collect();
        assert!(read(&good, &[]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn no_edit_of_a_file_changes_what_is_imported(
            with_base in any::<bool>(), line in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), to in 0x20u8..0x7f,
        ) {
            let world = world(with_base);
            let mut lines = lines(&world);
            let sound = read(&lines, &[]).unwrap();
            let line = line.index(lines.len());
            let text = &mut lines[line];
            let mut bytes = text.clone().into_bytes();
            let byte = byte.index(bytes.len());
            bytes[byte] = to;
            *text = String::from_utf8_lossy(&bytes).into_owned();
            if let Ok(read) = read(&lines, &[]) {
                prop_assert_eq!(read, sound);
            }
        }
    }
}
