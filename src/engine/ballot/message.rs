//! What nodes say to each other about ballots. A vote is counted for the node that the connection authenticates, never for
//! one that a message names.

use serde::{Deserialize, Serialize};

use super::acceptor::{Answer, Question};
use super::ask::GUARD;
use super::lock::NAME_MAX;
use super::number::Ballot;
use super::vote::NOMINATION_MAX;
use super::voters::{StoreId, Voters};
use crate::document::codec::DecodeError;

/// Longest name of a register, bytes.
pub const REGISTER_MAX: usize = GUARD.len() + NAME_MAX;
/// Longest value of a register, bytes.
pub const VALUE_MAX: usize = 64 << 10;
/// Rounds beyond this are nobody's: at a million a second they last for a hundred thousand years.
pub const ROUND_MAX: u64 = 1 << 62;
/// Registers named in one message.
pub const LISTED_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BallotMessage {
    /// The voters, as the sender knows them: told to all when they change, and at first contact.
    Voters(Voters),
    Question {
        register: String,
        /// Of the voters that the proposer counts.
        version: u64,
        question: Question,
    },
    Answer {
        register: String,
        ballot: Ballot,
        /// The store that the answer rests on.
        store: StoreId,
        answer: Answer,
    },
    /// Which registers do you hold, after this one?
    List {
        version: u64,
        after: Option<String>,
    },
    Listed {
        version: u64,
        store: StoreId,
        after: Option<String>,
        registers: Vec<String>,
    },
    /// What would you have become of this conflict?
    Nominate {
        conflict: String,
    },
    /// `value`: in its canonical form; `None`: no word on it.
    Nominated {
        conflict: String,
        store: StoreId,
        value: Option<Vec<u8>>,
    },
    /// A register changed: whoever waits for it may ask again.
    Changed {
        register: String,
    },
}

impl BallotMessage {
    /// The store that its sender's word rests on.
    pub fn store(&self) -> Option<StoreId> {
        match self {
            Self::Answer { store, .. } | Self::Listed { store, .. } | Self::Nominated { store, .. } => Some(*store),
            _ => None,
        }
    }

    /// Whether what came from outside keeps to the bounds.
    pub fn check(&self) -> Result<(), DecodeError> {
        let name = |register: &String| (1..=REGISTER_MAX).contains(&register.len());
        let fits = match self {
            Self::Voters(voters) => voters.fits(),
            Self::Question { register, question, .. } => {
                let value = match question {
                    Question::Prepare { .. } => 0,
                    Question::Accept { value, .. } => value.len(),
                };
                name(register) && question.ballot().round < ROUND_MAX && value <= VALUE_MAX
            }
            Self::Answer { register, answer, .. } => {
                let fits = match answer {
                    Answer::Promised { accepted: Some(accepted) } => accepted.value.len() <= VALUE_MAX,
                    Answer::Refused { promised } => promised.round < ROUND_MAX,
                    _ => true,
                };
                name(register) && fits
            }
            Self::List { after, .. } => after.iter().all(name),
            Self::Listed { after, registers, .. } => {
                after.iter().chain(registers).all(name) && registers.len() <= LISTED_MAX
            }
            Self::Nominate { conflict } => name(conflict),
            Self::Nominated { conflict, value, .. } => {
                name(conflict) && value.as_ref().is_none_or(|value| value.len() <= NOMINATION_MAX)
            }
            Self::Changed { register } => name(register),
        };
        if fits { Ok(()) } else { Err(DecodeError::Bounds("a ballot")) }
    }
}
