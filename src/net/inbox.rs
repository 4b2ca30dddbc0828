//! The way from the links to the node: one channel, bounded in events and in bytes.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::event::Event;

/// What an event costs beside its bytes.
const EVENT_BYTES: usize = 128;
/// How often a link looks again whether the node has caught up. Only paid while the inbox is full of bytes.
const RETRY: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Inbox {
    sender: mpsc::Sender<Event>,
    bytes_max: usize,
    waiting: Mutex<Waiting>,
}

/// The channel counts events, not bytes. It is first in, first out, so the sizes of the last `len` events sent are the
/// sizes of those still waiting; two links that send at the same moment may be booked the other way round, which moves
/// a size by one place and no further.
#[derive(Debug, Default)]
struct Waiting {
    sizes: VecDeque<usize>,
    bytes: usize,
}

/// The node dropped its end: there is nobody left to tell.
#[derive(Debug)]
pub(super) struct Closed;

impl Inbox {
    pub fn new(events_max: usize, bytes_max: usize) -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(events_max);
        (Self { sender, bytes_max, waiting: Mutex::default() }, receiver)
    }

    /// Waits until there is room. Dropping the future loses the event, never the order of others.
    pub async fn push(&self, event: Event) -> Result<(), Closed> {
        let size = size_of(&event);
        loop {
            let permit = self.sender.reserve().await.map_err(|_| Closed)?;
            if self.admits(size) {
                permit.send(event);
                return Ok(());
            }
            drop(permit);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Gives the event back if there is no room now.
    pub fn try_push(&self, event: Event) -> Result<(), Event> {
        let Ok(permit) = self.sender.try_reserve() else { return Err(event) };
        let mut waiting = self.waiting.lock();
        self.settle(&mut waiting);
        waiting.push(size_of(&event));
        drop(waiting);
        permit.send(event);
        Ok(())
    }

    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Books an event in, if its bytes fit.
    fn admits(&self, size: usize) -> bool {
        let mut waiting = self.waiting.lock();
        self.settle(&mut waiting);
        let fits = waiting.has_room(size, self.bytes_max);
        if fits {
            waiting.push(size);
        }
        fits
    }

    /// Forgets the sizes of what the node has taken. Slots reserved but not yet used count as waiting, so this errs on the
    /// full side, for a moment. Called with one slot reserved by the caller itself.
    fn settle(&self, waiting: &mut Waiting) {
        let used = self.sender.max_capacity() - self.sender.capacity();
        waiting.keep_last(used.saturating_sub(1));
    }
}

impl Waiting {
    fn has_room(&self, size: usize, bytes_max: usize) -> bool {
        self.sizes.is_empty() || self.bytes + size <= bytes_max
    }

    fn push(&mut self, size: usize) {
        self.sizes.push_back(size);
        self.bytes += size;
    }

    fn keep_last(&mut self, count: usize) {
        while self.sizes.len() > count {
            self.bytes -= self.sizes.pop_front().unwrap_or_default();
        }
    }
}

fn size_of(event: &Event) -> usize {
    match event {
        Event::Message { bytes, .. } => EVENT_BYTES + bytes.len(),
        _ => EVENT_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::clock::NodeId;
    use crate::net::LinkId;

    fn message(length: usize) -> Event {
        Event::Message { peer: NodeId([1; 32]), link: LinkId(1), bytes: vec![0; length] }
    }

    #[tokio::test]
    async fn a_full_inbox_waits_for_the_reader_and_goes_on() {
        let (inbox, mut receiver) = Inbox::new(100, 10_000);
        for _ in 0..9 {
            inbox.push(message(1_000 - EVENT_BYTES)).await.unwrap();
        }
        inbox.push(message(1_000 - EVENT_BYTES)).await.unwrap();
        assert!(inbox.push(message(0)).now_or_never().is_none(), "bytes are full");
        receiver.recv().await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), inbox.push(message(0))).await.unwrap().unwrap();
        assert!(inbox.push(message(1_000)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn one_message_larger_than_the_bound_still_passes() {
        let (inbox, mut receiver) = Inbox::new(100, 10);
        inbox.push(message(1_000)).await.unwrap();
        assert!(inbox.push(message(1)).now_or_never().is_none());
        receiver.recv().await.unwrap();
        inbox.push(message(1_000)).await.unwrap();
    }

    #[tokio::test]
    async fn events_are_bounded_too() {
        let (inbox, _receiver) = Inbox::new(2, 1 << 20);
        assert!(inbox.try_push(message(0)).is_ok());
        assert!(inbox.try_push(message(0)).is_ok());
        assert!(inbox.try_push(message(0)).is_err());
    }
}
