//! Links and ways in a cluster too large for a full mesh: whom this node is to be linked to, and what it passes on.

use std::collections::BTreeSet;

use super::detector::Liveness;
use super::io::{Event, Now, Output};
use super::message::Message;
use super::replica::Replica;
use super::tree::Tree;
use crate::clock::{Dot, NodeId};
use crate::document::batch::{Batch, OpRef, OpWriter, OwnSlots};

/// A link to a member that this node need not be linked to is let go after so long: time enough for both to learn of
/// each other's membership.
const SPARE_LINK_MS: u64 = 10_000;

impl Replica {
    /// Members to be linked to: all of them, or one's neighbours in the tree and the voters.
    pub fn wanted_links(&self) -> BTreeSet<NodeId> {
        match &self.tree {
            Some(tree) => self.needed(tree),
            None => self.members.present().filter(|id| *id != self.id.node).collect(),
        }
    }

    /// Whoever asks for a decision asks the voters, and each of them by itself.
    fn needed(&self, tree: &Tree) -> BTreeSet<NodeId> {
        let voters = self.booth.voters().map(|voters| voters.all()).unwrap_or_default();
        let voters =
            voters.into_iter().map(|voter| voter.node).filter(|node| *node != self.id.node && tree.knows(node));
        tree.neighbours().into_iter().chain(voters).collect()
    }

    /// Whether the cluster is too large for a full mesh.
    pub fn in_tree(&self) -> bool {
        self.tree.is_some()
    }

    /// Follows what changed in the membership and in who is up.
    pub(super) fn grow_tree(&mut self) {
        if !std::mem::take(&mut self.tree_due) {
            return;
        }
        let own = self.id.node;
        let before = self.tree.as_ref().map(Tree::neighbours);
        let large = self.members.present().count() > self.config.limits.mesh_members;
        let is_member = self.members.get(&own).is_some_and(|member| !member.left);
        self.tree = (large && is_member).then(|| {
            let members = self.members.iter().filter(|(_, member)| !member.left);
            let is_down = |id: &NodeId| self.peers.get(id).is_some_and(|peer| peer.gave_up());
            Tree::new(
                own,
                members.map(|(id, member)| (*id, member.region.as_str())),
                self.config.limits.group_members,
                is_down,
            )
        });
        if self.tree.as_ref().map(Tree::neighbours) != before {
            self.emit(Event::Neighbours);
        }
    }

    /// Lets links go that the tree does not need.
    pub(super) fn let_go(&mut self, now: Now) {
        let Some(tree) = &self.tree else { return };
        // Anybody may ask a voter.
        if self.booth.is_voter(&self.id.node) {
            return;
        }
        let wanted = self.needed(tree);
        let spare = self.peers.iter().filter(|(id, _)| tree.knows(id) && !wanted.contains(id));
        let old = spare.filter_map(|(id, peer)| Some((*id, peer.established()?)));
        let old = old.filter(|(_, link)| now.mono_ms() >= link.since_ms + SPARE_LINK_MS);
        let old: Vec<_> = old.map(|(id, link)| (id, link.id)).collect();
        for (peer, link) in old {
            self.output(Output::Disconnect { peer, link, reason: "not a neighbour in this cluster".into() });
        }
    }

    /// To whom a batch goes that came from `from`, or that is this node's own. Who is not known for a member yet
    /// gets what this node writes.
    pub(super) fn receivers(&self, from: Option<&NodeId>, origin: &NodeId) -> Vec<NodeId> {
        let strangers = |tree: &Tree| self.neighbours().filter(|id| !tree.knows(id)).collect::<Vec<_>>();
        match &self.tree {
            None if from.is_none() => self.neighbours().collect(),
            None => Vec::new(),
            Some(tree) => {
                let mut to = tree.passes_on(from, origin);
                if from.is_none() {
                    to.extend(strangers(tree));
                }
                to
            }
        }
    }

    /// Passes a batch on, once, under its origin's signature.
    pub(super) fn relay(&mut self, from: NodeId, batch: &Batch<'_>, ops: &[OpRef<'_>]) {
        let origin = self.state.roster.id(batch.replica).node;
        let to = self.receivers(Some(&from), &origin);
        if to.is_empty() {
            return;
        }
        let mut writer = OpWriter::new(batch.replica, OwnSlots);
        ops.iter().zip(batch.first..).for_each(|(op, seq)| writer.push(seq, op));
        let ops = writer.into_bytes();
        let last = Dot::new(batch.replica, batch.last());
        let message = Message::Batch { batch: Batch { ops: &ops, ..*batch }, prompt: false };
        self.tally.batches_relayed += self.send_live(last, &to, message.encode().into()) as u64;
    }
}

impl super::peer::Peer {
    /// It was linked to once and is down now. Who was never linked to may well be up.
    fn gave_up(&self) -> bool {
        self.liveness == Liveness::Down && self.replica.is_some()
    }
}
