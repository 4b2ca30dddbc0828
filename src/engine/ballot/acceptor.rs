//! One voter: what it promised and what it accepted, for each register.
//!
//! An answer may leave this node only once the change it rests on is on a disk. A voter that forgets a promise lets two
//! majorities decide differently; the model of `tests/ballots` shows how.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::number::Ballot;

/// A register's value, as its kind encodes it.
pub type Value = Vec<u8>;

/// What was accepted, and in which ballot.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Accepted {
    pub ballot: Ballot,
    pub value: Value,
}

/// What a proposer asks a voter about one register.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Question {
    /// Will you leave older ballots alone, and what did you accept in them?
    Prepare { ballot: Ballot },
    /// Do you accept this value? `promise`: and will you leave what is older than that alone, so that the same proposer
    /// need not ask again?
    Accept { ballot: Ballot, value: Value, promise: Ballot },
}

impl Question {
    pub fn ballot(&self) -> Ballot {
        match self {
            Self::Prepare { ballot } | Self::Accept { ballot, .. } => *ballot,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Answer {
    Promised {
        accepted: Option<Accepted>,
    },
    Accepted,
    /// A later ballot was promised.
    Refused {
        promised: Ballot,
    },
    /// The question names an older version of the voters than this voter knows.
    Outdated {
        version: u64,
    },
}

/// What a voter knows of one register.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Held {
    pub promised: Ballot,
    pub accepted: Option<Accepted>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Acceptor {
    /// The version of the voters that it knows: what is older is refused.
    version: u64,
    held: BTreeMap<Arc<str>, Held>,
}

impl Acceptor {
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the version was news.
    pub fn learn(&mut self, version: u64) -> bool {
        let news = version > self.version;
        self.version = self.version.max(version);
        news
    }

    pub fn get(&self, register: &str) -> Option<&Held> {
        self.held.get(register)
    }

    pub fn registers(&self) -> impl Iterator<Item = (&Arc<str>, &Held)> {
        self.held.iter()
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// As a disk held it.
    pub fn restore(&mut self, register: &str, held: Held) {
        self.held.insert(register.into(), held);
    }

    /// Answers, and changes what the answer rests on. `version`: of the voters, as the proposer knows them.
    pub fn answer(&mut self, version: u64, register: &str, question: &Question) -> Answer {
        if version < self.version {
            return Answer::Outdated { version: self.version };
        }
        self.version = version;
        let ballot = question.ballot();
        let held = self.held.get_mut(register);
        if let Some(held) = &held {
            let accepted = held.accepted.as_ref().is_some_and(|accepted| accepted.ballot == ballot);
            if accepted && matches!(question, Question::Accept { .. }) {
                return Answer::Accepted;
            }
            if held.promised > ballot {
                return Answer::Refused { promised: held.promised };
            }
        }
        let before = held.as_ref().and_then(|held| held.accepted.clone());
        let (answer, now) = match question {
            Question::Prepare { .. } => {
                (Answer::Promised { accepted: before.clone() }, Held { promised: ballot, accepted: before })
            }
            Question::Accept { value, promise, .. } => {
                let accepted = Some(Accepted { ballot, value: value.clone() });
                (Answer::Accepted, Held { promised: ballot.max(*promise), accepted })
            }
        };
        match held {
            Some(held) => *held = now,
            None => drop(self.held.insert(register.into(), now)),
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Incarnation, NodeId, ReplicaId};

    fn ballot(round: u64, by: u8) -> Ballot {
        Ballot { round, by: ReplicaId { node: NodeId([by; 32]), incarnation: Incarnation([by; 16]) } }
    }

    fn accept(ballot: Ballot, value: u8) -> Question {
        Question::Accept { ballot, value: vec![value], promise: ballot.next() }
    }

    #[test]
    fn what_was_promised_is_kept_and_what_was_accepted_is_told() {
        let mut acceptor = Acceptor::default();
        let (first, second) = (ballot(1, 1), ballot(1, 2));
        assert_eq!(acceptor.answer(1, "r", &Question::Prepare { ballot: first }), Answer::Promised { accepted: None });
        assert_eq!(acceptor.answer(1, "r", &accept(first, 7)), Answer::Accepted);
        // The same proposer was promised its next ballot on the way.
        assert_eq!(
            acceptor.answer(1, "r", &Question::Prepare { ballot: second }),
            Answer::Refused { promised: first.next() }
        );
        let later = ballot(3, 2);
        let accepted = Some(Accepted { ballot: first, value: vec![7] });
        assert_eq!(acceptor.answer(1, "r", &Question::Prepare { ballot: later }), Answer::Promised { accepted });
        assert_eq!(acceptor.answer(1, "r", &accept(first.next(), 8)), Answer::Refused { promised: later });
        assert_eq!(acceptor.answer(1, "other", &accept(first, 9)), Answer::Accepted, "registers do not meet");
    }

    #[test]
    fn a_question_that_comes_twice_is_answered_twice_alike() {
        let mut acceptor = Acceptor::default();
        let (prepare, accept) = (Question::Prepare { ballot: ballot(1, 1) }, accept(ballot(1, 1), 7));
        assert_eq!(acceptor.answer(1, "r", &prepare), acceptor.answer(1, "r", &prepare));
        assert_eq!(acceptor.answer(1, "r", &accept), Answer::Accepted);
        let before = acceptor.clone();
        assert_eq!(acceptor.answer(1, "r", &accept), Answer::Accepted);
        assert_eq!(acceptor.answer(1, "r", &prepare), Answer::Refused { promised: ballot(2, 1) });
        assert_eq!(acceptor, before);
    }

    #[test]
    fn a_voter_that_knows_of_a_change_refuses_who_does_not() {
        let mut acceptor = Acceptor::default();
        assert_eq!(acceptor.answer(2, "r", &accept(ballot(1, 1), 7)), Answer::Accepted);
        assert_eq!(acceptor.answer(1, "s", &accept(ballot(9, 1), 8)), Answer::Outdated { version: 2 });
        assert_eq!(acceptor.get("s"), None);
        assert!(acceptor.learn(3) && !acceptor.learn(2) && acceptor.version() == 3);
    }
}
