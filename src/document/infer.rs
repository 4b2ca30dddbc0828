//! The type of a field that no schema declares, from the JSON that is written to it.

use serde_json::Value as Json;

use crate::crdt::FieldKind;

/// An object is a map, an array of scalars an OR-set; everything else, nested arrays too, is one contested register.
pub fn infer(json: &Json) -> FieldKind {
    match json {
        Json::Object(_) => FieldKind::Map,
        Json::Array(items) if items.iter().all(is_scalar) => FieldKind::OrSet,
        _ => FieldKind::Contested,
    }
}

/// The type of a map's key. Maps nest once: an object or an array within one is a single value.
pub fn infer_key() -> FieldKind {
    FieldKind::Contested
}

/// Whether a field that already is of this kind takes `json`, so that it need not change its type.
pub fn fits(kind: FieldKind, json: &Json) -> bool {
    use FieldKind::*;
    match kind {
        Existence => false,
        PnCounter => json.is_i64(),
        GCounter => json.is_u64(),
        GSet | OrSet => json.is_array(),
        Flag => json.is_boolean(),
        Max | Min => is_scalar(json) && !json.is_null(),
        Map => json.is_object(),
        Text => json.is_string(),
        Lww | Fww | Mv | Json | Quorum => true,
        Contested => infer(json) == Contested,
    }
}

/// What a kind takes, in words.
pub fn expected(kind: FieldKind) -> &'static str {
    use FieldKind::*;
    match kind {
        PnCounter => "an integer within 64 bits, signed",
        GCounter => "an integer from 0, within 64 bits",
        GSet | OrSet => "an array",
        Flag => "true or false",
        Max | Min => "a number, a string or a boolean",
        Map => "an object",
        Text => "a string",
        Existence | Lww | Fww | Mv | Json | Contested | Quorum => "any JSON",
    }
}

pub fn is_scalar(json: &Json) -> bool {
    !json.is_array() && !json.is_object()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_shape_of_the_json_decides() {
        for (json, kind) in [
            (json!("idle"), FieldKind::Contested),
            (json!(null), FieldKind::Contested),
            (json!([1, "a"]), FieldKind::OrSet),
            (json!([]), FieldKind::OrSet),
            (json!([1, [2]]), FieldKind::Contested),
            (json!({"a": {"b": 1}}), FieldKind::Map),
        ] {
            assert_eq!(infer(&json), kind, "{json}");
            assert!(fits(kind, &json), "{json}");
        }
    }
}
