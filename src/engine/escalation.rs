//! Conflicts that wait for too long. What is done about one is a replicated document, `conflicts/<id>`: so all nodes read
//! it alike, and no reading asks what time it is. One node of those that see each other writes it.

use serde_json::{Value as Json, json};

use super::detector::Liveness;
use super::io::Now;
use super::replica::Replica;
use crate::conflict::Conflict;
use crate::conflict::policy::To;
use crate::document::Address;
use crate::document::plan::Write;

/// Where people's and nodes' doings about conflicts are kept.
pub const COLLECTION: &str = "conflicts";
/// How often it is looked whether one waited for too long, ms.
const LOOK_MS: u64 = 1_000;
/// Escalated in one look; the others have their turn at the next.
const AT_ONCE: usize = 64;
/// The status of a note that says so.
pub const ESCALATED: &str = "escalated";

impl Replica {
    /// Writes down what is done about conflicts that waited for too long.
    pub(super) fn escalate_if_due(&mut self, now: Now) {
        let due = self.escalations_due(now);
        self.note_escalations(now);
        let doing = |conflict: Conflict| {
            let fields = json!({
                "status": ESCALATED, "to": conflict.escalate?.to.name(), "document": conflict.document,
                "field": conflict.field, "policy": conflict.policy, "at_ms": now.wall_ms, "by": self.id.node.to_string(),
            });
            let Json::Object(fields) = fields else { return None };
            Some((Address::new(COLLECTION, &conflict.id).ok()?, Write::Put(fields)))
        };
        let writes: Vec<(Address, Write)> = due.into_iter().filter_map(doing).collect();
        if !writes.is_empty() {
            // A clock that fell behind refuses; the next look tries again.
            let _ = self.write(&writes, false, now);
        }
    }

    /// They were looked for, and need not be for a while.
    pub(super) fn note_escalations(&mut self, now: Now) {
        if now.mono_ms() >= self.conflicts.escalated_ms + LOOK_MS {
            self.conflicts.escalated_ms = now.mono_ms();
        }
    }

    /// The conflicts that waited for too long, if it is this node's to say so, now.
    pub(super) fn escalations_due(&self, now: Now) -> Vec<Conflict> {
        // Only policies escalate: without any, no list of conflicts is gone through every second.
        if now.mono_ms() < self.conflicts.escalated_ms + LOOK_MS || self.schemas.policies.is_empty() {
            return Vec::new();
        }
        let late = |conflict: &&Conflict| {
            let newest_ms = conflict.siblings.first().map_or(u64::MAX, |sibling| sibling.at);
            let escalate = conflict.escalate.filter(|_| conflict.escalated.is_none());
            escalate.is_some_and(|escalate| now.wall_ms >= newest_ms.saturating_add(escalate.after_ms))
        };
        let mut due = self.conflicts.within().filter(late).take(AT_ONCE).peekable();
        if due.peek().is_none() || !self.leads() { Vec::new() } else { due.cloned().collect() }
    }

    /// Whether no member that this node sees comes before it. Each side of a partition has its own.
    pub(super) fn leads(&self) -> bool {
        let before = |node: &crate::clock::NodeId| *node < self.id.node && self.liveness(node) == Liveness::Alive;
        !self.members.present().any(|node| before(&node))
    }

    /// What was done about a conflict that waited for too long.
    pub(super) fn escalation(&self, conflict: &str) -> Option<To> {
        let name = format!("{COLLECTION}/{conflict}");
        let view = self.merged(&name, self.state.document(&name)?)?;
        let text = |field: &str| view.fields.get(field).and_then(Json::as_str);
        To::named(text("to")?).filter(|_| text("status") == Some(ESCALATED))
    }
}
