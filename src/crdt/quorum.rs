//! A field that ballots decide. What a quorum decided is written here as an ordinary entry, so that it spreads and is read
//! as everything else; the version says which decision came later, whoever wrote it down, and in whatever order.
//!
//! An entry: `version u64, little-endian | value` in its canonical form; no value where it was decided that there is none.

use super::live::{Change, Live, State};

const VERSION: usize = 8;

/// What a quorum decided, and in which decision about the document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Decided<'a> {
    pub version: u64,
    /// `None`: the field is gone.
    pub value: Option<&'a [u8]>,
}

impl<'a> Decided<'a> {
    pub fn encode(&self) -> Vec<u8> {
        [&self.version.to_le_bytes(), self.value.unwrap_or_default()].concat()
    }

    fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (version, value) = bytes.split_first_chunk::<VERSION>()?;
        Some(Self { version: u64::from_le_bytes(*version), value: Some(value).filter(|value| !value.is_empty()) })
    }
}

/// The latest decision that has come here.
pub fn latest<'a>(live: &[Live<'a>]) -> Option<Decided<'a>> {
    live.iter().filter_map(|entry| Decided::decode(entry.value)).max()
}

/// Writes down what was decided; `None` where that, or a later decision, stands here already.
pub fn publish(state: &State<'_>, decided: &Decided<'_>) -> Option<Change> {
    let is_news = latest(&state.live).is_none_or(|known| known.version < decided.version);
    is_news.then(|| state.replace(decided.encode()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Dot, HybridTime, Incarnation, NodeId, ReplicaId, Slot};

    #[test]
    fn the_latest_decision_is_read_whoever_wrote_it_down_last() {
        let replica = ReplicaId { node: NodeId([1; 32]), incarnation: Incarnation([1; 16]) };
        let entries = [(7, Some(&b"new"[..])), (5, Some(b"old")), (6, None)]
            .map(|(version, value)| Decided { version, value }.encode());
        let live = |seq: u64, value| Live { dot: Dot::new(Slot(0), seq), replica, at: HybridTime(seq), value };
        let all: Vec<Live<'_>> = (1..).zip(&entries).map(|(seq, value)| live(seq, value)).collect();
        assert_eq!(latest(&all), Some(Decided { version: 7, value: Some(b"new") }));
        assert_eq!(latest(&all[1..]), Some(Decided { version: 6, value: None }), "it was decided that it is gone");
        assert_eq!(latest(&[]), None);
        assert_eq!(latest(&[live(1, b"short")]), None);
    }

    #[test]
    fn what_is_known_is_not_written_down_again() {
        let replica = ReplicaId { node: NodeId([1; 32]), incarnation: Incarnation([1; 16]) };
        let entry = Decided { version: 3, value: Some(b"x") }.encode();
        let mut state = State::default();
        assert!(publish(&state, &Decided { version: 1, value: None }).is_some());
        state.live.push(Live { dot: Dot::new(Slot(0), 1), replica, at: HybridTime(1), value: &entry });
        assert_eq!(publish(&state, &Decided { version: 3, value: Some(b"x") }), None);
        assert_eq!(publish(&state, &Decided { version: 2, value: Some(b"y") }), None);
        let later = publish(&state, &Decided { version: 4, value: None }).unwrap();
        assert_eq!(later.supersedes, [Dot::new(Slot(0), 1)]);
    }
}
