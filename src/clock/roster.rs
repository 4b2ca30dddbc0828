//! The replicas this node has heard of, numbered in the order it heard of them.

use rustc_hash::FxHashMap;

use super::{ReplicaId, Slot};

/// Both directions between global [`ReplicaId`]s and local [`Slot`]s. A slot, once given, is never given again.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    ids: Vec<ReplicaId>,
    /// As each is printed: readers are told the replica of every sibling, and to print one takes a microsecond.
    names: Vec<Box<str>>,
    slots: FxHashMap<ReplicaId, Slot>,
}

impl Roster {
    /// The slot of `id`, numbering it if it is new. `None` when all 2^24 slots are taken.
    pub fn intern(&mut self, id: ReplicaId) -> Option<Slot> {
        if let Some(slot) = self.slots.get(&id) {
            return Some(*slot);
        }
        let slot = u32::try_from(self.ids.len()).ok().filter(|n| *n <= Slot::MAX).map(Slot)?;
        self.ids.push(id);
        self.names.push(id.to_string().into());
        self.slots.insert(id, slot);
        Some(slot)
    }

    pub fn slot(&self, id: &ReplicaId) -> Option<Slot> {
        self.slots.get(id).copied()
    }

    /// The replica at `slot`. Slots come from this roster, so a missing one is a bug of ours.
    pub fn id(&self, slot: Slot) -> &ReplicaId {
        &self.ids[slot.index()]
    }

    /// The replica at `slot`, as it is printed.
    pub fn name(&self, slot: Slot) -> &str {
        &self.names[slot.index()]
    }

    /// Every replica with its slot, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &ReplicaId)> {
        self.ids.iter().enumerate().map(|(i, id)| (Slot(i as u32), id))
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
