//! Comparing before anything is sent, the side that asked: symbols come until it is known which entries only one side
//! has. In a catch-up below the peer's floor (rule R3) those that only this side has are dead. In a repair the peer's
//! are fetched; whether ours go is for [`check`](super::check) to say.

use super::alarm::Alarm;
use super::chunk::ChunkReader;
use super::compare::{Mend, Mended};
use super::iblt::{self, Difference};
use super::io::Now;
use super::message::{Message, WANTED_MAX};
use super::pull::{Aim, Pull};
use super::replica::Replica;
use super::state::StagedCell;
use crate::clock::{NodeId, Slot};
use crate::document::codec::{DecodeError, Reader};

impl Replica {
    pub(super) fn on_sync_symbols(
        &mut self,
        peer: NodeId,
        session: u64,
        start: usize,
        items: usize,
        body: &[u8],
        now: Now,
    ) -> Result<(), DecodeError> {
        let Some(pull) = self.pull_mut(peer, session) else { return Ok(()) };
        let Some(decoder) = pull.decoder.as_mut().filter(|decoder| decoder.taken() == start) else { return Ok(()) };
        pull.touched_ms = now.mono_ms();
        let block = iblt::read_symbols(&mut Reader::new(body), start, items)?;
        // Blocks have the size that was asked for: a peer that sends fewer symbols would be heard out for ever.
        if block.len() < iblt::next_block(start) {
            return Err(DecodeError::Bounds("the symbols of a block"));
        }
        let have = start + block.len();
        match decoder.take(&block) {
            Ok(Some(difference)) => self.on_difference(peer, session, difference),
            Ok(None) if iblt::next_block(have) > 0 => self.send(peer, &Message::SyncMore { session, have }),
            _ => self.on_no_difference(peer, session, now),
        }
        Ok(())
    }

    fn on_difference(&mut self, peer: NodeId, session: u64, difference: Difference) {
        let Some(pull) = self.pull_mut(peer, session) else { return };
        pull.decoder = None;
        self.tally.compared += 1;
        let Some(pull) = self.pull_mut(peer, session) else { return };
        if let Some((_, ours)) = &mut pull.compared {
            *ours = difference.ours.into_iter().collect();
        }
        // In a catch-up what only the peer has is what this side knows to be dead: the peer will hear of it.
        let wanted = match pull.aim {
            Aim::CatchUp => Vec::new(),
            Aim::Mend(..) => difference.theirs.into_iter().take(WANTED_MAX).collect(),
        };
        self.send(peer, &Message::SyncFound { session, whole: false, wanted });
    }

    /// Too much differs to be found out.
    fn on_no_difference(&mut self, peer: NodeId, session: u64, now: Now) {
        let Some(pull) = self.pull_mut(peer, session) else { return };
        pull.decoder = None;
        pull.compared = None;
        match &pull.aim {
            Aim::CatchUp => {
                if let Some(start) = &mut pull.start {
                    start.complete = true;
                }
                self.send(peer, &Message::SyncFound { session, whole: true, wanted: Vec::new() });
            }
            Aim::Mend(shards, how) => {
                // Half of the shards hold half of the difference.
                let (how, shards): (Mend, Vec<usize>) = (*how, shards.iter().collect());
                self.puller.current = None;
                if shards.len() > 1 {
                    let half = shards.len() / 2;
                    self.want_mend(peer, shards.into_iter().take(half).collect(), how, now);
                }
            }
        }
    }

    /// The one atomic step of a repair. What was written since the comparison is left alone.
    pub(super) fn finish_mend(&mut self, pull: Pull, how: Mend, table: &[Slot], now: Now) {
        let (Some(start), Some((scope, ours))) = (&pull.start, &pull.compared) else { return };
        self.flush_group(now);
        let mut mended = Mended::default();
        // Below a floor that only one side has reached, an entry may lack for good reason.
        if scope.meet.covers_all(&self.state.floor) && scope.meet.covers_all(&start.floor) {
            if how == Mend::Take {
                mended.dropped += self.state.mend_away(scope, ours);
            }
            let cells = pull.staged.iter().flat_map(|chunk| ChunkReader::new(chunk, table)).flatten();
            let mut document = String::new();
            let mut staged: Vec<StagedCell<'_>> = Vec::new();
            for cell in cells {
                if cell.document != document {
                    mended.add(self.state.mend_document(&document, &staged, scope));
                    cell.document.clone_into(&mut document);
                    staged.clear();
                }
                staged.push(cell.cell);
            }
            mended.add(self.state.mend_document(&document, &staged, scope));
            self.state.finish_mend();
        }
        if mended != Mended::default() {
            self.persistence.touch();
            self.tally.entries_mended += (mended.added + mended.dropped) as u64;
            let Mended { added, dropped } = mended;
            self.alarm(Alarm::Mended { peer: pull.peer.into(), added, dropped, by_majority: how == Mend::Take }, now);
        }
        self.check_again(now);
        self.start_pull(now);
    }
}

impl Mended {
    fn add(&mut self, more: Mended) {
        self.added += more.added;
        self.dropped += more.dropped;
    }
}
