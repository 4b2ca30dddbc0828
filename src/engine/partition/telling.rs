//! When a cut is told, and what is written: one transaction, in which the oldest of this node's own observations goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cuts::{AGAIN_MS, Back, Changed, Names};
use super::observation::{self, Disputed, Lost, MEMBERS_MAX, Moved, NAMES_MAX, Observation};
use super::{COLLECTION, FIELD};
use crate::clock::NodeId;
use crate::conflict::Conflict;
use crate::crdt::FieldKind;
use crate::document::Address;
use crate::document::plan::Write;
use crate::engine::detector::Liveness;
use crate::engine::hooks::Mutant;
use crate::engine::io::Now;
use crate::engine::replica::Replica;

/// Observations kept of one node. Of 4 KB, as one rarely is, and by 32 members that are linked to each other: 8 MB.
pub const OBSERVATIONS_MAX: usize = 64;
/// Cuts that begin in one millisecond, by a clock that was set back: so many ids are tried.
const IDS_TRIED: u64 = 64;

impl Replica {
    /// On every tick: what came of those that are back, and who needs not be waited for.
    pub(in crate::engine) fn tend_cuts(&mut self) {
        if self.cuts.is_empty() {
            return;
        }
        // Who left, or was evicted, does not come back.
        let members = &self.members;
        self.cuts.away.retain(|node, _| members.get(node).is_some_and(|member| !member.left));
        self.look_at_what_came();
        // Who was down, and comes back without anything to tell, was on no side.
        self.cuts.back.retain(|_, back| !(back.restarted && back.met && back.changed.there.is_empty()));
    }

    /// The id of what this node tells of a partition, if it is time.
    pub(in crate::engine) fn observation_due(&self, now: Now) -> Option<String> {
        let member = || self.members.get(&self.id.node).is_some_and(|member| !member.left);
        if !self.cuts.is_due(now.mono_ms()) || self.cluster().is_none() || !member() {
            return None;
        }
        let since_ms = self.cuts.back.values().map(|back| back.since_ms).min()?;
        let from_ms = wall_ms(since_ms, now);
        let mut ids = (from_ms..from_ms + IDS_TRIED).map(|ms| observation::id(ms, &self.id.node));
        ids.find(|id| self.state.find(&format!("{COLLECTION}/{id}")).is_none())
    }

    /// The documents that telling it writes to.
    pub(in crate::engine) fn documents_told(&self, id: &str) -> Vec<String> {
        let mut names = self.outdated();
        names.push(format!("{COLLECTION}/{id}"));
        names
    }

    pub(in crate::engine) fn tell_observation(&mut self, id: &str, now: Now) {
        let unseen: Vec<NodeId> = self.cuts.back.iter().filter(|(_, back)| !back.met).map(|(node, _)| *node).collect();
        unseen.into_iter().for_each(|node| self.look_at_what_came_of(node));
        let Ok(address) = Address::new(COLLECTION, id) else { return };
        let outdated =
            self.outdated().into_iter().filter_map(|name| Some((Address::parse(&name).ok()?, Write::Delete)));
        let mut writes: Vec<(Address, Write)> = outdated.collect();
        writes.push((address, Write::Put(self.observation(now).fields())));
        if self.write(&writes, false, now).is_err() {
            // A clock that fell behind refuses.
            self.cuts.not_before_ms = now.mono_ms() + AGAIN_MS;
            return;
        }
        self.cuts.back.clear();
        self.cuts.tokens = if self.cuts.is_empty() { BTreeMap::new() } else { self.tokens() };
    }

    /// This node's own oldest, beyond those that are kept beside one more.
    fn outdated(&self) -> Vec<String> {
        let prefix = format!("{COLLECTION}/");
        let names = self.state.names_from(std::ops::Bound::Included(prefix.as_str())).map(|(name, _)| name);
        let own = names.take_while(|name| name.starts_with(&prefix));
        let own = own.filter(|name| observation::is_of(name, &self.id.node) && self.is_own(name));
        let own: Vec<&Arc<str>> = own.collect();
        let beyond = (own.len() + 1).saturating_sub(OBSERVATIONS_MAX);
        own.into_iter().take(beyond).map(|name| name.to_string()).collect()
    }

    /// Another node may be called alike in short.
    fn is_own(&self, name: &str) -> bool {
        let told = self.view(name).and_then(|view| Observation::of(&view.fields));
        told.is_some_and(|told| told.observer == self.id.node.to_string())
    }

