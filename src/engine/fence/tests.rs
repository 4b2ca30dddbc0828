//! Fences, told as stories. The fenced node is always the third of three.

use serde_json::json;

use super::{Fence, FenceState, Kept};
use crate::clock::ReplicaId;
use crate::document::plan::Write;
use crate::document::{Address, Edit};
use crate::engine::alarm::Alarm;
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{FieldsOutcome, Told};
use crate::engine::io::Event;
use crate::engine::world::{World, load};
use crate::engine::write::WriteError;

const FENCED: usize = 2;

impl World {
    fn fence(&mut self, by: usize, replica: &ReplicaId, state: FenceState) {
        self.fence_unheard_by(&[], by, replica, state);
    }

    /// What is sent to `deaf` stays on the wires.
    fn fence_unheard_by(&mut self, deaf: &[usize], by: usize, replica: &ReplicaId, state: FenceState) {
        let name = Fence::address(replica).unwrap();
        let known = self.fence_of(by, replica);
        let seq = known.as_ref().map_or_else(|| self.seen_of(by, replica), |fence| fence.seq);
        let next = Fence {
            replica: replica.to_string(),
            version: known.as_ref().map_or(0, |fence| fence.version) + 1,
            seq,
            state,
            by: "ann".into(),
            reason: String::new(),
            at_ms: self.now.wall_ms,
        };
        if self.get(by, name.as_str()).is_null() {
            self.put(by, name.as_str(), json!({ "node": replica.node.to_string() }));
        }
        self.next_request += 1;
        let change = Fence::change(RequestId(self.next_request), known.as_ref(), &next);
        let now = self.now;
        let id = self.nodes[by].replica.ask_fields(name.as_str(), change, now);
        self.carry_out(by);
        for _ in 0..100 {
            let told = |event: &Event| matches!(event, Event::Asked { id: of, outcome: Ok(Told::Fields(verdict)) } if *of == id && verdict.outcome == FieldsOutcome::Done);
            if self.nodes[by].events.iter().any(told) {
                return;
            }
            while self.deliver_one(deaf) {}
            self.pass(100);
        }
        panic!("nobody told what came of it");
    }

    fn deliver_one(&mut self, deaf: &[usize]) -> bool {
        let waits = |(pair, wire): (&(usize, usize), &std::collections::VecDeque<_>)| {
            (!wire.is_empty() && !deaf.contains(&pair.1)).then_some(*pair)
        };
        let next = self.wires.iter().find_map(waits);
        next.is_some_and(|(from, to)| self.deliver(from, to))
    }

    fn fence_of(&self, node: usize, replica: &ReplicaId) -> Option<Fence> {
        self.replica(node).replicas().find(|standing| standing.replica == *replica)?.fence
    }

    fn seen_of(&self, node: usize, replica: &ReplicaId) -> u64 {
        self.replica(node).replicas().find(|standing| standing.replica == *replica).map_or(0, |standing| standing.seq)
    }

    fn aside(&self, node: usize, replica: &ReplicaId) -> Kept {
        self.replica(node).replicas().find(|standing| standing.replica == *replica).unwrap().aside
    }

    fn n(&self, node: usize) -> serde_json::Value {
        self.get(node, "docs/a")["n"].clone()
    }

    /// What the third node writes while it has not heard of its fence: both are cut off from each other's decisions, and
    /// then its batches come before the decision does.
    fn fence_unheard(&mut self) -> ReplicaId {
        self.incr(FENCED, "docs/a", 1);
        self.settle();
        let replica = self.replica(FENCED).id();
        self.partition(&[0, 1], &[FENCED]);
        self.fence(0, &replica, FenceState::Fenced);
        self.settle();
        self.incr(FENCED, "docs/a", 10);
        self.incr(FENCED, "docs/a", 10);
        self.edit(FENCED, "docs/b", Edit::Set { field: "x".into(), value: json!("late") });
        replica
    }

