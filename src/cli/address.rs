//! The name of a document on the command line, `collection/id`, and how it is written into a URL.

use std::fmt;
use std::str::FromStr;

/// A document's address. Always good once it exists: the rules are those of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    collection: String,
    id: String,
}

const COLLECTION_BYTES_MAX: usize = 64;
const ID_BYTES_MAX: usize = 512;

impl Address {
    pub fn new(collection: &str, id: &str) -> Result<Self, String> {
        check_collection(collection)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(format!("an id has 1 to {ID_BYTES_MAX} bytes, this one has {}", id.len()));
        }
        if id.chars().any(char::is_control) {
            return Err(format!("the id {id:?} holds a control character"));
        }
        // Every HTTP client folds `.` and `..` segments away, also when they are percent-encoded: the request would
        // reach another document than the one named.
        if id.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(format!("the id {id:?} has a `.` or `..` segment, which cannot travel in a URL"));
        }
        Ok(Self { collection: collection.to_owned(), id: id.to_owned() })
    }

    pub fn collection(&self) -> &str {
        &self.collection
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The path of the document in the API. `/` stays a separator, all else that is reserved is encoded.
    pub fn path(&self) -> String {
        format!("/v1/docs/{}/{}", self.collection, encode(&self.id, true))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((collection, id)) = text.split_once('/') else {
            return Err(format!("`{text}` names no document; write collection/id, as in vms/vm-1"));
        };
        Self::new(collection, id)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.id)
    }
}

/// Checks the name of a collection: `[a-z][a-z0-9_-]{0,63}`.
pub fn check_collection(name: &str) -> Result<(), String> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-');
    match first && rest && name.len() <= COLLECTION_BYTES_MAX {
        true => Ok(()),
        false => Err(format!(
            "`{name}` is no collection: a name starts with a lowercase letter, then has lowercase letters, digits, `_` \
             or `-`, {COLLECTION_BYTES_MAX} at most"
        )),
    }
}

/// Percent-encodes all but the unreserved bytes of RFC 3986, and `/` where it separates.
pub fn encode(text: &str, keep_slash: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            b'/' if keep_slash => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Writes a query string: `""` when there is nothing, else `?a=b&c=d`.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut out = String::new();
    for (key, value) in pairs {
        let Some(value) = value else { continue };
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(key);
        out.push('=');
        out.push_str(&encode(value, false));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_all_after_the_first_slash() {
        let address: Address = "vms/rack/7/vm-1".parse().unwrap();
        assert_eq!((address.collection(), address.id()), ("vms", "rack/7/vm-1"));
        assert_eq!(address.path(), "/v1/docs/vms/rack/7/vm-1");
    }

    #[test]
    fn reserved_bytes_are_encoded_and_slashes_are_not() {
        let address: Address = "vms/a b/ü?x#y%z".parse().unwrap();
        assert_eq!(address.path(), "/v1/docs/vms/a%20b/%C3%BC%3Fx%23y%25z");
        assert_eq!(query(&[("prefix", Some("a/b&".into())), ("limit", None)]), "?prefix=a%2Fb%26");
    }

    #[test]
    fn a_bad_address_is_refused_before_anything_is_sent() {
        for bad in ["vms", "vms/", "Vms/x", "1vms/x", "vm s/x", "/x", "vms/a/../b", "vms/.", "vms/a\nb"] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was taken");
        }
        assert!(Address::new(&"a".repeat(65), "x").is_err());
        assert!(Address::new(&"a".repeat(64), &"x".repeat(512)).is_ok());
        assert!(Address::new("a", &"x".repeat(513)).is_err());
    }
}
