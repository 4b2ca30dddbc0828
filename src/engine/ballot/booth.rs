//! All that this node knows of ballots: what it promised and accepted as a voter, what it asks as a proposer, and what of it
//! the disk does not have yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::acceptor::{Acceptor, Held, Question};
use super::ask::{Ask, Asked, GUARD, Told};
use super::guard::Guard;
use super::lock::Watch;
use super::message::BallotMessage;
use super::proposal::{Promise, Proposal};
use super::setback::{Heard, Past};
use super::transfer::Transfer;
use super::vote::Votes;
use super::voters::{StoreId, Voter, Voters};
use crate::clock::{Incarnation, NodeId};
use crate::document::codec::{DecodeError, decode_serde, encode_serde};
use crate::engine::persist::{Tree, WriteBatch};
use crate::engine::timing::Timing;

/// Registers of one voter. A lock takes some 500 bytes: half a gigabyte.
pub const REGISTERS_MAX: usize = 1 << 20;
/// Registers that this node asks about at once, and what waits for one of them.
pub const RUNNING_MAX: usize = 1_024;
pub const QUEUED_MAX: usize = 256;
/// Promises kept for the next change of a register.
pub const PROMISES_MAX: usize = 1_024;
/// Answers that wait for the disk. What does not fit is dropped, and asked again.
pub const WAITING_MAX: usize = 65_536;

const STORE: &[u8] = b"store";
const VOTERS: &[u8] = b"voters";
const HEARD: &[u8] = b"heard/";
const REGISTER: u8 = b'/';

/// Names one thing asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId(pub u64);

/// Why nothing was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AskError {
    #[error(
        "no quorum: this node reaches {reached} of the {voters} voters, and a majority has to agree. Nothing was changed; \
         what merges by itself goes on"
    )]
    NoQuorum { reached: usize, voters: usize },
    #[error("no quorum: this node knows no voters yet. It has to meet its cluster; nothing was changed")]
    NoVoters,
    #[error("it is not known whether it was decided: a majority was asked, and did not answer in time. Ask again")]
    Unknown,
    #[error("a later version of this program wrote what is asked about: upgrade this node. Nothing was changed")]
    Unreadable,
    #[error("too much is asked of one register at once; nothing was changed")]
    Busy,
}

#[derive(Debug)]
pub(in crate::engine) struct Queued {
    pub id: AskId,
    pub ask: Ask,
    pub begun_us: u64,
}

/// A register that this node asks about.
#[derive(Debug)]
pub(in crate::engine) struct Running {
    pub at: Queued,
    /// `None` between two attempts.
    pub proposal: Option<Proposal<Asked>>,
    /// The attempt ends, or the next begins.
    pub due_us: u64,
    /// Some attempt asked voters to accept: nobody can say that nothing was changed.
    pub accepting: bool,
    pub attempts: u32,
    pub queue: VecDeque<Queued>,
}

