//! Frames: how messages lie on a stream.
//!
//! ```text
//! frame   = length: u32 le | flags: u8 | body[length]
//! body    = payload                                            flags 0
//!         | raw length: u32 le | xxh3 of payload: u64 le | lz4  flags 1
//! payload = (length: u32 le | message[length])+
//! ```
//!
//! Noise already guards the bytes on the wire; the checksum is there because an LZ4 block that was put together wrongly
//! may still decompress to something. Nothing here trusts a length: each is checked against what is allowed and against
//! what is there before memory is taken for it.

use xxhash_rust::xxh3::xxh3_64;

use super::compress::{Compressor, Outcome, raw_bytes_possible};

/// Messages are put together up to here. More would not make the wire busier, only the first message later.
pub(super) const FRAME_BYTES: usize = 16 << 10;
pub(super) const HEADER_BYTES: usize = 5;
const PREFIX_BYTES: usize = 4;
const COMPRESSED_HEADER_BYTES: usize = 12;
const COMPRESSED: u8 = 1;

/// Bytes that break the rules. The peer is cut off; nothing of the frame was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a frame of {bytes} bytes where at most {max} are allowed")]
    FrameTooLarge { bytes: usize, max: usize },
    #[error("a frame with unknown flags {flags:#04x}")]
    Flags { flags: u8 },
    #[error("a frame without a message")]
    Empty,
    #[error("a message of {bytes} bytes where at most {max} are allowed")]
    MessageTooLarge { bytes: usize, max: usize },
    #[error("a message that runs {beyond} bytes past the end of its frame")]
    Truncated { beyond: usize },
    #[error("a compressed frame that claims {claimed} bytes, more than it can hold")]
    RawLength { claimed: usize },
    #[error("a compressed frame that does not decompress to the length it claims")]
    Compression,
    #[error("a compressed frame whose checksum does not match")]
    Checksum,
}

/// Puts messages together into one frame at a time.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    payload: Vec<u8>,
    wire: Vec<u8>,
    compressor: Compressor,
}

/// A finished frame and what it took.
#[derive(Debug)]
pub(super) struct Encoded<'a> {
    pub wire: &'a [u8],
    pub payload_bytes: usize,
    pub compressible: bool,
    pub tried: bool,
    pub paid: bool,
}

impl Encoder {
    /// Whether `message` may join this frame. A frame without a message takes any.
    pub fn has_room(&self, message: &[u8]) -> bool {
        self.payload.is_empty() || self.payload.len() + PREFIX_BYTES + message.len() <= FRAME_BYTES
    }

    pub fn push(&mut self, message: &[u8]) {
        self.payload.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.payload.extend_from_slice(message);
    }

    /// The frame of the messages pushed since the last one.
    pub fn finish(&mut self) -> Encoded<'_> {
        self.trim();
        self.wire.clear();
        let outcome = self.compressor.compress(&self.payload);
        let (compressible, tried) =
            (outcome != Outcome::TooSmall, !matches!(outcome, Outcome::TooSmall | Outcome::Skipped));
        let paid = if let Outcome::Paid(block) = outcome {
            let length = (COMPRESSED_HEADER_BYTES + block.len()) as u32;
            self.wire.extend_from_slice(&length.to_le_bytes());
            self.wire.push(COMPRESSED);
            self.wire.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
            self.wire.extend_from_slice(&xxh3_64(&self.payload).to_le_bytes());
            self.wire.extend_from_slice(block);
            true
        } else {
            self.wire.extend_from_slice(&(self.payload.len() as u32).to_le_bytes());
            self.wire.push(0);
            self.wire.extend_from_slice(&self.payload);
            false
        };
        let payload_bytes = self.payload.len();
        self.payload.clear();
        Encoded { wire: &self.wire, payload_bytes, compressible, tried, paid }
    }

    /// Gives back what a huge message took, once a usual one comes.
    fn trim(&mut self) {
        const KEEP_BYTES: usize = 8 * FRAME_BYTES;
        if self.payload.len() > FRAME_BYTES || self.wire.capacity() <= KEEP_BYTES {
            return;
        }
        self.wire = Vec::new();
        self.payload.shrink_to(KEEP_BYTES);
        self.compressor.trim(KEEP_BYTES);
    }
}

/// The first bytes of a frame, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes that follow.
    pub body_bytes: usize,
    compressed: bool,
}

