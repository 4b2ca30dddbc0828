//! Conflicts, for people: listed, settled, undone. A settlement is an ordinary causal write beside a *decision*, the
//! document `conflicts/<id>`, which says who chose what over which values. Both are written in one transaction.

use serde_json::{Map, Value as Json, json};

use super::handle::Node;
use super::write::{DocumentWrite, Durability, IfMatch, Missing, Receipt, WriteBody, WriteError};
use crate::conflict::case::{Asked, Case, Customs, Verdict};
use crate::conflict::resolver::{Prepared, resolve};
use crate::conflict::{Conflict, Policy, Status};
use crate::crdt::Resolver;
use crate::document::{Address, AddressError, Edit};
use crate::engine::Replica;
use crate::history::ledger::Entry;

/// Where decisions are kept.
pub const COLLECTION: &str = "conflicts";

/// Which conflicts are asked for. Nothing set: all.
#[derive(Debug, Clone, Default)]
pub struct ConflictFilter {
    pub status: Option<Status>,
    pub severity: Option<crate::document::rule::Severity>,
    pub collection: Option<String>,
    /// Only those whose newest sibling is at least so old, by this host's clock.
    pub older_than_ms: Option<u64>,
    /// Only ids after this one.
    pub after: Option<String>,
}

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

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResolveError {
    #[error("there is no conflict {0} here: it may have been settled meanwhile, or its documents have changed")]
    NotFound(String),
    #[error("no sibling has the dot {dot}: the conflict has {known}")]
    NoSuchSibling { dot: String, known: String },
    #[error("{resolver} does not settle this conflict: {cause}")]
    Unable { resolver: Resolver, cause: String },
    #[error("the rule `{rule}` is broken by the documents themselves: {cause}. Change one of {documents}")]
    OfRule { rule: String, cause: String, documents: String },
    #[error("no decision about {0} is kept here: only what a person settled can be opened again")]
    NotDecided(String),
    #[error("the ledger of this node holds no overruled value for {0}: ask another node, each keeps what it saw")]
    NotInLedger(String),
    #[error("several values were overruled: name one by its dot: {0}")]
    Several(String),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What a settlement would come to, or came to.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub conflict: Conflict,
    pub value: Json,
    /// `None`: a preview, nothing was written.
    pub receipt: Option<Receipt>,
}

/// A conflict as it stands, and as it would.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Previewed {
    pub now: Conflict,
    pub then: Conflict,
}

impl Node {
    /// Conflicts in the order of their ids, at most `limit`, and the id to go on after.
    pub fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> (Vec<Conflict>, Option<String>) {
        let now_ms = self.now().wall_ms;
        let replica = self.inner.replica.read();
        let mut found: Vec<&Conflict> =
            replica.conflicts().iter().filter(|conflict| filter.takes(conflict, now_ms)).collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let more = found.len() > limit;
        let found: Vec<Conflict> = found.into_iter().take(limit).cloned().collect();
        let next = found.last().filter(|_| more).map(|last| last.id.clone());
        (found, next)
    }

    pub fn conflict(&self, id: &str) -> Option<Conflict> {
        self.inner.replica.read().conflicts().get(id).cloned()
    }

    /// Values that others overruled, as this node saw it, the newest first.
    pub fn ledger(&self, document: Option<&str>, before: Option<u64>, limit: usize) -> Vec<(u64, Entry)> {
        let replica = self.inner.replica.read();
        let entries = replica.conflicts().ledger().iter();
        let asked = entries.filter(|(number, entry)| {
            before.is_none_or(|before| *number < before) && document.is_none_or(|document| entry.document == document)
        });
        asked.take(limit).map(|(number, entry)| (number, entry.clone())).collect()
    }

