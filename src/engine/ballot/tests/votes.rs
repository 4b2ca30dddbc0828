//! Conflicts that voters settle, told as stories.

use serde_json::{Value as Json, json};

use crate::document::{Edit, Write};
use crate::engine::world::World;

/// Three nodes, with a field whose conflicts are voted on; `more` of its declaration.
fn world(more: Json) -> World {
    let mut world = World::new(3);
    let mut field = json!({ "type": "contested", "resolver": "vote" });
    field.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.put(0, "schemas/things", json!({ "definition": { "fields": { "f": field } } }));
    world.put(0, "things/1", json!({ "f": 0 }));
    world.settle();
    world
}

/// Two sides write at once, and meet again.
fn dispute(world: &mut World) {
    world.partition(&[0], &[1, 2]);
    world.edit(0, "things/1", Edit::Set { field: "f".into(), value: json!(9) });
    world.pass(10);
    world.edit(1, "things/1", Edit::Set { field: "f".into(), value: json!(4) });
}

fn id(world: &World, node: usize) -> Option<String> {
    world.replica(node).conflicts().of("things/1").first().map(|conflict| conflict.id.clone())
}

fn until_settled(world: &mut World) {
    for _ in 0..100 {
        if (0..3).all(|node| id(world, node).is_none()) {
            return world.settle();
        }
        world.drain_wires();
        world.pass(50);
    }
    panic!("nobody settled it");
}

#[test]
fn voters_settle_a_conflict_once_and_note_what_they_settled() {
    for (more, wanted) in [(json!({}), 4), (json!({ "fallback": ["max"] }), 9)] {
        let mut world = world(more);
        dispute(&mut world);
        world.heal();
        world.drain_wires();
        let id = id(&world, 2).expect("listed");
        until_settled(&mut world);
        assert!((0..3).all(|node| world.get(node, "things/1")["f"] == wanted), "{}", world.get(0, "things/1"));
        let note = world.get(1, &format!("conflicts/{id}"));
        assert_eq!(
            (&note["status"], &note["by"], &note["value"]),
            (&json!("resolved"), &json!("vote"), &json!(wanted))
        );
        let outcome = world.replica(0).ballots().acceptor().get(&format!("guard/conflicts/{id}"));
        assert!(outcome.is_some_and(|held| held.accepted.is_some()), "a quorum decided it");
    }
}

#[test]
fn without_a_quorum_a_conflict_waits_and_the_last_writer_is_shown() {
    let mut world = world(json!({ "fallback": ["max"] }));
    dispute(&mut world);
    world.heal();
    world.drain_wires();
    assert!(id(&world, 0).is_some());
    world.partition(&[0], &[1]);
    world.partition(&[0, 1], &[2]);
    for _ in 0..50 {
        world.drain_wires();
        world.pass(100);
    }
    assert!((0..3).all(|node| id(&world, node).is_some() && world.get(node, "things/1")["f"] == 4));
    let status = world.replica(0).conflicts().of("things/1")[0].status;
    assert_eq!(status.name(), "no_quorum");
    world.heal();
    until_settled(&mut world);
    assert_eq!(world.get(0, "things/1")["f"], 9);
}

#[test]
fn a_vote_on_a_conflict_that_is_over_writes_nothing() {
    let mut world = world(json!({}));
    dispute(&mut world);
    world.heal();
    world.drain_wires();
    world.write(2, "things/1", Write::Edits(vec![Edit::Set { field: "f".into(), value: json!(7) }]));
    until_settled(&mut world);
    assert_eq!(world.get(0, "things/1")["f"], 7);
}
