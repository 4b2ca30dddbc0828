//! The replica: all that a node knows and decides, without a socket, a disk, a clock or a thread.
//!
//! The calling contract: hand in one [`Input`] (or a local [`write`](Replica::write)), [`drain`](Replica::drain) the
//! outputs and carry them out in order, hand in the next. Reads may happen at any time in between. Time is an argument
//! and so is chance; outputs come from ordered maps only, so the same inputs give the same outputs, byte for byte.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::alarm::Alarm;
use super::audit::Audit;
use super::ballot::{Booth, Past};
use super::check::{Checker, Sums};
use super::conflicts::Conflicts;
use super::fence::Fences;
use super::hooks::{Hooks, Mutant};
use super::io::{Event, Input, LinkId, Now, Output, Signed};
use super::keys::Keys;
use super::limits::Limits;
use super::live::Parked;
use super::member::Members;
use super::message::{Digests, Message};
use super::outgoing::Group;
use super::partition::Cuts;
use super::peer::Peer;
use super::persistence::Persistence;
use super::pull::Puller;
use super::rows::Loaded;
use super::schemas::Schemas;
use super::serve::Server;
use super::state::State;
use super::tree::Tree;
use crate::clock::{Clock, ClusterId, HybridClock, Incarnation, NodeId, ReplicaId, Slot};
use crate::conflict::Customs;
use crate::document::batch::{FullIds, Naming, OpWriter};
use crate::document::codec::DecodeError;

/// What a replica is told about itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// What people call this node. One live node per name.
    pub name: String,
    /// Drawn anew at each start of the process (rule R4).
    pub incarnation: Incarnation,
    /// The cluster this node founds if its store knows none; `None` for a node that joins one.
    pub found: Option<ClusterId>,
    /// It was told to join: it adopts the first cluster it meets. Else meeting one before founding is an error.
    pub joins: bool,
    /// Its store was damaged and is rebuilt: that peers have more of its earlier replicas than it has is no news.
    pub rebuilt: bool,
    /// What tells the disk under the store from another that holds a copy of it; the same at every start. A voter whose
    /// store lies on another disk than it was written on is no voter any more.
    pub medium: u64,
    /// How far a stamp may run ahead of the host's clock. 500 ms suits hosts that run NTP.
    pub max_clock_skew_ms: u64,
    /// Where the host is; empty if that is nobody's business. Near each other are members of one region.
    pub region: String,
    /// Name and version of the program, told to peers.
    pub software: String,
    pub limits: Limits,
    pub hooks: Hooks,
    /// Resolvers of the program that embeds this.
    pub customs: Customs,
}

/// Counts since the start, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub ops_written: u64,
    pub ops_applied: u64,
    pub batches_sent: u64,
    pub batches_applied: u64,
    pub batches_duplicate: u64,
    /// Batches of others passed on, once for each peer.
    pub batches_relayed: u64,
    pub batches_parked: u64,
    /// ... and those beyond a fence that were kept aside.
    pub batches_aside: u64,
    pub batches_dropped: u64,
    pub malformed: u64,
    pub refused: u64,
    pub pulls: u64,
    pub pulls_complete: u64,
    pub pulls_broken: u64,
    pub cells_pulled: u64,
    pub bytes_pulled: u64,
    pub serves: u64,
    /// Sessions that compared states before anything was sent.
    pub compared: u64,
    /// Rounds of the self-check.
    pub checks: u64,
    /// Entries that a repair added or dropped.
    pub entries_mended: u64,
    pub windows_closed: u64,
    pub floors_raised: u64,
    /// ... because there were too many removal records, not because every member had them.
    pub floors_forced: u64,
    pub alarms: u64,
    pub conflicts_detected: u64,
    pub conflicts_ended: u64,
}

