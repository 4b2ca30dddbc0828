//! Members: who belongs to the cluster, kept as ordinary documents `members/<node id>` that replicate like any other.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::audit::FIELD;
use super::ballot::StoreId;
use super::detector::Liveness;
use super::eviction::departure;
use super::io::Now;
use super::replica::Replica;
use super::rows::Loaded;
use super::write::WriteError;
use crate::clock::{Clock, NodeId};
use crate::document::plan::Write;
use crate::document::view::DocumentView;
use crate::document::{Address, AddressError, builtin};

pub const COLLECTION: &str = "members";

/// One member as its document tells.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    pub name: String,
    pub left: bool,
    /// Where it listens, as multiaddresses.
    pub addresses: Vec<String>,
    pub api: String,
    /// Where its host is: members of one region are near each other.
    pub region: String,
    pub software: String,
    /// The store of its acceptor: what makes it a voter of its own.
    pub acceptor: Option<StoreId>,
}

/// The members, as read from their documents.
#[derive(Clone, Debug, Default)]
pub struct Members {
    members: BTreeMap<NodeId, Member>,
}

impl Members {
    pub fn get(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter()
    }

    /// Those that have not left.
    pub fn present(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|(_, member)| !member.left).map(|(id, _)| *id)
    }

    pub(super) fn named(&self, name: &str) -> Option<NodeId> {
        self.members.iter().find(|(_, member)| !member.left && member.name == name).map(|(id, _)| *id)
    }

    pub(super) fn set(&mut self, node: NodeId, member: Option<Member>) {
        match member {
            Some(member) => {
                self.members.insert(node, member);
            }
            None => {
                self.members.remove(&node);
            }
        }
    }
}

impl Member {
    fn from_view(view: &DocumentView) -> Self {
        let text = |field: &str| view.fields.get(field).and_then(Json::as_str).unwrap_or_default().to_owned();
        let addresses = view.fields.get("addresses").and_then(Json::as_array);
        let addresses = addresses.into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)).collect();
        Self {
            name: text("name"),
            left: text("status") == "left",
            addresses,
            api: text("api"),
            region: text("region"),
            software: text("software"),
            acceptor: text("acceptor").parse().ok(),
        }
    }
}

impl Loaded {
    /// Whether the store says that this node left its cluster.
    pub fn has_left(&self, node: &NodeId) -> bool {
        let document = self.state.document(&format!("{COLLECTION}/{node}"));
        let schema = builtin(COLLECTION).cloned().unwrap_or_default();
        let view = document.and_then(|document| DocumentView::of(document, &schema, &self.state.roster));
        view.is_some_and(|view| Member::from_view(&view).left)
    }
}

impl Replica {
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Writes this node's own member document: it is here, under this name, at these addresses.
    pub fn announce_self(&mut self, addresses: &[String], api: &str, now: Now) -> Result<(), WriteError> {
        let fields = [
            ("name", json!(self.config.name)),
            ("status", json!("joined")),
            ("addresses", json!(addresses)),
            ("api", json!(api)),
            ("software", json!(self.config.software)),
            ("replica", json!(self.id.to_string())),
            ("acceptor", json!(self.booth.store().to_string())),
        ]
        .map(|(field, value)| (field.to_owned(), value));
        let mut fields = Map::from_iter(fields);
        if !self.config.region.is_empty() {
            fields.insert("region".into(), json!(self.config.region));
        }
        if let Some(anchor) = &self.audit.published {
            fields.insert(FIELD.into(), json!(anchor.to_hex()));
        }
        let address = self.member_address(self.id.node)?;
        self.write(&[(address, Write::Put(fields))], false, now).map(|_| ())
    }

    /// Notes that this node leaves for good: nobody waits for it any more.
    pub fn announce_leaving(&mut self, now: Now) -> Result<Option<u64>, WriteError> {
        let address = self.member_address(self.id.node)?;
        self.write(&[(address, Write::Edits(vec![departure()]))], true, now).map(|written| written.seq)
    }

    pub(super) fn member_address(&self, node: NodeId) -> Result<Address, AddressError> {
        Address::new(COLLECTION, &node.to_string())
    }

    pub(super) fn reread_member(&mut self, name: &str, now: Now) {
        let Some(node) = name.strip_prefix("members/").and_then(|id| id.parse::<NodeId>().ok()) else { return };
        let member = self.view(name).map(|view| Member::from_view(&view));
        let before = self.members.get(&node).cloned();
        if before != member {
            self.tree_due = true;
            self.record_member(&node, before.as_ref(), member.as_ref(), now);
        }
        self.members.set(node, member);
        self.hold_anchor(&node);
    }

    /// What every member that has not left has on its disk, as far as this node was told. A member that has not spoken
    /// since this start counts as having nothing: in a cluster too large for a full mesh, most have not, and removal
    /// records go at their bound only.
    pub fn stable(&self) -> Clock {
        let mut stable = self.persistence.durable.clone();
        for node in self.members.present().filter(|node| *node != self.id.node) {
            match self.peers.get(&node) {
                Some(peer) => stable.meet(&peer.durable),
                None => return Clock::new(),
            }
        }
        stable
    }

    /// What this node believes of a member.
    pub fn liveness(&self, node: &NodeId) -> Liveness {
        if *node == self.id.node {
            return Liveness::Alive;
        }
        self.peers.get(node).map_or(Liveness::Down, |peer| peer.liveness)
    }
}
