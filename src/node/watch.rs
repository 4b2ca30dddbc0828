//! Watching: changes in the order in which they became visible here, from now on or from a position.
//!
//! A ring keeps the names of the last [`RING_MAX`] changed documents. A watch reads what a document is when its turn
//! comes, so a slow reader sees fewer, newer states; one that falls off the ring is told so, and never skips silently.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::watch as signal;

use super::handle::Node;
use super::read::Shown;
use crate::conflict::detect::Class;
use crate::conflict::{Conflict, Status};
use crate::document::Address;
use crate::document::rule::Severity;

/// Changes kept for watches that resume.
pub const RING_MAX: usize = 65_536;
/// Watches open at once.
pub const WATCHES_MAX: usize = 1_024;

/// A place in one node's stream of changes. Another node, or another run of this one, does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    run: u32,
    count: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}", self.run, self.count)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no watch position: send back an `id:` of this stream as it came")]
pub struct ParsePositionError(String);

impl FromStr for Position {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('-').and_then(|(run, count)| {
            let run = (run.len() == 8).then(|| u32::from_str_radix(run, 16).ok())??;
            Some(Self { run, count: count.parse().ok()? })
        });
        parsed.ok_or_else(|| ParsePositionError(text.chars().take(80).collect()))
    }
}

/// One document that changed, as it was when this was read; `None` when it was deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub position: Position,
    pub address: Address,
    pub document: Option<Shown>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error("the position is older than what this node still keeps, or another node or an earlier run gave it")]
    Expired { oldest: Option<Position> },
    #[error("this node already serves {WATCHES_MAX} watches, as many as it may")]
    TooMany,
}

/// A conflict that began or ended. It says which; read the conflict for what it is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConflictNote {
    pub id: String,
    /// `collection/id`.
    pub document: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub class: Class,
    pub severity: Severity,
    pub status: Status,
    #[serde(skip)]
    pub ended: bool,
}

impl ConflictNote {
    pub(super) fn of(conflict: &Conflict, ended: bool) -> Self {
        let Conflict { id, document, field, rule, class, severity, status, .. } = conflict;
        let (id, document, field, rule) = (id.clone(), document.clone(), field.clone(), rule.clone());
        Self { id, document, field, rule, class: *class, severity: *severity, status: *status, ended }
    }
}

/// One event of a watch that also tells of conflicts.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    Change(Change),
    Conflict(Position, ConflictNote),
}

/// What the ring keeps: a name, or a note of about 300 bytes.
#[derive(Debug, Clone)]
enum Entry {
    Document(Arc<str>),
    Conflict(Arc<ConflictNote>),
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Entry::Document(name) => name,
            Entry::Conflict(note) => &note.document,
        }
    }
}

/// Changes were lost to whoever follows: everything has to be read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FellBehind;

/// The last changes, numbered from 1.
#[derive(Debug)]
pub(super) struct Ring {
    run: u32,
    entries: Mutex<(u64, VecDeque<Entry>)>,
    moved: signal::Sender<u64>,
    open: AtomicUsize,
}

impl Ring {
    pub fn new(run: u32) -> Self {
        Self { run, entries: Mutex::default(), moved: signal::channel(0).0, open: AtomicUsize::new(0) }
    }

    pub fn push(&self, changed: &[Arc<str>]) {
        self.extend(changed.iter().cloned().map(Entry::Document));
    }

    pub fn push_conflict(&self, note: ConflictNote) {
        self.extend([Entry::Conflict(Arc::new(note))]);
    }

    fn extend(&self, new: impl IntoIterator<Item = Entry>) {
        let mut entries = self.entries.lock();
        for entry in new {
            entries.0 += 1;
            entries.1.push_back(entry);
            if entries.1.len() > RING_MAX {
                entries.1.pop_front();
            }
        }
        self.moved.send_replace(entries.0);
    }

    /// The entry after `count` that is about a document whose name starts with `prefix`; `Err` when it has fallen off.
    fn next(&self, count: &mut u64, prefix: &str, conflicts: bool) -> Result<Option<Entry>, ()> {
        let entries = self.entries.lock();
        let oldest = entries.0 - entries.1.len() as u64;
        if *count < oldest {
            return Err(());
        }
        for entry in entries.1.iter().skip((*count - oldest) as usize) {
            *count += 1;
            let wanted = conflicts || matches!(entry, Entry::Document(_));
            if wanted && entry.name().starts_with(prefix) {
                return Ok(Some(entry.clone()));
            }
        }
        Ok(None)
    }

    /// The name of the next document after `count` that changed and whose name starts with `prefix`.
    pub fn next_document(&self, count: &mut u64, prefix: &str) -> Result<Option<Arc<str>>, FellBehind> {
        match self.next(count, prefix, false) {
            Ok(Some(Entry::Document(name))) => Ok(Some(name)),
            Ok(_) => Ok(None),
            Err(()) => Err(FellBehind),
        }
    }

    /// Changes so far.
    pub fn count(&self) -> u64 {
        self.bounds().1
    }

    /// Moves with every change.
    pub fn moved(&self) -> signal::Receiver<u64> {
        self.moved.subscribe()
    }

    fn bounds(&self) -> (u64, u64) {
        let entries = self.entries.lock();
        (entries.0 - entries.1.len() as u64, entries.0)
    }
}

