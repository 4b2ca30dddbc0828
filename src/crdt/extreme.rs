//! `max` and `min`: the largest or the smallest of the live values, in the order of [`Value::compare`].

use std::cmp::Ordering;

use super::live::{Change, Live, State};
use super::value::Value;

/// Which end is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Largest,
    Smallest,
}

impl End {
    fn beats(self, a: &Value, b: &Value) -> bool {
        Value::compare(a, b) == if self == End::Largest { Ordering::Greater } else { Ordering::Less }
    }
}

pub fn read(live: &[Live<'_>], end: End) -> Option<Value> {
    let values = live.iter().filter_map(|entry| Value::decode(entry.value).ok());
    values.reduce(|best, value| if end.beats(&value, &best) { value } else { best })
}

/// A write, or `None` when it would not change what is read.
pub fn offer(state: &State<'_>, value: &Value, end: End) -> Option<Change> {
    let improves = read(&state.live, end).is_none_or(|best| end.beats(value, &best));
    improves.then(|| state.replace(value.encode()))
}
