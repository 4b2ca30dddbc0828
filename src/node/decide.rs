//! Fields that a quorum decides: written if a majority of the voters agrees, one decision after another.

use std::time::Instant;

use json_patch::PatchOperation;
use serde_json::{Map, Value as Json};

use super::handle::Node;
use super::lock::{Grant, later};
use super::write::{DocumentWrite, WriteBody, WriteError};
use crate::crdt::Value;
use crate::document::{Address, Edit};
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{AskError, FieldsChange, FieldsOutcome, FieldsVerdict, Told, Unfit};
pub use crate::engine::ballot::{Decision, Take};

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
        "the lock of {address} is not held under the token {token} any more: it ran out or was released{}",
        later(*token, *now)
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
        decision.change(request, schema).map_err(|unfit| match unfit {
            Unfit::Field(field) => DecideError::Field { field, collection: address.collection().to_owned() },
            Unfit::Invalid(why) => DecideError::Invalid(why),
        })
    }

    /// A write that was asked for with `durability=quorum`.
    pub(super) async fn write_by_quorum(&self, writes: &[DocumentWrite]) -> Result<Decided, WriteError> {
        let [write] = writes else {
            return Err(DecideError::Invalid("a quorum decides about one document at a time".to_owned()).into());
        };
        Ok(self.decide(&write.address, &write.decision()?).await?)
    }
}

impl DocumentWrite {
    /// The write as a quorum is asked to decide it.
    pub fn decision(&self) -> Result<Decision, DecideError> {
        if self.if_match.is_some() || self.create_only {
            let detail = "a quorum does not know a document's tag: have a JSON Patch `test` the fields";
            return Err(DecideError::Invalid(detail.to_owned()));
        }
        of_patch(&self.body)
    }
}

/// Of a merge patch, of operations that set and unset, or of a JSON Patch that tests, adds, replaces and removes fields.
fn of_patch(body: &WriteBody) -> Result<Decision, DecideError> {
    let mut decision = Decision::default();
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
        WriteBody::JsonPatch(patch) => patch.0.iter().try_for_each(|operation| step(&mut decision, operation))?,
        _ => return Err(unfit("a write of the whole document")),
    }
    Ok(decision)
}

fn step(decision: &mut Decision, operation: &PatchOperation) -> Result<(), DecideError> {
    let field = |path: &str| match path.strip_prefix('/') {
        Some(name) if !name.contains('/') => Ok(name.replace("~1", "/").replace("~0", "~")),
        _ => Err(unfit(&format!("the path `{}`", path.chars().take(80).collect::<String>()))),
    };
    let name = field(operation.path().as_str())?;
    match operation {
        // What was set before in the same patch is not what the fields are.
        PatchOperation::Test(_) if !decision.set.is_empty() => return Err(unfit("a `test` after a change")),
        PatchOperation::Test(test) => {
            decision.tests.push((name, Some(test.value.clone()).filter(|value| !value.is_null())))
        }
        PatchOperation::Add(add) => decision.set.push((name, Some(add.value.clone()))),
        PatchOperation::Replace(replace) => decision.set.push((name, Some(replace.value.clone()))),
        PatchOperation::Remove(_) => decision.set.push((name, None)),
        PatchOperation::Move(_) | PatchOperation::Copy(_) => return Err(unfit("`move` and `copy`")),
    }
    Ok(())
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
        of_patch(&WriteBody::JsonPatch(serde_json::from_value(patch).unwrap()))
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
        let merge = of_patch(&WriteBody::MergePatch(json!({ "host": "oak", "moving": null }))).unwrap();
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
        assert!(of_patch(&WriteBody::Delete).is_err());
    }
}
