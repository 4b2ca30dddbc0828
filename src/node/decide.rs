//! Fields that a quorum decides: written if a majority of the voters agrees, one decision after another.

use std::time::{Duration, Instant};

use json_patch::PatchOperation;
use serde_json::{Map, Value as Json};

use super::handle::Node;
use super::lock::{Grant, check_holder, check_lease};
use super::write::{DocumentWrite, WriteBody, WriteError};
use crate::crdt::{FieldKind, Value};
use crate::document::schema::check_field_name;
use crate::document::{Address, Edit};
use crate::engine::ballot::lock::{LockChange, RequestId, Waiter};
use crate::engine::ballot::{AskError, FieldValue, FieldsChange, FieldsOutcome, FieldsVerdict, Told};

/// A change of fields of one document that all declare the type `quorum`. All of it is done, or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// Only if these fields are so; `None`: if there is none.
    pub tests: Vec<(String, Option<Json>)>,
    /// What they become; `None`: nothing.
    pub set: Vec<(String, Option<Json>)>,
    /// The token of the document's lock: the lock of the document's name. While somebody holds it, only writes under its token
    /// are done.
    pub token: Option<u64>,
    /// Gets the document's lock with it, or does nothing.
    pub take: Option<Take>,
    /// Gives the document's lock back with it.
    pub release: bool,
}

/// The lock of the document is to be this holder's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    pub holder: String,
    pub lease: Duration,
    /// Asked again with the same, it comes to the same grant.
    pub request: RequestId,
}

/// What a quorum decided about a document.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Grows with every decision about the document.
    pub version: u64,
    /// All its decided fields.
    pub fields: Map<String, Json>,
    /// The lock, where it was taken with it.
    pub grant: Option<Grant>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    #[error("{0} does not exist on this node")]
    NotFound(Address),
    #[error(
        "field `{field}` is not of type quorum: write it without `durability=quorum`, or declare it so in the schema of `{collection}`"
    )]
    Field { field: String, collection: String },
    #[error("`{field}` of {address} is not what the request says it has to be")]
    Differs { address: Address, field: String },
    #[error("`{holder}` holds the lock of {address}, under the token {token}")]
    Held { address: Address, holder: String, token: u64 },
    #[error(
        "the token {token} is not the one that the lock of {address} is held under now ({now}): it ran out or was released"
    )]
    NotHolder { address: Address, token: u64, now: u64 },
    #[error("the decided fields of {0} would be too long: at most 64 KiB are decided about one document")]
    TooLarge(Address),
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("this node is shutting down")]
    ShuttingDown,
}

impl Node {
    /// Has a quorum decide. The document has to exist here, and the fields have to be declared `quorum`. What was decided
    /// reads so at this node when this returns, and spreads as every write does.
    pub async fn decide(&self, address: &Address, decision: &Decision) -> Result<Decided, DecideError> {
        let request = RequestId(u128::from_le_bytes(super::builder::random()));
        self.decide_as(request, address, decision).await
    }

    /// The same under a request id of the caller's: asked again with the same id soon after, it is done once.
    pub async fn decide_as(
        &self,
        request: RequestId,
        address: &Address,
        decision: &Decision,
    ) -> Result<Decided, DecideError> {
        let change = self.change_of(request, address, decision)?;
        let asked = Instant::now();
        let FieldsVerdict { outcome, guard } = self.ask_fields(address, change).await?;
        let held = guard.lock.held.as_ref();
        let holder = || held.map_or_else(String::new, |held| held.holder.clone());
        let (address, now) = (address.clone(), guard.lock.token);
        match outcome {
            FieldsOutcome::Done => {
                let grant = decision.take.as_ref().map(|take| Grant {
                    name: address.as_str().to_owned(),
                    holder: take.holder.clone(),
                    token: now,
                    expires: asked + take.lease,
                });
                Ok(Decided { version: guard.fields.version, fields: fields_of(&guard.fields), grant })
            }
            FieldsOutcome::Held => Err(DecideError::Held { address, holder: holder(), token: now }),
            FieldsOutcome::NotHolder => {
                Err(DecideError::NotHolder { address, token: decision.token.unwrap_or_default(), now })
            }
            FieldsOutcome::Differs(field) => Err(DecideError::Differs { address, field }),
            FieldsOutcome::TooLarge => Err(DecideError::TooLarge(address)),
            FieldsOutcome::Unknown => Err(AskError::Unknown.into()),
        }
    }

