//! One node's word about one cut, as its document `partitions/<when it began>-<who tells>` holds it: one value, written once.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{COLLECTION, FIELD};
use crate::clock::NodeId;

/// Names of each kind in one observation; beyond it they are counted only. At 60 bytes each, and three kinds: 12 KB.
pub const NAMES_MAX: usize = 64;
/// Members named in one observation: more neighbours no node has.
pub const MEMBERS_MAX: usize = 512;

/// Only what a person would ask for is kept: everything here is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Who tells: a node id, like all that name members here.
    pub observer: String,
    /// By the observer's clock, when it last heard of the first that it lost, ms since the Unix epoch ...
    pub from_ms: u64,
    /// ... and when it heard again of the last that came back.
    pub until_ms: u64,
    /// Those that it could not reach and that came back.
    pub lost: Vec<Lost>,
    /// Those that it reached throughout.
    pub reached: Vec<String>,
    /// Those that were still away when it told this.
    pub away: Vec<String>,
    /// Whether those it reached were a quorum, itself counted.
    pub quorum: bool,
    /// Documents that its side changed and one that came back lacked when they met ...
    pub here: u64,
    /// ... those that one that came back had and it lacked ...
    pub there: u64,
    /// ... and those that are both.
    pub both: u64,
    /// Of the last.
    #[serde(default)]
    pub diverged: Vec<String>,
    /// Of all of them, tasks, jobs, and documents with fields that a quorum decides.
    #[serde(default)]
    pub work: u64,
    #[serde(default)]
    pub work_names: Vec<String>,
    /// Locks that changed hands meanwhile, as this voter knows.
    #[serde(default)]
    pub locks: Vec<Moved>,
    /// Conflicts between what one side wrote and what the other did.
    #[serde(default)]
    pub conflicts: u64,
    #[serde(default)]
    pub disputed: Vec<Disputed>,
}

/// One that could not be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lost {
    pub node: String,
    pub from_ms: u64,
    pub until_ms: u64,
    /// It came back as another process: it may have been down for a part of the time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
}

/// A lock, and its token when this was told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moved {
    pub name: String,
    pub token: u64,
}

/// A conflict as it was when both sides had met.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Disputed {
    pub id: String,
    pub document: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Observation {
    /// The fields of its document.
    pub fn fields(&self) -> Map<String, Json> {
        let observed = serde_json::to_value(self).unwrap_or_default();
        Map::from_iter([(FIELD.to_owned(), observed)])
    }

    /// What a document says. Anybody may write one, so that what it says is held to what an observation can be.
    pub fn of(fields: &Map<String, Json>) -> Option<Self> {
        let told = Self::deserialize(fields.get(FIELD)?).ok()?;
        let node = |id: &String| id.parse::<NodeId>().is_ok();
        let members = || told.lost.iter().map(|lost| &lost.node).chain(&told.reached).chain(&told.away);
        let ordered = |from_ms: u64, until_ms: u64| from_ms <= until_ms;
        let short = |names: usize| names <= NAMES_MAX;
        let fits = node(&told.observer)
            && members().all(node)
            && members().count() <= MEMBERS_MAX
            && ordered(told.from_ms, told.until_ms)
            && told.lost.iter().all(|lost| ordered(lost.from_ms, lost.until_ms) && lost.node != told.observer)
            && !told.lost.is_empty()
            && short(told.diverged.len())
            && short(told.work_names.len())
            && short(told.locks.len())
            && short(told.disputed.len());
        fits.then_some(told)
    }
}

/// The id of an observation: in order of time, and of one writer.
pub fn id(from_ms: u64, observer: &NodeId) -> String {
    format!("{from_ms:013}-{}", observer.short())
}

/// Whether a document is one of this observer's.
pub fn is_of(name: &str, observer: &NodeId) -> bool {
    let id = name.strip_prefix(COLLECTION).and_then(|rest| rest.strip_prefix('/'));
    id.and_then(|id| id.split_once('-')).is_some_and(|(_, by)| by == observer.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation() -> Observation {
        let node = |n: u8| NodeId([n; 32]).to_string();
        let lost = Lost { node: node(2), from_ms: 10, until_ms: 20, restarted: false };
        Observation {
            observer: node(1),
            from_ms: 10,
            until_ms: 20,
            lost: vec![lost],
            reached: vec![node(3)],
            away: Vec::new(),
            quorum: true,
            here: 1,
            there: 2,
            both: 1,
            diverged: vec!["vms/1".into()],
            work: 1,
            work_names: vec!["vms/1".into()],
            locks: vec![Moved { name: "vms/1".into(), token: 4 }],
            conflicts: 1,
            disputed: vec![Disputed { id: "c".into(), document: "vms/1".into(), field: None }],
        }
    }

    #[test]
    fn what_is_written_reads_back_and_what_cannot_be_is_not_read() {
        let told = observation();
        assert_eq!(Observation::of(&told.fields()), Some(told.clone()));
        let wrong = [
            Observation { observer: "somebody".into(), ..told.clone() },
            Observation { until_ms: 9, ..told.clone() },
            Observation { lost: Vec::new(), ..told.clone() },
            Observation { diverged: vec![String::new(); NAMES_MAX + 1], ..told.clone() },
        ];
        assert!(wrong.iter().all(|wrong| Observation::of(&wrong.fields()).is_none()));
        assert_eq!(Observation::of(&Map::new()), None);
    }

    #[test]
    fn ids_are_in_order_of_time_and_name_their_writer() {
        let (one, other) = (NodeId([1; 32]), NodeId([2; 32]));
        assert!(id(999, &one) < id(1_700_000_000_000, &other));
        let name = format!("{COLLECTION}/{}", id(5, &one));
        assert!(is_of(&name, &one) && !is_of(&name, &other));
    }
}
