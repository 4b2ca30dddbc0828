//! What may be asked of a register, each kind of it one variant.

use super::fields::{FieldsChange, FieldsVerdict};
use super::guard::Guard;
use super::lock::{LockChange, LockVerdict};
use super::proposal::{Applied, Change};
use super::voters::{Voter, Voters};
use crate::document::codec::{decode_serde, encode_serde};

/// The register that holds the voters.
pub const VOTERS: &str = "voters";
/// Before a name, in that of the register that holds its lock and what is decided about the document of that name.
pub const GUARD: &str = "guard/";

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    Lock(LockChange),
    Fields(FieldsChange),
    Voters(VotersChange),
    /// Have it accepted once more, whatever it holds: by other voters than those who did.
    Again,
}

/// What it came to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Told {
    Lock(LockVerdict),
    Fields(FieldsVerdict),
    /// As they are by this decision, whether it was the one that was asked for or not.
    Voters(Voters),
    Again,
    /// What the register holds was written by a later version of this program, and stays as it is.
    Unreadable,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum VotersChange {
    /// From these to that set, unless they are others by now.
    Begin { from: Voters, set: Vec<Voter> },
    /// Every register was accepted by the new set.
    Complete { from: Voters },
}

impl Change for VotersChange {
    type Verdict = Voters;

    fn apply(&self, current: Option<&[u8]>) -> Applied<Voters> {
        let (Self::Begin { from, .. } | Self::Complete { from }) = self;
        // The first voters founded the cluster, and no ballot was held over that.
        let known: Option<Voters> = current.and_then(|value| decode_serde(value).ok());
        // Nor over a recovery.
        let now = known.filter(|known| known.version >= from.version).unwrap_or_else(|| from.clone());
        let next = match self {
            _ if now.version != from.version => None,
            Self::Begin { set, .. } => now.begin(set.clone()).ok(),
            Self::Complete { .. } => now.complete(),
        };
        match next {
            Some(next) => Applied::Write(encode_serde(&next), next),
            None => Applied::Keep(now),
        }
    }
}

/// What is asked, of voters whose tokens and versions are above a floor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Asked {
    pub ask: Ask,
    pub floor: u64,
}

impl Change for Asked {
    type Verdict = Told;

    fn apply(&self, current: Option<&[u8]>) -> Applied<Told> {
        match &self.ask {
            Ask::Lock(change) => self.of_guard(current, |guard| Told::Lock(change.apply(&mut guard.lock))),
            Ask::Fields(change) => self.of_guard(current, |guard| {
                let outcome = guard.ask(change);
                Told::Fields(FieldsVerdict { outcome, guard: guard.clone() })
            }),
            Ask::Voters(change) => change.apply(current).map(Told::Voters),
            Ask::Again => match current {
                Some(value) => Applied::Write(value.to_vec(), Told::Again),
                None => Applied::Keep(Told::Again),
            },
        }
    }
}

impl Asked {
    fn of_guard(&self, current: Option<&[u8]>, change: impl FnOnce(&mut Guard) -> Told) -> Applied<Told> {
        Guard::change(current, self.floor, change).unwrap_or(Applied::Keep(Told::Unreadable))
    }
}

impl Ask {
    /// An attempt at it is put to the voters, and this is what the register would hold by it.
    pub(super) fn note_proposed(&mut self, value: &[u8]) {
        if let Self::Fields(change) = self
            && let Ok(guard) = Guard::decode(Some(value))
        {
            change.proposed = change.proposed.into_iter().chain([guard.fields.version]).min();
        }
    }
}

impl<V> Applied<V> {
    fn map<T>(self, told: impl FnOnce(V) -> T) -> Applied<T> {
        match self {
            Self::Write(value, verdict) => Applied::Write(value, told(verdict)),
            Self::Keep(verdict) => Applied::Keep(told(verdict)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NodeId;
    use crate::engine::ballot::StoreId;

    #[test]
    fn voters_change_only_from_what_was_seen_and_a_change_asked_twice_is_one() {
        let voter = |n: u8| Voter { node: NodeId([n; 32]), store: StoreId([n; 16]) };
        let first = Voters::founded_by(voter(1));
        let begin = VotersChange::Begin { from: first.clone(), set: vec![voter(1), voter(2)] };
        let Applied::Write(value, joint) = begin.apply(None) else { panic!("not begun") };
        assert_eq!((joint.version, joint.next.as_ref().map(Vec::len)), (2, Some(2)));
        assert_eq!(begin.apply(Some(&value)), Applied::Keep(joint.clone()), "asked again");
        let other = VotersChange::Begin { from: first.clone(), set: vec![voter(3)] };
        assert_eq!(other.apply(Some(&value)), Applied::Keep(joint.clone()), "too late");
        assert_eq!(VotersChange::Complete { from: first }.apply(Some(&value)), Applied::Keep(joint.clone()));
        let complete = VotersChange::Complete { from: joint };
        let Applied::Write(_, done) = complete.apply(Some(&value)) else { panic!("not done") };
        assert_eq!((done.version, done.set.len(), done.next), (3, 2, None));
    }
}
