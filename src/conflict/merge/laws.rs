//! The laws of the merge over random values, and a plain merge of flat objects to compare with.
//!
//! What is checked is computed here another way: values are flattened to a map from path to leaf, with their own
//! comparison of lists.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value as Json, json};

use super::rules::Strategy as How;
use super::{Change, MergeError, Merged, Rules, Side, Why, merge};

/// Rules over the fields that [`document`] makes: `s` may be a set, `k` a keyed list, `t` an atomic object.
fn rules_of(strategies: &'static [&'static str]) -> impl Strategy<Value = Rules> {
    let strategy = move || prop::sample::select(strategies);
    let removal = prop::sample::select(&["loses", "wins", "newest"][..]);
    let paths =
        prop::sample::subsequence(vec!["a", "o", "o.a", "*.b", "o.o.*", "k.*.v", "k.x", "l", "n", "s", "t"], 0..4);
    let some = paths.prop_flat_map(move |paths| {
        prop::collection::vec(strategy(), paths.len()).prop_map(move |chosen| {
            paths.iter().map(|path| (*path).to_owned()).zip(chosen.into_iter().map(Json::from)).collect::<Map<_, _>>()
        })
    });
    (strategy(), removal, some, any::<[bool; 3]>()).prop_map(|(default, removal, strategies, [set, keyed, atomic])| {
        let mut lists = Map::new();
        if set {
            lists.extend(["s", "o.s"].map(|path| (path.to_owned(), json!("set"))));
        }
        if keyed {
            lists.extend(["k", "o.k"].map(|path| (path.to_owned(), json!({"merge_key": "id"}))));
        }
        let atomic = if atomic { vec!["t"] } else { vec![] };
        let rules =
            json!({"default": default, "removal": removal, "strategies": strategies, "lists": lists, "atomic": atomic});
        Rules::parse(&rules.to_string()).unwrap()
    })
}

const ALL: &[&str] = &["newest", "oldest", "max", "min", "union", "keep_base", "sum_of_changes"];

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        4 => (0i64..4).prop_map(Json::from),
        1 => (0u8..4).prop_map(|n| json!(f64::from(n) / 4.0)),
        1 => "[xy]".prop_map(Json::from),
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::from),
    ]
}

/// Mostly distinct elements, sometimes not.
fn list() -> impl Strategy<Value = Json> {
    prop::collection::vec(scalar(), 0..4).prop_map(Json::from)
}

fn keyed() -> impl Strategy<Value = Json> {
    let element =
        (0u8..4, prop::option::of(scalar()), prop::option::weighted(0.95, Just(()))).prop_map(|(id, v, named)| {
            let mut element = Map::new();
            element.extend(named.map(|()| ("id".to_owned(), json!(["w", "x", "y", "z"][usize::from(id)]))));
            element.extend(v.map(|v| ("v".to_owned(), v)));
            Json::Object(element)
        });
    prop::collection::vec(element, 0..4).prop_map(Json::from)
}

/// An object whose fields mostly have a type of their own, and sometimes another.
fn document() -> impl Strategy<Value = Json> {
    let odd = || prop_oneof![scalar(), list(), keyed()];
    let field = move |usual: BoxedStrategy<Json>| {
        prop::option::weighted(0.7, prop_oneof![9 => usual, 1 => odd().boxed()]).boxed()
    };
    let fields = move |inner: Option<BoxedStrategy<Json>>| {
        let mut fields = vec![
            ("a", field(scalar().boxed())),
            ("b", field(scalar().boxed())),
            ("k", field(keyed().boxed())),
            ("l", field(list().boxed())),
            ("n", field((0i64..9).prop_map(Json::from).boxed())),
            ("s", field(list().boxed())),
            ("t", field((0i64..3, 0i64..3).prop_map(|(x, y)| json!({"x": x, "y": y})).boxed())),
        ];
        fields.extend(inner.map(|inner| ("o", field(inner))));
        let (names, values): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
        values
            .prop_map(move |values| {
                let entries = names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
                Json::Object(entries.collect())
            })
            .boxed()
    };
    let leaf = fields(None);
    let middle = fields(Some(leaf));
    fields(Some(middle))
}

/// Some fields of `from` put into `into`, so that most of the value is as it was.
fn edit(into: &mut Json, from: &Json, picks: &[Index]) {
    let (Json::Object(into), Json::Object(from)) = (into, from) else { return };
    let mut keys: Vec<String> = into.keys().chain(from.keys()).cloned().collect();
    keys.sort();
    keys.dedup();
    for pick in picks.iter().filter(|_| !keys.is_empty()) {
        let key = pick.get(&keys);
        match (into.get_mut(key), from.get(key)) {
            (Some(old @ Json::Object(_)), Some(new @ Json::Object(_))) => {
                edit(old, new, picks.get(1..).unwrap_or_default())
            }
            (_, Some(new)) => {
                into.insert(key.clone(), new.clone());
            }
            (_, None) => {
                into.remove(key);
            }
        }
    }
}

