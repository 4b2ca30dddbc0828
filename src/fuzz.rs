//! Everything that reads what others wrote, as functions of bytes: for `fuzz/`, and for the corpora there as plain tests.
//!
//! None of them may panic or take more than its input and the engine's bounds. Only in builds with `mutants`.

use std::sync::Arc;

use crate::clock::{ClusterId, Incarnation, NodeId, Slot};
use crate::document::page::Page;
use crate::engine::ballot::StoreId;
use crate::engine::chunk::ChunkReader;
use crate::engine::hooks::Hooks;
use crate::engine::keys::{Ed25519, Keys};
use crate::engine::message::{Hello, Message};
use crate::engine::persist::Tree;
use crate::engine::rows::salvage_outbox;
use crate::engine::{Config, Input, Limits, LinkId, Loaded, Loader, Now, Replica};

/// Slots that a table maps, in the targets that need one.
const TABLE: &[Slot] = &[Slot(0), Slot(1), Slot(2)];

/// One message, and the cells of a chunk.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes, TABLE) {
        // What was understood is said again in the same words, as far as it names its own slots.
        let again = message.encode();
        assert!(Message::decode(&again, TABLE).is_ok(), "{message:?}");
        if let Message::SyncChunk { body, .. } = message {
            ChunkReader::new(body, TABLE).for_each(drop);
        }
    }
    ChunkReader::new(bytes, TABLE).for_each(drop);
}

/// Messages one after another from a member: each is a length of two bytes and the bytes.
pub fn conversation(bytes: &[u8]) {
    let (now, link, cluster) = (Now { wall_ms: 1_700_000_000_000, mono_us: 1_000_000 }, LinkId(1), ClusterId([9; 16]));
    let mut replica = replica(cluster, now);
    let peer = NodeId([7; 32]);
    let hello = Hello {
        replica: crate::clock::ReplicaId { node: peer, incarnation: Incarnation([7; 16]) },
        cluster: Some(cluster),
        name: "other".into(),
        software: String::new(),
        store: StoreId([7; 16]),
        heard: None,
    };
    replica.handle(Input::LinkUp { peer, link }, now);
    replica.handle(Input::Message { peer, link, bytes: Message::Hello(hello).encode() }, now);
    let mut rest = bytes;
    let mut mono_us = now.mono_us;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (message, after) = after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()));
        rest = after;
        mono_us += 100_000;
        let now = Now { mono_us, ..now };
        replica.handle(Input::Message { peer, link, bytes: message.to_vec() }, now);
        replica.handle(Input::Tick, now);
        replica.drain().for_each(drop);
    }
}

fn replica(cluster: ClusterId, now: Now) -> Replica {
    let keys: Arc<dyn Keys> = Arc::new(Ed25519::from_seed(&[1; 32]));
    let config = Config {
        name: "fuzzed".into(),
        incarnation: Incarnation([1; 16]),
        found: Some(cluster),
        joins: false,
        rebuilt: false,
        medium: 0,
        max_clock_skew_ms: 500,
        region: String::new(),
        software: String::new(),
        limits: Limits { parked_batches: 16, parked_bytes: 1 << 16, staged_bytes: 1 << 20, ..Limits::default() },
        hooks: Hooks::default(),
        customs: crate::conflict::Customs::default(),
    };
    let mut replica = Replica::new(config, keys, Loaded::default(), now);
    // It serves once its cluster is on the disk.
    let tickets: Vec<_> = replica
        .drain()
        .filter_map(
            |output| if let crate::engine::Output::Persist { ticket, .. } = output { Some(ticket) } else { None },
        )
        .collect();
    for ticket in tickets {
        replica.handle(Input::Persisted { ticket }, now);
    }
    let _ = replica.announce_self(&[], "", now);
    replica
}

/// Rows of a store: for each a tree, a length of two bytes for the key and one of two for the value, and both.
pub fn store(bytes: &[u8]) {
    let (mut loader, mut meta, mut outbox) = (Loader::default(), Vec::new(), Vec::new());
    for (tree, key, value) in rows(bytes) {
        match tree {
            Tree::Meta => meta.push((key.to_vec(), value.to_vec())),
            Tree::Outbox => outbox.push((key.to_vec(), value.to_vec())),
            _ => {}
        }
        if loader.row(tree, key, value).is_err() {
            break;
        }
    }
    let _ = loader.finish();
    salvage_outbox(&meta, outbox);
}

fn rows(mut rest: &[u8]) -> impl Iterator<Item = (Tree, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let ([tree, k0, k1, v0, v1], after) = rest.split_first_chunk::<5>()?;
        let (key, after) = after.split_at_checked(usize::from(u16::from_le_bytes([*k0, *k1])))?;
        let (value, after) = after.split_at_checked(usize::from(u16::from_le_bytes([*v0, *v1])))?;
        rest = after;
        let tree = [Tree::Meta, Tree::Cells, Tree::Outbox][usize::from(*tree) % 3];
        Some((tree, key, value))
    })
}

/// One page of a document.
pub fn page(bytes: &[u8]) {
    if let Ok(page) = Page::from_bytes(1, bytes.to_vec()) {
        page.cells().flat_map(|cell| cell.entries()).for_each(drop);
    }
}

