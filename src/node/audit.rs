//! The audit, for people and programs: looked through, verified, carried elsewhere.

use super::handle::Node;
use crate::clock::NodeId;
use crate::clock::id::ParseIdError;
use crate::engine::audit::{ShelfError, Verified};
use crate::history::audit::export::ExportError;
use crate::history::audit::mark::{ROLLBACK_KINDS, Summary};
use crate::history::audit::survey::Patterns;
use crate::history::audit::{Anchor, Imported, Page, Query, Window, rollback_points};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Node(#[from] ParseIdError),
    #[error("the audit of {0} is not held here: ask that node, or import an export of it")]
    NotHeld(String),
    #[error(transparent)]
    Import(#[from] ShelfError),
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl Node {
    /// The node that a query is about: this one, unless another is named.
    fn audited(&self, node: Option<&str>) -> Result<NodeId, AuditError> {
        Ok(node.map(str::parse).transpose()?.unwrap_or(self.inner.id.node))
    }

    /// Records of this node's audit, or of a chain that was imported.
    pub fn audit(&self, node: Option<&str>, query: &Query) -> Result<Page, AuditError> {
        let id = self.audited(node)?;
        let replica = self.inner.replica.read();
        replica.audit().page(&id, query).ok_or_else(|| AuditError::NotHeld(id.to_string()))
    }

    /// What is wrong with a chain, held against every anchor of it that is known here.
    pub fn verify_audit(&self, node: Option<&str>) -> Result<Verified, AuditError> {
        let id = self.audited(node)?;
        self.inner.replica.read().verify_audit(&id).ok_or_else(|| AuditError::NotHeld(id.to_string()))
    }

    /// What conflicts most, and what keeps coming back.
    pub fn audit_patterns(&self, window: Window) -> Patterns {
        self.inner.replica.read().audit().patterns(window)
    }

    /// Records that one could go back to before, the newest first, and where to go on.
    pub fn rollback_points(
        &self,
        limit: usize,
        cursor: Option<u64>,
    ) -> Result<(Vec<Summary>, Option<u64>), AuditError> {
        let query = Query { kinds: ROLLBACK_KINDS.to_vec(), newest_first: true, limit, cursor, ..Query::default() };
        let page = self.audit(None, &query)?;
        Ok((rollback_points(page.records).map(|point| point.summary()).collect(), page.next))
    }

    /// A chain as JSON lines, with the anchors of it that are known here.
    pub fn export_audit(&self, node: Option<&str>) -> Result<Vec<String>, AuditError> {
        let id = self.audited(node)?;
        let replica = self.inner.replica.read();
        let lines = replica.audit().export(&id).ok_or_else(|| AuditError::NotHeld(id.to_string()))?;
        Ok(lines?)
    }

    /// Takes another node's exported chain, if nothing is wrong with it.
    pub fn import_audit(&self, text: &str) -> Result<Imported, AuditError> {
        Ok(self.inner.with_replica(|replica, now| replica.import_audit(text, now))?)
    }

    /// The anchors known here, of one node or of all.
    pub fn audit_anchors(&self, node: Option<&str>) -> Result<Vec<Anchor>, AuditError> {
        let id = node.map(str::parse::<NodeId>).transpose()?;
        let replica = self.inner.replica.read();
        let anchors = replica.audit().anchors();
        Ok(match id {
            Some(id) => anchors.of(&id).copied().collect(),
            None => anchors.iter().copied().collect(),
        })
    }
}
