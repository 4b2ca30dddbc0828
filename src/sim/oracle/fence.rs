//! What one holder at a time writes to: it refuses a token below the highest that it has seen (invariant 8).

use std::collections::BTreeMap;

use super::{Verdict, wrong};
use crate::engine::ballot::Lock;

#[derive(Debug)]
pub struct Resources {
    oracle: &'static str,
    highest: BTreeMap<String, u64>,
    /// Who was given a thing under which token.
    holders: BTreeMap<(String, u64), String>,
}

impl Resources {
    pub fn of(oracle: &'static str) -> Self {
        Self { oracle, highest: BTreeMap::new(), holders: BTreeMap::new() }
    }

    /// Somebody writes; gives whether the token was overtaken.
    pub fn write(&mut self, name: &str, token: u64) -> bool {
        let highest = self.highest.entry(name.to_owned()).or_default();
        let overtaken = token < *highest;
        *highest = token.max(*highest);
        overtaken
    }

    /// A decision says who holds it.
    pub fn held(&mut self, name: &str, lock: &Lock) -> Verdict {
        let Some(held) = &lock.held else { return Ok(()) };
        let known = self.holders.entry((name.to_owned(), lock.token)).or_insert_with(|| held.holder.clone());
        match *known == held.holder {
            true => Ok(()),
            false => {
                let text = format!("{name} is {}'s and {known}'s under the one token {}", held.holder, lock.token);
                wrong(self.oracle, text)
            }
        }
    }
}
