//! JSON Patch within bounds.
//!
//! A patch may copy a value into itself: thirty `copy` operations of forty bytes each double a document thirty times.
//! So operations run one by one; size and depth are checked before each that can grow them. Depth matters because JSON
//! trees are walked and dropped recursively: a tree deep enough would end the process.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

/// Why a patch was not applied. The document must then be thrown away: earlier operations may have changed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchRefused {
    #[error("operation {index} of the patch does not apply: {reason}")]
    DoesNotApply { index: usize, reason: String },
    #[error("operation {index} makes the document larger than {bytes_max} bytes")]
    TooLarge { index: usize, bytes_max: usize },
    #[error("operation {index} nests the document deeper than {DEPTH_MAX} levels")]
    TooDeep { index: usize },
}

/// Deepest nesting a patch may leave: below the 128 levels at which JSON text is refused.
pub const DEPTH_MAX: usize = 100;

/// Applies `patch` to `document`, whose JSON text may at no step exceed `bytes_max`.
pub fn apply_patch(document: &mut Value, patch: &Patch, bytes_max: usize) -> Result<(), PatchRefused> {
    let mut bytes = text_bytes(document);
    for (index, operation) in patch.0.iter().enumerate() {
        let added = match operation {
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            PatchOperation::Copy(copy) => document.pointer(copy.from.as_str()),
            PatchOperation::Move(moved) => document.pointer(moved.from.as_str()),
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        let path_depth = operation.path().as_str().matches('/').count();
        if path_depth + added.map_or(0, depth) > DEPTH_MAX {
            return Err(PatchRefused::TooDeep { index });
        }
        let grows = added.map_or(0, text_bytes);
        // The key or comma that goes with it; counted high, and set right by measuring when it matters.
        bytes += grows + operation.path().as_str().len() + 8;
        if bytes > bytes_max {
            bytes = text_bytes(document) + grows;
            if bytes > bytes_max {
                return Err(PatchRefused::TooLarge { index, bytes_max });
            }
        }
        json_patch::patch(document, std::slice::from_ref(operation))
            .map_err(|error| PatchRefused::DoesNotApply { index, reason: describe(&error) })?;
    }
    Ok(())
}

fn describe(error: &json_patch::PatchError) -> String {
    let path: String = error.path.as_str().chars().take(120).collect();
    format!("{} at `{path}`", error.kind)
}

fn text_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 12,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| text_bytes(item) + 1).sum::<usize>(),
        Value::Object(members) => 2 + members.iter().map(|(key, item)| key.len() + 4 + text_bytes(item)).sum::<usize>(),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_that_doubles_itself_is_stopped_at_the_bound() {
        let copy = json!({"op": "copy", "from": "/a", "path": "/a/x"});
        let copies: Vec<Value> = (0..64)
            .map(|i| {
                let mut copy = copy.clone();
                copy["path"] = format!("/a/{i}").into();
                copy
            })
            .collect();
        let patch: Patch = serde_json::from_value(Value::Array(copies)).unwrap();
        let mut document = json!({"a": {"text": "0123456789"}});
        let refused = apply_patch(&mut document, &patch, 1 << 20).unwrap_err();
        assert!(matches!(refused, PatchRefused::TooLarge { index: 10..20, .. }), "{refused:?}");
    }

    #[test]
    fn a_patch_that_nests_itself_is_stopped_at_the_bound() {
        let copies: Vec<Value> = (0..12)
            .map(|i| json!({"op": "copy", "from": "/a", "path": format!("/a{}", "/a".repeat(1 << i))}))
            .collect();
        let patch: Patch = serde_json::from_value(Value::Array(copies)).unwrap();
        let mut document = json!({"a": {"a": 1}});
        let refused = apply_patch(&mut document, &patch, 8 << 20).unwrap_err();
        assert_eq!(refused, PatchRefused::TooDeep { index: 6 });
    }

    #[test]
    fn a_patch_within_the_bound_applies_and_a_false_test_names_its_place() {
        let mut document = json!({"a": 1});
        let patch = |value| serde_json::from_value::<Patch>(value).unwrap();
        let good = patch(json!([{"op": "test", "path": "/a", "value": 1}, {"op": "add", "path": "/b", "value": [2]}]));
        assert_eq!(apply_patch(&mut document, &good, 1 << 20), Ok(()));
        assert_eq!(document, json!({"a": 1, "b": [2]}));
        let bad = patch(json!([{"op": "test", "path": "/a", "value": 2}]));
        let refused = apply_patch(&mut document, &bad, 1 << 20).unwrap_err();
        assert!(refused.to_string().contains("operation 0") && refused.to_string().contains("`/a`"), "{refused}");
    }
}
