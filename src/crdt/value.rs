//! Values: one kind byte, then the payload. The length is known from outside.
//!
//! The form is canonical: equal values have equal bytes, so values are compared, hashed and kept in sets as bytes.
//! Numbers are trimmed: an integer is the zigzag of its value in as few little-endian bytes as hold it.

use std::cmp::Ordering;

use serde_json::Value as Json;

use super::based;

/// Longest encoded value, in bytes. A batch of a few such values still fits a frame.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

const NULL: u8 = 0;
const BOOL: u8 = 1;
const INT: u8 = 2;
const FLOAT: u8 = 3;
const STR: u8 = 4;
const BYTES: u8 = 5;
const JSON: u8 = 6;
const COUNT: u8 = 7;

/// What an entry holds.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Finite, and never -0.0.
    Float(f64),
    Str(String),
    /// No JSON stands for it: reads as `{"base16": "…"}`.
    Bytes(Vec<u8>),
    /// The canonical text of an array or an object, or of an integer beyond `i64`.
    Json(String),
    /// One replica's share of a counter.
    Count {
        up: u64,
        down: u64,
    },
}

/// Bytes that are no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("a value of {0} bytes: at most {VALUE_BYTES_MAX} are allowed")]
    TooLong(usize),
    #[error("a value without its kind byte")]
    Empty,
    #[error("unknown value kind {0}: it was written by a newer version")]
    Kind(u8),
    #[error("the payload of a value of kind {0} is not in its canonical form")]
    Payload(u8),
}

impl Value {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes);
        bytes
    }

    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        match self {
            Value::Null => bytes.push(NULL),
            Value::Bool(on) => bytes.extend([BOOL, u8::from(*on)]),
            Value::Int(int) => {
                bytes.push(INT);
                push_trimmed(zigzag(*int), bytes);
            }
            Value::Float(float) => {
                bytes.push(FLOAT);
                bytes.extend(canonical(*float).to_le_bytes());
            }
            Value::Str(text) => push_tagged(STR, text.as_bytes(), bytes),
            Value::Bytes(raw) => push_tagged(BYTES, raw, bytes),
            Value::Json(text) => push_tagged(JSON, text.as_bytes(), bytes),
            Value::Count { up, down } => {
                bytes.extend([COUNT, trimmed_len(*up) as u8]);
                push_trimmed(*up, bytes);
                push_trimmed(*down, bytes);
            }
        }
    }

    /// The bytes of `Value::from_json(json)`, without the value between: the way of every plain write.
    pub fn encode_json(json: &Json) -> Vec<u8> {
        let Json::String(text) = json else { return Value::from_json(json).encode() };
        let mut bytes = Vec::with_capacity(1 + text.len());
        push_tagged(STR, text.as_bytes(), &mut bytes);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Value, ValueError> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(ValueError::TooLong(bytes.len()));
        }
        let (kind, payload) = bytes.split_first().ok_or(ValueError::Empty)?;
        let text = || std::str::from_utf8(payload).ok().map(str::to_owned);
        let value = match *kind {
            NULL => payload.is_empty().then_some(Value::Null),
            BOOL => match payload {
                [0] => Some(Value::Bool(false)),
                [1] => Some(Value::Bool(true)),
                _ => None,
            },
            INT => read_trimmed(payload).map(|n| Value::Int(unzigzag(n))),
            FLOAT => read_float(payload),
            STR => text().map(Value::Str),
            BYTES => Some(Value::Bytes(payload.to_vec())),
            JSON => text().map(Value::Json),
            COUNT => read_count(payload),
            based::BASED => match based::split(bytes) {
                (value, Some(_)) => return Value::decode(value),
                _ => None,
            },
            unknown => return Err(ValueError::Kind(unknown)),
        };
        value.ok_or(ValueError::Payload(*kind))
    }

    /// Any JSON. Numbers keep their exact value; an integral float stays a float.
    pub fn from_json(json: &Json) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Bool(on) => Value::Bool(*on),
            Json::String(text) => Value::Str(text.clone()),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(int), _) => Value::Int(int),
                (None, Some(float)) if number.is_f64() => Value::Float(canonical(float)),
                _ => Value::Json(number.to_string()),
            },
            Json::Array(_) | Json::Object(_) => {
                let mut text = String::new();
                push_canonical(json, &mut text);
                Value::Json(text)
            }
        }
    }

    /// A share of a counter reads as what it adds. JSON text that does not parse (only a faulty peer writes such)
    /// reads as a string.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Null => Json::Null,
            Value::Bool(on) => Json::Bool(*on),
            Value::Int(int) => Json::from(*int),
            Value::Float(float) => Json::from(*float),
            Value::Str(text) => Json::String(text.clone()),
            Value::Bytes(raw) => {
                serde_json::json!({ "base16": raw.iter().map(|b| format!("{b:02x}")).collect::<String>() })
            }
            Value::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
            Value::Count { up, down } => integer_to_json(i128::from(*up) - i128::from(*down)),
        }
    }

    /// As [`Value::to_json`], keeping the text of a string.
    pub fn into_json(self) -> Json {
        match self {
            Value::Str(text) => Json::String(text),
            other => other.to_json(),
        }
    }

    /// A total order: null, booleans, numbers by their exact value (an integer before an equal float), strings by
    /// code point, bytes, arrays and objects by their canonical text, shares of counters.
    pub fn compare(a: &Value, b: &Value) -> Ordering {
        use Value::*;
        match (a, b) {
            (Bool(a), Bool(b)) => a.cmp(b),
            (Str(a), Str(b)) => a.cmp(b),
            (Bytes(a), Bytes(b)) => a.cmp(b),
            (Count { up: a, down: c }, Count { up: b, down: d }) => (a, c).cmp(&(b, d)),
            _ => match (Number::of(a), Number::of(b)) {
                (Some(a), Some(b)) => a.compare(b),
                (None, None) if a.rank() == b.rank() => a.json_text().cmp(b.json_text()),
                _ => a.rank().cmp(&b.rank()),
            },
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Float(_) => 2,
            Value::Json(_) if Number::of(self).is_some() => 2,
            Value::Str(_) => 3,
            Value::Bytes(_) => 4,
            Value::Json(_) => 5,
            Value::Count { .. } => 6,
        }
    }

    fn json_text(&self) -> &str {
        if let Value::Json(text) = self { text } else { "" }
    }
}

