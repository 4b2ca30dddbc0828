//! The redb backend (4.4): one table, one file.
//!
//! Every commit saves the allocator's state (`quick_repair`), because without it an open after a crash scans the whole
//! file. That implies the two-phase commit: two syncs for a durable batch.

use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase, TableDefinition, TableError};

use super::checked::{Backend, FlatWrites, Order};
use super::contract::{Changed, Durability, StoreError, Visit};
use super::durable;
use super::record::checksum_of;

const FILE: &str = "records.redb";
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
const CACHE_BYTES: usize = 32 << 20;
/// Buffered commits pin the pages they replace, in memory and in the file, until a durable one; past this one is made.
const BUFFERED_BYTES_MAX: usize = 8 << 20;

type Records = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

pub(super) struct Redb {
    db: Database,
    buffered_bytes: usize,
    path: PathBuf,
}

impl Redb {
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let db = Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(redb_error)?;
        durable::sync_dir(dir).map_err(|cause| StoreError::from_io(cause, Changed::Nothing))?;
        Ok(Self { db, buffered_bytes: 0, path })
    }

    fn commit(&self, writes: &FlatWrites, durability: redb::Durability) -> Result<(), redb::Error> {
        let mut transaction = self.db.begin_write()?;
        transaction.set_durability(durability)?;
        transaction.set_quick_repair(true);
        let mut records = transaction.open_table(RECORDS)?;
        for (key, value) in writes {
            match value {
                Some(value) => drop(records.insert(key.as_slice(), value.as_slice())?),
                None => drop(records.remove(key.as_slice())?),
            }
        }
        drop(records);
        transaction.commit()?;
        Ok(())
    }

    /// The table, or `None` before the first write.
    fn records(&self) -> Result<Option<Records>, StoreError> {
        let transaction = self.db.begin_read().map_err(redb_error)?;
        match transaction.open_table(RECORDS) {
            Ok(records) => Ok(Some(records)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(redb_error(error)),
        }
    }
}

impl Backend for Redb {
    fn write(&mut self, writes: &FlatWrites, durability: Durability) -> Result<(), StoreError> {
        self.buffered_bytes +=
            writes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        let durable = durability == Durability::Durable || self.buffered_bytes > BUFFERED_BYTES_MAX;
        let durability = if durable { redb::Durability::Immediate } else { redb::Durability::None };
        self.commit(writes, durability).map_err(redb_error)?;
        if durable {
            self.buffered_bytes = 0;
        }
        Ok(())
    }

    fn checksums(&self, keys: &mut dyn Iterator<Item = &Vec<u8>>) -> Result<Vec<Option<u64>>, StoreError> {
        let Some(records) = self.records()? else { return Ok(keys.map(|_| None).collect()) };
        let one = |key: &Vec<u8>| {
            let value = records.get(key.as_slice()).map_err(redb_error)?;
            Ok(value.and_then(|value| checksum_of(value.value())))
        };
        keys.map(one).collect()
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(records) = self.records()? else { return Ok(None) };
        let value = records.get(key).map_err(redb_error)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], order: Order, visit: Visit<'_>) -> Result<(), StoreError> {
        let Some(records) = self.records()? else { return Ok(()) };
        let mut range = records.range::<&[u8]>(from..to).map_err(redb_error)?;
        let mut next = || match order {
            Order::Up => range.next(),
            Order::Down => range.next_back(),
        };
        while let Some(record) = next() {
            let (key, value) = record.map_err(redb_error)?;
            if visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        let file = std::fs::metadata(&self.path).map_err(|cause| StoreError::from_io(cause, Changed::Nothing))?;
        // The file is sparse: its length says little.
        Ok(std::os::unix::fs::MetadataExt::blocks(&file) * 512)
    }
}

fn redb_error(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(cause) => StoreError::from_io(cause, Changed::Unknown),
        error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::DatabaseAlreadyOpen) => {
            StoreError::Io { cause: std::io::Error::other(error.to_string()), changed: Changed::Nothing }
        }
        error => StoreError::Damaged { what: format!("redb: {error}") },
    }
}
