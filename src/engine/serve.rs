//! Catch-up, the side that has (rule R2): an immutable snapshot, sent in chunks as the receiver takes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::alarm::Alarm;
use super::chunk::ChunkWriter;
use super::compare::Scope;
use super::fingerprint::Shards;
use super::hooks::Mutant;
use super::iblt::{self, Encoder};
use super::io::Now;
use super::message::{AskEntry, ClockEntry, Message, Mode};
use super::replica::Replica;
use crate::clock::{Clock, NodeId, ReplicaId, Slot};
use crate::document::Document;
use crate::document::codec::Writer;

/// The sessions this node serves: one for each peer, at most `Limits::serves`.
#[derive(Debug, Default)]
pub struct Server {
    serves: BTreeMap<NodeId, Serve>,
    /// When each peer's spell of comparisons began, and how many it had since. One for each peer with a record.
    compared: BTreeMap<NodeId, (u64, u32)>,
}

#[derive(Debug)]
struct Serve {
    session: u64,
    /// Entries at or below it are only named: the receiver had them, or they are dead.
    clock: Clock,
    /// While the states are compared: nothing else is sent.
    comparing: Option<Comparing>,
    choice: Choice,
    documents: Vec<(Arc<str>, Document)>,
    /// The next document, and the last of its cells that was sent.
    at: usize,
    after: Option<Vec<u8>>,
    /// Chunks not yet taken by the receiver, the first of them being number `acked`.
    unacked: VecDeque<(bool, Vec<u8>)>,
    acked: u32,
    finished: bool,
    touched_ms: u64,
}

/// Which cells are sent.
#[derive(Debug)]
enum Choice {
    /// Those with an entry that the receiver's clock does not cover.
    News,
    All,
    /// These, in a repair: document and key.
    Wanted(BTreeSet<(Arc<str>, Vec<u8>)>),
}

#[derive(Debug)]
struct Comparing {
    scope: Scope,
    encoder: Encoder,
}

/// Comparisons served at once: each holds 24 bytes for every entry.
const COMPARISONS_MAX: usize = 2;

/// Each comparison costs a pass over the state, so a peer is given so many in a spell: a repair that halves its shards
/// takes 13 in a row, and is not seen twice in a few seconds.
const SPELL_COMPARISONS: u32 = 26;
const SPELL_MS: u64 = 10_000;

impl Server {
    pub fn len(&self) -> usize {
        self.serves.len()
    }

    pub fn is_empty(&self) -> bool {
        self.serves.is_empty()
    }

    /// The session of a comparison under way.
    #[cfg(test)]
    pub(super) fn comparing(&self) -> Option<u64> {
        self.serves.values().find(|serve| serve.comparing.is_some()).map(|serve| serve.session)
    }

    /// Whether `peer` may have another comparison now.
    fn grants_comparison(&mut self, peer: NodeId, now_ms: u64) -> bool {
        self.compared.retain(|_, (began_ms, _)| now_ms < *began_ms + SPELL_MS);
        let (_, had) = self.compared.entry(peer).or_insert((now_ms, 0));
        *had += 1;
        *had <= SPELL_COMPARISONS
    }
}

impl Serve {
    /// The next chunk; `true` with the last. `None` when all were made.
    fn next_chunk(&mut self, chunk_bytes: usize) -> Option<(bool, Vec<u8>)> {
        if self.finished {
            return None;
        }
        let mut chunk = ChunkWriter::new(&self.clock);
        while chunk.len() < chunk_bytes
            && let Some((name, document)) = self.documents.get(self.at)
        {
            let after = self.after.take();
            let mut cut = None;
            for cell in document.cells() {
                if after.as_deref().is_some_and(|after| cell.key <= after) {
                    continue;
                }
                let chosen = match &self.choice {
                    Choice::All => true,
                    Choice::News => cell.entries().any(|entry| !self.clock.covers(entry.dot)),
                    Choice::Wanted(cells) => cells.contains(&(name.clone(), cell.key.to_vec())),
                };
                if chosen {
                    chunk.push(name, cell);
                }
                if chunk.len() >= chunk_bytes {
                    cut = Some(cell.key.to_vec());
                    break;
                }
            }
            match cut {
                Some(key) => self.after = Some(key),
                None => self.at += 1,
            }
        }
        self.finished = self.at >= self.documents.len();
        if self.finished {
            self.documents = Vec::new();
        }
        Some((self.finished, chunk.into_bytes()))
    }
}

