//! Garbage on every port: it is counted, it costs its sender the connection, and nothing else.

use std::time::Duration;

use folkmoot::clock::{ClusterId, Incarnation, NodeId, ReplicaId};
use folkmoot::engine::ballot::StoreId;
use folkmoot::engine::message::{Hello, Message};
use folkmoot::net;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::harness::{Cluster, HTTP_TIMEOUT, until};

const FRAMES: usize = 10_000;
const REQUESTS: usize = 1_000;
/// Far below what ten thousand frames of up to 16 KiB would hold, far above an allocator's moods.
const GROWTH_BYTES_MAX: u64 = 96 << 20;
const SEED: u64 = 0xf01d;

/// What must still be true of a cluster of two whose first node was attacked.
async fn unharmed(cluster: &Cluster, memory_before: u64) {
    let node = &cluster[0];
    let grown = node.memory_bytes().saturating_sub(memory_before);
    eprintln!("memory: {} KiB before, {} KiB more after", memory_before >> 10, grown >> 10);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more");
    let words = node.stderr();
    assert!(!words.contains("panicked"), "{words}");
    assert_eq!(node.http.metric("folkmoot_net_restarts_total").await, 0.0, "the transport died");
    cluster.all_joined().await;
    node.http.put("vms/after", json!({ "n": 1 })).await.ok();
    cluster.agree().await;
    assert_eq!(cluster[1].http.fields("vms/after").await, json!({ "n": 1 }));
    assert_eq!(node.http.cluster().await["alerts"], json!([]));
}

fn noise(dice: &mut StdRng, bytes_max: usize) -> Vec<u8> {
    let length = dice.random_range(1..=bytes_max);
    (0..length).map(|_| dice.random()).collect()
}

#[tokio::test]
async fn ten_thousand_frames_of_garbage_on_the_peer_port_harm_nothing() {
    let cluster = Cluster::start(2).await;
    let memory = cluster[0].memory_bytes();
    let address = ("127.0.0.1", cluster[0].peer_port());
    let attackers = (0..8).map(|attacker| async move {
        let mut dice = StdRng::seed_from_u64(SEED + attacker);
        let mut sent = 0;
        while sent < FRAMES / 8 {
            // A connection refused because the node has enough of them counts as a frame, too: it must not be retried
            // for ever.
            let Ok(mut stream) = TcpStream::connect(address).await else { panic!("nobody listens after {sent}") };
            sent += attack(&mut stream, &mut dice, FRAMES / 8 - sent).await.max(1);
        }
    });
    timeout(Duration::from_secs(60), join_all(attackers)).await.expect("the node does not hang up on garbage");
    until("the garbage was counted", HTTP_TIMEOUT, async || {
        let refused = cluster[0].http.metric("folkmoot_net_refused_total").await;
        if refused >= 8.0 { Ok(()) } else { Err(format!("{refused} refused")) }
    })
    .await;
    unharmed(&cluster, memory).await;
}

/// Up to fifty frames on one connection, some behind a true greeting of the protocol. Gives how many went out.
async fn attack(stream: &mut TcpStream, dice: &mut StdRng, left: usize) -> usize {
    let frames = left.min(dice.random_range(1..=50));
    let greeting: &[u8] = match dice.random_range(0..4) {
        0 => b"\x13/multistream/1.0.0\n",
        1 => b"\x13/multistream/1.0.0\n\x07/noise\n",
        2 => b"\x13/multistream",
        _ => b"",
    };
    if stream.write_all(greeting).await.is_err() {
        return 0;
    }
    for sent in 0..frames {
        let frame = match dice.random_range(0..3) {
            // A length that promises more than will come.
            0 => [&[0xff, 0xff], noise(dice, 64).as_slice()].concat(),
            1 => noise(dice, 4096),
            _ => noise(dice, 16),
        };
        if stream.write_all(&frame).await.is_err() {
            return sent;
        }
    }
    frames
}

#[tokio::test]
async fn a_peer_that_speaks_garbage_inside_its_link_loses_it_and_is_counted() {
    let cluster = Cluster::start(2).await;
    let memory = cluster[0].memory_bytes();
    let id = cluster[0].http.cluster().await["cluster_id"].as_str().unwrap().to_owned();
    let id = ClusterId(u128::from_str_radix(&id, 16).unwrap().to_be_bytes());
    let target: NodeId = cluster[0].id().parse().unwrap();
    let liars = (0..10).map(|n| liar(n, id, target, cluster[0].address().to_owned()));
    let links: usize = timeout(Duration::from_secs(90), join_all(liars)).await.expect("in time").into_iter().sum();
    let malformed = cluster[0].http.metric("folkmoot_messages_malformed_total").await;
    eprintln!("{links} links, {malformed} malformed messages taken in before they were cut");
    assert!(malformed >= links as f64, "{malformed} malformed on {links} links");
    assert_eq!(cluster[0].http.cluster().await["members"].as_array().unwrap().len(), 2, "a liar is no member");
    unharmed(&cluster, memory).await;
}

