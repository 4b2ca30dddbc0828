//! The schemas of the built-in collections. They declare only what inference would get wrong; a user's schema for the
//! same collection takes their place.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::schema::{Schema, parse_file};

static SCHEMAS: LazyLock<BTreeMap<String, Schema>> =
    LazyLock::new(|| parse_file(include_str!("builtin.toml")).expect("the text is ours, and a test parses it"));

/// `None` for a collection without one.
pub fn builtin(collection: &str) -> Option<&'static Schema> {
    SCHEMAS.get(collection)
}

/// All of them, by collection.
pub fn builtins() -> &'static BTreeMap<String, Schema> {
    &SCHEMAS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_schemas_parse() {
        let heartbeat = builtin("workers").unwrap().fields["heartbeat"];
        assert_eq!(heartbeat.ttl_ms, Some(15_000));
        assert!(builtins().len() >= 5 && builtin("nothing-of-ours").is_none());
    }
}
