//! One law check for every kind.
//!
//! A history of writes is planned by the kind itself, each at a replica that sees only what it has received, between
//! random deliveries, duplicates and state joins. Then, whatever happened:
//!
//! - `state = f(ops)`: every node's live entries are those of the ops its clock covers that none of them supersedes;
//! - `a ⊔ b = b ⊔ a`, `(a ⊔ b) ⊔ c = a ⊔ (b ⊔ c)`, `a ⊔ a = a`, where ⊔ is the join of states with their clocks;
//! - `a ⊔ Δ(b, a) = a ⊔ b`: the cells with dots that `a` lacks are as good as the whole state;
//! - every order of delivery, with duplicates, ends in the same entries and the same reading.
//!
//! The join is that of the randomized model the design rests on: keep what both have, add what the other's clock does
//! not cover, drop what it covers and no longer has.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value as Json, json};

use super::counter::{self, Counter, Step};
use super::extreme::End;
use super::kind::FieldKind;
use super::live::{Change, Live, State};
use super::register::Resolver;
use super::{Overflow, Value, extreme, flag, map, quorum, register, set, text};
use crate::clock::{Clock, Dot, HybridTime, Incarnation, NodeId, ReplicaId, Slot};

const REPLICAS: u32 = 4;

type Sub = Vec<u8>;

/// A kind as the laws see it: wishes become changes of cells, cells become a reading.
struct Kind {
    plan: fn(&Node, me: u32, wish: Wish) -> Vec<(Sub, Change)>,
    read: fn(&Node) -> Json,
}

/// A wish, in numbers that each kind takes its own way.
#[derive(Clone, Copy, Debug)]
struct Wish {
    remove: bool,
    n: u8,
}

#[derive(Clone, Debug)]
enum Act {
    Write { at: u32, wish: Wish },
    Deliver { to: u32, op: usize },
    Join { to: u32, from: u32 },
}

#[derive(Clone, Debug)]
struct Op {
    dot: Dot,
    at: HybridTime,
    sub: Sub,
    change: Change,
}

type Entries = BTreeMap<Dot, (HybridTime, Option<Vec<u8>>)>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    clock: Clock,
    cells: BTreeMap<Sub, Entries>,
}

/// Ids in another order than slots, so that a rule that looks at slots is found out.
fn replica(slot: u32) -> ReplicaId {
    let n = [2, 0, 3, 1][slot as usize % 4];
    ReplicaId { node: NodeId([n; 32]), incarnation: Incarnation([9; 16]) }
}

impl Node {
    fn state(&self, sub: &[u8]) -> State<'_> {
        let mut state = State::default();
        for (dot, (at, value)) in self.cells.get(sub).into_iter().flatten() {
            match value {
                Some(value) => state.live.push(Live { dot: *dot, replica: replica(dot.slot().0), at: *at, value }),
                None => state.records.push(*dot),
            }
        }
        state
    }

    fn subs(&self) -> Vec<Sub> {
        let live = |sub: &&Sub| !self.state(sub).live.is_empty();
        self.cells.keys().filter(live).cloned().collect()
    }

    /// Rule R1, then rule R5.
    fn deliver(&mut self, op: &Op) {
        let next = op.dot.seq() == self.clock.get(op.dot.slot()) + 1;
        if !next || !op.change.supersedes.iter().all(|dot| self.clock.covers(*dot)) {
            return;
        }
        let cell = self.cells.entry(op.sub.clone()).or_default();
        cell.retain(|dot, _| !op.change.supersedes.contains(dot));
        cell.insert(op.dot, (op.at, op.change.value.clone()));
        self.clock.raise(op.dot.slot(), op.dot.seq());
    }

    fn join(&mut self, other: &Node) {
        self.join_cells(other, other.cells.keys().chain(self.cells.keys()).cloned().collect());
    }

    fn join_delta(&mut self, other: &Node) {
        let news = |entries: &Entries| entries.keys().any(|dot| !self.clock.covers(*dot));
        let subs = other.cells.iter().filter(|(_, entries)| news(entries)).map(|(sub, _)| sub.clone()).collect();
        self.join_cells(other, subs);
    }

    fn join_cells(&mut self, other: &Node, subs: BTreeSet<Sub>) {
        let none = Entries::new();
        for sub in subs {
            let (ours, theirs) = (self.cells.get(&sub).unwrap_or(&none), other.cells.get(&sub).unwrap_or(&none));
            let kept = ours.iter().filter(|(dot, _)| theirs.contains_key(dot) || !other.clock.covers(**dot));
            let added = theirs.iter().filter(|(dot, _)| !self.clock.covers(**dot));
            let joined: Entries = kept.chain(added).map(|(dot, entry)| (*dot, entry.clone())).collect();
            self.cells.insert(sub, joined);
        }
        self.clock.join(&other.clock);
    }

    /// What the rule says of a set of ops: those that none of them supersedes.
    fn of_ops<'a>(ops: impl Iterator<Item = &'a Op> + Clone) -> Self {
        let dead: BTreeSet<Dot> = ops.clone().flat_map(|op| op.change.supersedes.iter().copied()).collect();
        let mut node = Node::default();
        for op in ops {
            node.clock.raise(op.dot.slot(), op.dot.seq());
            if !dead.contains(&op.dot) {
                let entry = (op.at, op.change.value.clone());
                node.cells.entry(op.sub.clone()).or_default().insert(op.dot, entry);
            }
        }
        node
    }

    /// Without cells that hold nothing: a node may or may not remember having had them.
    fn tidy(&self) -> Self {
        let mut tidy = self.clone();
        tidy.cells.retain(|_, entries| !entries.is_empty());
        tidy
    }
}

