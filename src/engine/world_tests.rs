//! Stories told to a few replicas at once.

use proptest::prelude::*;
use serde_json::json;

use super::alarm::Alarm;
use super::io::Event;
use super::message::Refusal;
use super::persist::Tree;
use super::rows::{Loaded, salvage_outbox};
use super::world::{World, load};
use crate::document::plan::{Edit, Write};

fn set(value: i64) -> Edit {
    Edit::Set { field: "state".into(), value: json!(value) }
}

#[test]
fn a_write_reaches_every_node_and_reads_alike() {
    let mut world = World::new(3);
    world.put(0, "vms/1", json!({"state": "on", "labels": ["a", "b"], "cpu": 4}));
    world.settle();
    for node in 0..3 {
        assert_eq!(world.get(node, "vms/1"), json!({"cpu": 4, "labels": ["a", "b"], "state": "on"}));
    }
    assert!(world.agree());
}

#[test]
fn a_newcomer_under_a_taken_name_is_refused_before_it_is_a_member() {
    let mut world = World::new(2);
    let twin = world.join_as("n1");
    world.settle();
    let refused = |event: &Event| matches!(event, Event::Refused { refusal: Refusal::NameTaken { .. }, .. });
    assert!(world.nodes[twin].events.iter().any(refused));
    assert_eq!(world.replica(twin).cluster(), None);
    assert_eq!(world.replica(0).members().iter().count(), 2);
}

#[test]
fn both_sides_of_a_partition_go_on_and_heal_exactly() {
    let mut world = World::new(5);
    world.put(0, "vms/1", json!({"state": 0}));
    world.settle();
    world.partition(&[0, 1], &[2, 3, 4]);
    for n in 0..20 {
        world.incr(0, "vms/c", 1);
        world.incr(3, "vms/c", 10);
        world.put(1, &format!("vms/left-{n}"), json!({"n": n}));
        world.put(4, &format!("vms/right-{n}"), json!({"n": n}));
    }
    world.edit(0, "vms/1", set(1));
    world.edit(2, "vms/1", set(2));
    world.settle();
    assert_eq!(world.replica(0).unreachable().len(), 3);
    assert_eq!(world.replica(4).unreachable().len(), 2);
    assert!(!world.agree());
    world.heal();
    world.settle();
    assert!(world.agree());
    assert_eq!(world.get(4, "vms/c"), json!({"n": 220}));
    assert_eq!(world.get(0, "vms/right-19"), json!({"n": 19}));
    assert_eq!(world.replica(3).view("vms/1").unwrap().siblings["state"].len(), 2);
    assert!(world.replica(0).unreachable().is_empty());
}

#[test]
fn a_document_overwritten_many_times_travels_once() {
    let mut world = World::new(2);
    world.partition(&[0], &[1]);
    for n in 0..5_000 {
        world.edit(0, "workers/w", Edit::Set { field: "beat".into(), value: json!(n) });
    }
    world.settle();
    world.heal();
    let before = world.sent_bytes;
    world.settle();
    assert!(world.agree());
    let heartbeats = 2 * 25 * 64;
    assert!(world.sent_bytes - before < 2_500 + heartbeats, "{} bytes", world.sent_bytes - before);
}

#[test]
fn a_removed_document_does_not_come_back_from_a_member_that_was_away() {
    let mut world = World::new(3);
    world.put(0, "vms/1", json!({"state": 0, "labels": ["x"]}));
    world.settle();
    world.partition(&[2], &[0, 1]);
    world.write(0, "vms/1", Write::Delete);
    world.settle();
    // Push the floor past the removal while node 2 is away, as a full bound would.
    for node in 0..2 {
        let clock = world.replica(node).state().clock.clone();
        world.nodes[node].replica.state.raise_floor(&clock);
        assert_eq!(world.replica(node).state().counts().removal_records, 0);
    }
    world.put(2, "vms/2", json!({"state": 1}));
    world.heal();
    world.settle();
    assert!(world.agree());
    assert_eq!(world.get(2, "vms/1"), json!(null));
    assert_eq!(world.get(0, "vms/2"), json!({"state": 1}));
    let complete = |event: &Event| matches!(event, Event::CaughtUp { complete: true, .. });
    assert!(world.nodes[2].events.iter().any(complete), "below the floor the full path is taken");
}

