//! A person settles a conflict, or opens again what was settled.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::super::handle::Node;
use super::super::read::register_of;
use super::super::write::{Durability, Receipt};
use super::note::{Decision, decided};
use super::register::{Change, contested, etag_of};
use super::{COLLECTION, ResolveError};
use crate::conflict::judge::InForce;
use crate::conflict::merge::SIDES_MAX;
use crate::conflict::{Conflict, Judge, Verdict};
use crate::crdt::Resolver;
use crate::document::Address;
use crate::engine::Replica;

/// How a person settles a conflict.
#[derive(Debug, Clone, PartialEq)]
pub enum Resolution {
    /// The sibling with this dot.
    Choose(String),
    /// A value of their own.
    Value(Json),
    /// What this resolver makes of the siblings.
    With(Resolver),
}

/// What a settlement would come to, or came to.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub conflict: Conflict,
    pub value: Json,
    /// `None`: a preview, nothing was written.
    pub receipt: Option<Receipt>,
}

/// A conflict that was opened again.
#[derive(Debug, Clone)]
pub struct Reopened {
    pub receipt: Receipt,
    /// The id it has now, where this node lists it already.
    pub conflict: Option<String>,
}

impl Node {
    /// Settles a conflict. With `preview` nothing is written.
    pub async fn resolve(
        &self,
        id: &str,
        resolution: &Resolution,
        by: &str,
        preview: bool,
        durability: Durability,
    ) -> Result<Resolved, ResolveError> {
        // All of one moment: the tag must be that of the document whose siblings were chosen from.
        let found = {
            let replica = self.inner.replica.read();
            let read = |conflict: Conflict| {
                let value = chosen(&replica, &conflict, resolution)?;
                let (etag, contested) =
                    (etag_of(&replica, &conflict.document), contested(&replica, &conflict.document));
                Ok::<_, ResolveError>((conflict, value, etag, contested))
            };
            replica.conflicts().get(id).cloned().map(read)
        };
        let (conflict, value, etag, contested) = found.ok_or_else(|| self.missing_conflict(id))??;
        if preview {
            return Ok(Resolved { conflict, value, receipt: None });
        }
        let field = conflict.field.clone().unwrap_or_default();
        let siblings = json!(conflict.siblings);
        let decision = json!({
            "status": "resolved", "document": conflict.document, "field": field, "class": conflict.class,
            "siblings": siblings, "value": value, "shown": conflict.value, "by": by, "how": described(resolution),
            "at_ms": self.now().wall_ms, "contested": contested, "score": conflict.score,
        });
        let settle = self.edit(&conflict.document, &field, Change::Set(value.clone()), etag)?;
        let writes = vec![settle, decided(id, decision)?];
        let receipt = self.write(writes, durability).await?;
        Ok(Resolved { conflict, value, receipt: Some(receipt) })
    }

    /// Opens a conflict again that a person settled: its siblings stand side by side as before, under new dots, so that
    /// it is a new conflict with an id of its own.
    pub async fn reopen(&self, id: &str, by: &str, durability: Durability) -> Result<Reopened, ResolveError> {
        let decision = self.decision(id)?;
        if decision.status != "resolved" && decision.status != "undone" {
            return Err(ResolveError::Reopened { id: id.to_owned(), status: decision.status });
        }
        // Anybody may write a note; what it says is held to what a conflict can be.
        if !(2..=SIDES_MAX).contains(&decision.siblings.len()) {
            return Err(ResolveError::Unlikely { id: id.to_owned(), siblings: decision.siblings.len() });
        }
        let etag = {
            let replica = self.inner.replica.read();
            let shown = replica.view(&decision.document);
            let stands = shown.as_ref().and_then(|view| register_of(&view.fields, &decision.field));
            let contested = shown.as_ref().is_some_and(|view| view.siblings.contains_key(&decision.field));
            if contested || stands != Some(&decision.value) {
                let Decision { document, field, .. } = decision;
                return Err(ResolveError::WrittenSince { document, field });
            }
            etag_of(&replica, &decision.document)
        };
        let values = decision.siblings.iter().map(|sibling| sibling.value.clone()).collect();
        let (document, field) = (decision.document.clone(), decision.field.clone());
        let open = self.edit(&document, &field, Change::Siblings(values), etag)?;
        let mut reopened = decision.fields;
        reopened.insert("status".into(), "reopened".into());
        reopened.insert("reopened_by".into(), by.into());
        let receipt = self.write(vec![open, decided(id, Json::Object(reopened))?], durability).await?;
        let replica = self.inner.replica.read();
        let of_field = |conflict: &&Arc<Conflict>| conflict.field.as_deref() == Some(&field);
        let conflict = replica.conflicts().of(&document).iter().find(of_field).map(|conflict| conflict.id.clone());
        Ok(Reopened { receipt, conflict })
    }

