//! People about conflicts: they settle one as their node lists it, and take that back.

use serde_json::Value as Json;

use super::oracle::wrong;
use super::probe::Probe;
use super::workload::Deed;
use super::world::World;
use crate::conflict::Conflict;
use crate::document::Address;
use crate::document::plan::{Edit, Write};

/// Decisions that may still be taken back.
const DECIDED_MAX: usize = 16;

/// A write about a conflict, and what must come of it at once where it is made.
#[derive(Debug)]
pub struct Planned {
    pub write: (Address, Write),
    deed: Deed,
    conflict: Conflict,
    /// The value it is settled with.
    value: Json,
}

impl World {
    pub(super) fn plan_deed(&mut self, home: usize, deed: Deed) -> Option<Planned> {
        let conflict = match deed {
            Deed::Reopen => self.clients.decided.pop()?,
            Deed::Settle => {
                let replica = self.hosts[home].replica()?;
                let with_values = |conflict: &&Conflict| !conflict.siblings.is_empty();
                let open: Vec<Conflict> = replica.conflicts().within().filter(with_values).cloned().collect();
                self.chance.pick(&open)?.clone()
            }
        };
        // Keys of maps are settled alike, one place further in.
        let field = conflict.field.clone().filter(|field| !field.contains('.'))?;
        let value = self.chance.pick(&conflict.siblings)?.value.clone();
        let edit = match deed {
            Deed::Settle => Edit::Set { field, value: value.clone() },
            Deed::Reopen => {
                let values = conflict.siblings.iter().map(|sibling| sibling.value.clone()).collect();
                Edit::Siblings { field, key: None, values }
            }
        };
        let address = Address::parse(&conflict.document).ok()?;
        Some(Planned { write: (address, Write::Edits(vec![edit])), deed, conflict, value })
    }

    /// What a deed that was written, not refused, must have come to.
    pub(super) fn check_deed(&mut self, home: usize, planned: Planned) {
        let Planned { deed, conflict, value, .. } = planned;
        let Some(replica) = self.hosts[home].replica() else { return };
        // With a bound of one document a step, the list may be of before the write; reads are not, and are checked elsewhere.
        if replica.conflicts().is_behind() {
            return;
        }
        let field = conflict.field.as_deref().unwrap_or_default();
        let listed = replica.conflicts().of(&conflict.document).iter().find(|now| now.field.as_deref() == Some(field));
        let Some(view) = replica.view(&conflict.document) else { return };
        let text = match deed {
            Deed::Settle if view.fields.get(field) != Some(&value) || listed.is_some() => Some(format!(
                "{} {field} was settled with {value}, and reads {:?}",
                conflict.document,
                view.fields.get(field)
            )),
            Deed::Settle => {
                self.probes.reached(Probe::SettledByPerson);
                self.clients.decided.push(conflict);
                if self.clients.decided.len() > DECIDED_MAX {
                    self.clients.decided.remove(0);
                }
                None
            }
            Deed::Reopen => {
                let values = |siblings: &[crate::document::Sibling]| {
                    siblings.iter().map(|sibling| sibling.value.clone()).collect::<Vec<_>>()
                };
                let now = view.siblings.get(field).map(|siblings| values(siblings)).unwrap_or_default();
                let restored = now == values(&conflict.siblings);
                self.probes.reached_if(Probe::Reopened, restored);
                (!restored).then(|| format!("{} {field} was opened again with {now:?}", conflict.document))
            }
        };
        if let Some(text) = text {
            self.judge(home, wrong("conflicts", text));
        }
    }
}