    fn try_incr(&mut self, node: usize) -> Result<(), WriteError> {
        let (now, address) = (self.now, Address::parse("docs/a").unwrap());
        let write = Write::Upsert(vec![Edit::Incr { field: "n".into(), by: 1 }]);
        let written = self.nodes[node].replica.write(&[(address, write)], false, now).map(|_| ());
        self.carry_out(node);
        written
    }
}

#[test]
fn what_a_fenced_replica_wrote_later_is_taken_in_nowhere_until_it_is_released() {
    let mut world = World::new(3);
    world.settle();
    let replica = world.fence_unheard();
    world.heal();
    world.settle();
    for node in [0, 1] {
        assert_eq!((world.n(node), world.get(node, "docs/b")), (json!(1), json!(null)), "at {node}");
        assert_eq!(world.fence_of(node, &replica).unwrap().state, FenceState::Fenced);
    }
    // The others go on with each other, and the fenced one follows them.
    world.incr(0, "docs/a", 100);
    world.settle();
    assert_eq!([0, 1, FENCED].map(|node| world.n(node)), [json!(101), json!(101), json!(121)]);
    // It has heard of it by now.
    assert!(
        matches!(world.try_incr(FENCED), Err(WriteError::Fenced { seq, .. }) if seq == world.fence_of(0, &replica).unwrap().seq)
    );
    world.fence(1, &replica, FenceState::Released);
    world.settle();
    assert!(world.agree(), "what was kept aside is everywhere");
    assert_eq!([0, 1, FENCED].map(|node| world.n(node)), [json!(121), json!(121), json!(121)]);
    world.try_incr(FENCED).unwrap();
    world.settle();
    assert!(world.agree());
}

#[test]
fn live_batches_beyond_a_fence_are_kept_aside_on_the_disk_and_outlive_their_node() {
    let mut world = World::new(3);
    world.settle();
    world.incr(FENCED, "docs/a", 1);
    world.settle();
    let replica = world.replica(FENCED).id();
    // It writes before the decision comes to it; what it wrote comes to those who know.
    world.fence_unheard_by(&[FENCED], 0, &replica, FenceState::Fenced);
    while world.deliver_one(&[FENCED]) {}
    assert!(world.fence_of(FENCED, &replica).is_none(), "the third does not yet");
    world.incr(FENCED, "docs/a", 10);
    for node in [0, 1] {
        while world.deliver(FENCED, node) {}
        assert_eq!((world.n(node), world.aside(node, &replica).batches), (json!(1), 1), "at {node}");
    }
    // The fenced node is gone for good, and the others start anew.
    world.partition(&[0, 1], &[FENCED]);
    world.settle();
    world.restart(0, None);
    world.restart(1, None);
    world.settle();
    assert_eq!([0, 1].map(|node| world.aside(node, &replica).batches), [1, 1]);
    world.fence(1, &replica, FenceState::Released);
    world.settle();
    assert_eq!(
        [0, 1].map(|node| (world.n(node), world.aside(node, &replica).batches)),
        [(json!(11), 0), (json!(11), 0)]
    );
}

#[test]
fn what_was_discarded_is_gone_and_its_node_begins_anew_with_what_the_others_have() {
    let mut world = World::new(3);
    world.settle();
    let replica = world.fence_unheard();
    world.fence(0, &replica, FenceState::Discarded);
    world.heal();
    world.settle();
    assert_eq!([0, 1].map(|node| world.n(node)), [json!(1), json!(1)]);
    assert!(matches!(world.try_incr(FENCED), Err(WriteError::Fenced { state: FenceState::Discarded, .. })));
    assert!(world.nodes[FENCED].events.iter().any(|event| matches!(event, Event::Alarm(Alarm::Discarded { .. }))));
    // Its next start finds that its store cannot be gone on with.
    let (node, disk) = (world.id(FENCED), world.disk(FENCED));
    assert!(load(&disk).unwrap().discarded(&node).unwrap().contains("after seq"));
    assert_eq!(load(&world.disk(0)).unwrap().discarded(&world.id(0)), None);
    world.damaged = Some(crate::engine::Loaded::default());
    world.restart(FENCED, Some(Default::default()));
    world.settle();
    assert!(world.agree());
    world.try_incr(FENCED).unwrap();
    world.settle();
    assert_eq!([0, 1, FENCED].map(|node| world.n(node)), [json!(2), json!(2), json!(2)]);
    assert!(world.agree(), "what it writes now is let in");
}

