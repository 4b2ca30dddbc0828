//! The self-check: do the states agree where they must? If not, who is right, and how it is mended.
//!
//! Two states must agree in every shard that no dot above the meet of their clocks touches, however busy the cluster is.
//! Each node compares the sums of those shards with one peer in turn, every `Limits::self_check_ms`, and with all
//! (bounded) once anything differs: at a heartbeat, where equal clocks came with unequal states, or in the check itself.
//!
//! In each shard the strict majority of those asked, this node included, is right. A node in the minority takes their
//! entries. Without a majority nobody knows: both sides keep the union, which loses nothing and converges, but may bring
//! back what was removed; the alarm says so. A repair that does not help is tried again ever more seldom.

use std::collections::BTreeMap;

use super::alarm::Alarm;
use super::compare::Mend;
use super::fingerprint::{SHARDS, Shards};
use super::hooks::Mutant;
use super::io::Now;
use super::message::{AskEntry, Message};
use super::replica::Replica;
use crate::clock::{Clock, NodeId};

/// Peers asked at once when something differs.
const ASKED_MAX: usize = 8;
/// Who has not answered by then does not count.
const PATIENCE_MS: u64 = 1_000;
/// The pause after a repair doubles from here ...
const PAUSE_MS: u64 = 200;
/// ... up to here, as long as repairs find something.
const PAUSE_MS_MAX: u64 = 60_000;

/// A peer's sums, of the shards that nothing above the meet touches on its side.
#[derive(Debug)]
pub struct Sums {
    pub clock: Clock,
    pub floor: Clock,
    pub touched: Shards,
    pub sums: Vec<u32>,
}

#[derive(Debug)]
pub struct Checker {
    due_ms: u64,
    /// The peer asked last; its turn comes again after all others.
    last: Option<NodeId>,
    next_session: u64,
    round: Option<Round>,
    /// Rounds in a row in which this node had something to mend.
    repairs: u32,
    not_before_ms: u64,
}

#[derive(Debug, Default)]
struct Round {
    since_ms: u64,
    everyone: bool,
    asked: BTreeMap<NodeId, u64>,
    answers: BTreeMap<NodeId, Answer>,
}

/// What a peer said, beside what this node had at that moment.
#[derive(Debug)]
struct Answer {
    comparable: Shards,
    theirs: Vec<u32>,
    ours: Vec<u32>,
}

impl Answer {
    fn differs(&self) -> impl Iterator<Item = usize> + '_ {
        self.comparable.iter().filter(|shard| self.theirs[*shard] != self.ours[*shard])
    }
}

impl Checker {
    pub fn new(now: Now) -> Self {
        Self {
            due_ms: now.mono_ms(),
            last: None,
            next_session: 0,
            round: None,
            repairs: 0,
            not_before_ms: now.mono_ms(),
        }
    }
}

impl Replica {
    /// Begins or ends a round, where it is time.
    pub(super) fn check_if_due(&mut self, now: Now) {
        match &self.checker.round {
            Some(round) if now.mono_ms() >= round.since_ms + PATIENCE_MS => self.judge_round(now),
            None if now.mono_ms() >= self.checker.due_ms => {
                self.checker.due_ms = now.mono_ms() + self.config.limits.self_check_ms;
                let peers: Vec<NodeId> = self.neighbours().collect();
                let next = peers.iter().find(|peer| self.checker.last.is_none_or(|last| **peer > last));
                if let Some(peer) = next.or(peers.first()).copied() {
                    self.checker.last = Some(peer);
                    self.begin_round(vec![peer], false, now);
                }
            }
            _ => {}
        }
    }

    /// A peer with the same clock has another state.
    pub(super) fn on_diverged(&mut self, peer: NodeId, now: Now) {
        self.alarm(Alarm::Diverged { peer: peer.into() }, now);
        self.ask_everyone(now);
    }

    /// After a repair: did it help?
    pub(super) fn check_again(&mut self, now: Now) {
        self.checker.due_ms = now.mono_ms();
    }

    fn ask_everyone(&mut self, now: Now) {
        let asks_already = self.checker.round.as_ref().is_some_and(|round| round.everyone);
        if !asks_already && !self.puller.mends() && now.mono_ms() >= self.checker.not_before_ms {
            let peers = self.neighbours().take(ASKED_MAX).collect();
            self.begin_round(peers, true, now);
        }
    }

    fn begin_round(&mut self, peers: Vec<NodeId>, everyone: bool, now: Now) {
        self.flush_group(now);
        let mut round = Round { since_ms: now.mono_ms(), everyone, ..Round::default() };
        for peer in peers {
            self.checker.next_session += 1;
            let session = self.checker.next_session;
            round.asked.insert(peer, session);
            let clock = self.asked_clock();
            self.send(peer, &Message::Check { session, clock });
        }
        self.tally.checks += 1;
        self.checker.round = Some(round);
    }

