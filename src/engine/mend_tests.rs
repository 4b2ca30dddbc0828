//! Stories of states that differ where they should not, and of members below the floor.

use serde_json::json;

use super::alarm::Alarm;
use super::io::Event;
use super::message::Mode;
use super::state::State;
use super::world::World;
use crate::clock::NodeId;
use crate::document::cell::{CellRef, EntryRef};
use crate::document::codec::DecodeError;
use crate::document::plan::{Edit, Write};

/// A bit rots: every entry of a cell of `document` is gone, and nothing else knows.
fn lose(state: &mut State, document: &str, field: &str) {
    rot(state, document, field, |_, _| {});
}

/// A bit rots: the cell of `document` holds the value of `other`'s.
fn alter(state: &mut State, document: &str, field: &str, other: &str) {
    let cell = state.document(other).unwrap().cells_of(field).next().unwrap();
    let value = cell.valued().next().unwrap().value.unwrap().to_vec();
    rot(state, document, field, |entry, packed| EntryRef { value: Some(&value), ..entry }.encode_into(packed));
}

fn rot(state: &mut State, document: &str, field: &str, keep: impl Fn(EntryRef<'_>, &mut Vec<u8>)) {
    let cell = state.document(document).unwrap().cells_of(field).next().unwrap();
    let (key, packed) = (cell.key.to_vec(), cell.packed.to_vec());
    let at = state.find(document).unwrap();
    state.change_cell(at, &key, |_, _| {});
    state.change_cell(at, &key, |_, new| {
        CellRef { key: &key, packed: &packed }.entries().for_each(|entry| keep(entry, new));
    });
    state.finish_mend();
}

fn alarms(world: &World, node: usize) -> Vec<&Alarm> {
    world.replica(node).alarms().map(|(_, alarm)| alarm).collect()
}

fn world_of(nodes: usize) -> World {
    let mut world = World::new(nodes);
    for n in 0..50 {
        world.put(n % nodes, &format!("vms/{n}"), json!({"state": n, "cpu": 4}));
    }
    world.settle();
    world
}

#[test]
fn a_loss_in_one_of_three_is_found_within_a_heartbeat_and_taken_back_from_the_others() {
    let mut world = world_of(3);
    lose(&mut world.nodes[1].replica.state, "vms/7", "state");
    assert_eq!(world.get(1, "vms/7"), json!({"cpu": 4}));
    world.pass(400);
    world.drain_wires();
    let told = |alarm: &&Alarm| matches!(alarm, Alarm::Diverged { .. });
    assert!(alarms(&world, 1).iter().any(told), "found within one heartbeat");
    world.settle();
    assert!(world.agree());
    assert_eq!(world.get(1, "vms/7"), json!({"cpu": 4, "state": 7}));
    let by_any = |alarm: &&Alarm| matches!(alarm, Alarm::Mended { added: 1, dropped: 0, by_majority: true, .. });
    assert!(alarms(&world, 1).iter().any(by_any));
    for node in [0, 2] {
        assert!(
            !alarms(&world, node).iter().any(|alarm| matches!(alarm, Alarm::Mended { .. })),
            "it had nothing to mend"
        );
    }
}

#[test]
fn another_value_in_one_of_three_is_replaced_by_the_others() {
    let mut world = world_of(3);
    alter(&mut world.nodes[2].replica.state, "vms/9", "state", "vms/8");
    assert_eq!(world.get(2, "vms/9"), json!({"cpu": 4, "state": 8}));
    world.settle();
    assert!(world.agree());
    assert_eq!(world.get(2, "vms/9"), json!({"cpu": 4, "state": 9}));
}

#[test]
fn between_two_nodes_nobody_knows_and_nothing_is_lost() {
    let mut world = world_of(2);
    lose(&mut world.nodes[0].replica.state, "vms/1", "state");
    lose(&mut world.nodes[1].replica.state, "vms/2", "cpu");
    world.settle();
    assert!(world.agree());
    for node in 0..2 {
        assert_eq!(world.get(node, "vms/1"), json!({"cpu": 4, "state": 1}));
        assert_eq!(world.get(node, "vms/2"), json!({"cpu": 4, "state": 2}));
        let union = |alarm: &&Alarm| matches!(alarm, Alarm::Mended { by_majority: false, .. });
        assert!(alarms(&world, node).iter().any(union));
    }
}

#[test]
fn a_busy_cluster_checks_itself_although_its_clocks_never_agree() {
    let mut world = world_of(3);
    lose(&mut world.nodes[1].replica.state, "vms/7", "state");
    let mut found_ms = None;
    for step in 0..400 {
        // A write is always under way when a heartbeat goes out.
        world.incr(step % 3, "vms/busy", 1);
        world.pass(100);
        for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)] {
            while world.wires.get(&(from, to)).is_some_and(|wire| wire.len() > 1) {
                world.deliver(from, to);
            }
        }
        let told = world.replica(1).alarms().any(|(_, alarm)| matches!(alarm, Alarm::Mended { .. }));
        found_ms = found_ms.or(told.then_some(step * 100));
    }
    assert!(found_ms.is_some_and(|ms| ms <= 35_000), "found after {found_ms:?} ms");
    assert_eq!(world.get(1, "vms/7"), json!({"cpu": 4, "state": 7}));
}

