//! The audit of a few replicas, told as stories.

use serde_json::{Value as Json, json};

use super::{Loss, ReadBack};
use crate::document::plan::{Edit, Write};
use crate::engine::persist::Tree;
use crate::engine::rows::Loaded;
use crate::engine::world::{World, load};
use crate::history::audit::retention::Retention;
use crate::history::audit::row::{key_of, own_range};
use crate::history::audit::{Kind, Query, Record};

fn records(world: &World, node: usize, kinds: &[Kind]) -> Vec<Record> {
    let query = Query { kinds: kinds.to_vec(), ..Query::default() };
    world.replica(node).audit().page(&world.id(node), &query).unwrap().records
}

fn set(field: &str, value: Json) -> Edit {
    Edit::Set { field: field.into(), value }
}

/// Both sides of a cut say where the VM is; only a person can tell.
fn contested(world: &mut World) {
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

fn rules(world: &mut World, collection: &str, definition: Json) {
    world.put(0, &format!("schemas/{collection}"), json!({ "definition": definition }));
    world.settle();
}

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

/// 200,000 ticks in which nothing is due. A look through the records or the conflicts at each would take minutes.
#[test]
fn a_tick_costs_a_quiet_node_no_look_at_what_it_holds() {
    const TICKS: u32 = 200_000;
    let mut world = World::new(1);
    rules(&mut world, "vms", serde_json::from_str(ADDRESS).unwrap());
    shared(&mut world, 0..1_000);
    for n in 0..20_000 {
        world.put(0, &format!("conflicts/c{}", n % 100), json!({ "status": "resolved", "by": "alice", "n": n }));
    }
    (0..18).for_each(|_| world.settle());
    assert!(world.replica(0).audit().records().len() > 20_000);
    let mut now = world.now;
    let replica = &mut world.nodes[0].replica;
    let began = std::time::Instant::now();
    for _ in 0..TICKS {
        now.mono_us += 1;
        replica.escalate_if_due(now);
        replica.publish_anchor_if_due(now);
        replica.tend_audit(now);
    }
    let each = began.elapsed() / TICKS;
    println!("{each:?} each");
    assert_eq!(replica.drain().count(), 0);
    assert!(each < std::time::Duration::from_micros(5), "{each:?} each");
}