fn joined(a: &Node, b: &Node) -> Node {
    let mut both = a.clone();
    both.join(b);
    both.tidy()
}

fn steps() -> impl Strategy<Value = Vec<Act>> {
    let wish = (prop::bool::weighted(0.2), 0u8..6).prop_map(|(remove, n)| Wish { remove, n });
    let step = prop_oneof![
        3 => (0..REPLICAS, wish).prop_map(|(at, wish)| Act::Write { at, wish }),
        4 => (0..REPLICAS, any::<prop::sample::Index>()).prop_map(|(to, op)| Act::Deliver { to, op: op.index(40) }),
        1 => (0..REPLICAS, 0..REPLICAS).prop_map(|(to, from)| Act::Join { to, from }),
    ];
    prop::collection::vec(step, 1..50)
}

/// Runs a history, checking every node against the ops its clock covers after every step.
fn run(kind: &Kind, steps: &[Act]) -> Result<(Vec<Op>, Vec<Node>), TestCaseError> {
    let (mut ops, mut nodes) = (Vec::<Op>::new(), vec![Node::default(); REPLICAS as usize]);
    for (tick, step) in steps.iter().enumerate() {
        let changed = match step {
            Act::Write { at, wish } => {
                let node = &mut nodes[*at as usize];
                for (sub, change) in (kind.plan)(node, *at, *wish) {
                    let dot = Dot::new(Slot(*at), node.clock.get(Slot(*at)) + 1);
                    // Few different times, so that ties between replicas and within a batch happen.
                    let op = Op { dot, at: HybridTime(tick as u64 / 8), sub, change };
                    node.deliver(&op);
                    prop_assert!(node.clock.covers(dot), "a plan superseded a dot its writer had not seen");
                    ops.push(op);
                }
                at
            }
            Act::Deliver { to, op } if !ops.is_empty() => {
                nodes[*to as usize].deliver(&ops[op % ops.len()]);
                to
            }
            Act::Join { to, from } => {
                let other = nodes[*from as usize].clone();
                nodes[*to as usize].join(&other);
                to
            }
            Act::Deliver { to, .. } => to,
        };
        let node = &nodes[*changed as usize];
        let covered = ops.iter().filter(|op| node.clock.covers(op.dot));
        prop_assert_eq!(node.tidy(), Node::of_ops(covered));
    }
    Ok((ops, nodes))
}

