//! Counters: `gcounter` and `pncounter`. One cell holds them all; each replica's *share* is its own entry, and only that
//! replica supersedes it, so concurrent increments never touch the same entry. The count is the sum of the shares.
//!
//! | policy | an increment past the bound | a sum past the bound, which concurrent increments can reach |
//! |---|---|---|
//! | `saturate` | goes as far as the bound | reads as the bound |
//! | `reset` | starts the count again at 0 | reads as 0; the next increment starts from there |
//! | `error` | is refused | reads as the bound; increments further out are refused |

use std::fmt;
use std::str::FromStr;

use super::kind::FieldKind;
use super::live::{Change, Live, State};
use super::value::Value;
use crate::clock::ReplicaId;

/// What happens at the bound of a counter: `u64` for a `gcounter`, `i64` for a `pncounter`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    #[default]
    Saturate,
    Reset,
    Error,
}

impl Overflow {
    pub const ALL: [Overflow; 3] = [Overflow::Saturate, Overflow::Reset, Overflow::Error];

    pub fn name(self) -> &'static str {
        match self {
            Overflow::Saturate => "saturate",
            Overflow::Reset => "reset",
            Overflow::Error => "error",
        }
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no overflow policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown overflow policy `{0}`: use one of {names}", names = Overflow::ALL.map(Overflow::name).join(", "))]
pub struct UnknownOverflow(pub String);

impl FromStr for Overflow {
    type Err = UnknownOverflow;

    fn from_str(name: &str) -> Result<Self, UnknownOverflow> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| UnknownOverflow(name.chars().take(40).collect()))
    }
}

/// Why an increment was not planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CountError {
    #[error("a gcounter only grows: it cannot change by {0}; declare the field as a pncounter to count down")]
    Shrinks(i128),
    #[error("the count would become {0}, beyond its bound, and its overflow policy is `error`")]
    Overflow(i128),
}

/// The rules of one counter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counter {
    pub grows_only: bool,
    pub overflow: Overflow,
}

impl Counter {
    pub fn new(kind: FieldKind, overflow: Overflow) -> Self {
        Self { grows_only: kind == FieldKind::GCounter, overflow }
    }

    /// The count for a sum of shares.
    pub fn read(self, sum: i128) -> i128 {
        let (low, high) = self.bounds();
        match self.overflow {
            Overflow::Reset if sum < low || sum > high => 0,
            _ => sum.clamp(low, high),
        }
    }

    /// Plans `by` more. `base` counts too but is not in this cell: a number that was there before the counter.
    pub fn increment(self, state: &State<'_>, me: ReplicaId, base: i128, by: i128) -> Result<Step, CountError> {
        if self.grows_only && by < 0 {
            return Err(CountError::Shrinks(by));
        }
        let sum = base + sum(&state.live);
        let (low, high) = self.bounds();
        let beyond = |n: i128| n.abs_diff(n.clamp(low, high));
        let wanted = sum + by;
        if self.overflow == Overflow::Reset && (beyond(sum) > 0 || beyond(wanted) > 0) {
            let start = if beyond(sum) > 0 { by } else { 0 };
            return Ok(Step::Restart(state.replace(share(start).encode())));
        }
        let step = match self.overflow {
            _ if beyond(wanted) == 0 || beyond(wanted) < beyond(sum) => by,
            Overflow::Error => return Err(CountError::Overflow(wanted)),
            // A sum that concurrent increments carried past the bound stays where it is; the read holds it in.
            _ if by > 0 => (high - sum).max(0),
            _ => (low - sum).min(0),
        };
        Ok(if step == 0 { Step::Nothing } else { Step::Share(own_share(state, me, step)) })
    }

    fn bounds(self) -> (i128, i128) {
        if self.grows_only { (0, i128::from(u64::MAX)) } else { (i128::from(i64::MIN), i128::from(i64::MAX)) }
    }
}

/// What an increment comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Nothing,
    /// This replica's share changes; the others stand.
    Share(Change),
    /// The whole count starts again, whatever it was based on.
    Restart(Change),
}

