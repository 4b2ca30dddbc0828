//! One register, proposers that know the voters of different versions, and a change of voters under way: one voter goes and
//! another comes in its place, so that a majority of the old set and one of the new may have nobody in common.
//!
//! What is decided about the voters themselves is known to whoever leads the change as soon as it is decided, and to nobody
//! else: others learn of it when they do, or never. Messages are lost, repeated and overtaken as in [`consensus`](crate::consensus).

use std::collections::BTreeSet;

use folkmoot::clock::{Incarnation, NodeId, ReplicaId};
use folkmoot::engine::ballot::{
    Acceptor, Answer, Applied, Ballot, Change, Proposal, Question, Step, StoreId, Voter, Voters,
};
use stateright::{Model, Property};

use crate::walk::{runs, walk};

const HOSTS: u8 = 4;
/// Who asks for the register itself, to have it accepted by the new voters too.
const LEADER: usize = 2;
/// Steps of one drawn run: what the change and two proposers need, and as much again.
const STEPS: usize = 120;

#[derive(Clone, Debug)]
struct Reconfiguration {
    /// Registers are accepted by both sets before the old one goes.
    transfers: bool,
}

/// Adds a name to the list, once; the leader only has it accepted again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Add(Option<u8>);

impl Change for Add {
    type Verdict = Vec<u8>;

