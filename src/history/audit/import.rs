//! Taking an exported chain: what comes of it, and why one is refused. How its lines are read is [`reader`](super::reader).

use super::anchor::{Anchor, Check};
use super::chain::Head;
use super::finding::{Finding, Report};
use super::line::LINE_BYTES_MAX;
use super::reader::Reader;
use super::retention::Base;
use super::row::Row;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::row::imported_key;
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
    }

    #[test]
    fn an_older_export_is_whole_up_to_its_end_and_says_that_there_is_more() {
        let world = world(false);
        let mut older = World::with(4);
        older.anchor();
        let (imported, _) = read(&lines(&older), &world.anchors).unwrap();
        assert_eq!((imported.report.last, imported.report.later), (Some(3), Some(8)));
        assert!(imported.report.is_whole() && imported.report.proves(3));
        let (newest, _) = read(&lines(&world), &world.anchors).unwrap();
        assert_eq!(newest.report.later, None, "nothing is anchored behind it");
        // One that does not reach its own anchors was cut off, whoever made its end line anew.
        older.anchors.clone_from(&world.anchors);
        let gone = Finding::Truncated { stored: Some(3), anchored: 8, started: None };
        assert_eq!(read(&lines(&older), &[]).unwrap_err(), ImportError::Found { line: 8, finding: gone });
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
