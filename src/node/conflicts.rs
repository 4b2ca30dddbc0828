//! Conflicts, for people: listed, settled, undone. A settlement is an ordinary causal write beside a *decision*, the
//! document `conflicts/<id>`, which says who chose what over which values. Both are written in one transaction.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::handle::Node;
use super::read::{etag, register_of};
use super::write::{DocumentWrite, Durability, IfMatch, Missing, Receipt, WriteBody, WriteError};
use crate::conflict::judge::InForce;
use crate::conflict::{Conflict, Judge, Policy, Status, Verdict};
use crate::crdt::{FieldKind, Resolver};
use crate::document::{Address, AddressError, Edit, Sibling};
use crate::engine::Replica;
use crate::history::ledger::{Entry, Outcome};

use crate::conflict::merge::SIDES_MAX;
use crate::engine::conflicts::SYSTEM;
pub use crate::engine::escalation::COLLECTION;

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
    #[error("the conflict {id} is over: {told}. The note conflicts/{id} tells all of it")]
    Over { id: String, told: String },
    #[error("no sibling has the dot {dot}: the conflict has {known}")]
    NoSuchSibling { dot: String, known: String },
    #[error("{resolver} does not settle this conflict: {cause}")]
    Unable { resolver: Resolver, cause: String },
    #[error(
        "the rule `{rule}` is broken by the documents themselves: {cause}. No resolver settles that: change {documents}"
    )]
    OfRule { rule: String, cause: String, documents: String },
    #[error("no decision about {0} is kept here: only what a person settled can be opened again")]
    NotDecided(String),
    #[error("{id} is {status} already: see the list of conflicts for the one that is open now")]
    Reopened { id: String, status: String },
    #[error(
        "{document} was written since: `{field}` no longer holds what was decided. Write the value you want, or undo one by \
         its dot"
    )]
    WrittenSince { document: String, field: String },
    #[error(
        "there is no conflict or decision {0}, and no value with this dot in the ledger of this node: each keeps what it saw, ask another"
    )]
    NotInLedger(String),
    #[error("{0} is read by every node and is not changed from here: write it by its own path")]
    System(String),
    #[error("the note about {id} names {siblings} values: a conflict that is opened again has 2 to {SIDES_MAX}")]
    Unlikely { id: String, siblings: usize },
    #[error("readers see all its values: none was overruled")]
    NothingOverruled,
    #[error("several values were overruled; name one by its dot: {0}")]
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

/// What a policy would change, a page of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Preview {
    /// In the order of ids.
    pub changed: Vec<Previewed>,
    /// How many would stand otherwise, on all pages.
    pub count: usize,
    /// How many there are that a policy may settle.
    pub of: usize,
    /// The id to go on after.
    pub next: Option<String>,
}

/// A value that stood beside others, and what became of it.
#[derive(Debug, Clone)]
pub struct Rival {
    pub number: u64,
    pub entry: Entry,
    pub outcome: Outcome,
    /// The outcome in words.
    pub told: String,
    /// What its register reads now, whatever became of it since; `None`: it is gone.
    pub now: Option<Json>,
}

/// A conflict that was opened again.
#[derive(Debug, Clone)]
pub struct Reopened {
    pub receipt: Receipt,
    /// The id it has now, where this node lists it already.
    pub conflict: Option<String>,
}

impl Node {
    /// Conflicts in the order of their ids, at most `limit`, and the id to go on after.
    pub fn conflicts(&self, filter: &ConflictFilter, limit: usize) -> (Vec<Conflict>, Option<String>) {
        let now_ms = self.now().wall_ms;
        let replica = self.inner.replica.read();
        let listed = replica.conflicts().above(filter.after.as_deref());
        let mut asked = listed.filter(|conflict| filter.takes(conflict, now_ms));
        let found: Vec<Conflict> = asked.by_ref().take(limit).cloned().collect();
        let more = asked.next().is_some();
        let next = found.last().filter(|_| more).map(|last| last.id.clone());
        (found, next)
    }

    pub fn conflict(&self, id: &str) -> Option<Conflict> {
        self.inner.replica.read().conflicts().get(id).cloned()
    }