fn check(kind: &Kind, steps: &[Act], seed: u64) -> TestCaseResult {
    let (ops, nodes) = run(kind, steps)?;
    let [a, b, c] = [&nodes[0], &nodes[1], &nodes[2]];
    prop_assert_eq!(joined(a, b), joined(b, a), "commutative");
    prop_assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)), "associative");
    prop_assert_eq!(joined(a, a), a.tidy(), "idempotent");
    let mut by_delta = a.clone();
    by_delta.join_delta(b);
    prop_assert_eq!(by_delta.tidy(), joined(a, b), "delta = whole state");

    let whole = Node::of_ops(ops.iter());
    let by_joins = nodes.iter().fold(Node::default(), |all, node| joined(&all, node));
    prop_assert_eq!(&by_joins, &whole, "joins reach every op");
    let mut by_ops = Node::default();
    let mut order: Vec<usize> = (0..ops.len()).collect();
    // A shuffle, and as many rounds as it takes: what is not deliverable yet is tried again, what is delivered comes twice.
    order.sort_by_key(|i| xxhash_rust::xxh3::xxh3_64_with_seed(&i.to_le_bytes(), seed));
    for _ in 0..=ops.len() {
        order.iter().for_each(|i| by_ops.deliver(&ops[*i]));
    }
    prop_assert_eq!(&by_ops.tidy(), &whole, "order-free");
    prop_assert_eq!((kind.read)(&by_ops), (kind.read)(&by_joins), "one reading");
    Ok(())
}

fn one(change: Option<Change>) -> Vec<(Sub, Change)> {
    change.into_iter().map(|change| (Sub::new(), change)).collect()
}

fn register_value(n: u8) -> Vec<u8> {
    Value::Int(i64::from(n)).encode()
}

fn plan_register(node: &Node, _: u32, wish: Wish) -> Vec<(Sub, Change)> {
    let state = node.state(b"");
    one(if wish.remove { state.remove() } else { register::set(&state, register_value(wish.n)) })
}

fn read_register(node: &Node, resolver: Resolver) -> Json {
    register::settle(&node.state(b"").live, resolver).map_or(Json::Null, |reading| reading.into_json())
}

fn plan_count(node: &Node, me: u32, wish: Wish, counter: Counter, by: i128) -> Vec<(Sub, Change)> {
    let state = node.state(b"");
    if wish.remove {
        return one(state.remove());
    }
    match counter.increment(&state, replica(me), 0, by) {
        Ok(Step::Share(change) | Step::Restart(change)) => one(Some(change)),
        Ok(Step::Nothing) | Err(_) => Vec::new(),
    }
}

const GROWING: Counter = Counter { grows_only: true, overflow: Overflow::Saturate };
const BOTH_WAYS: Counter = Counter { grows_only: false, overflow: Overflow::Saturate };

/// Increments near the bound, so that every policy acts.
fn plan_bounded(node: &Node, me: u32, wish: Wish, overflow: Overflow) -> Vec<(Sub, Change)> {
    let by = [1, -1, i128::from(i64::MAX), i128::from(i64::MIN), 7, -7][wish.n as usize];
    plan_count(node, me, wish, Counter { grows_only: false, overflow }, by)
}

fn read_count(node: &Node, counter: Counter) -> Json {
    super::value::integer_to_json(counter.read(counter::sum(&node.state(b"").live)))
}

fn plan_set(node: &Node, wish: Wish, grows_only: bool) -> Vec<(Sub, Change)> {
    let sub = register_value(wish.n);
    let state = node.state(&sub);
    let change = match (grows_only, wish.remove) {
        (true, _) => set::ensure(&state),
        (false, true) => set::remove(&state),
        (false, false) => Some(set::add(&state)),
    };
    change.map(|change| (sub, change)).into_iter().collect()
}

fn read_set(node: &Node) -> Json {
    node.subs().iter().map(|sub| Value::decode(sub).unwrap().to_json()).collect()
}

fn plan_map(node: &Node, me: u32, wish: Wish) -> Vec<(Sub, Change)> {
    let kind = if wish.n.is_multiple_of(2) { FieldKind::PnCounter } else { FieldKind::Contested };
    let sub = map::encode_key(kind, &format!("k{}", wish.n / 2));
    let state = node.state(&sub);
    let change = match (wish.remove, kind) {
        (true, _) => state.remove(),
        (_, FieldKind::PnCounter) => match BOTH_WAYS.increment(&state, replica(me), 0, i128::from(wish.n) + 1) {
            Ok(Step::Share(change)) => Some(change),
            _ => None,
        },
        _ => register::set(&state, register_value(wish.n)),
    };
    change.map(|change| (sub, change)).into_iter().collect()
}

