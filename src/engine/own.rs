//! What a node writes by itself, on a tick: what is done about conflicts that waited for too long, how voters settled them,
//! where its audit stands, which store its word as a voter rests on,
//! and what it saw of a partition.

use serde_json::json;

use super::escalation;
use super::io::Now;
use super::member;
use super::replica::Replica;
use crate::document::plan::{Edit, Write};

/// One of them, a transaction of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnWrite {
    /// What is done about these conflicts, by their ids.
    Escalations(Vec<String>),
    Anchor,
    /// The outcome of the vote on this conflict.
    Vote(String),
    Store,
    /// What it saw of a partition, under this id.
    Observation(String),
}

impl Replica {
    /// What is due now.
    pub fn own_writes(&self, now: Now) -> Vec<OwnWrite> {
        let escalated: Vec<String> = self.escalations_due(now).into_iter().map(|conflict| conflict.id).collect();
        let mut due = Vec::new();
        due.extend(Some(escalated).filter(|conflicts| !conflicts.is_empty()).map(OwnWrite::Escalations));
        due.extend(self.is_anchor_due(now).then_some(OwnWrite::Anchor));
        due.extend(self.booth.votes.decided().map(OwnWrite::Vote));
        due.extend(self.is_store_untold().then_some(OwnWrite::Store));
        due.extend(self.observation_due(now).map(OwnWrite::Observation));
        due
    }

    pub fn write_own(&mut self, own: &OwnWrite, now: Now) {
        match own {
            OwnWrite::Escalations(_) => self.escalate_if_due(now),
            OwnWrite::Anchor => self.publish_anchor_if_due(now),
            OwnWrite::Vote(conflict) => self.settle_vote(conflict, now),
            OwnWrite::Store => self.tell_store(now),
            OwnWrite::Observation(id) => self.tell_observation(id, now),
        }
    }

    /// The documents that it writes to.
    pub fn documents_of(&self, own: &OwnWrite) -> Vec<String> {
        let note = |id: &String| format!("{}/{id}", escalation::COLLECTION);
        match own {
            OwnWrite::Escalations(conflicts) => conflicts.iter().map(note).collect(),
            OwnWrite::Anchor | OwnWrite::Store => vec![format!("{}/{}", member::COLLECTION, self.id.node)],
            OwnWrite::Vote(id) => {
                let document = self.conflicts.get(id).map(|conflict| conflict.document.clone());
                document.into_iter().chain([note(id)]).collect()
            }
            OwnWrite::Observation(id) => self.documents_told(id),
        }
    }

    /// Whether this node's member document names another store than the one its word rests on.
    fn is_store_untold(&self) -> bool {
        let told = self.members.get(&self.id.node).filter(|member| !member.left).and_then(|member| member.acceptor);
        told.is_some_and(|told| told != self.booth.store())
    }

    fn tell_store(&mut self, now: Now) {
        let Ok(address) = self.member_address(self.id.node) else { return };
        let set = Edit::Set { field: "acceptor".into(), value: json!(self.booth.store().to_string()) };
        // A clock that fell behind refuses; the next tick tries again.
        let _ = self.write(&[(address, Write::Edits(vec![set]))], false, now);
    }
}
