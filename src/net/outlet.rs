//! The sending end of a link: a queue bounded in bytes, and the switch that closes the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{mpsc, watch};

use super::event::LinkId;
use super::statistics::Counter;

/// What a message in the queue costs beside its bytes: its pointer, its counts, its prefix on the wire.
const MESSAGE_BYTES: usize = 64;

/// How a link is asked to end. Later requests replace milder ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closing {
    #[default]
    No,
    /// Send what is queued, then end.
    Flush,
    /// The connection is gone: deliver what has arrived, then end.
    Lost(String),
    Now(String),
}

/// Raises the switch. A link never reopens, and the first reason of a kind is the one told.
pub(super) fn ask_to_close(switch: &watch::Sender<Closing>, closing: Closing) {
    switch.send_if_modified(|current| {
        let stronger = std::mem::discriminant(current) != std::mem::discriminant(&closing) && closing > *current;
        if stronger {
            *current = closing;
        }
        stronger
    });
}

/// What passed between this node and one peer, over all their links.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

#[derive(Debug)]
pub(super) struct Outlet {
    pub link: LinkId,
    pub outbound: bool,
    pub closing: watch::Sender<Closing>,
    pub traffic: Arc<Traffic>,
    queue: mpsc::UnboundedSender<Arc<[u8]>>,
    queued_bytes: AtomicUsize,
    queue_bytes_max: usize,
}

/// Nothing was queued.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full { queued: usize },
    Gone,
}

impl Outlet {
    pub fn new(
        link: LinkId,
        outbound: bool,
        traffic: Arc<Traffic>,
        queue_bytes_max: usize,
    ) -> (Self, mpsc::UnboundedReceiver<Arc<[u8]>>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        let closing = watch::Sender::default();
        let queued_bytes = AtomicUsize::new(0);
        (Self { link, outbound, closing, traffic, queue, queued_bytes, queue_bytes_max }, receiver)
    }

    /// An empty queue takes any message; else its bytes are the bound, which is why the channel itself needs none.
    pub fn push(&self, message: Arc<[u8]>) -> Result<(), Refused> {
        let cost = cost(&message);
        let queued = self.queued_bytes.fetch_add(cost, Relaxed);
        if queued > 0 && queued + cost > self.queue_bytes_max {
            self.queued_bytes.fetch_sub(cost, Relaxed);
            return Err(Refused::Full { queued });
        }
        self.queue.send(message).map_err(|_| Refused::Gone)
    }

    /// The writer has put so much on the wire.
    pub fn on_sent(&self, cost: usize) {
        self.queued_bytes.fetch_sub(cost, Relaxed);
    }

    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Relaxed)
    }
}

pub(super) fn cost(message: &[u8]) -> usize {
    message.len() + MESSAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_in_bytes_and_takes_one_message_of_any_size() {
        let (outlet, mut queue) = Outlet::new(LinkId(1), true, Arc::default(), 1_000);
        assert_eq!(outlet.push(vec![0; 5_000].into()), Ok(()));
        assert!(matches!(outlet.push(vec![0; 1].into()), Err(Refused::Full { .. })));
        outlet.on_sent(cost(&queue.try_recv().unwrap()));
        assert_eq!(outlet.queued_bytes(), 0);
        let accepted = (0..100).filter(|_| outlet.push(vec![0; 36].into()).is_ok()).count();
        assert_eq!(accepted, 10);
        drop(queue);
        outlet.on_sent(outlet.queued_bytes());
        assert_eq!(outlet.push(vec![0; 1].into()), Err(Refused::Gone));
    }

    #[test]
    fn closing_only_gets_stronger_and_keeps_its_first_reason() {
        let switch = watch::Sender::default();
        for request in [
            Closing::Flush,
            Closing::Now("first".into()),
            Closing::Now("second".into()),
            Closing::Lost("late".into()),
            Closing::Flush,
        ] {
            ask_to_close(&switch, request);
        }
        assert_eq!(*switch.borrow(), Closing::Now("first".into()));
    }
}
