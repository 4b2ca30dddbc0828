//! From one set of voters to another: every register is accepted by both before the old set goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ask::{Ask, Told, VOTERS, VotersChange};
use super::booth::{AskId, Outcome};
use super::message::{BallotMessage, LISTED_MAX};
use super::voters::{Voter, Voters};
use crate::clock::NodeId;
use crate::engine::detector::Liveness;
use crate::engine::hooks::Mutant;
use crate::engine::io::{Event, Now};
use crate::engine::message::Message;
use crate::engine::replica::Replica;

/// Registers that are accepted anew at once.
const AT_ONCE: usize = 16;

/// What whoever leads a change of voters has done of it. Another may go on in its place: each step may be repeated.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Of the voters that change.
    version: u64,
    /// How far each voter of the old set has listed what it holds.
    listed: BTreeMap<Voter, Listing>,
    names: BTreeSet<String>,
    /// What this node had decided under these voters, whoever asked: that is accepted anew, too.
    decided: BTreeSet<Arc<str>>,
    again: BTreeMap<AskId, String>,
    change: Option<AskId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Listing {
    /// Asked for what comes after this, and when, µs.
    Asked(Option<String>, u64),
    Whole,
}

/// A voter that does not list its registers within this is asked again, µs.
const LIST_US: u64 = 1_000_000;

impl Transfer {
    pub(super) fn note_decided(&mut self, register: &Arc<str>, version: u64) {
        if self.version == version {
            self.names.remove(&**register);
            self.decided.insert(register.clone());
        }
    }
}

impl Replica {
    /// Takes the voters as somebody tells them. A later version always wins: it was decided.
    pub(super) fn on_voters(&mut self, voters: Voters, now: Now) {
        if self.booth.voters.as_ref().is_some_and(|known| known.version >= voters.version) {
            return;
        }
        self.take_voters(voters);
        self.heed_heard(now);
    }

    /// An operator gives up a majority of the voters for lost: this node is the only one from now on. Where they are not
    /// lost, both sides decide.
    pub fn recover_voters(&mut self, now: Now) -> Voters {
        let own = Voter { node: self.id.node, store: self.booth.store };
        let voters = Voters::recovered_by(own, self.booth.voters.as_ref());
        self.take_voters(voters.clone());
        self.record_recovery(&voters, now);
        self.settle(now);
        voters
    }

    fn take_voters(&mut self, voters: Voters) {
        self.booth.keep_voters(voters.clone());
        self.booth.promises.clear();
        self.persistence.touch();
        let neighbours: Vec<NodeId> = self.neighbours().collect();
        for peer in neighbours {
            self.send(peer, &Message::Ballot(BallotMessage::Voters(voters.clone())));
        }
        self.emit(Event::VotersChanged(voters));
    }

    /// Who founds a cluster is its first voter.
    pub(in crate::engine) fn found_voters(&mut self) {
        let own = Voter { node: self.id.node, store: self.booth.store };
        self.booth.keep_voters(Voters::founded_by(own));
    }

    pub(in crate::engine) fn voters_version(&self) -> u64 {
        self.booth.voters.as_ref().map_or(0, |voters| voters.version)
    }

    /// A peer says which voters it knows.
    pub(in crate::engine) fn tell_voters_if_behind(&mut self, peer: NodeId, known: u64) {
        if let Some(voters) = self.booth.voters.clone().filter(|voters| voters.version > known) {
            self.send(peer, &Message::Ballot(BallotMessage::Voters(voters)));
        }
    }

    /// One node of those that see each other brings the voters to what they ought to be, a step at a time.
    pub(in crate::engine) fn tend_voters(&mut self, now: Now) {
        let Some(voters) = self.booth.voters.clone() else { return };
        if self.booth.transfer.change.is_some() || !self.leads() || self.cluster().is_none() {
            return;
        }
        let change = match &voters.next {
            Some(_) if !self.transfer(&voters, now) => return,
            Some(_) => VotersChange::Complete { from: voters },
            None => match self.wanted_voters(&voters) {
                Some(set) => VotersChange::Begin { from: voters, set },
                None => return,
            },
        };
        // Set before it is asked: it may be answered at once.
        self.booth.transfer.change = Some(AskId(self.booth.asked + 1));
        self.ask_inside(VOTERS, Ask::Voters(change), now);
    }

    /// Goes on with what is to be done before the old set goes; gives whether nothing is left.
    fn transfer(&mut self, voters: &Voters, now: Now) -> bool {
        if self.booth.transfer.version != voters.version {
            self.booth.transfer = Transfer { version: voters.version, ..Transfer::default() };
        }
        if self.config.hooks.planted(Mutant::VoterChangeForgotten) {
            return true;
        }
        // A majority of the old set names what it holds, and from then on refuses who does not know of the change.
        let old = Voters { next: None, ..voters.clone() };
        if !old.is_quorum(|voter| self.booth.transfer.listed.get(voter) == Some(&Listing::Whole)) {
            for voter in &voters.set {
                let after = match self.booth.transfer.listed.get(voter) {
                    None => None,
                    Some(Listing::Asked(after, at_us)) if now.mono_us >= at_us + LIST_US => after.clone(),
                    Some(_) => continue,
                };
                self.ask_to_list(*voter, voters.version, after, now);
            }
            return false;
        }
        // What fails at once comes back to the names, and has its turn at the next heartbeat.
        let room = AT_ONCE.saturating_sub(self.booth.transfer.again.len());
        let next: Vec<String> = self.booth.transfer.names.iter().take(room).cloned().collect();
        for name in next {
            self.booth.transfer.names.remove(&name);
            let id = AskId(self.booth.asked + 1);
            self.booth.transfer.again.insert(id, name.clone());
            self.ask_inside(&name, Ask::Again, now);
        }
        self.booth.transfer.names.is_empty() && self.booth.transfer.again.is_empty()
    }

