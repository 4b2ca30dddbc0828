//! The audit of a few replicas, told as stories.

use serde_json::{Value as Json, json};

use crate::document::plan::{Edit, Write};
use crate::engine::persist::Tree;
use crate::engine::world::World;
use crate::history::audit::retention::Retention;
use crate::history::audit::{Kind, Query, Record};

pub(super) fn records(world: &World, node: usize, kinds: &[Kind]) -> Vec<Record> {
    let query = Query { kinds: kinds.to_vec(), ..Query::default() };
    world.replica(node).audit().page(&world.id(node), &query).unwrap().records
}

pub(super) fn set(field: &str, value: Json) -> Edit {
    Edit::Set { field: field.into(), value }
}

/// Both sides of a cut say where the VM is; only a person can tell.
fn contested(world: &mut World) {
    let manual = json!({ "type": "contested", "resolver": "manual" });
    world.put(0, "schemas/vms", json!({ "definition": { "fields": { "host": manual } } }));
    world.put(0, "vms/1", json!({ "host": "h0" }));
    world.settle();
    world.partition(&[0], &[1]);
    world.edit(0, "vms/1", set("host", json!("h1")));
    world.edit(1, "vms/1", set("host", json!("h2")));
    world.heal();
    world.settle();
}

fn decide(world: &mut World, node: usize, status: &str) {
    let id = world.replica(node).conflicts().of("vms/1").first().map_or("c".to_owned(), |c| c.id.clone());
    let decision = json!({
        "status": status, "by": "alice", "reopened_by": "bob", "document": "vms/1", "field": "host", "value": "h1",
    });
    let Json::Object(decision) = decision else { unreachable!() };
    let writes = [
        ("vms/1".to_owned(), Write::Edits(vec![set("host", json!("h1"))])),
        (format!("conflicts/{id}"), Write::Put(decision)),
    ];
    let writes = writes.map(|(name, write)| (crate::document::Address::parse(&name).unwrap(), write));
    let now = world.now;
    world.nodes[node].replica.write(&writes, false, now).unwrap();
    world.settle();
}

#[test]
fn every_node_records_a_conflict_that_waits_and_the_decision_of_whoever_made_it() {
    let mut world = World::new(2);
    contested(&mut world);
    let id = world.replica(0).conflicts().of("vms/1")[0].id.clone();
    decide(&mut world, 0, "resolved");
    for node in 0..2 {
        let found = records(&world, node, &[Kind::Detected]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].conflict.as_deref(), found[0].field.as_deref()), (Some(&*id), Some("host")));
        assert_eq!(found[0].detail["nodes"].as_array().unwrap().len(), 2);
        let resolved = records(&world, node, &[Kind::Resolved]);
        assert_eq!(resolved.len(), 1, "the end of the conflict is no second record: {resolved:?}");
        assert_eq!((&*resolved[0].actor, resolved[0].conflict.as_deref()), ("alice", Some(&*id)));
        assert_eq!(resolved[0].detail["value"], "h1");
        let before = resolved[0].detail["before"]["clock"].as_object().unwrap();
        let writer = world.replica(0).id().to_string();
        assert!(before[&writer].as_u64().unwrap() < world.replica(0).own_seq(), "the clock before it");
    }
    decide(&mut world, 1, "reopened");
    for node in 0..2 {
        assert_eq!(records(&world, node, &[Kind::Reopened])[0].actor, "bob");
    }
}

#[test]
fn what_a_plain_write_settled_names_its_writer() {
    let mut world = World::new(2);
    contested(&mut world);
    world.edit(1, "vms/1", set("host", json!("h9")));
    world.settle();
    let resolved = records(&world, 0, &[Kind::Resolved]);
    assert_eq!((&resolved[0].actor, &resolved[0].detail["value"]), (&world.id(1).to_string(), &json!("h9")));
}

