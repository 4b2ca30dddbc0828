//! The claims of the merge, one by one.

use serde_json::{Value as Json, json};

use super::bounds::{DEPTH_MAX, ENTRIES_MAX, SIDES_MAX};
use super::*;

fn rules(json: Json) -> Rules {
    Rules::parse(&json.to_string()).unwrap()
}

/// The later in the list, the newer.
fn merged(base: Option<Json>, sides: &[Json], rules: &Rules) -> Result<Merged, MergeError> {
    checked(base, sides, rules, &|_| Ok(()))
}

fn checked(
    base: Option<Json>,
    sides: &[Json],
    rules: &Rules,
    check: &dyn Fn(&Json) -> Result<(), String>,
) -> Result<Merged, MergeError> {
    let sides: Vec<Side<'_>> = sides.iter().zip(1..).map(|(value, rank)| Side { value, rank }).collect();
    merge(base.as_ref(), &sides, rules, check)
}

/// The value, and each overruled change in words.
#[track_caller]
fn told(base: Json, sides: &[Json], rules: &Rules) -> (Json, Vec<String>) {
    let merged = merged(Some(base), sides, rules).unwrap();
    let losses = merged.overruled.iter().map(|loss| {
        let lost = match &loss.lost {
            Change::Set(value) => value.to_string(),
            Change::Removed => "removed".to_owned(),
        };
        format!("{} = {lost} of {:?}", loss.path, loss.sides)
    });
    (merged.value.clone(), losses.collect())
}

#[track_caller]
fn clean(base: Json, sides: &[Json], rules: &Rules) -> Json {
    let merged = merged(Some(base), sides, rules).unwrap();
    assert_eq!((&merged.overruled[..], merged.refused), (&[][..], None));
    merged.value
}

