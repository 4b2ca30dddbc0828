//! The chains of other nodes, as they were imported: read only, each apart from the others and from this node's own.

use std::collections::BTreeMap;

use super::anchor::{Anchor, Check};
use super::chain::Head;
use super::finding::Report;
use super::import::{ImportError, Imported};
use super::reader::Reader;
use super::record::RecordRef;
use super::row::{Row, imported_key, split_imported};
use super::walk::Walk;
use crate::clock::NodeId;

/// What is held of another node's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shelf {
    /// Index of the first record held.
    pub first: u64,
    /// The newest; `None` of an empty chain.
    pub head: Option<Head>,
}

impl Shelf {
    /// For [`Query::page`](super::Query::page): the first index, and the one behind the last.
    pub fn span(&self) -> (u64, u64) {
        (self.first, self.head.map_or(self.first, |head| head.index + 1))
    }
}

/// Imported chains by node.
#[derive(Clone, Debug)]
pub struct Archive {
    own: NodeId,
    shelves: BTreeMap<NodeId, Shelf>,
}

impl Archive {
    /// The archive of node `own`, empty.
    pub fn new(own: NodeId) -> Self {
        Self { own, shelves: BTreeMap::new() }
    }

    /// Reads what is stored, in the order of its keys: imported rows, and others, which are passed over. Tells of each
    /// chain whether it is still whole. `seen` gets every readable record, with its node.
    pub fn load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        own: NodeId,
        rows: impl IntoIterator<Item = (K, V)>,
        check: Check<'_>,
        mut seen: impl FnMut(&NodeId, &RecordRef<'_>),
    ) -> (Self, BTreeMap<NodeId, Report>) {
        let mut walks: BTreeMap<NodeId, Walk<'_>> = BTreeMap::new();
        for (key, bytes) in rows {
            let Some((node, key)) = split_imported(key.as_ref()) else { continue };
            let walk = walks.entry(node).or_insert_with(|| Walk::new(node, &[], check));
            if let Some(record) = walk.row(key, bytes.as_ref()) {
                seen(&node, &record);
            }
        }
        let shelves = walks.iter().map(|(node, walk)| (*node, Shelf::of(walk.base(), walk.head()))).collect();
        let reports = walks.into_iter().map(|(node, walk)| (node, walk.finish())).collect();
        (Self { own, shelves }, reports)
    }

    /// Imports a chain, as [`import`](super::import()) does. One of a node that is held already must hold the newest record
    /// held, so that no import replaces what another one showed. Remove the node's range and put the rows in one go.
    pub fn import<L: AsRef<str>>(
        &mut self,
        lines: impl IntoIterator<Item = L>,
        known: &[Anchor],
        check: Check<'_>,
        keep: &mut dyn FnMut(Row),
    ) -> Result<Imported, ImportError> {
        let held = |node: &NodeId| match *node == self.own {
            true => Err(ImportError::Own),
            false => Ok(self.shelves.get(node).and_then(|shelf| shelf.head)),
        };
        let imported = Reader { lines: lines.into_iter(), line: 0 }.chain(known, check, &held, keep)?;
        self.shelves.insert(imported.node, Shelf::of(imported.base, imported.head));
        Ok(imported)
    }

    /// What is held, by node.
    pub fn shelves(&self) -> &BTreeMap<NodeId, Shelf> {
        &self.shelves
    }

    /// Forgets a node's chain: remove the keys of its [`range_of`].
    pub fn remove(&mut self, node: &NodeId) -> bool {
        self.shelves.remove(node).is_some()
    }
}

/// The keys of a node's imported chain: from the first to before the second.
pub fn range_of(node: &NodeId) -> (Vec<u8>, Vec<u8>) {
    // The chain's own keys begin with 0.
    (imported_key(node, &[0]), imported_key(node, &[1]))
}

impl Shelf {
    fn of(base: Option<super::Base>, head: Option<Head>) -> Self {
        Self { first: base.map_or(0, |base| base.anchor.index + 1), head }
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, check, entry};
    use super::super::{Index, Query, export};
    use super::*;

    fn lines(world: &World) -> Vec<String> {
        export(world.node(), &world.rows, &world.anchors).collect::<Result<_, _>>().unwrap()
    }

    fn import(
        archive: &mut Archive,
        world: &World,
        disk: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<Imported, ImportError> {
        let mut rows = Vec::new();
        let imported = archive.import(lines(world), &[], &check, &mut |row| rows.push(row))?;
        let (first, end) = range_of(&imported.node);
        disk.retain(|key, _| *key < first || *key >= end);
        disk.extend(rows.into_iter().map(|row| (row.key, row.bytes)));
        Ok(imported)
    }

    #[test]
    fn chains_of_several_nodes_lie_beside_this_nodes_own() {
        let own = World::with(3);
        let (mut bob, mut carol) = (World::of(2), World::of(3));
        (0..5).for_each(|n| bob.append(entry(n)));
        (0..7).for_each(|n| carol.append(entry(n)));
        let (mut archive, mut disk) = (Archive::new(own.node()), own.rows.clone());
        import(&mut archive, &bob, &mut disk).unwrap();
        import(&mut archive, &carol, &mut disk).unwrap();
        assert_eq!(import(&mut archive, &own, &mut disk), Err(ImportError::Own));

        let mut index = Index::default();
        let of_carol = |node: &NodeId, record: &RecordRef<'_>| {
            if *node == carol.node() {
                index.insert(record)
            }
        };
        let (loaded, reports) = Archive::load(own.node(), &disk, &check, of_carol);
        assert_eq!(loaded.shelves(), archive.shelves());
        assert!(reports.len() == 2 && reports.values().all(Report::is_whole), "{reports:?}");
        let read = |at: u64| disk.get(&imported_key(&carol.node(), &at.to_be_bytes())).cloned();
        let span = loaded.shelves()[&carol.node()].span();
        assert_eq!((span, Query::default().page(span, &index, &read).records.len()), ((0, 7), 7));
    }

    #[test]
    fn a_later_import_goes_on_from_the_one_before_or_is_refused() {
        let mut bob = World::of(2);
        (0..5).for_each(|n| bob.append(entry(n)));
        let (mut archive, mut disk) = (Archive::new(World::new().node()), BTreeMap::new());
        import(&mut archive, &bob, &mut disk).unwrap();
        let older = bob.clone();
        (5..9).for_each(|n| bob.append(entry(n)));
        let anchor = bob.anchor();
        bob.append(entry(9));
        import(&mut archive, &bob, &mut disk).unwrap();
        assert_eq!(import(&mut archive, &older, &mut disk), Err(ImportError::NotBeyond { held: 9 }));
        let mut other = World::of(2);
        (1..12).for_each(|n| other.append(entry(n)));
        assert_eq!(import(&mut archive, &other, &mut disk), Err(ImportError::Contradicts { line: 11, index: 9 }));
        bob.cut(&anchor);
        import(&mut archive, &bob, &mut disk).unwrap();
        assert_eq!(archive.shelves()[&bob.node()].span(), (9, 11));
        assert!(Archive::load(World::new().node(), &disk, &check, |_, _| {}).1.values().all(Report::is_whole));
        (1..3).for_each(|n| bob.append(entry(n)));
        let beyond = bob.anchor();
        bob.cut(&beyond);
        assert_eq!(
            import(&mut archive, &bob, &mut disk),
            Err(ImportError::NotBeyond { held: 10 }),
            "nothing in common"
        );
        assert!(archive.remove(&bob.node()) && import(&mut archive, &bob, &mut disk).is_ok());
    }
}
