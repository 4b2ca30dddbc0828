//! Whose word counts.
//!
//! The voters are a versioned set. A change goes through a version that needs both majorities, the old set's and the new
//! one's (joint consensus; Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014, section 6).
//! Acceptors refuse what names an older version than they know, so that no majority of the old set alone decides anything
//! once one of its majorities knows better; and every register is accepted anew under both before the old set goes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::NodeId;
use crate::clock::id::{ParseIdError, parse_error, parse_hex, write_hex};

/// The store of one acceptor: drawn when it is made, never for a second time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

/// As it is printed: 32 hex digits.
impl FromStr for StoreId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hex(text).map(Self).ok_or_else(|| parse_error(text, "id of an acceptor's store (32 hex digits)"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0[..3])
    }
}

/// A node, with the store its word rests on. One whose store was rebuilt, restored or copied forgot what it promised: it
/// is another voter, and none until it is let in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Voter {
    pub node: NodeId,
    pub store: StoreId,
}

/// The voters at one version.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Voters {
    /// From 1; a later version always wins.
    pub version: u64,
    /// In order.
    pub set: Vec<Voter>,
    /// The set that this one changes to: majorities of both are needed meanwhile.
    pub next: Option<Vec<Voter>>,
}

/// Why voters cannot become others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VotersError {
    #[error("another change of voters is not over yet")]
    Changing,
    #[error("there is nothing to change")]
    Same,
    #[error("a set of voters has at least one, and at most {VOTERS_MAX}")]
    Size,
}

/// More voters make every decision slower and no safer.
pub const VOTERS_MAX: usize = 9;

/// Versions of one epoch, see [`Voters::recovered_by`].
const EPOCH: u64 = 1 << 32;

impl Voters {
    /// Where a majority is lost for good: an operator begins a new epoch, with one voter that decides alone. What the lost ones
    /// decided and this one does not know is forgotten; so tokens and versions begin anew above all that they may have given
    /// out, see [`Voters::floor`].
    pub fn recovered_by(voter: Voter, known: Option<&Self>) -> Self {
        let epoch = known.map_or(0, |known| known.version / EPOCH);
        Self { version: epoch.saturating_add(1).saturating_mul(EPOCH).saturating_add(1), set: vec![voter], next: None }
    }

    /// What tokens and versions of this epoch are above.
    pub fn floor(&self) -> u64 {
        self.version / EPOCH * EPOCH
    }

    /// The first: whoever founds a cluster decides alone.
    pub fn founded_by(voter: Voter) -> Self {
        Self { version: 1, set: vec![voter], next: None }
    }

    /// All whose word may count, in order.
    pub fn all(&self) -> Vec<Voter> {
        let mut all: Vec<Voter> = self.set.iter().chain(self.next.iter().flatten()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether those that `has` names are enough: a majority, and while the set changes one of either.
    pub fn is_quorum(&self, has: impl Fn(&Voter) -> bool) -> bool {
        let majority = |set: &[Voter]| set.iter().filter(|voter| has(voter)).count() > set.len() / 2;
        majority(&self.set) && self.next.as_deref().is_none_or(majority)
    }

    pub fn has(&self, voter: &Voter) -> bool {
        self.set.contains(voter) || self.next.as_ref().is_some_and(|next| next.contains(voter))
    }

    /// The voter at a node, whatever its store.
    pub fn at(&self, node: &NodeId) -> impl Iterator<Item = &Voter> {
        self.set.iter().chain(self.next.iter().flatten()).filter(move |voter| voter.node == *node)
    }

    /// Whether what came from outside can be a set of voters.
    pub fn fits(&self) -> bool {
        let set = |set: &Vec<Voter>| {
            !set.is_empty() && set.len() <= VOTERS_MAX && set.windows(2).all(|pair| pair[0] < pair[1])
        };
        self.version > 0 && self.version < u64::MAX && set(&self.set) && self.next.iter().all(set)
    }

    /// The first step to another set.
    pub fn begin(&self, mut set: Vec<Voter>) -> Result<Self, VotersError> {
        set.sort_unstable();
        set.dedup();
        if self.next.is_some() {
            return Err(VotersError::Changing);
        }
        if set.is_empty() || set.len() > VOTERS_MAX {
            return Err(VotersError::Size);
        }
        if set == self.set {
            return Err(VotersError::Same);
        }
        Ok(Self { version: self.version + 1, set: self.set.clone(), next: Some(set) })
    }

    /// The last step; `None` when no change is under way.
    pub fn complete(&self) -> Option<Self> {
        Some(Self { version: self.version + 1, set: self.next.clone()?, next: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(n: u8) -> Voter {
        Voter { node: NodeId([n; 32]), store: StoreId([n; 16]) }
    }

    fn voters(set: &[u8], next: Option<&[u8]>) -> Voters {
        let of = |set: &[u8]| set.iter().map(|n| voter(*n)).collect::<Vec<_>>();
        Voters { version: 1, set: of(set), next: next.map(of) }
    }

    #[test]
    fn a_quorum_is_a_majority_and_while_the_set_changes_one_of_either() {
        let has = |names: &'static [u8]| move |voter: &Voter| names.contains(&voter.node.0[0]);
        assert!(voters(&[1], None).is_quorum(has(&[1])));
        assert!(!voters(&[1, 2], None).is_quorum(has(&[1])), "half is no majority");
        assert!(voters(&[1, 2, 3], None).is_quorum(has(&[1, 3])));
        let changing = voters(&[1, 2, 3], Some(&[3, 4, 5]));
        assert!(!changing.is_quorum(has(&[1, 2])), "of the old set only");
        assert!(!changing.is_quorum(has(&[3, 4])), "of the new set only");
        assert!(changing.is_quorum(has(&[1, 3, 4])));
        assert_eq!(changing.all().len(), 5);
    }

    #[test]
    fn a_store_that_is_another_is_another_voter() {
        let rebuilt = Voter { store: StoreId([9; 16]), ..voter(1) };
        assert!(!voters(&[1, 2, 3], None).has(&rebuilt));
        assert_eq!(voters(&[1, 2, 3], None).at(&rebuilt.node).collect::<Vec<_>>(), [&voter(1)]);
    }

    #[test]
    fn one_change_ends_before_the_next_begins() {
        let first = voters(&[1], None);
        let joint = first.begin(vec![voter(2), voter(1)]).unwrap();
        assert_eq!((joint.version, joint.next.as_deref()), (2, Some(&[voter(1), voter(2)][..])));
        assert_eq!(joint.begin(vec![voter(3)]), Err(VotersError::Changing));
        let done = joint.complete().unwrap();
        assert_eq!((done.version, done.set.len(), done.complete()), (3, 2, None));
        assert_eq!(done.begin(done.set.clone()), Err(VotersError::Same));
        assert_eq!(done.begin(Vec::new()), Err(VotersError::Size));
    }
}
