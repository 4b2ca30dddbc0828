//! Clocks one could go back to. A record of something that can be taken back carries where the state stood before it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::detail::BEFORE;
use super::kind::Kind;
use super::record::Record;
use crate::clock::{HybridTime, ReplicaId};

/// Replicas of a mark. Beyond it the clock would not fit into a detail (100 bytes each), and the mark keeps its time only.
pub const MARK_REPLICAS_MAX: usize = 512;

/// Where the state stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at: HybridTime,
    /// For each replica the highest seq covered. `None`: it was too long, or is not known; one can go back by time.
    pub clock: Option<BTreeMap<ReplicaId, u64>>,
}

impl Mark {
    pub fn new(at: HybridTime, clock: BTreeMap<ReplicaId, u64>) -> Self {
        Self { at, clock: Some(clock).filter(|clock| clock.len() <= MARK_REPLICAS_MAX) }
    }

    /// Put this into a detail under [`BEFORE`].
    pub fn to_value(&self) -> Value {
        let mut value = json!({ "at": self.at.0 });
        if let Some(clock) = &self.clock {
            value["clock"] = clock.iter().map(|(replica, seq)| (replica.to_string(), Value::from(*seq))).collect();
        }
        value
    }

    /// The mark in a detail; `None` when it has none that can be read whole.
    pub fn of_detail(detail: &Value) -> Option<Self> {
        let value = detail.get(BEFORE)?;
        let at = HybridTime(value.get("at")?.as_u64()?);
        let Some(clock) = value.get("clock") else { return Some(Self { at, clock: None }) };
        let entry = |(replica, seq): (&String, &Value)| Some((replica.parse().ok()?, seq.as_u64()?));
        let clock = clock.as_object()?.iter().map(entry).collect::<Option<_>>()?;
        Some(Self { at, clock: Some(clock) })
    }
}

/// A record one can go back to before.
#[derive(Clone, Debug, PartialEq)]
pub struct RollbackPoint {
    pub record: Record,
    pub mark: Mark,
}

/// What a list of points shows of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub index: u64,
    pub at_ms: u64,
    pub before: String,
    pub document: Option<String>,
    pub actor: String,
    /// Whether the exact clock is known, or only the time.
    pub exact: bool,
}

impl RollbackPoint {
    pub fn summary(&self) -> Summary {
        let Record { index, at_ms, kind, document, actor, .. } = self.record.clone();
        Summary { index, at_ms, before: kind.name().to_owned(), document, actor, exact: self.mark.clock.is_some() }
    }
}

/// Kinds that change state or rules, and so carry a mark. For [`Query::kinds`](super::Query::kinds).
pub const ROLLBACK_KINDS: [Kind; 7] =
    [Kind::Resolved, Kind::Voted, Kind::Overruled, Kind::RolledBack, Kind::PolicyChanged, Kind::Reopened, Kind::Undone];

/// The points among records: ask a [`Query`](super::Query) for them by [`ROLLBACK_KINDS`], page by page.
pub fn rollback_points(records: impl IntoIterator<Item = Record>) -> impl Iterator<Item = RollbackPoint> {
    records.into_iter().filter_map(|record| {
        let mark = ROLLBACK_KINDS.contains(&record.kind).then(|| Mark::of_detail(&record.detail)).flatten()?;
        Some(RollbackPoint { record, mark })
    })
}

#[cfg(test)]
mod tests {
    use super::super::record::Entry;
    use super::*;
    use crate::clock::{Incarnation, NodeId};

    fn mark(replicas: u16) -> Mark {
        let replica = |n: u16| {
            let mut node = [7; 32];
            node[..2].copy_from_slice(&n.to_be_bytes());
            ReplicaId { node: NodeId(node), incarnation: Incarnation([n as u8; 16]) }
        };
        Mark::new(HybridTime::from_ms(1_700_000_000_000), (0..replicas).map(|n| (replica(n), (1 << 40) - 1)).collect())
    }

    fn record(kind: Kind, detail: Value) -> Record {
        Record::decode(&Entry::new(kind, "alice", 5).document("vms/a").detail(detail).encode(3, &[0; 32]).0).unwrap()
    }

    #[test]
    fn a_mark_of_the_largest_clock_survives_in_a_record() {
        let largest = mark(MARK_REPLICAS_MAX as u16);
        let stored = record(Kind::Undone, json!({ BEFORE: largest.to_value() }));
        assert_eq!(Mark::of_detail(&stored.detail), Some(largest));
        let beyond = mark(MARK_REPLICAS_MAX as u16 + 1);
        assert_eq!(beyond.clock, None);
        assert_eq!(Mark::of_detail(&json!({ BEFORE: beyond.to_value() })), Some(beyond));
    }

    #[test]
    fn points_are_what_can_be_taken_back_and_says_from_where() {
        let before = json!({ BEFORE: mark(2).to_value() });
        let torn = json!({ BEFORE: { "at": 1, "clock": { "no replica": 1 } } });
        let records = [
            record(Kind::Resolved, before.clone()),
            record(Kind::Detected, before),
            record(Kind::PolicyChanged, json!({})),
            record(Kind::Undone, torn),
        ];
        let points: Vec<_> = rollback_points(records).collect();
        assert_eq!(points.len(), 1);
        assert_eq!((points[0].mark.clone(), points[0].summary().exact), (mark(2), true));
        assert_eq!(points[0].summary().before, "resolved");
    }
}
