//! The free part of a record: a JSON value, bounded, with one text for each value.
//!
//! What the audit itself reads back out of a detail goes by the names below; everything else in it is for people.

use serde_json::{Map, Value, json};

/// Most bytes of a detail as text. A record stays small beside the document it is about.
pub const DETAIL_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of a detail. JSON readers stop at 128; what is written here must be readable.
pub const DETAIL_DEPTH_MAX: usize = 32;

/// The nodes whose writes met, as printed ids.
pub const NODES: &str = "nodes";
/// The value that holds from now on.
pub const VALUE: &str = "value";
/// Which resolver settled it.
pub const STRATEGY: &str = "strategy";
/// The clock before it: see [`Mark`](super::Mark).
pub const BEFORE: &str = "before";
/// Which run of the node, in hex.
pub const INCARNATION: &str = "incarnation";
/// What was left out of a detail that was too long.
pub const CUT: &str = "cut";

/// Members of an object that a cut names by name, and bytes of each name or start: a handful tells what went.
const CUT_NAMES_MAX: usize = 16;
const CUT_NAME_BYTES_MAX: usize = 64;
/// Kept free for saying what was cut: 16 names of 64 bytes, every byte escaped (6 each), and the numbers.
const CUT_RESERVE: usize = 8 << 10;

/// The text of `value`, cut to its bounds. Objects come with their keys in order, numbers in their shortest form, so
/// reading the text and writing it again gives the same bytes.
pub(super) fn text_of(value: &Value) -> String {
    if depth_within(value, DETAIL_DEPTH_MAX) {
        let text = value.to_string();
        if text.len() <= DETAIL_BYTES_MAX { text } else { cut(value, text.len()).to_string() }
    } else {
        json!({ CUT: { "deeper_than": DETAIL_DEPTH_MAX } }).to_string()
    }
}

/// Whether `value` nests at most `levels` deep. Looks no deeper than that.
fn depth_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| depth_within(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| depth_within(member, levels - 1)),
        _ => true,
    }
}

/// What is kept of a detail of `bytes` bytes: the small members of an object, so that who and how survive a huge value.
fn cut(value: &Value, bytes: usize) -> Value {
    let Value::Object(members) = value else {
        return json!({ CUT: { "bytes": bytes, "start": start_of(&value.to_string()) } });
    };
    let len_of =
        |(name, value): (&String, &Value)| Value::from(name.as_str()).to_string().len() + value.to_string().len();
    let mut sized: Vec<(usize, &String)> = members.iter().map(|member| (len_of(member), member.0)).collect();
    sized.sort_unstable();
    let mut left = DETAIL_BYTES_MAX - CUT_RESERVE;
    let mut kept = Map::new();
    let mut left_out: Vec<&String> = Vec::new();
    for (len, name) in sized {
        // A colon and a comma.
        let fits = name != CUT && len + 2 <= left;
        match members.get(name).filter(|_| fits) {
            Some(member) => {
                left -= len + 2;
                kept.insert(name.clone(), member.clone());
            }
            None => left_out.push(name),
        }
    }
    left_out.sort_unstable();
    let names: Vec<&str> = left_out.iter().take(CUT_NAMES_MAX).map(|name| start_of(name)).collect();
    kept.insert(CUT.to_owned(), json!({ "bytes": bytes, "left_out": names, "members": left_out.len() }));
    Value::Object(kept)
}

fn start_of(text: &str) -> &str {
    &text[..text.floor_char_boundary(CUT_NAME_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reading_a_detail_and_writing_it_again_gives_the_same_bytes(value in any_value()) {
            let text = text_of(&value);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(text_of(&read), text);
        }
    }

    #[test]
    fn members_are_written_in_order() {
        let value: Value = serde_json::from_str(r#"{"b":1,"a":{"d":1,"c":2}}"#).unwrap();
        assert_eq!(text_of(&value), r#"{"a":{"c":2,"d":1},"b":1}"#);
    }

    #[test]
    fn a_huge_member_is_left_out_and_the_small_ones_stay() {
        let huge = "é\u{1}".repeat(DETAIL_BYTES_MAX);
        let value = json!({ "strategy": "vote", "value": huge, "nodes": ["a", "b"], "cut": "theirs" });
        let text = text_of(&value);
        assert!(text.len() <= DETAIL_BYTES_MAX, "{}", text.len());
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&read["strategy"], &read["nodes"]), (&json!("vote"), &json!(["a", "b"])));
        assert_eq!(read[CUT]["left_out"], json!(["cut", "value"]));
    }

    #[test]
    fn no_detail_is_longer_than_its_bound() {
        let many: Map<String, Value> = (0..9_000).map(|i| (format!("\u{1}{i}\u{1}").repeat(9), json!(i))).collect();
        let start = Value::from("\u{1}".repeat(DETAIL_BYTES_MAX));
        let mut deep = json!(1);
        for _ in 0..5_000 {
            deep = json!([deep]);
        }
        for value in [Value::Object(many), start, json!(vec![0; DETAIL_BYTES_MAX]), deep] {
            let text = text_of(&value);
            assert!(text.len() <= DETAIL_BYTES_MAX, "{}", text.len());
            assert!(serde_json::from_str::<Value>(&text).unwrap().get(CUT).is_some(), "{text}");
        }
    }
}
