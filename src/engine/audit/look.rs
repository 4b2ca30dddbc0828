//! The audit as it is looked at: paged, surveyed, exported, verified. Nothing here changes it.

use std::collections::BTreeSet;

use super::log::Audit;
use crate::clock::NodeId;
use crate::engine::replica::Replica;
use crate::history::audit::export::ExportError;
use crate::history::audit::row::{index_of, key_of};
use crate::history::audit::survey::Patterns;
use crate::history::audit::{
    Anchor, Check, Index, Page, Query, RecordRef, Report, Survey, Window, export, verify, verify_copy,
};

/// What was found wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    pub node: String,
    /// Nothing is wrong, neither when it was read nor now.
    pub whole: bool,
    /// What was wrong with the rows on the disk when this process read them.
    pub at_start: Option<Report>,
    pub now: Report,
}

impl Audit {
    /// Nodes that a query may be about: this one, and those whose chains were imported.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.shelves.archive().shelves().keys().copied().chain([self.chain.node()]).collect()
    }

    /// Indexes of the oldest and the newest record that is held.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let mut indexes = self.records.keys().filter_map(|key| index_of(key));
        let first = indexes.next()?;
        Some((first, indexes.next_back().unwrap_or(first)))
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is known of a node's chain, its own or an imported one; `None` where nothing is.
    fn span_of(&self, node: &NodeId) -> Option<(u64, u64)> {
        match *node == self.chain.node() {
            true => Some(self.chain.span()),
            false => self.shelves.archive().shelves().get(node).map(|shelf| shelf.span()),
        }
    }

    /// One page of a node's chain; `None` when that node's is not held.
    pub fn page(&self, node: &NodeId, query: &Query) -> Option<Page> {
        let span = self.span_of(node)?;
        match *node == self.chain.node() {
            true => Some(query.page(span, &self.index, &|index| self.records.get(&key_of(index)[..]).cloned())),
            false => Some(query.page(span, &Index::new(1), &|index| self.shelves.row(node, index))),
        }
    }

    /// What conflicts most and what keeps coming back, by this node's own records.
    pub fn patterns(&self, window: Window) -> Patterns {
        let mut survey = Survey::new(window);
        let readable = self.records.values().filter_map(|row| RecordRef::decode(row).ok());
        readable.filter(RecordRef::is_sealed).for_each(|record| survey.add(&record));
        survey.finish()
    }

    /// A node's chain as JSON lines, with all anchors that are held of it.
    pub fn export(&self, node: &NodeId) -> Option<Result<Vec<String>, ExportError>> {
        self.span_of(node)?;
        let anchors: Vec<Anchor> = self.anchors.of(node).copied().collect();
        Some(match *node == self.chain.node() {
            true => export(*node, &self.records, &anchors).collect(),
            false => export(*node, self.shelves.chain(node), &anchors).collect(),
        })
    }

    fn verify(&self, node: &NodeId, check: Check<'_>) -> Option<Verified> {
        self.span_of(node)?;
        let anchors: Vec<Anchor> = self.anchors.of(node).copied().collect();
        let own = *node == self.chain.node();
        let now = match own {
            true => verify(*node, &self.records, &anchors, check),
            // What was exported once goes on at its node.
            false => verify_copy(*node, self.shelves.chain(node), &anchors, check),
        };
        let at_start = own.then(|| self.at_start.clone());
        let whole = now.is_whole() && at_start.as_ref().is_none_or(Report::is_whole);
        Some(Verified { node: node.to_string(), whole, at_start, now })
    }
}

impl Replica {
    /// What is wrong with a node's chain: this one's, or an imported one; `None` when it is not held.
    pub fn verify_audit(&self, node: &NodeId) -> Option<Verified> {
        self.audit.verify(node, &|node, message, signature| self.keys.verify(node, message, signature))
    }
}