    fn ask_to_list(&mut self, voter: Voter, version: u64, after: Option<String>, now: Now) {
        self.booth.transfer.listed.insert(voter, Listing::Asked(after.clone(), now.mono_us));
        self.say(voter.node, BallotMessage::List { version, after }, now);
    }

    pub(super) fn on_list(&mut self, peer: NodeId, version: u64, after: Option<String>) {
        let known = self.booth.voters.as_ref().is_some_and(|voters| voters.version == version);
        if !known || !self.booth.is_voter(&self.id.node) {
            return;
        }
        let later = |name: &&str| after.as_deref().is_none_or(|after| **name > *after);
        let names = self.booth.acceptor.registers().map(|(name, _)| &**name).filter(later);
        let registers = names.take(LISTED_MAX).map(str::to_owned).collect();
        let answer = BallotMessage::Listed { version, store: self.booth.store, after, registers };
        // That it knows of the change is to be on its disk.
        self.persistence.touch();
        self.booth.answer_later(peer, answer);
    }

    pub(super) fn on_listed(
        &mut self,
        voter: Voter,
        version: u64,
        after: Option<String>,
        registers: Vec<String>,
        now: Now,
    ) {
        let transfer = &mut self.booth.transfer;
        let asked = |listing: &Listing| matches!(listing, Listing::Asked(asked, _) if *asked == after);
        // What comes twice, is of another change, or of who was not asked, says nothing.
        if transfer.version != version || !transfer.listed.get(&voter).is_some_and(asked) {
            return;
        }
        let last = registers.last().cloned().filter(|_| registers.len() == LISTED_MAX);
        let decided = &transfer.decided;
        transfer.names.extend(registers.into_iter().filter(|name| name != VOTERS && !decided.contains(&**name)));
        if last.is_some() {
            return self.ask_to_list(voter, version, last, now);
        }
        transfer.listed.insert(voter, Listing::Whole);
        self.tend_voters(now);
    }

    /// Whether it was this node itself that asked.
    pub(super) fn on_own(&mut self, id: AskId, outcome: &Outcome, now: Now) -> bool {
        let transfer = &mut self.booth.transfer;
        if let Some(name) = transfer.again.remove(&id) {
            if outcome.is_err() {
                transfer.names.insert(name);
            } else {
                self.tend_voters(now);
            }
            return true;
        }
        if transfer.change != Some(id) {
            return false;
        }
        transfer.change = None;
        if let Ok(Told::Voters(voters)) = outcome {
            self.on_voters(voters.clone(), now);
            self.tend_voters(now);
        }
        true
    }

    /// The set that the next change leads to, if one is due: one voter at a time, and never to a set of which no majority can
    /// answer, since that change would not end.
    fn wanted_voters(&self, voters: &Voters) -> Option<Vec<Voter>> {
        let can_answer = |set: &Vec<Voter>| set.iter().filter(|voter| self.can_answer(voter)).count() > set.len() / 2;
        self.replaced_voters(voters).into_iter().chain(self.grown_voters(voters)).find(can_answer)
    }

    /// Without one that left, or with the store that a node has now in the place of one that it had.
    fn replaced_voters(&self, voters: &Voters) -> Vec<Vec<Voter>> {
        let mut sets = Vec::new();
        for voter in &voters.set {
            let without = || voters.set.iter().filter(|other| *other != voter).copied();
            let Some(member) = self.members.get(&voter.node) else { continue };
            if member.left && voters.set.len() > 1 {
                sets.push(without().collect());
            } else if let Some(store) = member.acceptor.filter(|store| !member.left && *store != voter.store) {
                sets.push(without().chain([Voter { node: voter.node, store }]).collect());
            }
        }
        sets
    }

    /// By pairs, so that the set rests at an odd number: an even one bears no more losses, and takes longer.
    fn grown_voters(&self, voters: &Voters) -> Option<Vec<Voter>> {
        let as_voter = |node: NodeId| {
            let store = self.members.get(&node)?.acceptor?;
            Some(Voter { node, store }).filter(|voter| voters.at(&node).next().is_none() && self.can_answer(voter))
        };
        let candidates: Vec<Voter> = self.members.present().filter_map(as_voter).collect();
        let pair = if voters.set.len() % 2 == 1 { 2 } else { 1 };
        let has_room = voters.set.len() + pair <= self.config.limits.voters;
        let first = candidates.first().filter(|_| candidates.len() >= pair && has_room)?;
        Some(voters.set.iter().chain([first]).copied().collect())
    }

    /// Whether the node is there, with the store that its word as this voter rests on.
    fn can_answer(&self, voter: &Voter) -> bool {
        let store = self.members.get(&voter.node).and_then(|member| member.acceptor);
        store == Some(voter.store) && self.liveness(&voter.node) == Liveness::Alive
    }
}
