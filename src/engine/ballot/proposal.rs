//! One attempt to change one register, from the first question to the decision.
//!
//! The proposer asks a majority what it accepted, applies its change to the latest of that, and asks a majority to accept
//! the result. Who was promised a ballot on the way of the last decision begins with the second question.

use std::collections::{BTreeMap, BTreeSet};

use super::acceptor::{Accepted, Answer, Question, Value};
use super::number::Ballot;
use super::voters::{Voter, Voters};

/// What is done to a register, as a function of what it holds: it may be applied again, in a later ballot, to another
/// value.
pub trait Change {
    type Verdict;

    fn apply(&self, current: Option<&[u8]>) -> Applied<Self::Verdict>;
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Applied<V> {
    Write(Value, V),
    /// Nothing is to change: it was only asked, or is refused.
    Keep(V),
}

/// A ballot that a quorum promised this proposer and that it has not used, with what the register holds below it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Promise {
    pub ballot: Ballot,
    pub value: Option<Value>,
    /// Of the voters that gave it.
    pub version: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Step<V> {
    Wait,
    /// Put this to every voter.
    Ask(Question),
    /// It is decided, and holds for good.
    Decided {
        verdict: V,
        promise: Promise,
    },
    /// So many voters promised a later ballot that this one comes to nothing. What it asked to be accepted may still be.
    Lost {
        promised: Ballot,
    },
    /// The voters are others by now.
    Outdated {
        version: u64,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Proposal<C: Change> {
    pub change: C,
    ballot: Ballot,
    voters: Voters,
    phase: Phase<C::Verdict>,
    refused: BTreeMap<Voter, Ballot>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase<V> {
    Preparing { answers: BTreeMap<Voter, Option<Accepted>> },
    Accepting { value: Value, verdict: Option<V>, votes: BTreeSet<Voter> },
}

impl<C: Change> Proposal<C> {
    pub fn new(voters: Voters, ballot: Ballot, change: C) -> (Self, Question) {
        let phase = Phase::Preparing { answers: BTreeMap::new() };
        (Self { change, ballot, voters, phase, refused: BTreeMap::new() }, Question::Prepare { ballot })
    }

    /// Begins with the second question. Gives the change back where it has to begin with the first: the promise was other
    /// voters', or there is nothing to accept.
    pub fn resume(voters: &Voters, promise: Promise, change: C) -> Result<(Self, Question), C> {
        if promise.version != voters.version {
            return Err(change);
        }
        // Nothing is read without a word of a quorum: what is kept is accepted once more.
        let (value, verdict) = match (change.apply(promise.value.as_deref()), promise.value) {
            (Applied::Write(value, verdict), _) => (value, verdict),
            (Applied::Keep(verdict), Some(value)) => (value, verdict),
            (Applied::Keep(_), None) => return Err(change),
        };
        let ballot = promise.ballot;
        let question = Question::Accept { ballot, value: value.clone(), promise: ballot.next() };
        let phase = Phase::Accepting { value, verdict: Some(verdict), votes: BTreeSet::new() };
        Ok((Self { change, ballot, voters: voters.clone(), phase, refused: BTreeMap::new() }, question))
    }

    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Whether voters were asked to accept: then nobody can say that nothing was changed, unless it is decided.
    pub fn is_accepting(&self) -> bool {
        matches!(self.phase, Phase::Accepting { .. })
    }

    /// What voters are asked just now; none that is decided asks any more.
    pub fn question(&self) -> Option<Question> {
        let ballot = self.ballot;
        match &self.phase {
            Phase::Preparing { .. } => Some(Question::Prepare { ballot }),
            Phase::Accepting { verdict: None, .. } => None,
            Phase::Accepting { value, .. } => {
                Some(Question::Accept { ballot, value: value.clone(), promise: ballot.next() })
            }
        }
    }

    /// Takes the answer of one voter, as its connection names it, to the question of this ballot.
    pub fn on_answer(&mut self, voter: Voter, answer: Answer) -> Step<C::Verdict> {
        if !self.voters.has(&voter) {
            return Step::Wait;
        }
        match (answer, &mut self.phase) {
            (Answer::Promised { accepted }, Phase::Preparing { answers }) => {
                answers.insert(voter, accepted);
                if self.voters.is_quorum(|voter| answers.contains_key(voter)) { self.promised() } else { Step::Wait }
            }
            (Answer::Accepted, Phase::Accepting { value, verdict, votes }) => {
                votes.insert(voter);
                if !self.voters.is_quorum(|voter| votes.contains(voter)) {
                    return Step::Wait;
                }
                let Some(verdict) = verdict.take() else { return Step::Wait };
                let (ballot, version) = (self.ballot.next(), self.voters.version);
                Step::Decided { verdict, promise: Promise { ballot, value: Some(value.clone()), version } }
            }
            (Answer::Refused { promised }, _) => {
                self.refused.insert(voter, promised);
                let is_lost = !self.voters.is_quorum(|voter| !self.refused.contains_key(voter));
                let latest = self.refused.values().max().copied().unwrap_or(promised);
                if is_lost { Step::Lost { promised: latest } } else { Step::Wait }
            }
            (Answer::Outdated { version }, _) => Step::Outdated { version },
            // The answer to the first question, after the second was asked.
            (Answer::Promised { .. } | Answer::Accepted, _) => Step::Wait,
        }
    }

    /// Whether nothing can come of it while only these voters answer: enough of them refused.
    pub fn is_hopeless(&self, answers: impl Fn(&Voter) -> bool) -> bool {
        let said_yes = |voter: &Voter| match &self.phase {
            Phase::Preparing { answers } => answers.contains_key(voter),
            Phase::Accepting { votes, .. } => votes.contains(voter),
        };
        !self.refused.is_empty()
            && !self.voters.is_quorum(|voter| said_yes(voter) || answers(voter) && !self.refused.contains_key(voter))
    }

    /// A quorum promised this ballot.
    fn promised(&mut self) -> Step<C::Verdict> {
        let Phase::Preparing { answers } = &self.phase else { return Step::Wait };
        let latest = answers.values().flatten().max_by_key(|accepted| accepted.ballot).cloned();
        // What a quorum accepted in one ballot is decided; where only some did, it is decided by being accepted again.
        let of_latest = |voter: &Voter| answers.get(voter).is_some_and(|accepted| *accepted == latest);
        let is_decided = self.voters.is_quorum(of_latest);
        let current = latest.map(|accepted| accepted.value);
        let (value, verdict) = match (self.change.apply(current.as_deref()), current) {
            (Applied::Write(value, verdict), _) => (value, verdict),
            (Applied::Keep(verdict), Some(value)) if !is_decided => (value, verdict),
            (Applied::Keep(verdict), value) => {
                let promise = Promise { ballot: self.ballot, value, version: self.voters.version };
                return Step::Decided { verdict, promise };
            }
        };
        self.phase = Phase::Accepting { value, verdict: Some(verdict), votes: BTreeSet::new() };
        self.refused.clear();
        self.question().map_or(Step::Wait, Step::Ask)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Acceptor;
    use super::super::voters::StoreId;
    use super::*;
    use crate::clock::{Incarnation, NodeId, ReplicaId};

    /// Appends a byte, or only looks.
    #[derive(Clone, Debug, PartialEq)]
    struct Append(Option<u8>);

    impl Change for Append {
        type Verdict = Vec<u8>;

        fn apply(&self, current: Option<&[u8]>) -> Applied<Vec<u8>> {
            let mut value = current.unwrap_or_default().to_vec();
            let Some(byte) = self.0 else { return Applied::Keep(value) };
            value.push(byte);
            Applied::Write(value.clone(), value)
        }
    }

    fn voter(n: u8) -> Voter {
        Voter { node: NodeId([n; 32]), store: StoreId([n; 16]) }
    }

    fn ballot(round: u64, by: u8) -> Ballot {
        Ballot { round, by: ReplicaId { node: NodeId([by; 32]), incarnation: Incarnation([by; 16]) } }
    }

    /// Three voters, and how often each was asked.
    struct Booth(BTreeMap<Voter, Acceptor>, usize);

    impl Booth {
        fn new() -> Self {
            Self((1..=3).map(|n| (voter(n), Acceptor::default())).collect(), 0)
        }

        fn voters(&self) -> Voters {
            Voters { version: 1, set: self.0.keys().copied().collect(), next: None }
        }

        /// Asks these voters, question by question, until something comes of it.
        fn run(&mut self, (mut proposal, mut question): (Proposal<Append>, Question), asked: &[u8]) -> Step<Vec<u8>> {
            loop {
                let mut step = Step::Wait;
                for n in asked {
                    let answer = self.0.get_mut(&voter(*n)).unwrap().answer(1, "r", &question);
                    self.1 += 1;
                    let next = proposal.on_answer(voter(*n), answer);
                    if next != Step::Wait {
                        step = next;
                        break;
                    }
                }
                match step {
                    Step::Ask(next) => question = next,
                    step => return step,
                }
            }
        }

        fn propose(&mut self, round: u64, by: u8, change: Append, asked: &[u8]) -> Step<Vec<u8>> {
            self.run(Proposal::new(self.voters(), ballot(round, by), change), asked)
        }
    }

    fn decided(step: Step<Vec<u8>>) -> (Vec<u8>, Promise) {
        let Step::Decided { verdict, promise } = step else { panic!("{step:?}") };
        (verdict, promise)
    }

    #[test]
    fn each_change_builds_on_the_last_that_was_decided_whichever_majority_answers() {
        let mut booth = Booth::new();
        assert_eq!(decided(booth.propose(1, 1, Append(Some(1)), &[1, 2])).0, [1]);
        assert_eq!(decided(booth.propose(2, 2, Append(Some(2)), &[2, 3])).0, [1, 2]);
        assert_eq!(decided(booth.propose(3, 3, Append(None), &[1, 3])).0, [1, 2], "a read");
        assert_eq!(booth.propose(4, 1, Append(Some(9)), &[1]), Step::Wait, "one of three decides nothing");
    }

    #[test]
    fn what_was_not_decided_is_not_read_as_if_it_were() {
        let mut booth = Booth::new();
        let (mut proposal, question) = Proposal::new(booth.voters(), ballot(1, 1), Append(Some(1)));
        for n in [1, 2] {
            let answer = booth.0.get_mut(&voter(n)).unwrap().answer(1, "r", &question);
            if let Step::Ask(accept) = proposal.on_answer(voter(n), answer) {
                // One voter hears of it, and the proposer dies.
                booth.0.get_mut(&voter(1)).unwrap().answer(1, "r", &accept);
            }
        }
        // Who sees it has it accepted before telling of it; then everybody reads it.
        assert_eq!(decided(booth.propose(2, 2, Append(None), &[1, 2])).0, [1]);
        assert_eq!(decided(booth.propose(3, 3, Append(None), &[2, 3])).0, [1]);
        // Who does not see it decides otherwise, and it never was.
        let mut booth = Booth::new();
        booth.0.get_mut(&voter(1)).unwrap().answer(
            1,
            "r",
            &Question::Accept { ballot: ballot(1, 1), value: vec![1], promise: ballot(2, 1) },
        );
        assert_eq!(decided(booth.propose(2, 2, Append(Some(7)), &[2, 3])).0, [7]);
        assert_eq!(decided(booth.propose(3, 3, Append(None), &[1, 2])).0, [7]);
    }

    #[test]
    fn who_holds_a_promise_needs_one_question_and_loses_it_to_who_asks_later() {
        let mut booth = Booth::new();
        let (_, promise) = decided(booth.propose(1, 1, Append(Some(1)), &[1, 2, 3]));
        let asked = booth.1;
        let resumed = Proposal::resume(&booth.voters(), promise, Append(Some(2))).unwrap();
        let (value, promise) = decided(booth.run(resumed, &[1, 2, 3]));
        assert_eq!((value, booth.1 - asked), (vec![1, 2], 2), "two voters were enough");
        decided(booth.propose(9, 2, Append(Some(3)), &[2, 3]));
        let resumed = Proposal::resume(&booth.voters(), promise.clone(), Append(Some(4))).unwrap();
        let lost = booth.run(resumed, &[1, 2, 3]);
        assert_eq!(lost, Step::Lost { promised: ballot(10, 2) });
        let others = Voters { version: 2, ..booth.voters() };
        assert!(Proposal::resume(&others, promise, Append(Some(4))).is_err(), "the promise was of other voters");
    }

    #[test]
    fn a_vote_counts_once_and_only_of_a_voter() {
        let voters = Booth::new().voters();
        let (mut proposal, _) = Proposal::new(voters, ballot(1, 1), Append(Some(1)));
        let promised = || Answer::Promised { accepted: None };
        assert_eq!(proposal.on_answer(voter(1), promised()), Step::Wait);
        assert_eq!(proposal.on_answer(voter(1), promised()), Step::Wait, "the same voter again");
        assert_eq!(proposal.on_answer(voter(4), promised()), Step::Wait, "no voter");
        let rebuilt = Voter { store: StoreId([9; 16]), ..voter(2) };
        assert_eq!(proposal.on_answer(rebuilt, promised()), Step::Wait, "a voter whose store is another");
        assert!(matches!(proposal.on_answer(voter(2), promised()), Step::Ask(_)));
        assert_eq!(proposal.on_answer(voter(3), Answer::Refused { promised: ballot(2, 2) }), Step::Wait);
        let lost = proposal.on_answer(voter(2), Answer::Refused { promised: ballot(3, 2) });
        assert_eq!(lost, Step::Lost { promised: ballot(3, 2) });
    }

    #[test]
    fn one_refusal_is_enough_where_all_that_answer_are_needed() {
        let (mut proposal, _) = Proposal::new(Booth::new().voters(), ballot(1, 1), Append(Some(1)));
        let without = |gone: u8| move |other: &Voter| *other != voter(gone);
        assert!(!proposal.is_hopeless(without(3)), "nobody refused");
        assert_eq!(proposal.on_answer(voter(2), Answer::Refused { promised: ballot(2, 2) }), Step::Wait);
        assert!(!proposal.is_hopeless(|_| true), "the third may answer yet");
        assert!(proposal.is_hopeless(without(3)));
        proposal.on_answer(voter(3), Answer::Promised { accepted: None });
        assert!(!proposal.is_hopeless(without(3)), "it answered before it went");
    }
}