fn read_map(node: &Node) -> Json {
    let mut object = serde_json::Map::new();
    for sub in node.subs() {
        let (kind, key) = map::decode_key(&sub).unwrap();
        let live = node.state(&sub).live;
        let value = match kind {
            FieldKind::PnCounter => json!(counter::sum(&live) as i64),
            _ => register::settle(&live, Resolver::LastWriter).unwrap().into_json(),
        };
        object.insert(format!("{kind}.{key}"), value);
    }
    Json::Object(object)
}

fn kind_under_test(name: FieldKind) -> Kind {
    use FieldKind::*;
    match name {
        GCounter => Kind {
            plan: |node, me, wish| plan_count(node, me, wish, GROWING, i128::from(wish.n)),
            read: |node| read_count(node, GROWING),
        },
        PnCounter => Kind {
            plan: |node, me, wish| plan_count(node, me, wish, BOTH_WAYS, i128::from(wish.n) - 2),
            read: |node| read_count(node, BOTH_WAYS),
        },
        GSet => Kind { plan: |node, _, wish| plan_set(node, wish, true), read: read_set },
        OrSet => Kind { plan: |node, _, wish| plan_set(node, wish, false), read: read_set },
        Flag => Kind {
            plan: |node, _, wish| {
                let state = node.state(b"");
                one(if wish.remove { state.remove() } else { flag::set(&state, wish.n % 2 == 0, false) })
            },
            read: |node| json!([flag::read(&node.state(b"").live, false), flag::read(&node.state(b"").live, true)]),
        },
        Max | Min => Kind {
            plan: |node, _, wish| {
                let state = node.state(b"");
                let value = Value::Int(i64::from(wish.n));
                one(if wish.remove { state.remove() } else { extreme::offer(&state, &value, End::Largest) })
            },
            read: |node| {
                let live = node.state(b"").live;
                [End::Largest, End::Smallest].map(|end| extreme::read(&live, end).map(|v| v.to_json())).to_vec().into()
            },
        },
        Fww => Kind {
            plan: |node, _, wish| {
                let state = node.state(b"");
                match wish.remove {
                    true => one(state.remove()),
                    false => one(register::set_first(&state, register_value(wish.n)).ok().flatten()),
                }
            },
            read: |node| read_register(node, Resolver::FirstWriter),
        },
        // One decision is one value, whoever writes it down.
        Quorum => Kind {
            plan: |node, _, wish| {
                let value = [wish.n];
                let decided = quorum::Decided { version: wish.n.into(), value: (wish.n % 3 > 0).then_some(&value) };
                one(quorum::publish(&node.state(b""), &decided))
            },
            read: |node| json!(quorum::latest(&node.state(b"").live).map(|decided| decided.version)),
        },
        Lww => Kind { plan: plan_register, read: |node| read_register(node, Resolver::LastWriter) },
        Mv => Kind { plan: plan_register, read: |node| read_register(node, Resolver::KeepAll) },
        Contested | Existence => Kind {
            plan: plan_register,
            read: |node| Resolver::ALL.map(|resolver| read_register(node, resolver)).to_vec().into(),
        },
        Map => Kind { plan: plan_map, read: read_map },
        Text => Kind {
            plan: |node, me, wish| {
                let state = node.state(b"");
                let words = ["", "fox", "the fox", "the quick fox", "a fox jumps", "dog"];
                one(if wish.remove {
                    state.remove()
                } else {
                    text::set(&state, replica(me), words[wish.n as usize]).unwrap()
                })
            },
            read: |node| json!(text::read(&node.state(b"").live)),
        },
        Json => Kind {
            plan: |node, me, wish| {
                let state = node.state(b"");
                let value =
                    [json!({}), json!({"a": 1}), json!({"a": {"b": 1}}), json!([1, 2]), json!({"b": 2}), json!("s")];
                one(if wish.remove {
                    state.remove()
                } else {
                    super::json::set(&state, replica(me), &value[wish.n as usize]).unwrap()
                })
            },
            read: |node| json!(super::json::read(&node.state(b"").live)),
        },
    }
}

