//! A value together with its *base*: what the register held before the writes that are still under way. Siblings that
//! carry one can be merged by what each of them changed.
//!
//! Written as `kind u8 | length of the base u32, little-endian | base | value`, both without a base of their own. To
//! every other reader such an entry is its value.

use super::live::{Change, Live, State};
use super::value::VALUE_BYTES_MAX;
use crate::clock::Dot;

/// The kind byte, beside those of [`value`](super::value).
pub(super) const BASED: u8 = 8;
const HEADER: usize = 5;

/// Takes an entry's bytes apart: its value, and its base if it carries one.
pub fn split(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let parts = || {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let len = u32::from_le_bytes(header[1..].try_into().ok()?) as usize;
        let (base, value) = rest.split_at_checked(len)?;
        let plain = [base, value].iter().all(|part| part.first().is_some_and(|kind| *kind != BASED));
        (header[0] == BASED && plain).then_some((value, Some(base)))
    };
    parts().unwrap_or((bytes, None))
}

/// Puts the two together; without the base where both are too long for one entry.
fn join(value: Vec<u8>, base: &[u8]) -> Vec<u8> {
    if HEADER + value.len() + base.len() > VALUE_BYTES_MAX {
        return value;
    }
    let mut bytes = Vec::with_capacity(HEADER + base.len() + value.len());
    bytes.push(BASED);
    bytes.extend_from_slice(&(base.len() as u32).to_le_bytes());
    bytes.extend_from_slice(base);
    bytes.extend_from_slice(&value);
    bytes
}

/// A write that carries its base: the value it replaces, once every member has that. Before, the base of the value it
/// replaces, since a member that lacks the one between may still write over the same base.
pub fn set(state: &State<'_>, value: Vec<u8>, settled: impl Fn(Dot) -> bool) -> Option<Change> {
    let base = |entry: &Live<'_>| match split(entry.value) {
        (_, Some(base)) if !settled(entry.dot) => base.to_vec(),
        (value, _) => value.to_vec(),
    };
    let newest = state.live.iter().max_by_key(|entry| entry.rank());
    if let [only] = &state.live[..]
        && split(only.value).0 == value
    {
        return None;
    }
    Some(state.replace(match newest {
        Some(newest) => join(value, &base(newest)),
        None => value,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{HybridTime, Incarnation, NodeId, ReplicaId, Slot};
    use crate::crdt::Value;

    fn state(value: &[u8]) -> State<'_> {
        let replica = ReplicaId { node: NodeId([1; 32]), incarnation: Incarnation([0; 16]) };
        let entry = Live { dot: Dot::new(Slot(0), 1), replica, at: HybridTime(1), value };
        State { live: [entry].into_iter().collect(), ..State::default() }
    }

    fn written(change: Option<Change>) -> Vec<u8> {
        change.unwrap().value.unwrap()
    }

    #[test]
    fn the_base_stays_until_every_member_has_the_value_over_it() {
        let [one, two, three] = [1, 2, 3].map(|n| Value::Int(n).encode());
        let second = written(set(&state(&one), two.clone(), |_| false));
        assert_eq!(split(&second), (&two[..], Some(&one[..])));
        assert_eq!(Value::decode(&second), Ok(Value::Int(2)), "to every other reader it is its value");
        let third = written(set(&state(&second), three.clone(), |_| false));
        assert_eq!(split(&third), (&three[..], Some(&one[..])));
        let third = written(set(&state(&second), three.clone(), |_| true));
        assert_eq!(split(&third), (&three[..], Some(&two[..])));
        assert_eq!(set(&state(&second), two, |_| false), None, "an equal value is no write");
    }

    #[test]
    fn bytes_that_hold_no_base_are_a_value() {
        for bytes in
            [&[][..], &[BASED], &[BASED, 9, 0, 0, 0, 1], &[BASED, 1, 0, 0, 0, BASED, 1], &[BASED, 0, 0, 0, 0, 1]]
        {
            assert_eq!(split(bytes), (bytes, None));
            assert!(Value::decode(bytes).is_err());
        }
    }
}
