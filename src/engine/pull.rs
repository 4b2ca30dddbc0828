//! Catch-up, the side that lacks (rule R2): chunks are staged, invisible, until the session is whole; then one step
//! joins every cell against the state as it is by then, and only after that the clocks merge. A session that breaks
//! leaves nothing behind; if its link comes back in time it goes on where it was.
//!
//! Where removal records may be missing, and in a repair, the states are compared first; see [`reconcile`](super::reconcile).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::chunk::ChunkReader;
use super::compare::{Mend, Scope};
use super::fingerprint::Shards;
use super::hooks::Mutant;
use super::iblt::Decoder;
use super::io::{Event, LinkId, Now};
use super::limits::Limits;
use super::message::{AskEntry, ClockEntry, Message, Mode};
use super::replica::Replica;
use super::state::StagedCell;
use crate::clock::{Clock, Incarnation, NodeId, ReplicaId, Slot};
use crate::document::codec::DecodeError;

/// How long to leave a peer alone that refused a session or let one stall.
const RETRY_MS: u64 = 500;

/// One session at a time; other peers wait their turn.
#[derive(Debug)]
pub struct Puller {
    wanted: BTreeSet<NodeId>,
    /// Peers to ask again, and when: a session with them was refused or gave up.
    retries_ms: BTreeMap<NodeId, u64>,
    /// A repair that waits its turn.
    mend: Option<(NodeId, Shards, Mend)>,
    pub(super) current: Option<Pull>,
    next_session: u64,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    CatchUp,
    Mend(Shards, Mend),
}

#[derive(Debug)]
pub(super) struct Pull {
    pub peer: NodeId,
    pub aim: Aim,
    /// The process at the other end: a snapshot does not outlive it.
    replica: Option<ReplicaId>,
    /// `None` while the link is gone and the session waits to be resumed.
    link: Option<LinkId>,
    pub session: u64,
    asked: Clock,
    pub start: Option<Start>,
    /// While the states are compared.
    pub decoder: Option<Decoder>,
    /// What was compared, and the entries that only this side turned out to have.
    pub compared: Option<(Scope, BTreeSet<u64>)>,
    /// Chunks as they came; their slots are the peer's.
    pub staged: Vec<Vec<u8>>,
    pub staged_bytes: usize,
    /// The last cell staged: cells come in order of documents and keys.
    last: (String, Vec<u8>),
    pub started_ms: u64,
    pub touched_ms: u64,
}

#[derive(Debug)]
pub(super) struct Start {
    /// Every cell is sent: what is not among them the sender does not have.
    pub complete: bool,
    clock: Clock,
    heads: Vec<ClockEntry>,
    pub floor: Clock,
}

impl Puller {
    pub fn new(incarnation: &Incarnation) -> Self {
        let (seed, _) = incarnation.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        Self {
            wanted: BTreeSet::new(),
            retries_ms: BTreeMap::new(),
            mend: None,
            current: None,
            next_session: u64::from_le_bytes(*seed),
        }
    }

    /// The peer being pulled from, and the bytes staged so far.
    pub fn current(&self) -> Option<(NodeId, usize)> {
        self.current.as_ref().map(|pull| (pull.peer, pull.staged_bytes))
    }

    pub fn waiting(&self) -> usize {
        self.wanted.len()
    }

    /// Repairs first: there is at most one, and it is small.
    fn next(&mut self) -> Option<(NodeId, Aim)> {
        if let Some((peer, shards, how)) = self.mend.take() {
            return Some((peer, Aim::Mend(shards, how)));
        }
        self.wanted.pop_first().map(|peer| (peer, Aim::CatchUp))
    }

    /// Whether a repair waits or goes on.
    pub(super) fn mends(&self) -> bool {
        self.mend.is_some() || self.current.as_ref().is_some_and(|pull| pull.aim != Aim::CatchUp && pull.link.is_some())
    }
}

impl Pull {
    /// Chunks have begun to come: the peer keeps those that follow. A comparison is begun anew.
    fn resumable(&self) -> bool {
        self.aim == Aim::CatchUp && self.start.is_some() && self.decoder.is_none()
    }
}

impl Replica {
    pub fn puller(&self) -> &Puller {
        &self.puller
    }

    /// Asks `peer` for what it has and this node lacks, as soon as no other session runs.
    pub(super) fn want_pull(&mut self, peer: NodeId, now: Now) {
        // A request that went down with its link is answered by nobody.
        let asked = |pull: &Pull| pull.peer == peer && pull.start.is_none() && pull.link.is_some();
        let asked_already = self.puller.current.as_ref().is_some_and(asked);
        if !asked_already {
            self.puller.wanted.insert(peer);
            self.start_pull(now);
        }
    }

