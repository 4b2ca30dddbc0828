//! A removed entry never comes back: what was once dead at a node stays dead there. Kept without the ledger, so that a
//! mistake in one does not hide a mistake in the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ledger::{GlobalDot, Slots};
use super::{Verdict, wrong};
use crate::engine::Replica;

#[derive(Debug, Default)]
pub struct Graveyard {
    alive: BTreeMap<Arc<str>, BTreeSet<GlobalDot>>,
    dead: BTreeSet<GlobalDot>,
}

impl Graveyard {
    /// Looks at documents that changed.
    pub fn check(&mut self, replica: &Replica, slots: &Slots, changed: &[Arc<str>]) -> Verdict {
        for name in changed {
            let document = replica.state().document(name);
            let entries = document.iter().flat_map(|document| document.cells()).flat_map(|cell| cell.valued());
            let now: BTreeSet<GlobalDot> = entries.map(|entry| slots.global(entry.dot)).collect();
            if let Some(risen) = now.iter().find(|dot| self.dead.contains(dot)) {
                return wrong("no-resurrection", format!("an entry of {name} is back ({}:{})", risen.0, risen.1));
            }
            let before = self.alive.insert(name.clone(), now);
            let after = &self.alive[name];
            self.dead.extend(before.iter().flatten().filter(|dot| !after.contains(dot)));
        }
        Ok(())
    }
}