#[test]
fn what_settles_by_itself_is_grouped_when_it_comes_in_floods() {
    let mut world = World::new(2);
    world.partition(&[0], &[1]);
    for n in 0..2_000 {
        let name = format!("vms/{n}");
        world.put(0, &name, json!({ "power_state": "running" }));
        world.put(1, &name, json!({ "power_state": "stopped" }));
    }
    world.heal();
    world.settle();
    assert_eq!(world.replica(0).conflicts().iter().count(), 2_000);
    for node in 0..2 {
        let found = records(&world, node, &[Kind::Detected]);
        let grouped: u64 = found.iter().filter_map(|record| record.detail["grouped"].as_u64()).sum();
        let single = found.iter().filter(|record| record.conflict.is_some()).count() as u64;
        assert_eq!(grouped + single, 2_000, "none is left out");
        assert!(found.len() < 1_000 && grouped > 1_000, "{} records, {grouped} grouped", found.len());
        let counted: u64 = world.replica(node).audit().counts().detected.values().sum();
        assert_eq!(counted, 2_000);
    }
}

#[test]
fn a_restart_records_itself_and_not_what_was_known() {
    let mut world = World::new(2);
    contested(&mut world);
    let before = records(&world, 1, &[]).len();
    world.restart(1, None);
    world.settle();
    let after = records(&world, 1, &[]);
    assert_eq!(after.len(), before + 1, "{after:?}");
    assert_eq!(after.last().unwrap().kind, Kind::Started);
    assert!(world.replica(1).verify_audit(&world.id(1)).unwrap().whole);
}

#[test]
fn a_node_anchors_once_a_minute_and_is_silent_when_nothing_is_new() {
    let mut world = World::new(2);
    let seqs = |world: &World| [0, 1].map(|node| world.replica(node).own_seq());
    // Past the anchors of the start, and of those that joined after it.
    (0..12).for_each(|_| world.settle());
    let quiet = seqs(&world);
    (0..20).for_each(|_| world.settle());
    assert_eq!(seqs(&world), quiet, "160 quiet seconds");
    let anchors = |world: &World, of: usize| world.replica(1 - of).audit().anchors().of(&world.id(of)).count();
    let held = anchors(&world, 0);
    assert!(held >= 1, "the other node holds the first");
    for n in 0..10 {
        world.put(0, "policies/p", json!({ "definition": { "rules": [], "about": n.to_string() } }));
        world.settle();
    }
    let more = anchors(&world, 0) - held;
    assert!((1..=2).contains(&more), "80 s of changes: {more} more anchors");
    assert!(world.agree());
}

#[test]
fn the_oldest_records_go_at_an_anchor_and_the_rest_still_proves_itself() {
    let mut world = World::new(1);
    for n in 0..super::log::RECORDS_MAX + 5_000 {
        world.put(0, &format!("conflicts/c{}", n % 100), json!({ "status": "resolved", "by": "alice", "n": n }));
    }
    world.settle();
    let audit = world.replica(0).audit();
    assert!(audit.records().len() <= super::log::RECORDS_MAX + 1, "{}", audit.records().len());
    assert!(audit.chain().span().0 > 0, "some went");
    let on_disk = world.disk(0).keys().filter(|(tree, key)| *tree == Tree::Audit && key[0] == 0).count();
    assert_eq!(on_disk, audit.records().len());
    let verified = world.replica(0).verify_audit(&world.id(0)).unwrap();
    assert!(verified.whole && verified.now.base.is_some(), "{verified:?}");
    world.restart(0, None);
    assert!(world.replica(0).verify_audit(&world.id(0)).unwrap().whole);
}

pub(super) fn rules(world: &mut World, collection: &str, definition: Json) {
    world.put(0, &format!("schemas/{collection}"), json!({ "definition": definition }));
    world.settle();
}

#[test]
fn an_escalation_is_on_record_at_every_node_under_the_one_that_wrote_it() {
    let mut world = World::new(2);
    let rule = json!({ "name": "people", "resolver": "manual", "escalate": { "to": "freeze", "after_ms": 700 } });
    world.put(0, "policies/p", json!({ "definition": { "rules": [rule] } }));
    contested(&mut world);
    world.settle();
    let id = world.replica(0).conflicts().of("vms/1")[0].id.clone();
    let leader = world.id(0).min(world.id(1)).to_string();
    for node in 0..2 {
        let escalated = records(&world, node, &[Kind::Escalated]);
        assert_eq!(escalated.len(), 1, "{escalated:?}");
        assert_eq!((&escalated[0].actor, escalated[0].conflict.as_deref()), (&leader, Some(&*id)));
        assert_eq!((escalated[0].document.as_deref(), escalated[0].field.as_deref()), (Some("vms/1"), Some("host")));
        assert_eq!(escalated[0].detail["to"], "freeze");
        assert!(escalated[0].detail["policy"].as_str().unwrap().starts_with("p@"), "{escalated:?}");
    }
}

