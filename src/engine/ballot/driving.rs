//! How a replica asks, answers, and tries again.

use std::collections::VecDeque;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::acceptor::{Answer, Question};
use super::ask::{Ask, Asked, GUARD, Told};
use super::booth::{AskError, AskId, Due, Outcome, QUEUED_MAX, Queued, REGISTERS_MAX, RUNNING_MAX, Running};
use super::fields::{FieldsChange, FieldsOutcome};
use super::lock::{Lock, LockChange};
use super::message::BallotMessage;
use super::number::Ballot;
use super::proposal::{Proposal, Step};
use super::voters::{StoreId, Voter, Voters};
use crate::clock::NodeId;
use crate::engine::detector::Liveness;
use crate::engine::hooks::Mutant;
use crate::engine::io::{Event, Now};
use crate::engine::message::Message;
use crate::engine::peer::Peer;
use crate::engine::replica::Replica;

/// Voters that do not answer within this are asked again, in a later ballot, µs: a slow disk's sync, twice.
const ATTEMPT_US: u64 = 1_000_000;
/// Nothing is asked for longer than this, µs.
const ASK_US: u64 = 5_000_000;
/// Questions put to a voter that comes back. The rest is asked of it in their next attempt.
const ASKED_AGAIN_MAX: usize = 64;
/// Who was overtaken lets the other finish: so long, doubled each time up to 32 times, µs.
const BACKOFF_US: u64 = 10_000;

impl Replica {
    pub fn ballots(&self) -> &super::Booth {
        &self.booth
    }

    /// Whether this node reaches enough voters for a decision.
    pub fn has_quorum(&self) -> bool {
        self.lacks_quorum().is_none()
    }

    /// Why nothing can be decided just now, if so.
    pub fn check_quorum(&self) -> Result<(), AskError> {
        self.lacks_quorum().map_or(Ok(()), Err)
    }

    /// Asks a quorum to change a register. What came of it is told by [`Event::Asked`].
    pub fn ask(&mut self, register: &str, ask: Ask, now: Now) -> AskId {
        let id = self.ask_inside(register, ask, now);
        self.settle(now);
        id
    }

    /// Asks to change a lock. One that was not renewed while this node watched it for its lease may be taken.
    pub fn ask_lock(&mut self, name: &str, change: LockChange, now: Now) -> AskId {
        let change = self.if_expired(name, change, now);
        self.ask(&format!("{GUARD}{name}"), Ask::Lock(change), now)
    }

    /// Asks to change what a quorum decides about a document.
    pub fn ask_fields(&mut self, name: &str, change: FieldsChange, now: Now) -> AskId {
        let id = self.ask_fields_inside(name, change, now);
        self.settle(now);
        id
    }

    pub(super) fn ask_fields_inside(&mut self, name: &str, mut change: FieldsChange, now: Now) -> AskId {
        change.fenced = !self.config.hooks.planted(Mutant::TokenNotChecked);
        change.take = change.take.map(|take| self.if_expired(name, take, now));
        self.ask_inside(&format!("{GUARD}{name}"), Ask::Fields(change), now)
    }

    fn if_expired(&self, name: &str, change: LockChange, now: Now) -> LockChange {
        match change {
            LockChange::Acquire { waiter, waits, .. } => {
                let at_once = self.config.hooks.planted(Mutant::LeaseNotAwaited);
                let expired = self.booth.watch.expired(name, if at_once { u64::MAX } else { now.mono_us });
                LockChange::Acquire { waiter, waits, expired }
            }
            other => other,
        }
    }

    pub(super) fn ask_inside(&mut self, register: &str, ask: Ask, now: Now) -> AskId {
        self.booth.asked += 1;
        let id = AskId(self.booth.asked);
        let queued = Queued { id, ask, begun_us: now.mono_us };
        let register: Arc<str> = register.into();
        if let Some(running) = self.booth.running.get_mut(&register) {
            if matches!(queued.ask, Ask::Again) {
                // All others wait for the voters to be the new ones.
                running.queue.push_front(queued);
            } else if running.queue.len() < QUEUED_MAX {
                running.queue.push_back(queued);
            } else {
                self.tell(id, Err(AskError::Busy), now);
            }
        } else if self.booth.running.len() < RUNNING_MAX {
            self.run(&register, queued, VecDeque::new(), now);
        } else {
            self.tell(id, Err(AskError::Busy), now);
        }
        id
    }

    fn run(&mut self, register: &Arc<str>, at: Queued, queue: VecDeque<Queued>, now: Now) {
        let running = Running { at, proposal: None, due_us: now.mono_us, accepting: false, attempts: 0, queue };
        self.booth.running.insert(register.clone(), running);
        self.attempt(register, now);
    }

