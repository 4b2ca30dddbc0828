//! The JSON of requests and answers.

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::condition::{of_batch, quoted};
use crate::document::{Address, Edit};
use crate::node::{DocumentWrite, IfMatch, Missing, Receipt, Shown, Token, WriteBody};

/// Operations of one patch, and edits of one write.
pub(super) const PATCH_OPS_MAX: usize = 1_000;
/// Writes of one batch.
pub(super) const WRITES_MAX: usize = 1_000;

pub(super) fn document(address: &Address, shown: Shown, clock: &Token) -> Value {
    let mut members = content(address.id(), shown);
    members.insert("collection".into(), address.collection().into());
    members.insert("clock".into(), clock.to_string().into());
    Value::Object(members)
}

/// A document in a list: its collection is known, its tag stands beside it.
pub(super) fn item(id: &str, shown: Shown) -> Value {
    let etag = quoted(&shown.etag);
    let mut members = content(id, shown);
    members.insert("etag".into(), etag.into());
    Value::Object(members)
}

/// What `id`, `fields` and `siblings` are everywhere. `expired` stands where a field has a time to live, `inferred` where
/// a field is not declared, `stale` where a quorum decides a field and is not reached.
pub(super) fn content(id: &str, shown: Shown) -> Map<String, Value> {
    let Shown { view, expired, stale, .. } = shown;
    let mut members = Map::new();
    members.insert("id".into(), id.into());
    members.insert("fields".into(), Value::Object(view.fields));
    members.insert("siblings".into(), json!(view.siblings));
    if expired || view.expires_at_ms.is_some() {
        members.insert("expired".into(), expired.into());
    }
    if !stale.is_empty() {
        members.insert("stale".into(), stale.into());
    }
    if !view.inferred.is_empty() {
        members.insert("inferred".into(), view.inferred.into());
    }
    members
}

pub(super) fn receipt(receipt: &Receipt, clock: &Token) -> Value {
    json!(ReceiptWire {
        dot: receipt.dot.as_deref(),
        clock: clock.to_string(),
        durability: &receipt.durability,
        version: receipt.version
    })
}

#[derive(Serialize)]
struct ReceiptWire<'a> {
    dot: Option<&'a str>,
    clock: String,
    durability: &'a str,
    /// Of a quorum's decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
}

/// One change of `application/vnd.folkmoot.ops+json`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "OpWire")]
pub(super) struct Op(pub Edit);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpWire {
    field: String,
    key: Option<String>,
    #[serde(default, deserialize_with = "present")]
    set: Option<Value>,
    unset: Option<bool>,
    incr: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    add: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    remove: Option<Value>,
    splice: Option<SpliceWire>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpliceWire {
    at: usize,
    #[serde(default)]
    delete: usize,
    #[serde(default)]
    insert: String,
}

/// `null` is a value like any other here; only a member that is absent is none.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl TryFrom<OpWire> for Op {
    type Error = String;

    fn try_from(wire: OpWire) -> Result<Self, String> {
        let OpWire { field, key, set, unset, incr, add, remove, splice } = wire;
        let verbs = [set.is_some(), unset.is_some(), incr.is_some(), add.is_some(), remove.is_some(), splice.is_some()];
        let refuse =
            |what: &str| Err(format!("the op on field `{}` {what}", field.chars().take(80).collect::<String>()));
        if verbs.iter().filter(|verb| **verb).count() != 1 {
            return refuse("needs exactly one of set, unset, incr, add, remove, splice");
        }
        if unset == Some(false) {
            return refuse("says `unset: false`, which changes nothing: leave it out");
        }
        let edit = match (key, set, unset, incr, add, remove, splice) {
            (Some(key), Some(value), ..) => Edit::SetKey { field, key, value },
            (Some(key), _, Some(_), ..) => Edit::UnsetKey { field, key },
            (Some(key), _, _, Some(by), ..) => Edit::IncrKey { field, key, by },
            (Some(_), ..) => return refuse("has a key, which goes with set, unset and incr only"),
            (None, Some(value), ..) => Edit::Set { field, value },
            (None, _, Some(_), ..) => Edit::Unset { field },
            (None, _, _, Some(by), ..) => Edit::Incr { field, by },
            (None, _, _, _, Some(value), ..) => Edit::Add { field, value },
            (None, _, _, _, _, Some(value), _) => Edit::Remove { field, value },
            (None, _, _, _, _, _, Some(SpliceWire { at, delete, insert })) => {
                Edit::Splice { field, at, delete, insert }
            }
            (None, None, None, None, None, None, None) => return refuse("changes nothing"),
        };
        Ok(Self(edit))
    }
}

/// A list that names the index of what is wrong in it, and ends at `MAX`.
#[derive(Debug)]
pub(super) struct Indexed<T, const MAX: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Indexed<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T, const MAX: usize>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
            type Value = Indexed<T, MAX>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "a list of at most {MAX}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                loop {
                    let item = seq.next_element::<T>();
                    match item.map_err(|error| A::Error::custom(format!("item {}: {error}", items.len())))? {
                        None => return Ok(Indexed(items)),
                        Some(_) if items.len() == MAX => {
                            return Err(A::Error::custom(format!("the list holds more than {MAX}: split it")));
                        }
                        Some(item) => items.push(item),
                    }
                }
            }
        }

        deserializer.deserialize_seq(Items(std::marker::PhantomData))
    }
}