    /// Has a quorum say what is decided about a document. A read of it at this node then shows at least that.
    pub async fn read_decided(&self, address: &Address) -> Result<Decided, DecideError> {
        let guard = self.ask_fields(address, FieldsChange::read(RequestId(0))).await?.guard;
        Ok(Decided { version: guard.fields.version, fields: fields_of(&guard.fields), grant: None })
    }

    pub(super) async fn ask_fields(
        &self,
        address: &Address,
        change: FieldsChange,
    ) -> Result<FieldsVerdict, DecideError> {
        if self.inner.is_stopping() {
            return Err(DecideError::ShuttingDown);
        }
        match self.inner.ask(|replica, now| replica.ask_fields(address.as_str(), change, now)).await? {
            Told::Fields(verdict) => Ok(verdict),
            _ => Err(AskError::Unknown.into()),
        }
    }

    fn change_of(
        &self,
        request: RequestId,
        address: &Address,
        decision: &Decision,
    ) -> Result<FieldsChange, DecideError> {
        let replica = self.inner.replica.read();
        if !replica.state().is_visible(address.as_str()) {
            return Err(DecideError::NotFound(address.clone()));
        }
        let (schema, _) = replica.schema(address.collection());
        let value = |(field, value): &(String, Option<Json>)| {
            check_field_name(field).map_err(|error| DecideError::Invalid(error.to_string()))?;
            if schema.field(field).is_none_or(|declared| declared.kind != FieldKind::Quorum) {
                return Err(DecideError::Field { field: field.clone(), collection: address.collection().to_owned() });
            }
            Ok((field.clone(), value.as_ref().map(Value::encode_json)))
        };
        let values = |fields: &[(String, Option<Json>)]| {
            fields.iter().map(value).collect::<Result<Vec<(String, FieldValue)>, _>>()
        };
        let take = decision.take.as_ref().map(|take| {
            let (lease_ms, holder) = (check_lease(take.lease)?, take.holder.clone());
            check_holder(&holder)?;
            Ok(LockChange::Acquire {
                waiter: Waiter { holder, request: take.request, lease_ms },
                waits: false,
                expired: None,
            })
        });
        let take = take.transpose().map_err(|error: super::lock::LockError| DecideError::Invalid(error.to_string()))?;
        Ok(FieldsChange {
            request,
            take,
            token: decision.token,
            tests: values(&decision.tests)?,
            set: values(&decision.set)?,
            release: decision.release,
            fenced: true,
            proposed: None,
        })
    }

    /// A write that was asked for with `durability=quorum`.
    pub(super) async fn write_by_quorum(&self, writes: &[DocumentWrite]) -> Result<Decided, WriteError> {
        let [write] = writes else {
            return Err(DecideError::Invalid("a quorum decides about one document at a time".to_owned()).into());
        };
        Ok(self.decide(&write.address, &Decision::of_write(write)?).await?)
    }
}

impl Decision {
    pub fn of_write(write: &DocumentWrite) -> Result<Self, DecideError> {
        if write.if_match.is_some() || write.create_only {
            let detail = "a quorum does not know a document's tag: have a JSON Patch `test` the fields";
            return Err(DecideError::Invalid(detail.to_owned()));
        }
        Self::of_patch(&write.body)
    }

    /// Of a merge patch, of operations that set and unset, or of a JSON Patch that tests, adds, replaces and removes fields.
    pub fn of_patch(body: &WriteBody) -> Result<Self, DecideError> {
        let mut decision = Self::default();
        match body {
            WriteBody::MergePatch(Json::Object(fields)) => {
                let value = |value: &Json| Some(value.clone()).filter(|value| !value.is_null());
                decision.set.extend(fields.iter().map(|(field, given)| (field.clone(), value(given))));
            }
            WriteBody::Edits(edits) => {
                for edit in edits {
                    match edit {
                        Edit::Set { field, value } => decision.set.push((field.clone(), Some(value.clone()))),
                        Edit::Unset { field } => decision.set.push((field.clone(), None)),
                        edit => return Err(unfit(&format!("an edit of another kind of `{}`", edit.field()))),
                    }
                }
            }
            WriteBody::JsonPatch(patch) => patch.0.iter().try_for_each(|operation| decision.step(operation))?,
            _ => return Err(unfit("a write of the whole document")),
        }
        Ok(decision)
    }