impl Header {
    pub fn parse(bytes: [u8; HEADER_BYTES], message_bytes_max: usize) -> Result<Self, Malformed> {
        let [a, b, c, d, flags] = bytes;
        let body_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let max = payload_bytes_max(message_bytes_max);
        let compressed = match flags {
            0 => false,
            COMPRESSED => true,
            _ => return Err(Malformed::Flags { flags }),
        };
        if body_bytes > max {
            return Err(Malformed::FrameTooLarge { bytes: body_bytes, max });
        }
        if body_bytes < if compressed { COMPRESSED_HEADER_BYTES } else { PREFIX_BYTES } {
            return Err(Malformed::Empty);
        }
        Ok(Self { body_bytes, compressed })
    }
}

/// One message of the largest size, or several small ones: a peer with other limits groups as it likes up to there.
fn payload_bytes_max(message_bytes_max: usize) -> usize {
    FRAME_BYTES.max(message_bytes_max + PREFIX_BYTES)
}

/// The payload of a frame, every message of it checked. `scratch` holds it if it was compressed.
pub(super) fn open<'a>(
    header: Header,
    body: &'a [u8],
    scratch: &'a mut Vec<u8>,
    message_bytes_max: usize,
) -> Result<Messages<'a>, Malformed> {
    let payload = if header.compressed { decompress(body, scratch, message_bytes_max)? } else { body };
    let mut rest = payload;
    while !rest.is_empty() {
        (_, rest) = split(rest, message_bytes_max)?;
    }
    if payload.is_empty() {
        return Err(Malformed::Empty);
    }
    Ok(Messages { payload_bytes: payload.len(), rest: payload, message_bytes_max })
}

fn decompress<'a>(body: &[u8], scratch: &'a mut Vec<u8>, message_bytes_max: usize) -> Result<&'a [u8], Malformed> {
    let Some((head, block)) = body.split_first_chunk::<COMPRESSED_HEADER_BYTES>() else {
        return Err(Malformed::Truncated { beyond: COMPRESSED_HEADER_BYTES - body.len() });
    };
    let [a, b, c, d, checksum @ ..] = *head;
    let claimed = u32::from_le_bytes([a, b, c, d]) as usize;
    if claimed > payload_bytes_max(message_bytes_max) || claimed > raw_bytes_possible(block.len()) {
        return Err(Malformed::RawLength { claimed });
    }
    scratch.clear();
    scratch.resize(claimed, 0);
    let written = lz4_flex::block::decompress_into(block, scratch).map_err(|_| Malformed::Compression)?;
    if written != claimed {
        return Err(Malformed::Compression);
    }
    if xxh3_64(scratch) != u64::from_le_bytes(checksum) {
        return Err(Malformed::Checksum);
    }
    Ok(scratch)
}

fn split(payload: &[u8], message_bytes_max: usize) -> Result<(&[u8], &[u8]), Malformed> {
    let Some((prefix, rest)) = payload.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Malformed::Truncated { beyond: PREFIX_BYTES - payload.len() });
    };
    let bytes = u32::from_le_bytes(*prefix) as usize;
    if bytes > message_bytes_max {
        return Err(Malformed::MessageTooLarge { bytes, max: message_bytes_max });
    }
    rest.split_at_checked(bytes).ok_or(Malformed::Truncated { beyond: bytes.saturating_sub(rest.len()) })
}

