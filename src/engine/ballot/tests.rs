//! Ballots of a few replicas, told as stories.

mod fields;
mod votes;

use super::lock::{LockChange, LockVerdict, RequestId, Waiter};
use super::{AskError, AskId, Outcome, Told, Voter};
use crate::engine::alarm::Alarm;
use crate::engine::io::{Event, Now};
use crate::engine::persist::Tree;
use crate::engine::world::World;

use serde_json::json;

/// For longer than a test takes.
fn waiter(n: u128) -> Waiter {
    Waiter { holder: format!("h{n}"), request: RequestId(n), lease_ms: 60_000 }
}

/// For two seconds.
fn passer_by(n: u128) -> Waiter {
    Waiter { lease_ms: 2_000, ..waiter(n) }
}

fn acquire(n: u128) -> LockChange {
    LockChange::Acquire { waiter: waiter(n), waits: false, expired: None }
}

fn queue(n: u128) -> LockChange {
    LockChange::Acquire { waiter: waiter(n), waits: true, expired: None }
}

impl World {
    fn ask_lock(&mut self, node: usize, change: LockChange) -> AskId {
        let now = self.now;
        let id = self.nodes[node].replica.ask_lock("l", change, now);
        self.carry_out(node);
        id
    }

    fn told(&self, node: usize, asked: AskId) -> Option<Outcome> {
        self.nodes[node].events.iter().find_map(|event| match event {
            Event::Asked { id, outcome } if *id == asked => Some(outcome.clone()),
            _ => None,
        })
    }

    /// Asks, and lets as much time pass as it takes.
    fn lock(&mut self, node: usize, change: LockChange) -> Result<LockVerdict, AskError> {
        let id = self.ask_lock(node, change);
        for _ in 0..100 {
            if let Some(outcome) = self.told(node, id) {
                return outcome.map(|told| match told {
                    Told::Lock(verdict) => verdict,
                    told => panic!("{told:?}"),
                });
            }
            self.drain_wires();
            self.pass(100);
        }
        panic!("nobody told what came of it");
    }

    fn voters(&self, node: usize) -> Vec<Voter> {
        let voters = self.replica(node).ballots().voters().unwrap();
        assert_eq!(voters.next, None, "a change is not over");
        voters.set.clone()
    }

