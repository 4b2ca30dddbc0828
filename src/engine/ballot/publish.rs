//! What was decided about fields, written where everybody reads it: as ordinary entries of the document.
//!
//! Whoever is told of a decision writes it down. One who dies before that leaves it to the voters: each that accepted a value
//! and does not see it written looks after it, and one that is told what was decided writes that.

use super::ask::GUARD;
use super::fields::{Fields, FieldsChange};
use super::guard::Guard;
use super::lock::RequestId;
use crate::crdt::quorum::Decided;
use crate::document::Address;
use crate::document::decided::plan_decided;
use crate::document::plan::PlannedOp;
use crate::document::view::exists;
use crate::engine::io::Now;
use crate::engine::replica::Replica;

/// The first voter looks after what it accepted so long after, and each further one so much later, µs.
const LOOK_US: u64 = 2_000_000;
/// Documents looked after at once. Of the others whoever reads by quorum writes down what was decided.
pub const LOOKED_AFTER_MAX: usize = 4_096;

impl Replica {
    /// Writes down what of the decided fields does not stand in the document yet.
    pub(super) fn publish(&mut self, name: &str, fields: &Fields, now: Now) {
        let Ok(address) = Address::parse(name) else { return };
        self.heed_decided(name, fields, now);
        let planned: Vec<(&Address, PlannedOp)> =
            self.unpublished(name, fields).into_iter().map(|op| (&address, op)).collect();
        if !planned.is_empty() {
            // Where the clock is too far behind to stamp it, or this node is fenced, a later look does, or another's.
            let _ = self.commit(&planned, now);
        }
    }

    /// Nothing where there is no such document here: what is decided is kept under its name.
    fn unpublished(&self, name: &str, fields: &Fields) -> Vec<PlannedOp> {
        let Some(document) = self.state.document(name).filter(|document| exists(document)) else { return Vec::new() };
        let planned = fields.iter().filter_map(|(field, decided)| {
            let decided = Decided { version: decided.version, value: decided.value.as_deref() };
            plan_decided(document, &self.state.roster, field, &decided)
        });
        let mut planned: Vec<PlannedOp> = planned.collect();
        if let Some(first) = planned.first_mut() {
            self.build_on_existence(document, &mut first.supersedes);
        }
        planned
    }

    /// The documents that this node asks a quorum about, and writes to once it is told.
    pub fn documents_asked(&self) -> Vec<String> {
        let names = self.booth.running.keys().filter_map(|register| register.strip_prefix(GUARD));
        names.filter(|name| self.state.is_visible(name)).map(str::to_owned).collect()
    }

    /// This voter accepted a value: what it decides is to be seen in the document before long, and whoever holds the lock is to
    /// renew it. Accepted is not yet decided, and a lock is only taken from who holds it as it was read here.
    pub(super) fn look_after(&mut self, register: &str, value: &[u8], now: Now) {
        let Some(name) = register.strip_prefix(GUARD) else { return };
        let Ok(guard) = Guard::decode(Some(value)) else { return };
        self.booth.watch.saw(name, &guard.lock, now.mono_us);
        if guard.fields.version > 0 && self.booth.looked_after.len() < LOOKED_AFTER_MAX {
            let due_us = now.mono_us + self.patience_us();
            self.booth.looked_after.entry(name.to_owned()).or_insert(due_us);
        }
    }

    /// After a start: all that was accepted before it.
    pub(in crate::engine) fn look_after_all(&mut self, now: Now) {
        let held = self.booth.acceptor.registers();
        let accepted = held.filter_map(|(name, held)| Some((name.clone(), held.accepted.as_ref()?.value.clone())));
        let accepted: Vec<_> = accepted.collect();
        accepted.iter().for_each(|(register, value)| self.look_after(register, value, now));
    }

    /// One voter after the other, so that the first does what the others then need not.
    fn patience_us(&self) -> u64 {
        LOOK_US * (1 + self.booth.place(&self.id.node).unwrap_or_default() as u64)
    }

    /// On every tick.
    pub(super) fn publish_if_due(&mut self, now: Now) {
        let due: Vec<String> = self
            .booth
            .looked_after
            .iter()
            .filter(|(_, due_us)| **due_us <= now.mono_us)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            if self.lacks(&name) {
                // Accepted is not yet decided: a quorum is asked.
                let again_us = now.mono_us + self.patience_us();
                self.booth.looked_after.insert(name.clone(), again_us);
                self.ask_fields_inside(&name, FieldsChange::read(RequestId(0)), now);
            } else {
                self.booth.looked_after.remove(&name);
            }
        }
    }

    /// Whether something that this voter accepted does not stand in the document.
    fn lacks(&self, name: &str) -> bool {
        let held = self.booth.acceptor.get(&format!("{GUARD}{name}"));
        let accepted = held.and_then(|held| held.accepted.as_ref());
        let guard = accepted.and_then(|accepted| Guard::decode(Some(&accepted.value)).ok());
        guard.is_some_and(|guard| !self.unpublished(name, &guard.fields).is_empty())
    }
}