    /// Settles a conflict. With `preview` nothing is written.
    pub async fn resolve(
        &self,
        id: &str,
        resolution: &Resolution,
        by: &str,
        preview: bool,
        durability: Durability,
    ) -> Result<Resolved, ResolveError> {
        let (conflict, value, etag, contested) = {
            let replica = self.inner.replica.read();
            let conflict = replica.conflicts().get(id).cloned().ok_or_else(|| ResolveError::NotFound(id.to_owned()))?;
            let value = chosen(&replica, &conflict, resolution)?;
            (conflict.clone(), value, etag_of(&replica, &conflict.document), contested(&replica, &conflict.document))
        };
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

    /// Opens a conflict again that a person settled: its siblings stand side by side as before.
    pub async fn reopen(&self, id: &str, by: &str, durability: Durability) -> Result<Receipt, ResolveError> {
        let decision = self.decision(id)?;
        let text = |key: &str| decision.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
        let siblings = decision.get("siblings").and_then(Json::as_array).cloned().unwrap_or_default();
        let values = siblings.iter().map(|sibling| sibling["value"].clone()).collect();
        let open = self.edit(&text("document"), &text("field"), Change::Siblings(values), None)?;
        let mut reopened = decision.clone();
        reopened.insert("status".into(), "reopened".into());
        reopened.insert("reopened_by".into(), by.into());
        Ok(self.write(vec![open, decided(id, Json::Object(reopened))?], durability).await?)
    }

    /// Brings an overruled value back, as a new write. `id` names a conflict that is or was; `dot` one of its values, which
    /// may be left out where only one was overruled.
    pub async fn undo(
        &self,
        id: &str,
        dot: Option<&str>,
        by: &str,
        durability: Durability,
    ) -> Result<Resolved, ResolveError> {
        let conflict = self.conflict(id);
        let decision = if conflict.is_none() { self.decision(id).ok() } else { None };
        let (document, field) = match (&conflict, &decision) {
            (Some(conflict), _) => (conflict.document.clone(), conflict.field.clone().unwrap_or_default()),
            (None, Some(decision)) => {
                let text = |key: &str| decision.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
                (text("document"), text("field"))
            }
            (None, None) => self.of_ledger(dot.unwrap_or(id))?,
        };
        let entry = self.overruled(
            &document,
            &field,
            dot.or(if decision.is_none() && conflict.is_none() { Some(id) } else { None }),
        )?;
        let value: Json = serde_json::from_str(&entry.value).unwrap_or(Json::Null);
        let back = self.edit(&document, &field, Change::Set(value.clone()), None)?;
        let undone = json!({
            "status": "undone", "document": document, "field": field, "value": value, "dot": entry.dot, "by": by,
            "at_ms": self.now().wall_ms,
        });
        let name = conflict.as_ref().map_or(id, |conflict| conflict.id.as_str());
        let name = blake3::hash(format!("{name} {}", entry.dot).as_bytes()).to_hex()[..32].to_owned();
        let receipt = self.write(vec![back, decided(&name, undone)?], durability).await?;
        let conflict = conflict.unwrap_or_else(|| Conflict::past(id, &document, &field));
        Ok(Resolved { conflict, value, receipt: Some(receipt) })
    }

    /// The policies in force, in the order in which they are asked: name, version, definition.
    pub fn policies(&self) -> Vec<(String, String, Policy)> {
        let replica = self.inner.replica.read();
        let owned =
            |(name, version, policy): (&str, &str, &Policy)| (name.to_owned(), version.to_owned(), policy.clone());
        replica.policies().iter().map(owned).collect()
    }

    /// Today's conflicts that would stand otherwise under this policy.
    pub fn preview(&self, policy: Policy) -> Vec<Previewed> {
        let pairs = self.inner.replica.read().preview(policy);
        pairs.into_iter().map(|(now, then)| Previewed { now, then }).collect()
    }

    fn of_ledger(&self, dot: &str) -> Result<(String, String), ResolveError> {
        let replica = self.inner.replica.read();
        let entry = replica.conflicts().ledger().iter().find(|(_, entry)| entry.dot == dot);
        let entry = entry.ok_or_else(|| ResolveError::NotFound(dot.to_owned()))?;
        Ok((entry.1.document.clone(), entry.1.field.clone()))
    }

    fn overruled(&self, document: &str, field: &str, dot: Option<&str>) -> Result<Entry, ResolveError> {
        let replica = self.inner.replica.read();
        let of_field = |entry: &&Entry| entry.document == document && entry.field == field;
        let entries = replica.conflicts().ledger().iter().map(|(_, entry)| entry).filter(of_field);
        let found: Vec<&Entry> = match dot {
            Some(dot) => entries.filter(|entry| entry.dot == dot).collect(),
            None => entries.filter(|entry| entry.is_overruled()).collect(),
        };
        match found[..] {
            [] => Err(ResolveError::NotInLedger(format!("{document} {field}"))),
            [only] => Ok(only.clone()),
            _ => {
                Err(ResolveError::Several(found.iter().map(|entry| entry.dot.as_str()).collect::<Vec<_>>().join(", ")))
            }
        }
    }

    fn decision(&self, id: &str) -> Result<Map<String, Json>, ResolveError> {
        let address = Address::new(COLLECTION, id)?;
        let document = self.read(&address).document;
        document.map(|shown| shown.view.fields).ok_or_else(|| ResolveError::NotDecided(id.to_owned()))
    }

    /// The write that changes one register of a document: a field, or one key of a map.
    fn edit(
        &self,
        document: &str,
        register: &str,
        change: Change,
        etag: Option<String>,
    ) -> Result<DocumentWrite, ResolveError> {
        let address = Address::parse(document)?;
        let fields = self.read(&address).document.map(|shown| shown.view.fields).unwrap_or_default();
        let (field, key) = place(&fields, register);
        let edit = match (change, key) {
            (Change::Set(value), None) => Edit::Set { field, value },
            (Change::Set(value), Some(key)) => Edit::SetKey { field, key, value },
            (Change::Siblings(values), key) => Edit::Siblings { field, key, values },
        };
        let if_match = etag.map(|tag| IfMatch::Tags(vec![tag]));
        let body = WriteBody::Edits(vec![edit]);
        Ok(DocumentWrite { address, body, if_match, create_only: false, missing: Missing::Refuse })
    }
}

enum Change {
    Set(Json),
    Siblings(Vec<Json>),
}

impl ConflictFilter {
    fn takes(&self, conflict: &Conflict, now_ms: u64) -> bool {
        let age_ms = || conflict.siblings.first().map_or(0, |newest| now_ms.saturating_sub(newest.at));
        self.status.is_none_or(|status| conflict.status == status)
            && self.severity.is_none_or(|severity| conflict.severity == severity)
            && self
                .collection
                .as_deref()
                .is_none_or(|collection| conflict.document.split('/').next() == Some(collection))
            && self.older_than_ms.is_none_or(|ms| age_ms() >= ms)
            && self.after.as_ref().is_none_or(|after| conflict.id > *after)
    }
}

/// The value a resolution gives.
fn chosen(replica: &Replica, conflict: &Conflict, resolution: &Resolution) -> Result<Json, ResolveError> {
    if conflict.siblings.is_empty() {
        let documents =
            std::iter::once(&conflict.document).chain(&conflict.others).cloned().collect::<Vec<_>>().join(", ");
        let rule = conflict.rule.clone().unwrap_or_default();
        return Err(ResolveError::OfRule { rule, cause: conflict.cause.clone().unwrap_or_default(), documents });
    }
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
            let fields = replica.view(&conflict.document).map(|view| view.fields).unwrap_or_default();
            let case = Case {
                document: &conflict.document,
                field: conflict.field.as_deref().unwrap_or_default(),
                siblings: &conflict.siblings,
                fields: &fields,
                holds: &|_| Ok(()),
                customs: &Customs::default(),
                asks: Asked {
                    standing: replica.advisor().map(|standing| &**standing),
                    contested: contested(replica, &conflict.document),
                    score: conflict.score,
                },
            };
            match resolve(&case, *resolver, &Prepared::default()).1 {
                Verdict::Settled(value) | Verdict::Merged(value, _) => Ok(value),
                Verdict::Unable(cause) => Err(ResolveError::Unable { resolver: *resolver, cause }),
                Verdict::Waits(_) => {
                    Err(ResolveError::Unable { resolver: *resolver, cause: "it leaves it to somebody".to_owned() })
                }
            }
        }
    }
}

