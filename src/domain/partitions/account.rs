//! Observations of many nodes, put together to what happened.
//!
//! Two observations are of one partition when their times meet and they name a node in common: an observer, or one that
//! could not be reached. An account takes the id of its earliest observation, and is found under that of any of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::dispute::Dispute;
use super::sides::{OneWay, Picture, Side};
use crate::clock::NodeId;
use crate::engine::partition::{Disputed, Lost, Moved, Observation};

/// Hosts notice a cut up to two seconds late, and their clocks differ: observations of one cut meet within this time.
pub const TOLERANCE_MS: u64 = 2_500;
/// Names of each kind in one account.
pub const NAMES_MAX: usize = 256;

/// The account of one partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Partition {
    pub id: String,
    /// By the clocks of those that tell, ms since the Unix epoch.
    pub from_ms: u64,
    pub until_ms: u64,
    /// Everybody who could not be reached has told what it saw itself.
    pub complete: bool,
    /// Those that have not: cut off still, or restarted meanwhile.
    pub silent: Vec<String>,
    /// When most were apart; the largest first.
    pub sides: Vec<Side>,
    pub one_way: Vec<OneWay>,
    /// Pairs that were apart, though others of their side reached both.
    pub apart_within: Vec<[String; 2]>,
    /// Those that had not come back when this was told.
    pub away: Vec<String>,
    /// Documents that both sides changed.
    pub diverged: Counted,
    /// Tasks, jobs, and documents with fields that a quorum decides, which either side changed.
    pub work: Counted,
    /// Locks that changed hands, with the token after it.
    pub locks: Vec<Moved>,
    /// How many conflicts there were between the sides.
    pub conflict_count: u64,
    /// How they were settled.
    pub conflicts: Vec<Dispute>,
    /// What members are called.
    pub names: BTreeMap<String, String>,
    /// Who told what.
    pub observations: Vec<Told>,
    #[serde(skip)]
    pub disputed: Vec<Disputed>,
}

/// How many, and some of their names, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub count: u64,
    pub names: Vec<String>,
}

/// What one node says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    pub id: String,
    pub observer: String,
    pub from_ms: u64,
    pub until_ms: u64,
    pub lost: Vec<Lost>,
    pub reached: Vec<String>,
    pub away: Vec<String>,
    pub quorum: bool,
    pub here: u64,
    pub there: u64,
    pub both: u64,
}

/// Puts observations together, by their ids; the oldest partition first.
pub fn accounts(observations: &[(String, Observation)]) -> Vec<Partition> {
    let mut ordered: Vec<&(String, Observation)> = observations.iter().collect();
    ordered.sort_by(|(a, told), (b, other)| (told.from_ms, a).cmp(&(other.from_ms, b)));
    grouped(&ordered).iter().map(|group| Partition::of(group)).collect()
}

/// Observations in order of time, in groups.
fn grouped<'a>(ordered: &[&'a (String, Observation)]) -> Vec<Vec<&'a (String, Observation)>> {
    let mut groups = Groups { parents: (0..ordered.len()).collect() };
    // For each node the observation that names it and lasts longest: whatever else still lasts is grouped with that one.
    let mut last: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for (at, (_, told)) in ordered.iter().enumerate() {
        for node in told.lost.iter().map(|lost| lost.node.as_str()).chain([told.observer.as_str()]) {
            let (until_ms, longest) = last.entry(node).or_insert((told.until_ms, at));
            if told.from_ms <= until_ms.saturating_add(TOLERANCE_MS) {
                groups.join(at, *longest);
            }
            if told.until_ms >= *until_ms {
                (*until_ms, *longest) = (told.until_ms, at);
            }
        }
    }
    let mut by_first: BTreeMap<usize, Vec<&'a (String, Observation)>> = BTreeMap::new();
    for (at, told) in ordered.iter().enumerate() {
        by_first.entry(groups.first(at)).or_default().push(told);
    }
    by_first.into_values().collect()
}

/// Sets that are joined; each is known by its first.
struct Groups {
    parents: Vec<usize>,
}

