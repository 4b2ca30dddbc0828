//! Whole transports on loopback: what the node sees when peers come, go, lie, or are slow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Config, Error, Event, Handle, LinkId, PeerState, SendError, start};
use crate::clock::NodeId;

/// Long enough for a loaded machine; every wait ends as soon as its condition holds.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    id: NodeId,
    handle: Handle,
    events: mpsc::Receiver<Event>,
    address: String,
}

impl Node {
    async fn start(config: Config) -> Self {
        let (handle, events) = start(config).unwrap();
        let mut node = Self { id: handle.local(), handle, events, address: String::new() };
        node.address = node
            .until("Listening", |event| match event {
                Event::Listening { address } => Some(address),
                _ => None,
            })
            .await;
        node
    }

    async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let found = timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.unwrap_or_else(|| panic!("events ended before {what}"));
                seen.push(format!("{event:?}").chars().take(300).collect::<String>());
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no {what}; peers: {:#?}; seen: {seen:#?}", self.handle.peers()))
    }

    async fn link_up(&mut self, with: NodeId) -> LinkId {
        self.until("LinkUp", |event| match event {
            Event::LinkUp { peer, link, .. } if peer == with => Some(link),
            _ => None,
        })
        .await
    }

    async fn link_down(&mut self, with: NodeId) -> (LinkId, String) {
        self.until("LinkDown", |event| match event {
            Event::LinkDown { peer, link, reason } if peer == with => Some((link, reason)),
            _ => None,
        })
        .await
    }

