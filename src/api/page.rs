//! A page of a listing: after what it begins, and how much it holds.

use super::query::{Parameter, Params, Takes};
use crate::engine::ballot::lock::NAME_MAX;

/// Items of a page, where nobody says how many.
const DEFAULT: u64 = 100;
const MAX: u64 = 1_000;

/// The longest name that is listed is that of a lock.
pub(super) static AFTER: Parameter = Parameter {
    name: "after",
    takes: Takes::Text { bytes_max: NAME_MAX },
    says: "Go on after this one: the `next` of the page before.",
};

pub(super) static LIMIT: Parameter = Parameter {
    name: "limit",
    takes: Takes::Integer { min: 1, max: MAX },
    says: "So many at most (default 100). A page may hold fewer and still have a `next`.",
};

impl Params {
    /// How many a page may hold.
    pub fn limit(&self) -> usize {
        self.integer(&LIMIT).unwrap_or(DEFAULT) as usize
    }

    /// After what it begins.
    pub fn after(&self) -> Option<&str> {
        self.text(&AFTER)
    }
}
