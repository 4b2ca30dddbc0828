//! Catch-up, the side that lacks (rule R2): chunks are staged, invisible, until the session is whole; then one step
//! joins every cell against the state as it is by then, and only after that the clocks merge. A session that breaks
//! leaves nothing behind; if its link comes back in time it goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::chunk::ChunkReader;
use super::hooks::Mutant;
use super::io::{Event, LinkId, Now};
use super::limits::Limits;
use super::message::{AskEntry, ClockEntry, Message};
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
    current: Option<Pull>,
    next_session: u64,
}

#[derive(Debug)]
struct Pull {
    peer: NodeId,
    /// The process at the other end: a snapshot does not outlive it.
    replica: Option<ReplicaId>,
    /// `None` while the link is gone and the session waits to be resumed.
    link: Option<LinkId>,
    session: u64,
    asked: Clock,
    start: Option<Start>,
    /// Chunks as they came; their slots are the peer's.
    staged: Vec<Vec<u8>>,
    staged_bytes: usize,
    /// The last cell staged: cells come in order of documents and keys.
    last: (String, Vec<u8>),
    started_ms: u64,
    touched_ms: u64,
}

#[derive(Debug)]
struct Start {
    complete: bool,
    clock: Clock,
    heads: Vec<ClockEntry>,
    floor: Clock,
}

impl Puller {
    pub fn new(incarnation: &Incarnation) -> Self {
        let (seed, _) = incarnation.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        Self {
            wanted: BTreeSet::new(),
            retries_ms: BTreeMap::new(),
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
}

impl Replica {
    pub fn puller(&self) -> &Puller {
        &self.puller
    }

    /// Asks `peer` for what it has and this node lacks, as soon as no other session runs.
    pub(super) fn want_pull(&mut self, peer: NodeId, now: Now) {
        let asked_already = self.puller.current.as_ref().is_some_and(|pull| pull.peer == peer && pull.start.is_none());
        if !asked_already {
            self.puller.wanted.insert(peer);
            self.start_pull(now);
        }
    }

    fn start_pull(&mut self, now: Now) {
        // A session that waits for its link does not hold up others.
        if self.puller.current.as_ref().is_some_and(|pull| pull.link.is_some()) {
            return;
        }
        while let Some(peer) = self.puller.wanted.pop_first() {
            let established = self.peers.get(&peer).and_then(|peer| Some((peer.established()?.id, peer.replica)));
            let Some((link, replica)) = established else { continue };
            self.flush_group(now);
            let resume = self
                .puller
                .current
                .take()
                .filter(|pull| pull.peer == peer && pull.replica == replica && pull.start.is_some());
            let pull = match resume {
                Some(pull) => Pull { link: Some(link), touched_ms: now.mono_ms(), ..pull },
                None => self.new_pull(peer, replica, link, now),
            };
            let resume = pull.start.is_some().then_some(pull.staged.len() as u32);
            let message = Message::SyncRequest { session: pull.session, resume, clock: self.asked_clock() };
            self.puller.current = Some(pull);
            self.tally.pulls += 1;
            self.send(peer, &message);
            return;
        }
    }

    fn new_pull(&mut self, peer: NodeId, replica: Option<ReplicaId>, link: LinkId, now: Now) -> Pull {
        self.puller.next_session = self.puller.next_session.wrapping_add(1);
        Pull {
            peer,
            replica,
            link: Some(link),
            session: self.puller.next_session,
            asked: self.state.clock.clone(),
            start: None,
            staged: Vec::new(),
            staged_bytes: 0,
            last: (String::new(), Vec::new()),
            started_ms: now.mono_ms(),
            touched_ms: now.mono_ms(),
        }
    }

    fn asked_clock(&self) -> Vec<AskEntry> {
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
    fn pull_mut(&mut self, peer: NodeId, session: u64) -> Option<&mut Pull> {
        self.puller.current.as_mut().filter(|pull| pull.peer == peer && pull.session == session)
    }

    pub(super) fn on_sync_start(
        &mut self,
        peer: NodeId,
        session: u64,
        complete: bool,
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
        let floor = floor.iter().copied().collect();
        let complete = complete || whole;
        pull.start = Some(Start { complete, clock, heads: entries.to_vec(), floor });
        pull.touched_ms = now.mono_ms();
        self.tally.pulls_complete += u64::from(complete);
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
        if index as usize != pull.staged.len() || pull.start.is_none() {
            return Ok(());
        }
        if pull.staged_bytes + body.len() > staged_bytes_max {
            return Err(DecodeError::Bounds("the bytes of a session"));
        }
        // Checked now, so that the join at the end cannot fail half-way.
        for cell in ChunkReader::new(body, table) {
            let cell = cell?;
            if (cell.document, cell.cell.key) <= (pull.last.0.as_str(), pull.last.1.as_slice()) {
                return Err(DecodeError::Bounds("the order of cells"));
            }
            cell.document.clone_into(&mut pull.last.0);
            cell.cell.key.clone_into(&mut pull.last.1);
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

    /// The one atomic step: every staged cell, then the clock, then the floor.
    fn finish_pull(&mut self, pull: Pull, table: &[Slot], now: Now) {
        let Some(start) = pull.start else { return };
        self.flush_group(now);
        let cells = self.join_staged(&pull.staged, &start, table);
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
        self.persistence.touch();
        self.offer_salvaged(now);
        self.tally.cells_pulled += cells as u64;
        self.tally.bytes_pulled += pull.staged_bytes as u64;
        self.unpark(now);
        self.emit(Event::CaughtUp {
            peer: pull.peer,
            cells,
            bytes: pull.staged_bytes,
            complete: start.complete,
            took_ms: now.mono_ms().saturating_sub(pull.started_ms),
        });
        self.start_pull(now);
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
            self.puller.current = None;
            self.tally.pulls_broken += 1;
            if started {
                self.puller.wanted.insert(peer);
            } else {
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
                self.puller.retries_ms.insert(pull.peer, now.mono_ms() + RETRY_MS);
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
