//! Joining a peer's cells, as they came by a catch-up.

use super::State;
use crate::clock::{Clock, Dot, HybridTime};
use crate::document::cell::{CellRef, EntryRef};
use crate::engine::hooks::Mutant;

/// A peer's cell as a session staged it.
#[derive(Clone, Debug)]
pub struct StagedCell<'a> {
    pub key: &'a [u8],
    /// In rising order of dots.
    pub entries: Vec<StagedEntry<'a>>,
}

#[derive(Clone, Copy, Debug)]
pub struct StagedEntry<'a> {
    pub dot: Dot,
    pub at: HybridTime,
    pub content: Content<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Not sent: the receiver's clock covered the dot, so it has the entry or the entry is dead.
    Known,
    Removal,
    Value(&'a [u8]),
}

impl State {
    /// Joins a peer's cells of one document (rule R2: called for all documents of a session in one step, after which the
    /// caller merges the clocks). An entry is kept when both have it, or when the side without it does not cover it.
    /// With `complete`, cells not among `theirs` count as empty there.
    pub fn join_document(&mut self, name: &str, theirs: &[StagedCell<'_>], their_clock: &Clock, complete: bool) {
        let at = self.find_or_create(name);
        let clock = std::mem::take(&mut self.clock);
        let mut everything = Clock::new();
        if self.hooks.planted(Mutant::JoinDropsUncovered) {
            self.roster.iter().for_each(|(slot, _)| everything.set(slot, Dot::SEQ_MAX));
        }
        let their_clock = if everything.is_empty() { their_clock } else { &everything };
        for cell in theirs {
            self.change_cell(at, cell.key, |old, packed| {
                join_cell(CellRef { key: cell.key, packed: old }, &cell.entries, &clock, their_clock, packed);
            });
        }
        if complete {
            let document = self.stored[at as usize].document.clone();
            for own in document.cells() {
                if theirs.binary_search_by(|cell| cell.key.cmp(own.key)).is_err() {
                    self.change_cell(at, own.key, |_, packed| join_cell(own, &[], &clock, their_clock, packed));
                }
            }
        }
        self.clock = clock;
        self.release_if_empty(at);
    }

    /// Ends a run of [`State::join_document`] calls: the dots they added enter the index in order.
    pub fn finish_join(&mut self) {
        self.note_added();
    }

    /// Ends a repair: the dots it brought back were covered all along, and enter the index where they belong.
    pub(in crate::engine) fn finish_mend(&mut self) {
        for (dot, at) in std::mem::take(&mut self.added) {
            self.index.insert(dot, at);
        }
    }
}

/// Writes into `packed` the join of one cell (`models`: the join of the node-clock oracle).
fn join_cell(
    own: CellRef<'_>,
    theirs: &[StagedEntry<'_>],
    own_clock: &Clock,
    their_clock: &Clock,
    packed: &mut Vec<u8>,
) {
    packed.clear();
    let (mut mine, mut yours) = (own.entries().peekable(), theirs.iter().peekable());
    let kept = |entry: &StagedEntry<'_>| !own_clock.covers(entry.dot);
    let encode = |entry: &StagedEntry<'_>, packed: &mut Vec<u8>| {
        let value = match entry.content {
            Content::Known => return,
            Content::Removal => None,
            Content::Value(value) => Some(value),
        };
        EntryRef { dot: entry.dot, at: entry.at, value }.encode_into(packed);
    };
    loop {
        match (mine.peek(), yours.peek()) {
            (None, None) => return,
            (Some(m), Some(y)) if m.dot == y.dot => {
                m.encode_into(packed);
                mine.next();
                yours.next();
            }
            (Some(m), y) if y.is_none_or(|y| m.dot < y.dot) => {
                if !their_clock.covers(m.dot) {
                    m.encode_into(packed);
                }
                mine.next();
            }
            (_, Some(y)) => {
                if kept(y) {
                    encode(y, packed);
                }
                yours.next();
            }
            (Some(_), None) => mine.next().map_or((), |_| ()),
        }
    }
}