/// JSON for an integer: exact within `i64` and `u64`, else the nearest float.
pub fn integer_to_json(int: i128) -> Json {
    match (i64::try_from(int), u64::try_from(int)) {
        (Ok(int), _) => Json::from(int),
        (_, Ok(int)) => Json::from(int),
        _ => Json::from(int as f64),
    }
}

#[derive(Clone, Copy)]
enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Int(int) => Some(Number::Int(i128::from(*int))),
            Value::Float(float) => Some(Number::Float(*float)),
            Value::Json(text) => text.parse::<u64>().ok().map(|int| Number::Int(i128::from(int))),
            _ => None,
        }
    }

    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(&b),
            (Number::Float(a), Number::Float(b)) => a.total_cmp(&b),
            (Number::Int(a), Number::Float(b)) => compare_mixed(a, b),
            (Number::Float(a), Number::Int(b)) => compare_mixed(b, a).reverse(),
        }
    }
}

/// Without rounding the integer: compares it with the float's floor. Equal numbers: the integer first.
fn compare_mixed(int: i128, float: f64) -> Ordering {
    // The cast saturates, and every integer here is far within i128.
    int.cmp(&(float.floor() as i128)).then(Ordering::Less)
}

fn canonical(float: f64) -> f64 {
    // -0.0 + 0.0 is 0.0; every other float stays.
    float + 0.0
}