#[test]
fn removal_records_go_once_every_member_has_them() {
    let mut world = World::new(3);
    world.put(0, "vms/1", json!({"state": 0}));
    world.settle();
    world.partition(&[2], &[0, 1]);
    world.write(0, "vms/1", Write::Delete);
    world.settle();
    assert!(world.replica(0).state().counts().removal_records > 0, "node 2 has not seen the removal");
    world.heal();
    world.settle();
    world.settle();
    for node in 0..3 {
        assert_eq!(world.replica(node).state().counts().removal_records, 0, "node {node}");
    }
    assert!(world.agree());
}

#[test]
fn a_restored_disk_reuses_no_dot_and_is_noticed() {
    let mut world = World::new(3);
    world.incr(1, "vms/c", 1);
    world.settle();
    let old = world.disk(1);
    world.incr(1, "vms/c", 1);
    world.settle();
    world.restart(1, Some(old));
    world.incr(1, "vms/c", 1);
    world.settle();
    assert!(world.agree());
    assert_eq!(world.get(0, "vms/c"), json!({"n": 3}));
    let rolled_back = |event: &Event| matches!(event, Event::Alarm(Alarm::RolledBack { .. }));
    assert_eq!(world.nodes[1].events.iter().filter(|e| rolled_back(e)).count(), 1);
}

#[test]
fn a_crash_loses_only_what_was_not_durable() {
    let mut world = World::new(1);
    world.slow_disks = true;
    world.put(0, "vms/1", json!({"a": 1}));
    world.sync(0);
    world.put(0, "vms/2", json!({"a": 1}));
    world.restart(0, None);
    assert_eq!(world.get(0, "vms/1"), json!({"a": 1}));
    assert_eq!(world.get(0, "vms/2"), json!(null));
}

#[test]
fn own_writes_that_nobody_else_has_survive_a_damaged_store() {
    let mut world = World::new(3);
    world.put(1, "vms/1", json!({"a": 1}));
    world.settle();
    world.partition(&[1], &[0, 2]);
    world.put(1, "vms/2", json!({"a": 2}));
    world.incr(1, "vms/1", 5);
    world.put(0, "vms/3", json!({"a": 3}));
    world.settle();
    let disk = world.disk(1);
    let rows = |tree| {
        disk.iter().filter(move |((of, _), _)| *of == tree).map(|((_, key), value)| (key.clone(), value.clone()))
    };
    let salvaged = salvage_outbox(&rows(Tree::Meta).collect::<Vec<_>>(), rows(Tree::Outbox).collect());
    world.damaged = Some(Loaded { cluster: world.replica(0).cluster(), salvaged, ..Loaded::default() });
    world.cut.clear();
    world.restart(1, Some(Default::default()));
    world.heal();
    world.settle();
    assert!(world.agree());
    for node in 0..3 {
        assert_eq!(world.get(node, "vms/2"), json!({"a": 2}), "node {node}");
        assert_eq!(world.get(node, "vms/1"), json!({"a": 1, "n": 5}), "node {node}");
        assert_eq!(world.get(node, "vms/3"), json!({"a": 3}), "node {node}");
    }
}

#[test]
fn the_outbox_of_earlier_starts_goes_once_every_member_has_it() {
    let mut world = World::new(2);
    world.partition(&[0], &[1]);
    world.put(0, "vms/1", json!({"a": 1}));
    world.settle();
    world.restart(0, None);
    let outbox = |world: &World| world.disk(0).keys().filter(|(tree, _)| *tree == Tree::Outbox).count();
    assert!(outbox(&world) > 0);
    world.heal();
    world.settle();
    world.settle();
    assert_eq!(outbox(&world), 0);
}

#[test]
fn a_missing_or_altered_row_is_found_at_the_next_start() {
    let mut world = World::new(1);
    for n in 0..50 {
        world.put(0, &format!("vms/{n}"), json!({"a": n}));
    }
    let disk = world.disk(0);
    assert!(load(&disk).is_ok());
    for key in disk.keys().filter(|(tree, _)| matches!(tree, Tree::Cells)) {
        let mut damaged = disk.clone();
        damaged.remove(key);
        assert!(load(&damaged).is_err(), "a missing page went unnoticed");
    }
}