#[derive(Debug)]
pub struct Replica {
    pub(super) config: Config,
    pub(super) id: ReplicaId,
    pub(super) slot: Slot,
    pub(super) keys: Arc<dyn Keys>,
    pub(crate) state: State,
    pub(super) hybrid: HybridClock,
    /// The wall clock when this process started.
    pub(super) started_ms: u64,
    pub(super) cluster: Option<ClusterId>,
    /// The cluster id is on the disk: only then is it acted upon.
    pub(super) cluster_durable: bool,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) members: Members,
    /// Above a full mesh: who passes what on to whom, as of the last heartbeat.
    pub(super) tree: Option<Tree>,
    pub(super) tree_due: bool,
    pub(super) schemas: Schemas,
    pub(super) conflicts: Conflicts,
    pub(super) audit: Audit,
    pub(super) booth: Booth,
    pub(super) cuts: Cuts,
    pub(super) group: Group,
    pub(super) parked: Parked,
    pub(super) puller: Puller,
    pub(super) server: Server,
    pub(super) checker: Checker,
    pub(super) persistence: Persistence,
    /// Own batches of earlier starts, read back from a damaged store; offered again after the first catch-up.
    pub(super) salvaged: Vec<(ReplicaId, Vec<u8>)>,
    /// Replicas whose further batches are refused: a fork or a forgery was seen.
    pub(super) frozen: BTreeMap<Slot, ()>,
    pub(super) fences: Fences,
    /// What every member had on its disk when this was last looked at.
    pub(super) settled: Clock,
    /// Since this start it was as far as some other member, at one moment.
    pub(super) met: bool,
    pub(super) unreachable: Vec<NodeId>,
    pub(super) heartbeat_due_us: u64,
    pub(super) collect_due_us: u64,
    pub(super) scheduled_us: u64,
    alarms: VecDeque<(u64, Alarm)>,
    pub(super) tally: Tally,
    outputs: VecDeque<Output>,
}

impl Replica {
    /// Starts a new incarnation over what a store held. `keys` belong to the node whose store it is.
    pub fn new(config: Config, keys: Arc<dyn Keys>, loaded: Loaded, now: Now) -> Self {
        let Loaded { mut state, cluster, outbox, salvaged, ledger, audit, ballots, aside, wrote, loss } = loaded;
        let id = ReplicaId { node: keys.node(), incarnation: config.incarnation };
        // A roster grows by one a start; 2^24 starts of a node are out of reach.
        let slot = state.intern(id).unwrap_or(Slot(Slot::MAX));
        if config.hooks.planted(Mutant::RestoredDotsClaimed) {
            let earlier = |(of, id): &(Slot, &ReplicaId)| id.node == keys.node() && *of != slot;
            let last = state.roster.iter().filter(earlier).last().map(|(of, _)| of);
            last.into_iter().for_each(|of| state.clock.set(of, state.clock.get(of) + 1));
        }
        let past = Past::new(state.roster.iter().map(|(of, id)| (*id, state.clock.get(of))), &id.node);
        state.hooks = config.hooks.clone();
        let mut hybrid = HybridClock::new(config.max_clock_skew_ms);
        let _ = hybrid.observe(state.latest_stamp(), now.wall_ms);
        let mut replica = Self {
            group: Group::new(slot),
            hybrid,
            started_ms: now.wall_ms,
            cluster,
            cluster_durable: cluster.is_some(),
            peers: BTreeMap::new(),
            members: Members::default(),
            tree: None,
            tree_due: true,
            schemas: Schemas::default(),
            conflicts: Conflicts::new(ledger),
            audit: Audit::load(id.node, audit, &|node, message, signature| keys.verify(node, message, signature)),
            booth: Booth::load(ballots, config.medium, &config.incarnation, past),
            cuts: Cuts::default(),
            parked: Parked::default(),
            puller: Puller::new(&config.incarnation),
            server: Server::default(),
            checker: Checker::new(now),
            persistence: Persistence::new(state.clock.clone(), outbox, config.limits.outbox_batches),
            salvaged,
            frozen: BTreeMap::new(),
            fences: Fences::load(aside, wrote, config.incarnation),
            settled: Clock::new(),
            met: false,
            unreachable: Vec::new(),
            heartbeat_due_us: now.mono_us,
            collect_due_us: now.mono_us,
            scheduled_us: u64::MAX,
            alarms: VecDeque::new(),
            tally: Tally::default(),
            outputs: VecDeque::new(),
            config,
            id,
            slot,
            keys,
            state,
        };
        replica.reread_system_documents(now);
        replica.wake_audit(loss, now);
        if replica.cluster.is_none()
            && let Some(cluster) = replica.config.found
        {
            replica.adopt(cluster);
            replica.found_voters();
        }
        replica.look_after_all(now);
        replica.grow_tree();
        replica.settle(now);
        replica
    }