fn zigzag(int: i64) -> u64 {
    ((int << 1) ^ (int >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

fn trimmed_len(n: u64) -> usize {
    8 - n.leading_zeros() as usize / 8
}

fn push_trimmed(n: u64, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&n.to_le_bytes()[..trimmed_len(n)]);
}

fn read_trimmed(payload: &[u8]) -> Option<u64> {
    let canonical = payload.len() <= 8 && payload.last() != Some(&0);
    let mut word = [0; 8];
    word.get_mut(..payload.len())?.copy_from_slice(payload);
    canonical.then_some(u64::from_le_bytes(word))
}

fn read_float(payload: &[u8]) -> Option<Value> {
    let float = f64::from_le_bytes(payload.try_into().ok()?);
    (float.is_finite() && canonical(float).to_bits() == float.to_bits()).then_some(Value::Float(float))
}

fn read_count(payload: &[u8]) -> Option<Value> {
    let (len, rest) = payload.split_first()?;
    let (up, down) = rest.split_at_checked(*len as usize)?;
    Some(Value::Count { up: read_trimmed(up)?, down: read_trimmed(down)? })
}

fn push_tagged(kind: u8, payload: &[u8], bytes: &mut Vec<u8>) {
    bytes.reserve(1 + payload.len());
    bytes.push(kind);
    bytes.extend_from_slice(payload);
}

/// No spaces, keys in order, no -0.0. Sorts by itself: whether `serde_json` does depends on a feature any crate may set.
fn push_canonical(json: &Json, text: &mut String) {
    match json {
        Json::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                push_canonical(item, text);
            }
            text.push(']');
        }
        Json::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            text.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                text.push_str(if i > 0 { "," } else { "" });
                text.push_str(&Json::from(key.as_str()).to_string());
                text.push(':');
                push_canonical(&map[key], text);
            }
            text.push('}');
        }
        Json::Number(number) if number.as_f64() == Some(0.0) && number.is_f64() => text.push_str("0.0"),
        scalar => text.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    pub(crate) fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<u64>().prop_map(Json::from),
            (-9i64..9).prop_map(Json::from),
            any::<f64>().prop_map(Json::from),
            "[a-zé\"\\\\]{0,6}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                    .prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_survives_its_bytes_and_json_survives_a_value(json in any_json()) {
            let value = Value::from_json(&json);
            prop_assert_eq!(Value::decode(&value.encode()), Ok(value.clone()));
            prop_assert_eq!(Value::encode_json(&json), value.encode());
            prop_assert_eq!(value.to_json(), json);
        }

        #[test]
        fn only_canonical_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..12), kind in 0u8..9) {
            let bytes = [&[kind], &bytes[..]].concat();
            if let Ok(value) = Value::decode(&bytes) {
                prop_assert_eq!(value.encode(), bytes);
            }
        }

        #[test]
        fn the_order_is_total(a in any_json(), b in any_json(), c in any_json()) {
            let [a, b, c] = [a, b, c].map(|json| Value::from_json(&json));
            prop_assert_eq!(Value::compare(&a, &b), Value::compare(&b, &a).reverse());
            prop_assert_eq!(Value::compare(&a, &b) == Ordering::Equal, a.encode() == b.encode());
            if Value::compare(&a, &b).is_le() && Value::compare(&b, &c).is_le() {
                prop_assert!(Value::compare(&a, &c).is_le());
            }
        }
    }

    #[test]
    fn numbers_are_ordered_by_their_exact_value() {
        let rising = [
            json!(-1e300),
            json!(i64::MIN),
            json!(-1.5),
            json!(-1),
            json!(0),
            json!(0.0),
            json!(0.5),
            json!(1),
            // 2^53 as a float lies between its neighbours, which a float cannot tell apart.
            json!(9007199254740991i64),
            json!(9007199254740992.0),
            json!(9007199254740993i64),
            json!(i64::MAX),
            json!(9223372036854775808u64),
            json!(u64::MAX),
            json!(1e300),
            json!("a"),
        ];
        for pair in rising.windows(2) {
            let order = Value::compare(&Value::from_json(&pair[0]), &Value::from_json(&pair[1]));
            assert_eq!(order, Ordering::Less, "{} against {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn equal_values_have_equal_bytes() {
        let (a, b) = (json!({"b": [1, -0.0], "a": null}), json!({"a": null, "b": [1, 0.0]}));
        assert_eq!(Value::encode_json(&a), Value::encode_json(&b));
        assert_eq!(Value::encode_json(&json!(-0.0)), Value::encode_json(&json!(0.0)));
        assert_eq!(Value::Int(0).encode().len(), 1);
        assert_eq!(Value::Int(-64).encode().len(), 2);
    }

    #[test]
    fn an_oversized_value_is_refused_before_it_is_copied() {
        let bytes = vec![STR; VALUE_BYTES_MAX + 1];
        assert_eq!(Value::decode(&bytes), Err(ValueError::TooLong(bytes.len())));
    }
}
