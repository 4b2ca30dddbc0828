//! What a merge may cost. The values come from other nodes, so they are measured before anything walks them.

use serde_json::Value as Json;

/// Sides of one merge: more siblings than that are a broken writer, not a conflict.
pub const SIDES_MAX: usize = 64;

/// Objects and lists within one another. The walk recurses as deep, with a frame of under 2 KB: 128 KB of stack.
pub const DEPTH_MAX: usize = 64;

/// Values in the base and all sides together: two siblings of the largest value, made of the smallest parts.
pub const NODES_MAX: usize = 1 << 20;

/// Entries of the account, both of the overruled changes and of the settled paths. At about 200 bytes: 1 MB.
pub const ENTRIES_MAX: usize = 4096;

/// What is too much about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Depth,
    Nodes,
}

/// Counts the values in `json` off from `nodes`.
pub(super) fn measure(json: &Json, nodes: &mut usize) -> Result<(), Excess> {
    *nodes = nodes.checked_sub(1).ok_or(Excess::Nodes)?;
    descend(json, 0, nodes)
}

fn descend(json: &Json, depth: usize, nodes: &mut usize) -> Result<(), Excess> {
    let (len, children): (usize, &mut dyn Iterator<Item = &Json>) = match json {
        Json::Array(items) => (items.len(), &mut items.iter()),
        Json::Object(map) => (map.len(), &mut map.values()),
        _ => return Ok(()),
    };
    if depth == DEPTH_MAX {
        return Err(Excess::Depth);
    }
    *nodes = nodes.checked_sub(len).ok_or(Excess::Nodes)?;
    children
        .filter(|child| child.is_array() || child.is_object())
        .try_for_each(|child| descend(child, depth + 1, nodes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_counts_once() {
        let mut nodes = 10;
        measure(&json!({"a": [1, 2, {"b": null}], "c": "x"}), &mut nodes).unwrap();
        assert_eq!(nodes, 3);
        assert_eq!(measure(&json!([1, 2, 3]), &mut nodes), Err(Excess::Nodes));
    }

    #[test]
    fn the_deepest_value_allowed_passes_and_one_deeper_does_not() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(measure(&nested(DEPTH_MAX), &mut 1000), Ok(()));
        assert_eq!(measure(&nested(DEPTH_MAX + 1), &mut 1000), Err(Excess::Depth));
    }
}