    /// Makes the state `peer`'s in some shards, as soon as no other session runs.
    pub(super) fn want_mend(&mut self, peer: NodeId, shards: Shards, how: Mend, now: Now) {
        self.puller.mend = Some((peer, shards, how));
        self.start_pull(now);
    }

    pub(super) fn start_pull(&mut self, now: Now) {
        // A session that waits for its link does not hold up others.
        if self.puller.current.as_ref().is_some_and(|pull| pull.link.is_some()) {
            return;
        }
        while let Some((peer, aim)) = self.puller.next() {
            let established = self.peers.get(&peer).and_then(|peer| Some((peer.established()?.id, peer.replica)));
            let Some((link, replica)) = established else { continue };
            self.flush_group(now);
            let resume =
                self.puller.current.take().filter(|pull| {
                    pull.peer == peer && pull.replica == replica && aim == Aim::CatchUp && pull.resumable()
                });
            let pull = match resume {
                Some(pull) => Pull { link: Some(link), touched_ms: now.mono_ms(), ..pull },
                None => self.new_pull(peer, aim, replica, link, now),
            };
            let resume = pull.start.is_some().then_some(pull.staged.len() as u32);
            let mend = match &pull.aim {
                Aim::CatchUp => None,
                Aim::Mend(shards, _) => Some(shards.clone()),
            };
            let message = Message::SyncRequest { session: pull.session, resume, mend, clock: self.asked_clock() };
            self.puller.current = Some(pull);
            self.tally.pulls += 1;
            self.send(peer, &message);
            return;
        }
    }

    fn new_pull(&mut self, peer: NodeId, aim: Aim, replica: Option<ReplicaId>, link: LinkId, now: Now) -> Pull {
        self.puller.next_session = self.puller.next_session.wrapping_add(1);
        Pull {
            peer,
            aim,
            replica,
            link: Some(link),
            session: self.puller.next_session,
            asked: self.state.clock.clone(),
            start: None,
            decoder: None,
            compared: None,
            staged: Vec::new(),
            staged_bytes: 0,
            last: (String::new(), Vec::new()),
            started_ms: now.mono_ms(),
            touched_ms: now.mono_ms(),
        }
    }

    pub(super) fn asked_clock(&self) -> Vec<AskEntry> {
        let entry = |(slot, seq): (Slot, u64)| {
            let (head_seq, full) = self.state.heads[slot.index()];
            let mut head = [0; 8];
            if head_seq == seq {
                head.copy_from_slice(&full[..8]);
            }
            AskEntry { slot, seq, head }
        };
        self.state.clock.iter().map(entry).collect()
    }

    /// The session `session` with `peer`, if it is the one under way.
    pub(super) fn pull_mut(&mut self, peer: NodeId, session: u64) -> Option<&mut Pull> {
        self.puller.current.as_mut().filter(|pull| pull.peer == peer && pull.session == session)
    }

    pub(super) fn on_sync_start(
        &mut self,
        peer: NodeId,
        session: u64,
        mode: Mode,
        entries: &[ClockEntry],
        floor: &[(Slot, u64)],
        now: Now,
    ) {
        for entry in entries {
            self.check_own_replica(peer, entry.slot, entry.seq, now);
        }
        let whole = self.config.hooks.planted(Mutant::PartialTakenForWhole);
        let Some(pull) = self.pull_mut(peer, session).filter(|pull| pull.start.is_none()) else { return };
        let mut clock = pull.asked.clone();
        entries.iter().for_each(|entry| clock.set(entry.slot, entry.seq));
        let floor: Clock = floor.iter().copied().collect();
        let complete = mode == Mode::Complete || whole;
        pull.touched_ms = now.mono_ms();
        if mode == Mode::Compare {
            let mut meet = pull.asked.clone();
            meet.meet(&clock);
            let shards = if let Aim::Mend(shards, _) = &pull.aim { Some(shards.clone()) } else { None };
            let records_above = shards.is_none().then(|| floor.clone());
            let scope = Scope { salt: session, meet, records_above, shards };
            pull.compared = Some((scope, BTreeSet::new()));
        }
        pull.start = Some(Start { complete, clock, heads: entries.to_vec(), floor });
        self.tally.pulls_complete += u64::from(mode != Mode::Incremental || whole);
        if self.puller.current.as_ref().is_some_and(|pull| self.is_barred(pull)) {
            self.puller.current = None;
            self.tally.pulls_broken += 1;
            self.start_pull(now);
            return;
        }
        if let Some(pull) = self.puller.current.as_mut()
            && let Some((scope, _)) = &pull.compared
        {
            pull.decoder = Some(Decoder::new(self.state.items(scope)));
        }
    }

