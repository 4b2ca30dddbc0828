//! What a start makes of the audit that it finds: what is known already, what was missed, what was lost, what was cut off.

use serde_json::json;

use super::tests::{records, rules, set};
use super::{Loss, ReadBack};
use crate::engine::persist::Tree;
use crate::engine::rows::Loaded;
use crate::engine::world::{World, load};
use crate::history::audit::Kind;
use crate::history::audit::row::{key_of, own_range};

/// Pairs of VMs with one address each.
fn shared(world: &mut World, pairs: std::ops::Range<usize>) {
    for n in pairs {
        world.put(0, &format!("vms/a{n}"), json!({ "ip": n }));
        world.put(0, &format!("vms/b{n}"), json!({ "ip": n }));
    }
}

const ADDRESS: &str = r#"{ "rules": [{ "name": "address", "exclusive": "ip" }] }"#;

/// How many conflicts records of a kind tell of, each by itself or as one of a group.
fn told(world: &World, node: usize, kind: Kind) -> u64 {
    let records = records(world, node, &[kind]);
    records.iter().map(|record| record.detail["grouped"].as_u64().unwrap_or(1)).sum()
}

#[test]
fn a_restart_tells_of_conflicts_over_many_documents_what_is_news_and_no_more() {
    let mut world = World::new(1);
    rules(&mut world, "vms", serde_json::from_str(ADDRESS).unwrap());
    shared(&mut world, 0..3);
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (3, 0));
    world.restart(0, None);
    world.settle();
    assert_eq!(world.replica(0).conflicts().iter().count(), 3, "they stand");
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (3, 0));
    assert!(world.replica(0).audit().counts().detected.is_empty(), "nothing was found since the start");

    // One ends and one begins, and the process dies before it looked at either.
    world.edit(0, "vms/b1", set("ip", json!("other")));
    shared(&mut world, 7..8);
    world.restart(0, None);
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (4, 1));
    let over = &records(&world, 0, &[Kind::Resolved])[0];
    let first = &records(&world, 0, &[Kind::Detected])[1];
    assert_eq!((&over.conflict, over.document.as_deref()), (&first.conflict, Some("vms/a1")));
    assert_eq!(over.detail["missed"], true);

    // The rule goes, and with it all that it found.
    rules(&mut world, "vms", json!({}));
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (4, 4));
    world.restart(0, None);
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (4, 4));
    assert!(world.replica(0).verify_audit(&world.id(0)).unwrap().whole);
}

#[test]
fn a_process_that_dies_before_it_judged_what_changed_leaves_it_to_the_next_to_tell() {
    let mut world = World::new(1);
    let rule = |check: &str| json!({ "rules": [{ "name": "small", "check": check }] });
    rules(&mut world, "vms", rule("doc.n < 10"));
    world.put(0, "vms/1", json!({ "n": 20 }));
    world.put(0, "vms/2", json!({ "n": 5 }));
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (1, 0));
    // By the new rule the one is right and the other is wrong. Documents that a schema concerns are judged in their turn.
    world.put(0, "schemas/vms", json!({ "definition": rule("doc.n > 10") }));
    assert_eq!(told(&world, 0, Kind::Detected), 1, "nothing was judged yet");
    world.restart(0, None);
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (2, 1));
    let over = &records(&world, 0, &[Kind::Resolved])[0];
    assert_eq!((over.document.as_deref(), &over.detail["missed"]), (Some("vms/1"), &json!(true)));
    world.restart(0, None);
    world.edit(0, "vms/2", set("n", json!(50)));
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (2, 2));
}

#[test]
fn thousands_of_conflicts_over_many_documents_are_told_in_groups_once() {
    let mut world = World::new(1);
    rules(&mut world, "vms", serde_json::from_str(ADDRESS).unwrap());
    shared(&mut world, 0..2_000);
    world.settle();
    world.restart(0, None);
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (2_000, 0));
    for n in 0..2_000 {
        world.edit(0, &format!("vms/b{n}"), set("ip", json!(null)));
    }
    world.restart(0, None);
    world.settle();
    assert_eq!((told(&world, 0, Kind::Detected), told(&world, 0, Kind::Resolved)), (2_000, 2_000));
    let written = records(&world, 0, &[Kind::Detected, Kind::Resolved]).len();
    assert!(written < 700, "{written} records");
    let standing = world.disk(0).keys().filter(|(tree, key)| *tree == Tree::Audit && key[0] == 2).count();
    assert_eq!(standing, 0, "nothing stands any more");
}

