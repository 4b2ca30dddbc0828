//! A member with valid keys that does what it must not. What an honest node would say passes through here on its way.

use std::sync::Arc;

use super::fault::Misdeed;
use super::host::Fork;
use super::world::{Next, World};
use crate::clock::{Dot, HybridTime, Slot};
use crate::document::Address;
use crate::document::batch::{Batch, Dots, FullIds, OpReader, OpRef, OpWriter, OwnSlots, PeerSlots, chain};
use crate::document::plan::{Edit, Write};
use crate::engine::keys::Keys;
use crate::engine::message::{Digests, Message};

/// A misdeed is done every so often, µs.
const EVERY_US: u64 = 70_000;

impl World {
    /// What `from` really sends to `to` in the place of `message`.
    pub(super) fn tamper(&mut self, from: usize, to: usize, message: Arc<[u8]>) -> Vec<Arc<[u8]>> {
        let host = &self.hosts[from];
        if host.speaks_next {
            let mut bytes = message.to_vec();
            bytes[0] = bytes[0].wrapping_add(1);
            return vec![bytes.into()];
        }
        match host.misdeed {
            None => vec![message],
            Some(Misdeed::Replay) if self.chance.happens(0.3) => vec![message.clone(), message],
            Some(Misdeed::Fork) if Message::kind(&message) == "batch" && to.is_multiple_of(2) => {
                vec![self.forked(from, &message).unwrap_or(message)]
            }
            Some(_) => vec![message],
        }
    }

    /// Something every so often, for as long as it is hostile.
    pub(super) fn misdeed(&mut self, host: usize) {
        let Some(does) = self.hosts[host].misdeed else { return };
        self.after(EVERY_US, Next::Misdeed { host });
        if self.hosts[host].process.is_none() || self.hosts[host].paused {
            return;
        }
        // It goes on writing, so that there is something to fork, to replay and to stamp.
        let key = self.chance.below(8);
        if let Ok(address) = Address::new("things", &key.to_string()) {
            let edit = Edit::Set { field: "state".into(), value: self.chance.below(1_000).into() };
            if does == Misdeed::Fork
                && let Some(id) = self.hosts[host].replica().map(|replica| replica.id())
            {
                self.ledger.dispute(&id);
            }
            self.write(host, &[(address, Write::Upsert(vec![edit]))]);
        }
        let bad = match does {
            Misdeed::Forge => self.forged(host),
            Misdeed::Flood => self.flood(host),
            Misdeed::Lie => self.lie(host),
            Misdeed::Fork | Misdeed::Replay | Misdeed::Future => Vec::new(),
        };
        let links: Vec<(u64, usize)> = self.network.open_links(host).map(|(id, link)| (id, link.other(host))).collect();
        for message in bad {
            for (link, to) in &links {
                self.dispatch(host, *to, *link, message.clone());
            }
        }
    }

    /// A batch in the name of a replica that is another's.
    fn forged(&mut self, host: usize) -> Vec<Arc<[u8]>> {
        let Some(replica) = self.hosts[host].replica() else { return Vec::new() };
        let state = replica.state();
        let others: Vec<Slot> =
            state.roster.iter().filter(|(_, id)| id.node != replica.id().node).map(|(slot, _)| slot).collect();
        let Some(victim) = self.chance.pick(&others).copied() else { return Vec::new() };
        let ops = one_op(victim, state.clock.get(victim) + 1, b"forged");
        let batch =
            Batch { replica: victim, first: state.clock.get(victim) + 1, count: 1, signature: [9; 64], ops: &ops };
        vec![Message::Batch { batch, prompt: false }.encode().into()]
    }

    /// Batches that nobody can apply, under its own name, and noise.
    fn flood(&mut self, host: usize) -> Vec<Arc<[u8]>> {
        let Some(replica) = self.hosts[host].replica() else { return Vec::new() };
        let Some(slot) = replica.state().roster.slot(&replica.id()) else { return Vec::new() };
        let mut messages: Vec<Arc<[u8]>> = Vec::new();
        for _ in 0..20 {
            let first = 1_000 + self.chance.below(1 << 30);
            let ops = one_op(slot, first, &[b'x'; 200]);
            let batch = Batch { replica: slot, first, count: 1, signature: [9; 64], ops: &ops };
            messages.push(Message::Batch { batch, prompt: true }.encode().into());
        }
        if self.chance.happens(0.1) {
            let noise: Vec<u8> = (0..self.chance.below(300)).map(|_| self.chance.bits() as u8).collect();
            messages.push(noise.into());
        }
        messages
    }

    /// Claims of dots that do not exist, and digests that are not its own.
    fn lie(&mut self, host: usize) -> Vec<Arc<[u8]>> {
        let Some(replica) = self.hosts[host].replica() else { return Vec::new() };
        let state = replica.state();
        let slots: Vec<Slot> = state.roster.iter().map(|(slot, _)| slot).collect();
        let report = slots.iter().map(|slot| (*slot, state.clock.get(*slot) + 50)).collect();
        let digests = Digests { clock: u128::from(self.chance.bits()), state: u128::from(self.chance.bits()) };
        vec![Message::Heartbeat { digests, report, voters: 0 }.encode().into()]
    }

    /// Another batch under the same dots, signed with its own key as it should be.
    fn forked(&mut self, host: usize, message: &[u8]) -> Option<Arc<[u8]>> {
        let (replica, fork) = (self.hosts[host].replica()?, self.hosts[host].fork.as_ref()?);
        let state = replica.state();
        let table: Vec<Slot> = (0..state.roster.len() as u32).map(Slot).collect();
        let Ok(Message::Batch { batch, prompt }) = Message::decode(message, &table) else { return None };
        if let Some((first, sent)) = &fork.last
            && *first == batch.first
        {
            return Some(sent.clone());
        }
        // The fork goes on where the histories parted, or where it has come to.
        let previous = (fork.seq + 1 == batch.first).then_some(fork.head)?;
        let ops: Vec<OpRef<'_>> = OpReader::new(&batch, PeerSlots { table: &table }).collect::<Result<_, _>>().ok()?;
        let mut own = OpWriter::new(batch.replica, OwnSlots);
        let mut full = OpWriter::new(batch.replica, FullIds { roster: &state.roster });
        for (op, seq) in ops.iter().zip(batch.first..) {
            // One millisecond later is another entry, and another state.
            let op = OpRef { at: HybridTime(op.at.0 + (1 << 16)), ..op.clone() };
            own.push(seq, &op);
            full.push(seq, &op);
        }
        let hash = chain(&previous, &replica.id(), batch.first, batch.count, &full.into_bytes());
        let (signature, ops) = (self.hosts[host].keys.sign(&hash), own.into_bytes());
        let (first, seq) = (batch.first, batch.last());
        let batch = Batch { signature, ops: &ops, ..batch };
        let sent: Arc<[u8]> = Message::Batch { batch, prompt }.encode().into();
        self.hosts[host].fork = Some(Fork { seq, head: hash, last: Some((first, sent.clone())) });
        Some(sent)
    }
}

fn one_op(slot: Slot, seq: u64, value: &[u8]) -> Vec<u8> {
    let mut writer = OpWriter::new(slot, OwnSlots);
    let key = b"\x05state\x0f";
    let at = HybridTime::from_ms(super::host::EPOCH_MS);
    writer.push(seq, &OpRef { document: "things/0", key, value: Some(value), at, supersedes: Dots::new() });
    debug_assert!(seq <= Dot::SEQ_MAX);
    writer.into_bytes()
}