    /// The voters that this node can ask now.
    fn reaches(&self, voter: &Voter) -> bool {
        // One with another store is no voter any more, and does not answer as one.
        let answers = |peer: &Peer| {
            peer.store == Some(voter.store) && peer.established().is_some() && peer.liveness != Liveness::Down
        };
        let own = Voter { node: self.id.node, store: self.booth.store };
        *voter == own || self.peers.get(&voter.node).is_some_and(answers)
    }

    /// Why nothing can be decided just now, if so.
    fn lacks_quorum(&self) -> Option<AskError> {
        let Some(voters) = &self.booth.voters else { return Some(AskError::NoVoters) };
        if voters.is_quorum(|voter| self.reaches(voter)) {
            return None;
        }
        let (reached, voters) = self.voters_reached();
        Some(AskError::NoQuorum { reached, voters })
    }

    /// How many voters this node can ask now, and how many there are.
    pub fn voters_reached(&self) -> (usize, usize) {
        let all = self.booth.voters.as_ref().map(Voters::all).unwrap_or_default();
        (all.iter().filter(|voter| self.reaches(voter)).count(), all.len())
    }

    fn attempt(&mut self, register: &Arc<str>, now: Now) {
        if let Some(error) = self.lacks_quorum() {
            return self.end_without(register, error, now);
        }
        let Some(voters) = self.booth.voters.clone() else { return };
        let promise = self.booth.promises.remove(register);
        let Some(running) = self.booth.running.get_mut(register) else { return };
        running.attempts += 1;
        running.due_us = now.mono_us + ATTEMPT_US;
        let ask = Asked { ask: running.at.ask.clone(), floor: voters.floor() };
        let counted = self.counted(&voters);
        let begun = match promise {
            Some(promise) => Proposal::resume(&counted, promise, ask),
            None => Err(ask),
        };
        let (proposal, question) = begun.unwrap_or_else(|ask| {
            self.booth.round += 1;
            Proposal::new(counted, Ballot { round: self.booth.round, by: self.id }, ask)
        });
        let Some(running) = self.booth.running.get_mut(register) else { return };
        running.note_asked(&question);
        running.proposal = Some(proposal);
        self.put(register, &voters, &question, now);
    }

    /// Those who have to agree; a planted bug is content with itself.
    fn counted(&self, voters: &Voters) -> Voters {
        let own = Voter { node: self.id.node, store: self.booth.store };
        match self.config.hooks.planted(Mutant::MinorityDecides) && voters.has(&own) {
            true => Voters { set: vec![own], next: None, ..voters.clone() },
            false => voters.clone(),
        }
    }

    /// A voter that was gone when it was asked is asked now.
    pub(in crate::engine) fn ask_who_came_back(&mut self, peer: NodeId, now: Now) {
        let Some(voters) = self.booth.voters.as_ref().filter(|voters| voters.at(&peer).next().is_some()) else {
            return;
        };
        let version = voters.version;
        let open = self.booth.running.iter().filter_map(|(register, running)| {
            let proposal = running.proposal.as_ref().filter(|proposal| proposal.voters().version == version)?;
            Some(BallotMessage::Question { register: register.to_string(), version, question: proposal.question()? })
        });
        let open: Vec<BallotMessage> = open.take(ASKED_AGAIN_MAX).collect();
        open.into_iter().for_each(|question| self.say(peer, question, now));
    }

    /// Puts a question to every voter.
    fn put(&mut self, register: &Arc<str>, voters: &Voters, question: &Question, now: Now) {
        let mut nodes: Vec<NodeId> = voters.all().iter().map(|voter| voter.node).collect();
        nodes.dedup();
        for node in nodes {
            let (register, version, question) = (register.to_string(), voters.version, question.clone());
            let message = BallotMessage::Question { register, version, question };
            self.say(node, message, now);
        }
    }

    /// Sends, also to itself.
    pub(super) fn say(&mut self, node: NodeId, message: BallotMessage, now: Now) {
        if node == self.id.node {
            self.on_ballot(node, message, now);
        } else if self.peers.get(&node).is_some_and(|peer| peer.established().is_some()) {
            self.send(node, &Message::Ballot(message));
        }
    }

