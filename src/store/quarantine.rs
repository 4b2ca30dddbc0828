//! A damaged store is evidence: it is set aside, never deleted, and read only through a copy.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::checked::{Checked, Order};
use super::contract::{Changed, StoreError};
use super::durable;
use super::open::{OpenError, StoreKind, open_files, store_dir};
use crate::engine::persist::Tree;

/// Renames `<data dir>/store` to `<data dir>/store.damaged-<time>` and writes the reason to `REASON.txt` in it.
/// The store must be closed. Returns the new path.
pub fn quarantine(data_dir: &Path, reason: &str) -> io::Result<PathBuf> {
    let aside = free_name(data_dir, &utc(SystemTime::now()));
    fs::rename(store_dir(data_dir), &aside)?;
    durable::sync_dir(data_dir)?;
    // A full disk must not keep a node from coming up again; the caller has the reason too.
    let written = durable::write_file(&aside.join("REASON.txt"), format!("{reason}\n").as_bytes(), 0o600);
    match written {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(error),
        _ => Ok(aside),
    }
}

/// What a salvage found in one tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Salvaged {
    /// Records whose checksum was right; each was visited once.
    pub good: u64,
    /// Records that are there and cannot be trusted.
    pub bad: u64,
    /// False when a part of the tree could not be read at all. True does not prove that nothing is missing: a damaged
    /// page may have hidden records without a trace.
    pub whole: bool,
}

/// Visits what can still be trusted of one tree of a quarantined store, from a copy that is deleted afterwards.
/// In key order, except that the upper part comes backwards when the middle cannot be read.
pub fn salvage(
    quarantined: &Path,
    kind: StoreKind,
    tree: Tree,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<Salvaged, OpenError> {
    let copy =
        copy_aside(quarantined).map_err(|cause| OpenError::from(StoreError::from_io(cause, Changed::Nothing)))?;
    let mut salvaged = Salvaged { whole: true, ..Salvaged::default() };
    let mut highest: Option<Vec<u8>> = None;
    for order in [Order::Up, Order::Down] {
        // Opened anew for the second pass: after a panic the first is not asked again.
        let store = open_files(copy.path(), kind)?;
        let end = pass(&store, tree, order, &mut highest, &mut salvaged, visit);
        if end.is_ok() {
            break;
        }
        salvaged.whole = false;
    }
    Ok(salvaged)
}

/// One pass. Upwards it notes the highest key it saw; downwards it stops there.
fn pass(
    store: &Checked,
    tree: Tree,
    order: Order,
    highest: &mut Option<Vec<u8>>,
    salvaged: &mut Salvaged,
    visit: &mut dyn FnMut(&[u8], &[u8]),
) -> Result<(), StoreError> {
    store.scan_verdicts(tree, order, &mut |key, value| {
        match order {
            Order::Up => *highest = Some(key.to_vec()),
            Order::Down if highest.as_deref().is_some_and(|highest| key <= highest) => return ControlFlow::Break(()),
            Order::Down => {}
        }
        match value {
            Some(value) => {
                salvaged.good += 1;
                visit(key, value);
            }
            None => salvaged.bad += 1,
        }
        ControlFlow::Continue(())
    })
}

/// Opening a store writes to it, so it is a copy that is opened.
fn copy_aside(quarantined: &Path) -> io::Result<tempfile::TempDir> {
    let parent = quarantined.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let copy = tempfile::Builder::new().prefix("salvage-").tempdir_in(parent)?;
    copy_files(quarantined, copy.path())?;
    Ok(copy)
}

/// Only plain files and directories, as backends write them; links lead out of the quarantine.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_files(&entry.path(), &target)?;
        } else if kind.is_file() {
            io::copy(&mut File::open(entry.path())?, &mut File::create(&target)?)?;
        }
    }
    Ok(())
}

fn free_name(data_dir: &Path, stamp: &str) -> PathBuf {
    let plain = data_dir.join(format!("store.damaged-{stamp}"));
    let numbered = (2u32..).map(|n| data_dir.join(format!("store.damaged-{stamp}-{n}")));
    std::iter::once(plain.clone()).chain(numbered).find(|path| fs::symlink_metadata(path).is_err()).unwrap_or(plain)
}

/// `20261120T235959Z`.
fn utc(now: SystemTime) -> String {
    let secs = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(secs / 86_400);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The date of a day counted from 1970-01-01 (Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::persist::WriteBatch;
    use crate::store::{Durability, open};

    #[test]
    fn dates_are_right() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(1_795_219_199)), "20261120T235959Z");
    }

    #[test]
    fn a_quarantined_store_is_whole_and_a_new_one_starts_empty() {
        for kind in [StoreKind::Sled, StoreKind::Redb] {
            let dir = tempfile::tempdir().unwrap();
            let fill = |round: u8| {
                let mut store = open(dir.path(), kind).unwrap();
                assert_eq!(store.get(Tree::Outbox, b"k").unwrap(), None);
                let mut batch = WriteBatch::default();
                batch.put(Tree::Outbox, "k", vec![round; 100_000]);
                batch.put(Tree::Outbox, "l", "2");
                batch.put(Tree::Meta, "m", "3");
                store.apply(&batch, Durability::Durable).unwrap();
            };
            fill(1);
            let first = quarantine(dir.path(), "because").unwrap();
            fill(2);
            let second = quarantine(dir.path(), "again").unwrap();
            assert_ne!(first, second);
            assert_eq!(fs::read_to_string(first.join("REASON.txt")).unwrap(), "because\n");
            let before = bytes_in(&first);
            let mut seen = Vec::new();
            let salvaged =
                salvage(&first, kind, Tree::Outbox, &mut |key, value| seen.push((key.to_vec(), value.to_vec())))
                    .unwrap();
            assert_eq!(salvaged, Salvaged { good: 2, bad: 0, whole: true });
            assert_eq!(seen, [(b"k".to_vec(), vec![1; 100_000]), (b"l".to_vec(), b"2".to_vec())]);
            assert_eq!(bytes_in(&first), before);
            let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 2, "{names:?}");
        }
    }

    fn bytes_in(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }
}