/// Sends its share of the frames over as many links as that takes; gives how many links it lost for it.
async fn liar(n: u8, cluster: ClusterId, target: NodeId, address: String) -> usize {
    let mut dice = StdRng::seed_from_u64(SEED + u64::from(n));
    let (mut sent, mut links) = (0, 0);
    let mut config = net::Config { seeds: vec![address], ..net::Config::loopback([n + 1; 32]) };
    config.limits.backoff_ms_min = 10;
    config.limits.backoff_ms_max = 20;
    let (handle, mut events) = net::start(config).unwrap();
    let replica = ReplicaId { node: handle.local(), incarnation: Incarnation([n; 16]) };
    let (name, software) = (format!("liar-{n}"), "garbage/1".to_owned());
    let (cluster, store) = (Some(cluster), StoreId([5; 16]));
    let hello = Message::Hello(Hello { replica, cluster, name, software, store, heard: None }).encode();
    while sent < FRAMES / 10 {
        let link = link_up(&mut events, target).await;
        // Known well enough to be listened to, and then nothing but lies: some of what it said, cut short.
        let _ = handle.send(target, link, hello.clone());
        let heard = message(&mut events, link).await;
        for _ in 0..100 {
            let lie = match dice.random_range(0..3) {
                0 => noise(&mut dice, 256),
                1 => hello[..dice.random_range(0..hello.len())].to_vec(),
                _ => heard[..dice.random_range(0..heard.len().max(1))].to_vec(),
            };
            sent += usize::from(handle.send(target, link, lie).is_ok());
        }
        link_down(&mut events, link).await;
        links += 1;
    }
    handle.shutdown().await;
    links
}

async fn link_up(events: &mut Receiver<net::Event>, target: NodeId) -> net::LinkId {
    loop {
        match events.recv().await.expect("the transport runs") {
            net::Event::LinkUp { peer, link, .. } if peer == target => return link,
            _ => {}
        }
    }
}

/// The first message of a link, or nothing when it went down before.
async fn message(events: &mut Receiver<net::Event>, of: net::LinkId) -> Vec<u8> {
    loop {
        match events.recv().await.expect("the transport runs") {
            net::Event::Message { link, bytes, .. } if link == of => return bytes,
            net::Event::LinkDown { link, .. } if link == of => panic!("hung up on a true hello"),
            _ => {}
        }
    }
}

async fn link_down(events: &mut Receiver<net::Event>, of: net::LinkId) {
    loop {
        match events.recv().await.expect("the transport runs") {
            net::Event::LinkDown { link, .. } if link == of => return,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_thousand_malformed_requests_are_refused_and_counted() {
    let cluster = Cluster::start(2).await;
    let memory = cluster[0].memory_bytes();
    let documents = cluster[0].http.cluster().await["documents"].clone();
    let address = cluster[0].ready.api.trim_start_matches("http://").to_owned();
    let mut dice = StdRng::seed_from_u64(SEED);
    let (mut refused, mut hung_up) = (0, 0);
    for n in 0..REQUESTS {
        let request = malformed_request(n, &mut dice, &address);
        match answer_to(&address, &request).await {
            None => hung_up += 1,
            Some(status) if (400..500).contains(&status) => refused += 1,
            Some(status) => panic!("{status} for {:?}", String::from_utf8_lossy(&request)),
        }
    }
    let counted = cluster[0].http.metric_where("folkmoot_http_requests_total", "status=\"4").await;
    eprintln!("{refused} refused, {hung_up} hung up on; {counted} counted");
    // What is no HTTP at all is answered before it is a request; the rest is counted.
    assert!(refused >= REQUESTS * 3 / 5 && counted >= REQUESTS as f64 / 2.0, "{refused} refused, {counted} counted");
    assert_eq!(cluster[0].http.cluster().await["documents"], documents, "nothing was written");
    unharmed(&cluster, memory).await;
}

/// One of many ways to be wrong. None of them may write.
fn malformed_request(n: usize, dice: &mut StdRng, host: &str) -> Vec<u8> {
    let json = |method: &str, path: &str, host: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let cut = dice.random_range(1..30);
    match n % 12 {
        0 => [noise(dice, 400).as_slice(), b"\r\n\r\n"].concat(),
        1 => json("PUT", "/v1/docs/vms/x", host, &br#"{"power_state":"running","n":12345}"#[..cut]),
        2 => json("PUT", "/v1/docs/Vms/x", host, b"{}"),
        3 => json("PUT", "/v1/docs/vms/x%00y", host, b"{}"),
        4 => json("PUT", &format!("/v1/docs/vms/{}", "x".repeat(513)), host, b"{}"),
        5 => json("PUT", "/v1/docs/vms/x?durability=sometimes", host, b"{}"),
        6 => json("PUT", "/v1/docs/vms/x", "evil.example", b"{}"),
        7 => json("POST", "/v1/batch", host, br#"{"writes":[{"op":"put","collection":"vms"}]}"#),
        8 => json("PUT", "/v1/docs/vms/x", host, &noise(dice, 300)),
        9 => json("BREW", "/v1/docs/vms/x", host, b"{}"),
        10 => json("PUT", "/v1/docs/vms/x", host, &[b"[".repeat(5_000), b"]".repeat(5_000)].concat()),
        _ => json("GET", &format!("/v1/docs/vms?limit={}", n * 1_000), host, b""),
    }
}

/// The status of the answer; `None` when the connection ended without one.
async fn answer_to(address: &str, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may hang up while we still speak.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = timeout(HTTP_TIMEOUT, stream.read_to_end(&mut answer)).await.expect("it hangs up or answers");
    let line = String::from_utf8_lossy(answer.get(..answer.len().min(64))?).into_owned();
    line.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()
}
