//! Flags. Enable and disable are both valued entries, so a disable is not an absence; of concurrent ones the schema says
//! which wins.

use super::live::{Change, Live, State};
use super::value::Value;

/// `None` when nothing was written yet.
pub fn read(live: &[Live<'_>], disable_wins: bool) -> Option<bool> {
    let winner = Value::Bool(!disable_wins).encode();
    let known = live.iter().filter(|entry| matches!(Value::decode(entry.value), Ok(Value::Bool(_))));
    known.map(|entry| (entry.value == winner) != disable_wins).reduce(|a, b| if disable_wins { a && b } else { a || b })
}

/// A write. Repeating the side that wins is a write of its own, so that it wins over a concurrent opposite too; a
/// losing side that is already read would change nothing.
pub fn set(state: &State<'_>, on: bool, disable_wins: bool) -> Option<Change> {
    let wins = on != disable_wins;
    let needless = !wins && read(&state.live, disable_wins) == Some(on);
    (!needless).then(|| state.replace(Value::Bool(on).encode()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Dot, HybridTime, Incarnation, NodeId, ReplicaId, Slot};

    #[test]
    fn the_schema_says_which_side_wins() {
        let [on, off] = [true, false].map(|on| Value::Bool(on).encode());
        let replica = ReplicaId { node: NodeId([1; 32]), incarnation: Incarnation([1; 16]) };
        let entry = |seq, value| Live { dot: Dot::new(Slot(0), seq), replica, at: HybridTime(1), value };
        let both = [entry(1, &on[..]), entry(2, &off[..])];
        assert_eq!((read(&both, false), read(&both, true)), (Some(true), Some(false)));
        assert_eq!((read(&both[..1], true), read(&both[1..], false)), (Some(true), Some(false)));
        assert_eq!(read(&[], false), None);
    }
}
