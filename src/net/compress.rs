//! LZ4, where it pays.

/// Frames up to here are sent as they are: the checksum and LZ4's own overhead eat the gain.
pub(super) const COMPRESS_BYTES_MIN: usize = 1_024;
/// After so many frames in a row that did not shrink by a tenth…
const MISSES_MAX: u32 = 8;
/// …only every so many-th frame is tried, until one pays again. Signed and encrypted content never does.
const TRY_EVERY: u32 = 32;

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    TooSmall,
    /// Not even tried: recent frames did not pay.
    Skipped,
    DidNotPay,
    Paid(&'a [u8]),
}

/// Remembers whether compression has paid of late.
#[derive(Debug, Default)]
pub(super) struct Compressor {
    output: Vec<u8>,
    misses: u32,
    skipped: u32,
}

impl Compressor {
    pub fn compress(&mut self, raw: &[u8]) -> Outcome<'_> {
        if raw.len() <= COMPRESS_BYTES_MIN {
            return Outcome::TooSmall;
        }
        if self.misses >= MISSES_MAX && self.skipped + 1 < TRY_EVERY {
            self.skipped += 1;
            return Outcome::Skipped;
        }
        self.skipped = 0;
        self.output.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
        match lz4_flex::block::compress_into(raw, &mut self.output) {
            Ok(size) if size <= raw.len() / 10 * 9 => {
                self.misses = 0;
                Outcome::Paid(&self.output[..size])
            }
            _ => {
                self.misses = self.misses.saturating_add(1);
                Outcome::DidNotPay
            }
        }
    }

    /// Gives back what one huge frame took.
    pub fn trim(&mut self, bytes_max: usize) {
        if self.output.capacity() > bytes_max {
            self.output = Vec::new();
        }
    }
}

/// LZ4 cannot shrink by more than this (255 literals per byte of length): a larger claim is a lie, and is refused
/// before anything is allocated for it.
pub(super) fn raw_bytes_possible(compressed: usize) -> usize {
    compressed.saturating_mul(255).saturating_add(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u64) -> Vec<u8> {
        (0..512u64).flat_map(|i| xxhash_rust::xxh3::xxh3_64(&(seed * 1_000 + i).to_le_bytes()).to_le_bytes()).collect()
    }

    #[test]
    fn what_does_not_pay_is_soon_left_alone_and_tried_again_later() {
        let mut compressor = Compressor::default();
        let outcomes: Vec<bool> = (0..100).map(|i| compressor.compress(&noise(i)) == Outcome::DidNotPay).collect();
        assert!(outcomes[..8].iter().all(|tried| *tried));
        assert_eq!(outcomes[8..].iter().filter(|tried| **tried).count(), 2);
    }

    #[test]
    fn it_comes_back_once_it_pays_again() {
        let mut compressor = Compressor::default();
        for i in 0..20 {
            compressor.compress(&noise(i));
        }
        let text = b"restarts=1 status=idle ".repeat(200);
        let first = (0..TRY_EVERY).find(|_| matches!(compressor.compress(&text), Outcome::Paid(_)));
        assert!(first.is_some());
        assert!(matches!(compressor.compress(&text), Outcome::Paid(_)), "and stays");
    }

    #[test]
    fn small_frames_are_never_touched() {
        assert_eq!(Compressor::default().compress(&[0; COMPRESS_BYTES_MIN]), Outcome::TooSmall);
        assert!(matches!(Compressor::default().compress(&[0; COMPRESS_BYTES_MIN + 1]), Outcome::Paid(_)));
    }
}