    async fn dial_failed(&mut self) -> String {
        self.until("DialFailed", |event| match event {
            Event::DialFailed { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    /// Until identify has told where `peer` listens.
    async fn can_dial(&self, peer: NodeId) {
        let known = async {
            while !self.handle.peers().iter().any(|row| row.peer == peer && !row.addresses.is_empty()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, known).await.expect("an address");
    }

    async fn message(&mut self) -> (LinkId, Vec<u8>) {
        self.until("Message", |event| match event {
            Event::Message { link, bytes, .. } => Some((link, bytes)),
            _ => None,
        })
        .await
    }

    /// The events that come until nothing comes for a while.
    async fn drain(&mut self, quiet: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        while let Ok(Some(event)) = timeout(quiet, self.events.recv()).await {
            events.push(event);
        }
        events
    }

    fn socket(&self) -> std::net::SocketAddr {
        let port = self.address.split('/').nth(4).unwrap().parse().unwrap();
        ([127, 0, 0, 1], port).into()
    }
}

fn config(seed: u8) -> Config {
    Config::loopback([seed; 32])
}

fn with_seed(seed: u8, of: &Node) -> Config {
    Config { seeds: vec![of.address.clone()], ..config(seed) }
}

async fn pair() -> (Node, LinkId, Node, LinkId) {
    let mut alice = Node::start(config(1)).await;
    let mut bob = Node::start(with_seed(2, &alice)).await;
    let (up_alice, up_bob) = (alice.link_up(bob.id).await, bob.link_up(alice.id).await);
    (alice, up_alice, bob, up_bob)
}

fn links(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| matches!(event, Event::LinkUp { .. } | Event::LinkDown { .. })).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_messages_arrive_in_order_both_ways() {
    const COUNT: u32 = 10_000;
    let (mut alice, to_bob, mut bob, to_alice) = pair().await;
    let text = |n: u32| [&n.to_le_bytes()[..], &vec![n as u8; (n % 700) as usize]].concat();
    for n in 0..COUNT {
        alice.handle.send(bob.id, to_bob, text(n)).unwrap();
        bob.handle.send(alice.id, to_alice, text(n)).unwrap();
    }
    for n in 0..COUNT {
        assert_eq!(bob.message().await, (to_alice, text(n)));
        assert_eq!(alice.message().await, (to_bob, text(n)));
    }
    let sent = alice.handle.statistics();
    assert_eq!(sent.messages_out, u64::from(COUNT));
    assert!(sent.frames_out < sent.messages_out / 5, "grouped: {sent:?}");
    assert!(sent.compression_paid > 0 && sent.bytes_out < sent.payload_bytes_out / 2, "{sent:?}");
    assert_eq!(bob.handle.statistics().payload_bytes_in, sent.payload_bytes_out);
    let row = &alice.handle.peers()[0];
    assert_eq!((row.peer, row.state, row.link), (bob.id, PeerState::Linked, Some(to_bob)));
    assert_eq!(row.queue_bytes, 0);
    assert_eq!(row.bytes_out, sent.payload_bytes_out - 4 * u64::from(COUNT));
    assert!(alice.events.try_recv().is_err() && bob.events.try_recv().is_err());
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_have_one_link_that_stays() {
    for round in 0..5 {
        let mut alice = Node::start(config(1)).await;
        let mut bob = Node::start(config(2)).await;
        let book = |of: &Node| BTreeMap::from([(of.id, vec![of.address.clone()])]);
        alice.handle.set_book(book(&bob));
        bob.handle.set_book(book(&alice));
        let (a, b) = (alice.link_up(bob.id).await, bob.link_up(alice.id).await);
        let (quiet_a, quiet_b) =
            tokio::join!(alice.drain(Duration::from_millis(600)), bob.drain(Duration::from_millis(600)));
        // A dial that crossed may replace a link that is milliseconds old; after that there is one, the same at both.
        assert!(links(&quiet_a).is_empty(), "round {round}: {quiet_a:?}");
        assert!(links(&quiet_b).is_empty(), "round {round}: {quiet_b:?}");
        alice.handle.send(bob.id, a, vec![1]).unwrap();
        assert_eq!(bob.message().await, (b, vec![1]));
        alice.handle.shutdown().await;
    }
}

#[tokio::test]
async fn blocking_cuts_both_ways_at_once_and_unblocking_heals_within_a_second() {
    for blocker in [0, 1] {
        let (alice, _, bob, _) = pair().await;
        let (mut blocker, mut other) = if blocker == 0 { (alice, bob) } else { (bob, alice) };
        blocker.can_dial(other.id).await;
        other.handle.urgent(true);
        let cut = Instant::now();
        blocker.handle.set_blocked(BTreeSet::from([other.id]));
        let (_, reason) = blocker.link_down(other.id).await;
        other.link_down(blocker.id).await;
        assert!(cut.elapsed() < Duration::from_secs(1), "{:?}", cut.elapsed());
        assert!(reason.contains("blocked"), "{reason}");
        let (one, two) =
            tokio::join!(blocker.drain(Duration::from_millis(1_500)), other.drain(Duration::from_millis(1_500)));
        assert!(links(&one).is_empty() && links(&two).is_empty(), "{one:?} {two:?}");
        assert!(blocker.handle.peers()[0].blocked);
        assert_eq!(blocker.handle.peers()[0].state, PeerState::Idle);
        let healed = Instant::now();
        blocker.handle.set_blocked(BTreeSet::new());
        let (blocker_id, other_id) = (blocker.id, other.id);
        let (a, b) = tokio::join!(blocker.link_up(other_id), other.link_up(blocker_id));
        assert!(healed.elapsed() < Duration::from_secs(1), "{:?}", healed.elapsed());
        blocker.handle.send(other.id, a, vec![7]).unwrap();
        assert_eq!(other.message().await, (b, vec![7]));
    }
}

#[tokio::test]
async fn a_wrong_pre_shared_key_never_links() {
    let mut alice = Node::start(Config { psk: Some([1; 32]), ..config(1) }).await;
    let keys = [Some([2; 32]), None];
    for (n, psk) in keys.into_iter().enumerate() {
        let mut stranger = Node::start(Config { psk, ..with_seed(10 + n as u8, &alice) }).await;
        let reason = stranger.dial_failed().await;
        assert!(reason.contains("pre-shared key"), "{reason}");
        assert!(links(&stranger.drain(Duration::from_millis(300)).await).is_empty());
    }
    let mut friend = Node::start(Config { psk: Some([1; 32]), ..with_seed(3, &alice) }).await;
    friend.link_up(alice.id).await;
    assert_eq!(alice.link_up(friend.id).await, LinkId(1), "the first link there ever was");
    assert!(alice.handle.statistics().refused >= 2);
}

#[tokio::test]
async fn only_the_allowed_get_in() {
    let friend_id = start(config(3)).unwrap().0.local();
    let mut alice = Node::start(Config { allow: Some(BTreeSet::from([friend_id])), ..config(1) }).await;
    let mut stranger = Node::start(with_seed(2, &alice)).await;
    let mut friend = Node::start(with_seed(3, &alice)).await;
    friend.link_up(alice.id).await;
    alice.link_up(friend.id).await;
    let seen = stranger.drain(Duration::from_millis(500)).await;
    assert!(links(&seen).is_empty(), "{seen:?}");
    assert!(alice.handle.peers().iter().all(|row| row.peer == friend_id));
    assert!(alice.handle.statistics().refused >= 1);
}

#[tokio::test]
async fn garbage_on_the_port_harms_nobody() {
    let (mut alice, to_bob, mut bob, to_alice) = pair().await;
    let mut held = Vec::new();
    for n in 0..40u8 {
        let mut socket = tokio::net::TcpStream::connect(alice.socket()).await.unwrap();
        let garbage: Vec<u8> = match n % 4 {
            0 => b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            1 => vec![0xff; 5_000],
            2 => b"\x13/multistream/1.0.0\n\xff\xff\xff\xff".to_vec(),
            _ => Vec::new(),
        };
        let _ = socket.write_all(&garbage).await;
        held.push(socket);
    }
    for mut socket in held.drain(..) {
        let mut answer = [0; 64];
        let _ = timeout(Duration::from_millis(5), socket.read(&mut answer)).await;
    }
    for (n, link) in [(1, to_alice), (2, to_alice)] {
        alice.handle.send(bob.id, to_bob, vec![n]).unwrap();
        assert_eq!(bob.message().await, (link, vec![n]));
    }
    let (one, two) = (alice.drain(Duration::from_millis(100)).await, bob.drain(Duration::from_millis(100)).await);
    assert!(links(&one).is_empty() && links(&two).is_empty(), "{one:?} {two:?}");
}

#[tokio::test]
async fn a_peer_that_restarts_with_its_key_is_linked_again() {
    let (mut alice, _, bob, _) = pair().await;
    let (id, address) = (bob.id, bob.address.clone());
    alice.handle.set_book(BTreeMap::from([(id, vec![address])]));
    let listen = vec![format!("/ip4/127.0.0.1/tcp/{}", bob.socket().port())];
    bob.handle.shutdown().await;
    let (_, reason) = alice.link_down(id).await;
    assert!(reason.contains("the peer closed the link"), "{reason}");
    alice.handle.urgent(true);
    let began = Instant::now();
    // Without seeds: it is Alice who must not forget.
    let mut again = Node::start(Config { listen, ..config(2) }).await;
    assert_eq!(again.id, id);
    let (from_alice, _) = (again.link_up(alice.id).await, alice.link_up(id).await);
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert_eq!(from_alice, LinkId(1));
}

#[tokio::test]
async fn a_crashed_transport_reports_its_links_and_comes_back_on_its_port() {
    let (mut alice, old, mut bob, _) = pair().await;
    alice.handle.crash_for_test();
    let mut order = Vec::new();
    let again = alice
        .until("Restarted, then LinkUp", |event| match event {
            Event::LinkDown { link, .. } => {
                order.push(format!("down {}", link.0));
                None
            }
            Event::Restarted { reason } => {
                assert!(reason.contains("crashed for a test"), "{reason}");
                order.push("restarted".to_owned());
                None
            }
            Event::Listening { address } => {
                order.push(address);
                None
            }
            Event::LinkUp { link, .. } => Some(link),
            _ => None,
        })
        .await;
    assert_eq!(order, [format!("down {}", old.0), "restarted".to_owned(), alice.address.clone()]);
    assert!(again > old);
    assert_eq!(alice.handle.send(bob.id, old, vec![1]), Err(SendError::UnknownLink { peer: bob.id }));
    bob.link_down(alice.id).await;
    let to_alice = bob.link_up(alice.id).await;
    bob.handle.send(alice.id, to_alice, vec![5]).unwrap();
    assert_eq!(alice.message().await, (again, vec![5]));
    assert_eq!(alice.handle.statistics().restarts, 1);
}

/// Bob does not read his events at all. Alice's queue fills up to its bound and no further; the link is closed, and a
/// third node does not notice any of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_receiver_costs_its_bound_and_nobody_else() {
    const QUEUE: usize = 4 << 20;
    const INBOX: usize = 1 << 20;
    let mut alice = config(1);
    alice.limits.queue_bytes_max = QUEUE;
    let mut alice = Node::start(alice).await;
    let mut bob = with_seed(2, &alice);
    bob.limits.inbox_bytes_max = INBOX;
    let mut bob = Node::start(bob).await;
    let mut carol = Node::start(with_seed(3, &alice)).await;
    let (to_alice, mut ups) = (bob.link_up(alice.id).await, BTreeMap::new());
    while ups.len() < 2 {
        alice
            .until("LinkUp", |event| match event {
                Event::LinkUp { peer, link, .. } => ups.insert(peer, link).or(Some(link)),
                _ => None,
            })
            .await;
    }
    carol.link_up(alice.id).await;
    // Noise: it must not shrink away.
    let mut noise = vec![0u8; 60_000];
    for (n, chunk) in noise.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()).to_le_bytes());
    }
    let noise: Arc<[u8]> = noise.into();
    alice.handle.send(bob.id, ups[&bob.id], noise.clone()).unwrap();
    let mut sent = 1;
    let arrived = async {
        while bob.handle.statistics().messages_in == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, arrived).await.expect("the first message");
    let refused = timeout(PATIENCE, async {
        loop {
            match alice.handle.send(bob.id, ups[&bob.id], noise.clone()) {
                Ok(()) => sent += 1,
                Err(refused) => return refused,
            }
            let queued = alice.handle.peers().iter().map(|row| row.queue_bytes).max().unwrap_or_default();
            assert!(queued <= QUEUE);
            tokio::task::yield_now().await;
        }
    });
    let refused = refused.await.expect("the queue is bounded");
    assert!(matches!(refused, SendError::QueueFull { peer, .. } if peer == bob.id), "{refused}");
    // What Bob holds unread: his inbox, and one frame in the reader. The rest is in flight, in windows and sockets.
    let waiting = bob.events.len() * noise.len();
    assert!(waiting <= INBOX + noise.len(), "{waiting}");
    alice.handle.send(carol.id, ups[&carol.id], vec![9]).unwrap();
    assert_eq!(carol.message().await.1, [9]);
    let (link, reason) = alice.link_down(bob.id).await;
    assert_eq!(link, ups[&bob.id]);
    assert!(reason.contains("too slow"), "{reason}");
    // Once Bob reads again: the messages of the old link, its end, and then a new one.
    let mut received = 0;
    let ended = bob
        .until("LinkDown", |event| match event {
            Event::Message { link, .. } => {
                assert_eq!(link, to_alice);
                received += 1;
                None
            }
            Event::LinkDown { link, .. } => Some(link),
            _ => None,
        })
        .await;
    assert_eq!(ended, to_alice);
    assert!(received > 0 && received < sent, "{received} of {sent}");
    bob.link_up(alice.id).await;
    alice.link_up(bob.id).await;
    assert_eq!(alice.handle.statistics().queue_overflows, 1);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_for_too_long_is_dropped() {
    let mut alice = config(1);
    alice.limits.write_stall_max = Duration::from_millis(300);
    let mut alice = Node::start(alice).await;
    let mut bob = with_seed(2, &alice);
    bob.limits.inbox_bytes_max = 1_000;
    let mut bob = Node::start(bob).await;
    let (to_bob, _) = (alice.link_up(bob.id).await, bob.link_up(alice.id).await);
    let message: Arc<[u8]> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for _ in 0..30 {
        alice.handle.send(bob.id, to_bob, message.clone()).unwrap();
    }
    let (_, reason) = alice.link_down(bob.id).await;
    assert!(reason.contains("took no byte"), "{reason}");
    assert_eq!(alice.handle.statistics().write_stalls, 1);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_the_largest_passes() {
    let limit = |seed| {
        let mut config = config(seed);
        config.limits.message_bytes_max = 300_000;
        config
    };
    let mut alice = Node::start(limit(1)).await;
    let mut bob = Node::start(Config { seeds: vec![alice.address.clone()], ..limit(2) }).await;
    let (to_bob, to_alice) = (alice.link_up(bob.id).await, bob.link_up(alice.id).await);
    let refused = alice.handle.send(bob.id, to_bob, vec![0; 300_001]);
    assert_eq!(refused, Err(SendError::TooLarge { bytes: 300_001, max: 300_000 }));
    alice.handle.send(bob.id, to_bob, vec![3; 300_000]).unwrap();
    assert_eq!(bob.message().await, (to_alice, vec![3; 300_000]));
}

/// A peer with larger limits sends what this one does not take.
#[tokio::test]
async fn a_frame_over_the_limit_closes_the_link_and_is_counted() {
    let mut alice = config(1);
    alice.limits.message_bytes_max = 1_000;
    let mut alice = Node::start(alice).await;
    let mut bob = Node::start(with_seed(2, &alice)).await;
    let (_, to_alice) = (alice.link_up(bob.id).await, bob.link_up(alice.id).await);
    bob.handle.send(alice.id, to_alice, vec![1; 900]).unwrap();
    assert_eq!(alice.message().await.1.len(), 900);
    bob.handle.send(alice.id, to_alice, vec![1; 1_100]).unwrap();
    let (_, reason) = alice.link_down(bob.id).await;
    assert!(reason.contains("1100 bytes where at most 1000"), "{reason}");
    assert_eq!(alice.handle.statistics().malformed, 1);
    bob.link_down(alice.id).await;
    // It is let in again, after the backoff: the next one may behave.
    alice.link_up(bob.id).await;
}

#[tokio::test]
async fn shutdown_sends_what_is_queued() {
    let (mut alice, to_bob, mut bob, _) = pair().await;
    for n in 0..2_000u32 {
        alice.handle.send(bob.id, to_bob, n.to_le_bytes().to_vec()).unwrap();
    }
    let began = Instant::now();
    let (_, received) = tokio::join!(alice.handle.clone().shutdown(), async {
        let mut received = 0;
        bob.until("LinkDown", |event| match event {
            Event::Message { .. } => {
                received += 1;
                None
            }
            Event::LinkDown { .. } => Some(()),
            _ => None,
        })
        .await;
        received
    });
    assert_eq!(received, 2_000);
    assert!(began.elapsed() < Duration::from_secs(4));
    let rest = alice.drain(PATIENCE).await;
    assert!(matches!(rest.last(), Some(Event::LinkDown { .. })), "{rest:?}");
    assert!(alice.events.is_closed());
    assert_eq!(alice.handle.send(bob.id, to_bob, vec![1]), Err(SendError::UnknownLink { peer: bob.id }));
}

#[tokio::test]
async fn a_seed_without_an_id_is_found_later_and_found_again() {
    // Not one of those that the system gives to whoever connects: it may be somebody's by the time it is listened on.
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (9_000..10_000).find(is_free).expect("a free port");
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let mut bob = Node::start(Config { seeds: vec![address.clone()], ..config(2) }).await;
    assert!(bob.dial_failed().await.contains("refused"));
    bob.handle.urgent(true);
    let alice = Node::start(Config { listen: vec![address.clone()], ..config(1) }).await;
    bob.link_up(alice.id).await;
    let old = alice.id;
    alice.handle.shutdown().await;
    bob.link_down(old).await;
    // Another node takes the seed's place.
    let other = Node::start(Config { listen: vec![address], ..config(9) }).await;
    bob.link_up(other.id).await;
}

#[tokio::test]
async fn kademlia_finds_the_third_node() {
    let on = |config: Config| Config { kademlia: true, ..config };
    let alice = Node::start(on(config(1))).await;
    let mut bob = Node::start(on(with_seed(2, &alice))).await;
    bob.link_up(alice.id).await;
    let mut carol = Node::start(on(with_seed(3, &alice))).await;
    carol.link_up(alice.id).await;
    carol.link_up(bob.id).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_said_at_once() {
    let taken = Node::start(config(1)).await;
    let taken = taken.address.split("/p2p").next().unwrap().to_owned();
    let cases = [
        (Config { listen: vec!["127.0.0.1:80".into()], ..config(1) }, "is not a multiaddr"),
        (Config { seeds: vec!["seed".into()], ..config(1) }, "is not a multiaddr"),
        (Config { listen: vec![taken], ..config(2) }, "is the port free"),
    ];
    for (config, expected) in cases {
        let error = start(config).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let mut limits = config(1);
    limits.limits.inbox_events_max = 0;
    assert!(matches!(start(limits), Err(Error::Limit { name: "inbox_events_max", .. })));
    assert!(matches!(std::thread::spawn(|| start(config(1)).map(drop)).join(), Ok(Err(Error::NoRuntime))));
}

/// Prints; measures nothing that could fail. `cargo test --lib net::tests::figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    let (mut alice, to_bob, mut bob, to_alice) = pair().await;
    let small: Arc<[u8]> = (0..300u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let mut rounds = Vec::new();
    for _ in 0..3_000 {
        let sent = Instant::now();
        alice.handle.send(bob.id, to_bob, small.clone()).unwrap();
        bob.message().await;
        bob.handle.send(alice.id, to_alice, small.clone()).unwrap();
        alice.message().await;
        rounds.push(sent.elapsed() / 2);
    }
    rounds.sort();
    println!("one way, 300 B: p50 {:?}, p99 {:?}", rounds[1_500], rounds[2_970]);
    for (count, size) in [(200_000usize, 300usize), (20_000, 16_000), (200, 1 << 20)] {
        let message: Arc<[u8]> = (0..size).map(|n| ((n as u32).wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let began = Instant::now();
        let (handle, peer) = (alice.handle.clone(), bob.id);
        let sending = tokio::spawn(async move {
            for _ in 0..count {
                while handle.peers()[0].queue_bytes > 8 << 20 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                handle.send(peer, to_bob, message.clone()).unwrap();
            }
        });
        for _ in 0..count {
            bob.message().await;
        }
        sending.await.unwrap();
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{size} B: {:.0} messages/s, {:.1} MB/s",
            count as f64 / seconds,
            (count * size) as f64 / seconds / 1e6
        );
    }
    println!("{:?}", alice.handle.statistics());
}
