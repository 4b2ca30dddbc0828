//! A field whose settled value goes to and fro.

use std::collections::BTreeMap;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::patterns::Flapping;

/// Bytes of a flapping value that are shown.
const SHOWN_BYTES_MAX: usize = 200;

/// A value that a field had: told apart by its hash, shown by its start.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    hash: u64,
    shown: String,
}

impl Seen {
    pub fn of(value: &Value) -> Self {
        let text = value.to_string();
        let shown = text[..text.floor_char_boundary(SHOWN_BYTES_MAX)].to_owned();
        Self { hash: xxh3_64(text.as_bytes()), shown }
    }
}

/// To and fro of one field.
#[derive(Clone, Debug)]
pub(super) struct Swing {
    last: Seen,
    before: Option<Seen>,
    /// In the present run between two values, and in the longest.
    returns: u64,
    longest: u64,
    values: [String; 2],
}

impl Swing {
    pub fn new(value: Seen) -> Self {
        Self { last: value, before: None, returns: 0, longest: 0, values: Default::default() }
    }

    pub fn take(&mut self, value: Seen) {
        if value.hash == self.last.hash {
            return;
        }
        let returns = self.before.as_ref().is_some_and(|before| before.hash == value.hash);
        self.returns = if returns { self.returns + 1 } else { 0 };
        let before = std::mem::replace(&mut self.last, value);
        if self.returns > self.longest {
            self.longest = self.returns;
            self.values = [self.last.shown.clone(), before.shown.clone()];
        }
        self.before = Some(before);
    }
}

pub(super) fn flapping(swings: BTreeMap<(String, String), Swing>, least: u64, top: usize) -> Vec<Flapping> {
    let mut found: Vec<Flapping> = swings
        .into_iter()
        .filter(|(_, swing)| swing.longest >= least.max(1))
        .map(|((document, field), swing)| Flapping { document, field, values: swing.values, returns: swing.longest })
        .collect();
    // A stable sort of what is sorted by name.
    found.sort_by_key(|flapping| std::cmp::Reverse(flapping.returns));
    found.truncate(top);
    found
}
