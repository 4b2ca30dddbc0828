//! Bytes in and out: the only place that reads what came from a wire or a disk.
//!
//! [`Writer`] and [`Reader`] carry the hot forms (varints, length-prefixed slices). Messages that are rare go through
//! serde and bincode, with every bound set: a size limit, no trailing bytes, and no type on the wire that is recursive
//! or zero-sized, so no input can cost more than its own length.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// First byte of every message and of every stored row that is not self-describing.
pub const FORMAT_VERSION: u8 = 1;

/// Most bytes a serde message may take, encoded.
pub const SERDE_BYTES_MAX: usize = 4 << 20;

/// Bytes that do not decode. Nothing was changed by them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the bytes end before the value does")]
    Truncated,
    #[error("bytes are left over after the value")]
    Trailing,
    #[error("format version {0} is not known here (this build speaks {FORMAT_VERSION})")]
    Version(u8),
    #[error("{0} is out of its bounds")]
    Bounds(&'static str),
    #[error("not UTF-8")]
    Utf8,
    #[error("malformed message: {0}")]
    Serde(String),
}

/// Appends encoded values to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// LEB128: seven bits a byte, lowest first.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Length, then bytes.
    pub fn slice(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Length + 1 then bytes; 0 for none.
    pub fn optional_slice(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.varint(0),
            Some(bytes) => {
                self.varint(bytes.len() as u64 + 1);
                self.raw(bytes);
            }
        }
    }
}

/// Reads encoded values off the front of a slice, never beyond its end.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Bounds("a varint"))
    }

    /// A count of things that take at least `bytes_each` bytes, so it can be believed before it is allocated for.
    pub fn count(&mut self, bytes_each: usize) -> Result<usize, DecodeError> {
        let count = self.varint()?;
        let fits = count <= (self.rest.len() / bytes_each.max(1)) as u64;
        if fits { Ok(count as usize) } else { Err(DecodeError::Bounds("a count")) }
    }

    pub fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.count(1)?;
        self.raw(len)
    }

    pub fn optional_slice(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.varint()? {
            0 => Ok(None),
            n if n - 1 <= self.rest.len() as u64 => self.raw((n - 1) as usize).map(Some),
            _ => Err(DecodeError::Truncated),
        }
    }

    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.slice()?).map_err(|_| DecodeError::Utf8)
    }

    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Encodes a rare message. Our own types always encode; a failure is a bug of ours and shows as an empty message,
/// which every decoder refuses.
pub fn encode_serde<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap_or_default()
}

pub fn decode_serde<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > SERDE_BYTES_MAX {
        return Err(DecodeError::Bounds("a message's length"));
    }
    let config = bincode::config::standard().with_limit::<SERDE_BYTES_MAX>();
    let (value, used) =
        bincode::serde::decode_from_slice(bytes, config).map_err(|e| DecodeError::Serde(e.to_string()))?;
    if used == bytes.len() { Ok(value) } else { Err(DecodeError::Trailing) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_beyond_the_input_is_refused_before_anything_is_allocated() {
        let mut writer = Writer::new();
        writer.varint(1 << 40);
        assert!(Reader::new(&writer.bytes).slice().is_err());
        assert!(Reader::new(&writer.bytes).count(1).is_err());
        assert!(decode_serde::<Vec<u64>>(&encode_serde(&(1u64 << 40))).is_err());
        assert_eq!(decode_serde::<u8>(&[1, 2]), Err(DecodeError::Trailing));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(n in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut writer = Writer::new();
            writer.varint(n);
            writer.slice(&bytes);
            writer.optional_slice(None);
            writer.optional_slice(Some(&bytes));
            let mut reader = Reader::new(&writer.bytes);
            prop_assert_eq!(reader.varint()?, n);
            prop_assert_eq!(reader.slice()?, &bytes[..]);
            prop_assert_eq!(reader.optional_slice()?, None);
            prop_assert_eq!(reader.optional_slice()?, Some(&bytes[..]));
            prop_assert!(reader.finish().is_ok());
        }

        #[test]
        fn no_input_makes_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&bytes);
            while reader.varint().is_ok() && reader.slice().is_ok() && reader.optional_slice().is_ok() && !reader.is_empty() {}
            let _ = decode_serde::<Vec<(u64, String)>>(&bytes);
        }
    }
}