/// A stream of changes. It ends only when the reader was too slow and changes were lost to it.
#[derive(Debug)]
pub struct Watch(WatchAll);

/// A stream of changes, and of conflicts that begin and end.
pub struct WatchAll {
    node: Node,
    prefix: String,
    count: u64,
    conflicts: bool,
    moved: Pin<Box<dyn Stream<Item = ()> + Send>>,
}

impl fmt::Debug for WatchAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchAll").field("prefix", &self.prefix).field("count", &self.count).finish_non_exhaustive()
    }
}

impl Node {
    /// Changes of documents whose `collection/id` starts with `prefix`, after `since`, or from now on.
    pub fn watch(&self, prefix: &str, since: Option<Position>) -> Result<Watch, WatchError> {
        self.follow(prefix, since, false).map(Watch)
    }

    /// The same, with conflicts that begin or end in such documents.
    pub fn watch_all(&self, prefix: &str, since: Option<Position>) -> Result<WatchAll, WatchError> {
        self.follow(prefix, since, true)
    }

    fn follow(&self, prefix: &str, since: Option<Position>, conflicts: bool) -> Result<WatchAll, WatchError> {
        let ring = &self.inner.ring;
        let (oldest, newest) = ring.bounds();
        let count = match since {
            None => newest,
            Some(at) if at.run == ring.run && (oldest..=newest).contains(&at.count) => at.count,
            Some(_) => return Err(WatchError::Expired { oldest: Some(Position { run: ring.run, count: oldest }) }),
        };
        if ring.open.fetch_add(1, Ordering::Relaxed) >= WATCHES_MAX {
            ring.open.fetch_sub(1, Ordering::Relaxed);
            return Err(WatchError::TooMany);
        }
        let mut receiver = ring.moved.subscribe();
        let moved = Box::pin(async_stream::stream! {
            while receiver.changed().await.is_ok() {
                yield ();
            }
        });
        Ok(WatchAll { node: self.clone(), prefix: prefix.to_owned(), count, conflicts, moved })
    }
}

impl Watch {
    /// Where the next change will be looked for: what to resume from.
    pub fn position(&self) -> Position {
        self.0.position()
    }
}

impl WatchAll {
    /// Where the next change will be looked for: what to resume from.
    pub fn position(&self) -> Position {
        Position { run: self.node.inner.ring.run, count: self.count }
    }

    fn change(&self, name: &str) -> Option<Change> {
        let address = Address::parse(name).ok()?;
        let document = self.node.read(&address).document;
        Some(Change { position: self.position(), address, document })
    }
}

impl Stream for Watch {
    type Item = Change;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        let all = &mut self.get_mut().0;
        loop {
            match Pin::new(&mut *all).poll_next(cx) {
                Poll::Ready(Some(Told::Change(change))) => return Poll::Ready(Some(change)),
                Poll::Ready(Some(Told::Conflict(..))) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for WatchAll {
    type Item = Told;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Told>> {
        let this = self.get_mut();
        loop {
            let ring = &this.node.inner.ring;
            match ring.next(&mut this.count, &this.prefix, this.conflicts) {
                Err(()) => return Poll::Ready(None),
                Ok(Some(Entry::Document(name))) => {
                    if let Some(change) = this.change(&name) {
                        return Poll::Ready(Some(Told::Change(change)));
                    }
                }
                Ok(Some(Entry::Conflict(note))) => {
                    return Poll::Ready(Some(Told::Conflict(this.position(), (*note).clone())));
                }
                Ok(None) => match this.moved.as_mut().poll_next(cx) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

impl Drop for WatchAll {
    fn drop(&mut self) {
        self.node.inner.ring.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text_and_nothing_else_passes() {
        let position = Position { run: 0xdead_beef, count: 42 };
        assert_eq!(position.to_string().parse::<Position>(), Ok(position));
        for text in ["", "42", "deadbeef", "deadbeef-", "zzzzzzzz-1", "1-1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_fell_off_the_ring_is_a_gap_and_not_a_skip() {
        let ring = Ring::new(1);
        let names: Vec<Arc<str>> = (0..RING_MAX + 10).map(|n| format!("vms/{n}").into()).collect();
        ring.push(&names);
        let (mut lost, mut kept) = (9, 10);
        let next = |count: &mut u64, prefix: &str, all: bool| {
            ring.next(count, prefix, all).map(|entry| entry.map(|entry| entry.name().to_owned()))
        };
        assert_eq!(next(&mut lost, "", false), Err(()));
        assert_eq!(next(&mut kept, "", false).unwrap().as_deref(), Some("vms/10"));
        let mut last = kept;
        assert_eq!(next(&mut last, "vms/999", false).unwrap().as_deref(), Some("vms/999"));
        let (_, mut newest) = ring.bounds();
        let mut without = newest;
        ring.push_conflict(ConflictNote::of(&Conflict::past("c", "vms/a", "f"), false));
        assert_eq!(next(&mut newest, "vms/", true).unwrap().as_deref(), Some("vms/a"));
        assert_eq!(next(&mut without, "vms/", false), Ok(None), "who did not ask for conflicts hears of none");
        assert_eq!(without, newest);
    }
}