/// A base, and sides with their ranks; some ranks are equal.
#[derive(Clone, Debug)]
struct World {
    base: Json,
    sides: Vec<(Json, u64)>,
}

impl World {
    fn merge(&self, rules: &Rules) -> Merged {
        merge(Some(&self.base), &self.given(), rules, &|_| Ok(())).unwrap()
    }

    fn given(&self) -> Vec<Side<'_>> {
        self.sides.iter().map(|(value, rank)| Side { value, rank: *rank }).collect()
    }
}

fn world(ranks: std::ops::Range<u64>) -> impl Strategy<Value = World> {
    let side = (document(), prop::collection::vec(any::<Index>(), 0..4), ranks);
    (document(), prop::collection::vec(side, 2..6)).prop_map(|(base, sides)| {
        let edited = |(other, picks, rank): (Json, Vec<Index>, u64)| {
            let mut side = base.clone();
            edit(&mut side, &other, &picks);
            (side, rank)
        };
        World { sides: sides.into_iter().map(edited).collect(), base }
    })
}

/// A world where no two sides have one rank.
fn ranked_world() -> impl Strategy<Value = World> {
    world(0..1).prop_map(|mut world| {
        world.sides.iter_mut().zip(10..).for_each(|((_, rank), n)| *rank = n);
        world
    })
}

/// Every leaf by its path in words. Lists that the rules see as sets or keyed come apart into their elements, where all
/// of `with` allows it; empty objects are leaves.
fn flat(json: &Json, apart: &BTreeSet<String>) -> BTreeMap<String, Json> {
    fn down(json: &Json, path: &str, apart: &BTreeSet<String>, into: &mut BTreeMap<String, Json>) {
        match json {
            Json::Object(map) if !map.is_empty() && !apart.contains(&format!("atomic {path}")) => {
                for (key, value) in map {
                    let dot = if path.is_empty() { "" } else { "." };
                    down(value, &format!("{path}{dot}{key}"), apart, into);
                }
            }
            Json::Array(items) if apart.contains(&format!("set {path}")) => {
                into.extend(items.iter().map(|item| (format!("{path}[{item}]"), Json::Bool(true))));
            }
            Json::Array(items) if apart.contains(&format!("keyed {path}")) => {
                for item in items {
                    down(item, &format!("{path}[id={}]", item["id"]), apart, into);
                }
            }
            leaf => {
                into.insert(path.to_owned(), leaf.clone());
            }
        }
    }
    let mut leaves = BTreeMap::new();
    down(json, "", apart, &mut leaves);
    leaves
}

fn at<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(json, |json, key| json.get(key))
}

/// The lists that come apart under these rules in all of these values, and the objects that do not.
fn apart(rules: &Rules, values: &[&Json]) -> BTreeSet<String> {
    let written = rules.to_json();
    let lists = written["lists"].as_object().unwrap();
    let well_formed = |path: &str, set: bool| {
        values.iter().filter_map(|value| at(value, path)).filter_map(Json::as_array).all(|items| {
            let names: Vec<String> = items
                .iter()
                .filter_map(|item| if set { Some(item.to_string()) } else { Some(item.get("id")?.to_string()) })
                .collect();
            names.len() == items.len() && names.iter().collect::<BTreeSet<_>>().len() == items.len()
        })
    };
    let mut apart: BTreeSet<String> = lists
        .iter()
        .map(|(path, rule)| (path, rule == "set"))
        .filter(|(path, set)| well_formed(path, *set))
        .map(|(path, set)| format!("{} {path}", if set { "set" } else { "keyed" }))
        .collect();
    apart.extend(written["atomic"].as_array().unwrap().iter().map(|path| format!("atomic {}", path.as_str().unwrap())));
    apart
}