#[test]
fn a_rebuilt_store_is_on_record_with_what_was_lost_and_what_stood_still_stands() {
    let mut world = World::new(2);
    rules(&mut world, "vms", serde_json::from_str(ADDRESS).unwrap());
    shared(&mut world, 0..3);
    world.settle();
    let mut disk = world.disk(1);
    disk.retain(|(tree, key), _| *tree == Tree::Audit && *key != key_of(1));
    let (cluster, audit) = (world.replica(0).cluster(), load(&disk).unwrap().audit);
    let trees = vec![ReadBack { tree: "audit", rows: 5, bad: 1, whole: false }];
    let loss = Some(Loss { reason: "a page is zeros".into(), set_aside: "store.damaged-1".into(), trees });
    world.damaged = Some(Loaded { cluster, audit, loss, ..Loaded::default() });
    world.restart(1, Some(disk));
    world.settle();
    assert!(world.agree());
    let damage = records(&world, 1, &[Kind::Damage]);
    assert_eq!(damage.len(), 1, "{damage:?}");
    let detail = &damage[0].detail;
    assert_eq!((&detail["alarm"], &detail["reason"]), (&json!("store_rebuilt"), &json!("a page is zeros")));
    assert_eq!(detail["read_back"]["audit"], json!({ "rows": 5, "bad": 1, "whole": false }));
    assert_eq!((&detail["set_aside"], &detail["audit"]["missing"]), (&json!("store.damaged-1"), &json!(1)));
    assert_eq!((told(&world, 1, Kind::Detected), told(&world, 1, Kind::Resolved)), (3, 0));
}

#[test]
fn what_the_disk_was_made_to_forget_is_found_by_the_anchor_that_the_other_node_holds() {
    let mut world = World::new(2);
    world.put(0, "policies/p", json!({ "definition": { "rules": [] } }));
    (0..9).for_each(|_| world.settle());
    let own = world.id(0);
    assert!(world.replica(1).audit().anchors().of(&own).count() > 0);
    let mut disk = world.disk(0);
    let (first, end) = own_range();
    // Whoever owns the disk forgets the node's own anchors too.
    disk.retain(|(tree, key), _| *tree != Tree::Audit || (*key >= first && *key < end && *key != key_of(1)));
    world.restart(0, Some(disk));
    world.settle();
    let verified = world.replica(0).verify_audit(&own).unwrap();
    let says: Vec<String> = verified.now.findings.iter().map(ToString::to_string).collect();
    assert!(!verified.whole && says.iter().any(|text| text.contains("records 1 to 1 were deleted")), "{says:?}");
}

#[test]
fn an_imported_chain_stays_whole_while_its_node_goes_on_and_ones_own_must_reach_every_anchor() {
    let mut world = World::new(2);
    let (own, now) = (world.id(0), world.now);
    world.put(0, "policies/p", json!({ "definition": { "rules": [] } }));
    (0..9).for_each(|_| world.settle());
    let older = world.replica(0).audit().export(&own).unwrap().unwrap().join("\n");
    for n in 0..9 {
        world.put(0, "policies/p", json!({ "definition": { "rules": [], "about": n.to_string() } }));
    }
    (0..9).for_each(|_| world.settle());
    let imported = world.nodes[1].replica.import_audit(&older, now).unwrap();
    assert!(imported.report.later > imported.report.last, "{imported:?}");
    let verified = world.replica(1).verify_audit(&own).unwrap();
    assert!(verified.whole && verified.now.later == imported.report.later, "{verified:?}");
    // The node's own log, without what came after: it was cut off.
    let (mut disk, last) = (world.disk(0), imported.report.last.unwrap());
    disk.retain(|(tree, key), _| *tree != Tree::Audit || key[0] != 0 || *key <= key_of(last).to_vec());
    world.restart(0, Some(disk));
    let verified = world.replica(0).verify_audit(&own).unwrap();
    for report in [verified.at_start.as_ref().unwrap(), &verified.now] {
        assert!(report.later.is_none() && report.findings[0].to_string().contains("cut off"), "{report:?}");
    }
}
