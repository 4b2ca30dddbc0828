//! Where a store lies, and what says so.
//!
//! ```text
//! <data dir>/store/FORMAT    one line: folkmoot-store <version> <kind>
//! <data dir>/store/WATERMARK the last durable batch (see `watermark`)
//! <data dir>/store/…         the backend's files
//! ```
//!
//! `FORMAT` is written before the first file of the backend, so a directory with files and without it is damaged.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::checked::{Backend, Checked};
use super::contract::{Store, StoreError};
use super::durable;
use super::memory::Memory;
use super::redb::Redb;
use super::sled::Sled;
use super::watermark::{self, Watermark};

/// The version of the layout, of the trees' tags and of the records' seal. What the values mean has its own version.
const VERSION: u32 = 1;
const MAGIC: &str = "folkmoot-store";
const FORMAT: &str = "FORMAT";
/// More than any `FORMAT` there will be; a longer file is not one.
const FORMAT_BYTES_MAX: u64 = 256;

/// Opens the store in a data directory, or creates it there. A memory store starts empty and writes nothing.
///
/// The caller holds the directory's lock ([`super::DataDir`]).
pub fn open(data_dir: &Path, kind: StoreKind) -> Result<Box<dyn Store>, OpenError> {
    let dir = store_dir(data_dir);
    let found = read_format(&dir)?;
    if let Some(found) = found.filter(|found| *found != kind) {
        return Err(OpenError::WrongKind { dir, found, asked: kind });
    }
    if kind == StoreKind::Memory {
        return Ok(Memory::new().open()?);
    }
    if found.is_none() {
        let io = |cause| OpenError::from(StoreError::from_io(cause, super::Changed::Nothing));
        durable::create_dir(&dir, 0o700).map_err(io)?;
        watermark::create(&dir).map_err(io)?;
        durable::write_file(&dir.join(FORMAT), format!("{MAGIC} {VERSION} {kind}\n").as_bytes(), 0o600).map_err(io)?;
    }
    let mut store = open_files(&dir, kind)?;
    let watermark = Watermark::open(&dir).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound => OpenError::Damaged { reason: "its WATERMARK is missing".to_owned() },
        _ => OpenError::Io { cause },
    })?;
    store.keep(watermark)?;
    Ok(Box::new(store))
}

pub(super) fn store_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("store")
}

/// What tells the store in a data directory from a copy of it; the same at every start. A disk that is copied block by block
/// keeps it.
pub fn medium(data_dir: &Path) -> u64 {
    watermark::medium(&store_dir(data_dir))
}

/// Opens the files of a backend, whatever `FORMAT` says.
pub(super) fn open_files(dir: &Path, kind: StoreKind) -> Result<Checked, OpenError> {
    let opener_dir = dir.to_owned();
    let opener = move || -> Result<Box<dyn Backend>, StoreError> {
        match kind {
            StoreKind::Sled => Ok(Box::new(Sled::open(&opener_dir)?)),
            StoreKind::Redb => Ok(Box::new(Redb::open(&opener_dir)?)),
            StoreKind::Memory => Err(StoreError::Io {
                cause: io::Error::other("a memory store has no files"),
                changed: super::Changed::Nothing,
            }),
        }
    };
    Ok(Checked::open(Box::new(opener), Some(dir.to_owned()))?)
}

/// Which backend keeps the records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    #[default]
    Sled,
    Redb,
    /// Nothing survives the process.
    Memory,
}

impl StoreKind {
    pub const ALL: [Self; 3] = [Self::Sled, Self::Redb, Self::Memory];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Memory => "memory",
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StoreKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("`{text}` is not a store; choose sled, redb or memory"))
    }
}

/// Why a store does not open. Nothing was changed, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{dir} has format {found}, this version of folkmoot knows up to {VERSION}; use the newer folkmoot that wrote it", dir = dir.display())]
    NewerFormat { dir: PathBuf, found: u32 },
    #[error("{dir} is a {found} store, but a {asked} store was asked for; say `--store {found}`, or choose another data directory", dir = dir.display())]
    WrongKind { dir: PathBuf, found: StoreKind, asked: StoreKind },
    /// The backend may have written while it tried to recover.
    #[error("the store is damaged: {reason}; set it aside and rebuild it from peers")]
    Damaged { reason: String },
    #[error("the disk is too full to open the store ({cause}); free some space on it")]
    Full { cause: String },
    #[error("the store cannot be opened: {cause}; check the disk and the rights on the data directory")]
    Io { cause: io::Error },
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { cause, .. } => Self::Full { cause },
            StoreError::Io { cause, .. } => Self::Io { cause },
            StoreError::Damaged { what } => Self::Damaged { reason: what },
            error @ StoreError::KeyTooLong { .. } => Self::Damaged { reason: error.to_string() },
        }
    }
}