    pub(super) fn decision(&self, id: &str) -> Result<Decision, ResolveError> {
        let none = || ResolveError::NotDecided(id.to_owned());
        let address = Address::new(COLLECTION, id).map_err(|_| none())?;
        let fields = self.read(&address).document.map(|shown| shown.view.fields).ok_or_else(none)?;
        Decision::of(fields).ok_or_else(none)
    }
}

/// The value a resolution gives.
fn chosen(replica: &Replica, conflict: &Conflict, resolution: &Resolution) -> Result<Json, ResolveError> {
    of_values(conflict)?;
    match resolution {
        Resolution::Value(value) => Ok(value.clone()),
        Resolution::Choose(dot) => {
            let sibling = conflict.siblings.iter().find(|sibling| sibling.dot == *dot);
            let known = || conflict.siblings.iter().map(|sibling| sibling.dot.as_str()).collect::<Vec<_>>().join(", ");
            sibling
                .map(|sibling| sibling.value.clone())
                .ok_or_else(|| ResolveError::NoSuchSibling { dot: dot.clone(), known: known() })
        }
        Resolution::With(resolver) => {
            let unable = |cause: String| ResolveError::Unable { resolver: *resolver, cause };
            match tried(replica, conflict, *resolver) {
                Verdict::Settled(value) | Verdict::Merged(value, _) => Ok(value),
                Verdict::Unable(cause) => Err(unable(cause)),
                Verdict::Waits(_) => Err(unable("it leaves it to somebody".to_owned())),
            }
        }
    }
}

/// What a resolver makes of a conflict, told what the schema and the policies tell it.
fn tried(replica: &Replica, conflict: &Conflict, resolver: Resolver) -> Verdict {
    let name = conflict.document.as_str();
    let merged = replica.state().document(name).and_then(|document| replica.merged(name, document));
    let (Some(view), Some(field)) = (merged, &conflict.field) else {
        return Verdict::Unable("its document is not there".to_owned());
    };
    let collection = name.split('/').next().unwrap_or_default();
    let in_force = InForce {
        policies: replica.policies(),
        customs: &replica.config().customs,
        advisor: replica.advisor().map(|standing| &**standing),
        spent: None,
    };
    Judge::of(replica.schema(collection).0).try_on(name, field, &view, resolver, in_force)
}

/// A conflict of values can be settled by one of them; a broken rule only by whoever writes its documents.
pub(super) fn of_values(conflict: &Conflict) -> Result<(), ResolveError> {
    if !conflict.siblings.is_empty() {
        return Ok(());
    }
    let documents = std::iter::once(&conflict.document).chain(&conflict.others).cloned().collect::<Vec<_>>();
    let rule = conflict.rule.clone().unwrap_or_default();
    let cause = conflict.cause.clone().unwrap_or_default();
    Err(ResolveError::OfRule { rule, cause, documents: documents.join(", ") })
}

fn described(resolution: &Resolution) -> Json {
    match resolution {
        Resolution::Choose(dot) => json!({ "choose": dot }),
        Resolution::Value(_) => json!("value"),
        Resolution::With(resolver) => json!({ "resolver": resolver.name() }),
    }
}