#[test]
fn what_a_member_took_in_before_it_heard_of_the_fence_stays_everywhere() {
    let mut world = World::new(4);
    world.settle();
    world.incr(FENCED, "docs/a", 1);
    world.settle();
    let replica = world.replica(FENCED).id();
    world.partition(&[0, 1], &[FENCED, 3]);
    // A majority of three voters is on either side of this cut or on none: the first two decide, if they can.
    let (reached, voters) = world.replica(0).voters_reached();
    assert!(reached * 2 > voters, "{reached} of {voters}");
    world.fence(0, &replica, FenceState::Fenced);
    world.incr(FENCED, "docs/a", 10);
    world.settle();
    assert_eq!([0, 1, 3].map(|node| world.n(node)), [json!(1), json!(1), json!(11)]);
    world.heal();
    world.settle();
    assert_eq!([0, 1, 3].map(|node| world.n(node)), [json!(11), json!(11), json!(11)]);
    assert!(world.agree());
}

#[test]
fn what_one_member_took_in_live_before_it_heard_comes_to_the_others_while_the_fence_stands() {
    let mut world = World::new(4);
    world.settle();
    world.incr(FENCED, "docs/a", 1);
    world.settle();
    let replica = world.replica(FENCED).id();
    world.fence_unheard_by(&[FENCED, 3], 0, &replica, FenceState::Fenced);
    while world.deliver_one(&[FENCED, 3]) {}
    world.incr(FENCED, "docs/a", 10);
    while world.deliver(FENCED, 3) {}
    assert_eq!([world.n(1), world.n(3)], [json!(1), json!(11)]);
    world.settle();
    assert_eq!([0, 1, 3].map(|node| world.n(node)), [json!(11), json!(11), json!(11)]);
    let digests = [0, 1, 3].map(|node| world.replica(node).digests());
    assert!(digests.iter().all(|other| *other == digests[0]), "all but the fenced one agree");
    assert_eq!([0, 1, 3].map(|node| world.aside(node, &replica).batches), [0, 0, 0], "it is not aside any more");
    let fenced = |event: &Event| matches!(event, Event::Alarm(Alarm::Fenced { .. }));
    assert!(world.nodes[0].events.iter().any(fenced));
    world.fence(0, &replica, FenceState::Released);
    world.settle();
    assert!(world.agree());
    let alarms = world.replica(0).alarms().filter(|(_, alarm)| matches!(alarm, Alarm::Fenced { .. }));
    assert_eq!(alarms.count(), 0, "it is over");
}

#[test]
fn a_fence_goes_from_one_state_to_the_next_and_no_other() {
    let fence = |state| Fence {
        replica: String::new(),
        version: 1,
        seq: 3,
        state,
        by: String::new(),
        reason: String::new(),
        at_ms: 0,
    };
    use FenceState::{Discarded, Fenced, Released};
    for (before, next, may) in [
        (None, Fenced, true),
        (None, Released, false),
        (None, Discarded, false),
        (Some(Fenced), Fenced, false),
        (Some(Fenced), Released, true),
        (Some(Fenced), Discarded, true),
        (Some(Released), Fenced, true),
        (Some(Released), Discarded, false),
        (Some(Discarded), Fenced, false),
        (Some(Discarded), Released, false),
    ] {
        assert_eq!(Fence::may_become(before.map(fence).as_ref(), next), may, "{before:?} to {next:?}");
    }
    assert_eq!(
        [Fenced, Released, Discarded].map(|state| (fence(state).bars(3), fence(state).bars(4))),
        [(false, true), (false, false), (false, true)]
    );
}
