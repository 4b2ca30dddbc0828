//! Conflicts kept in step with the state, told as stories.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::conflict::Conflict;
use crate::document::plan::{Edit, Write};
use crate::engine::io::Input;
use crate::engine::world::World;

fn set(field: &str, value: Json) -> Edit {
    Edit::Set { field: field.into(), value }
}

/// A policy in force at both nodes.
fn policy(world: &mut World, rules: Json) {
    world.put(0, "policies/p", json!({ "definition": { "rules": rules } }));
    world.settle();
}

/// Both sides of a cut say which state `n` VMs are in; the node that says "running" writes last.
fn contested(world: &mut World, n: usize) {
    let vm = |n: usize| format!("vms/{n}");
    world.partition(&[0], &[1]);
    (0..n).for_each(|n| world.put(0, &vm(n), json!({ "power_state": "stopped" })));
    world.pass(10);
    (0..n).for_each(|n| world.put(1, &vm(n), json!({ "power_state": "running" })));
    world.heal();
    world.settle();
}

fn listed(world: &World, node: usize) -> Vec<Conflict> {
    world.replica(node).conflicts().iter().cloned().collect()
}

#[test]
fn what_a_note_did_to_a_conflict_ends_with_the_note_at_every_node_alike() {
    let mut world = World::new(2);
    let rule = json!({ "name": "r", "resolver": "manual", "escalate": { "to": "freeze", "after_ms": 0 } });
    policy(&mut world, json!([rule]));
    contested(&mut world, 1);
    (0..4).for_each(|_| world.settle());
    let id = world.replica(0).conflicts().of("vms/0")[0].id.clone();
    let frozen = |world: &World| [0, 1].map(|node| world.replica(node).conflicts().of("vms/0")[0].is_frozen());
    assert_eq!(frozen(&world), [true, true]);
    // The note is redirected: it is no escalation any more, and names another document.
    world.edit(1, &format!("conflicts/{id}"), set("document", json!("vms/elsewhere")));
    world.edit(1, &format!("conflicts/{id}"), set("status", json!("void")));
    world.settle();
    assert_eq!(listed(&world, 0), listed(&world, 1));
    world.write(1, &format!("conflicts/{id}"), Write::Delete);
    world.settle();
    // A node that starts anew sees what the state says and nothing else.
    let before = listed(&world, 0);
    world.restart(0, None);
    assert_eq!(listed(&world, 0), before);
}

#[test]
fn what_a_policy_changes_for_many_is_judged_in_portions_and_read_right_at_once() {
    let mut world = World::new(2);
    const MANY: usize = 1_000;
    contested(&mut world, MANY);
    let priority = json!([{ "name": "r", "resolver": "priority", "order": ["stopped"] }]);
    assert_eq!(world.get(0, "vms/7"), json!({ "power_state": "running" }));
    let Json::Object(definition) = json!({ "definition": { "rules": priority } }) else { unreachable!() };
    let (address, now) = (crate::document::Address::parse("policies/p").unwrap(), world.now);
    let replica = &mut world.nodes[0].replica;
    replica.write(&[(address, Write::Put(definition))], false, now).unwrap();
    assert!(replica.conflicts().is_behind(), "no input waits for a thousand documents");
    let by_policy = |replica: &crate::engine::Replica| {
        replica.conflicts().within().filter(|conflict| conflict.policy.is_some()).count()
    };
    assert!(by_policy(replica) <= replica.config().limits.judged_at_once);
    for n in [0, 7, MANY - 1] {
        let view = replica.view(&format!("vms/{n}")).unwrap();
        assert_eq!(view.fields["power_state"], "stopped", "vms/{n} is settled by the policy, judged or not");
    }
    let ticks = (0..).take_while(|_| {
        replica.handle(Input::Tick, now);
        replica.conflicts().is_behind()
    });
    assert!(ticks.count() >= 2);
    assert_eq!(by_policy(replica), MANY);
}

#[test]
fn a_document_that_changes_while_it_waits_is_listed_as_it_is() {
    let mut world = World::new(2);
    contested(&mut world, 600);
    policy(&mut world, json!([{ "name": "r", "resolver": "manual" }]));
    world.edit(0, "vms/599", set("power_state", json!("paused")));
    world.settle();
    assert!(world.replica(1).conflicts().of("vms/599").is_empty(), "the write is over both siblings");
    assert_eq!(listed(&world, 0), listed(&world, 1));
    assert_eq!(listed(&world, 0).len(), 599);
}

#[test]
fn a_conflict_is_found_by_its_id_as_long_as_it_is_listed() {
    let mut world = World::new(2);
    contested(&mut world, 3);
    let conflicts = world.replica(0).conflicts();
    let ids: Vec<String> = conflicts.above(None).map(|conflict| conflict.id.clone()).collect();
    assert!(ids.len() == 3 && ids.is_sorted());
    assert_eq!(conflicts.above(Some(&ids[0])).count(), 2);
    let [first]: &[Arc<Conflict>] = conflicts.of("vms/0") else { panic!("one conflict") };
    assert_eq!(conflicts.get(&first.id), Some(&**first));
    let id = first.id.clone();
    world.edit(0, "vms/0", set("power_state", json!("running")));
    world.settle();
    assert_eq!(world.replica(0).conflicts().get(&id), None);
    assert_eq!(world.replica(0).conflicts().above(None).count(), 2);
}

#[test]
fn siblings_that_a_schema_hid_are_listed_when_it_goes() {
    let mut world = World::new(3);
    world.put(0, "k/1", json!({ "f": 0, "o": 1 }));
    world.settle();
    let lww = json!({ "definition": { "fields": { "f": { "type": "lww" } } } });
    world.partition(&[0], &[1, 2]);
    world.partition(&[1], &[2]);
    world.put(0, "schemas/k", lww);
    world.edit(0, "k/1", set("f", json!(10)));
    world.pass(10);
    world.edit(1, "k/1", set("f", json!(11)));
    world.edit(2, "k/1", set("f", json!(12)));
    world.heal();
    world.settle();
    assert!((0..3).all(|node| listed(&world, node).is_empty()));
    world.write(0, "schemas/k", Write::Delete);
    world.settle();
    assert_eq!(world.get(0, "k/1")["f"], 12, "without a schema the newest type shows");
    assert_eq!(listed(&world, 0).len(), 1);
    assert!((1..3).all(|node| listed(&world, node) == listed(&world, 0)));
}