    /// Takes one input. Drain the outputs before the next.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::LinkUp { peer, link } => self.on_link_up(peer, link, now),
            Input::LinkDown { peer, link } => self.on_link_down(peer, link, now),
            Input::Message { peer, link, bytes } => self.on_message(peer, link, &bytes, now),
            Input::Persisted { ticket } => self.on_persisted(ticket, now),
            Input::PersistFailed { ticket, reason } => self.on_persist_failed(ticket, reason, now),
            Input::Forged { replica, seq } => self.on_forged(replica, seq, now),
            Input::Tick => self.on_tick(now),
        }
        self.settle(now);
    }

    /// The outputs since the last call, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Output> + use<'_> {
        self.outputs.drain(..)
    }

    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The highest seq of this replica.
    pub fn own_seq(&self) -> u64 {
        self.state.clock.get(self.slot)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster.filter(|_| self.cluster_durable)
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The alarms kept, oldest first, each with the wall-clock milliseconds at which it was raised.
    pub fn alarms(&self) -> impl Iterator<Item = &(u64, Alarm)> {
        self.alarms.iter()
    }

    pub fn digests(&self) -> Digests {
        Digests { clock: self.state.clock_digest(), state: self.state.digest() }
    }

    /// After every input: what changed is told, kept and scheduled.
    pub(super) fn settle(&mut self, now: Now) {
        self.state.note_clock();
        self.tell_changes(now);
        self.flush_group_if_due(now);
        self.persist_if_due(now);
        self.schedule(now);
    }

    fn on_tick(&mut self, now: Now) {
        self.take_in_released(now);
        // What this node writes by itself hangs on what it knew before this tick, not on what the tick finds out.
        self.own_writes(now).iter().for_each(|own| self.write_own(own, now));
        self.note_escalations(now);
        self.check_pulls(now);
        self.expire_serves(now);
        self.check_if_due(now);
        if now.mono_us >= self.heartbeat_due_us {
            self.on_heartbeat_due(now);
        }
        if now.mono_us >= self.collect_due_us || self.config.hooks.rare() {
            self.collect_removals(now);
        }
        self.judge_waiting(now);
        self.judge_across_if_due(now);
        self.tend_audit(now);
        self.tend_ballots(now);
        self.tend_cuts();
        self.retry_persist(now);
    }

    fn schedule(&mut self, now: Now) {
        let group = self.group_due_us().unwrap_or(u64::MAX);
        let waits = self.conflicts.is_behind() || self.has_released();
        let judging = if waits { now.mono_us } else { u64::MAX };
        let due_us = self.heartbeat_due_us.min(self.collect_due_us).min(self.booth.due_us());
        let at_us = due_us.min(group).min(judging).max(now.mono_us + 1);
        if at_us != self.scheduled_us {
            self.scheduled_us = at_us;
            self.output(Output::Schedule { at_us });
        }
    }

    pub(super) fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.output(Output::Emit(event));
    }

    /// Sends on an open link, after the replicas that the message may name have been announced.
    pub(super) fn send(&mut self, peer: NodeId, message: &Message<'_>) {
        let bytes: Arc<[u8]> = message.encode().into();
        self.send_bytes(peer, bytes);
    }

    pub(super) fn send_bytes(&mut self, peer: NodeId, message: Arc<[u8]>) {
        let Some(link) = self.peers.get_mut(&peer).and_then(|peer| peer.link.as_mut()) else { return };
        let (id, told) = (link.id, link.announced);
        link.announced = self.state.roster.len();
        if told < self.state.roster.len() {
            let new = self.state.roster.iter().skip(told).map(|(_, id)| *id).collect();
            let announce = Message::Announce(new).encode().into();
            self.outputs.push_back(Output::Send { peer, link: id, message: announce });
        }
        self.outputs.push_back(Output::Send { peer, link: id, message });
    }

    pub(super) fn alarm(&mut self, alarm: Alarm, now: Now) {
        // The same finding again is no news.
        if self.alarms.iter().any(|(_, known)| *known == alarm) {
            return;
        }
        self.tally.alarms += 1;
        if self.alarms.len() == self.config.limits.alarms {
            self.alarms.pop_front();
        }
        self.alarms.push_back((now.wall_ms, alarm.clone()));
        self.record_alarm(&alarm, now);
        self.emit(Event::Alarm(alarm));
    }

    /// What was found is over.
    pub(super) fn lift_alarms(&mut self, over: impl Fn(&Alarm) -> bool) {
        self.alarms.retain(|(_, alarm)| !over(alarm));
    }

    /// The same alarm but for its figures is raised once.
    pub(super) fn has_alarm(&self, same: impl Fn(&Alarm) -> bool) -> bool {
        self.alarms.iter().any(|(_, alarm)| same(alarm))
    }

    fn on_message(&mut self, peer: NodeId, link: LinkId, bytes: &[u8], now: Now) {
        let Some(open) = self.peers.get_mut(&peer).and_then(|peer| peer.link.as_mut()) else { return };
        if open.id != link {
            return;
        }
        let table = std::mem::take(&mut open.table);
        let done = match Message::decode(bytes, &table) {
            Ok(message) => self.on_decoded(peer, message, &table, now),
            Err(error) => Err(error),
        };
        if let Some(open) = self.peers.get_mut(&peer).and_then(|peer| peer.link.as_mut())
            && open.id == link
            && open.table.is_empty()
        {
            open.table = table;
        }
        if let Err(error) = done {
            self.tally.malformed += 1;
            self.output(Output::Disconnect { peer, link, reason: format!("malformed message: {error}") });
        }
    }

    fn on_decoded(&mut self, peer: NodeId, message: Message<'_>, table: &[Slot], now: Now) -> Result<(), DecodeError> {
        let established = self.peers.get(&peer).is_some_and(|peer| peer.established().is_some());
        match message {
            Message::Hello(hello) => self.on_hello(peer, hello, now),
            Message::Refuse(refusal) => self.on_refused(peer, refusal),
            Message::Announce(ids) => return self.on_announce(peer, ids, table),
            // What crossed our refusal on the wire is not an error, but nothing is taken from it.
            _ if !established => self.tally.refused += 1,
            Message::Batch { batch, prompt } => return self.on_batch(peer, &batch, prompt, table, now),
            Message::Report(report) => self.on_report(peer, &report, now),
            Message::Heartbeat { digests, report, voters } => {
                self.on_heartbeat(peer, digests, &report, now);
                self.tell_voters_if_behind(peer, voters);
            }
            Message::SyncRequest { session, resume, mend, clock } => {
                self.on_sync_request(peer, session, resume, mend, &clock, now);
            }
            Message::SyncStart { session, mode, clock, floor } => {
                self.on_sync_start(peer, session, mode, &clock, &floor, now);
            }
            Message::SyncChunk { session, index, last, body } => {
                return self.on_sync_chunk(peer, session, (index, last), body, table, now);
            }
            Message::SyncAck { session, next } => self.on_sync_ack(peer, session, next, now),
            Message::SyncGone { session } => self.on_sync_gone(peer, session, now),
            Message::SyncSymbols { session, start, items, body } => {
                return self.on_sync_symbols(peer, session, start, items, body, now);
            }
            Message::SyncMore { session, have } => self.on_sync_more(peer, session, have, now),
            Message::SyncFound { session, whole, wanted } => self.on_sync_found(peer, session, whole, &wanted, now),
            Message::Ballot(message) => {
                message.check()?;
                self.on_ballot(peer, message, now);
            }
            Message::Check { session, clock } => self.on_check(peer, session, &clock, now),
            Message::Sums { session, clock, floor, touched, sums } => {
                let (clock, floor) = (clock.into_iter().collect(), floor.into_iter().collect());
                self.on_sums(peer, session, Sums { clock, floor, touched, sums }, now);
            }
        }
        Ok(())
    }

    fn on_announce(&mut self, peer: NodeId, ids: Vec<ReplicaId>, table: &[Slot]) -> Result<(), DecodeError> {
        let mut table = table.to_vec();
        for id in ids {
            if self.state.roster.slot(&id).is_none() && self.state.roster.len() >= self.config.limits.replicas {
                return Err(DecodeError::Bounds("the number of replicas"));
            }
            table.push(self.state.intern(id).ok_or(DecodeError::Bounds("the number of replicas"))?);
        }
        if let Some(link) = self.peers.get_mut(&peer).and_then(|peer| peer.link.as_mut()) {
            link.table = table;
        }
        Ok(())
    }

    fn on_forged(&mut self, replica: ReplicaId, seq: u64, now: Now) {
        if let Some(slot) = self.state.roster.slot(&replica) {
            self.frozen.insert(slot, ());
            self.alarm(Alarm::Forged { replica: (&replica).into(), seq }, now);
        }
    }

    /// The ops of a batch as they are signed.
    pub(super) fn under_full_ids<N: Naming>(
        &self,
        batch: &crate::document::batch::Batch<'_>,
        naming: N,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut writer = OpWriter::new(batch.replica, FullIds { roster: &self.state.roster });
        for (op, seq) in crate::document::batch::OpReader::new(batch, naming).zip(batch.first..) {
            writer.push(seq, &op?);
        }
        Ok(writer.into_bytes())
    }

    pub(super) fn ask_to_verify(&mut self, claim: Signed) {
        self.output(Output::Verify(claim));
    }
}