/// The messages of a frame that was found good, in the order they were sent.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    pub payload_bytes: usize,
    rest: &'a [u8],
    message_bytes_max: usize,
}

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (message, rest) = split(self.rest, self.message_bytes_max).ok()?;
        self.rest = rest;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1 << 20;

    fn decode(wire: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
        let (head, body) = wire.split_first_chunk().ok_or(Malformed::Truncated { beyond: 0 })?;
        let header = Header::parse(*head, MAX)?;
        let body = body.get(..header.body_bytes).ok_or(Malformed::Truncated { beyond: 0 })?;
        let mut scratch = Vec::new();
        let messages: Vec<_> = open(header, body, &mut scratch, MAX)?.map(<[u8]>::to_vec).collect();
        // Whatever was claimed, memory followed what was there.
        assert!(scratch.capacity() <= raw_bytes_possible(body.len()));
        Ok(messages)
    }

    fn encode(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        messages.iter().for_each(|message| encoder.push(message));
        encoder.finish().wire.to_vec()
    }

    #[test]
    fn text_shrinks_and_noise_stays() {
        let text = vec![b"{\"status\":\"idle\",\"restarts\":3}".repeat(100)];
        assert!(encode(&text).len() < 1_000);
        assert_eq!(decode(&encode(&text)), Ok(text));
        let noise: Vec<u8> = (0..500u64).flat_map(|i| xxh3_64(&i.to_le_bytes()).to_le_bytes()).collect();
        assert_eq!(encode(std::slice::from_ref(&noise)).len(), noise.len() + HEADER_BYTES + PREFIX_BYTES);
    }

    #[test]
    fn each_broken_rule_has_its_name() {
        let frame = |length: u32, flags: u8, body: &[u8]| [&length.to_le_bytes()[..], &[flags], body].concat();
        let bomb = [&(1u32 << 19).to_le_bytes()[..], &[0; 8], &[0; 4]].concat();
        let mut damaged = encode(&[vec![7; 4_000]]);
        damaged[HEADER_BYTES + 5] ^= 1;
        let cases = [
            (frame(u32::MAX, 0, &[]), Malformed::FrameTooLarge { bytes: u32::MAX as usize, max: MAX + 4 }),
            (frame(4, 2, &[0; 4]), Malformed::Flags { flags: 2 }),
            (frame(0, 0, &[]), Malformed::Empty),
            (frame(4, 0, &u32::MAX.to_le_bytes()), Malformed::MessageTooLarge { bytes: u32::MAX as usize, max: MAX }),
            (frame(4, 0, &9u32.to_le_bytes()), Malformed::Truncated { beyond: 9 }),
            (frame(6, 0, &[0; 6]), Malformed::Truncated { beyond: 2 }),
            (frame(16, 1, &bomb), Malformed::RawLength { claimed: 1 << 19 }),
            (damaged, Malformed::Checksum),
        ];
        for (wire, expected) in cases {
            assert_eq!(decode(&wire), Err(expected));
        }
    }

    #[test]
    fn a_frame_takes_any_first_message_and_then_only_what_fits() {
        let mut encoder = Encoder::default();
        assert!(encoder.has_room(&[0; MAX]));
        encoder.push(&[0; 10_000]);
        assert!(encoder.has_room(&[0; 6_000]));
        assert!(!encoder.has_room(&[0; 7_000]));
        encoder.finish();
        assert!(encoder.has_room(&[0; MAX]));
    }

    fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let message = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            (any::<u8>(), 0usize..5_000).prop_map(|(byte, length)| vec![byte; length]),
        ];
        prop::collection::vec(message, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn what_went_in_comes_out(messages in messages()) {
            prop_assert_eq!(decode(&encode(&messages)), Ok(messages));
        }

        #[test]
        fn a_cut_frame_delivers_nothing(messages in messages(), cut in any::<prop::sample::Index>()) {
            let wire = encode(&messages);
            prop_assert!(decode(&wire[..cut.index(wire.len())]).is_err());
        }
    }

    /// Random bytes, and good frames with one byte changed or cut short: 10,000 of each, none may panic, and a changed
    /// compressed frame is never taken for a good one.
    #[test]
    fn hostile_bytes_never_panic() {
        let mut seed = 1u64;
        let mut random = || {
            seed = xxh3_64(&seed.to_le_bytes());
            seed as usize
        };
        let good = encode(&[b"some text that compresses ".repeat(100), vec![1, 2, 3]]);
        assert_eq!(good[4], COMPRESSED);
        let mut refused = 0;
        for _ in 0..10_000 {
            let mut bytes: Vec<u8> = (0..random() % 200).map(|_| random() as u8).collect();
            if let Some(flags) = bytes.get_mut(4) {
                *flags &= 1;
            }
            if bytes.len() > HEADER_BYTES {
                // Mostly plausible lengths: else nearly all stop at the first check.
                let length = (bytes.len() - HEADER_BYTES) as u32;
                bytes[..4].copy_from_slice(&length.to_le_bytes());
            }
            refused += usize::from(decode(&bytes).is_err());
            let mut changed = good.clone();
            let at = random() % changed.len();
            let bit = 1 << (random() % 8);
            changed[at] ^= bit;
            // Some changes of an LZ4 block still mean the same bytes; no other may pass.
            if let Ok(messages) = decode(&changed) {
                assert_eq!(encode(&messages), good, "byte {at}, bit {bit}");
            }
            assert!(decode(&good[..random() % good.len()]).is_err());
        }
        assert!(refused > 9_900, "{refused}");
    }
}