impl<const MAX: usize> Indexed<Op, MAX> {
    pub fn edits(self) -> Vec<Edit> {
        self.0.into_iter().map(|Op(edit)| edit).collect()
    }
}

/// The body of `POST /v1/batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    pub writes: Indexed<BatchWrite, WRITES_MAX>,
}

/// One write of a batch. `upsert` is `None` where the write leaves it to the request.
#[derive(Debug, Deserialize)]
#[serde(try_from = "BatchWriteWire")]
pub(super) struct BatchWrite {
    address: Address,
    body: WriteBody,
    if_match: Option<IfMatch>,
    upsert: Option<bool>,
}

impl BatchWrite {
    pub fn write(self, upsert: bool) -> DocumentWrite {
        let missing = if self.upsert.unwrap_or(upsert) { Missing::Create } else { Missing::Refuse };
        let Self { address, body, if_match, .. } = self;
        DocumentWrite { address, body, if_match, create_only: false, missing }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchWriteWire {
    op: Verb,
    collection: String,
    id: String,
    fields: Option<Map<String, Value>>,
    ops: Option<Indexed<Op, PATCH_OPS_MAX>>,
    if_match: Option<String>,
    upsert: Option<bool>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verb {
    Put,
    Patch,
    Delete,
}

impl TryFrom<BatchWriteWire> for BatchWrite {
    type Error = String;

    fn try_from(wire: BatchWriteWire) -> Result<Self, String> {
        let address = Address::new(&wire.collection, &wire.id).map_err(|error| error.to_string())?;
        let body = match (wire.op, wire.fields, wire.ops) {
            (Verb::Put, Some(fields), None) => WriteBody::Put(fields),
            (Verb::Put, ..) => return Err(format!("the put of {address} needs `fields` and takes no `ops`")),
            (Verb::Patch, Some(fields), None) => WriteBody::MergePatch(Value::Object(fields)),
            (Verb::Patch, None, Some(ops)) => WriteBody::Edits(ops.edits()),
            (Verb::Patch, ..) => return Err(format!("the patch of {address} needs either `fields` or `ops`")),
            (Verb::Delete, None, None) => WriteBody::Delete,
            (Verb::Delete, ..) => return Err(format!("the delete of {address} takes neither `fields` nor `ops`")),
        };
        let if_match = wire.if_match.as_deref().map(of_batch);
        Ok(Self { address, body, if_match, upsert: wire.upsert })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(text: &str) -> Result<Edit, String> {
        let ops = serde_json::from_str::<Indexed<Op, 1>>(&format!("[{text}]"));
        ops.map(|ops| ops.edits().remove(0)).map_err(|error| error.to_string())
    }

    #[test]
    fn each_op_is_one_edit() {
        let field = || "f".to_owned();
        assert_eq!(edit(r#"{"field":"f","incr":-2}"#), Ok(Edit::Incr { field: field(), by: -2 }));
        assert_eq!(edit(r#"{"field":"f","set":null}"#), Ok(Edit::Set { field: field(), value: Value::Null }));
        assert_eq!(edit(r#"{"field":"f","unset":true}"#), Ok(Edit::Unset { field: field() }));
        assert_eq!(edit(r#"{"field":"f","remove":"x"}"#), Ok(Edit::Remove { field: field(), value: "x".into() }));
        let key = || "k".to_owned();
        let set_key = Edit::SetKey { field: field(), key: key(), value: 1.into() };
        assert_eq!(edit(r#"{"field":"f","key":"k","set":1}"#), Ok(set_key));
        assert_eq!(edit(r#"{"field":"f","key":"k","unset":true}"#), Ok(Edit::UnsetKey { field: field(), key: key() }));
        let incr_key = Edit::IncrKey { field: field(), key: key(), by: 1 };
        assert_eq!(edit(r#"{"field":"f","key":"k","incr":1}"#), Ok(incr_key));
        let splice = Edit::Splice { field: field(), at: 1, delete: 0, insert: "x".into() };
        assert_eq!(edit(r#"{"field":"f","splice":{"at":1,"insert":"x"}}"#), Ok(splice));
    }

    #[test]
    fn an_op_that_is_not_one_edit_is_refused_with_its_place() {
        for (text, said) in [
            (r#"{"field":"f"}"#, "exactly one of"),
            (r#"{"field":"f","set":1,"incr":1}"#, "exactly one of"),
            (r#"{"field":"f","unset":false}"#, "leave it out"),
            (r#"{"field":"f","key":"k","add":1}"#, "has a key"),
            (r#"{"field":"f","inc":1}"#, "unknown field `inc`"),
            (r#"{"field":"f","incr":1.5}"#, "i64"),
            (r#"{"set":1}"#, "missing field `field`"),
        ] {
            let error = edit(text).unwrap_err();
            assert!(error.contains(said) && error.contains("line 1 column"), "{text}: {error}");
        }
    }

    #[test]
    fn a_batch_names_the_index_and_the_line_of_what_is_wrong() {
        let text = "{\"writes\":[\n{\"op\":\"delete\",\"collection\":\"vms\",\"id\":\"a\"},\n{\"op\":\"put\",\"collection\":\"VMS\",\"id\":\"a\",\"fields\":{}}]}";
        let error = serde_json::from_str::<Batch>(text).unwrap_err();
        assert!(error.to_string().contains("item 1: `VMS` is no collection name"), "{error}");
        assert_eq!(error.line(), 3);
    }
}