    /// Values that stood beside others, as this node saw it, the newest first.
    pub fn ledger(&self, document: Option<&str>, before: Option<u64>, limit: usize) -> Vec<Rival> {
        let replica = self.inner.replica.read();
        let ledger = replica.conflicts().ledger();
        let asked = ledger.iter().filter(|(number, entry)| {
            before.is_none_or(|before| *number < before) && document.is_none_or(|document| entry.document == document)
        });
        let waits = |entry: &Entry| {
            let mut within = replica.conflicts().of(&entry.document).iter().filter(|conflict| conflict.status.waits());
            within.any(|conflict| conflict.siblings.iter().any(|sibling| sibling.dot == entry.dot))
        };
        let rival = |(number, entry): (u64, &Entry)| {
            let (outcome, told) = match waits(entry) {
                true => (Outcome::Waits, "stands beside others, and waits for somebody".to_owned()),
                false => ledger.outcome(entry),
            };
            let now = replica.view(&entry.document).and_then(|view| register_of(&view.fields, &entry.field).cloned());
            Rival { number, entry: entry.clone(), outcome, told, now }
        };
        asked.take(limit).map(rival).collect()
    }

    /// Why no conflict with this id is listed: it is over, where a note says what became of it, or it never was.
    pub fn missing_conflict(&self, id: &str) -> ResolveError {
        let note = Address::new(COLLECTION, id).ok().and_then(|address| self.read(&address).document);
        match note.and_then(|shown| ended(&shown.view.fields)) {
            Some(told) => ResolveError::Over { id: id.to_owned(), told },
            None => ResolveError::NotFound(id.to_owned()),
        }
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

    /// Brings an overruled value back, as a new write. `id` names a conflict that is, one that a person settled, or the
    /// dot of a value in the ledger; `dot` one of a conflict's values, and may be left out where only one was overruled.
    pub async fn undo(
        &self,
        id: &str,
        dot: Option<&str>,
        by: &str,
        durability: Durability,
    ) -> Result<Resolved, ResolveError> {
        let Overruled { conflict, dot, value, note } = self.overruled(id, dot)?;
        let document = conflict.document.clone();
        let field = conflict.field.clone().unwrap_or_default();
        let back = self.edit(&document, &field, Change::Back(value.clone()), None)?;
        let Note { id: name, mut fields } = note;
        let undone = json!({
            "status": "undone", "document": document, "field": field, "value": value, "dot": dot, "undone_by": by,
            "undone_ms": self.now().wall_ms,
        });
        if let Json::Object(undone) = undone {
            fields.extend(undone);
        }
        let receipt = self.write(vec![back, decided(&name, Json::Object(fields))?], durability).await?;
        Ok(Resolved { conflict, value, receipt: Some(receipt) })
    }

    /// The policies in force, in the order in which they are asked: name, version, definition.
    pub fn policies(&self) -> Vec<(String, String, Policy)> {
        let replica = self.inner.replica.read();
        let owned =
            |(name, version, policy): (&str, &str, &Policy)| (name.to_owned(), version.to_owned(), policy.clone());
        replica.policies().iter().map(owned).collect()
    }

    /// Rules of all policies but this one.
    pub fn rules_beside(&self, policy: &str) -> usize {
        self.inner.replica.read().policies().rules_beside(policy)
    }

    /// Today's conflicts that would stand otherwise under this policy, were it asked first: under another rule or
    /// resolver, with another value or status. At most `limit` of those after the id `after`.
    pub fn preview(&self, policy: Policy, after: Option<&str>, limit: usize) -> Preview {
        let replica = self.inner.replica.read();
        let may_settle = |conflict: &&Conflict| {
            !conflict.siblings.is_empty() && !SYSTEM.contains(&conflict.document.split('/').next().unwrap_or_default())
        };
        let of = replica.conflicts().within().filter(may_settle).count();
        let versions: Vec<String> =
            replica.policies().iter().map(|(name, version, _)| format!("{name}@{version}/")).collect();
        let mut changed: Vec<Previewed> = Vec::new();
        for (now, mut then) in replica.preview(policy) {
            // What waited too long was handed on by a note, which the other policy would find there too.
            if let (Some(to), Some(_)) = (now.escalated, then.escalate) {
                then.escalate(to);
            }
            if differ(&now, &then, &versions) {
                changed.push(Previewed { now, then });
            }
        }
        drop(replica);
        changed.sort_by(|a, b| a.now.id.cmp(&b.now.id));
        let count = changed.len();
        changed.retain(|pair| after.is_none_or(|after| pair.now.id.as_str() > after));
        let more = changed.len() > limit;
        changed.truncate(limit);
        let next = changed.last().filter(|_| more).map(|last| last.now.id.clone());
        Preview { changed, count, of, next }
    }

    /// The value to bring back: of a conflict that is, else of a person's decision, else of the ledger.
    fn overruled(&self, id: &str, dot: Option<&str>) -> Result<Overruled, ResolveError> {
        if let Some(conflict) = self.conflict(id) {
            of_values(&conflict)?;
            let lost = lost(&conflict.siblings, conflict.value.as_ref(), dot)?;
            let fields = json!({ "class": conflict.class, "siblings": conflict.siblings, "shown": conflict.value });
            return Ok(lost.of(conflict, fields));
        }
        if let Ok(Decision { document, field, siblings, value, mut fields, .. }) = self.decision(id) {
            let lost = lost(&siblings, Some(&value), dot)?;
            // What somebody decided stays in the note, beside who took it back.
            fields.insert("undid".to_owned(), value);
            return Ok(lost.of(Conflict::past(id, &document, &field), Json::Object(fields)));
        }
        let dot = dot.unwrap_or(id);
        let replica = self.inner.replica.read();
        let entries: Vec<&Entry> =
            replica.conflicts().ledger().iter().map(|(_, entry)| entry).filter(|entry| entry.dot == dot).collect();
        match entries[..] {
            [] => Err(ResolveError::NotInLedger(dot.to_owned())),
            [entry, ..] => {
                // The ledger knows no conflicts: a value by its dot has a note of its own.
                let name = blake3::hash(format!("{} {} {dot}", entry.document, entry.field).as_bytes());
                let conflict = Conflict::past(&name.to_hex()[..32], &entry.document, &entry.field);
                let value = serde_json::from_str(&entry.value).unwrap_or(Json::Null);
                Ok(Lost { dot: dot.to_owned(), value }.of(conflict, Json::Null))
            }
        }
    }

    fn decision(&self, id: &str) -> Result<Decision, ResolveError> {
        let none = || ResolveError::NotDecided(id.to_owned());
        let address = Address::new(COLLECTION, id).map_err(|_| none())?;
        let fields = self.read(&address).document.map(|shown| shown.view.fields).ok_or_else(none)?;
        Decision::of(fields).ok_or_else(none)
    }

    /// Whether the field would not take another value as long as it has one: it keeps the first, or the largest.
    fn keeps_its_own(&self, address: &Address, field: &str, is_key: bool) -> bool {
        let (schema, _) = self.schema(address.collection());
        let kind = schema.field(field).and_then(|field| if is_key { field.inner } else { Some(field.kind) });
        matches!(kind, Some(FieldKind::Fww | FieldKind::Max | FieldKind::Min))
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
}

/// Whether what people would notice of a conflict differs. `versions` begin the names of rules that are in force; the rule
/// of a policy that is tried has its policy's version alone.
fn differ(now: &Conflict, then: &Conflict, versions: &[String]) -> bool {
    let in_force =
        |rule: &str| versions.iter().find_map(|version| rule.strip_prefix(version.as_str())).map(str::to_owned);
    let tried =
        |rule: &str| rule.strip_prefix('@').and_then(|rule| rule.split_once('/')).map(|(_, rule)| rule.to_owned());
    let rule = |conflict: &Conflict| conflict.policy.as_deref().and_then(|rule| tried(rule).or_else(|| in_force(rule)));
    (now.resolver, now.status, &now.value, rule(now)) != (then.resolver, then.status, &then.value, rule(then))
}

/// What a note says became of its conflict. Anybody may write a note: what it holds is shown as JSON, and shortened.
fn ended(fields: &Map<String, Json>) -> Option<String> {
    let shown = |key: &str| fields.get(key).map(shortened);
    let by = shown("by").map_or_else(String::new, |by| format!(" by {by}"));
    let value = shown("value").map_or_else(String::new, |value| format!(", with {value}"));
    match fields.get("status")?.as_str()? {
        "resolved" => Some(format!("it was resolved{by}{value}")),
        "undone" => {
            let undone_by = shown("undone_by").map_or_else(String::new, |by| format!(" by {by}"));
            let before =
                shown("undid").map_or_else(String::new, |undid| format!("; before, it was resolved{by}, with {undid}"));
            Some(format!("it was undone{undone_by}{value}{before}"))
        }
        "reopened" => {
            let by = shown("reopened_by").map_or_else(String::new, |by| format!(" by {by}"));
            Some(format!("it was opened again{by}, as a new conflict that the list names"))
        }
        "escalated" => {
            let to = shown("to").map_or_else(String::new, |to| format!(" to {to}"));
            Some(format!("it was escalated{to}, and its field was written since"))
        }
        other => Some(format!("its status is {}{by}{value}", shortened(&other.into()))),
    }
}

/// A value that gave way, and the conflict it was in.
struct Overruled {
    conflict: Conflict,
    dot: String,
    value: Json,
    note: Note,
}

/// The document `conflicts/<id>`, as far as it says what was there before.
struct Note {
    id: String,
    fields: Map<String, Json>,
}

/// One sibling's dot and value.
struct Lost {
    dot: String,
    value: Json,
}

impl Lost {
    fn of(self, conflict: Conflict, fields: Json) -> Overruled {
        let fields = if let Json::Object(fields) = fields { fields } else { Map::new() };
        let note = Note { id: conflict.id.clone(), fields };
        Overruled { conflict, dot: self.dot, value: self.value, note }
    }
}

/// The sibling with this dot; without one the only sibling that is not what readers see.
fn lost(siblings: &[Sibling], shown: Option<&Json>, dot: Option<&str>) -> Result<Lost, ResolveError> {
    let listed = |siblings: &[&Sibling]| {
        let each = |sibling: &&Sibling| format!("{} ({})", sibling.dot, shortened(&sibling.value));
        siblings.iter().map(each).collect::<Vec<_>>().join(", ")
    };
    let found: Vec<&Sibling> = match dot {
        Some(dot) => siblings.iter().filter(|sibling| sibling.dot == dot).collect(),
        None => siblings.iter().filter(|sibling| Some(&sibling.value) != shown).collect(),
    };
    match (&found[..], dot) {
        ([only], _) => Ok(Lost { dot: only.dot.clone(), value: only.value.clone() }),
        (_, Some(dot)) => {
            let known = listed(&siblings.iter().collect::<Vec<_>>());
            Err(ResolveError::NoSuchSibling { dot: dot.to_owned(), known })
        }
        ([], None) => Err(ResolveError::NothingOverruled),
        (several, None) => Err(ResolveError::Several(listed(several))),
    }
}

/// A value as an error shows it.
fn shortened(value: &Json) -> String {
    const SHOWN_MAX: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What a person made of a conflict, as `conflicts/<id>` keeps it.
struct Decision {
    status: String,
    document: String,
    field: String,
    siblings: Vec<Sibling>,
    value: Json,
    /// All of it.
    fields: Map<String, Json>,
}

impl Decision {
    /// `None`: it is none, or one of an undo by a dot alone, which has no siblings.
    fn of(fields: Map<String, Json>) -> Option<Self> {
        let text = |key: &str| fields.get(key).and_then(Json::as_str).map(str::to_owned);
        let siblings = fields.get("siblings")?.as_array()?.iter().map(sibling_of).collect::<Option<_>>()?;
        Some(Self {
            status: text("status")?,
            document: text("document")?,
            field: text("field")?,
            siblings,
            value: fields.get("value").cloned().unwrap_or(Json::Null),
            fields,
        })
    }
}

fn sibling_of(json: &Json) -> Option<Sibling> {
    Some(Sibling {
        value: json.get("value")?.clone(),
        dot: json.get("dot")?.as_str()?.to_owned(),
        replica: json.get("replica")?.as_str()?.to_owned(),
        at: json.get("at")?.as_u64()?,
        base: json.get("base").cloned(),
    })
}

enum Change {
    Set(Json),
    /// Sets it whatever it holds.
    Back(Json),
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
    }
}

/// A conflict of values can be settled by one of them; a broken rule only by whoever writes its documents.
fn of_values(conflict: &Conflict) -> Result<(), ResolveError> {
    if !conflict.siblings.is_empty() {
        return Ok(());
    }
    let documents = std::iter::once(&conflict.document).chain(&conflict.others).cloned().collect::<Vec<_>>();
    let rule = conflict.rule.clone().unwrap_or_default();
    let cause = conflict.cause.clone().unwrap_or_default();
    Err(ResolveError::OfRule { rule, cause, documents: documents.join(", ") })
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
    Some(etag(replica, name, document, &replica.show(name, document)?))
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
