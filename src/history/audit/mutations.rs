//! Changes to a stored chain, clumsy ones and ones that make every hash anew: none up to the last anchor goes unseen.

use proptest::prelude::*;
use serde_json::json;

use super::world::{World, check, entry};
use super::*;

type Rows = Vec<(Vec<u8>, Vec<u8>)>;

/// 40 records in three runs of the process, anchored at several places; the last 5 records are not anchored.
fn world(with_base: bool) -> World {
    let mut world = World::new();
    world.start(1);
    let mut first = None;
    for n in 1..40 {
        match n {
            15 | 30 => world.start(n as u8),
            _ => world.append(entry(n)),
        }
        if [8, 9, 20, 34].contains(&n) {
            first = first.or(Some(world.anchor()));
        }
    }
    if let Some(first) = first.filter(|_| with_base) {
        world.cut(&first);
    }
    world
}

const LAST_ANCHOR: u64 = 34;

fn rows(world: &World) -> Rows {
    world.rows.clone().into_iter().collect()
}

fn at(rows: &Rows, index: u64) -> usize {
    rows.iter().position(|(key, _)| *key == row::key_of(index)).unwrap()
}

fn report(world: &World, rows: &Rows) -> Report {
    verify(world.node(), rows.iter().map(|(key, bytes)| (key, bytes)), &world.anchors, &check)
}

/// The rows with `change` made to the entry at `index`, and all hashes from there on made anew: what somebody does who
/// owns the disk and knows this code.
fn rewritten(world: &World, rows: &Rows, index: u64, change: impl FnOnce(&mut Vec<Entry>)) -> Rows {
    let place = at(rows, index);
    let mut entries: Vec<Entry> =
        rows[place..].iter().map(|(_, bytes)| Record::decode(bytes).unwrap().entry()).collect();
    change(&mut entries);
    let mut previous = Record::decode(&rows[place].1).unwrap().previous;
    let mut forged = rows[..place].to_vec();
    for (next, entry) in (index..).zip(&entries) {
        let (bytes, hash) = entry.encode(next, &previous);
        forged.push((row::key_of(next).to_vec(), bytes));
        previous = hash;
    }
    assert_eq!(Chain::load(world.node(), forged.clone(), &check, |_| {}).1.findings, [], "the forger did well");
    forged
}

#[derive(Clone, Debug)]
enum Mutation {
    Delete(prop::sample::Index),
    EditByte(prop::sample::Index, prop::sample::Index, u8),
    EditKey(prop::sample::Index, prop::sample::Index, u8),
    Shorten(prop::sample::Index, prop::sample::Index),
    SwapValues(prop::sample::Index, prop::sample::Index),
    SwapOrder(prop::sample::Index, prop::sample::Index),
    Copy(prop::sample::Index, prop::sample::Index),
    Duplicate(prop::sample::Index),
    Truncate(prop::sample::Index),
    Reseal(prop::sample::Index, String),
    Rewrite(prop::sample::Index, String),
    DeleteAndRewrite(prop::sample::Index),
    InsertAndRewrite(prop::sample::Index),
    SwapAndRewrite(prop::sample::Index),
}

/// Those that make no hash.
fn any_clumsy() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let any_at = any::<prop::sample::Index>;
    prop_oneof![
        any_at().prop_map(Delete),
        (any_at(), any_at(), 1u8..).prop_map(|(at, byte, by)| EditByte(at, byte, by)),
        (any_at(), any_at(), 1u8..).prop_map(|(at, byte, by)| EditKey(at, byte, by)),
        (any_at(), any_at()).prop_map(|(at, len)| Shorten(at, len)),
        (any_at(), any_at()).prop_map(|(a, b)| SwapValues(a, b)),
        (any_at(), any_at()).prop_map(|(a, b)| SwapOrder(a, b)),
        (any_at(), any_at()).prop_map(|(from, to)| Copy(from, to)),
        any_at().prop_map(Duplicate),
        any_at().prop_map(Truncate),
    ]
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let any_at = any::<prop::sample::Index>;
    prop_oneof![
        3 => any_clumsy(),
        1 => (any_at(), any::<String>()).prop_map(|(at, text)| Reseal(at, text)),
        1 => (any_at(), any::<String>()).prop_map(|(at, text)| Rewrite(at, text)),
        1 => any_at().prop_map(DeleteAndRewrite),
        1 => any_at().prop_map(InsertAndRewrite),
        1 => any_at().prop_map(SwapAndRewrite),
    ]
}