#[test]
fn equal_nodes_are_silent_but_for_heartbeats() {
    let mut world = World::new(2);
    for n in 0..100 {
        world.put(0, &format!("vms/{n}"), json!({"a": n}));
    }
    world.settle();
    let pulls = world.replica(0).tally().pulls + world.replica(1).tally().pulls;
    world.partition(&[0], &[1]);
    world.settle();
    let before = world.sent_bytes;
    world.heal();
    world.settle();
    assert_eq!(world.replica(0).tally().pulls + world.replica(1).tally().pulls, pulls, "nothing differs");
    // Each says hello once, with the store of its acceptor and what it heard of the other: 57 bytes of it.
    let bound = 600 + 2 * 57 + 2 * 25 * 48;
    assert!(world.sent_bytes - before < bound, "{}", world.sent_bytes - before);
}

/// One random step of a story.
#[derive(Clone, Debug)]
enum Step {
    Write { node: usize, key: u8, what: u8 },
    Deliver { from: usize, to: usize, count: usize },
    Cut { node: usize },
    Heal,
    Pass { ms: u64 },
    Sync { node: usize },
    Crash { node: usize },
    Collect { node: usize },
}

fn step(nodes: usize) -> impl Strategy<Value = Step> {
    let node = 0..nodes;
    prop_oneof![
        8 => (node.clone(), 0u8..6, 0u8..8).prop_map(|(node, key, what)| Step::Write { node, key, what }),
        8 => (node.clone(), node.clone(), 1usize..12).prop_map(|(from, to, count)| Step::Deliver { from, to, count }),
        1 => node.clone().prop_map(|node| Step::Cut { node }),
        1 => Just(Step::Heal),
        3 => (1u64..700).prop_map(|ms| Step::Pass { ms }),
        3 => node.clone().prop_map(|node| Step::Sync { node }),
        1 => node.clone().prop_map(|node| Step::Crash { node }),
        1 => node.prop_map(|node| Step::Collect { node }),
    ]
}

fn act(world: &mut World, step: Step) {
    match step {
        Step::Write { node, key, what } => {
            let document = format!("vms/{key}");
            match what {
                0 => world.put(node, &document, json!({"state": key, "tags": ["a"]})),
                1 if world.replica(node).state().is_visible(&document) => world.write(node, &document, Write::Delete),
                2 | 3 => world.incr(node, &document, i64::from(key) + 1),
                4 => world.edit(node, &document, Edit::Add { field: "tags".into(), value: json!(node) }),
                5 => world.edit(node, &document, Edit::Remove { field: "tags".into(), value: json!("a") }),
                _ => world.edit(node, &document, set(i64::from(what))),
            }
        }
        Step::Deliver { from, to, count } => {
            (0..count).take_while(|_| world.deliver(from, to)).for_each(|_| ());
        }
        Step::Cut { node } => {
            let others: Vec<_> = (0..world.nodes.len()).filter(|other| *other != node).collect();
            world.partition(&[node], &others);
        }
        Step::Heal => world.heal(),
        Step::Pass { ms } => world.pass(ms),
        Step::Sync { node } => world.sync(node),
        Step::Crash { node } => world.restart(node, None),
        Step::Collect { node } => {
            let durable = world.replica(node).durable().clone();
            world.nodes[node].replica.state.raise_floor(&durable);
        }
    }
}

proptest! {
    /// Whatever was written, cut, crashed and collected: once healed, all nodes hold the same, and equal clocks meant
    /// equal states all along. What a disk holds reads back to the digest it was written with.
    #[test]
    fn whatever_happens_nodes_with_equal_clocks_hold_equal_states(steps in prop::collection::vec(step(4), 1..160)) {
        let mut world = World::new(4);
        world.slow_disks = true;
        for step in steps {
            act(&mut world, step);
            for a in 0..4 {
                for b in 0..a {
                    let (a, b) = (world.replica(a).digests(), world.replica(b).digests());
                    prop_assert!(a.clock != b.clock || a.state == b.state, "equal clocks, different states");
                }
            }
        }
        world.heal();
        world.settle();
        prop_assert!(world.agree(), "not equal after the heal");
        for node in 0..4 {
            world.sync(node);
            let loaded = load(&world.disk(node));
            prop_assert!(loaded.is_ok(), "{:?}", loaded.err());
            prop_assert_eq!(loaded.unwrap().state.digest(), world.replica(node).digests().state);
            let alarmed = world.nodes[node].events.iter().any(|e| matches!(e, Event::Alarm(Alarm::Diverged { .. } | Alarm::Forked { .. })));
            prop_assert!(!alarmed, "a false alarm");
        }
    }
}