    pub(super) fn on_sync_chunk(
        &mut self,
        peer: NodeId,
        session: u64,
        (index, last): (u32, bool),
        body: &[u8],
        table: &[Slot],
        now: Now,
    ) -> Result<(), DecodeError> {
        let staged_bytes_max = self.config.limits.staged_bytes;
        let Some(pull) = self.pull_mut(peer, session) else { return Ok(()) };
        if index as usize != pull.staged.len() || pull.start.is_none() || pull.decoder.is_some() {
            return Ok(());
        }
        if pull.staged_bytes + body.len() > staged_bytes_max {
            return Err(DecodeError::Bounds("the bytes of a session"));
        }
        // Checked now, so that the join at the end cannot fail half-way.
        let mut cells = 0;
        for cell in ChunkReader::new(body, table) {
            let cell = cell?;
            cells += 1;
            if (cell.document, cell.cell.key) <= (pull.last.0.as_str(), pull.last.1.as_slice()) {
                return Err(DecodeError::Bounds("the order of cells"));
            }
            cell.document.clone_into(&mut pull.last.0);
            cell.cell.key.clone_into(&mut pull.last.1);
        }
        // Only the last chunk may be empty: others without cells would keep the session from its end for ever.
        if cells == 0 && !last {
            return Err(DecodeError::Bounds("the cells of a chunk"));
        }
        pull.staged.push(body.to_vec());
        pull.staged_bytes += body.len();
        pull.touched_ms = now.mono_ms();
        let next = pull.staged.len() as u32;
        self.send(peer, &Message::SyncAck { session, next });
        if self.config.hooks.planted(Mutant::PagesBeforeClock)
            && let Some(pull) = self.puller.current.take()
        {
            if let Some(start) = &pull.start {
                self.join_staged(&pull.staged[pull.staged.len() - 1..], start, table);
            }
            self.puller.current = Some(pull);
        }
        if last && let Some(pull) = self.puller.current.take() {
            self.finish_pull(pull, table, now);
        }
        Ok(())
    }

    /// What is kept aside here stays so: a state is taken whole, or not at all.
    fn is_barred(&self, pull: &Pull) -> bool {
        pull.start.as_ref().is_some_and(|start| self.is_held_back(&pull.peer, &start.clock))
    }

    /// The one atomic step: every staged cell, then the clock, then the floor.
    fn finish_pull(&mut self, pull: Pull, table: &[Slot], now: Now) {
        if let Aim::Mend(_, how) = pull.aim {
            self.finish_mend(pull, how, table, now);
            return;
        }
        // It may have been fenced since it began to send.
        if self.is_barred(&pull) {
            self.tally.pulls_broken += 1;
            self.start_pull(now);
            return;
        }
        let Some(start) = &pull.start else { return };
        self.flush_group(now);
        self.look_for_twins(&pull.staged, start, table, now);
        let mut cells = self.join_staged(&pull.staged, start, table);
        let compared = pull.compared.is_some();
        if let Some((scope, dead)) = &pull.compared
            && !self.config.hooks.planted(Mutant::ReconcileForgets)
        {
            cells += self.state.strike(scope, dead);
            let sent = pull.staged.iter().flat_map(|chunk| ChunkReader::new(chunk, table)).flatten();
            let sent = sent.flat_map(|cell| cell.cell.entries).map(|entry| entry.dot).collect();
            cells += self.state.strike_since(&pull.asked, &start.clock, &sent);
        }
        for entry in &start.heads {
            if entry.seq > self.state.clock.get(entry.slot) {
                self.state.heads[entry.slot.index()] = (entry.head_seq, entry.head);
            }
        }
        self.state.clock.join(&start.clock);
        if self.config.hooks.planted(Mutant::ClockNotOfSnapshot)
            && let Some(peer) = self.peers.get(&pull.peer)
        {
            self.state.clock.join(&peer.durable);
        }
        if !self.config.hooks.planted(Mutant::FloorStays) {
            self.state.raise_floor(&start.floor);
        }
        self.forget_taken_aside();
        self.persistence.touch();
        self.met = true;
        self.offer_salvaged(now);
        self.tally.cells_pulled += cells as u64;
        self.tally.bytes_pulled += pull.staged_bytes as u64;
        self.unpark(now);
        self.emit(Event::CaughtUp {
            peer: pull.peer,
            cells,
            bytes: pull.staged_bytes,
            complete: start.complete || compared,
            took_ms: now.mono_ms().saturating_sub(pull.started_ms),
        });
        self.start_pull(now);
    }

