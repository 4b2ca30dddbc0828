//! Fencing a replica at a seq, by a quorum: what it wrote later is kept aside until it is released or discarded.
//!
//! A replica is one incarnation of a node. A fence is one decided field of `replicas/<incarnation>`, so that all nodes read
//! the same. [`Fence`] is that decision, [`aside`] what is kept of the batches it bars, [`heeding`] what a node does about
//! it:
//!
//! - Live batches of a fenced replica that end beyond the fence are kept aside, whoever passed them on.
//! - Nothing is taken over from the fenced node's own state while that state reflects more: a state cannot be taken in part,
//!   since what a later op superseded is gone from it.
//! - What some other member had taken in before it heard of the fence is taken over from it: it cannot be taken back, only
//!   be reverted by writes. Every member ends with the same.
//! - The fenced node itself, once it hears of it, writes nothing and gives its state to nobody. If the rest is discarded, it
//!   sets its store aside at its next start and takes over what the others have.

mod aside;
mod heeding;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::ballot::lock::RequestId;
use super::ballot::{Fields, FieldsChange};
use super::persist::{Tree, WriteBatch};
use super::rows::Loaded;
use crate::clock::{Clock, Dot, Incarnation, NodeId, ReplicaId, Roster, Slot};
use crate::crdt::Value;
use crate::document::view::DocumentView;
use crate::document::{Address, AddressError, builtin};

pub use aside::{Aside, Kept};
pub use heeding::Standing;

pub const COLLECTION: &str = "replicas";
/// The decided field that holds a [`Fence`].
pub const FIELD: &str = "fence";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FenceState {
    /// Later batches are kept aside.
    Fenced,
    /// It is as if there had been none.
    Released,
    /// The replica ends at the seq, for good.
    Discarded,
}

/// What a quorum decided about a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// `<node id>/<incarnation>`.
    pub replica: String,
    /// How many decisions about the replica this makes: the latest is in force.
    pub version: u64,
    /// The last of its ops that is let in.
    pub seq: u64,
    pub state: FenceState,
    /// Who decided it, for the record.
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub at_ms: u64,
}

impl Fence {
    /// Whether ops up to `last` go beyond it.
    pub fn bars(&self, last: u64) -> bool {
        self.state != FenceState::Released && last > self.seq
    }

    /// Whether `next` may follow. What was discarded is gone: that is never taken back.
    pub fn may_become(before: Option<&Fence>, next: FenceState) -> bool {
        match (before.map(|fence| fence.state), next) {
            (None | Some(FenceState::Released), next) => next == FenceState::Fenced,
            (Some(FenceState::Fenced), next) => next != FenceState::Fenced,
            (Some(FenceState::Discarded), _) => false,
        }
    }

    /// The document that a replica's fence is decided in.
    pub fn address(replica: &ReplicaId) -> Result<Address, AddressError> {
        let id = replica.to_string();
        Address::new(COLLECTION, id.rsplit('/').next().unwrap_or_default())
    }

    /// `None` where the document `name` holds none, or what no node wrote.
    pub fn of_view(name: &str, view: &DocumentView) -> Option<(ReplicaId, Fence)> {
        Self::of_json(name, view.fields.get(FIELD)?.clone())
    }

    /// The same of what a quorum decided, before it stands in the document.
    pub fn of_decided(name: &str, fields: &Fields) -> Option<(ReplicaId, Fence)> {
        Self::of_json(name, Value::decode(fields.get(FIELD)?).ok()?.into_json())
    }

    fn of_json(name: &str, json: Json) -> Option<(ReplicaId, Fence)> {
        let fence: Fence = serde_json::from_value(json).ok()?;
        let replica: ReplicaId = fence.replica.parse().ok()?;
        let is_its_own = Fence::address(&replica).is_ok_and(|address| address.as_str() == name);
        (is_its_own && fence.seq <= Dot::SEQ_MAX).then_some((replica, fence))
    }

    /// Has `next` decided, if `known` is still what is.
    pub fn change(request: RequestId, known: Option<&Fence>, next: &Fence) -> FieldsChange {
        let value = |fence: &Fence| Value::encode_json(&serde_json::to_value(fence).unwrap_or_default());
        FieldsChange {
            tests: vec![(FIELD.to_owned(), known.map(value))],
            set: vec![(FIELD.to_owned(), Some(value(next)))],
            ..FieldsChange::read(request)
        }
    }
}