impl Running {
    /// This is put to the voters.
    pub fn note_asked(&mut self, question: &Question) {
        if let Question::Accept { value, .. } = question {
            self.accepting = true;
            self.at.ask.note_proposed(value);
        }
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct BallotTally {
    pub decided: u64,
    pub no_quorum: u64,
    pub unknown: u64,
    pub refused: u64,
    /// Attempts that others overtook.
    pub lost: u64,
}

#[derive(Debug)]
pub struct Booth {
    pub(in crate::engine) store: StoreId,
    pub(in crate::engine) acceptor: Acceptor,
    pub(in crate::engine) voters: Option<Voters>,
    /// The highest round that was used here, or that somebody promised.
    pub(in crate::engine) round: u64,
    pub(in crate::engine) asked: u64,
    pub(in crate::engine) running: BTreeMap<Arc<str>, Running>,
    pub(in crate::engine) promises: BTreeMap<Arc<str>, Promise>,
    pub(in crate::engine) watch: Watch,
    pub(in crate::engine) transfer: Transfer,
    /// Documents about which this voter accepted something, and when it looks whether that was written down, µs.
    pub(in crate::engine) looked_after: BTreeMap<String, u64>,
    pub(in crate::engine) votes: Votes,
    /// What was heard of the voters, for each to be told.
    heard: BTreeMap<NodeId, Heard>,
    pub(super) past: Past,
    pub(in crate::engine) tally: BallotTally,
    /// From being asked to being told, of what was decided since the start.
    pub(in crate::engine) took: Timing,
    /// Names of the locks that somebody holds, as this voter accepted them: nobody has to read every register to tell.
    held: BTreeSet<Arc<str>>,
    /// Rows to be written; `None` removes.
    dirty: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The sum of the hashes of all rows but the one that holds it.
    sum: u64,
    medium: u64,
    /// Answers that may leave once the disk has what they rest on.
    waiting: Vec<Due>,
}

/// An answer, and who waits for it.
pub type Due = (NodeId, BallotMessage);

impl Booth {
    /// Reads back what the tree held. A store that is not the one it was written by (another disk, rows missing or of
    /// another time) forgot what it promised: it is a new one then, and no voter until it is let in.
    pub(in crate::engine) fn load(
        rows: BTreeMap<Vec<u8>, Vec<u8>>,
        medium: u64,
        life: &Incarnation,
        past: Past,
    ) -> Self {
        let mut booth = Self {
            store: StoreId(life.0),
            acceptor: Acceptor::default(),
            voters: None,
            round: 0,
            asked: 0,
            running: BTreeMap::new(),
            promises: BTreeMap::new(),
            watch: Watch::default(),
            transfer: Transfer::default(),
            looked_after: BTreeMap::new(),
            votes: Votes::default(),
            heard: BTreeMap::new(),
            past,
            tally: BallotTally::default(),
            took: Timing::default(),
            held: BTreeSet::new(),
            dirty: BTreeMap::new(),
            sum: 0,
            medium,
            waiting: Vec::new(),
        };
        match booth.read_back(&rows) {
            Ok(true) => {}
            Ok(false) | Err(_) => {
                booth.dirty = rows.into_keys().map(|key| (key, None)).collect();
                booth.begin_anew(life);
            }
        }
        booth
    }

    /// Whether it is the store that it was.
    fn read_back(&mut self, rows: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<bool, DecodeError> {
        let Some(row) = rows.get(STORE) else { return Ok(false) };
        let (store, medium, sum): (StoreId, u64, u64) = decode_serde(row)?;
        for (key, row) in rows.iter().filter(|(key, _)| *key != STORE) {
            self.sum = self.sum.wrapping_add(hash(key, row));
            match key.split_first() {
                Some((&REGISTER, name)) => {
                    let name = std::str::from_utf8(name).map_err(|_| DecodeError::Utf8)?;
                    let held: Held = decode_serde(row)?;
                    self.round = self.round.max(held.promised.round);
                    self.acceptor.restore(name, held);
                    self.note_holder(name);
                }
                _ if key == VOTERS => {
                    let voters: Voters = decode_serde(row)?;
                    self.acceptor.learn(voters.version);
                    self.voters = Some(voters);
                }
                _ => {
                    let node = key.strip_prefix(HEARD).and_then(|node| node.try_into().ok());
                    let node = NodeId(node.ok_or(DecodeError::Bounds("a row of ballots"))?);
                    self.heard.insert(node, decode_serde(row)?);
                }
            }
        }
        self.store = store;
        Ok(medium == self.medium && sum == self.sum)
    }

    /// A new store: nothing was promised. Who the voters are stays known, and what was heard of them, as far as it can be
    /// read.
    pub(in crate::engine) fn begin_anew(&mut self, life: &Incarnation) {
        let keys: Vec<Vec<u8>> = self.acceptor.registers().map(|(name, _)| register_key(name)).collect();
        self.dirty.extend(keys.into_iter().map(|key| (key, None)));
        (self.store, self.sum, self.acceptor) = (StoreId(life.0), 0, Acceptor::default());
        self.held.clear();
        self.waiting.clear();
        self.promises.clear();
        let heard = std::mem::take(&mut self.heard);
        if let Some(voters) = self.voters.take() {
            self.keep_voters(voters);
        }
        heard.into_iter().for_each(|(node, heard)| self.keep_heard(node, heard));
        self.keep_store();
    }

    fn keep_store(&mut self) {
        self.dirty.insert(STORE.to_vec(), Some(encode_serde(&(self.store, self.medium, self.sum))));
    }

    fn keep(&mut self, key: Vec<u8>, before: Option<u64>, row: Vec<u8>) {
        self.sum = self.sum.wrapping_sub(before.unwrap_or_default()).wrapping_add(hash(&key, &row));
        self.dirty.insert(key, Some(row));
        self.keep_store();
    }

    /// What a voter's answer rests on is to go to the disk. `before`: as it was.
    pub(in crate::engine) fn keep_held(&mut self, register: &str, before: Option<&Held>) {
        let Some(held) = self.acceptor.get(register) else { return };
        let key = register_key(register);
        let before = before.map(|held| hash(&key, &encode_serde(held)));
        let row = encode_serde(held);
        self.keep(key, before, row);
        self.note_holder(register);
    }

    /// Whether somebody holds the lock in this register by now.
    fn note_holder(&mut self, register: &str) {
        let Some(name) = register.strip_prefix(GUARD) else { return };
        let accepted = self.acceptor.get(register).and_then(|held| held.accepted.as_ref());
        let guard = accepted.and_then(|accepted| Guard::decode(Some(&accepted.value)).ok());
        if guard.is_some_and(|guard| guard.lock.held.is_some()) {
            if !self.held.contains(name) {
                self.held.insert(name.into());
            }
        } else {
            self.held.remove(name);
        }
    }

    /// Takes these voters for the ones that count.
    pub(in crate::engine) fn keep_voters(&mut self, voters: Voters) {
        let before = self.voters.as_ref().map(|before| hash(VOTERS, &encode_serde(before)));
        self.acceptor.learn(voters.version);
        let row = encode_serde(&voters);
        // First: the row that holds the sum is written with what is kept last.
        self.forget_heard_but_of(&voters);
        self.voters = Some(voters);
        self.keep(VOTERS.to_vec(), before, row);
    }

    fn forget_heard_but_of(&mut self, voters: &Voters) {
        let is_voter = |node: &NodeId, heard: &Heard| voters.has(&Voter { node: *node, store: heard.store });
        let (kept, gone) = std::mem::take(&mut self.heard).into_iter().partition(|(node, heard)| is_voter(node, heard));
        self.heard = kept;
        let gone: BTreeMap<NodeId, Heard> = gone;
        for (node, heard) in gone {
            let key = heard_key(&node);
            self.sum = self.sum.wrapping_sub(hash(&key, &encode_serde(&heard)));
            self.dirty.insert(key, None);
        }
    }

    /// What was heard of a voter goes to the disk with whatever goes there next.
    pub(super) fn keep_heard(&mut self, node: NodeId, heard: Heard) {
        let before = self.heard.insert(node, heard);
        if before != Some(heard) {
            let key = heard_key(&node);
            let before = before.map(|before| hash(&key, &encode_serde(&before)));
            self.keep(key, before, encode_serde(&heard));
        }
    }

    pub(super) fn heard(&self, node: &NodeId) -> Option<Heard> {
        self.heard.get(node).copied()
    }

    /// An answer to be given once the disk has everything up to now.
    pub(in crate::engine) fn answer_later(&mut self, to: NodeId, message: BallotMessage) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((to, message));
        }
    }

    /// What the disk lacks, and the answers that wait for it.
    pub(in crate::engine) fn take(&mut self, rows: &mut WriteBatch) -> Vec<Due> {
        for (key, row) in std::mem::take(&mut self.dirty) {
            match row {
                Some(row) => rows.put(Tree::Ballots, key, row),
                None => rows.remove(Tree::Ballots, key),
            }
        }
        std::mem::take(&mut self.waiting)
    }

    pub fn voters(&self) -> Option<&Voters> {
        self.voters.as_ref()
    }

    pub fn store(&self) -> StoreId {
        self.store
    }

    pub fn acceptor(&self) -> &Acceptor {
        &self.acceptor
    }

    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    pub fn tally(&self) -> BallotTally {
        self.tally
    }

    /// How long decisions took, from being asked to being told.
    pub fn took(&self) -> &Timing {
        &self.took
    }

    /// The names of the locks that somebody holds, as this voter accepted them, in their order.
    pub fn locks_held(&self) -> &BTreeSet<Arc<str>> {
        &self.held
    }

    /// Whether somebody holds the lock of this name, as this voter accepted it.
    pub fn is_lock_held(&self, name: &str) -> bool {
        self.held.contains(name)
    }

    /// This node as a voter, if it is one.
    pub fn is_voter(&self, node: &NodeId) -> bool {
        self.place(node).is_some()
    }

    /// Where this node, which has this store, stands among the voters.
    pub fn place(&self, node: &NodeId) -> Option<usize> {
        let own = Voter { node: *node, store: self.store };
        self.voters.as_ref()?.all().iter().position(|voter| *voter == own)
    }

    /// When something here is due, µs.
    pub(in crate::engine) fn due_us(&self) -> u64 {
        self.running.values().map(|running| running.due_us).min().unwrap_or(u64::MAX).min(self.votes.due_us())
    }

    pub(in crate::engine) fn keep_promise(&mut self, register: &Arc<str>, promise: Promise) {
        if self.promises.len() >= PROMISES_MAX && !self.promises.contains_key(register) {
            self.promises.pop_first();
        }
        self.promises.insert(register.clone(), promise);
    }
}

fn heard_key(node: &NodeId) -> Vec<u8> {
    [HEARD, &node.0].concat()
}

fn register_key(register: &str) -> Vec<u8> {
    [&[REGISTER], register.as_bytes()].concat()
}

fn hash(key: &[u8], row: &[u8]) -> u64 {
    xxh3_64(&[&(key.len() as u64).to_le_bytes(), key, row].concat())
}

/// What came of one thing asked.
pub type Outcome = Result<Told, AskError>;