    fn granted(&mut self, node: usize, change: LockChange) -> u64 {
        match self.lock(node, change) {
            Ok(LockVerdict::Granted(lock)) => lock.token,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn members_become_voters_until_there_are_enough_and_their_number_is_odd() {
    for (members, wanted) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (7, 5)] {
        let mut world = World::new(members);
        let since = world.now;
        while world.voters(0).len() < wanted {
            world.drain_wires();
            world.pass(20);
            assert!(world.now.mono_us < since.mono_us + 5_000_000, "{members} members");
        }
        world.settle();
        let voters = world.voters(0);
        assert_eq!(voters.len(), wanted, "{members} members");
        assert!((1..members).all(|node| world.voters(node) == voters), "{members} members");
    }
}

#[test]
fn one_has_the_lock_whoever_asks_and_the_token_grows() {
    let mut world = World::new(3);
    assert_eq!(world.granted(0, acquire(1)), 1);
    assert!(
        matches!(world.lock(1, acquire(2)), Ok(LockVerdict::Held(lock)) if lock.held.as_ref().is_some_and(|held| held.holder == "h1"))
    );
    assert!(matches!(world.lock(2, LockChange::Renew { token: 1 }), Ok(LockVerdict::Is(_))));
    assert!(matches!(world.lock(1, LockChange::Release { token: 1 }), Ok(LockVerdict::Is(_))));
    assert_eq!(world.granted(2, acquire(3)), 2);
    // All at once: one has it, and the others are told so.
    world.lock(2, LockChange::Release { token: 2 }).unwrap();
    let asked: Vec<(usize, AskId)> = (0..9).map(|n| (n % 3, world.ask_lock(n % 3, acquire(100 + n as u128)))).collect();
    world.settle();
    let told: Vec<Outcome> = asked.iter().map(|(node, id)| world.told(*node, *id).expect("told")).collect();
    let granted = |outcome: &&Outcome| matches!(outcome, Ok(Told::Lock(LockVerdict::Granted(lock))) if lock.token == 3);
    let held = |outcome: &&Outcome| matches!(outcome, Ok(Told::Lock(LockVerdict::Held(_))));
    assert_eq!((told.iter().filter(granted).count(), told.iter().filter(held).count()), (1, 8), "{told:?}");
}

#[test]
fn the_side_without_a_quorum_is_told_at_once_and_the_other_goes_on() {
    let mut world = World::new(5);
    world.settle();
    let acquire_briefly = LockChange::Acquire { waiter: passer_by(1), waits: false, expired: None };
    assert_eq!(world.granted(0, acquire_briefly), 1);
    world.partition(&[0, 1], &[2, 3, 4]);
    let asked = world.ask_lock(0, LockChange::Renew { token: 1 });
    world.pass(0);
    assert_eq!(world.told(0, asked), Some(Err(AskError::NoQuorum { reached: 2, voters: 5 })));
    // The others watch the lease run out, and take it.
    assert!(matches!(world.lock(3, acquire(2)), Ok(LockVerdict::Held(_))));
    for _ in 0..25 {
        world.drain_wires();
        world.pass(100);
    }
    assert_eq!(world.granted(3, acquire(2)), 2);
    world.heal();
    world.settle();
    assert!(
        matches!(world.lock(0, LockChange::Renew { token: 1 }), Ok(LockVerdict::NotHolder(lock)) if lock.token == 2)
    );
}

#[test]
fn who_waits_is_woken_when_it_has_the_lock() {
    let mut world = World::new(3);
    world.granted(0, acquire(1));
    assert!(matches!(world.lock(2, queue(2)), Ok(LockVerdict::Waits { before: 0, .. })));
    world.nodes[2].events.clear();
    world.lock(0, LockChange::Release { token: 1 }).unwrap();
    world.drain_wires();
    let woken = |event: &Event| matches!(event, Event::RegisterChanged(register) if register == "guard/l");
    assert!(world.nodes[2].events.iter().any(woken));
    assert_eq!(world.granted(2, queue(2)), 2);
}

#[test]
fn nothing_is_answered_before_the_disk_has_it() {
    let mut world = World::new(3);
    world.settle();
    world.slow_disks = true;
    let asked = world.ask_lock(0, acquire(1));
    for _ in 0..3 {
        world.drain_wires();
        world.pass(1);
    }
    assert_eq!(world.told(0, asked), None);
    let accepted = |world: &World| {
        world.nodes.iter().filter(|node| node.replica.ballots().acceptor().get("guard/l").is_some()).count()
    };
    assert_eq!(accepted(&world), 3, "they promised, and did not say so");
    for _ in 0..6 {
        (0..3).for_each(|node| world.sync(node));
        world.drain_wires();
    }
    assert!(matches!(world.told(0, asked), Some(Ok(Told::Lock(LockVerdict::Granted(lock)))) if lock.token == 1));
}

#[test]
fn a_lock_outlives_the_death_of_every_process() {
    let mut world = World::new(3);
    world.settle();
    world.granted(0, acquire(1));
    (0..3).for_each(|node| world.restart(node, None));
    world.settle();
    assert!(matches!(world.lock(1, acquire(2)), Ok(LockVerdict::Held(lock)) if lock.token == 1));
    assert_eq!(world.granted(2, acquire(1)), 1, "asked again by whom it was granted");
}

#[test]
fn a_voter_whose_store_is_another_is_let_in_anew_and_knows_what_was_decided() {
    let mut world = World::new(3);
    world.settle();
    let before = world.voters(0);
    world.granted(0, acquire(1));
    // Rows of ballots are gone, though nothing else is.
    let mut disk = world.disk(1);
    disk.retain(|(tree, key), _| *tree != Tree::Ballots || key[0] != b'/');
    world.restart(1, Some(disk));
    let now = world.now;
    world.nodes[1].replica.announce_self(&[], "", now).unwrap();
    assert!(!world.replica(1).ballots().is_voter(&world.id(1)));
    world.settle();
    let after = world.voters(0);
    assert_eq!(after.len(), 3);
    assert_eq!(before.iter().filter(|voter| after.contains(voter)).count(), 2, "one of them is another");
    assert!(world.replica(1).ballots().is_voter(&world.id(1)));
    world.partition(&[0], &[1, 2]);
    assert!(matches!(world.lock(1, acquire(2)), Ok(LockVerdict::Held(lock)) if lock.token == 1));
}

#[test]
fn a_voter_that_hears_that_its_disk_was_set_back_resigns_and_is_let_in_anew() {
    let mut world = World::new(3);
    world.settle();
    let old = world.disk(1);
    world.granted(0, acquire(1));
    world.put(1, "k/1", json!({ "n": 1 }));
    world.settle();
    let store = world.replica(1).ballots().store();
    world.restart(1, Some(old));
    world.settle();
    assert_ne!(world.replica(1).ballots().store(), store, "its word counted for something that it forgot");
    assert!(world.replica(1).ballots().is_voter(&world.id(1)), "let in anew");
    assert_eq!(world.voters(0).len(), 3);
    world.partition(&[0], &[1, 2]);
    assert!(world.replica(2).has_quorum(), "the others know of its store");
    assert!(matches!(world.lock(1, acquire(2)), Ok(LockVerdict::Held(lock)) if lock.token == 1));
}

#[test]
fn a_voter_that_comes_back_is_asked_what_it_was_not_there_to_hear() {
    let mut world = World::new(3);
    world.settle();
    world.partition(&[0], &[2]);
    let now = world.now;
    let id = world.nodes[0].replica.ask_lock("l", acquire(1), now);
    world.carry_out(0);
    // The one that was asked goes with the question before it hears it, and the other is back.
    world.heal();
    while world.deliver(0, 2) || world.deliver(2, 0) {}
    world.partition(&[0], &[1]);
    while world.deliver(0, 2) || world.deliver(2, 0) {}
    let granted = |event: &Event| matches!(event, Event::Asked { id: of, outcome: Ok(_) } if *of == id);
    assert_eq!(world.now, now, "nothing was waited for");
    assert!(world.nodes[0].events.iter().any(granted), "{:?}", world.nodes[0].events);
}

#[test]
fn a_power_cut_that_takes_what_was_only_passed_on_costs_nobody_a_vote() {
    let mut world = World::new(3);
    world.settle();
    world.granted(0, acquire(1));
    let stores = [0, 1, 2].map(|node| world.replica(node).ballots().store());
    let held = world.disk(1);
    world.slow_disks = true;
    world.put(1, "k/1", json!({ "n": 1 }));
    world.pass(20);
    world.drain_wires();
    world.sync(0);
    world.sync(2);
    assert_eq!(world.disk(1), held, "the others have it on their disks, and who wrote it does not");
    world.slow_disks = false;
    world.restart(1, None);
    world.settle();
    let rolled_back = |event: &Event| matches!(event, Event::Alarm(Alarm::RolledBack { .. }));
    assert!(world.nodes[1].events.iter().any(rolled_back), "{:?}", world.nodes[1].events);
    assert_eq!([0, 1, 2].map(|node| world.replica(node).ballots().store()), stores);
    world.partition(&[0], &[1, 2]);
    assert!(matches!(world.lock(1, acquire(2)), Ok(LockVerdict::Held(lock)) if lock.token == 1));
}

#[test]
fn what_was_heard_of_a_voter_outlives_those_who_heard_it() {
    let mut world = World::new(3);
    world.settle();
    let old = world.disk(1);
    world.granted(0, acquire(1));
    world.put(1, "k/1", json!({ "n": 1 }));
    world.settle();
    // It goes to the disk with what goes there next.
    world.put(0, "k/2", json!({ "n": 2 }));
    world.settle();
    let store = world.replica(1).ballots().store();
    world.restart(0, None);
    world.restart(2, None);
    world.restart(1, Some(old));
    world.settle();
    assert_ne!(world.replica(1).ballots().store(), store, "its word counted for something that it forgot");
    assert!(world.replica(1).ballots().is_voter(&world.id(1)), "let in anew");
}

#[test]
fn a_lock_counts_as_held_until_it_is_given_back_and_a_restart_forgets_none() {
    let mut world = World::new(3);
    world.settle();
    let held = |world: &World, node: usize| -> Vec<String> {
        world.replica(node).ballots().locks_held().iter().map(|name| name.to_string()).collect()
    };
    world.granted(0, acquire(1));
    let now = world.now;
    world.nodes[0].replica.ask_lock("other", acquire(2), now);
    world.carry_out(0);
    world.settle();
    assert_eq!([0, 1, 2].map(|node| held(&world, node)), [["l", "other"]; 3]);
    world.restart(1, None);
    world.settle();
    assert_eq!(held(&world, 1), ["l", "other"]);
    world.lock(1, LockChange::Release { token: 1 }).unwrap();
    world.settle();
    assert_eq!([0, 1, 2].map(|node| held(&world, node)), [["other"]; 3]);
    world.lock(1, LockChange::Read).unwrap();
    let booth = world.replica(1).ballots();
    assert!(booth.tally().decided >= 2);
    assert_eq!(booth.took().count(), booth.tally().decided, "each decision took some time");
}

#[test]
fn a_lost_majority_is_given_up_by_an_operator_and_tokens_go_on_above_all_that_it_gave() {
    let mut world = World::new(5);
    world.settle();
    world.granted(0, acquire(1));
    world.partition(&[0, 1], &[2, 3, 4]);
    assert!(matches!(world.lock(0, LockChange::Read), Err(AskError::NoQuorum { reached: 2, voters: 5 })));
    let now = world.now;
    let recovered = world.nodes[0].replica.recover_voters(now);
    world.carry_out(0);
    world.drain_wires();
    assert!(recovered.version > u64::from(u32::MAX) && recovered.set.len() == 1);
    // What it knows of the lock it keeps; whoever has it next has a token that nobody ever had.
    world.lock(1, LockChange::Release { token: 1 }).unwrap();
    assert!(world.granted(1, acquire(2)) > u64::from(u32::MAX));
    // Those who come back obey.
    world.heal();
    world.settle();
    assert!((0..5).all(|node| world.replica(node).ballots().voters().unwrap().version > u64::from(u32::MAX)));
    assert!(matches!(world.lock(4, acquire(3)), Ok(LockVerdict::Held(lock)) if lock.token > u64::from(u32::MAX)));
    assert_eq!(world.voters(2).len(), 5);
}

#[test]
fn a_change_of_voters_is_finished_by_whoever_leads_then() {
    let mut world = World::new(2);
    world.settle();
    world.granted(0, acquire(1));
    let third = world.join_as("third");
    // Every message of the change is lost at some step, one step later each time.
    for lost in 0..60 {
        world.drain_some(lost);
        world.pass(50);
    }
    world.settle();
    assert_eq!(world.voters(third).len(), 3);
    assert!(matches!(world.lock(third, acquire(2)), Ok(LockVerdict::Held(lock)) if lock.token == 1));
}

impl World {
    /// Delivers so many messages; links that still have some break and come back.
    fn drain_some(&mut self, messages: usize) {
        for _ in 0..messages {
            let Some(pair) = self.wires.iter().find(|(_, wire)| !wire.is_empty()).map(|(pair, _)| *pair) else {
                return;
            };
            self.deliver(pair.0, pair.1);
        }
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        let (first, rest) = all.split_first().unwrap();
        self.partition(&[*first], rest);
        self.heal();
    }
}

#[test]
fn times_are_given_by_whoever_drives() {
    // A request that nobody answers ends: the links stand, and voters are silent.
    let mut world = World::new(3);
    world.settle();
    world.granted(0, acquire(1));
    let asked = world.ask_lock(1, acquire(2));
    let Now { mono_us, .. } = world.now;
    while world.told(1, asked).is_none() {
        world.wires.clear();
        world.pass(100);
        assert!(world.now.mono_us < mono_us + 10_000_000);
    }
    assert!(world.told(1, asked).unwrap().is_err());
}
