//! Who was with whom when most were apart.
//!
//! Every observation says who lost whom, from when until when. At the moment with the most of these at once, two nodes are
//! on one side when neither lost the other, or when others reach from one to the other. A cut in one direction only, and a
//! pair that was apart within one side, are told as what they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::account::Told;

/// Clocks of hosts differ, and notice a cut and its end at different moments: by so much, on either end.
const BLUR_MS: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Node ids, in order.
    pub members: Vec<String>,
    /// Whether one of them says that it reached a quorum; `None`: none of them has told.
    pub quorum: Option<bool>,
    /// Documents that this side changed and another lacked, as far as any node tells.
    pub changed: u64,
}

/// One that could not reach another, which had no such trouble.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OneWay {
    pub node: String,
    pub could_not_reach: String,
}

/// What it looked like when most were apart.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub sides: Vec<Side>,
    pub one_way: Vec<OneWay>,
    /// Pairs that were apart, though others of their side reached both.
    pub apart_within: Vec<[String; 2]>,
}

impl Picture {
    pub fn of(told: &[Told]) -> Self {
        let losses = at_its_widest(told);
        let apart = |a: &str, b: &str| losses.contains(&(a, b)) || losses.contains(&(b, a));
        let mut nodes = BTreeSet::new();
        for told in told {
            nodes.insert(told.observer.as_str());
            nodes.extend(told.lost.iter().map(|lost| lost.node.as_str()));
            nodes.extend(told.reached.iter().map(String::as_str));
        }
        let groups = connected(&nodes, apart);
        let within = groups.iter().flat_map(|group| pairs(group)).filter(|[a, b]| apart(a, b));
        let observed = |by: &str, of: &str| {
            told.iter().filter(|told| told.observer == by).any(|told| told.lost.iter().any(|lost| lost.node == of))
        };
        let tells = |node: &str| told.iter().any(|told| told.observer == node);
        let one_way = losses.iter().filter(|(by, of)| tells(of) && !observed(of, by));
        let one_way = one_way.map(|(by, of)| OneWay { node: (*by).to_owned(), could_not_reach: (*of).to_owned() });
        Self {
            one_way: one_way.collect(),
            apart_within: within.map(|pair| pair.map(str::to_owned)).collect(),
            sides: groups.iter().map(|group| side(group, groups.len(), told)).collect(),
        }
    }
}

fn side(members: &[&str], sides: usize, told: &[Told]) -> Side {
    let is_member = |told: &&Told| members.contains(&told.observer.as_str());
    let of_side: Vec<&Told> = told.iter().filter(is_member).collect();
    let here = of_side.iter().map(|told| told.here);
    // Of two sides, what one learned is what the other changed.
    let learned = told.iter().filter(|told| sides == 2 && !is_member(told)).map(|told| told.there);
    Side {
        members: members.iter().map(|node| (*node).to_owned()).collect(),
        quorum: (!of_side.is_empty()).then(|| of_side.iter().any(|told| told.quorum)),
        changed: here.chain(learned).max().unwrap_or_default(),
    }
}

/// Who lost whom at the first moment with the most of these at once.
fn at_its_widest(told: &[Told]) -> BTreeSet<(&str, &str)> {
    let mut events: Vec<(u64, bool, (&str, &str))> = Vec::new();
    for told in told {
        for lost in &told.lost {
            let pair = (told.observer.as_str(), lost.node.as_str());
            // Of one moment, what ends comes first.
            events.push((lost.from_ms.saturating_sub(BLUR_MS), true, pair));
            events.push((lost.until_ms.saturating_add(BLUR_MS), false, pair));
        }
    }
    events.sort_unstable();
    let (mut lasting, mut widest): (BTreeMap<(&str, &str), usize>, BTreeSet<_>) = Default::default();
    for (_, begins, pair) in events {
        let count = lasting.entry(pair).or_default();
        *count = if begins { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            lasting.remove(&pair);
        }
        if lasting.len() > widest.len() {
            widest = lasting.keys().copied().collect();
        }
    }
    widest
}

/// Groups in which everybody is reached from everybody, directly or not; the largest first, then in order.
fn connected<'a>(nodes: &BTreeSet<&'a str>, apart: impl Fn(&str, &str) -> bool) -> Vec<Vec<&'a str>> {
    let mut left = nodes.clone();
    let mut groups = Vec::new();
    while let Some(first) = left.pop_first() {
        let mut group = vec![first];
        let mut looked = 0;
        while let Some(node) = group.get(looked).copied() {
            let reached: Vec<&str> = left.iter().copied().filter(|other| !apart(node, other)).collect();
            for other in reached {
                left.remove(other);
                group.push(other);
            }
            looked += 1;
        }
        group.sort_unstable();
        groups.push(group);
    }
    groups.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    groups
}

fn pairs<'a>(group: &'a [&'a str]) -> impl Iterator<Item = [&'a str; 2]> {
    group.iter().enumerate().flat_map(move |(n, a)| group[n + 1..].iter().map(move |b| [*a, *b]))
}
