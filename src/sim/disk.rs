//! A disk that does what disks do: take its time, fill up, fail, lose what was not synced, and lie.
//!
//! It stands for a store and what is under it: writes are atomic, and each row carries a checksum of its place and its
//! bytes, as in `store/checked.rs`. What a store cannot see (an old version of a row) only the engine's own digest finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::chance::Chance;
use crate::clock::ClusterId;
use crate::engine::persist::{Tree, WriteBatch};
use crate::engine::rows::salvage_outbox;
use crate::engine::{LoadError, Loaded, Loader, Ticket};

type Place = (Tree, Vec<u8>);

#[derive(Clone, Debug)]
struct Row {
    bytes: Arc<[u8]>,
    checksum: u64,
}

fn checksum(place: &Place, bytes: &[u8]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&[place.0 as u8]);
    hash.update(&place.1);
    hash.update(bytes);
    hash.digest()
}

/// What is wrong with the disk just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ailment {
    #[default]
    None,
    Full,
    /// Every other write or so fails.
    Failing,
    /// A write takes fifty times as long.
    Slow,
}

/// The rows as they were at one moment.
#[derive(Clone, Debug, Default)]
pub struct Image {
    rows: BTreeMap<Place, Row>,
}

#[derive(Debug, Default)]
pub struct Disk {
    image: Image,
    /// Replaced rows, to be found again by a write that was lost.
    before: BTreeMap<Place, Row>,
    pub in_flight: Option<(Ticket, Arc<WriteBatch>)>,
    pub ailment: Ailment,
    /// Raised whenever the disk breaks what it promised: acknowledgements given before count no more.
    pub epoch: u64,
    /// Another one whenever what lies on it was put there from elsewhere.
    pub medium: u64,
}

/// Rows that cannot be read as they were written. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the checksum of a row in `{0}` does not match")]
    Checksum(&'static str),
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Image {
    /// Without the rows of one tree.
    pub fn forget(&mut self, tree: Tree) {
        self.rows.retain(|place, _| place.0 != tree);
    }
}

impl Disk {
    pub fn start(&mut self, ticket: Ticket, rows: Arc<WriteBatch>) {
        self.in_flight = Some((ticket, rows));
    }

    /// The write under way reaches the platter, if it is still that one.
    pub fn finish(&mut self, ticket: Ticket) -> bool {
        let Some((_, rows)) = self.in_flight.take_if(|(under_way, _)| *under_way == ticket) else { return false };
        for write in &rows.writes {
            let place = (write.tree, write.key.clone());
            let old = match &write.value {
                Some(value) => {
                    let row = Row { checksum: checksum(&place, value), bytes: value.as_slice().into() };
                    self.image.rows.insert(place.clone(), row)
                }
                None => self.image.rows.remove(&place),
            };
            if let Some(old) = old {
                self.before.insert(place, old);
            }
        }
        true
    }

    /// The write under way fails; nothing of it is kept.
    pub fn fail(&mut self, ticket: Ticket) -> bool {
        self.in_flight.take_if(|(under_way, _)| *under_way == ticket).is_some()
    }

    pub fn image(&self) -> Image {
        self.image.clone()
    }

    /// Goes back to an image, or becomes a copy of another disk.
    pub fn restore(&mut self, image: Image) {
        self.rewind(image);
        self.medium += 1;
    }

    /// Goes back to an image, and is the same disk.
    pub fn rewind(&mut self, image: Image) {
        (self.image, self.in_flight) = (image, None);
        self.before.clear();
        self.epoch += 1;
    }

    pub fn wipe(&mut self) {
        self.restore(Image::default());
    }

    /// Flips one bit somewhere.
    pub fn flip_bit(&mut self, chance: &mut Chance) {
        if let Some(row) = self.any_row(chance) {
            let mut bytes = row.bytes.to_vec();
            if !bytes.is_empty() {
                let at = chance.index(bytes.len());
                bytes[at] ^= 1 << chance.below(8);
                row.bytes = bytes.into();
            }
            self.epoch += 1;
        }
    }

    /// A row lands, whole, in the place of another.
    pub fn misdirect(&mut self, chance: &mut Chance) {
        let Some(row) = self.any_row(chance).map(|row| row.clone()) else { return };
        if let Some(other) = self.any_row(chance) {
            *other = row;
            self.epoch += 1;
        }
    }

    /// A write that was acknowledged never happened: one row is as it was before. No checksum tells.
    pub fn lose_write(&mut self, chance: &mut Chance) {
        let cells: Vec<Place> = self.before.keys().filter(|(tree, _)| *tree == Tree::Cells).cloned().collect();
        if let Some(place) = chance.pick(&cells)
            && let Some(old) = self.before.remove(place)
        {
            self.image.rows.insert(place.clone(), old);
            self.epoch += 1;
        }
    }

    fn any_row(&mut self, chance: &mut Chance) -> Option<&mut Row> {
        let at = chance.index(self.image.rows.len());
        self.image.rows.values_mut().nth(at)
    }

    /// The rows of one tree, in the order of their keys.
    pub fn rows(&self, tree: Tree) -> impl Iterator<Item = (&[u8], &[u8])> {
        let rows = self.image.rows.range((tree, Vec::new())..).take_while(move |(place, _)| place.0 == tree);
        rows.map(|(place, row)| (place.1.as_slice(), &*row.bytes))
    }

    /// Reads everything back, as a start does.
    pub fn load(&self) -> Result<Loaded, Damage> {
        let mut loader = Loader::default();
        for tree in Tree::LOADED {
            for (place, row) in self.image.rows.range((tree, Vec::new())..).take_while(|(place, _)| place.0 == tree) {
                if checksum(place, &row.bytes) != row.checksum {
                    return Err(Damage::Checksum(tree.name()));
                }
                loader.row(tree, &place.1, &row.bytes)?;
            }
        }
        Ok(loader.finish()?)
    }

    /// Sets the damaged rows aside and keeps what can still be read of the own batches: what a node starts with then.
    pub fn quarantine(&mut self) -> Loaded {
        let readable = |tree: Tree| -> Vec<(Vec<u8>, Vec<u8>)> {
            let rows = self.image.rows.range((tree, Vec::new())..).take_while(|(place, _)| place.0 == tree);
            rows.filter(|(place, row)| checksum(place, &row.bytes) == row.checksum)
                .map(|(place, row)| (place.1.clone(), row.bytes.to_vec()))
                .collect()
        };
        let (meta, outbox) = (readable(Tree::Meta), readable(Tree::Outbox));
        let cluster = meta.iter().find(|(key, _)| key == b"cluster").and_then(|(_, id)| id.as_slice().try_into().ok());
        let salvaged = salvage_outbox(&meta, outbox);
        let audit = readable(Tree::Audit);
        self.wipe();
        // What can still be read of the audit stays: a chain with a hole says more than none.
        let mut loader = Loader::default();
        for (key, bytes) in audit {
            // An audit row is taken as it is.
            let _ = loader.row(Tree::Audit, &key, &bytes);
            let place = (Tree::Audit, key);
            self.image.rows.insert(place.clone(), Row { checksum: checksum(&place, &bytes), bytes: bytes.into() });
        }
        let mut loaded = loader.finish().unwrap_or_default();
        (loaded.cluster, loaded.salvaged) = (cluster.map(ClusterId), salvaged);
        loaded
    }
}
