//! Fields that a quorum decides, told as stories.

use serde_json::{Value as Json, json};

use super::super::fields::{FieldsChange, FieldsOutcome, FieldsVerdict};
use super::{passer_by, waiter};
use crate::crdt::Value;
use crate::document::{Edit, PlanError, Write};
use crate::engine::ballot::lock::{LockChange, RequestId};
use crate::engine::ballot::{AskError, AskId, Told};
use crate::engine::world::World;
use crate::engine::write::WriteError;

const VM: &str = "vms/7";

/// Three nodes with a document, and a field of it that a quorum decides.
fn world() -> World {
    let mut world = World::new(3);
    world.put(0, "schemas/vms", json!({ "definition": { "fields": { "host": { "type": "quorum" } } } }));
    world.put(0, VM, json!({ "cores": 2 }));
    world.settle();
    world
}

fn set(request: u128, host: &str) -> FieldsChange {
    let value = Some(Value::encode_json(&json!(host)));
    FieldsChange { set: vec![("host".to_owned(), value)], ..FieldsChange::read(RequestId(request)) }
}

fn if_host(host: Option<&str>, change: FieldsChange) -> FieldsChange {
    FieldsChange { tests: vec![("host".to_owned(), host.map(|host| Value::encode_json(&json!(host))))], ..change }
}

impl World {
    fn ask_fields(&mut self, node: usize, change: FieldsChange) -> AskId {
        let now = self.now;
        let id = self.nodes[node].replica.ask_fields(VM, change, now);
        self.carry_out(node);
        id
    }

    /// Asks, and lets as much time pass as it takes.
    fn decide(&mut self, node: usize, change: FieldsChange) -> Result<FieldsVerdict, AskError> {
        let id = self.ask_fields(node, change);
        for _ in 0..100 {
            if let Some(outcome) = self.told(node, id) {
                return outcome.map(|told| match told {
                    Told::Fields(verdict) => verdict,
                    told => panic!("{told:?}"),
                });
            }
            self.drain_wires();
            self.pass(100);
        }
        panic!("nobody told what came of it");
    }

    fn outcome(&mut self, node: usize, change: FieldsChange) -> FieldsOutcome {
        self.decide(node, change).unwrap().outcome
    }

    fn host(&self, node: usize) -> Json {
        self.get(node, VM)["host"].clone()
    }
}

#[test]
fn what_a_quorum_decided_is_read_at_once_where_it_was_asked_and_then_everywhere() {
    let mut world = world();
    let decided = world.decide(1, set(1, "ash")).unwrap();
    assert_eq!((decided.outcome, decided.guard.fields.version), (FieldsOutcome::Done, 1));
    assert_eq!(world.host(1), "ash");
    world.settle();
    assert!((0..3).all(|node| world.host(node) == "ash"));
    // Both read "ash", and want it elsewhere: one of them gets it.
    let first = world.ask_fields(0, if_host(Some("ash"), set(2, "oak")));
    let second = world.ask_fields(2, if_host(Some("ash"), set(3, "elm")));
    world.settle();
    let told = [(0, first), (2, second)].map(|(node, id)| match world.told(node, id) {
        Some(Ok(Told::Fields(verdict))) => verdict.outcome,
        told => panic!("{told:?}"),
    });
    assert!(told.contains(&FieldsOutcome::Done) && told.contains(&FieldsOutcome::Differs("host".into())), "{told:?}");
    let host = world.host(0);
    assert!(host != "ash" && (1..3).all(|node| world.host(node) == host));
    // Nobody is told of siblings: there are none.
    assert_eq!(world.replica(0).view(VM).unwrap().siblings.len(), 0);
}

#[test]
fn a_plain_write_of_such_a_field_is_refused_and_leaves_it_as_it_is() {
    let mut world = world();
    world.decide(0, set(1, "ash")).unwrap();
    let now = world.now;
    let address = crate::document::Address::parse(VM).unwrap();
    let mut write = |write: Write| world.nodes[0].replica.write(&[(address.clone(), write)], false, now);
    let set = |value: Json| Write::Edits(vec![Edit::Set { field: "host".into(), value }]);
    let unset = Write::Edits(vec![Edit::Unset { field: "host".into() }]);
    let put = |fields: Json| Write::Put(fields.as_object().unwrap().clone());
    for refused in [set(json!("oak")), set(json!("ash")), unset, put(json!({ "host": "oak" }))] {
        let error = write(refused.clone()).unwrap_err();
        let by_ballot =
            matches!(&error, WriteError::Plan { cause: PlanError::ByBallot { field }, .. } if field == "host");
        assert!(by_ballot, "{refused:?}: {error}");
    }
    // What was read may be sent back, and what does not name the field leaves it.
    write(put(json!({ "host": "ash", "cores": 4 }))).unwrap();
    write(put(json!({ "cores": 8 }))).unwrap();
    world.settle();
    assert_eq!(world.get(2, VM), json!({ "cores": 8, "host": "ash" }));
}

