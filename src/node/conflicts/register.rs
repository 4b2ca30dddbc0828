//! The write that changes the register a conflict is in: a field, or one key of a map.

use serde_json::Value as Json;

use super::super::handle::Node;
use super::super::read::etag;
use super::super::write::{DocumentWrite, IfMatch, Missing, WriteBody};
use super::{ResolveError, SYSTEM};
use crate::conflict::judge::place;
use crate::crdt::FieldKind;
use crate::document::{Address, Edit};
use crate::engine::Replica;

pub(super) enum Change {
    Set(Json),
    /// Sets it whatever it holds.
    Back(Json),
    Siblings(Vec<Json>),
}

impl Node {
    /// The write that changes one register of a document: a field, or one key of a map.
    pub(super) fn edit(
        &self,
        document: &str,
        register: &str,
        change: Change,
        etag: Option<String>,
    ) -> Result<DocumentWrite, ResolveError> {
        let address = Address::parse(document)?;
        if SYSTEM.contains(&address.collection()) {
            return Err(ResolveError::System(document.to_owned()));
        }
        let fields = self.read(&address).document.map(|shown| shown.view.fields).unwrap_or_default();
        let (field, key) = place(&fields, register);
        let unset = match (&change, &key) {
            (Change::Back(_), key) if self.keeps_its_own(&address, &field, key.is_some()) => Some(match key {
                None => Edit::Unset { field: field.clone() },
                Some(key) => Edit::UnsetKey { field: field.clone(), key: key.clone() },
            }),
            _ => None,
        };
        let edit = match (change, key) {
            (Change::Set(value) | Change::Back(value), None) => Edit::Set { field, value },
            (Change::Set(value) | Change::Back(value), Some(key)) => Edit::SetKey { field, key, value },
            (Change::Siblings(values), key) => Edit::Siblings { field, key, values },
        };
        let if_match = etag.map(|tag| IfMatch::Tags(vec![tag]));
        let body = WriteBody::Edits(unset.into_iter().chain([edit]).collect());
        Ok(DocumentWrite { address, body, if_match, create_only: false, missing: Missing::Refuse })
    }

    /// Whether the field would not take another value as long as it has one: it keeps the first, or the largest.
    fn keeps_its_own(&self, address: &Address, field: &str, is_key: bool) -> bool {
        let (schema, _) = self.schema(address.collection());
        let kind = schema.field(field).and_then(|field| if is_key { field.inner } else { Some(field.kind) });
        matches!(kind, Some(FieldKind::Fww | FieldKind::Max | FieldKind::Min))
    }
}

pub(super) fn etag_of(replica: &Replica, name: &str) -> Option<String> {
    let document = replica.state().document(name)?;
    Some(etag(replica, name, document, &replica.show(name, document)?))
}

/// Registers of a document that have siblings.
pub(in super::super) fn contested(replica: &Replica, document: &str) -> usize {
    replica.conflicts().of(document).iter().filter(|conflict| !conflict.siblings.is_empty()).count()
}