impl Mutation {
    /// Changes something at or before the last anchor.
    fn apply(&self, world: &World, rows: &Rows) -> Rows {
        let key = row::key_of(LAST_ANCHOR);
        let anchored = rows.iter().position(|(other, _)| *other == key).map_or(rows.len(), |place| place + 1);
        let first = usize::from(world.chain.base().is_some());
        // Clumsy changes may hit the base too; forgers make records.
        let any = |index: &prop::sample::Index| index.index(anchored);
        let record = |index: &prop::sample::Index| first + index.index(anchored - first);
        let index_of = |place: usize| row::index_of(&rows[place].0).unwrap();
        let mut forged = rows.clone();
        match self {
            Mutation::Delete(place) => drop(forged.remove(any(place))),
            Mutation::EditByte(place, byte, by) => {
                let bytes = &mut forged[any(place)].1;
                let byte = byte.index(bytes.len());
                bytes[byte] ^= by;
            }
            Mutation::EditKey(place, byte, by) => {
                let key = &mut forged[any(place)].0;
                let byte = byte.index(key.len());
                key[byte] ^= by;
                forged.sort();
            }
            Mutation::Shorten(place, len) => {
                let bytes = &mut forged[any(place)].1;
                bytes.truncate(len.index(bytes.len()));
            }
            Mutation::SwapValues(a, b) => {
                let (a, b) = (any(a), any(b));
                let kept = forged[a].1.clone();
                forged[a].1 = std::mem::replace(&mut forged[b].1, kept);
            }
            Mutation::SwapOrder(a, b) => forged.swap(any(a), any(b)),
            Mutation::Copy(from, to) => forged[any(to)].1 = rows[any(from)].1.clone(),
            Mutation::Duplicate(place) => forged.insert(any(place), rows[any(place)].clone()),
            Mutation::Truncate(place) => forged.truncate(any(place)),
            Mutation::Reseal(place, text) => {
                let record = Record::decode(&rows[record(place)].1).unwrap();
                let changed = Entry { actor: text.clone(), ..record.entry() };
                forged[at(rows, record.index)].1 = changed.encode(record.index, &record.previous).0;
            }
            Mutation::Rewrite(place, text) => {
                return rewritten(world, rows, index_of(record(place)), |entries| entries[0].actor = text.clone());
            }
            Mutation::DeleteAndRewrite(place) => {
                return rewritten(world, rows, index_of(record(place)), |entries| drop(entries.remove(0)));
            }
            Mutation::InsertAndRewrite(place) => {
                return rewritten(world, rows, index_of(record(place)), |entries| entries.insert(0, entry(99)));
            }
            Mutation::SwapAndRewrite(place) => {
                return rewritten(world, rows, index_of(record(place)), |entries| entries.swap(0, 1));
            }
        }
        forged
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn every_change_up_to_the_last_anchor_is_found(mutation in any_mutation(), with_base in any::<bool>()) {
        let world = world(with_base);
        let rows = rows(&world);
        let forged = mutation.apply(&world, &rows);
        let found = report(&world, &forged);
        // A swap of a row with itself, or the actor it had already, is no change.
        prop_assert_eq!(found.is_whole(), forged == rows, "{:?}", found);
    }

    /// What a report calls proven is as it was, whatever else was done.
    #[test]
    fn what_is_proven_is_unchanged(
        first in any_mutation(), more in prop::collection::vec(any_clumsy(), 0..3), with_base in any::<bool>(),
    ) {
        let world = world(with_base);
        let mut forged = first.apply(&world, &rows(&world));
        for mutation in more {
            if !forged.is_empty() && forged.iter().all(|(key, bytes)| !key.is_empty() && !bytes.is_empty()) {
                forged = mutation.apply(&world, &forged);
            }
        }
        let found = report(&world, &forged);
        for (key, bytes) in &forged {
            let Some(index) = row::index_of(key).filter(|index| found.proves(*index)) else { continue };
            let twice = forged.iter().filter(|(other, _)| other == key).count() > 1;
            prop_assert!(twice || *bytes == world.rows[key], "record {} in {:?}", index, found);
        }
    }
}

#[test]
fn an_untouched_chain_verifies_and_is_proven_up_to_its_last_anchor() {
    for with_base in [false, true] {
        let world = world(with_base);
        let found = world.verify();
        let first = if with_base { 9 } else { 0 };
        assert!(found.is_whole(), "{found:?}");
        assert_eq!(found.proven, [finding::Span { first, last: LAST_ANCHOR }]);
        assert_eq!((found.anchors, found.proves(35), found.proves(8)), (4, false, !with_base));
    }
}

/// Each change once, by its name and its place.
#[test]
fn each_change_is_named_with_its_place() {
    let world = world(false);
    let sound = rows(&world);
    let found = |change: &dyn Fn(&mut Rows)| {
        let mut rows = sound.clone();
        change(&mut rows);
        report(&world, &rows).findings
    };
    let rewrite =
        |index, change: &dyn Fn(&mut Vec<Entry>)| report(&world, &rewritten(&world, &sound, index, change)).findings;
    assert_eq!(found(&|_| {}), []);
    assert_eq!(found(&|rows| drop(rows.drain(3..6))), [Finding::Deleted { first: 3, last: 5 }]);
    assert_eq!(found(&|rows| drop(rows.drain(..2))), [Finding::Deleted { first: 0, last: 1 }]);
    assert_eq!(found(&|rows| rows[7].1[12] ^= 1), [Finding::Edited { index: 7 }]);
    assert!(matches!(found(&|rows| rows[7].1[0] = 9)[..], [Finding::Unreadable { index: 7, .. }]));
    let swapped = [Finding::Misplaced { index: 4, holds: 6 }, Finding::Misplaced { index: 6, holds: 4 }];
    let swap = |rows: &mut Rows| {
        let kept = rows[4].1.clone();
        rows[4].1 = std::mem::replace(&mut rows[6].1, kept);
    };
    assert_eq!(found(&swap), swapped);
    assert_eq!(found(&|rows| rows.swap(5, 6)), [Finding::OutOfOrder { index: 5 }]);
    assert_eq!(found(&|rows| rows.insert(5, sound[5].clone())), [Finding::Duplicate { index: 5 }]);
    assert_eq!(found(&|rows| rows.push((vec![1, 2], vec![]))), [Finding::Foreign { key: "0102".into() }]);
    let truncated = |started| Finding::Truncated { stored: Some(27), anchored: 34, started };
    assert_eq!(found(&|rows| rows.truncate(28)), [truncated(None)], "no process started behind the anchor at 20");
    let reseal = |rows: &mut Rows| rows[7].1 = entry(99).encode(7, &Record::decode(&sound[7].1).unwrap().previous).0;
    assert_eq!(found(&reseal), [Finding::Unlinked { index: 8 }], "8 continues the 7 that was");
    let anew = |after, anchored, started| Finding::Rewritten { after, anchored, started };
    assert_eq!(
        rewrite(10, &|entries| entries[0].actor = "mallory".into()),
        [anew(Some(9), 20, Some(15)), anew(Some(9), 34, Some(15))]
    );
    assert_eq!(rewrite(36, &|entries| entries[0].actor = "mallory".into()), [], "behind the last anchor");
}

#[test]
fn an_older_disk_that_goes_on_is_explained_and_still_reported() {
    let mut world = world(false);
    let anchored = world.anchor();
    world.rows.retain(|key, _| row::index_of(key).is_some_and(|index| index < 37));
    let (chain, _) = Chain::load(world.node(), &world.rows, &check, |_| {});
    world.chain = chain;
    world.start(40);
    let cut_off = Finding::Truncated { stored: Some(37), anchored: 39, started: Some(37) };
    assert_eq!(world.verify().findings, [cut_off]);
    (0..3).for_each(|n| world.append(entry(n)));
    let found = world.verify().findings;
    assert_eq!(found, [Finding::Rewritten { after: Some(34), anchored: anchored.index, started: Some(37) }]);
    assert!(found[0].is_explained());
}

#[test]
fn a_chain_of_another_node_or_a_foreign_anchor_does_not_pass() {
    let (alice, mut bob) = (world(false), World::of(2));
    (0..5).for_each(|n| bob.append(entry(n)));
    let found = verify(alice.node(), &bob.rows, &[], &check);
    assert_eq!(found.findings, [Finding::Unlinked { index: 0 }]);
    let found = verify(bob.node(), &bob.rows, &alice.anchors[..1], &check);
    assert_eq!(found.findings, [Finding::RefusedAnchor { index: 8 }]);
    let claimed = Anchor::sign(bob.node(), 4, bob.chain.head().unwrap().hash, 0, &alice.signer.sign());
    let found = verify(bob.node(), &bob.rows, &[claimed], &check);
    assert_eq!((found.findings, found.proven), (vec![Finding::RefusedAnchor { index: 4 }], vec![]));
    let two = Anchor::sign(bob.node(), 2, [1; 32], 0, &bob.signer.sign());
    let other = Anchor::sign(bob.node(), 2, [2; 32], 0, &bob.signer.sign());
    assert!(verify(bob.node(), &bob.rows, &[two, other], &check).findings.contains(&Finding::Forked { index: 2 }));
}

#[test]
fn a_base_is_believed_only_as_the_node_signed_it() {
    let world = world(true);
    let sound = rows(&world);
    let found = |change: &dyn Fn(&mut Rows)| {
        let mut rows = sound.clone();
        change(&mut rows);
        report(&world, &rows).findings
    };
    assert_eq!(found(&|rows| drop(rows.remove(0))), [Finding::Deleted { first: 0, last: 8 }]);
    let wrong = |findings: Vec<Finding>| {
        matches!(findings[..], [Finding::BadBase { .. }, Finding::Deleted { first: 0, last: 8 }])
    };
    assert!(wrong(found(&|rows| rows[0].1[60] ^= 1)));
    // A later anchor put in the place of the base, to hide what lies between.
    let hide = |rows: &mut Rows| {
        let base = Base { anchor: world.anchors[2], ..*world.chain.base().unwrap() };
        *rows = [&[(row::BASE_KEY.to_vec(), base.encode())], &sound[at(&sound, 21)..]].concat();
    };
    assert!(matches!(found(&hide)[..], [Finding::BadBase { .. }, Finding::Deleted { first: 0, last: 20 }]));
}

#[test]
fn a_cut_that_was_interrupted_shows_what_is_left_over() {
    let mut world = world(false);
    let before = world.rows.clone();
    world.cut(&world.anchors[1].clone());
    assert!(world.verify().is_whole());
    world.rows.extend(before.into_iter().filter(|(key, _)| row::index_of(key).is_some_and(|i| (4..10).contains(&i))));
    assert_eq!(world.verify().findings, [Finding::Leftover { first: 4, last: 9 }]);
    world.append(entry(1).detail(json!({})));
    let (chain, _) = Chain::load(world.node(), &world.rows, &check, |record| assert!(record.index > 9));
    assert_eq!(chain.head(), world.chain.head());
}
