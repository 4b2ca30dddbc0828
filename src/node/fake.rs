use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::contract::*;
use super::{Figure, FigureKind, apply_patch};
use crate::clock::NodeId;
use crate::crdt::FieldKind;
use crate::document::{Address, DocumentView, Edit, PlanError, Schema};

/// Changes kept for watches.
const CHANGES_MAX: usize = 64;

#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    changed: Notify,
    chaos: bool,
}

#[derive(Default)]
struct State {
    documents: BTreeMap<Address, (Map<String, Value>, u64)>,
    seq: u64,
    log: Vec<Change>,
    blocked: BTreeSet<NodeId>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Node")
    }
}

impl Node {
    pub fn in_memory(chaos: bool) -> Self {
        let state = Mutex::new(State::default());
        Self { inner: Arc::new(Inner { state, changed: Notify::new(), chaos }) }
    }

    pub fn id(&self) -> NodeId {
        NodeId([7; 32])
    }

    pub fn name(&self) -> &str {
        "fake"
    }

    pub fn read(&self, address: &Address) -> Read {
        let state = self.inner.state.lock();
        Read { document: state.documents.get(address).map(view), token: Token(state.seq) }
    }

    pub fn list(&self, collection: &str, prefix: &str, after: Option<&str>, limit: usize) -> Listing {
        let state = self.inner.state.lock();
        let matching = state.documents.iter().filter(|(a, _)| {
            a.collection() == collection && a.id().starts_with(prefix) && after.is_none_or(|after| a.id() > after)
        });
        let mut items: Vec<_> = matching.take(limit + 1).map(|(a, d)| (a.id().to_owned(), view(d))).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|(id, _)| id.clone());
        Listing { items, next, token: Token(state.seq) }
    }

    pub async fn write(&self, writes: Vec<DocumentWrite>, durability: Durability) -> Result<Receipt, WriteError> {
        if let Durability::Replicas(wanted) = durability {
            return Err(WriteError::NotReplicated { wanted, reached: 0 });
        }
        let mut state = self.inner.state.lock();
        let mut documents = state.documents.clone();
        let (first, mut seq) = (state.seq, state.seq);
        let mut changes = Vec::new();
        for (index, write) in writes.into_iter().enumerate() {
            let before = documents.get(&write.address).cloned();
            let after = planned(index, &write, before.as_ref())?;
            if before.as_ref().map(|(fields, _)| fields) == after.as_ref() {
                continue;
            }
            seq += 1;
            match after {
                Some(fields) => documents.insert(write.address.clone(), (fields, seq)),
                None => documents.remove(&write.address),
            };
            let document = documents.get(&write.address).map(view);
            changes.push(Change { position: Position(seq), address: write.address, document });
        }
        state.documents = documents;
        state.seq = seq;
        state.log.extend(changes);
        let excess = state.log.len().saturating_sub(CHANGES_MAX);
        state.log.drain(..excess);
        drop(state);
        self.inner.changed.notify_waiters();
        let dot = (seq > first).then(|| format!("{}/00:{seq}", self.id()));
        Ok(Receipt { dot, token: Token(seq), durability: durability.to_string() })
    }

    pub async fn wait_for(&self, token: &Token, wait: Duration) -> Result<(), Behind> {
        let covered = async {
            loop {
                let changed = self.inner.changed.notified();
                if self.inner.state.lock().seq >= token.0 {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(wait, covered)
            .await
            .map_err(|_| Behind { reason: format!("write {} has not arrived here", token.0) })
    }

    pub fn watch(&self, prefix: &str, since: Option<Position>) -> Result<Watch, WatchError> {
        let state = self.inner.state.lock();
        let start = since.unwrap_or(Position(state.seq));
        let oldest = state.log.first().map_or(state.seq, |change| change.position.0 - 1);
        if start.0 > state.seq || start.0 < oldest {
            return Err(WatchError::Expired { oldest: Some(Position(oldest)) });
        }
        let (node, prefix) = (self.clone(), prefix.to_owned());
        let changes = async_stream::stream! {
            let mut at = start.0;
            loop {
                let changed = node.inner.changed.notified();
                let (oldest, news) = {
                    let state = node.inner.state.lock();
                    let oldest = state.log.first().map_or(state.seq, |change| change.position.0 - 1);
                    (oldest, state.log.iter().filter(|c| c.position.0 > at).cloned().collect::<Vec<_>>())
                };
                if at < oldest {
                    return;
                }
                for change in news {
                    at = change.position.0;
                    if change.address.as_str().starts_with(&prefix) {
                        yield change;
                    }
                }
                changed.await;
            }
        };
        Ok(Watch { position: start, changes: Box::pin(changes) })
    }

    pub fn cluster(&self) -> ClusterStatus {
        ClusterStatus { node: self.id().to_string(), partitioned: !self.inner.state.lock().blocked.is_empty() }
    }

    pub fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    pub fn schema(&self, collection: &str) -> (Arc<Schema>, SchemaOrigin) {
        let declared = Address::new("schemas", collection).ok().and_then(|a| self.read(&a).document);
        let text = declared.map(|d| d.view.fields["definition"].to_string());
        match text.and_then(|text| Schema::from_json(&text).ok()) {
            Some(schema) => (Arc::new(schema), SchemaOrigin::Declared),
            None => (Arc::default(), SchemaOrigin::Inferred),
        }
    }

    pub fn set_blocked(&self, peers: BTreeSet<NodeId>) {
        self.inner.state.lock().blocked = peers;
    }

    pub fn chaos_enabled(&self) -> bool {
        self.inner.chaos
    }

    pub fn readiness(&self) -> Vec<String> {
        Vec::new()
    }

    pub fn figures(&self) -> Vec<Figure> {
        let documents = self.inner.state.lock().documents.len() as f64;
        vec![Figure {
            name: "folkmoot_documents",
            help: "Documents held",
            kind: FigureKind::Gauge,
            labels: vec![("origin", "fa\"ke".into())],
            value: documents,
        }]
    }

    pub async fn leave(&self) -> Result<(), LeaveError> {
        Ok(())
    }
}

fn view((fields, seq): &(Map<String, Value>, u64)) -> Shown {
    let view = DocumentView { fields: fields.clone(), ..Default::default() };
    Shown { view, etag: format!("e{seq}"), expired: false }
}

type Held = (Map<String, Value>, u64);

fn planned(
    index: usize,
    write: &DocumentWrite,
    before: Option<&Held>,
) -> Result<Option<Map<String, Value>>, WriteError> {
    let address = write.address.clone();
    let etag = before.map(|(_, seq)| format!("e{seq}"));
    let matches = match &write.if_match {
        None => true,
        Some(IfMatch::Any) => before.is_some(),
        Some(IfMatch::Tags(tags)) => etag.as_ref().is_some_and(|etag| tags.contains(etag)),
    };
    if !matches || (write.create_only && before.is_some()) {
        return Err(WriteError::Precondition { index, address, etag });
    }
    let edit = !matches!(write.body, WriteBody::Put(_));
    let creates = write.missing == Missing::Create && !matches!(write.body, WriteBody::Delete);
    if edit && before.is_none() && !creates {
        return Err(WriteError::NotFound { index, address });
    }
    let mut fields = Value::Object(before.map(|(fields, _)| fields.clone()).unwrap_or_default());
    match &write.body {
        WriteBody::Put(put) => fields = Value::Object(put.clone()),
        WriteBody::Delete => return Ok(None),
        WriteBody::MergePatch(patch) => json_patch::merge(&mut fields, patch),
        WriteBody::JsonPatch(patch) => apply_patch(&mut fields, patch, 8 << 20)
            .map_err(|refused| WriteError::Patch { index, reason: refused.to_string() })?,
        WriteBody::Edits(edits) => {
            for edit in edits {
                apply_edit(&mut fields, edit).map_err(|error| WriteError::Plan { index, error })?;
            }
        }
    }
    match fields {
        Value::Object(fields) => Ok(Some(fields)),
        _ => Err(WriteError::Patch { index, reason: "the patch leaves no object".into() }),
    }
}

fn apply_edit(fields: &mut Value, edit: &Edit) -> Result<(), PlanError> {
    let unfit =
        |kind| PlanError::Edit { field: edit.field().into(), kind: FieldKind::Contested, edit: "edit", wanted: kind };
    match edit {
        Edit::Set { field, value } => fields[field] = value.clone(),
        Edit::Unset { field } => drop(fields.as_object_mut().and_then(|f| f.remove(field))),
        Edit::SetKey { field, key, value } => fields[field][key] = value.clone(),
        Edit::UnsetKey { field, key } => drop(fields[field].as_object_mut().and_then(|f| f.remove(key))),
        Edit::IncrKey { field, key, by } => {
            fields[field][key] = (fields[field][key].as_i64().unwrap_or(0) + by).into();
        }
        Edit::Splice { field, insert, .. } => fields[field] = insert.as_str().into(),
        Edit::Incr { field, by } => {
            let held = match &fields[field] {
                Value::Null => 0,
                value => value.as_i64().ok_or_else(|| unfit("a counter"))?,
            };
            fields[field] = (held + by).into();
        }
        Edit::Add { field, value } | Edit::Remove { field, value } => {
            let mut held = match &fields[field] {
                Value::Null => Vec::new(),
                Value::Array(items) => items.clone(),
                _ => return Err(unfit("a set")),
            };
            held.retain(|item| item != value);
            if matches!(edit, Edit::Add { .. }) {
                held.push(value.clone());
            }
            fields[field] = held.into();
        }
    }
    Ok(())
}

pub struct Watch {
    position: Position,
    changes: Pin<Box<dyn Stream<Item = Change> + Send>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// Where the stream starts.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Stream for Watch {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.changes.as_mut().poll_next(cx)
    }
}