/// The fences that were ever decided, and what is kept aside for them.
#[derive(Debug, Default)]
pub struct Fences {
    by_slot: BTreeMap<Slot, Fence>,
    pub(super) aside: Aside,
    /// The last op of a replica beyond its fence that its node told to have, while it does.
    told: BTreeMap<Slot, u64>,
    /// Released, and what was kept aside is not taken in yet.
    released: BTreeSet<Slot>,
    /// The replicas of this node that wrote into this very store. What a store that was begun anew holds of the earlier
    /// ones came from others, and no fence is about that.
    wrote: BTreeSet<Incarnation>,
    /// The row that says so of this process is not on the disk yet.
    untold: Option<Incarnation>,
}

/// How the keys begin that name who wrote into a store.
pub(super) const WROTE: &[u8] = b"wrote/";

impl Fences {
    pub(super) fn load(
        aside: BTreeMap<(Slot, u64), Vec<u8>>,
        mut wrote: BTreeSet<Incarnation>,
        own: Incarnation,
    ) -> Self {
        let untold = wrote.insert(own).then_some(own);
        Self { aside: Aside::load(aside), wrote, untold, ..Self::default() }
    }

    /// What a disk does not have yet.
    pub(super) fn take_rows(&mut self, rows: &mut WriteBatch) {
        if let Some(own) = self.untold.take() {
            rows.put(Tree::Aside, [WROTE, own.0.as_slice()].concat(), Vec::new());
        }
        self.aside.take_rows(rows);
    }

    pub fn get(&self, slot: Slot) -> Option<&Fence> {
        self.by_slot.get(&slot)
    }

    /// How ops of a replica up to `last` are barred, if they are.
    pub fn bars(&self, slot: Slot, last: u64) -> Option<FenceState> {
        self.by_slot.get(&slot).filter(|fence| fence.bars(last)).map(|fence| fence.state)
    }

    /// Of the replicas of `node`, what `theirs` reflects beyond both a fence and `ours`.
    fn beyond(&self, roster: &Roster, node: &NodeId, theirs: &Clock, ours: &Clock) -> impl Iterator<Item = Slot> {
        let of_node = self.by_slot.iter().filter(|(slot, _)| roster.id(**slot).node == *node);
        let beyond = of_node.filter(|(slot, fence)| {
            let seq = theirs.get(**slot);
            fence.bars(seq) && seq > ours.get(**slot)
        });
        beyond.map(|(slot, _)| *slot)
    }

    /// Whether a fence keeps the others from taking over what `node` has. One that was discarded does while its node still
    /// tells to have more: begun anew, it is as any other.
    fn is_fenced(&self, roster: &Roster, node: &NodeId) -> bool {
        let mut of_node = self.by_slot.iter().filter(|(slot, _)| roster.id(**slot).node == *node);
        of_node.any(|(slot, fence)| match fence.state {
            FenceState::Fenced => true,
            FenceState::Released => false,
            FenceState::Discarded => self.told.contains_key(slot),
        })
    }
}

impl Loaded {
    /// Why the store cannot be gone on with, if this node wrote into it what a quorum discarded.
    pub fn discarded(&self, node: &NodeId) -> Option<String> {
        let schema = builtin(COLLECTION).cloned().unwrap_or_default();
        let prefix = format!("{COLLECTION}/");
        let names = self.state.names_from(std::ops::Bound::Included(prefix.as_str())).map(|(name, _)| name);
        let fences = names.take_while(|name| name.starts_with(&prefix)).filter_map(|name| {
            Fence::of_view(name, &DocumentView::of(self.state.document(name)?, &schema, &self.state.roster)?)
        });
        let mut discarded = fences.filter(|(replica, fence)| {
            let seq = self.state.roster.slot(replica).map_or(0, |slot| self.state.clock.get(slot));
            let is_own = replica.node == *node && self.wrote.contains(&replica.incarnation);
            is_own && fence.state == FenceState::Discarded && fence.bars(seq)
        });
        discarded.next().map(|(_, Fence { replica, seq, by, .. })| {
            format!("a quorum discarded what replica {replica} wrote after seq {seq} (by {by})")
        })
    }
}