#[track_caller]
fn contested_at(result: Result<Merged, MergeError>, path: &str) {
    match result {
        Err(MergeError::Contested { path: at }) => assert_eq!(at.to_string(), path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn changes_of_different_fields_all_stand() {
    let base = json!({"a": 1, "b": {"c": 1, "d": 1}, "gone": true});
    let sides = [
        json!({"a": 2, "b": {"c": 1, "d": 1}, "gone": true}),
        json!({"a": 1, "b": {"c": 2, "d": 1}, "gone": true}),
        json!({"a": 1, "b": {"c": 1, "d": 1, "new": [1]}}),
    ];
    assert_eq!(clean(base, &sides, &Rules::default()), json!({"a": 2, "b": {"c": 2, "d": 1, "new": [1]}}));
}

#[test]
fn the_same_change_on_several_sides_is_one() {
    let sides = [json!({"a": 2}), json!({"a": 2}), json!({"a": 1})];
    let merged = merged(Some(json!({"a": 1})), &sides, &rules(json!({"default": "fail"}))).unwrap();
    assert_eq!((merged.value, merged.settled.len()), (json!({"a": 2}), 0));
    assert_eq!(clean(json!({"a": 1}), &[json!({}), json!({})], &Rules::default()), json!({}));
}

#[test]
fn the_newest_change_stands_and_each_other_is_listed_with_its_sides() {
    let sides = [json!({"a": 2}), json!({"a": 3}), json!({"a": 2}), json!({"a": 4})];
    let (value, losses) = told(json!({"a": 1}), &sides, &Rules::default());
    assert_eq!(value, json!({"a": 4}));
    assert_eq!(losses, ["a = 2 of [2, 0]", "a = 3 of [1]"]);
    let all = merged(Some(json!({"a": 1})), &sides, &Rules::default()).unwrap();
    assert_eq!(all.overruled[0].kept, Change::Set(json!(4)));
    assert_eq!(all.overruled[0].why, Why::Strategy(Strategy::Newest));
    assert_eq!(all.settled[0].sides, [3, 2, 1, 0]);
}

#[test]
fn each_strategy_settles_the_same_changes_its_own_way() {
    let sides = [json!({"a": 9}), json!({"a": 3}), json!({"a": 7})];
    for (strategy, expected) in
        [("newest", 7), ("oldest", 9), ("max", 9), ("min", 3), ("keep_base", 5), ("sum_of_changes", 9)]
    {
        let (value, losses) = told(json!({"a": 5}), &sides, &rules(json!({"strategies": {"a": strategy}})));
        assert_eq!(value, json!({"a": expected}), "{strategy}");
        let lost = match strategy {
            "keep_base" => 3,
            "sum_of_changes" => 0,
            _ => 2,
        };
        assert_eq!(losses.len(), lost, "{strategy}");
    }
    contested_at(merged(Some(json!({"a": 5})), &sides, &rules(json!({"strategies": {"a": "fail"}}))), "a");
}

#[test]
fn max_and_min_know_the_order_of_values() {
    let sides = [json!({"a": "z"}), json!({"a": 9}), json!({"a": 10.5})];
    assert_eq!(told(json!({"a": null}), &sides, &rules(json!({"default": "max"}))).0, json!({"a": "z"}));
    assert_eq!(told(json!({"a": null}), &sides, &rules(json!({"default": "min"}))).0, json!({"a": 9}));
}

#[test]
fn a_pattern_rules_the_paths_it_matches() {
    let rules = rules(json!({"strategies": {"spec.*.replicas": "max", "spec.db": "oldest"}}));
    let base = json!({"spec": {"web": {"replicas": 1, "image": 1}, "db": {"replicas": 1, "image": 1}}});
    let sides = [
        json!({"spec": {"web": {"replicas": 5, "image": 2}, "db": {"replicas": 5, "image": 2}}}),
        json!({"spec": {"web": {"replicas": 3, "image": 3}, "db": {"replicas": 3, "image": 3}}}),
    ];
    let expected = json!({"spec": {"web": {"replicas": 5, "image": 3}, "db": {"replicas": 5, "image": 2}}});
    assert_eq!(told(base, &sides, &rules).0, expected);
}

#[test]
fn sums_count_what_each_side_added_also_where_it_is_the_same() {
    let sum = rules(json!({"strategies": {"n": "sum_of_changes"}}));
    assert_eq!(clean(json!({"n": 5}), &[json!({"n": 6}), json!({"n": 6})], &sum), json!({"n": 7}));
    assert_eq!(clean(json!({"n": 5}), &[json!({"n": 6}), json!({"n": 4}), json!({"n": 5})], &sum), json!({"n": 5}));
    assert_eq!(clean(json!({}), &[json!({"n": 2}), json!({"n": 3})], &sum), json!({"n": 5}));
    assert_eq!(clean(json!({"n": 0.5}), &[json!({"n": 1.5}), json!({"n": 1})], &sum), json!({"n": 2.0}));
    let near = u64::MAX - 1;
    assert_eq!(clean(json!({"n": near}), &[json!({"n": near + 1}), json!({"n": near - 1})], &sum), json!({"n": near}));
}

#[test]
fn a_strategy_that_means_nothing_for_the_values_leaves_it_to_the_newest_and_says_so() {
    let sum = rules(json!({"default": "sum_of_changes"}));
    let cases = [
        (json!({"n": 1}), json!({"n": "x"}), json!({"n": 2})),
        (json!({"n": "x"}), json!({"n": 1}), json!({"n": 2})),
        (json!({"n": 0}), json!({"n": u64::MAX}), json!({"n": u64::MAX - 1})),
        (json!({"n": -1e308}), json!({"n": 1e308}), json!({"n": 1.1e308})),
    ];
    for (base, older, newer) in cases {
        let merged = merged(Some(base), &[older, newer.clone()], &sum).unwrap();
        assert_eq!(merged.value, newer);
        assert_eq!(merged.overruled[0].why, Why::Misfit(Strategy::SumOfChanges));
    }
    let union = rules(json!({"default": "union"}));
    let merged = merged(Some(json!({"l": [1]})), &[json!({"l": [1, 1]}), json!({"l": [2]})], &union).unwrap();
    assert_eq!((merged.value, merged.overruled[0].why), (json!({"l": [2]}), Why::Misfit(Strategy::Union)));
}

#[test]
fn an_edit_stands_against_a_removal_unless_a_rule_says_otherwise() {
    let base = || json!({"a": {"x": 1, "y": 1}, "b": 1});
    let (removed, edited) = (json!({"b": 1}), json!({"a": {"x": 2, "y": 1}, "b": 1}));
    for (removal, newest, stands) in [
        ("loses", &removed, &edited),
        ("loses", &edited, &edited),
        ("wins", &removed, &removed),
        ("wins", &edited, &removed),
        ("newest", &removed, &removed),
        ("newest", &edited, &edited),
    ] {
        let older = if newest == &removed { &edited } else { &removed };
        let rules = rules(json!({"removal": removal}));
        let all = merged(Some(base()), &[older.clone(), newest.clone()], &rules).unwrap();
        assert_eq!(&all.value, stands, "{removal}");
        assert_eq!((all.overruled.len(), all.overruled[0].path.to_string()), (1, "a".to_owned()));
        assert_eq!(all.overruled[0].lost == Change::Removed, stands == &edited);
    }
}

#[test]
fn edits_merge_with_one_another_beside_a_removal() {
    let base = json!({"a": {"x": 1, "y": 1}});
    let sides = [json!({"a": {"x": 2, "y": 1}}), json!({}), json!({"a": {"x": 1, "y": 2}})];
    let (value, losses) = told(base, &sides, &Rules::default());
    assert_eq!(value, json!({"a": {"x": 2, "y": 2}}));
    assert_eq!(losses, ["a = removed of [1]"]);
}

#[test]
fn where_types_differ_the_strategy_chooses_one_and_its_kind_merges() {
    let base = json!({"a": 1});
    let sides = [json!({"a": {"x": 1}}), json!({"a": "text"}), json!({"a": {"y": 2}})];
    let (value, losses) = told(base.clone(), &sides, &Rules::default());
    assert_eq!(value, json!({"a": {"x": 1, "y": 2}}));
    assert_eq!(losses, ["a = \"text\" of [1]"]);
    let (value, losses) = told(base.clone(), &sides, &rules(json!({"default": "min"})));
    assert_eq!(value, json!({"a": "text"}));
    assert_eq!(losses, ["a = {\"y\":2} of [2]", "a = {\"x\":1} of [0]"]);
    contested_at(merged(Some(base), &sides, &rules(json!({"default": "fail"}))), "a");
    let (value, losses) = told(json!({"a": {"x": 1}}), &[json!({"a": {"x": 2}}), json!({"a": 7})], &Rules::default());
    assert_eq!((value, losses.len()), (json!({"a": 7}), 1));
}

#[test]
fn a_list_is_one_value_unless_a_rule_says_otherwise() {
    let (value, losses) = told(json!({"l": [1, 2]}), &[json!({"l": [1, 2, 3]}), json!({"l": [2]})], &Rules::default());
    assert_eq!(value, json!({"l": [2]}));
    assert_eq!(losses, ["l = [1,2,3] of [0]"]);
}

#[test]
fn a_set_takes_every_addition_and_honours_every_removal() {
    let set = rules(json!({"lists": {"l": "set"}}));
    let sides = [json!({"l": ["a", "b", "c", "x"]}), json!({"l": ["c", "a", "y", "x"]}), json!({"l": ["z", "b", "a"]})];
    let value = clean(json!({"l": ["a", "b", "c"]}), &sides, &set);
    assert_eq!(value, json!({"l": ["a", "z", "y", "x"]}), "the base's order, then the newest additions first");
    assert_eq!(clean(json!({}), &[json!({"l": [1]}), json!({"l": [2]})], &set), json!({"l": [2, 1]}));
}

#[test]
fn a_list_that_is_no_set_after_all_is_one_value() {
    let set = rules(json!({"lists": {"l": "set"}}));
    let (value, losses) = told(json!({"l": [1]}), &[json!({"l": [2, 2]}), json!({"l": [1, 3]})], &set);
    assert_eq!((value, losses), (json!({"l": [1, 3]}), vec!["l = [2,2] of [0]".to_owned()]));
}

#[test]
fn elements_with_a_merge_key_merge_field_by_field() {
    let keyed = rules(json!({"lists": {"ports": {"merge_key": "name"}}, "strategies": {"ports.http.port": "max"}}));
    let base =
        json!({"ports": [{"name": "http", "port": 80, "tls": false}, {"name": "ssh", "port": 22}, {"name": "old"}]});
    let sides = [
        json!({"ports": [{"name": "http", "port": 8080, "tls": false}, {"name": "ssh", "port": 22}, {"name": "dns"}]}),
        json!({"ports": [{"name": "new"}, {"name": "http", "port": 81, "tls": true}, {"name": "old", "port": 1}]}),
    ];
    let (value, losses) = told(base, &sides, &keyed);
    let ports = json!([{"name": "http", "port": 8080, "tls": true}, {"name": "old", "port": 1}, {"name": "new"}, {"name": "dns"}]);
    assert_eq!(value, json!({"ports": ports}));
    assert_eq!(losses, [r#"ports[name="http"].port = 81 of [1]"#, r#"ports[name="old"] = removed of [0]"#]);
}

#[test]
fn a_union_keeps_what_any_change_left_in() {
    let union = rules(json!({"default": "union"}));
    let (value, losses) = told(json!({"l": [1, 2, 3]}), &[json!({"l": [1, 2, 4]}), json!({"l": [1, 3]})], &union);
    assert_eq!(value, json!({"l": [1, 2, 3, 4]}));
    assert_eq!(losses, ["l[2] = removed of [1]", "l[3] = removed of [0]"]);
}

#[test]
fn an_atomic_object_does_not_mix_its_sides() {
    let atomic = rules(json!({"atomic": ["res"]}));
    let sides = [json!({"res": {"cpu": 2, "mem": 4}}), json!({"res": {"cpu": 1, "mem": 8}})];
    let (value, losses) = told(json!({"res": {"cpu": 1, "mem": 4}}), &sides, &atomic);
    assert_eq!(value, json!({"res": {"cpu": 1, "mem": 8}}));
    assert_eq!(losses, [r#"res = {"cpu":2,"mem":4} of [0]"#]);
}

#[test]
fn without_a_base_what_differs_is_contested_and_objects_merge_by_key() {
    let sides = [json!({"a": 1, "same": 0, "n": {"x": 1}}), json!({"a": 2, "same": 0, "n": {"y": 1}})];
    let merged = merged(None, &sides, &rules(json!({"removal": "wins"}))).unwrap();
    assert_eq!(merged.value, json!({"a": 2, "same": 0, "n": {"x": 1, "y": 1}}));
    assert_eq!(merged.overruled.len(), 1);
}

#[test]
fn without_a_base_nothing_adds_up_and_nothing_can_be_kept() {
    let sum = rules(json!({"default": "sum_of_changes"}));
    assert_eq!(merged(None, &[json!({"n": 5}), json!({"n": 5})], &sum).unwrap().value, json!({"n": 5}));
    let other = merged(None, &[json!({"n": 5}), json!({"n": 6})], &sum).unwrap();
    assert_eq!((other.value, other.overruled[0].why), (json!({"n": 6}), Why::Misfit(Strategy::SumOfChanges)));
    let keep = rules(json!({"default": "keep_base"}));
    assert_eq!(merged(None, &[json!(1), json!(2)], &keep), Err(MergeError::NothingLeft));
    let left_out = merged(None, &[json!({"n": 1}), json!({"n": 2})], &keep).unwrap();
    assert_eq!((left_out.value, left_out.overruled.len()), (json!({}), 2));
    assert_eq!(left_out.overruled[0].kept, Change::Removed);
}

#[test]
fn a_change_that_may_not_be_lost_fails_the_merge_also_below_what_was_settled() {
    let rules = rules(json!({"removal": "wins", "strategies": {"vm.owner": "fail"}}));
    let base = || Some(json!({"vm": {"owner": "a", "note": 1}}));
    contested_at(merged(base(), &[json!({}), json!({"vm": {"owner": "b", "note": 1}})], &rules), "vm.owner");
    let note = merged(base(), &[json!({}), json!({"vm": {"owner": "a", "note": 2}})], &rules).unwrap();
    assert_eq!(note.value, json!({}));
}

#[test]
fn a_refused_merge_falls_back_to_the_newest_side_and_lists_the_rest() {
    let base = json!({"used": 0, "max": 10, "note": ""});
    let sides = [json!({"used": 8, "max": 10, "note": "x"}), json!({"used": 0, "max": 5, "note": ""})];
    let check = |value: &Json| match value["used"].as_i64() <= value["max"].as_i64() {
        true => Ok(()),
        false => Err(format!("used {} of {}", value["used"], value["max"])),
    };
    let back = checked(Some(base), &sides, &Rules::default(), &check).unwrap();
    assert_eq!((&back.value, back.refused.as_deref()), (&sides[1], Some("used 8 of 5")));
    let losses: Vec<_> = back.overruled.iter().map(|loss| (loss.path.to_string(), loss.why)).collect();
    assert_eq!(losses, [("note".to_owned(), Why::Refused), ("used".to_owned(), Why::Refused)]);
    assert_eq!(back.overruled[1].kept, Change::Set(json!(0)));
}

#[test]
fn where_the_newest_side_is_refused_too_both_causes_are_named() {
    let check = |value: &Json| Err(format!("not {value}"));
    let sides = [json!({"a": 2, "b": 1}), json!({"a": 1, "b": 2})];
    let error = checked(Some(json!({"a": 1, "b": 1})), &sides, &Rules::default(), &check).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(r#"not {"a":2,"b":2}"#) && text.contains(r#"not {"a":1,"b":2}"#), "{text}");
}

#[test]
fn of_equal_ranks_the_larger_value_is_the_newer() {
    let (small, large, base) = (json!({"a": 2}), json!({"a": 3}), json!({"a": 1}));
    for sides in [[&small, &large], [&large, &small]] {
        let sides = sides.map(|value| Side { value, rank: 7 });
        assert_eq!(merge(Some(&base), &sides, &Rules::default(), &|_| Ok(())).unwrap().value, large);
    }
}

#[test]
fn the_bounds_are_errors_that_say_what_to_do() {
    assert_eq!(merged(None, &[], &Rules::default()), Err(MergeError::Sides(0)));
    let many = vec![json!(1); SIDES_MAX + 1];
    assert_eq!(merged(None, &many, &Rules::default()), Err(MergeError::Sides(SIDES_MAX + 1)));
    assert_eq!(merged(None, &many[1..], &Rules::default()).unwrap().value, json!(1));
    let deep = (0..=DEPTH_MAX).fold(json!(1), |inner, _| json!({ "a": inner }));
    let error = merged(Some(json!(0)), &[json!(1), deep], &Rules::default()).unwrap_err();
    assert_eq!(error, MergeError::TooDeep { which: "side 1".to_owned() });
    let wide = json!(vec![0; NODES_MAX / 2]);
    assert_eq!(merged(None, &[wide.clone(), wide], &Rules::default()), Err(MergeError::TooLarge));
    let fields = |n: usize, value: i64| Json::Object((0..n).map(|i| (format!("f{i}"), json!(value))).collect());
    let of = |n| merged(Some(fields(n, 0)), &[fields(n, 1), fields(n, 2)], &Rules::default());
    assert_eq!(of(ENTRIES_MAX).unwrap().overruled.len(), ENTRIES_MAX);
    assert!(matches!(of(ENTRIES_MAX + 1), Err(MergeError::TooManyChanges { .. })));
}

#[test]
fn the_deepest_values_merge() {
    let nested = |leaf: i64| (0..DEPTH_MAX).fold(json!(leaf), |inner, i| json!({ "a": inner, "i": i }));
    let (value, losses) = told(nested(0), &[nested(1), nested(2)], &Rules::default());
    assert_eq!((value, losses.len()), (nested(2), 1));
}

#[test]
fn a_forged_account_does_not_pass_the_proof() {
    let (base, side, rules) = (json!({"a": 1, "b": {"c": 1}}), json!({"a": 2, "b": {"c": 2}}), Rules::default());
    let proof = |result: &Json, account: &Account<'_>| {
        verify(&Case { rules: &rules, base: Some(&base), sides: &[&side], result, account })
    };
    let nothing = Account::default();
    assert_eq!(proof(&side, &nothing), Ok(()));
    let lost = |path: Path| Err(MergeError::Unaccounted { path, side: 0 });
    let root = Trail::root();
    let (a, b) = (root.key("a"), root.key("b"));
    let half = json!({"a": 2, "b": {"c": 1}});
    assert_eq!(proof(&half, &nothing), lost(b.key("c").to_path()));
    let entry = |at: &Trail<'_>, side: usize| {
        let mut account = Account::default();
        account.overrule(at, None, Sides::from_slice(&[side]), Why::Refused).unwrap();
        account
    };
    assert_eq!(proof(&half, &entry(&b, 0)), Ok(()));
    assert_eq!(proof(&half, &entry(&root, 0)), Ok(()));
    assert!(proof(&half, &entry(&b, 1)).is_err(), "another side's entry");
    assert!(proof(&half, &entry(&a, 0)).is_err(), "another path's entry");
    let mut sum = Account::default();
    sum.settle(&a, Sides::from_slice(&[0]), Why::Strategy(Strategy::SumOfChanges)).unwrap();
    assert_eq!(proof(&json!({"a": 3, "b": {"c": 2}}), &sum), lost(a.to_path()), "a sum that does not add up");
}