/// The sum of the shares, unbounded.
pub fn sum(live: &[Live<'_>]) -> i128 {
    live.iter().map(|entry| net(entry.value)).sum()
}

fn net(value: &[u8]) -> i128 {
    match Value::decode(value) {
        Ok(Value::Count { up, down }) => i128::from(up) - i128::from(down),
        _ => 0,
    }
}

/// A share that comes to `net`.
fn share(net: i128) -> Value {
    let clamped = |n: i128| u64::try_from(n.max(0)).unwrap_or(u64::MAX);
    Value::Count { up: clamped(net), down: clamped(-net) }
}

fn own_share(state: &State<'_>, me: ReplicaId, step: i128) -> Change {
    let (mut up, mut down, mut supersedes) = (0i128, 0i128, state.records.to_vec());
    for entry in state.live.iter().filter(|entry| entry.replica == me) {
        if let Ok(Value::Count { up: u, down: d }) = Value::decode(entry.value) {
            up += i128::from(u);
            down += i128::from(d);
        }
        supersedes.push(entry.dot);
    }
    if step > 0 {
        up += step
    } else {
        down -= step
    }
    let value = match (u64::try_from(up), u64::try_from(down)) {
        (Ok(up), Ok(down)) => Value::Count { up, down },
        // Nobody else writes this share, so ups and downs may cancel each other before they outgrow their words.
        _ => share(up - down),
    };
    Change { value: Some(value.encode()), supersedes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Dot, HybridTime, Incarnation, NodeId, Slot};

    fn replica(n: u8) -> ReplicaId {
        ReplicaId { node: NodeId([n; 32]), incarnation: Incarnation([n; 16]) }
    }

    fn check(kind: FieldKind, overflow: Overflow, others: i128, by: i128) -> Result<Option<i128>, CountError> {
        let counter = Counter::new(kind, overflow);
        let value = share(others).encode();
        let theirs = Live { dot: Dot::new(Slot(2), 1), replica: replica(2), at: HybridTime(1), value: &value };
        let state = State { live: [theirs].into_iter().collect(), ..State::default() };
        Ok(match counter.increment(&state, replica(1), 0, by)? {
            Step::Nothing => None,
            Step::Share(change) => {
                assert!(change.supersedes.is_empty(), "a share of another replica was superseded");
                Some(counter.read(others + net(&change.value.unwrap())))
            }
            Step::Restart(change) => Some(counter.read(net(&change.value.unwrap()))),
        })
    }

    const MAX: i128 = i64::MAX as i128;
    use FieldKind::{GCounter, PnCounter};

    #[test]
    fn an_increment_past_the_bound_follows_the_policy() {
        assert_eq!(check(PnCounter, Overflow::Saturate, MAX - 1, 5), Ok(Some(MAX)));
        assert_eq!(check(PnCounter, Overflow::Saturate, MAX, 5), Ok(None));
        assert_eq!(check(PnCounter, Overflow::Reset, MAX - 1, 5), Ok(Some(0)));
        assert_eq!(check(PnCounter, Overflow::Error, MAX - 1, 5), Err(CountError::Overflow(MAX + 4)));
        assert_eq!(check(PnCounter, Overflow::Error, MAX - 5, 5), Ok(Some(MAX)));
        assert_eq!(check(GCounter, Overflow::Saturate, 3, -1), Err(CountError::Shrinks(-1)));
    }

    #[test]
    fn a_sum_past_the_bound_reads_inside_it_and_can_come_back() {
        for (policy, shown) in [(Overflow::Saturate, MAX), (Overflow::Error, MAX), (Overflow::Reset, 0)] {
            assert_eq!(Counter::new(PnCounter, policy).read(MAX + 10), shown);
        }
        assert_eq!(check(PnCounter, Overflow::Saturate, MAX + 10, 5), Ok(None));
        assert_eq!(check(PnCounter, Overflow::Saturate, MAX + 10, -20), Ok(Some(MAX - 10)));
        assert_eq!(check(PnCounter, Overflow::Error, MAX + 10, -20), Ok(Some(MAX - 10)));
        assert_eq!(check(PnCounter, Overflow::Error, MAX + 10, 1), Err(CountError::Overflow(MAX + 11)));
        assert_eq!(check(PnCounter, Overflow::Reset, MAX + 10, 7), Ok(Some(7)));
        assert_eq!(check(PnCounter, Overflow::Reset, MAX + 10, -20), Ok(Some(-20)));
    }

    #[test]
    fn ups_and_downs_cancel_before_a_share_outgrows_its_words() {
        let value = Value::Count { up: u64::MAX, down: u64::MAX - 3 }.encode();
        let mine = Live { dot: Dot::new(Slot(1), 4), replica: replica(1), at: HybridTime(1), value: &value };
        let state = State { live: [mine].into_iter().collect(), ..State::default() };
        let change = own_share(&state, replica(1), 5);
        assert_eq!(net(&change.value.unwrap()), 8);
        assert_eq!(change.supersedes, [mine.dot]);
    }
}
