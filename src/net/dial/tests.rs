//! The planner against a clock that the test holds.

use super::*;

const MS: (u64, u64) = (200, 30_000);

fn node(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn addr(n: u16) -> Multiaddr {
    format!("/ip4/10.0.0.1/tcp/{n}").parse().unwrap()
}

fn planner(seeds: Vec<(Multiaddr, Option<NodeId>)>) -> Planner {
    Planner::new(node(0), seeds, MS, 42)
}

fn with_book(peers: &[u8]) -> Planner {
    let mut planner = planner(Vec::new());
    planner.set_book(peers.iter().map(|n| (node(*n), vec![addr(u16::from(*n))])).collect(), 0);
    planner
}

fn targets(dials: Vec<Dial>) -> Vec<Target> {
    dials.into_iter().map(|dial| dial.target).collect()
}

/// Fails every attempt with peer 1 until `end`; the gaps between the starts of attempts.
fn gaps(planner: &mut Planner, end: u64) -> Vec<u64> {
    let (mut now, mut last, mut gaps) = (0, None, Vec::new());
    while now < end {
        if !planner.due(now).is_empty() {
            gaps.extend(last.map(|last| now - last));
            last = Some(now);
            planner.on_failed(&Target::Peer(node(1)), "refused", now + 1);
        }
        now = planner.next_at().unwrap().max(now + 1);
    }
    gaps
}

#[test]
fn failures_double_the_wait_up_to_a_bound_and_never_end() {
    let gaps = gaps(&mut with_book(&[1]), 3_600_000);
    assert!(gaps[0] >= 100 && gaps[0] <= 200, "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 30_000));
    assert!(gaps[10..].iter().all(|gap| *gap >= 15_000));
    assert!(gaps.len() >= 120, "still dialled after an hour");
}

#[test]
fn urgency_caps_every_wait_at_a_second() {
    let mut planner = with_book(&[1]);
    gaps(&mut planner, 600_000);
    assert!(planner.next_at().unwrap() > 601_000);
    planner.set_urgent(true, 600_000);
    assert!(planner.next_at().unwrap() <= 601_000);
    assert!(gaps(&mut planner, 900_000)[1..].iter().all(|gap| *gap <= 1_000));
}

#[test]
fn an_attempt_that_hung_has_already_waited() {
    let mut planner = with_book(&[1]);
    planner.set_urgent(true, 0);
    assert_eq!(planner.due(0).len(), 1);
    assert!(planner.due(5_000).is_empty(), "one attempt at a time");
    planner.on_failed(&Target::Peer(node(1)), "timed out", 1_500);
    assert_eq!(planner.next_at(), Some(1_550));
}

#[test]
fn a_stable_link_is_sought_again_at_once_a_flapping_one_is_not() {
    let mut planner = with_book(&[1]);
    let mut now = 0;
    for flap in 0..6 {
        now = planner.next_at().unwrap();
        assert_eq!(planner.due(now).len(), 1, "flap {flap}");
        planner.on_connected(node(1), Some(&Target::Peer(node(1))), now);
        planner.on_link_up(node(1), now);
        planner.on_link_down(node(1), false, "closed", now + 10);
    }
    assert!(planner.next_at().unwrap() >= now + 1_000);
    now = planner.next_at().unwrap();
    planner.due(now);
    planner.on_connected(node(1), None, now);
    planner.on_link_up(node(1), now);
    planner.on_link_down(node(1), true, "lost", now + 60_000);
    planner.on_disconnected(node(1), "lost", now + 60_000);
    assert!(planner.next_at().unwrap() <= now + 60_000 + FIRST_JITTER_MS);
}

#[test]
fn a_peer_that_lets_us_connect_and_hangs_up_is_backed_off_from() {
    let mut planner = with_book(&[1]);
    let mut now = 0;
    for _ in 0..8 {
        now = planner.next_at().unwrap();
        planner.due(now);
        planner.on_connected(node(1), None, now);
        planner.on_disconnected(node(1), "closed", now);
    }
    assert!(planner.next_at().unwrap() >= now + 10_000);
}

#[test]
fn the_blocked_are_left_alone_and_dialled_when_released() {
    let mut planner = with_book(&[1, 2]);
    planner.set_blocked([node(1)].into(), 0);
    assert_eq!(targets(planner.due(0)), [Target::Peer(node(2))]);
    assert!(!planner.admits(&node(1)));
    assert_eq!(planner.next_at(), None);
    planner.set_blocked(BTreeSet::new(), 90_000);
    assert_eq!(targets(planner.due(90_000)), [Target::Peer(node(1))]);
}

#[test]
fn only_the_allowed_are_dialled_and_never_this_node() {
    let mut planner = with_book(&[0, 1, 2]).with_allow(Some([node(0), node(2)].into()));
    assert!(!planner.on_discovered(node(3), vec![addr(3)], 0));
    assert_eq!(targets(planner.due(0)), [Target::Peer(node(2))]);
}

#[test]
fn a_seed_learns_who_answers_and_forgets_when_somebody_else_does() {
    let mut planner = planner(vec![(addr(7), None)]);
    assert_eq!(targets(planner.due(0)), [Target::Seed(0)]);
    planner.on_connected(node(1), Some(&Target::Seed(0)), 1);
    planner.on_link_up(node(1), 1);
    assert_eq!(planner.next_at(), None);
    planner.on_link_down(node(1), false, "gone", 10_000);
    let dials = planner.due(11_000);
    assert_eq!(dials, [Dial { target: Target::Peer(node(1)), addresses: vec![addr(7)] }]);
    planner.on_wrong_peer(node(1), &addr(7), node(2));
    planner.on_failed(&Target::Peer(node(1)), "wrong peer", 11_000);
    assert_eq!(targets(planner.due(11_001)), [Target::Seed(0)]);
}

#[test]
fn a_seed_that_is_this_node_is_not_dialled_again() {
    let mut planner = planner(vec![(addr(7), None), (addr(8), Some(node(0)))]);
    assert_eq!(targets(planner.due(0)), [Target::Seed(0)]);
    planner.on_self(&addr(7));
    planner.on_failed(&Target::Seed(0), "self", 0);
    assert_eq!(planner.next_at(), None);
}

#[test]
fn strangers_are_forgotten_and_members_are_not() {
    let mut planner = with_book(&[1]);
    assert!(planner.on_discovered(node(2), vec![addr(2)], 0));
    assert!(!planner.on_discovered(node(2), vec![addr(2)], 0), "no news");
    planner.due(100);
    for n in [1, 2] {
        planner.on_failed(&Target::Peer(node(n)), "refused", 101);
    }
    planner.due(STRANGER_MS_MAX + 1);
    let known: Vec<_> = planner.peers(0).into_iter().map(|info| info.peer).collect();
    assert_eq!(known, [node(1)]);
}

#[test]
fn the_table_of_peers_is_bounded() {
    let mut planner = planner(Vec::new()).with_peers_max(10);
    for n in 1..100 {
        planner.on_discovered(node(n), vec![addr(u16::from(n))], 0);
    }
    assert_eq!(planner.peers(0).len(), 10);
    planner.due(100);
    assert!(!planner.on_discovered(node(200), vec![addr(200)], 0), "all are being dialled");
}

#[test]
fn a_failure_is_told_once_in_a_while() {
    let mut planner = with_book(&[1]);
    let mut told = 0;
    let mut now = 0;
    planner.set_urgent(true, 0);
    while now < 30_000 {
        planner.due(now);
        told += u32::from(planner.on_failed(&Target::Peer(node(1)), "refused", now));
        now = planner.next_at().unwrap();
    }
    assert_eq!(told, 3);
}

#[test]
fn spared_members_are_dialled_only_by_who_has_lost_everyone() {
    let mut planner = with_book(&[1]);
    planner.on_discovered(node(2), vec![addr(2)], 0);
    planner.set_spared([node(2)].into());
    assert_eq!(targets(planner.due(1_000)).len(), 2, "nobody is linked: begin with anyone");
    planner.on_link_up(node(1), 1_100);
    planner.on_failed(&Target::Peer(node(2)), "refused", 1_100);
    assert!(planner.due(100_000).is_empty());
    planner.set_spared(BTreeSet::new());
    assert_eq!(targets(planner.due(100_000)), [Target::Peer(node(2))]);
}