proptest! {
    #[test]
    fn every_kind_obeys_the_laws(steps in steps(), seed: u64) {
        let small = |kind: &FieldKind| !matches!(kind, FieldKind::Text | FieldKind::Json);
        for kind in FieldKind::DECLARABLE.into_iter().filter(small) {
            check(&kind_under_test(kind), &steps, seed).map_err(|e| TestCaseError::fail(format!("{kind}: {e}")))?;
        }
    }

    #[test]
    fn every_overflow_policy_obeys_the_laws(steps in steps(), seed: u64) {
        let kinds: [Kind; 3] = [
            Kind { plan: |n, me, w| plan_bounded(n, me, w, Overflow::Saturate), read: |n| read_count(n, BOTH_WAYS) },
            Kind { plan: |n, me, w| plan_bounded(n, me, w, Overflow::Reset), read: |n| read_count(n, Counter { overflow: Overflow::Reset, ..BOTH_WAYS }) },
            Kind { plan: |n, me, w| plan_bounded(n, me, w, Overflow::Error), read: |n| read_count(n, BOTH_WAYS) },
        ];
        for kind in kinds {
            check(&kind, &steps, seed)?;
        }
    }

    #[test]
    fn a_counter_is_the_sum_of_the_increments(mut steps in steps()) {
        let mut total = 0;
        for step in &mut steps {
            if let Act::Write { wish, .. } = step {
                wish.remove = false;
                total += i64::from(wish.n) - 2;
            }
        }
        let kind = kind_under_test(FieldKind::PnCounter);
        let (ops, _) = run(&kind, &steps)?;
        prop_assert_eq!((kind.read)(&Node::of_ops(ops.iter())), json!(total));
    }

    #[test]
    fn an_add_wins_over_the_removes_that_did_not_see_it(steps in steps()) {
        let kind = kind_under_test(FieldKind::OrSet);
        let (ops, _) = run(&kind, &steps)?;
        let removed = |add: &Op| ops.iter().any(|op| op.change.value.is_none() && op.change.supersedes.contains(&add.dot));
        let readded = |add: &Op| ops.iter().any(|op| op.change.value.is_some() && op.change.supersedes.contains(&add.dot));
        let whole = Node::of_ops(ops.iter());
        for add in ops.iter().filter(|op| op.change.value.is_some()) {
            let there = !whole.state(&add.sub).live.is_empty();
            prop_assert!(there || removed(add) || readded(add), "an add that no remove saw is gone");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn collaborative_kinds_obey_the_laws(steps in steps(), seed: u64) {
        for kind in [FieldKind::Text, FieldKind::Json] {
            check(&kind_under_test(kind), &steps, seed).map_err(|e| TestCaseError::fail(format!("{kind}: {e}")))?;
        }
    }
}

/// The check must be able to fail: a register whose losers are dropped when they are applied (against rule R5) ends in
/// different states by different orders.
#[test]
fn a_node_that_drops_losers_at_apply_breaks_the_laws() {
    let write = |slot, at, supersedes: Vec<Dot>, n| Op {
        dot: Dot::new(Slot(slot), 1),
        at: HybridTime(at),
        sub: Sub::new(),
        change: Change { value: Some(register_value(n)), supersedes },
    };
    let deliver_eagerly = |node: &mut Node, op: &Op| {
        node.deliver(op);
        let cell = node.cells.get_mut(&op.sub).unwrap();
        let newest = cell.iter().max_by_key(|(_, (at, _))| *at).map(|(dot, _)| *dot);
        cell.retain(|dot, _| Some(*dot) == newest);
    };
    // The newest write superseded nothing; the third supersedes the newest only, so the old one should come back.
    let (old, newest) = (write(0, 1, vec![], 1), write(1, 9, vec![], 2));
    let third =
        Op { change: Change { value: None, ..write(2, 0, vec![newest.dot], 0).change }, ..write(2, 0, vec![], 0) };
    let orders = [[&old, &newest, &third], [&newest, &third, &old]];
    let ends = orders.map(|order| {
        let (mut right, mut wrong) = (Node::default(), Node::default());
        for op in order {
            right.deliver(op);
            deliver_eagerly(&mut wrong, op);
        }
        (right.tidy(), wrong.tidy())
    });
    assert_eq!(ends[0].0, ends[1].0);
    assert_ne!(ends[0].1, ends[1].1);
}
