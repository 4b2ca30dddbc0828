//! The half of a store that every backend shares.
//!
//! A backend is one flat ordered map. [`Checked`] makes a [`Store`] of it: it folds the trees into the flat map, seals
//! each record with its checksum and each tree with its tally, turns a panic inside the backend into `Damaged`, keeps a
//! reserve of free space, and reopens a backend that a full or failing disk has stopped.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::contract::{Changed, Durability, KEY_BYTES_MAX, Store, StoreError, Visit};
use super::durable;
use super::record::{NUMBER_KEY, checksum_of, end_of, flat_key, seal, tally_key, tree_of, unseal};
use super::tally::Tally;
use super::watermark::Watermark;
use crate::engine::persist::{Tree, WriteBatch};

/// A flat ordered map on a disk. It may panic: the caller catches it.
pub(super) trait Backend: Send {
    /// All writes or none. `None` removes.
    fn write(&mut self, writes: &FlatWrites, durability: Durability) -> Result<(), StoreError>;

    /// The first 8 bytes of each value, for those keys that have one of that length.
    fn checksums(&self, keys: &mut dyn Iterator<Item = &Vec<u8>>) -> Result<Vec<Option<u64>>, StoreError>;

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the keys in `from..to`, upwards or downwards, until the visitor breaks.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError>;

    fn size_bytes(&self) -> Result<u64, StoreError>;
}

pub(super) type FlatWrites = BTreeMap<Vec<u8>, Option<Vec<u8>>>;
pub(super) type Opener = Box<dyn Fn() -> Result<Box<dyn Backend>, StoreError> + Send>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Up,
    Down,
}

/// Space a store leaves free on its disk, and needs to be opened: what the backends take to open again after a crash
/// (sled writes a snapshot and overwrites segments of 2 MiB, redb its allocator's state). sled was seen to take 18 MB for
/// one small batch after a failure, and a sled that cannot finish its snapshot leaves a store that does not open.
pub const RESERVE_BYTES: u64 = 32 << 20;
/// How far a batch can grow on its way to the disk, at most: pages are rewritten around each record.
const GROWTH_MAX: u64 = 4;

pub(super) struct Checked {
    backend: Option<Box<dyn Backend>>,
    opener: Opener,
    /// The directory whose free space counts; `None` for memory.
    dir: Option<PathBuf>,
    /// By tree; `None` for one that is damaged itself.
    tallies: Tallies,
    /// The number of the last batch.
    number: u64,
    watermark: Option<Watermark>,
    /// Set by a write that failed inside the backend: it must be reopened before the next one. Until then the tallies
    /// may be those of one batch earlier.
    stopped: bool,
    /// Set by the first panic. What the backend says afterwards means nothing, so it is not asked again.
    damaged: OnceLock<String>,
}

type Tallies = BTreeMap<Tree, Option<Tally>>;

impl Checked {
    pub fn open(opener: Opener, dir: Option<PathBuf>) -> Result<Self, StoreError> {
        if let Some(dir) = &dir {
            check_free(dir, RESERVE_BYTES)?;
        }
        let (backend, tallies, number) = open_backend(&opener)?;
        let backend = Some(backend);
        let damaged = OnceLock::new();
        Ok(Self { backend, opener, dir, tallies, number, watermark: None, stopped: false, damaged })
    }

    /// Refuses a store that is older than its watermark says, now and whenever it is reopened.
    pub fn keep(&mut self, watermark: Watermark) -> Result<(), StoreError> {
        self.watermark = Some(watermark);
        self.check_age()
    }

    fn check_age(&self) -> Result<(), StoreError> {
        let Some(watermark) = &self.watermark else { return Ok(()) };
        match watermark.read() {
            Ok(Some(durable)) if durable <= self.number => Ok(()),
            Ok(Some(durable)) => {
                let number = self.number;
                Err(self.condemn(format!("it ends at batch {number}, but batch {durable} was durable")))
            }
            Ok(None) => Err(self.condemn("its watermark has a wrong checksum".to_owned())),
            Err(cause) => Err(StoreError::from_io(cause, Changed::Nothing)),
        }
    }

    /// Reads a tree with every record's verdict: `None` stands for a value that failed its checksum.
    pub fn scan_verdicts(&self, tree: Tree, order: Order, visit: VerdictVisit<'_>) -> Result<(), StoreError> {
        let (from, to) = (flat_key(tree, b""), end_of(tree));
        self.scan(&from, &to, order, &mut |key, sealed| visit(key, unseal(tree, key, sealed)))
    }

