//! Who passes what on to whom, in a cluster too large for a full mesh.
//!
//! Members are dealt into *groups*: those of one region, and a large region into several. Within a group everyone is
//! linked to everyone. Between any two groups two pairs of *gateways*, drawn by hash, are linked. A batch goes
//!
//! ```text
//! origin ──▶ everyone of its group ──▶ (gateways) the gateways of every other group ──▶ everyone of theirs
//! ```
//!
//! so that it takes three hops, one of them between regions, and reaches each node about twice: once over each gateway.
//! Every pair of groups draws its own gateways, so the load is spread over all. What a node passes on depends on whom
//! it came from, not on a tree that all would have to agree on: members with different views of who is there pass on a
//! little too much or too little, and what was missed is pulled.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::clock::NodeId;

/// Pairs of gateways between two groups.
const GATEWAYS: usize = 2;

/// Region and number of a group.
type GroupName = (String, usize);

/// One node's part in the dissemination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    groups: BTreeMap<NodeId, GroupName>,
    own: GroupName,
    mates: Vec<NodeId>,
    /// The gateways of other groups that this node is linked to as a gateway of its own.
    beyond: Vec<NodeId>,
}

impl Tree {
    /// The tree around `me`, over all `members` and their regions, in groups of about `size`. `is_down` tells of members this node found to be
    /// down: others take their place.
    pub fn new<'a>(
        me: NodeId,
        members: impl IntoIterator<Item = (NodeId, &'a str)>,
        size: usize,
        is_down: impl Fn(&NodeId) -> bool,
    ) -> Self {
        let mut regions: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
        for (node, region) in members {
            regions.entry(region).or_default().push(node);
        }
        let mut tree = Self::default();
        let mut groups: BTreeMap<GroupName, Vec<NodeId>> = BTreeMap::new();
        for (region, nodes) in regions {
            let count = nodes.len().div_ceil(size.max(1));
            for node in nodes {
                let name = (region.to_owned(), group_of(&node, count));
                groups.entry(name.clone()).or_default().push(node);
                tree.groups.insert(node, name);
            }
        }
        let Some(own) = tree.groups.get(&me).cloned() else { return tree };
        tree.mates = groups[&own].iter().copied().filter(|mate| *mate != me).collect();
        for (other, nodes) in groups.iter().filter(|(name, _)| **name != own) {
            let pair = pair_hash(&own, other);
            let ours = ranked(pair, groups[&own].iter().filter(|mate| **mate == me || !is_down(mate)));
            if let Some(place) = ours.iter().take(GATEWAYS).position(|gateway| *gateway == me) {
                // A gateway that is down is replaced by the next, each of the pairs by another.
                let theirs = ranked(pair, nodes.iter());
                let candidates = theirs.iter().skip(place).step_by(GATEWAYS);
                let up = candidates.clone().find(|node| !is_down(node)).or(theirs.first());
                tree.beyond.extend(up);
            }
        }
        tree.beyond.sort_unstable();
        tree.beyond.dedup();
        tree.own = own;
        tree
    }

    /// Whether this node belongs to a group itself.
    pub fn is_placed(&self) -> bool {
        !self.own.0.is_empty() || !self.mates.is_empty() || !self.beyond.is_empty()
    }

    /// Members to be linked to.
    pub fn neighbours(&self) -> BTreeSet<NodeId> {
        self.mates.iter().chain(&self.beyond).copied().collect()
    }

    /// To whom a batch goes that came from `from`, or that this node wrote itself.
    pub fn passes_on(&self, from: Option<&NodeId>, origin: &NodeId) -> Vec<NodeId> {
        let is_mate = |node: &NodeId| self.groups.get(node) == Some(&self.own);
        match from {
            None => self.mates.iter().chain(&self.beyond).copied().collect(),
            // Straight from a mate: its gateways pass it out.
            Some(from) if is_mate(from) && from == origin => self.beyond.clone(),
            // A mate that is a gateway gave it to the whole group.
            Some(from) if is_mate(from) => Vec::new(),
            Some(from) => self.mates.iter().copied().filter(|mate| mate != from && mate != origin).collect(),
        }
    }

    /// Whether the node is a member as far as this tree knows.
    pub fn knows(&self, node: &NodeId) -> bool {
        self.groups.contains_key(node)
    }
}

/// Rendezvous hashing: when a group more is needed, only those move that go there.
fn group_of(node: &NodeId, count: usize) -> usize {
    (0..count).max_by_key(|group| xxh3_64_with_seed(&node.0, *group as u64)).unwrap_or(0)
}

