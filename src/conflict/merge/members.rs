//! The members of objects and lists, lined up: the same key of the base and of every side, the same element of each.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value as Json, map};

use super::rules::ListRule;
use crate::crdt::Value;

/// Whether objects come in the order of their keys. A program that embeds this one may have built its JSON to keep the
/// order in which keys were written.
static IN_ORDER: LazyLock<bool> = LazyLock::new(|| {
    let map: Map<String, Json> = ["b", "a"].map(|key| (key.to_owned(), Json::Null)).into_iter().collect();
    map.keys().next().is_some_and(|first| first == "a")
});

/// The entries of one object in the order of their keys, taken key by key.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    head: Option<(&'a str, &'a Json)>,
    rest: Rest<'a>,
}

#[derive(Debug)]
enum Rest<'a> {
    None,
    Map(map::Iter<'a>),
    Sorted(std::vec::IntoIter<(&'a str, &'a Json)>),
}

impl<'a> Entries<'a> {
    /// What is no object has no entries.
    pub fn of(json: Option<&'a Json>) -> Self {
        let mut rest = match json {
            Some(Json::Object(map)) if *IN_ORDER => Rest::Map(map.iter()),
            Some(Json::Object(map)) => {
                let mut entries: Vec<_> = map.iter().map(|(key, value)| (key.as_str(), value)).collect();
                entries.sort_by_key(|(key, _)| *key);
                Rest::Sorted(entries.into_iter())
            }
            _ => Rest::None,
        };
        Self { head: rest.next(), rest }
    }

    pub fn key(&self) -> Option<&'a str> {
        self.head.map(|(key, _)| key)
    }

    /// The next value, whatever its key.
    #[inline]
    pub fn next(&mut self) -> Option<&'a Json> {
        let (_, value) = self.head?;
        self.head = self.rest.next();
        Some(value)
    }

    /// The value of `key`, which is not after the next one.
    #[inline]
    pub fn take(&mut self, key: &Key<'a>) -> Option<&'a Json> {
        if key.everywhere || self.key() == Some(key.name) { self.next() } else { None }
    }
}

/// The key of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key<'a> {
    pub name: &'a str,
    /// All have it next: nothing more to compare.
    everywhere: bool,
}

impl<'a> Rest<'a> {
    #[inline]
    fn next(&mut self) -> Option<(&'a str, &'a Json)> {
        match self {
            Rest::None => None,
            Rest::Map(iter) => iter.next().map(|(key, value)| (key.as_str(), value)),
            Rest::Sorted(iter) => iter.next(),
        }
    }
}

/// The smallest of the next keys.
#[inline]
pub(super) fn next_key<'a>(base: &Entries<'a>, sides: &[Entries<'a>]) -> Option<Key<'a>> {
    let mut smallest = base.key();
    let mut everywhere = smallest.is_some();
    for entries in sides {
        let key = entries.key();
        // Most often all are at the same key, and equality is cheaper to see than order.
        if key == smallest {
            continue;
        }
        everywhere = false;
        if key.is_some() && (smallest.is_none() || key < smallest) {
            smallest = key;
        }
    }
    smallest.map(|name| Key { name, everywhere })
}

/// A list whose elements each have an identity of their own: canonical bytes.
#[derive(Debug, Default)]
pub(super) struct Elements<'a> {
    pub in_order: Vec<(Vec<u8>, &'a Json)>,
    places: BTreeMap<Vec<u8>, usize>,
}

impl<'a> Elements<'a> {
    /// `None` where two elements are the same, or one lacks a merge key: then the list is one value.
    pub fn of(items: &'a [Json], rule: &ListRule) -> Option<Self> {
        let mut elements = Self::default();
        for item in items {
            let identity = identity(item, rule)?;
            if elements.places.insert(identity.clone(), elements.in_order.len()).is_some() {
                return None;
            }
            elements.in_order.push((identity, item));
        }
        Some(elements)
    }

    pub fn get(&self, identity: &[u8]) -> Option<&'a Json> {
        self.places.get(identity).and_then(|place| self.in_order.get(*place)).map(|(_, item)| *item)
    }

    pub fn has(&self, identity: &[u8]) -> bool {
        self.places.contains_key(identity)
    }
}

fn identity(item: &Json, rule: &ListRule) -> Option<Vec<u8>> {
    match rule {
        ListRule::Atomic => None,
        ListRule::Set => Some(Value::encode_json(item)),
        ListRule::Keyed(keys) => {
            let mut bytes = Vec::new();
            for key in keys {
                let value = item.as_object()?.get(key)?;
                if value.is_null() || value.is_array() || value.is_object() {
                    return None;
                }
                let value = Value::encode_json(value);
                // A length before each, so that no two pairs of keys run together alike.
                bytes.extend((value.len() as u64).to_le_bytes());
                bytes.extend(value);
            }
            Some(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_line_up_by_key() {
        let (base, a, b) = (json!({"a": 1, "c": 2}), json!({"b": 3, "c": 4}), json!({"d": 5}));
        let mut base = Entries::of(Some(&base));
        let mut sides = [Entries::of(Some(&a)), Entries::of(Some(&b))];
        let mut rows = Vec::new();
        while let Some(key) = next_key(&base, &sides) {
            let own = base.take(&key).cloned();
            rows.push((key.name, own, sides.each_mut().map(|side| side.take(&key).cloned())));
        }
        let some = |n: i64| Some(json!(n));
        assert_eq!(
            rows,
            [
                ("a", some(1), [None, None]),
                ("b", None, [some(3), None]),
                ("c", some(2), [some(4), None]),
                ("d", None, [None, some(5)])
            ]
        );
    }

    #[test]
    fn a_list_with_equal_or_nameless_elements_has_no_identities() {
        let keyed = ListRule::Keyed(vec!["name".into()]);
        let of = |json: &Json, rule: &ListRule| Elements::of(json.as_array().unwrap(), rule).is_some();
        assert!(of(&json!([1, 1.0, "1"]), &ListRule::Set));
        assert!(!of(&json!([1, 2, 1]), &ListRule::Set));
        assert!(of(&json!([{"name": "a"}, {"name": "b"}]), &keyed));
        assert!(!of(&json!([{"name": "a"}, {"name": "a", "x": 1}]), &keyed));
        assert!(!of(&json!([{"name": "a"}, {"x": 1}]), &keyed));
        assert!(!of(&json!([{"name": null}]), &keyed));
        assert!(!of(&json!(["a"]), &keyed));
    }

    #[test]
    fn two_merge_keys_do_not_run_together() {
        let keyed = ListRule::Keyed(vec!["a".into(), "b".into()]);
        let items = json!([{"a": "x", "b": "yz"}, {"a": "xy", "b": "z"}]);
        assert!(Elements::of(items.as_array().unwrap(), &keyed).is_some());
    }
}
