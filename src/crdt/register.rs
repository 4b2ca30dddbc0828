//! Registers: `lww`, `fww`, `mv` and `contested`. A write supersedes every entry it sees, so more than one live entry
//! means that writes were concurrent: *siblings*. Losers stay until a later write supersedes them.

use super::based::split;
use super::live::{Change, Live, State};
use super::value::Value;

use std::fmt;
use std::str::FromStr;

/// What settles the siblings of a contested register, at read.
///
/// The first five need nothing but the siblings and are read here. The others look at values, at the document or at what
/// was decided about it: see `conflict::resolver`. Where they do not settle, the last writer's value is shown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Resolver {
    #[default]
    LastWriter,
    FirstWriter,
    /// The value is the array of all siblings, newest first; a single one stands for itself.
    KeepAll,
    Max,
    Min,
    /// The elements of all siblings.
    Union,
    /// Objects key by key.
    DeepMerge,
    /// The value that stands first in a declared order.
    Priority,
    /// The sibling that is best by declared criteria.
    Prioritize,
    /// None of the concurrent writes counts: the value before them.
    Discard,
    /// What each sibling changed of the value before them, together.
    ThreeWay,
    /// Both edits of one text.
    Text,
    /// The newest value under which the schema's invariants hold.
    Rollback,
    /// A CEL expression.
    Expr,
    /// A function of the program that embeds the node.
    Custom,
    /// A quorum of voters settles it.
    Vote,
    /// A model of this cluster's own decisions picks the resolver.
    Advisor,
    /// A person settles it.
    Manual,
}

impl Resolver {
    pub const ALL: [Resolver; 18] = [
        Resolver::LastWriter,
        Resolver::FirstWriter,
        Resolver::KeepAll,
        Resolver::Max,
        Resolver::Min,
        Resolver::Union,
        Resolver::DeepMerge,
        Resolver::Priority,
        Resolver::Prioritize,
        Resolver::Discard,
        Resolver::ThreeWay,
        Resolver::Text,
        Resolver::Rollback,
        Resolver::Expr,
        Resolver::Custom,
        Resolver::Vote,
        Resolver::Advisor,
        Resolver::Manual,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Resolver::LastWriter => "last_writer",
            Resolver::FirstWriter => "first_writer",
            Resolver::KeepAll => "keep_all",
            Resolver::Max => "max",
            Resolver::Min => "min",
            Resolver::Union => "union",
            Resolver::DeepMerge => "deep_merge",
            Resolver::Priority => "priority",
            Resolver::Prioritize => "prioritize",
            Resolver::Discard => "discard",
            Resolver::ThreeWay => "three_way",
            Resolver::Text => "text",
            Resolver::Rollback => "rollback",
            Resolver::Expr => "expr",
            Resolver::Custom => "custom",
            Resolver::Vote => "vote",
            Resolver::Advisor => "advisor",
            Resolver::Manual => "manual",
        }
    }

    /// Whether it needs nothing but the siblings.
    pub fn is_plain(self) -> bool {
        self <= Resolver::Min
    }

    /// Whether it needs the value that the siblings were written over: entries then carry it.
    pub fn needs_base(self) -> bool {
        matches!(self, Resolver::Discard | Resolver::ThreeWay | Resolver::Text | Resolver::Rollback)
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no resolver of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown resolver `{0}`: use one of {names}", names = Resolver::ALL.map(Resolver::name).join(", "))]
pub struct UnknownResolver(pub String);

impl FromStr for Resolver {
    type Err = UnknownResolver;

    fn from_str(name: &str) -> Result<Self, UnknownResolver> {
        let found = Self::ALL.into_iter().find(|resolver| resolver.name() == name);
        found.ok_or_else(|| UnknownResolver(name.chars().take(40).collect()))
    }
}

/// The entry a last-writer register shows.
pub fn latest<'a, 'b>(live: &'b [Live<'a>]) -> Option<&'b Live<'a>> {
    live.iter().max_by_key(|entry| entry.rank())
}

/// The entry a first-writer register shows.
pub fn earliest<'a, 'b>(live: &'b [Live<'a>]) -> Option<&'b Live<'a>> {
    live.iter().min_by_key(|entry| entry.rank())
}

/// All live entries, the newest first.
pub fn siblings<'a>(live: &[Live<'a>]) -> Vec<Live<'a>> {
    let mut sorted = live.to_vec();
    sorted.sort_by_key(|entry| std::cmp::Reverse(entry.rank()));
    sorted
}

/// What a resolver makes of the live entries.
#[derive(Clone, PartialEq, Debug)]
pub enum Reading {
    One(Value),
    /// Newest first; at least two.
    Many(Vec<Value>),
}

impl Reading {
    pub fn into_json(self) -> serde_json::Value {
        match self {
            Reading::One(value) => value.into_json(),
            Reading::Many(values) => values.into_iter().map(Value::into_json).collect(),
        }
    }
}

