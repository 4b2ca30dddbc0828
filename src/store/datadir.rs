//! The data directory: one process at a time, one key, and how much room is left.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rand::TryRng;
use xxhash_rust::xxh3::xxh3_64;

use super::durable;

/// A locked data directory. The lock goes with this value, or with the process however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Creates the directory (mode 0700) if it is missing, and locks it.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let io = |what: &'static str| move |cause| DataDirError::Io { what, path: path.to_owned(), cause };
        durable::create_dir(path, 0o700).map_err(io("create"))?;
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(io("write to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::Locked { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(TryLockError::Error(cause)) => return Err(io("lock")(cause)),
        }
        // Only words for whoever comes second: the lock is what holds.
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(io("write to"))?;
        writeln!(lock, "{}", std::process::id()).map_err(io("write to"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The seed of the node's ed25519 key, from `node.key`; drawn at the first start.
    ///
    /// One line of text, mode 0600: `folkmoot-node-key 1 <64 hex digits: seed> <16 hex digits: xxh3-64 of the seed>`.
    /// A key that cannot be trusted is an error and never replaced: a new one would be a new node.
    pub fn node_key(&self) -> Result<[u8; 32], DataDirError> {
        let path = self.path.join("node.key");
        let io = |what: &'static str| move |cause| DataDirError::Io { what, path: self.path.join("node.key"), cause };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.draw_key(&path),
            Err(cause) => return Err(io("read")(cause)),
        };
        let mode = file.metadata().map_err(io("read"))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(DataDirError::KeyIsOpen { path, mode });
        }
        let mut text = Vec::new();
        file.take(256).read_to_end(&mut text).map_err(io("read"))?;
        parse_key(&text).ok_or(DataDirError::KeyIsDamaged { path })
    }

    fn draw_key(&self, path: &Path) -> Result<[u8; 32], DataDirError> {
        let mut seed = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(|error| DataDirError::NoRandomness(error.to_string()))?;
        durable::write_file(path, print_key(&seed).as_bytes(), 0o600).map_err(|cause| DataDirError::Io {
            what: "write",
            path: path.to_owned(),
            cause,
        })?;
        Ok(seed)
    }

    /// What may still be written to the directory's disk.
    pub fn free_bytes(&self) -> Result<u64, DataDirError> {
        durable::free_bytes(&self.path).map_err(|cause| DataDirError::Io {
            what: "ask for the free space of",
            path: self.path.clone(),
            cause,
        })
    }
}

/// Nothing was changed, except that the directory may have been created.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{path} is in use by {holder}; stop it, or choose another data directory", path = path.display())]
    Locked { path: PathBuf, holder: String },
    #[error("{path} can be read by others (mode {mode:03o}); run `chmod 600 {path}`, and make a new key if someone may have read it", path = path.display())]
    KeyIsOpen { path: PathBuf, mode: u32 },
    #[error("{path} is not a node key, or a damaged one; restore it from a backup, or move it away to become a new node", path = path.display())]
    KeyIsDamaged { path: PathBuf },
    #[error("the system gave no random bytes for a key: {0}; try again")]
    NoRandomness(String),
    #[error("cannot {what} {path}: {cause}; check its owner, its rights and the disk", path = path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    // Empty for the moment between locking and writing.
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

const KEY_MAGIC: &str = "folkmoot-node-key 1";

fn print_key(seed: &[u8; 32]) -> String {
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{KEY_MAGIC} {hex} {:016x}\n", xxh3_64(seed))
}

fn parse_key(text: &[u8]) -> Option<[u8; 32]> {
    let text = std::str::from_utf8(text).ok()?;
    let (hex, _) = text.strip_prefix(KEY_MAGIC)?.strip_prefix(' ')?.split_once(' ')?;
    let mut seed = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in seed.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    // One form only, so that every changed bit shows.
    (print_key(&seed) == text).then_some(seed)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_second_lock_names_the_directory_and_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = DataDir::lock(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let error = DataDir::lock(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn a_key_is_drawn_once() {
        let dir = tempfile::tempdir().unwrap();
        let seed = DataDir::lock(dir.path()).unwrap().node_key().unwrap();
        assert_eq!(DataDir::lock(dir.path()).unwrap().node_key().unwrap(), seed);
        let mode = fs::metadata(dir.path().join("node.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(DataDir::lock(other.path()).unwrap().node_key().unwrap(), seed);
    }

    #[test]
    fn a_key_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        data_dir.node_key().unwrap();
        let path = dir.path().join("node.key");
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = data_dir.node_key().unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        data_dir.node_key().unwrap();
    }

    #[test]
    fn a_damaged_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = DataDir::lock(dir.path()).unwrap();
        data_dir.node_key().unwrap();
        let path = dir.path().join("node.key");
        let good = fs::read(&path).unwrap();
        let flips = (0..good.len() * 8).map(|bit| {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            flipped
        });
        for bad in flips.chain([Vec::new(), good[..40].to_vec(), [&good[..], b"x"].concat()]) {
            fs::write(&path, &bad).unwrap();
            assert!(matches!(data_dir.node_key(), Err(DataDirError::KeyIsDamaged { .. })), "{bad:?}");
            assert_eq!(fs::read(&path).unwrap(), bad);
        }
    }

    #[test]
    fn free_space_is_known() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DataDir::lock(dir.path()).unwrap().free_bytes().unwrap() > 0);
    }
}
