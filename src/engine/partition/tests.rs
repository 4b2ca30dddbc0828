//! Cuts as a few replicas see them.

use serde_json::json;

use super::Observation;
use super::telling::OBSERVATIONS_MAX;
use crate::clock::NodeId;
use crate::document::plan::Edit;
use crate::engine::world::World;

fn told(world: &World, node: usize) -> Vec<Observation> {
    world.replica(node).observations().into_iter().map(|(_, told)| told).collect()
}

/// What a node itself told last.
fn told_by(world: &World, node: usize) -> Observation {
    let id = world.id(node).to_string();
    told(world, node).into_iter().rfind(|told| told.observer == id).unwrap()
}

fn ids(world: &World, nodes: &[usize]) -> Vec<String> {
    let mut ids: Vec<NodeId> = nodes.iter().map(|node| world.id(*node)).collect();
    ids.sort_unstable();
    ids.iter().map(NodeId::to_string).collect()
}

fn lost(told: &Observation) -> Vec<String> {
    told.lost.iter().map(|lost| lost.node.clone()).collect()
}

fn state(value: &str) -> Edit {
    Edit::Set { field: "stage".into(), value: json!(value) }
}

#[test]
fn each_tells_whom_it_lost_and_what_either_side_had_that_the_other_lacked() {
    let mut world = World::new(5);
    for name in ["tasks/1", "tasks/2", "tasks/3", "notes/same"] {
        world.put(0, name, json!({ "stage": "new" }));
    }
    world.settle();
    let (left, right) = ([0, 1], [2, 3, 4]);
    world.partition(&left, &right);
    world.edit(0, "tasks/1", state("left"));
    world.edit(3, "tasks/1", state("right"));
    world.edit(1, "tasks/2", state("left"));
    world.edit(4, "tasks/3", state("right"));
    world.settle();
    assert!(told(&world, 0).is_empty(), "it is not over");
    world.heal();
    world.settle();
    assert!(world.agree());
    assert_eq!(told(&world, 0).len(), 5, "each told once: {:?}", told(&world, 0));
    for node in 0..5 {
        let own = told_by(&world, node);
        let (side, other) = if left.contains(&node) { (&left[..], &right[..]) } else { (&right[..], &left[..]) };
        let beside: Vec<usize> = side.iter().copied().filter(|peer| *peer != node).collect();
        assert_eq!((lost(&own), own.reached, own.away.len()), (ids(&world, other), ids(&world, &beside), 0));
        assert_eq!(own.quorum, right.contains(&node));
        let span_ms = own.until_ms - own.from_ms;
        assert!((8_000..8_500).contains(&span_ms), "{span_ms} ms");
    }
    // Some pair meets first, and sees all of it.
    let seen: Vec<_> = told(&world, 0).into_iter().map(|told| (told.here, told.there, told.both)).collect();
    assert!(seen.contains(&(2, 2, 1)), "{seen:?}");
    let first = told(&world, 0).into_iter().find(|told| told.both == 1).unwrap();
    assert_eq!(
        (first.diverged, first.work_names),
        (vec!["tasks/1".into()], ["tasks/1", "tasks/2", "tasks/3"].map(String::from).into())
    );
    assert_eq!((first.conflicts, first.disputed[0].document.as_str()), (1, "tasks/1"));
    assert_eq!(told(&world, 0), told(&world, 4));
}

#[test]
fn who_was_only_down_was_on_no_side() {
    let mut world = World::new(3);
    world.partition(&[0], &[1, 2]);
    world.put(1, "notes/1", json!({ "n": 1 }));
    world.settle();
    world.restart(0, None);
    world.heal();
    world.settle();
    world.settle();
    assert!(world.agree());
    assert_eq!(told(&world, 1), []);
}

#[test]
fn who_wrote_while_it_was_not_reached_and_then_restarted_was_cut_off() {
    let mut world = World::new(3);
    world.partition(&[0], &[1, 2]);
    world.put(0, "notes/1", json!({ "n": 1 }));
    world.settle();
    world.restart(0, None);
    world.heal();
    world.settle();
    let told = told(&world, 1);
    assert_eq!(told.len(), 2, "the restarted one knows of nothing: {told:?}");
    assert!(told.iter().all(|told| told.lost[0].restarted && told.observer != world.id(0).to_string()));
    assert!(told.iter().any(|told| told.there == 1));
}

#[test]
fn a_link_that_flaps_makes_one_long_cut() {
    let mut world = World::new(2);
    for _ in 0..5 {
        world.partition(&[0], &[1]);
        (0..15).for_each(|_| world.pass(100));
        world.heal();
        (0..5).for_each(|_| {
            world.drain_wires();
            world.pass(100);
        });
    }
    world.settle();
    let told = told(&world, 0);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|told| told.until_ms - told.from_ms > 7_000), "{told:?}");
}

#[test]
fn who_stays_away_holds_nothing_up() {
    let mut world = World::new(4);
    world.partition(&[0], &[1, 2, 3]);
    world.settle();
    world.partition(&[1], &[2, 3]);
    world.settle();
    world.heal_but(&[(0, 1), (0, 2), (0, 3)]);
    world.settle();
    let own = told_by(&world, 1);
    assert_eq!((lost(&own), own.away), (ids(&world, &[2, 3]), ids(&world, &[0])));
}

#[test]
fn the_oldest_of_an_observers_own_goes() {
    let mut world = World::new(2);
    for _ in 0..OBSERVATIONS_MAX + 3 {
        world.partition(&[0], &[1]);
        (0..12).for_each(|_| world.pass(100));
        world.heal();
        (0..26).for_each(|_| {
            world.drain_wires();
            world.pass(100);
        });
    }
    world.settle();
    assert!(world.agree());
    for node in [0, 1] {
        let id = world.id(node).to_string();
        assert_eq!(told(&world, 0).iter().filter(|told| told.observer == id).count(), OBSERVATIONS_MAX);
    }
}