    /// `peer`: as the connection authenticates it.
    pub(in crate::engine) fn on_ballot(&mut self, peer: NodeId, message: BallotMessage, now: Now) {
        match message {
            BallotMessage::Voters(voters) => self.on_voters(voters, now),
            BallotMessage::Question { register, version, question } => {
                self.on_question(peer, register, version, &question, now);
            }
            BallotMessage::Answer { register, ballot, store, answer } => {
                self.on_answer(peer, &register.into(), ballot, store, answer, now);
            }
            BallotMessage::List { version, after } => self.on_list(peer, version, after),
            BallotMessage::Listed { version, store, after, registers } => {
                self.on_listed(Voter { node: peer, store }, version, after, registers, now);
            }
            BallotMessage::Nominate { conflict } => self.on_nominate(peer, conflict, now),
            BallotMessage::Nominated { conflict, store, value } => {
                self.on_nominated(Voter { node: peer, store }, &conflict, value, now);
            }
            BallotMessage::Changed { register } => self.emit(Event::RegisterChanged(register)),
        }
    }

    fn on_question(&mut self, peer: NodeId, register: String, version: u64, question: &Question, now: Now) {
        let Some(voters) = self.booth.voters.clone() else { return };
        // Who knows of a later version says so before it asks.
        if version > voters.version || !self.booth.is_voter(&self.id.node) && version == voters.version {
            return;
        }
        if version < voters.version {
            self.say(peer, BallotMessage::Voters(voters), now);
        }
        let before = self.booth.acceptor.get(&register).cloned();
        if before.is_none() && self.booth.acceptor.len() >= REGISTERS_MAX {
            return;
        }
        let answer = self.booth.acceptor.answer(version, &register, question);
        let is_kept = matches!(answer, Answer::Promised { .. } | Answer::Accepted);
        let message = BallotMessage::Answer {
            register: register.clone(),
            ballot: question.ballot(),
            store: self.booth.store,
            answer,
        };
        if !is_kept {
            return self.say(peer, message, now);
        }
        if self.booth.acceptor.get(&register) != before.as_ref() {
            self.booth.keep_held(&register, before.as_ref());
            if let Question::Accept { value, .. } = question {
                self.look_after(&register, value, now);
            }
        }
        self.persistence.touch();
        match self.config.hooks.planted(Mutant::PromiseNotSynced) {
            true => self.say(peer, message, now),
            false => self.booth.answer_later(peer, message),
        }
    }

    /// The disk has what these rest on.
    pub(in crate::engine) fn give_answers(&mut self, answers: Vec<Due>, now: Now) {
        for (to, message) in answers {
            // Who resigned meanwhile takes back what it was about to say.
            if message.store().is_none_or(|store| store == self.booth.store) {
                self.say(to, message, now);
            }
        }
    }

    fn on_answer(
        &mut self,
        peer: NodeId,
        register: &Arc<str>,
        ballot: Ballot,
        store: StoreId,
        answer: Answer,
        now: Now,
    ) {
        if let Answer::Refused { promised } = &answer {
            self.booth.round = self.booth.round.max(promised.round);
        }
        let Some(running) = self.booth.running.get_mut(register) else { return };
        let Some(proposal) = running.proposal.as_mut().filter(|proposal| proposal.ballot() == ballot) else { return };
        let mut step = proposal.on_answer(Voter { node: peer, store }, answer.clone());
        if self.config.hooks.planted(Mutant::VoteCountedTwice) && step == Step::Wait {
            // As if another had said the same.
            let others = proposal.voters().all();
            let other = others.into_iter().find(|voter| voter.node != peer);
            step = other.map_or(Step::Wait, |other| proposal.on_answer(other, answer));
        }
        let begun_us = running.at.begun_us;
        match step {
            Step::Wait => self.give_up_hopeless(register, now),
            Step::Ask(question) => {
                running.note_asked(&question);
                if let Some(voters) = self.booth.voters.clone() {
                    self.put(register, &voters, &question, now);
                }
            }
            Step::Decided { verdict, promise } => {
                self.booth.transfer.note_decided(register, promise.version);
                self.booth.keep_promise(register, promise);
                self.booth.tally.decided += 1;
                self.booth.took.record(now.mono_us.saturating_sub(begun_us));
                self.end(register, Ok(verdict), now);
            }
            Step::Lost { .. } => self.try_later(register, now),
            // The voters of now are on their way, or known by now.
            Step::Outdated { .. } => self.try_later(register, now),
        }
    }

    /// Where hardly a quorum is left, one that refused is one too many: there is no use in waiting for those that are gone.
    fn give_up_hopeless(&mut self, register: &Arc<str>, now: Now) {
        let proposal = self.booth.running.get(register).and_then(|running| running.proposal.as_ref());
        if proposal.is_some_and(|proposal| proposal.is_hopeless(|voter| self.reaches(voter))) {
            self.try_later(register, now);
        }
    }