    /// What came of replicas of this node that are not this process.
    fn look_for_twins(&mut self, chunks: &[Vec<u8>], start: &Start, table: &[Slot], now: Now) {
        let (node, own, clock) = (self.id.node, self.slot, &self.state.clock);
        let twin =
            |slot: Slot, id: &ReplicaId| id.node == node && slot != own && start.clock.get(slot) > clock.get(slot);
        if !self.state.roster.iter().any(|(slot, id)| twin(slot, id)) {
            return;
        }
        let mut latest: BTreeMap<Slot, u64> = BTreeMap::new();
        for cell in chunks.iter().flat_map(|chunk| ChunkReader::new(chunk, table)).flatten() {
            for entry in cell.cell.entries.iter().filter(|entry| !self.state.clock.covers(entry.dot)) {
                let at = latest.entry(entry.dot.slot()).or_default();
                *at = entry.at.ms().max(*at);
            }
        }
        latest.into_iter().for_each(|(replica, at_ms)| self.check_twin(replica, at_ms, now));
    }

    fn join_staged(&mut self, chunks: &[Vec<u8>], start: &Start, table: &[Slot]) -> usize {
        let mut cells = 0;
        let mut document = String::new();
        let mut staged: Vec<StagedCell<'_>> = Vec::new();
        // Every cell was read once already when its chunk came.
        for cell in chunks.iter().flat_map(|chunk| ChunkReader::new(chunk, table)).flatten() {
            if cell.document != document {
                self.join_one(&document, &staged, start);
                if start.complete {
                    self.join_unmentioned(&document, Some(cell.document), start);
                }
                cell.document.clone_into(&mut document);
                staged.clear();
            }
            staged.push(cell.cell);
            cells += 1;
        }
        self.join_one(&document, &staged, start);
        if start.complete {
            self.join_unmentioned(&document, None, start);
        }
        self.state.finish_join();
        cells
    }

    fn join_one(&mut self, document: &str, staged: &[StagedCell<'_>], start: &Start) {
        if !document.is_empty() {
            self.state.join_document(document, staged, &start.clock, start.complete);
        }
    }

    /// Our documents strictly between two of the peer's: it has none of their cells.
    fn join_unmentioned(&mut self, after: &str, before: Option<&str>, start: &Start) {
        let between = self.state.names_from(Bound::Excluded(after)).map(|(name, _)| name.clone());
        let names: Vec<_> = between.take_while(|name| before.is_none_or(|before| &**name < before)).collect();
        for name in names {
            self.state.join_document(&name, &[], &start.clock, true);
        }
    }

    /// The peer cannot go on with the session (ask anew at once), or serves too many already (ask again later).
    pub(super) fn on_sync_gone(&mut self, peer: NodeId, session: u64, now: Now) {
        if let Some(started) = self.pull_mut(peer, session).map(|pull| pull.start.is_some()) {
            let mends = self.puller.current.take().is_some_and(|pull| pull.aim != Aim::CatchUp);
            self.tally.pulls_broken += 1;
            if mends {
                // The next check finds what there is to mend then.
            } else if started {
                self.puller.wanted.insert(peer);
            } else if !self.is_fenced(&peer) {
                self.puller.retries_ms.insert(peer, now.mono_ms() + RETRY_MS);
            }
            self.start_pull(now);
        }
    }

    /// The link broke: the session waits for the peer to come back.
    pub(super) fn suspend_pull(&mut self, peer: NodeId, now: Now) {
        self.puller.wanted.remove(&peer);
        self.puller.retries_ms.remove(&peer);
        if let Some(pull) = self.puller.current.as_mut().filter(|pull| pull.peer == peer) {
            pull.link = None;
            self.tally.pulls_broken += 1;
            self.start_pull(now);
        }
    }

    /// Gives up sessions that stall, forgets those that waited too long, and asks again where it is time.
    pub(super) fn check_pulls(&mut self, now: Now) {
        if let Some(pull) = &self.puller.current {
            let Limits { session_stall_ms, session_resume_ms, .. } = self.config.limits;
            let patience_ms = if pull.link.is_some() { session_stall_ms } else { session_resume_ms };
            if now.mono_ms() >= pull.touched_ms + patience_ms {
                if pull.aim == Aim::CatchUp {
                    self.puller.retries_ms.insert(pull.peer, now.mono_ms() + RETRY_MS);
                }
                self.puller.current = None;
                self.tally.pulls_broken += 1;
            }
        }
        let due: Vec<NodeId> =
            self.puller.retries_ms.iter().filter(|(_, at)| **at <= now.mono_ms()).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.puller.retries_ms.remove(&peer);
            self.puller.wanted.insert(peer);
        }
        self.start_pull(now);
    }
}