/// Registers of a document that have siblings.
pub(super) fn contested(replica: &Replica, document: &str) -> usize {
    replica.conflicts().of(document).iter().filter(|conflict| !conflict.siblings.is_empty()).count()
}

fn described(resolution: &Resolution) -> Json {
    match resolution {
        Resolution::Choose(dot) => json!({ "choose": dot }),
        Resolution::Value(_) => json!("value"),
        Resolution::With(resolver) => json!({ "resolver": resolver.name() }),
    }
}

/// The field a register is, or the map and the key.
fn place(fields: &Map<String, Json>, register: &str) -> (String, Option<String>) {
    if fields.contains_key(register) {
        return (register.to_owned(), None);
    }
    let splits = register.match_indices('.').map(|(at, _)| (&register[..at], &register[at + 1..]));
    let found = splits.into_iter().find(|(field, _)| fields.get(*field).is_some_and(Json::is_object));
    found.map_or((register.to_owned(), None), |(field, key)| (field.to_owned(), Some(key.to_owned())))
}

fn etag_of(replica: &Replica, name: &str) -> Option<String> {
    let document = replica.state().document(name)?;
    Some(format!("{:016x}", crate::document::etag(document, &replica.state().roster)))
}

fn decided(id: &str, decision: Json) -> Result<DocumentWrite, ResolveError> {
    let Json::Object(fields) = decision else { return Err(ResolveError::NotDecided(id.to_owned())) };
    Ok(DocumentWrite {
        address: Address::new(COLLECTION, id)?,
        body: WriteBody::Put(fields),
        if_match: None,
        create_only: false,
        missing: Missing::Create,
    })
}