    fn step(&mut self, operation: &PatchOperation) -> Result<(), DecideError> {
        let field = |path: &str| match path.strip_prefix('/') {
            Some(name) if !name.contains('/') => Ok(name.replace("~1", "/").replace("~0", "~")),
            _ => Err(unfit(&format!("the path `{}`", path.chars().take(80).collect::<String>()))),
        };
        let name = field(operation.path().as_str())?;
        match operation {
            // What was set before in the same patch is not what the fields are.
            PatchOperation::Test(_) if !self.set.is_empty() => return Err(unfit("a `test` after a change")),
            PatchOperation::Test(test) => {
                self.tests.push((name, Some(test.value.clone()).filter(|value| !value.is_null())))
            }
            PatchOperation::Add(add) => self.set.push((name, Some(add.value.clone()))),
            PatchOperation::Replace(replace) => self.set.push((name, Some(replace.value.clone()))),
            PatchOperation::Remove(_) => self.set.push((name, None)),
            PatchOperation::Move(_) | PatchOperation::Copy(_) => return Err(unfit("`move` and `copy`")),
        }
        Ok(())
    }
}

fn unfit(what: &str) -> DecideError {
    DecideError::Invalid(format!(
        "a quorum decides about whole fields, by a patch that tests, sets and unsets them; it does not take {what}"
    ))
}

fn fields_of(fields: &crate::engine::ballot::Fields) -> Map<String, Json> {
    let value = |bytes: &Vec<u8>| Value::decode(bytes).ok().map(Value::into_json);
    fields.iter().filter_map(|(name, decided)| Some((name.to_owned(), value(decided.value.as_ref()?)?))).collect()
}

impl From<DecideError> for WriteError {
    fn from(error: DecideError) -> Self {
        match error {
            DecideError::NotFound(address) => Self::NotFound { index: 0, address },
            DecideError::ShuttingDown => Self::ShuttingDown,
            error => Self::Decide(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(patch: Json) -> Result<Decision, DecideError> {
        Decision::of_patch(&WriteBody::JsonPatch(serde_json::from_value(patch).unwrap()))
    }

    #[test]
    fn a_patch_becomes_tests_and_changes_of_whole_fields() {
        let decision = of(json!([
            { "op": "test", "path": "/host", "value": "ash" },
            { "op": "test", "path": "/moving", "value": null },
            { "op": "replace", "path": "/host", "value": { "at": 1 } },
            { "op": "add", "path": "/a~1b", "value": null },
            { "op": "remove", "path": "/moving" },
        ]));
        let decision = decision.unwrap();
        assert_eq!(decision.tests, [("host".to_owned(), Some(json!("ash"))), ("moving".to_owned(), None)]);
        let set = [("host", Some(json!({ "at": 1 }))), ("a/b", Some(Json::Null)), ("moving", None)];
        assert_eq!(decision.set, set.map(|(field, value)| (field.to_owned(), value)));
        let merge = Decision::of_patch(&WriteBody::MergePatch(json!({ "host": "oak", "moving": null }))).unwrap();
        assert_eq!(merge.set, [("host".to_owned(), Some(json!("oak"))), ("moving".to_owned(), None)]);
    }

    #[test]
    fn what_a_quorum_does_not_take_is_refused_by_name() {
        for (patch, names) in [
            (json!([{ "op": "replace", "path": "/host/at", "value": 1 }]), "the path `/host/at`"),
            (json!([{ "op": "remove", "path": "/a" }, { "op": "test", "path": "/a", "value": 1 }]), "a `test` after"),
            (json!([{ "op": "move", "from": "/a", "path": "/b" }]), "`move`"),
        ] {
            let refused = of(patch).unwrap_err().to_string();
            assert!(refused.contains(names), "{refused}");
        }
        assert!(Decision::of_patch(&WriteBody::Delete).is_err());
    }
}
