//! Maps: one cell per key, each read by its own kind. The kind is part of the cell's name, so a key that two nodes
//! believe to be of different kinds never mixes.

use super::kind::FieldKind;

/// `kind tag u8 | key`: what names a map's cell within its field.
pub fn encode_key(kind: FieldKind, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(kind.tag());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// `None` when the bytes name no key, or one of a kind this version does not know.
pub fn decode_key(bytes: &[u8]) -> Option<(FieldKind, &str)> {
    let (tag, key) = bytes.split_first()?;
    let kind = FieldKind::from_tag(*tag).filter(|kind| kind.fits_map())?;
    Some((kind, std::str::from_utf8(key).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_carries_its_kind() {
        let bytes = encode_key(FieldKind::PnCounter, "größe");
        assert_eq!(decode_key(&bytes), Some((FieldKind::PnCounter, "größe")));
        assert_eq!(decode_key(&encode_key(FieldKind::Map, "nested")), None);
        assert_eq!(decode_key(b""), None);
    }
}
