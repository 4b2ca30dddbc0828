//! `collection/id`: the name of a document.

use std::fmt;

/// A checked document name. Holding one means it is well formed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Box<str>,
    collection_len: u8,
}

/// Longest id, in bytes.
pub const ID_BYTES_MAX: usize = 512;
/// Longest collection name, in bytes.
pub const COLLECTION_BYTES_MAX: usize = 64;

/// What is wrong with a document's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("`{0}` is no collection name: it takes 1 to 64 of a-z, 0-9, `_`, `-`, and starts with a letter")]
    Collection(String),
    #[error("the id is {0} bytes long: it takes 1 to {ID_BYTES_MAX}")]
    IdLength(usize),
    #[error("the id holds the control character U+{0:04X}: it takes UTF-8 without control characters")]
    IdControl(u32),
    #[error("`{0}` names no document: write collection/id")]
    NoSlash(String),
}

impl Address {
    pub fn new(collection: &str, id: &str) -> Result<Self, AddressError> {
        check_collection(collection)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(AddressError::IdLength(id.len()));
        }
        if let Some(control) = id.chars().find(|c| c.is_control()) {
            return Err(AddressError::IdControl(control as u32));
        }
        Ok(Self { text: format!("{collection}/{id}").into(), collection_len: collection.len() as u8 })
    }

    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (collection, id) =
            text.split_once('/').ok_or_else(|| AddressError::NoSlash(text.chars().take(80).collect()))?;
        Self::new(collection, id)
    }

    pub fn collection(&self) -> &str {
        &self.text[..self.collection_len as usize]
    }

    pub fn id(&self) -> &str {
        &self.text[self.collection_len as usize + 1..]
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Refuses what is not `[a-z][a-z0-9_-]{0,63}`.
pub fn check_collection(name: &str) -> Result<(), AddressError> {
    let tail = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    let well_formed = name.len() <= COLLECTION_BYTES_MAX
        && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && name.bytes().all(tail);
    if well_formed { Ok(()) } else { Err(AddressError::Collection(name.chars().take(80).collect())) }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_hold_slashes_and_a_collection_may_not() {
        let address = Address::parse("tasks/7/agents/a").unwrap();
        assert_eq!((address.collection(), address.id()), ("tasks", "7/agents/a"));
    }

    #[test]
    fn malformed_names_are_refused_with_their_reason() {
        assert!(matches!(Address::parse("vms"), Err(AddressError::NoSlash(_))));
        assert!(matches!(Address::parse("vms/"), Err(AddressError::IdLength(0))));
        assert!(matches!(Address::parse("Vms/a"), Err(AddressError::Collection(_))));
        assert!(matches!(Address::parse("9/a"), Err(AddressError::Collection(_))));
        assert!(matches!(Address::parse("vms/a\nb"), Err(AddressError::IdControl(10))));
        assert!(matches!(Address::new("vms", &"x".repeat(513)), Err(AddressError::IdLength(513))));
    }
}
