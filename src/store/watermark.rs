//! How a store notices that it is older than it was.
//!
//! Both backends take a damaged end of their log, or a damaged commit, for one that a crash left unfinished, and come up
//! as they were before it: whole, and without what was acknowledged since. So every batch carries a number, and a small
//! file beside the backend says which one was durable last. It is written after the batch and not synced: it may lag
//! behind the store (after a power cut), and never runs ahead of it.
//!
//! ```text
//! WATERMARK    number of a durable batch · xxh3-64 of it (8 bytes each, little endian)
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::durable;

const NAME: &str = "WATERMARK";
const LEN: usize = 16;

/// Before the store's first batch.
pub(super) fn create(dir: &Path) -> io::Result<()> {
    durable::write_file(&dir.join(NAME), &to_bytes(0), 0o600)
}

/// What tells this directory from a copy of it: a file that is made once and rewritten in its place is another one there.
pub(super) fn medium(dir: &Path) -> u64 {
    std::fs::metadata(dir.join(NAME))
        .map_or(0, |file| xxh3_64(&std::os::unix::fs::MetadataExt::ino(&file).to_le_bytes()))
}

#[derive(Debug)]
pub(super) struct Watermark {
    file: File,
}

impl Watermark {
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { file: File::options().read(true).write(true).open(dir.join(NAME))? })
    }

    /// The number of a batch that is durable; `None` when the file is damaged.
    pub fn read(&self) -> io::Result<Option<u64>> {
        let mut bytes = [0; LEN];
        match self.file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let number = bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
        Ok((to_bytes(number) == bytes).then_some(number))
    }

    /// In place and within one sector, so it needs no room on a full disk.
    pub fn raise(&self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&to_bytes(number), 0)
    }
}

fn to_bytes(number: u64) -> [u8; LEN] {
    let number = number.to_le_bytes();
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&xxh3_64(&number).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_survives_and_shows_damage() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path()).unwrap();
        assert_eq!(Watermark::open(dir.path()).unwrap().read().unwrap(), Some(0));
        Watermark::open(dir.path()).unwrap().raise(7).unwrap();
        assert_eq!(Watermark::open(dir.path()).unwrap().read().unwrap(), Some(7));
        let path = dir.path().join(NAME);
        let good = std::fs::read(&path).unwrap();
        for bit in 0..LEN * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Watermark::open(dir.path()).unwrap().read().unwrap(), None);
        }
        std::fs::write(&path, &good[..9]).unwrap();
        assert_eq!(Watermark::open(dir.path()).unwrap().read().unwrap(), None);
    }
}