    fn apply(&self, current: Option<&[u8]>) -> Applied<Vec<u8>> {
        let mut list = current.unwrap_or_default().to_vec();
        match self.0 {
            Some(name) if !list.contains(&name) => list.push(name),
            None if current.is_some() => {}
            _ => return Applied::Keep(list),
        }
        Applied::Write(list.clone(), list)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    hosts: Vec<Acceptor>,
    proposers: Vec<Proposer>,
    /// All that was ever asked: by whom, under which version, and what.
    questions: BTreeSet<(usize, u64, Ballot, Option<Vec<u8>>)>,
    /// Of the voters, as the leader knows it.
    version: u64,
    /// Old voters that told the leader what they hold, and whether the register was among it.
    listed: BTreeSet<(u8, bool)>,
    moved: bool,
    decided: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Proposer {
    version: u64,
    round: u64,
    attempts: u8,
    proposal: Option<Proposal<Add>>,
}

#[derive(Clone, Debug)]
enum Action {
    Begin(usize),
    Ask {
        host: u8,
        at: usize,
        heard: bool,
    },
    ProposerLearns(usize),
    HostLearns(u8),
    /// The next step of the change.
    Change,
    List(u8),
}

fn voter(n: u8) -> Voter {
    Voter { node: NodeId([n; 32]), store: StoreId([n; 16]) }
}

fn by(n: usize) -> ReplicaId {
    let n = n as u8;
    ReplicaId { node: NodeId([100 + n; 32]), incarnation: Incarnation([n; 16]) }
}

/// The voters of each version: the old ones, both, the new ones.
fn voters(version: u64) -> Voters {
    let old = Voters { version: 1, set: [0, 1, 2].map(voter).to_vec(), next: None };
    match version {
        1 => old,
        2 => old.begin([1, 2, 3].map(voter).to_vec()).expect("another set"),
        _ => voters(2).complete().expect("a change is under way"),
    }
}

impl State {
    fn begin(&mut self, at: usize) {
        let proposer = &mut self.proposers[at];
        proposer.attempts += 1;
        proposer.round += 1;
        let ballot = Ballot { round: proposer.round, by: by(at) };
        let add = Add((at != LEADER).then_some(at as u8));
        let (proposal, question) = Proposal::new(voters(proposer.version), ballot, add);
        proposer.proposal = Some(proposal);
        self.put(at, &question);
    }

    fn put(&mut self, at: usize, question: &Question) {
        let value = match question {
            Question::Prepare { .. } => None,
            Question::Accept { value, .. } => Some(value.clone()),
        };
        self.questions.insert((at, self.proposers[at].version, question.ballot(), value));
    }

    fn hear(&mut self, host: u8, at: usize, ballot: Ballot, answer: Answer) {
        let proposer = &mut self.proposers[at];
        let Some(proposal) = proposer.proposal.as_mut().filter(|proposal| proposal.ballot() == ballot) else { return };
        match proposal.on_answer(voter(host), answer) {
            Step::Ask(question) => self.put(at, &question),
            Step::Decided { verdict, .. } => {
                proposer.proposal = None;
                self.decided.push(verdict);
                self.moved |= at == LEADER;
            }
            Step::Lost { promised } => {
                proposer.round = proposer.round.max(promised.round);
                proposer.proposal = None;
            }
            Step::Outdated { .. } => proposer.proposal = None,
            Step::Wait => {}
        }
    }

    /// Enough of the old voters told what they hold, and refuse from then on who does not know of the change.
    fn is_listed(&self) -> bool {
        let old = Voters { next: None, ..voters(1) };
        old.is_quorum(|voter| self.listed.iter().any(|(host, _)| NodeId([*host; 32]) == voter.node))
    }
}

impl Model for Reconfiguration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut hosts = vec![Acceptor::default(); usize::from(HOSTS)];
        for host in &mut hosts {
            host.learn(1);
        }
        vec![State {
            hosts,
            proposers: vec![Proposer { version: 1, ..Proposer::default() }; LEADER + 1],
            questions: BTreeSet::new(),
            version: 1,
            listed: BTreeSet::new(),
            moved: false,
            decided: Vec::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend((0..LEADER).filter(|at| state.proposers[*at].attempts < 3).map(Action::Begin));
        for host in 0..HOSTS {
            let asks =
                (0..state.questions.len()).flat_map(|at| [true, false].map(|heard| Action::Ask { host, at, heard }));
            actions.extend(asks);
            actions
                .extend((state.hosts[usize::from(host)].version() < state.version).then_some(Action::HostLearns(host)));
        }
        actions
            .extend((0..LEADER).filter(|at| state.proposers[*at].version < state.version).map(Action::ProposerLearns));
        if state.version < 3 {
            actions.push(Action::Change);
        }
        if state.version == 2 && self.transfers {
            actions.extend([0, 1, 2].map(Action::List));
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Begin(at) => state.begin(at),
            Action::Ask { host, at, heard } => {
                let (by, version, ballot, value) = state.questions.iter().nth(at)?.clone();
                let question = match value {
                    None => Question::Prepare { ballot },
                    Some(value) => Question::Accept { ballot, value, promise: ballot.next() },
                };
                let acceptor = &mut state.hosts[usize::from(host)];
                // Who does not know of these voters yet says nothing.
                if version > acceptor.version() {
                    return None;
                }
                let answer = acceptor.answer(version, "r", &question);
                if heard {
                    state.hear(host, by, ballot, answer);
                }
            }
            Action::ProposerLearns(at) => {
                state.proposers[at].version = state.version;
                // What is asked of the voters of before goes on, and comes to nothing where they know better.
            }
            Action::HostLearns(host) => {
                state.hosts[usize::from(host)].learn(state.version);
            }
            Action::List(host) => {
                let acceptor = &mut state.hosts[usize::from(host)];
                acceptor.learn(2);
                state.listed.insert((host, acceptor.get("r").is_some()));
            }
            Action::Change if state.version == 1 => {
                state.version = 2;
                state.proposers[LEADER].version = 2;
            }
            Action::Change if !self.transfers => state.version = 3,
            Action::Change if !state.is_listed() => return None,
            Action::Change => {
                let holds = state.listed.iter().any(|(_, holds)| *holds);
                match (holds && !state.moved, &state.proposers[LEADER].proposal) {
                    (false, _) => state.version = 3,
                    (true, None) if state.proposers[LEADER].attempts < 4 => state.begin(LEADER),
                    (true, _) => return None,
                }
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("one history", |_, state: &State| {
            let alike = |a: &Vec<u8>, b: &Vec<u8>| a.starts_with(b) || b.starts_with(a);
            state.decided.iter().all(|a| state.decided.iter().all(|b| alike(a, b)))
        })]
    }
}

#[test]
fn a_change_of_voters_keeps_one_history_in_every_run_that_was_drawn() {
    let model = Reconfiguration { transfers: true };
    let (mut changed, mut after) = (0, 0);
    for seed in 0..runs() {
        let (holds, last) = walk(&model, seed, STEPS);
        assert!(holds, "run {seed}: {last:?}");
        changed += u64::from(last.version == 3);
        after += u64::from(last.version == 3 && last.decided.iter().flatten().any(|name| usize::from(*name) < LEADER));
    }
    assert!(
        changed > runs() / 100 && after > runs() / 200,
        "{changed} runs came to the new voters, {after} decided too"
    );
    println!("{changed} of {} runs came to the new voters, {after} of them decided something", runs());
}

#[test]
fn a_change_that_leaves_the_registers_behind_lets_two_histories_be_decided() {
    let model = Reconfiguration { transfers: false };
    assert!((0..runs()).any(|seed| !walk(&model, seed, STEPS).0));
}