/// Entries whose bytes are no value (of a newer version) do not take part. `None` when no entry does.
pub fn settle(live: &[Live<'_>], resolver: Resolver) -> Option<Reading> {
    let decoded = |entry: &Live<'_>| Value::decode(entry.value).ok();
    let one = |entry: Option<&Live<'_>>| entry.and_then(decoded).map(Reading::One);
    if let [only] = live {
        return one(Some(only));
    }
    let readable = || live.iter().filter(|entry| decoded(entry).is_some());
    match resolver {
        Resolver::FirstWriter => one(readable().min_by_key(|entry| entry.rank())),
        Resolver::Max => live.iter().filter_map(decoded).max_by(Value::compare).map(Reading::One),
        Resolver::Min => live.iter().filter_map(decoded).min_by(Value::compare).map(Reading::One),
        Resolver::KeepAll => {
            let mut values: Vec<_> = siblings(live).iter().filter_map(decoded).collect();
            match values.len() {
                0 | 1 => values.pop().map(Reading::One),
                _ => Some(Reading::Many(values)),
            }
        }
        _ => one(readable().max_by_key(|entry| entry.rank())),
    }
}

/// A write. An equal value over no siblings is no write; over siblings it settles them.
pub fn set(state: &State<'_>, value: Vec<u8>) -> Option<Change> {
    let same = matches!(&state.live[..], [only] if split(only.value).0 == value);
    (!same).then(|| state.replace(value))
}

/// The write of a first-writer register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlreadyWritten;

/// Over a live value only an equal one passes, and writes nothing.
pub fn set_first(state: &State<'_>, value: Vec<u8>) -> Result<Option<Change>, AlreadyWritten> {
    match earliest(&state.live) {
        None => Ok(Some(state.replace(value))),
        Some(first) if first.value == value => Ok(None),
        Some(_) => Err(AlreadyWritten),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Dot, HybridTime, Incarnation, NodeId, ReplicaId, Slot};

    fn entry(node: u8, seq: u64, at: u64, value: &[u8]) -> Live<'_> {
        let replica = ReplicaId { node: NodeId([node; 32]), incarnation: Incarnation([0; 16]) };
        // Slots are numbered against the order of the ids: no rule may look at them.
        Live { dot: Dot::new(Slot(9 - u32::from(node)), seq), replica, at: HybridTime(at), value }
    }

    #[test]
    fn time_decides_then_the_replica_then_the_place_in_the_batch() {
        let (old, new) = (entry(2, 9, 5, b"old"), entry(1, 1, 6, b"new"));
        assert_eq!(latest(&[old, new]), Some(&new));
        assert_eq!(earliest(&[old, new]), Some(&old));
        let (a, b) = (entry(1, 9, 5, b"a"), entry(2, 1, 5, b"b"));
        assert_eq!(latest(&[b, a]), Some(&b));
        let (first, second) = (entry(1, 1, 5, b"1"), entry(1, 2, 5, b"2"));
        assert_eq!(latest(&[second, first]), Some(&second));
    }

    #[test]
    fn each_resolver_reads_the_same_siblings_its_own_way() {
        let [low, high] = [1, 7].map(|n| Value::Int(n).encode());
        let live = [entry(1, 1, 5, &high), entry(2, 1, 6, &low)];
        let one = |n| Some(Reading::One(Value::Int(n)));
        assert_eq!(settle(&live, Resolver::LastWriter), one(1));
        assert_eq!(settle(&live, Resolver::Manual), one(1));
        assert_eq!(settle(&live, Resolver::FirstWriter), one(7));
        assert_eq!(settle(&live, Resolver::Max), one(7));
        assert_eq!(settle(&live, Resolver::Min), one(1));
        assert_eq!(settle(&live, Resolver::KeepAll), Some(Reading::Many(vec![Value::Int(1), Value::Int(7)])));
        assert_eq!(settle(&live[..1], Resolver::KeepAll), one(7));
        assert_eq!(settle(&[], Resolver::Max), None);
    }

    #[test]
    fn an_equal_value_is_written_only_to_settle_siblings() {
        let mut state = State { live: [entry(1, 1, 5, b"x")].into_iter().collect(), ..State::default() };
        assert_eq!(set(&state, b"x".to_vec()), None);
        state.live.push(entry(2, 1, 6, b"x"));
        assert_eq!(set(&state, b"x".to_vec()).unwrap().supersedes.len(), 2);
    }

    #[test]
    fn a_first_writer_register_is_written_once() {
        let state = State { live: [entry(1, 1, 5, b"x")].into_iter().collect(), ..State::default() };
        assert_eq!(set_first(&state, b"y".to_vec()), Err(AlreadyWritten));
        assert_eq!(set_first(&state, b"x".to_vec()), Ok(None));
        assert!(set_first(&State::default(), b"y".to_vec()).unwrap().is_some());
    }
}