/// Whether the entry's path is that of the leaf or above it.
fn covers(entry: &str, leaf: &str) -> bool {
    entry.is_empty()
        || entry == "."
        || leaf.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether `after` differs from `before` at a leaf, or has none there.
fn changes(before: &BTreeMap<String, Json>, after: &BTreeMap<String, Json>) -> Vec<(String, Option<Json>)> {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    changed.map(|path| (path.clone(), after.get(path).cloned())).collect()
}

/// The flat merge, written as a table: for each field, the changed values of the newest first.
fn naive(
    base: &BTreeMap<String, i64>,
    sides: &[BTreeMap<String, i64>],
    strategy: &str,
    removal: &str,
) -> BTreeMap<String, i64> {
    let mut result = BTreeMap::new();
    let keys: BTreeSet<&String> = base.keys().chain(sides.iter().flat_map(BTreeMap::keys)).collect();
    for key in keys {
        let before = base.get(key).copied();
        let changes: Vec<Option<i64>> =
            sides.iter().rev().map(|side| side.get(key).copied()).filter(|now| *now != before).collect();
        let edits: Vec<i64> = changes.iter().flatten().copied().collect();
        let removed = changes.contains(&None);
        let contested = changes.iter().collect::<BTreeSet<_>>().len() > 1;
        let value = if changes.is_empty() || (contested && strategy == "keep_base") {
            before
        } else if removed && (edits.is_empty() || removal == "wins" || (removal == "newest" && changes[0].is_none())) {
            None
        } else {
            match strategy {
                "oldest" => edits.last().copied(),
                "max" => edits.iter().max().copied(),
                "min" => edits.iter().min().copied(),
                "sum_of_changes" => {
                    Some(edits.iter().fold(before.unwrap_or(0), |sum, v| sum + v - before.unwrap_or(0)))
                }
                _ => edits.first().copied(),
            }
        };
        result.extend(value.map(|value| (key.clone(), value)));
    }
    result
}

fn flat_object() -> impl Strategy<Value = BTreeMap<String, i64>> {
    prop::collection::btree_map("[a-e]", 0i64..4, 0..5)
}

fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(768)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn sides_that_changed_nothing_leave_the_base(base in document(), count in 1..5usize, rules in rules_of(ALL)) {
        let world = World { sides: vec![(base.clone(), 1); count], base };
        let merged = world.merge(&rules);
        prop_assert_eq!(&merged.value, &world.base);
        prop_assert!(merged.overruled.is_empty() && merged.settled.is_empty());
    }

    #[test]
    fn the_only_changed_side_is_the_result(mut world in world(0..4), place in any::<Index>(), rules in rules_of(ALL)) {
        let place = place.index(world.sides.len());
        let base = world.base.clone();
        world.sides.iter_mut().enumerate().filter(|(at, _)| *at != place).for_each(|(_, side)| side.0 = base.clone());
        let merged = world.merge(&rules);
        prop_assert_eq!(&merged.value, &world.sides[place].0);
        prop_assert!(merged.overruled.is_empty() && merged.settled.is_empty());
    }

    #[test]
    fn the_order_of_the_sides_means_nothing(
        (world, order) in world(0..4).prop_flat_map(|world| {
            let places: Vec<usize> = (0..world.sides.len()).collect();
            (Just(world), Just(places).prop_shuffle())
        }),
        rules in rules_of(ALL),
        with_base in any::<bool>(),
    ) {
        let shuffled = World { base: world.base.clone(), sides: order.iter().map(|at| world.sides[*at].clone()).collect() };
        let merge = |world: &World| merge(with_base.then_some(&world.base), &world.given(), &rules, &|_| Ok(()));
        let by_value = |world: &World, sides: &[usize]| {
            let mut sides: Vec<String> = sides.iter().map(|at| format!("{:?}", world.sides[*at])).collect();
            sides.sort();
            sides
        };
        let told = |world: &World| merge(world).map(|merged| {
            let losses: Vec<_> = merged.overruled.into_iter()
                .map(|loss| (loss.path, loss.kept, loss.lost, by_value(world, &loss.sides), loss.why)).collect();
            let settled: Vec<_> =
                merged.settled.into_iter().map(|one| (one.path, by_value(world, &one.sides), one.why)).collect();
            (merged.value, losses, settled)
        });
        prop_assert_eq!(told(&world), told(&shuffled));
    }

    #[test]
    fn no_change_is_lost_silently(world in world(0..4), rules in rules_of(ALL)) {
        let merged = world.merge(&rules);
        let values: Vec<&Json> = world.sides.iter().map(|(side, _)| side).chain([&world.base, &merged.value]).collect();
        let apart = apart(&rules, &values);
        let (before, result) = (flat(&world.base, &apart), flat(&merged.value, &apart));
        for (side, (value, _)) in world.sides.iter().enumerate() {
            let after = flat(value, &apart);
            for (path, now) in changes(&before, &after) {
                // An object that came to be, or was emptied, is a change of what is in it.
                let emptied = now == Some(json!({})) && result.keys().any(|other| covers(&path, other));
                let filled = now.is_none() && before.get(&path) == Some(&json!({}));
                // So is an object in place of something else, where all that was in it is overruled.
                let hollow = result.get(&path) == Some(&json!({})) && after.keys().any(|leaf| covers(&path, leaf));
                if result.get(&path) == now.as_ref() || emptied || filled || (now.is_none() && hollow) {
                    continue;
                }
                let overruled = merged.overruled.iter()
                    .any(|loss| loss.sides.contains(&side) && covers(&loss.path.to_string(), &path));
                let combined = merged.settled.iter().any(|one| {
                    let together = [How::SumOfChanges, How::Union].map(Why::Strategy);
                    one.sides.contains(&side) && one.path.to_string() == path && together.contains(&one.why)
                });
                prop_assert!(overruled || combined, "side {}: {} = {:?} is nowhere in {:#?}", side, path, now, merged);
            }
        }
        // And the account does not claim more than is so.
        for loss in &merged.overruled {
            prop_assert_eq!(&loss.kept, &Change::of(loss.path.resolve(&merged.value)));
            prop_assert_ne!(&loss.kept, &loss.lost);
        }
    }

    #[test]
    fn what_no_side_has_is_not_made_up(world in world(0..4), rules in rules_of(&["newest", "oldest", "max", "min", "keep_base"])) {
        let merged = world.merge(&rules);
        let nothing = BTreeSet::new();
        let known: Vec<_> = world.sides.iter().map(|(side, _)| side).chain([&world.base]).map(|value| flat(value, &nothing)).collect();
        let lists = rules.to_json()["lists"].as_object().unwrap().clone();
        for (path, leaf) in flat(&merged.value, &nothing) {
            let is_list = lists.keys().any(|list| list == &path);
            let emptied = leaf == json!({});
            prop_assert!(is_list || emptied || known.iter().any(|value| value.get(&path) == Some(&leaf)), "{} = {}", path, leaf);
        }
    }

    #[test]
    fn the_result_merged_again_with_a_side_it_includes_stays(
        world in ranked_world(),
        place in any::<Index>(),
        rules in rules_of(&["newest", "max", "min"]),
    ) {
        // A list that does not fit its rule on one side is one value on all, and may fit it the second time.
        let values: Vec<&Json> = world.sides.iter().map(|(side, _)| side).chain([&world.base]).collect();
        let fitting = apart(&rules, &values);
        let mut written = rules.to_json();
        let lists = written["lists"].as_object_mut().unwrap();
        lists.retain(|path, _| ["set", "keyed"].iter().any(|kind| fitting.contains(&format!("{kind} {path}"))));
        let rules = Rules::parse(&written.to_string()).unwrap();
        let first = world.merge(&rules).value;
        let side = place.get(&world.sides).clone();
        let again = World { base: world.base.clone(), sides: vec![side, (first.clone(), 99)] };
        let second = again.merge(&rules).value;
        let apart = apart(&rules, &[&world.base, &first, &second, &again.sides[0].0]);
        // Reordered sets are the same sets.
        prop_assert_eq!(flat(&second, &apart), flat(&first, &apart));
        if rules.to_json()["lists"] == json!({}) {
            prop_assert_eq!(second, first);
        }
    }

    #[test]
    fn the_oldest_keeps_what_it_has_when_merged_again_as_the_oldest(world in ranked_world(), place in any::<Index>()) {
        let rules = Rules::parse("default = \"oldest\"").unwrap();
        let first = world.merge(&rules).value;
        let again = World { base: world.base.clone(), sides: vec![place.get(&world.sides).clone(), (first.clone(), 0)] };
        prop_assert_eq!(again.merge(&rules).value, first);
    }

    #[test]
    fn flat_objects_merge_as_a_plain_table_does(
        base in flat_object(),
        sides in prop::collection::vec(flat_object(), 1..6),
        strategy in prop::sample::select(&["newest", "oldest", "max", "min", "keep_base", "sum_of_changes"][..]),
        removal in prop::sample::select(&["loses", "wins", "newest"][..]),
    ) {
        let rules = Rules::parse(&json!({"default": strategy, "removal": removal}).to_string()).unwrap();
        let expected = naive(&base, &sides, strategy, removal);
        let world = World { base: json!(base), sides: sides.iter().map(|side| json!(side)).zip(1..).collect() };
        prop_assert_eq!(world.merge(&rules).value, json!(expected));
    }

    #[test]
    fn a_merge_that_may_fail_is_one_without_conflicts_or_an_error(world in world(0..4)) {
        let rules = Rules::parse("default = \"fail\"").unwrap();
        match merge(Some(&world.base), &world.given(), &rules, &|_| Ok(())) {
            Ok(merged) => prop_assert!(merged.overruled.is_empty()),
            Err(error) => prop_assert!(matches!(error, MergeError::Contested { .. }), "{}", error),
        }
    }

    #[test]
    fn a_refused_merge_is_the_newest_side_with_the_rest_accounted_for(world in ranked_world(), rules in rules_of(ALL)) {
        let newest = &world.sides.last().unwrap().0;
        let check = |value: &Json| if value == newest { Ok(()) } else { Err("no".to_owned()) };
        let merged = merge(Some(&world.base), &world.given(), &rules, &check).unwrap();
        prop_assert_eq!(&merged.value, newest);
        prop_assert_eq!(merged.refused.is_some(), world.merge(&rules).value != *newest);
    }
}