impl Groups {
    fn first(&mut self, mut at: usize) -> usize {
        while self.parents[at] != at {
            self.parents[at] = self.parents[self.parents[at]];
            at = self.parents[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first(a), self.first(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

impl Partition {
    /// Of observations in order of time, at least one.
    fn of(group: &[&(String, Observation)]) -> Self {
        let told: Vec<Told> = group.iter().map(|(id, told)| Told::of(id, told)).collect();
        let all = || group.iter().map(|(_, told)| told);
        let observers: BTreeSet<&str> = all().map(|told| told.observer.as_str()).collect();
        let lost: BTreeSet<&str> = all().flat_map(|told| &told.lost).map(|lost| lost.node.as_str()).collect();
        let named = |node: &&str| !observers.contains(node) && !lost.contains(node);
        let away: BTreeSet<&str> = all().flat_map(|told| &told.away).map(String::as_str).filter(named).collect();
        let owned = |nodes: BTreeSet<&str>| nodes.into_iter().map(str::to_owned).collect::<Vec<String>>();
        let silent = owned(lost.difference(&observers).copied().collect());
        let Picture { sides, one_way, apart_within } = Picture::of(&told);
        let disputed: BTreeSet<Disputed> = all().flat_map(|told| told.disputed.iter().cloned()).collect();
        Self {
            id: told.first().map(|told| told.id.clone()).unwrap_or_default(),
            from_ms: all().map(|told| told.from_ms).min().unwrap_or_default(),
            until_ms: all().map(|told| told.until_ms).max().unwrap_or_default(),
            complete: silent.is_empty(),
            silent,
            sides,
            one_way,
            apart_within,
            away: owned(away),
            diverged: Counted::of(all().map(|told| (told.both, &told.diverged))),
            work: Counted::of(all().map(|told| (told.work, &told.work_names))),
            locks: locks(all()),
            conflict_count: all().map(|told| told.conflicts).max().unwrap_or_default().max(disputed.len() as u64),
            conflicts: Vec::new(),
            names: BTreeMap::new(),
            observations: told,
            disputed: disputed.into_iter().take(NAMES_MAX).collect(),
        }
    }

    /// Whether it is found under this id.
    pub fn is_called(&self, id: &str) -> bool {
        self.observations.iter().any(|told| told.id == id)
    }

    /// Notes what all members that it names are called.
    pub fn tell_names(&mut self, name: impl Fn(&NodeId) -> Option<String>) {
        let of_sides = self.sides.iter().flat_map(|side| &side.members);
        let named = of_sides.chain(&self.away).filter_map(|id| Some((id.clone(), name(&id.parse().ok()?)?)));
        self.names = named.collect();
    }
}

impl Counted {
    /// Each tells of some of what there is: it is as many as the one that saw most tells, or as have names.
    fn of<'a>(told: impl Iterator<Item = (u64, &'a Vec<String>)>) -> Self {
        let (mut most, mut names) = (0, BTreeSet::new());
        for (count, some) in told {
            most = most.max(count);
            names.extend(some.iter().cloned());
        }
        Self { count: most.max(names.len() as u64), names: names.into_iter().take(NAMES_MAX).collect() }
    }
}

impl Told {
    fn of(id: &str, told: &Observation) -> Self {
        let Observation { observer, from_ms, until_ms, lost, reached, away, quorum, here, there, both, .. } =
            told.clone();
        Self { id: id.to_owned(), observer, from_ms, until_ms, lost, reached, away, quorum, here, there, both }
    }
}

/// Each with the highest token that anybody tells.
fn locks<'a>(told: impl Iterator<Item = &'a Observation>) -> Vec<Moved> {
    let mut tokens: BTreeMap<&str, u64> = BTreeMap::new();
    for Moved { name, token } in told.flat_map(|told| &told.locks) {
        let highest = tokens.entry(name).or_default();
        *highest = (*highest).max(*token);
    }
    tokens.into_iter().take(NAMES_MAX).map(|(name, token)| Moved { name: name.to_owned(), token }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> String {
        NodeId([n; 32]).to_string()
    }

    fn nodes(of: &[u8]) -> Vec<String> {
        let mut nodes: Vec<String> = of.iter().map(|n| node(*n)).collect();
        nodes.sort_unstable();
        nodes
    }

    /// What a node tells of those that it lost and those that it reached.
    fn told(by: u8, from_ms: u64, until_ms: u64, lost: &[u8], reached: &[u8]) -> (String, Observation) {
        let lost =
            nodes(lost).into_iter().map(|node| Lost { node, from_ms, until_ms, restarted: false }).collect::<Vec<_>>();
        let observation = Observation {
            observer: node(by),
            from_ms,
            until_ms,
            lost,
            reached: nodes(reached),
            away: Vec::new(),
            quorum: reached.len() > 1,
            here: u64::from(by),
            there: 0,
            both: 0,
            diverged: Vec::new(),
            work: 0,
            work_names: Vec::new(),
            locks: Vec::new(),
            conflicts: 0,
            disputed: Vec::new(),
        };
        (format!("{from_ms:013}-{by}"), observation)
    }

    fn sides(partition: &Partition) -> Vec<Vec<String>> {
        partition.sides.iter().map(|side| side.members.clone()).collect()
    }

    #[test]
    fn what_five_nodes_tell_of_one_cut_is_one_account_whatever_its_order() {
        let mut all = vec![
            told(1, 10_000, 20_000, &[3, 4, 5], &[2]),
            told(2, 10_400, 20_300, &[3, 4, 5], &[1]),
            told(3, 9_700, 19_800, &[1, 2], &[4, 5]),
            told(4, 10_000, 20_100, &[1, 2], &[3, 5]),
            told(5, 10_900, 20_000, &[1, 2], &[3, 4]),
        ];
        let accounts_before = accounts(&all);
        let [partition] = &accounts_before[..] else { panic!("{accounts_before:?}") };
        assert_eq!((partition.id.as_str(), partition.from_ms, partition.until_ms), ("0000000009700-3", 9_700, 20_300));
        assert_eq!(sides(partition), [nodes(&[3, 4, 5]), nodes(&[1, 2])]);
        assert_eq!(partition.sides.iter().map(|side| side.quorum).collect::<Vec<_>>(), [Some(true), Some(false)]);
        assert!(partition.complete && partition.one_way.is_empty() && partition.apart_within.is_empty());
        assert!(partition.is_called("0000000010900-5"));
        all.reverse();
        assert_eq!(accounts(&all), accounts_before);
    }

    #[test]
    fn cuts_far_apart_in_time_or_without_a_node_in_common_are_partitions_of_their_own() {
        let all = [
            told(1, 10_000, 20_000, &[2], &[3]),
            told(2, 10_000, 20_000, &[1], &[3]),
            told(1, 20_001 + TOLERANCE_MS, 30_000, &[2], &[3]),
            told(7, 11_000, 19_000, &[8], &[]),
        ];
        let found: Vec<usize> = accounts(&all).iter().map(|partition| partition.observations.len()).collect();
        assert_eq!(found, [2, 1, 1]);
    }

    #[test]
    fn who_has_not_told_is_named() {
        let all = [told(1, 0, 9_000, &[3], &[2]), told(2, 0, 9_000, &[3], &[1])];
        let partition = accounts(&all).remove(0);
        assert_eq!((partition.complete, partition.silent.clone()), (false, nodes(&[3])));
        assert_eq!(sides(&partition), [nodes(&[1, 2]), nodes(&[3])]);
        assert_eq!(partition.sides[1].quorum, None);
    }

    #[test]
    fn a_cut_in_one_direction_and_one_that_others_bridge_are_told_as_such() {
        // 3 reaches both; 1 has lost 2, which is told nothing of it, and 4 and 5 lost each other.
        let all = [
            told(1, 0, 9_000, &[2], &[3]),
            told(4, 0, 9_000, &[5, 2], &[3]),
            told(5, 0, 9_000, &[4], &[3]),
            told(2, 0, 9_000, &[4], &[1, 3]),
        ];
        let partition = accounts(&all).remove(0);
        assert_eq!(sides(&partition), [nodes(&[1, 2, 3, 4, 5])]);
        assert_eq!(partition.one_way, [OneWay { node: node(1), could_not_reach: node(2) }]);
        assert_eq!(partition.apart_within.len(), 3, "{:?}", partition.apart_within);
    }

    #[test]
    fn sides_are_those_of_the_moment_when_most_were_apart() {
        // First 1 alone is cut off, and ten seconds later 1 and 2 from the others; the second is wider.
        let first = |mut told: (String, Observation), n: u8| {
            told.1.lost.push(Lost { node: node(n), from_ms: 30_000, until_ms: 40_000, restarted: false });
            (told.0, Observation { until_ms: 40_000, ..told.1 })
        };
        let all = [
            first(told(3, 10_000, 40_000, &[1], &[4]), 2),
            first(told(4, 10_000, 40_000, &[1], &[3]), 2),
            told(2, 30_000, 40_000, &[3, 4], &[1]),
            told(1, 30_000, 40_000, &[3, 4], &[2]),
        ];
        let partition = accounts(&all).remove(0);
        let mut expected = vec![nodes(&[1, 2]), nodes(&[3, 4])];
        expected.sort();
        assert_eq!(sides(&partition), expected);
    }

    #[test]
    fn of_locks_the_highest_token_is_told_and_of_names_all_that_anybody_tells() {
        let mut all = [told(1, 0, 9_000, &[2], &[]), told(2, 0, 9_000, &[1], &[])];
        for (n, (_, told)) in all.iter_mut().enumerate() {
            told.locks = vec![Moved { name: "vms/7".into(), token: 4 + n as u64 }];
            (told.both, told.diverged) = (1, vec![format!("tasks/{n}")]);
        }
        let partition = accounts(&all).remove(0);
        assert_eq!(partition.locks, [Moved { name: "vms/7".into(), token: 5 }]);
        assert_eq!((partition.diverged.count, partition.diverged.names.len()), (2, 2));
    }
}