    pub(super) fn on_check(&mut self, peer: NodeId, session: u64, clock: &[AskEntry], now: Now) {
        self.flush_group(now);
        self.check_asked_clock(peer, clock, now);
        let mut meet: Clock = clock.iter().map(|entry| (entry.slot, entry.seq)).collect();
        meet.meet(&self.state.clock);
        let touched = self.touched_above(&meet);
        let sums = self.state.shard_sums().into_iter().enumerate();
        let sums = sums.filter(|(shard, _)| !touched.contains(*shard)).map(|(_, sum)| sum).collect();
        let (clock, floor) = (self.state.clock.iter().collect(), self.state.floor.iter().collect());
        self.send(peer, &Message::Sums { session, clock, floor, touched, sums });
    }

    fn touched_above(&self, meet: &Clock) -> Shards {
        if self.config.hooks.planted(Mutant::TouchedCompared) {
            return Shards::none();
        }
        self.state.shards_above(meet)
    }

    pub(super) fn on_sums(&mut self, peer: NodeId, session: u64, said: Sums, now: Now) {
        let expected = self.checker.round.as_ref().is_some_and(|round| round.asked.get(&peer) == Some(&session));
        if !expected {
            return;
        }
        self.flush_group(now);
        let mut meet = self.state.clock.clone();
        meet.meet(&said.clock);
        // Below a floor that only one side has reached, the record of a removal may be gone, and with it the sign that
        // the shard was touched.
        let comparable = if meet.covers_all(&said.floor) && meet.covers_all(&self.state.floor) {
            let touched = self.touched_above(&meet);
            (0..SHARDS).filter(|shard| !touched.contains(*shard) && !said.touched.contains(*shard)).collect()
        } else {
            Shards::none()
        };
        let mut theirs = vec![0; SHARDS];
        let untouched = (0..SHARDS).filter(|shard| !said.touched.contains(*shard));
        untouched.zip(said.sums).for_each(|(shard, sum)| theirs[shard] = sum);
        let answer = Answer { comparable, theirs, ours: self.state.shard_sums() };
        let Some(round) = &mut self.checker.round else { return };
        round.answers.insert(peer, answer);
        if round.answers.len() == round.asked.len() {
            self.judge_round(now);
        }
    }

    fn judge_round(&mut self, now: Now) {
        let Some(round) = self.checker.round.take() else { return };
        let differing: Vec<NodeId> = round
            .answers
            .iter()
            .filter(|(_, answer)| answer.differs().next().is_some())
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &differing {
            self.alarm(Alarm::Diverged { peer: (*peer).into() }, now);
        }
        if differing.is_empty() {
            self.checker.repairs = 0;
        } else if !round.everyone {
            self.ask_everyone(now);
        } else if let Some((peer, shards, how)) = self.verdict(&round)
            && !self.config.hooks.planted(Mutant::NeverMended)
        {
            let pause_ms = (PAUSE_MS << self.checker.repairs.min(16)).min(PAUSE_MS_MAX);
            self.checker.repairs += 1;
            self.checker.not_before_ms = now.mono_ms() + pause_ms;
            self.want_mend(peer, shards, how, now);
        }
    }

    /// From whom this node should take which shards, if it is wrong in any, or if nobody knows who is.
    fn verdict(&self, round: &Round) -> Option<(NodeId, Shards, Mend)> {
        let now = self.state.shard_sums();
        let (mut wrong, mut unknown): (BTreeMap<NodeId, Vec<usize>>, BTreeMap<NodeId, Vec<usize>>) = Default::default();
        let mut shards: Vec<usize> = round.answers.values().flat_map(Answer::differs).collect();
        shards.sort_unstable();
        shards.dedup();
        for shard in shards {
            // What changed here since a peer answered says nothing.
            let counts = |answer: &Answer| answer.comparable.contains(shard) && answer.ours[shard] == now[shard];
            let votes: Vec<(NodeId, u32)> = round
                .answers
                .iter()
                .filter(|(_, answer)| counts(answer))
                .map(|(peer, answer)| (*peer, answer.theirs[shard]))
                .collect();
            let share = |sum: u32| votes.iter().filter(|vote| vote.1 == sum).count() + usize::from(now[shard] == sum);
            let majority = |sum: u32| 2 * share(sum) > votes.len() + 1;
            if majority(now[shard]) {
                continue;
            }
            if let Some((peer, _)) = votes.iter().find(|(_, sum)| majority(*sum)) {
                wrong.entry(*peer).or_default().push(shard);
            } else if let Some((peer, _)) = votes.iter().find(|(_, sum)| *sum != now[shard]) {
                unknown.entry(*peer).or_default().push(shard);
            }
        }
        let most = |of: BTreeMap<NodeId, Vec<usize>>| of.into_iter().max_by_key(|(_, shards)| shards.len());
        let plan = |how| move |(peer, shards): (NodeId, Vec<usize>)| (peer, shards.into_iter().collect(), how);
        most(wrong).map(plan(Mend::Take)).or_else(|| most(unknown).map(plan(Mend::Union)))
    }
}