/// The same for both sides.
fn pair_hash(a: &GroupName, b: &GroupName) -> u64 {
    let hash = |name: &GroupName| xxh3_64_with_seed(name.0.as_bytes(), name.1 as u64);
    let (low, high) = if a < b { (hash(a), hash(b)) } else { (hash(b), hash(a)) };
    xxh3_64(&[low.to_le_bytes(), high.to_le_bytes()].concat())
}

fn ranked<'a>(pair: u64, nodes: impl Iterator<Item = &'a NodeId>) -> Vec<NodeId> {
    let mut ranked: Vec<NodeId> = nodes.copied().collect();
    ranked.sort_by_key(|node| (xxh3_64_with_seed(&node.0, pair), *node));
    ranked
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use proptest::prelude::*;

    fn node(n: usize) -> NodeId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        id[8] = 1;
        NodeId(id)
    }

    fn trees(regions: &[&str], down: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Tree> {
        let members: Vec<(NodeId, &str)> = regions.iter().enumerate().map(|(n, region)| (node(n), *region)).collect();
        let tree =
            |(id, _): &(NodeId, &str)| (*id, Tree::new(*id, members.iter().copied(), 28, |node| down.contains(node)));
        members.iter().map(tree).collect()
    }

    /// How often each node receives a batch of `origin`, and the longest way.
    fn spread(
        trees: &BTreeMap<NodeId, Tree>,
        origin: NodeId,
        down: &BTreeSet<NodeId>,
    ) -> (BTreeMap<NodeId, usize>, usize) {
        let (mut copies, mut hops_max) = (BTreeMap::new(), 0);
        let mut under_way: VecDeque<(Option<NodeId>, NodeId, usize)> = [(None, origin, 0)].into();
        while let Some((from, at, hops)) = under_way.pop_front() {
            if down.contains(&at) {
                continue;
            }
            if from.is_some() {
                let count = copies.entry(at).or_insert(0);
                *count += 1;
                if *count > 1 {
                    continue;
                }
                hops_max = hops_max.max(hops);
            }
            for to in trees[&at].passes_on(from.as_ref(), &origin) {
                under_way.push_back((Some(at), to, hops + 1));
            }
        }
        (copies, hops_max)
    }

    const REGIONS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

    #[test]
    fn a_thousand_nodes_are_reached_in_three_hops_by_two_copies_over_few_links() {
        let regions: Vec<&str> = (0..1_000).map(|n| REGIONS[n % 12]).collect();
        let none = BTreeSet::new();
        let trees = trees(&regions, &none);
        for origin in [0, 1, 500, 999].map(node) {
            let (copies, hops) = spread(&trees, origin, &none);
            assert_eq!(copies.len(), 999);
            let mean = copies.values().sum::<usize>() as f64 / 999.0;
            assert!(mean <= 2.0 && hops <= 3, "{mean} copies, {hops} hops");
        }
        let links = trees.values().map(|tree| tree.neighbours().len());
        assert!(links.clone().max().unwrap() <= 64, "{:?}", links.max());
        for (me, tree) in &trees {
            for other in tree.neighbours() {
                assert!(trees[&other].neighbours().contains(me), "both ends want a link");
            }
        }
    }

    proptest! {
        #[test]
        fn everyone_is_reached_from_everywhere(regions in proptest::collection::vec(0usize..12, 1..300), origin: usize) {
            let regions: Vec<&str> = regions.iter().map(|region| if *region == 0 { "" } else { REGIONS[*region] }).collect();
            let none = BTreeSet::new();
            let trees = trees(&regions, &none);
            let origin = node(origin % regions.len());
            let (copies, hops) = spread(&trees, origin, &none);
            let reached = copies.keys().filter(|id| **id != origin).count();
            prop_assert_eq!(reached, regions.len() - 1);
            prop_assert!(hops <= 3);
        }

        #[test]
        fn who_is_known_to_be_down_is_replaced(
            nodes in 40usize..200, down in proptest::collection::btree_set(1usize..200, 0..20),
        ) {
            let regions: Vec<&str> = (0..nodes).map(|n| REGIONS[n % 5]).collect();
            let down: BTreeSet<NodeId> = down.into_iter().filter(|n| *n < nodes).map(node).collect();
            let trees = trees(&regions, &down);
            let (copies, _) = spread(&trees, node(0), &down);
            let reached = copies.keys().filter(|id| **id != node(0)).count();
            prop_assert_eq!(reached, nodes - 1 - down.len());
        }
    }
}
