//! This node's own anchor, on its way to the others: the field `audit` of `members/<node>`, in hex.

use serde_json::Value as Json;

use crate::clock::NodeId;
use crate::document::plan::{Edit, Write};
use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::history::audit::Anchor;
use crate::history::audit::chain::ANCHOR_MS;

/// The field of a member's document.
pub const FIELD: &str = "audit";
/// The first anchor of a process comes this long after its start, so that a node that comes up brings one write, not
/// two, into the first seconds of others ...
const FIRST_MS: u64 = 5_000;
/// ... and anchors of a fleet that starts at once are spread, by the ids, over this much for each member: at 1,000 members
/// 20 writes a second, for 50 seconds, instead of 1,000 at once.
const SPREAD_MS: u64 = 50;
/// At most this much, so that an anchor a minute stays one.
const SPREAD_MS_MAX: u64 = 50_000;
/// After a write that was refused, say because the clock fell behind.
const AGAIN_MS: u64 = 1_000;

impl Replica {
    /// When the first anchor of this process is due: not within a minute of the last one of the process before.
    pub(super) fn plan_anchor(&mut self, now: Now) {
        let own = self.id.node;
        let last_ms = self.audit.anchors.of(&own).map(|anchor| anchor.at_ms).max().unwrap_or(0);
        let since_ms = now.wall_ms.saturating_sub(last_ms);
        self.audit.due_ms = now.mono_ms() + ANCHOR_MS.saturating_sub(since_ms).max(FIRST_MS);
        self.audit.published = self.anchor_told_of(&own);
    }

    /// Writes the anchor into this node's member document when it is time: at most once a minute, and only while there
    /// are records that the last one does not name. A quiet node is silent.
    pub(in crate::engine) fn publish_anchor_if_due(&mut self, now: Now) {
        if !self.is_anchor_due(now) {
            return;
        }
        self.audit.due_ms = now.mono_ms() + ANCHOR_MS - self.spread_ms();
        self.mark_head(now);
        let Some(anchor) = self.audit.marked else { return };
        let Ok(address) = self.member_address(self.id.node) else { return };
        let set = Edit::Set { field: FIELD.into(), value: anchor.to_hex().into() };
        match self.write(&[(address, Write::Edits(vec![set]))], false, now) {
            Ok(_) => (self.audit.published, self.audit.marked) = (Some(anchor), None),
            Err(_) => self.audit.due_ms = now.mono_ms() + AGAIN_MS,
        }
    }

    /// Whether this node would write an anchor now.
    pub fn is_anchor_due(&self, now: Now) -> bool {
        let audit = &self.audit;
        if now.mono_ms() < audit.due_ms
            || now.mono_ms() < audit.due_ms.saturating_add(self.spread_ms())
            || self.cluster().is_none()
        {
            return false;
        }
        let member = self.members.get(&self.id.node).is_some_and(|member| !member.left);
        member && (audit.chain.anchor_due(u64::MAX) || audit.marked.is_some())
    }

    /// This node's place among the others of a fleet that started at once.
    fn spread_ms(&self) -> u64 {
        let [high, low, ..] = self.id.node.0;
        let over_ms = (self.members.len() as u64 * SPREAD_MS).min(SPREAD_MS_MAX);
        (over_ms * u64::from(u16::from_be_bytes([high, low]))) >> 16
    }

    /// The anchor that a member's document tells, if it is that member's.
    fn anchor_told_of(&self, node: &NodeId) -> Option<Anchor> {
        let view = self.view(&format!("{}/{node}", crate::engine::member::COLLECTION))?;
        let anchor = view.fields.get(FIELD).and_then(Json::as_str).and_then(|hex| Anchor::from_hex(hex).ok())?;
        let check =
            |node: &NodeId, message: &[u8; 32], signature: &[u8; 64]| self.keys.verify(node, message, signature);
        (anchor.node == *node && anchor.verify(&check)).then_some(anchor)
    }

    /// Takes the anchor that a member's document tells.
    pub(in crate::engine) fn hold_anchor(&mut self, node: &NodeId) {
        if let Some(anchor) = self.anchor_told_of(node) {
            self.audit.anchors.hold(&anchor, *node == self.id.node, &mut self.audit.rows);
            self.persistence.touch();
        }
    }
}
