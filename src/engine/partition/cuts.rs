//! Who is away, and who came back a moment ago.
//!
//! A member is away once the failure detector gives it up, counted from when it was last heard. It is back with its first
//! heartbeat. What is kept of a cut until it is told is bounded by the members that this node is linked to, and by
//! [`CHANGED_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::clock::{Clock, NodeId, ReplicaId};

/// Names of changed documents that are held until a cut is told, of all that came back together. Shared with the state:
/// 64 bytes each, 16 MB.
pub const CHANGED_MAX: usize = 1 << 18;
/// A cut is told so long after the last came back: a link that flaps makes one long cut, and no node tells more than one in
/// this time.
pub const SETTLE_MS: u64 = 2_000;
/// What somebody had when it came back may never come: a frozen replica's. Then the rest is told without it.
pub const PATIENCE_MS: u64 = 30_000;
/// After a write that was refused, say because the clock fell behind.
pub const AGAIN_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub struct Cuts {
    pub(super) away: BTreeMap<NodeId, Away>,
    pub(super) back: BTreeMap<NodeId, Back>,
    /// The tokens of locks when the cut began, as far as this voter knows them.
    pub(super) tokens: BTreeMap<Arc<str>, u64>,
    /// Nothing is told before, ms.
    pub(super) not_before_ms: u64,
}

/// A member that cannot be reached.
#[derive(Debug)]
pub(super) struct Away {
    /// When it was last heard, ms.
    pub since_ms: u64,
    /// The process that was heard.
    pub replica: Option<ReplicaId>,
    /// What this node had when it gave the member up.
    pub clock: Clock,
    /// It was back for a moment: what was found out then.
    pub changed: Changed,
}

/// A member that came back, and is not told of yet.
#[derive(Debug)]
pub(super) struct Back {
    pub since_ms: u64,
    pub until_ms: u64,
    pub restarted: bool,
    /// What this node had of the other side when they met, and everything of its own ...
    pub low: Clock,
    /// ... and what the other had then.
    pub high: Clock,
    /// All of the latter came, and was looked at.
    pub met: bool,
    pub changed: Changed,
}

pub(super) type Names = BTreeSet<Arc<str>>;

/// The documents that two lacked of each other when they met.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    /// Changed on this side.
    pub here: Names,
    /// Changed on the other.
    pub there: Names,
}

impl Changed {
    fn len(&self) -> usize {
        self.here.len() + self.there.len()
    }
}

impl Cuts {
    /// Neither away nor back from it.
    pub(super) fn is_apart(&self, node: &NodeId) -> bool {
        self.away.contains_key(node) || self.back.contains_key(node)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.away.is_empty() && self.back.is_empty()
    }

    /// One that came back, and went again before that was told, was away all the time.
    pub(super) fn lose(&mut self, node: NodeId, mut away: Away) {
        if let Some(back) = self.back.remove(&node) {
            (away.since_ms, away.changed) = (back.since_ms, back.changed);
        }
        self.away.entry(node).or_insert(away);
    }

    /// Whether somebody came back and that was not told yet.
    pub fn is_untold(&self) -> bool {
        !self.back.is_empty()
    }

    /// Whether those that came back stay, and all that they had was seen.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        let Some(last_ms) = self.back.values().map(|back| back.until_ms).max() else { return false };
        let seen = self.back.values().all(|back| back.met) || now_ms >= last_ms + PATIENCE_MS;
        now_ms >= self.not_before_ms && now_ms >= last_ms + SETTLE_MS && seen
    }

    /// How many names can still be held.
    pub(super) fn room(&self) -> usize {
        let back = self.back.values().map(|back| back.changed.len());
        let away = self.away.values().map(|away| away.changed.len());
        CHANGED_MAX.saturating_sub(back.chain(away).sum())
    }

    /// What either side changed, as far as those tell that came back.
    pub(super) fn changed(&self) -> Changed {
        let mut all = Changed::default();
        for Back { changed, .. } in self.back.values() {
            all.here.extend(changed.here.iter().cloned());
            all.there.extend(changed.there.iter().cloned());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    fn back(since_ms: u64, until_ms: u64) -> Back {
        let (low, high) = (Clock::new(), Clock::new());
        Back { since_ms, until_ms, restarted: false, low, high, met: true, changed: Changed::default() }
    }

    #[test]
    fn a_cut_is_told_once_who_came_back_stays() {
        let mut cuts = Cuts::default();
        assert!(!cuts.is_due(u64::MAX));
        cuts.back.insert(NODE, back(1_000, 5_000));
        assert!(!cuts.is_due(5_000 + SETTLE_MS - 1));
        assert!(cuts.is_due(5_000 + SETTLE_MS));
        cuts.lose(NODE, Away { since_ms: 5_500, replica: None, clock: Clock::new(), changed: Changed::default() });
        assert!(!cuts.is_due(u64::MAX), "it went again");
        assert_eq!(cuts.away[&NODE].since_ms, 1_000, "one long cut");
    }

    #[test]
    fn what_never_comes_is_waited_for_and_then_not() {
        let mut cuts = Cuts::default();
        cuts.back.insert(NODE, Back { met: false, ..back(0, 1_000) });
        assert!(!cuts.is_due(1_000 + PATIENCE_MS - 1));
        assert!(cuts.is_due(1_000 + PATIENCE_MS));
    }
}