    fn observation(&self, now: Now) -> Observation {
        let cuts = &self.cuts;
        let lost = |(node, back): (&NodeId, &Back)| Lost {
            node: node.to_string(),
            from_ms: wall_ms(back.since_ms, now),
            until_ms: wall_ms(back.until_ms, now),
            restarted: back.restarted,
        };
        let mut lost: Vec<Lost> = cuts.back.iter().map(lost).take(MEMBERS_MAX / 2).collect();
        if self.config.hooks.planted(Mutant::CutForgotten) && lost.len() > 1 {
            lost.pop();
        }
        let others = self.wanted_links();
        let reached = others.iter().filter(|node| !cuts.is_apart(node) && self.liveness(node) != Liveness::Down);
        // Above a full mesh one that is away may have become somebody else's neighbour.
        let away = self.unreachable.iter().filter(|node| cuts.away.contains_key(node));
        let changed = cuts.changed();
        let both: Names = changed.here.intersection(&changed.there).cloned().collect();
        let (work, work_names) = self.work(&changed);
        let (conflicts, disputed) = self.disputed(&changed, &both);
        Observation {
            observer: self.id.node.to_string(),
            from_ms: lost.iter().map(|lost| lost.from_ms).min().unwrap_or(now.wall_ms),
            until_ms: lost.iter().map(|lost| lost.until_ms).max().unwrap_or(now.wall_ms),
            reached: reached.take(MEMBERS_MAX / 4).map(NodeId::to_string).collect(),
            away: away.take(MEMBERS_MAX / 4).map(NodeId::to_string).collect(),
            quorum: self.had_quorum(),
            here: changed.here.len() as u64,
            there: changed.there.len() as u64,
            both: both.len() as u64,
            diverged: shown(both.iter()),
            work,
            work_names,
            locks: self.locks_moved(),
            conflicts,
            disputed,
            lost,
        }
    }

    /// Whether those that it reached, itself counted, were a quorum.
    fn had_quorum(&self) -> bool {
        let reached = |node: &NodeId| *node == self.id.node || !self.cuts.is_apart(node);
        self.booth.voters().is_some_and(|voters| voters.is_quorum(|voter| reached(&voter.node)))
    }

    /// What somebody is at work on, of all that either side changed: how much, and some names.
    fn work(&self, changed: &Changed) -> (u64, Vec<String>) {
        let mut decided = BTreeMap::new();
        let mut is_work = |name: &str| {
            let collection = name.split('/').next().unwrap_or_default();
            let decides = || self.schema(collection).0.fields.values().any(|field| field.kind == FieldKind::Quorum);
            *decided.entry(collection.to_owned()).or_insert_with(decides)
        };
        let work: Vec<&Arc<str>> = changed.here.union(&changed.there).filter(|name| is_work(name)).collect();
        (work.len() as u64, shown(work.iter().copied()))
    }

    fn locks_moved(&self) -> Vec<Moved> {
        let before = &self.cuts.tokens;
        let now = self.tokens();
        let moved = now.iter().filter(|(name, token)| before.get(*name).is_none_or(|before| before < *token));
        moved.take(NAMES_MAX).map(|(name, token)| Moved { name: name.to_string(), token: *token }).collect()
    }

    /// The conflicts between what one side wrote and what the other did: how many, and some of them.
    fn disputed(&self, changed: &Changed, both: &Names) -> (u64, Vec<Disputed>) {
        let within = both.iter().flat_map(|name| self.conflicts.of(name)).map(|conflict| &**conflict);
        let has = |side: &Names, conflict: &Conflict| {
            std::iter::once(&conflict.document).chain(&conflict.others).any(|name| side.contains(name.as_str()))
        };
        let Changed { here, there } = changed;
        let across = self.conflicts.iter().filter(|conflict| !conflict.others.is_empty());
        let across = across.filter(|conflict| has(here, conflict) && has(there, conflict));
        let disputed = |conflict: &Conflict| Disputed {
            id: conflict.id.clone(),
            document: conflict.document.clone(),
            field: conflict.field.clone(),
        };
        let all: Vec<Disputed> = within.chain(across).map(disputed).collect();
        (all.len() as u64, all.into_iter().take(NAMES_MAX).collect())
    }

    /// The observations that this node has, of all nodes, by their ids.
    pub fn observations(&self) -> Vec<(String, Observation)> {
        let prefix = format!("{COLLECTION}/");
        let names = self.state.names_from(std::ops::Bound::Included(prefix.as_str())).map(|(name, _)| name);
        let names = names.take_while(|name| name.starts_with(&prefix));
        let told = |name: &Arc<str>| {
            let view = self.view(name).filter(|view| view.fields.contains_key(FIELD))?;
            Some((name[prefix.len()..].to_owned(), Observation::of(&view.fields)?))
        };
        names.filter_map(told).collect()
    }
}

fn shown<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Vec<String> {
    names.take(NAMES_MAX).map(|name| name.to_string()).collect()
}

/// A moment of the clock that only goes forward, by the one on the wall as it is now.
fn wall_ms(mono_ms: u64, now: Now) -> u64 {
    now.wall_ms.saturating_sub(now.mono_ms().saturating_sub(mono_ms))
}