#[test]
fn a_resolver_that_goes_back_is_on_record_as_rolled_back() {
    let mut world = World::new(2);
    let fields = json!({ "f": { "type": "contested", "resolver": "rollback" } });
    let small = json!({ "name": "small", "class": "invariant", "check": "doc.f < 10" });
    rules(&mut world, "things", json!({ "fields": fields, "rules": [small] }));
    let both = |world: &mut World, values: [u64; 2]| {
        world.put(0, "things/1", json!({ "f": 5 }));
        world.settle();
        world.partition(&[0], &[1]);
        (0..2).for_each(|node| world.edit(node, "things/1", set("f", json!(values[node]))));
        world.heal();
        world.settle();
    };
    both(&mut world, [7, 20]);
    let settled = |world: &World| {
        let settled = records(world, 0, &[Kind::Resolved, Kind::RolledBack]);
        settled.into_iter().rfind(|record| record.field.as_deref() == Some("f")).unwrap()
    };
    let one = settled(&world);
    assert_eq!((one.kind, &one.detail["value"]), (Kind::Resolved, &json!(7)), "one of the two keeps the rule");
    both(&mut world, [20, 30]);
    let none = settled(&world);
    assert_eq!((none.kind, &none.detail["value"]), (Kind::RolledBack, &json!(5)), "neither does: {none:?}");
    assert_eq!(none.detail["strategy"], "rollback");
}

#[test]
fn records_go_when_they_are_old_though_there_are_few() {
    let mut world = World::new(1);
    let policy = |world: &mut World, n: u64| {
        world.put(0, "policies/p", json!({ "definition": { "rules": [], "about": n.to_string() } }));
        (0..9).for_each(|_| world.settle());
    };
    let first = |world: &World| world.replica(0).audit().chain().span().0;
    policy(&mut world, 1);
    let year_ms = Retention::default().keep_ms;
    world.pass(year_ms / 2);
    policy(&mut world, 2);
    world.pass(year_ms / 2 - 3_600_000);
    world.settle();
    assert_eq!(first(&world), 0, "nothing is a year old");
    world.pass(2 * 3_600_000);
    world.settle();
    let kept = first(&world);
    let of_policy = records(&world, 0, &[Kind::PolicyChanged]);
    assert!(kept > 0 && of_policy.len() == 1, "the first went, the second is younger: {of_policy:?}");
    assert_eq!(records(&world, 0, &[Kind::Retained]).len(), 1);
    assert!(world.replica(0).verify_audit(&world.id(0)).unwrap().whole);
    world.restart(0, None);
    world.settle();
    assert!(world.replica(0).verify_audit(&world.id(0)).unwrap().whole);
    // Years later nothing is left but what cuts said of themselves, and that is left alone.
    (0..6).for_each(|_| (world.pass(year_ms / 2), (0..9).for_each(|_| world.settle())).1);
    assert!(records(&world, 0, &[Kind::PolicyChanged]).is_empty());
    let quiet = (first(&world), records(&world, 0, &[]).len());
    (0..4).for_each(|_| (world.pass(year_ms), (0..9).for_each(|_| world.settle())).1);
    assert_eq!((first(&world), records(&world, 0, &[]).len()), quiet);
}

#[test]
fn a_tick_looks_for_old_records_once_a_minute_and_a_quiet_node_puts_out_nothing() {
    let mut world = World::new(1);
    (0..18).for_each(|_| world.settle());
    let mut now = world.now;
    let replica = &mut world.nodes[0].replica;
    replica.tend_audit(now);
    let mut looks = Vec::new();
    for _ in 0..1_800 {
        let due_ms = replica.audit.aged_ms;
        now.mono_us += 100_000;
        now.wall_ms += 100;
        replica.publish_anchor_if_due(now);
        replica.tend_audit(now);
        looks.extend((replica.audit.aged_ms != due_ms).then_some(replica.audit.aged_ms));
    }
    assert!((2..=3).contains(&looks.len()), "three minutes: {looks:?}");
    assert_eq!((replica.drain().count(), replica.audit.rows.take().len()), (0, 0));
}