#[test]
fn the_side_without_a_quorum_decides_nothing_and_takes_over_what_the_other_decided() {
    let mut world = world();
    world.decide(0, set(1, "ash")).unwrap();
    world.settle();
    world.partition(&[0], &[1, 2]);
    assert_eq!(world.decide(0, set(2, "oak")), Err(AskError::NoQuorum { reached: 1, voters: 3 }));
    assert_eq!(world.outcome(1, set(3, "elm")), FieldsOutcome::Done);
    world.edit(0, VM, Edit::Set { field: "cores".into(), value: json!(9) });
    assert_eq!((world.host(0), world.host(1)), (json!("ash"), json!("elm")));
    world.heal();
    world.settle();
    assert_eq!(world.get(0, VM), json!({ "cores": 9, "host": "elm" }));
    assert_eq!(world.get(2, VM), world.get(0, VM));
}

#[test]
fn while_the_lock_of_the_document_is_held_only_its_token_decides() {
    let mut world = world();
    let take = LockChange::Acquire { waiter: passer_by(1), waits: false, expired: None };
    let taken = world.decide(0, FieldsChange { take: Some(take), ..set(1, "ash") }).unwrap();
    assert_eq!((taken.outcome, taken.guard.lock.token), (FieldsOutcome::Done, 1));
    assert_eq!(world.outcome(1, set(2, "oak")), FieldsOutcome::Held);
    assert_eq!(world.outcome(1, FieldsChange { token: Some(7), ..set(3, "oak") }), FieldsOutcome::NotHolder);
    assert_eq!(world.outcome(1, FieldsChange { token: Some(1), ..set(4, "oak") }), FieldsOutcome::Done);
    // Its lease runs out, as others see it: whoever takes the lock then shuts the old token out.
    let take = || LockChange::Acquire { waiter: waiter(2), waits: false, expired: None };
    assert_eq!(world.outcome(2, FieldsChange { take: Some(take()), ..set(5, "elm") }), FieldsOutcome::Held);
    for _ in 0..25 {
        world.drain_wires();
        world.pass(100);
    }
    assert_eq!(world.outcome(2, FieldsChange { take: Some(take()), ..set(6, "elm") }), FieldsOutcome::Done);
    assert_eq!(world.outcome(0, FieldsChange { token: Some(1), ..set(7, "late") }), FieldsOutcome::NotHolder);
    world.settle();
    assert!((0..3).all(|node| world.host(node) == "elm"));
}

#[test]
fn what_was_decided_and_not_written_down_is_written_down_by_a_voter() {
    let mut world = world();
    world.decide(0, set(1, "ash")).unwrap();
    world.settle();
    let asked = world.ask_fields(1, set(2, "oak"));
    // A majority accepts; whoever asked dies before it is told so.
    while ![0, 2].iter().any(|node| accepted(&world, *node) == 2) {
        let pair = *world.wires.iter().find(|(_, wire)| !wire.is_empty()).expect("on its way").0;
        world.deliver(pair.0, pair.1);
    }
    assert_eq!(accepted(&world, 1), 2);
    assert_eq!(world.told(1, asked), None);
    world.restart(1, None);
    assert_eq!(world.host(0), "ash", "decided, and nobody knows");
    let mut waited_ms = 0;
    while world.host(0) != "oak" {
        world.drain_wires();
        world.pass(100);
        waited_ms += 100;
        assert!(waited_ms < 10_000);
    }
    world.settle();
    assert!((0..3).all(|node| world.host(node) == "oak"));
}

/// The version of the fields that a voter accepted.
fn accepted(world: &World, node: usize) -> u64 {
    let held = world.replica(node).ballots().acceptor().get("guard/vms/7");
    let value = held.and_then(|held| held.accepted.as_ref()).map(|accepted| accepted.value.clone());
    super::super::Guard::decode(value.as_deref()).unwrap().fields.version
}

#[test]
fn what_was_decided_outlives_the_document() {
    let mut world = world();
    world.decide(0, set(1, "ash")).unwrap();
    world.write(0, VM, Write::Delete);
    world.settle();
    assert_eq!(world.get(1, VM), Json::Null);
    world.put(1, VM, json!({ "cores": 1 }));
    world.settle();
    assert_eq!(world.host(1), Json::Null, "nobody asked yet");
    assert_eq!(world.outcome(2, FieldsChange::read(RequestId(9))), FieldsOutcome::Done);
    world.settle();
    assert_eq!(world.host(1), "ash", "what is decided is kept under the name");
}