    /// Scans with the trees' tags cut off, panics caught, and keys out of order refused: a damaged tree page can lead a
    /// scan in a circle.
    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError> {
        let mut last: Option<Vec<u8>> = None;
        let mut astray = false;
        self.guard(|backend| {
            backend.scan(from, to, order, &mut |flat, sealed| {
                let forward = last.as_deref().is_none_or(|last| match order {
                    Order::Up => last < flat,
                    Order::Down => last > flat,
                });
                let (true, Some((_, key))) = (forward && from <= flat && flat < to, flat.split_first()) else {
                    astray = true;
                    return ControlFlow::Break(());
                };
                last = Some(flat.to_vec());
                visit(key, sealed)
            })
        })?;
        if astray {
            return Err(self.condemn("keys come out of order".to_owned()));
        }
        Ok(())
    }

    fn guard<T>(&self, ask: impl FnOnce(&dyn Backend) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.alive()?;
        let Some(backend) = &self.backend else { return Err(closed()) };
        catch(|| ask(backend.as_ref())).map_err(|error| self.remember(error))
    }

    fn alive(&self) -> Result<(), StoreError> {
        self.damaged.get().map_or(Ok(()), |what| Err(StoreError::Damaged { what: what.clone() }))
    }

    fn remember(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Damaged { what } => self.condemn(what),
            error => error,
        }
    }

    fn condemn(&self, what: String) -> StoreError {
        let _ = self.damaged.set(what.clone());
        StoreError::Damaged { what }
    }

    /// The tallies of the trees that these writes touch, as they will be.
    fn tally(&self, writes: &FlatWrites) -> Result<Tallies, StoreError> {
        let mut tallies = Tallies::new();
        let old = self.guard(|backend| backend.checksums(&mut writes.keys()))?;
        for ((key, value), old) in writes.iter().zip(old) {
            let Some(tree) = tree_of(key) else { continue };
            let tally = match tallies.entry(tree) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(Some(self.trusted_tally(tree)?)),
            };
            let Some(tally) = tally else { continue };
            old.into_iter().for_each(|old| tally.take(old));
            value.as_deref().and_then(checksum_of).into_iter().for_each(|new| tally.add(new));
        }
        Ok(tallies)
    }

    fn compare(&self, tree: Tree, seen: Tally) -> Result<(), StoreError> {
        let expected = self.trusted_tally(tree)?;
        if seen == expected {
            return Ok(());
        }
        let (name, seen, expected) = (tree.name(), seen.count, expected.count);
        Err(self.condemn(format!("{name} has {seen} records that are not the {expected} written")))
    }

    fn trusted_tally(&self, tree: Tree) -> Result<Tally, StoreError> {
        let damaged = || self.condemn(format!("the tally of {} has a wrong checksum", tree.name()));
        self.tallies.get(&tree).copied().unwrap_or(Some(Tally::default())).ok_or_else(damaged)
    }

    /// Refusing early is cheap and changes nothing; a disk that fills up inside a backend stops that backend.
    fn check_space(&self, batch_bytes: u64) -> Result<(), StoreError> {
        self.dir.as_ref().map_or(Ok(()), |dir| check_free(dir, RESERVE_BYTES + GROWTH_MAX * batch_bytes))
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.check_space(0)?;
        // The old backend holds the file lock: it must be gone first.
        drop_backend(self.backend.take());
        let (backend, tallies, number) = open_backend(&self.opener).map_err(|error| self.remember(error))?;
        (self.tallies, self.number) = (tallies, number);
        self.check_age()?;
        (self.backend, self.stopped) = (Some(backend), false);
        Ok(())
    }
}

pub(super) type VerdictVisit<'a> = &'a mut dyn FnMut(&[u8], Option<&[u8]>) -> ControlFlow<()>;

