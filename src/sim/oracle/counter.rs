//! A counter equals the sum of the increments that its node's clock covers: each once, none left out.

use std::collections::BTreeMap;

use super::ledger::GlobalDot;
use super::state::Shadow;
use super::{Verdict, wrong};
use crate::engine::Replica;

/// The increments of the counters that nobody deletes.
#[derive(Debug, Default)]
pub struct Sums {
    /// For each document the transactions' last dots and amounts.
    increments: BTreeMap<String, Vec<(GlobalDot, i64)>>,
}

impl Sums {
    pub fn incremented(&mut self, document: &str, dot: GlobalDot, by: i64) {
        self.increments.entry(document.to_owned()).or_default().push((dot, by));
    }

    pub fn check(&self, document: &str, field: &str, replica: &Replica, shadow: &Shadow) -> Verdict {
        let Some(increments) = self.increments.get(document).filter(|_| !shadow.is_blind()) else { return Ok(()) };
        let covered = increments.iter().filter(|(dot, _)| shadow.covers(*dot));
        let expected: i64 = covered.clone().map(|(_, by)| by).sum();
        let view = replica.view(document);
        let shown = view.as_ref().and_then(|view| view.fields.get(field)).and_then(serde_json::Value::as_i64);
        match shown {
            Some(shown) if shown == expected => Ok(()),
            None if covered.count() == 0 || expected == 0 => Ok(()),
            shown => wrong("counter", format!("{document} shows {shown:?}, its increments come to {expected}")),
        }
    }

    pub fn check_all(&self, field: &str, replica: &Replica, shadow: &Shadow) -> Verdict {
        self.increments.keys().try_for_each(|document| self.check(document, field, replica, shadow))
    }
}