/// A scenario file.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(scenario) = crate::sim::Scenario::parse(text)
        && scenario.cluster.nodes <= 64
        && scenario.healed_ms() < 60_000
    {
        crate::sim::Plan::new(&scenario, 1);
    }
}

/// The body of a request to the API.
#[cfg(feature = "node")]
pub fn body(bytes: &[u8]) {
    crate::api::read_any_body(bytes);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::document::plan::Write;
    use crate::engine::world::World;

    type Target = fn(&[u8]);

    const TARGETS: &[(&str, Target)] = &[
        ("message", message),
        ("conversation", conversation),
        ("store", store),
        ("page", page),
        ("scenario", scenario),
        #[cfg(feature = "node")]
        ("body", body),
    ];

    fn corpus(target: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
    }

    fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
        let files = fs::read_dir(corpus(target)).unwrap().map(|file| file.unwrap().path());
        let mut seeds: Vec<_> = files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
        seeds.sort();
        seeds
    }

    #[test]
    fn every_corpus_and_what_is_near_it_is_read_without_a_panic() {
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} has no corpus");
            for (_, seed) in &seeds {
                target(seed);
                let mut state = seed.len() as u64 + 1;
                for _ in 0..100 {
                    let mut bytes = seed.clone();
                    for _ in 0..3 {
                        state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
                        let (at, how) = ((state >> 33) as usize % bytes.len().max(1), (state >> 20) as u8);
                        match how % 4 {
                            0 if !bytes.is_empty() => bytes.truncate(at),
                            1 if !bytes.is_empty() => bytes.insert(at, how),
                            _ if !bytes.is_empty() => {
                                let at = at % bytes.len();
                                bytes[at] ^= 1 << (how % 8);
                            }
                            _ => bytes.push(how),
                        }
                    }
                    target(&bytes);
                }
            }
        }
    }

    /// Makes the corpora from what nodes really say and keep: `cargo test -- --ignored corpora_are_made`.
    #[test]
    #[ignore = "writes into fuzz/corpus"]
    fn corpora_are_made() {
        let mut world = World::new(3);
        world.put(0, "vms/1", json!({"state": "on", "labels": ["a", "b"], "cpu": 4, "note": "some words"}));
        world.settle();
        world.partition(&[2], &[0, 1]);
        world.write(0, "vms/1", Write::Delete);
        world.put(1, "vms/2", json!({"state": "off"}));
        world.settle();
        let clock = world.replica(0).state().clock.clone();
        world.nodes[0].replica.state.raise_floor(&clock);
        world.heal();
        world.put(1, "vms/3", json!({"n": 1}));
        let (mut said, mut conversation) = (std::collections::BTreeMap::new(), Vec::new());
        for _ in 0..60 {
            let pairs: Vec<(usize, usize)> = world.wires.keys().copied().collect();
            for pair in pairs {
                while let Some((_, bytes)) = world.wires.get(&pair).and_then(|wire| wire.front()).cloned() {
                    if pair.1 == 2 && bytes.len() < 60_000 {
                        conversation.extend((bytes.len() as u16).to_le_bytes());
                        conversation.extend(&bytes);
                    }
                    said.entry(Message::kind(&bytes)).or_insert(bytes);
                    world.deliver(pair.0, pair.1);
                }
            }
            world.pass(500);
        }
        let keep = |target: &str, name: &str, bytes: &[u8]| {
            fs::create_dir_all(corpus(target)).unwrap();
            fs::write(corpus(target).join(name), bytes).unwrap();
        };
        said.iter().for_each(|(kind, bytes)| keep("message", &kind.replace(' ', "-"), bytes));
        keep("conversation", "catch-up", &conversation);
        let mut rows = Vec::new();
        for ((tree, key), value) in world.disk(0) {
            let number = [Tree::Meta, Tree::Cells, Tree::Outbox].iter().position(|other| *other == tree).unwrap();
            rows.push(number as u8);
            rows.extend((key.len() as u16).to_le_bytes());
            rows.extend((value.len() as u16).to_le_bytes());
            rows.extend(&key);
            rows.extend(&value);
            if tree == Tree::Cells {
                keep("page", &format!("{}", key.len()), &value);
            }
        }
        keep("store", "three-nodes", &rows);
        for name in ["everything-at-once", "split-brain-heals"] {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("simulations/{name}.toml"));
            keep("scenario", name, &fs::read(path).unwrap());
        }
        for (name, body) in [
            (
                "batch",
                json!({"writes": [
                    {"op": "put", "collection": "vms", "id": "a", "fields": {"n": 1}, "if_match": "\"x\""},
                    {"op": "patch", "collection": "vms", "id": "b", "ops": [{"field": "seen", "incr": 2}], "upsert": true},
                    {"op": "delete", "collection": "vms", "id": "c"},
                ]}),
            ),
            (
                "ops",
                json!([{"field": "n", "key": "k", "set": null}, {"field": "t", "splice": {"at": 1, "insert": "x"}}]),
            ),
            ("patch", json!([{"op": "replace", "path": "/a/b", "value": [1, {"c": 2}]}])),
            (
                "schema",
                json!({"fields": {"low": {"type": "min"}, "host": {"type": "contested", "resolver": "manual"}}}),
            ),
        ] {
            keep("body", name, body.to_string().as_bytes());
        }
    }
}