impl Replica {
    /// Comparisons wait for a peer whose link is down as other sessions do, so long as nobody else wants one: there are
    /// two places, and a peer that comes back is told that its session is gone, and asks anew.
    fn drop_lost_comparisons(&mut self) {
        let comparing = self.server.serves.values().filter(|serve| serve.comparing.is_some()).count();
        if comparing >= COMPARISONS_MAX {
            let is_linked = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.link.is_some());
            self.server.serves.retain(|node, serve| serve.comparing.is_none() || is_linked(node));
        }
    }

    pub(super) fn on_sync_request(
        &mut self,
        peer: NodeId,
        session: u64,
        resume: Option<u32>,
        mend: Option<Shards>,
        clock: &[AskEntry],
        now: Now,
    ) {
        self.flush_group(now);
        self.check_asked_clock(peer, clock, now);
        if let Some(chunk) = resume {
            self.resume_serve(peer, session, chunk, now);
            return;
        }
        // Asked twice, it would be answered from two snapshots, whose chunks fit together and whose clocks do not.
        if self.server.serves.get(&peer).is_some_and(|serve| serve.session == session) {
            return;
        }
        let theirs: Clock = clock.iter().map(|entry| (entry.slot, entry.seq)).collect();
        if self.would_leak_to(&theirs) {
            self.send(peer, &Message::SyncGone { session });
            return;
        }
        // Rule R3: below the floor removal records may be gone, so everything must be compared.
        let below = !theirs.covers_all(&self.state.floor) && !self.config.hooks.planted(Mutant::FloorIgnored);
        let mode = match (&mend, below) {
            (None, false) => Mode::Incremental,
            // A newcomer has nothing to compare.
            (None, true) if theirs.is_empty() => Mode::Complete,
            _ => Mode::Compare,
        };
        if mode == Mode::Compare {
            self.drop_lost_comparisons();
        }
        let others = self.server.serves.iter().filter(|(other, _)| **other != peer);
        let comparisons = others.clone().filter(|(_, serve)| serve.comparing.is_some()).count();
        let full =
            others.count() >= self.config.limits.serves || (mode == Mode::Compare && comparisons >= COMPARISONS_MAX);
        if full || (mode == Mode::Compare && !self.server.grants_comparison(peer, now.mono_ms())) {
            self.send(peer, &Message::SyncGone { session });
            return;
        }
        self.tally.serves += 1;
        let mut meet = self.state.clock.clone();
        meet.meet(&theirs);
        let records_above = mend.is_none().then(|| self.state.floor.clone());
        let scope = Scope { salt: session, meet, records_above, shards: mend };
        let (documents, choice) = match mode {
            Mode::Incremental => (self.state.snapshot_above(&theirs), Choice::News),
            Mode::Complete => (self.state.snapshot(), Choice::All),
            // Cells are chosen from it once it is known what differs.
            Mode::Compare => (self.state.snapshot_in(&scope), Choice::All),
        };
        let comparing =
            (mode == Mode::Compare).then(|| Comparing { encoder: Encoder::new(self.state.items(&scope)), scope });
        let start = Message::SyncStart {
            session,
            mode,
            clock: self.clock_beyond(&theirs),
            floor: self.state.floor.iter().collect(),
        };
        self.send(peer, &start);
        let serve = Serve {
            session,
            clock: theirs,
            comparing,
            choice,
            documents,
            at: 0,
            after: None,
            unacked: VecDeque::new(),
            acked: 0,
            finished: false,
            touched_ms: now.mono_ms(),
        };
        self.server.serves.insert(peer, serve);
        self.send_symbols(peer);
        self.pump_chunks(peer);
    }

    fn serve_mut(&mut self, peer: NodeId, session: u64, now: Now) -> Option<&mut Serve> {
        let serve = self.server.serves.get_mut(&peer).filter(|serve| serve.session == session)?;
        serve.touched_ms = now.mono_ms();
        Some(serve)
    }

    /// The next symbols of a comparison, if one goes on.
    fn send_symbols(&mut self, peer: NodeId) {
        let Some(serve) = self.server.serves.get_mut(&peer) else { return };
        let (session, Some(Comparing { encoder, .. })) = (serve.session, &mut serve.comparing) else { return };
        let (start, items) = (encoder.made(), encoder.len());
        let block = encoder.block(iblt::next_block(start));
        let mut w = Writer::new();
        iblt::write_symbols(&mut w, &block, start, items);
        self.send(peer, &Message::SyncSymbols { session, start, items, body: &w.bytes });
    }

    pub(super) fn on_sync_more(&mut self, peer: NodeId, session: u64, have: usize, now: Now) {
        let Some(serve) = self.serve_mut(peer, session, now) else { return };
        if serve.comparing.as_ref().is_some_and(|comparing| comparing.encoder.made() == have) {
            self.send_symbols(peer);
        }
    }

    /// The comparison is over: what is to be sent is known.
    pub(super) fn on_sync_found(&mut self, peer: NodeId, session: u64, whole: bool, wanted: &[u64], now: Now) {
        let Some(serve) = self.serve_mut(peer, session, now) else { return };
        let Some(Comparing { scope, .. }) = serve.comparing.take() else { return };
        if scope.shards.is_some() {
            let documents = std::mem::take(&mut serve.documents);
            let wanted: BTreeSet<u64> = wanted.iter().copied().collect();
            let mut cells = BTreeSet::new();
            self.state.each_item(
                documents.iter().map(|(name, document)| (name, document)),
                &scope,
                |name, cell, _, item| {
                    if wanted.contains(&item) {
                        cells.insert((name.clone(), cell.key.to_vec()));
                    }
                },
            );
            let Some(serve) = self.serve_mut(peer, session, now) else { return };
            serve.documents = documents;
            serve
                .documents
                .retain(|(name, _)| cells.range((name.clone(), Vec::new())..).next().is_some_and(|c| c.0 == *name));
            serve.choice = Choice::Wanted(cells);
            // The receiver's clock covers all of it, and yet it lacks it.
            serve.clock = Clock::new();
        } else if !whole {
            serve.choice = Choice::News;
        }
        self.pump_chunks(peer);
    }

    /// What this node's clock says otherwise than `theirs`, upwards or downwards.
    fn clock_beyond(&self, theirs: &Clock) -> Vec<ClockEntry> {
        let slots = (0..self.state.roster.len() as u32).map(Slot);
        let differs = slots.filter(|slot| self.state.clock.get(*slot) != theirs.get(*slot));
        differs
            .map(|slot| {
                let (head_seq, head) = self.state.heads[slot.index()];
                ClockEntry { slot, seq: self.state.clock.get(slot), head_seq, head }
            })
            .collect()
    }

    /// Equal seqs under different hashes are a fork. A peer that has more of one of our own replicas than we do proves
    /// that our disk was rolled back or copied.
    pub(super) fn check_asked_clock(&mut self, peer: NodeId, clock: &[AskEntry], now: Now) {
        for entry in clock {
            self.check_own_replica(peer, entry.slot, entry.seq, now);
            let (head_seq, head) = self.state.heads[entry.slot.index()];
            let same_seq = entry.seq > 0 && entry.seq == self.state.clock.get(entry.slot) && head_seq == entry.seq;
            if same_seq && head[..8] != entry.head && entry.head != [0; 8] {
                self.frozen.insert(entry.slot, ());
                let replica = *self.state.roster.id(entry.slot);
                self.alarm(Alarm::Forked { replica: (&replica).into(), seq: entry.seq }, now);
            }
        }
    }

    pub(super) fn check_own_replica(&mut self, peer: NodeId, slot: Slot, theirs: u64, now: Now) {
        let replica: ReplicaId = *self.state.roster.id(slot);
        let ours = self.state.clock.get(slot);
        if replica.node == self.id.node && theirs > ours && !self.config.rebuilt {
            let text = (&replica).into();
            if !self.has_alarm(|alarm| matches!(alarm, Alarm::RolledBack { replica, .. } if *replica == text)) {
                self.alarm(Alarm::RolledBack { replica: text, ours, theirs, peer: peer.into() }, now);
            }
        }
    }

    fn resume_serve(&mut self, peer: NodeId, session: u64, chunk: u32, now: Now) {
        let resumable = self.server.serves.get_mut(&peer).filter(|serve| {
            serve.session == session
                && serve.comparing.is_none()
                && chunk >= serve.acked
                && chunk <= serve.acked + serve.unacked.len() as u32
        });
        let Some(serve) = resumable else {
            self.send(peer, &Message::SyncGone { session });
            return;
        };
        serve.touched_ms = now.mono_ms();
        let taken = (chunk - serve.acked) as usize;
        serve.unacked.drain(..taken);
        serve.acked = chunk;
        let again: Vec<_> = serve.unacked.iter().cloned().zip(chunk..).collect();
        for ((last, body), index) in again {
            self.send(peer, &Message::SyncChunk { session, index, last, body: &body });
        }
        self.pump_chunks(peer);
    }

    pub(super) fn on_sync_ack(&mut self, peer: NodeId, session: u64, next: u32, now: Now) {
        let Some(serve) = self.server.serves.get_mut(&peer).filter(|serve| serve.session == session) else { return };
        serve.touched_ms = now.mono_ms();
        while serve.acked < next && serve.unacked.pop_front().is_some() {
            serve.acked += 1;
        }
        if serve.finished && serve.unacked.is_empty() {
            self.server.serves.remove(&peer);
        } else {
            self.pump_chunks(peer);
        }
    }

    fn pump_chunks(&mut self, peer: NodeId) {
        let limits = self.config.limits;
        while let Some(serve) = self.server.serves.get_mut(&peer)
            && serve.comparing.is_none()
            && serve.unacked.len() < limits.chunks_unacked
            && let Some((last, body)) = serve.next_chunk(limits.chunk_bytes)
        {
            let (session, index) = (serve.session, serve.acked + serve.unacked.len() as u32);
            serve.unacked.push_back((last, body.clone()));
            self.send(peer, &Message::SyncChunk { session, index, last, body: &body });
        }
    }

    /// Forgets sessions whose receiver has been silent for too long.
    pub(super) fn expire_serves(&mut self, now: Now) {
        let resume_ms = self.config.limits.session_resume_ms;
        self.server.serves.retain(|_, serve| now.mono_ms() < serve.touched_ms + resume_ms);
    }

    /// The sessions served now.
    pub fn server(&self) -> &Server {
        &self.server
    }
}