/// The kind a directory holds; `None` when there is no store yet.
fn read_format(dir: &Path) -> Result<Option<StoreKind>, OpenError> {
    let path = dir.join(FORMAT);
    let damaged = |reason: &str| OpenError::Damaged { reason: format!("{} {reason}", path.display()) };
    let text = match fs::metadata(&path) {
        Ok(file) if file.len() > FORMAT_BYTES_MAX => return Err(damaged("is too long")),
        Ok(_) => fs::read(&path).map_err(|cause| OpenError::Io { cause })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if holds_files(dir)? { Err(damaged("is missing")) } else { Ok(None) };
        }
        Err(cause) => return Err(OpenError::Io { cause }),
    };
    let text = String::from_utf8(text).map_err(|_| damaged("is not text"))?;
    let mut words = text.strip_suffix('\n').unwrap_or(&text).split(' ');
    let (Some(MAGIC), Some(version), Some(kind)) = (words.next(), words.next(), words.next()) else {
        return Err(damaged("does not name a store"));
    };
    let version: u32 = version.parse().map_err(|_| damaged("has a version that is no number"))?;
    match version {
        // A newer format may well have a kind unknown here: the version is judged first.
        found if found > VERSION => Err(OpenError::NewerFormat { dir: dir.to_owned(), found }),
        VERSION if words.next().is_none() => kind.parse().map(Some).map_err(|_| damaged("names an unknown backend")),
        _ => Err(damaged("does not name a store")),
    }
}

fn holds_files(dir: &Path) -> Result<bool, OpenError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(OpenError::Io { cause }),
    };
    // What a crash before `FORMAT` was there can leave.
    let early = ["FORMAT.tmp", "WATERMARK", "WATERMARK.tmp"];
    Ok(entries.filter_map(Result::ok).any(|entry| !early.iter().any(|name| entry.file_name() == *name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(text: &str) -> Result<Option<StoreKind>, OpenError> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FORMAT), text).unwrap();
        read_format(dir.path())
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let error = format_of("folkmoot-store 2 granite extra\n").unwrap_err();
        assert!(matches!(error, OpenError::NewerFormat { found: 2, .. }), "{error}");
        assert!(error.to_string().contains("has format 2"));
    }

    #[test]
    fn another_kind_is_refused_and_both_are_named() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), StoreKind::Redb).unwrap());
        for asked in [StoreKind::Sled, StoreKind::Memory] {
            let error = open(dir.path(), asked).err().unwrap().to_string();
            assert!(error.contains("is a redb store") && error.contains(&format!("a {asked} store")), "{error}");
        }
        open(dir.path(), StoreKind::Redb).unwrap();
    }

    #[test]
    fn nonsense_in_format_is_damage() {
        let long = "x".repeat(300);
        for text in
            ["", "folkmoot-store", "folkmoot-store one sled", "folkmoot-store 0 sled", "folkmoot-store 1 tape", &long]
        {
            assert!(matches!(format_of(text), Err(OpenError::Damaged { .. })), "{text:?}");
        }
        assert!(matches!(format_of("folkmoot-store 1 sled\n"), Ok(Some(StoreKind::Sled))));
    }

    #[test]
    fn files_without_format_are_damage_and_a_leftover_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = store_dir(dir.path());
        fs::create_dir(&store).unwrap();
        fs::write(store.join("FORMAT.tmp"), "folk").unwrap();
        drop(open(dir.path(), StoreKind::Sled).unwrap());
        fs::remove_file(store.join(FORMAT)).unwrap();
        assert!(matches!(open(dir.path(), StoreKind::Sled), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn kinds_survive_their_printed_form() {
        for kind in StoreKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("Sled".parse::<StoreKind>().is_err());
    }
}
