//! A reader with a session never goes back in time: a node that covers the session shows nothing that the session saw
//! dead, and lacks nothing that it saw alive unless that was superseded since.

use std::collections::{BTreeMap, BTreeSet};

use super::ledger::{GlobalDot, Ledger};
use super::state::Shadow;
use super::{Verdict, wrong};
use crate::engine::Replica;

/// What one client has seen.
#[derive(Debug, Default)]
pub struct Session {
    /// The join of the clocks it read at.
    clock: BTreeMap<u32, u64>,
    /// For each document the entries it saw when it last looked.
    seen: BTreeMap<String, BTreeSet<GlobalDot>>,
    dead: BTreeSet<GlobalDot>,
    pub home: usize,
}

impl Session {
    pub fn at(home: usize) -> Self {
        Self { home, ..Self::default() }
    }

    /// Whether a node may answer this client.
    pub fn is_covered_by(&self, shadow: &Shadow) -> bool {
        self.clock.iter().all(|(replica, seq)| shadow.covers((*replica, *seq)))
    }

    /// Reads a document at a node that covers the session.
    pub fn read(&mut self, name: &str, replica: &Replica, shadow: &Shadow, ledger: &Ledger) -> Verdict {
        let document = replica.state().document(name);
        let entries = document.iter().flat_map(|document| document.cells()).flat_map(|cell| cell.valued());
        let now: BTreeSet<GlobalDot> = entries.map(|entry| shadow.slots().global(entry.dot)).collect();
        if let Some(back) = now.iter().find(|dot| self.dead.contains(dot)) {
            return wrong("session", format!("a client sees {} again, which it saw gone", ledger.name(*back)));
        }
        if !shadow.is_blind() {
            for dot in self.seen.get(name).into_iter().flatten().filter(|dot| !now.contains(dot)) {
                let superseded = |op: &super::ledger::Op| op.killed_by.iter().any(|killer| shadow.covers(*killer));
                if !ledger.op(*dot).is_some_and(superseded) {
                    let name = ledger.name(*dot);
                    return wrong("session", format!("a client no longer sees {name}, which nothing superseded"));
                }
            }
        }
        let before = self.seen.insert(name.to_owned(), now);
        let after = &self.seen[name];
        self.dead.extend(before.iter().flatten().filter(|dot| !after.contains(dot)));
        for (slot, seq) in replica.state().clock.iter() {
            let known = self.clock.entry(shadow.slots().number(slot)).or_default();
            *known = seq.max(*known);
        }
        Ok(())
    }

    /// What it wrote is part of what it must see from now on.
    pub fn wrote(&mut self, dot: GlobalDot) {
        let known = self.clock.entry(dot.0).or_default();
        *known = dot.1.max(*known);
    }
}
