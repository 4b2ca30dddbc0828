//! One sync of the disk that all the others write to.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use super::speed::times;
use crate::cli::bench::figure::Times;
use crate::cli::exit::Error;

const BLOCK: [u8; 4 << 10] = [0x5A; 4 << 10];

/// Times of 4 KiB written behind the last and synced, as a log grows.
pub fn sync(dir: &Path, samples: u64) -> Result<Times, Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot sync a file in {}: {error}", dir.display()));
    let path = dir.join("sync");
    let file = File::create(&path).map_err(failed)?;
    let mut times = times()?;
    for n in 0..samples {
        let before = Instant::now();
        file.write_all_at(&BLOCK, n * BLOCK.len() as u64).and_then(|()| file.sync_data()).map_err(failed)?;
        times.record(before.elapsed());
    }
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(times)
}