impl Store for Checked {
    fn apply(&mut self, batch: &WriteBatch, durability: Durability) -> Result<(), StoreError> {
        self.alive()?;
        let mut writes = FlatWrites::new();
        let mut batch_bytes = 0;
        for write in &batch.writes {
            if write.key.len() > KEY_BYTES_MAX {
                return Err(StoreError::KeyTooLong { len: write.key.len() });
            }
            let sealed = write.value.as_ref().map(|value| seal(write.tree, &write.key, value));
            batch_bytes += (write.key.len() + sealed.as_ref().map_or(0, Vec::len)) as u64;
            writes.insert(flat_key(write.tree, &write.key), sealed);
        }
        self.check_space(batch_bytes)?;
        if self.stopped || self.backend.is_none() {
            self.reopen()?;
        }
        let tallies = self.tally(&writes)?;
        for (tree, tally) in &tallies {
            writes.insert(tally_key(*tree), tally.map(|tally| tally.to_bytes(*tree)));
        }
        let number = self.number + 1;
        writes.insert(NUMBER_KEY.to_vec(), Some(number.to_le_bytes().to_vec()));
        let Some(backend) = &mut self.backend else { return Err(closed()) };
        let result = catch(|| backend.write(&writes, durability)).map_err(|error| self.remember(error));
        self.stopped = result.is_err();
        result?;
        self.tallies.extend(tallies);
        self.number = number;
        if let (Durability::Durable, Some(watermark)) = (durability, &self.watermark) {
            watermark.raise(number).map_err(|cause| StoreError::from_io(cause, Changed::Unknown))?;
        }
        Ok(())
    }

    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(sealed) = self.guard(|backend| backend.read(&flat_key(tree, key)))? else { return Ok(None) };
        match unseal(tree, key, &sealed) {
            Some(value) => Ok(Some(value.to_vec())),
            None => Err(wrong_checksum(tree, key)),
        }
    }

    fn range(&self, tree: Tree, from: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let (mut bad, mut seen, mut to_the_end) = (None, Tally::default(), true);
        self.scan(&flat_key(tree, from), &end_of(tree), Order::Up, &mut |key, sealed| {
            let Some(value) = unseal(tree, key, sealed) else {
                bad = Some(wrong_checksum(tree, key));
                return ControlFlow::Break(());
            };
            checksum_of(sealed).into_iter().for_each(|sum| seen.add(sum));
            let flow = visit(key, value);
            to_the_end = flow.is_continue();
            flow
        })?;
        if let Some(error) = bad {
            return Err(error);
        }
        if from.is_empty() && to_the_end && !self.stopped {
            self.compare(tree, seen)?;
        }
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        self.guard(|backend| backend.size_bytes())
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        drop_backend(self.backend.take());
    }
}

fn check_free(dir: &Path, needed_bytes: u64) -> Result<(), StoreError> {
    let free_bytes = durable::free_bytes(dir).map_err(|cause| StoreError::from_io(cause, Changed::Nothing))?;
    if free_bytes < needed_bytes {
        let cause = format!("{} MiB are free, {} MiB are needed", free_bytes >> 20, needed_bytes.div_ceil(1 << 20));
        return Err(StoreError::Full { cause, changed: Changed::Nothing });
    }
    Ok(())
}

fn open_backend(opener: &Opener) -> Result<(Box<dyn Backend>, Tallies, u64), StoreError> {
    catch(|| {
        let backend = opener()?;
        let mut tallies = Tallies::new();
        for tree in Tree::ALL {
            // A tree that was never written has no tally, and should have no records.
            let Some(bytes) = backend.read(&tally_key(tree))? else { continue };
            tallies.insert(tree, Tally::from_bytes(tree, &bytes));
        }
        // A damaged number reads as 0, and is older than any watermark.
        let number = backend.read(NUMBER_KEY)?.and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
        Ok((backend, tallies, number.unwrap_or(0)))
    })
}

/// A backend flushes when it is dropped, and may panic there as anywhere.
fn drop_backend(backend: Option<Box<dyn Backend>>) {
    let _ = catch_unwind(AssertUnwindSafe(move || drop(backend)));
}

fn catch<T>(ask: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        // A backend prints whole pages into its panics.
        let words: String = words.chars().take(200).collect();
        Err(StoreError::Damaged { what: format!("the backend panicked: {words}") })
    })
}

fn wrong_checksum(tree: Tree, key: &[u8]) -> StoreError {
    let key: String = key.iter().take(32).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
    StoreError::Damaged { what: format!("record `{key}` of {} has a wrong checksum", tree.name()) }
}

fn closed() -> StoreError {
    let cause = std::io::Error::other("the store could not be reopened after a failed write");
    StoreError::Io { cause, changed: Changed::Nothing }
}