    fn try_later(&mut self, register: &Arc<str>, now: Now) {
        let draw = xxh3_64(&[self.id.to_bytes().as_slice(), &self.booth.round.to_le_bytes()].concat());
        let Some(running) = self.booth.running.get_mut(register) else { return };
        self.booth.tally.lost += 1;
        running.proposal = None;
        let doubled = if matches!(running.at.ask, Ask::Again) { 1 } else { running.attempts.min(5) };
        let most_us = BACKOFF_US << doubled;
        running.due_us = now.mono_us + most_us / 2 + draw % (most_us / 2);
    }

    /// Nothing can be decided now. What voters were asked to accept may be decided yet.
    fn end_without(&mut self, register: &Arc<str>, error: AskError, now: Now) {
        let accepting = self.booth.running.get(register).is_some_and(|running| running.accepting);
        self.end(register, Err(if accepting { AskError::Unknown } else { error }), now);
    }

    fn end(&mut self, register: &Arc<str>, outcome: Outcome, now: Now) {
        let Some(mut running) = self.booth.running.remove(register) else { return };
        let next = running.queue.pop_front();
        let outcome = match outcome {
            Ok(Told::Unreadable) => Err(AskError::Unreadable),
            Ok(Told::Fields(verdict)) if verdict.outcome == FieldsOutcome::Unknown => Err(AskError::Unknown),
            outcome => outcome,
        };
        match (register.strip_prefix(GUARD), &outcome) {
            (Some(name), Ok(Told::Lock(verdict))) => self.note_lock(name, register, verdict.lock(), now),
            (Some(name), Ok(Told::Fields(verdict))) => {
                self.note_lock(name, register, &verdict.guard.lock, now);
                self.publish(name, &verdict.guard.fields, now);
            }
            _ => {}
        }
        self.tell(running.at.id, outcome, now);
        if let Some(next) = next {
            self.run(register, next, running.queue, now);
        }
    }

    fn tell(&mut self, id: AskId, outcome: Outcome, now: Now) {
        match &outcome {
            Ok(_) => {}
            Err(AskError::NoQuorum { .. } | AskError::NoVoters) => self.booth.tally.no_quorum += 1,
            Err(AskError::Unknown) => self.booth.tally.unknown += 1,
            Err(AskError::Busy | AskError::Unreadable) => self.booth.tally.refused += 1,
        }
        if !self.on_own(id, &outcome, now) && !self.on_voted(id, &outcome) {
            self.emit(Event::Asked { id, outcome });
        }
    }

    fn note_lock(&mut self, name: &str, register: &Arc<str>, lock: &Lock, now: Now) {
        self.booth.watch.saw(name, lock, now.mono_us);
        if lock.held.as_ref().is_some_and(|held| held.unclaimed) {
            // Somebody has it and does not know.
            let neighbours: Vec<NodeId> = self.neighbours().collect();
            for peer in neighbours {
                self.send(peer, &Message::Ballot(BallotMessage::Changed { register: register.to_string() }));
            }
            self.emit(Event::RegisterChanged(register.to_string()));
        }
    }

    /// On every tick.
    pub(in crate::engine) fn tend_ballots(&mut self, now: Now) {
        let due = |running: &Running| running.due_us <= now.mono_us;
        let registers: Vec<Arc<str>> =
            self.booth.running.iter().filter(|(_, running)| due(running)).map(|(name, _)| name.clone()).collect();
        for register in registers {
            let Some(running) = self.booth.running.get_mut(&register) else { continue };
            if now.mono_us >= running.at.begun_us + ASK_US {
                let error = self.lacks_quorum().unwrap_or(AskError::Unknown);
                self.end_without(&register, error, now);
            } else if running.proposal.take().is_some() {
                self.try_later(&register, now);
            } else {
                self.attempt(&register, now);
            }
        }
        self.give_up_without_quorum(now);
        self.publish_if_due(now);
        self.tend_votes(now);
    }

    /// Who cannot decide anything any more is told at once.
    pub(in crate::engine) fn give_up_without_quorum(&mut self, now: Now) {
        if self.booth.running.is_empty() {
            return;
        }
        if let Some(error) = self.lacks_quorum() {
            let waiting = |running: &Running| !running.accepting;
            let registers: Vec<Arc<str>> = self
                .booth
                .running
                .iter()
                .filter(|(_, running)| waiting(running))
                .map(|(name, _)| name.clone())
                .collect();
            registers.iter().for_each(|register| self.end(register, Err(error), now));
        }
    }
}
