//! Where the dots are: for each replica, in order of seq, the document each of its dots was written to.
//!
//! Append-only, 12 bytes a dot. A dot that was superseded stays until the next compaction, so a hit is a *hint*: whoever
//! looks finds in the document itself whether the dot still lives. Catch-up walks it from a peer's clock upwards, so
//! what it costs depends on what differs, not on what there is.

use crate::clock::{Clock, Dot, Slot};

#[derive(Clone, Debug, Default)]
struct Postings {
    seqs: Vec<u64>,
    documents: Vec<u32>,
    /// Entries of this replica in the state: what would be left after a compaction.
    live: usize,
}

#[derive(Clone, Debug, Default)]
pub struct DotIndex {
    postings: Vec<Postings>,
}

impl DotIndex {
    /// Notes a dot that was just added to `document`. Dots of one replica come in rising order.
    pub fn push(&mut self, dot: Dot, document: u32) {
        let postings = self.slot_mut(dot.slot());
        debug_assert!(
            postings.seqs.last().is_none_or(|last| *last < dot.seq()),
            "dots come in order: {dot:?} after {:?}",
            postings.seqs.last()
        );
        postings.seqs.push(dot.seq());
        postings.documents.push(document);
        postings.live += 1;
    }

    /// Notes a dot that came back out of its order: a repair found that it had been lost.
    pub fn insert(&mut self, dot: Dot, document: u32) {
        let postings = self.slot_mut(dot.slot());
        postings.live += 1;
        match postings.seqs.binary_search(&dot.seq()) {
            Ok(at) => postings.documents[at] = document,
            Err(at) => {
                postings.seqs.insert(at, dot.seq());
                postings.documents.insert(at, document);
            }
        }
    }

    /// Notes that a dot was superseded or dropped.
    pub fn forget(&mut self, dot: Dot) {
        let postings = self.slot_mut(dot.slot());
        postings.live = postings.live.saturating_sub(1);
    }

    /// Entries of the replica that are live.
    pub fn live(&self, slot: Slot) -> usize {
        self.postings.get(slot.index()).map_or(0, |postings| postings.live)
    }

    /// The documents that may hold a dot above `low` and at most `high`, each once, in order of their numbers.
    pub fn documents_between(&self, low: &Clock, high: Option<&Clock>) -> Vec<u32> {
        let mut documents = Vec::new();
        for (i, postings) in self.postings.iter().enumerate() {
            let slot = Slot(i as u32);
            let from = postings.seqs.partition_point(|seq| *seq <= low.get(slot));
            let to =
                high.map_or(postings.seqs.len(), |high| postings.seqs.partition_point(|seq| *seq <= high.get(slot)));
            documents.extend_from_slice(postings.documents.get(from..to).unwrap_or_default());
        }
        documents.sort_unstable();
        documents.dedup();
        documents
    }

    /// The highest seq of the replica that was pushed; 0 before the first.
    pub fn last(&self, slot: Slot) -> u64 {
        self.postings.get(slot.index()).and_then(|postings| postings.seqs.last()).copied().unwrap_or(0)
    }

    /// Whether more than half of the replica's postings are dead.
    pub fn wants_compaction(&self, slot: Slot) -> bool {
        const SLACK: usize = 1024;
        self.postings.get(slot.index()).is_some_and(|postings| postings.seqs.len() > 2 * postings.live + SLACK)
    }

    /// The documents that `slot`'s postings name, each once.
    pub fn documents_of(&self, slot: Slot) -> Vec<u32> {
        let mut documents = self.postings.get(slot.index()).map_or(Vec::new(), |postings| postings.documents.clone());
        documents.sort_unstable();
        documents.dedup();
        documents
    }

    /// Replaces `slot`'s postings by exactly its live dots.
    pub fn compact(&mut self, slot: Slot, mut live: Vec<(u64, u32)>) {
        live.sort_unstable();
        let postings = self.slot_mut(slot);
        postings.live = live.len();
        (postings.seqs, postings.documents) = live.into_iter().unzip();
    }

    pub fn bytes(&self) -> usize {
        self.postings.iter().map(|postings| postings.seqs.capacity() * 8 + postings.documents.capacity() * 4).sum()
    }

    fn slot_mut(&mut self, slot: Slot) -> &mut Postings {
        if self.postings.len() <= slot.index() {
            self.postings.resize_with(slot.index() + 1, Postings::default);
        }
        &mut self.postings[slot.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_names_each_document_above_the_clock_once() {
        let mut index = DotIndex::default();
        for (seq, document) in [(1, 9), (2, 4), (3, 9), (4, 9)] {
            index.push(Dot::new(Slot(1), seq), document);
        }
        let clock = |seq| [(Slot(1), seq)].into_iter().collect::<Clock>();
        assert_eq!(index.documents_between(&Clock::new(), None), [4, 9]);
        assert_eq!(index.documents_between(&clock(2), None), [9]);
        assert_eq!(index.documents_between(&clock(1), Some(&clock(2))), [4]);
        assert!(index.documents_between(&clock(4), None).is_empty());
    }
}