#[test]
fn a_member_below_the_floor_is_sent_what_differs_and_nothing_comes_back() {
    let mut world = World::new(3);
    for n in 0..2_000 {
        world.put(n % 3, &format!("vms/{n}"), json!({"state": n, "cpu": 4, "text": "some words that take their room"}));
    }
    world.settle();
    world.partition(&[2], &[0, 1]);
    world.settle();
    for n in 0..10 {
        world.write(0, &format!("vms/{n}"), Write::Delete);
    }
    world.edit(1, "vms/500", Edit::Set { field: "state".into(), value: json!("changed") });
    world.settle();
    for node in 0..2 {
        let clock = world.replica(node).state().clock.clone();
        world.nodes[node].replica.state.raise_floor(&clock);
        assert_eq!(world.replica(node).state().counts().removal_records, 0);
    }
    world.put(2, "vms/alone", json!({"state": 1}));
    let before = world.sent_bytes;
    world.heal();
    world.drain_wires();
    world.pass(1);
    world.drain_wires();
    let sent = world.sent_bytes - before;
    world.settle();
    assert!(world.agree());
    for n in 0..10 {
        assert_eq!(world.get(2, &format!("vms/{n}")), json!(null));
    }
    let complete = |event: &Event| matches!(event, Event::CaughtUp { complete: true, .. });
    assert!(world.nodes[2].events.iter().any(complete));
    // All 2,000 documents take 300 KB, each of two peers over.
    assert!(sent < 20_000, "{sent} bytes were sent");
}

/// A node that asks another, which answers with its own words from here on.
fn asking(mode: Mode) -> (World, NodeId, u64) {
    let mut world = world_of(2);
    let (peer, now) = (world.id(0), world.now);
    let replica = &mut world.nodes[1].replica;
    replica.want_pull(peer, now);
    let session = replica.puller.current.as_ref().unwrap().session;
    replica.on_sync_start(peer, session, mode, &[], &[], now);
    (world, peer, session)
}

#[test]
fn a_peer_that_answers_with_nothing_for_ever_is_not_heard_out() {
    let (mut world, peer, session) = asking(Mode::Compare);
    let now = world.now;
    let refused = world.nodes[1].replica.on_sync_symbols(peer, session, 0, 0, &[], now);
    assert_eq!(refused, Err(DecodeError::Bounds("the symbols of a block")));

    let (mut world, peer, session) = asking(Mode::Incremental);
    let replica = &mut world.nodes[1].replica;
    let refused = replica.on_sync_chunk(peer, session, (0, false), &[], &[], now);
    assert_eq!(refused, Err(DecodeError::Bounds("the cells of a chunk")));
    assert_eq!(replica.on_sync_chunk(peer, session, (0, true), &[], &[], now), Ok(()), "nothing was missing");
    assert!(replica.puller.current.is_none());
}

#[test]
fn a_peer_that_wants_to_compare_over_and_over_is_put_off() {
    let mut world = world_of(2);
    let (peer, now) = (world.id(1), world.now);
    let ask = |world: &mut World, session| {
        let shards = Some((0..10).collect());
        world.nodes[0].replica.on_sync_request(peer, session, None, shards, &[], now);
        world.nodes[0].replica.server().comparing()
    };
    let served = (1..=60).filter(|session| ask(&mut world, *session) == Some(*session)).count();
    assert!((13..60).contains(&served), "{served} of 60");
}
