//! What does not merge: listed alike everywhere, and settled by resolvers and people.

use serde_json::{Value, json};

use crate::harness::dispute::{EAST, MANUAL, WEST, World, dot, id, listed, merge, next_millisecond, values};

#[tokio::test]
async fn every_resolver_settles_alike_on_all_nodes_and_readers_see_what_the_list_says() {
    let world = World::start().await;
    // Resolver, what it is told, the value before, west's, the later east's, what readers see, how it stands.
    let cases: &[(&str, &str, Value, Value, Value, Value, &str)] = &[
        ("last_writer", "", json!("x"), json!("a"), json!("b"), json!("b"), "settled"),
        ("first_writer", "", json!("x"), json!("a"), json!("b"), json!("a"), "settled"),
        ("keep_all", "", json!("x"), json!("a"), json!("b"), json!(["b", "a"]), "settled"),
        ("max", "", json!(1), json!(9), json!(3), json!(9), "settled"),
        ("min", "", json!(1), json!(2), json!(3), json!(2), "settled"),
        ("union", "", json!(["x"]), json!(["x", "a"]), json!(["b"]), json!(["a", "b", "x"]), "settled"),
        ("deep_merge", "", json!({}), json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2}), "settled"),
        ("priority", "order = [\"up\"]", json!("x"), json!("up"), json!("down"), json!("up"), "settled"),
        (
            "prioritize",
            "by = [\"confidence\"]",
            json!({}),
            json!({"v": 1, "confidence": 0.9}),
            json!({"v": 2, "confidence": 0.5}),
            json!({"v": 1, "confidence": 0.9}),
            "settled",
        ),
        ("discard", "", json!("x"), json!("a"), json!("b"), json!("x"), "settled"),
        (
            "three_way",
            "",
            json!({"a": 1, "b": 1}),
            json!({"a": 2, "b": 1}),
            json!({"a": 1, "b": 3}),
            json!({"a": 2, "b": 3}),
            "settled",
        ),
        ("text", "", json!("one two"), json!("ONE two"), json!("one TWO"), json!("ONE TWO"), "settled"),
        ("rollback", "", json!(5), json!(8), json!(20), json!(8), "settled"),
        ("expr", "expr = \"siblings[0].value + siblings[1].value\"", json!(0), json!(1), json!(2), json!(3), "settled"),
        ("custom", "custom = \"ours\"", json!(0), json!(1), json!(2), json!(2), "unresolved"),
        ("manual", "", json!("x"), json!("a"), json!("b"), json!("b"), "open"),
    ];
    let mut writes = Vec::new();
    let documents: Vec<String> = cases.iter().map(|(resolver, ..)| format!("{resolver}/1")).collect();
    for ((resolver, told, before, west, east, ..), document) in cases.iter().zip(&documents) {
        let rule = if *resolver == "rollback" {
            "[[rules]]\nname = \"small\"\nclass = \"invariant\"\ncheck = \"doc.f <= 10\"\n"
        } else {
            ""
        };
        let text = format!("[fields.f]\ntype = \"contested\"\nresolver = \"{resolver}\"\n{told}\n{rule}");
        world.schema(resolver, &text).await;
        world.http(WEST).put(document, json!({ "f": before })).await.ok();
        writes.push((document.as_str(), json!({ "f": west }), json!({ "f": east })));
    }
    world.both(&writes).await;
    for ((resolver, .., expected, status), document) in cases.iter().zip(&documents) {
        let conflict = world.conflict(document).await;
        assert_eq!(world.reads(document, "f").await, *expected, "{resolver}: {conflict}");
        assert_eq!((&conflict["value"], &conflict["status"]), (expected, &json!(status)), "{resolver}: {conflict}");
        assert_eq!((&conflict["resolver"], &conflict["class"]), (&json!(resolver), &json!("concurrent_update")));
        assert_eq!(conflict["severity"], if *status == "settled" { "info" } else { "warning" });
        assert_eq!(conflict["siblings"], world.http(EAST).document(document).await["siblings"]["f"]);
    }
    let ended = world.cli(&["conflicts", "ls", "--status", "open", "--check"]).await;
    ended.failed(5);
    assert!(ended.stdout.contains("manual/1") && !ended.stdout.contains("max/1"), "{}", ended.stdout);
    assert!(world.cli(&["conflicts", "ls", "--status", "closed"]).await.failed(2).contains("no_quorum"));
}

#[tokio::test]
async fn a_person_settles_by_a_sibling_a_value_or_a_resolver_and_a_preview_writes_nothing() {
    let world = World::start().await;
    world.schema("things", MANUAL).await;
    let writes: Vec<_> =
        ["things/1", "things/2", "things/3"].map(|name| (name, json!({"f": 3}), json!({"f": 2}))).into();
    for (name, ..) in &writes {
        world.http(WEST).put(name, json!({ "f": 1 })).await.ok();
    }
    world.both(&writes).await;

    let first = world.conflict("things/1").await;
    let path = format!("/v1/conflicts/{}/resolve", id(&first));
    let preview = world.post(0, &format!("{path}?preview=true"), json!({ "resolver": "max" })).await;
    assert_eq!((&preview["value"], &preview["written"], &preview["receipt"]), (&json!(3), &json!(false), &Value::Null));
    assert_eq!(world.conflict("things/1").await, first, "a preview changes nothing");
    let refused = async |body: Value| world.http(0).ask("POST", &path, &[], body).await.refused(422, "not-settled");
    assert!(refused(json!({ "choose": "x:1" })).await.contains(&dot(&first, 0)), "it names the dots there are");
    assert!(refused(json!({ "resolver": "priority" })).await.contains("needs `order`"));
    assert!(refused(json!({ "resolver": "dice" })).await.contains("three_way"), "it names the resolvers there are");
    assert!(refused(json!({ "resolver": "vote" })).await.contains("leaves it to somebody"));
    refused(json!({ "value": 1, "choose": "x:1" })).await;
    assert_eq!(world.reads("things/1", "f").await, 2);

    world.post(0, &path, json!({ "choose": dot(&first, 1), "by": "ada" })).await;
    assert_eq!(world.reads("things/1", "f").await, 3);
    assert_eq!(world.conflicts_of("things/1").await, [] as [Value; 0]);
    let decision = world.http(EAST).fields(&format!("conflicts/{}", id(&first))).await;
    assert_eq!(
        (&decision["by"], &decision["value"], &decision["siblings"]),
        (&json!("ada"), &json!(3), &first["siblings"])
    );
    world.http(EAST).ask("POST", &path, &[], json!({ "value": 1 })).await.refused(404, "no-such-conflict");

    let second = world.conflict("things/2").await;
    world.cli(&["conflicts", "resolve", id(&second), "--value", r#"{"n":1}"#]).await.ok();
    assert_eq!(world.reads("things/2", "f").await, json!({ "n": 1 }));
    let third = world.conflict("things/3").await;
    world.cli(&["conflicts", "resolve", id(&third), "--resolver", "dice"]).await.failed(2);
    assert!(
        world.cli(&["conflicts", "resolve", id(&third), "--resolver", "min"]).await.ok().starts_with("wrote 2 to f of")
    );
    assert_eq!(world.reads("things/3", "f").await, 2);
    assert_eq!(world.cli(&["conflicts", "ls"]).await.ok(), "no conflicts\n");
}

#[tokio::test]
async fn two_people_who_settle_at_once_make_a_new_conflict_and_not_one_about_their_notes() {
    let world = World::start().await;
    world.schema("things", MANUAL).await;
    world.http(WEST).put("things/1", json!({ "f": 1 })).await.ok();
    world.both(&[("things/1", json!({ "f": "a" }), json!({ "f": "b" }))]).await;
    let old = world.conflict("things/1").await;
    let path = format!("/v1/conflicts/{}/resolve", id(&old));
    world.cut().await;
    world.post(WEST, &path, json!({ "value": "west" })).await;
    next_millisecond().await;
    world.post(EAST, &path, json!({ "value": "east" })).await;
    world.heal().await;
    let new = world.conflict("things/1").await;
    assert_ne!(id(&new), id(&old));
    assert_eq!((values(&new["siblings"]), &new["status"]), (vec![&json!("east"), &json!("west")], &json!("open")));
    assert_eq!(listed(world.http(0), "").await.len(), 1, "what they noted about it is no conflict");
    world
        .http(0)
        .ask("POST", &format!("/v1/conflicts/{}/reopen", id(&old)), &[], json!({}))
        .await
        .refused(412, "precondition-failed");
}

#[tokio::test]
async fn a_patch_of_another_field_leaves_the_conflict_as_it_stands() {
    let world = World::start().await;
    world.schema("things", "[fields.f]\ntype = \"contested\"\nresolver = \"priority\"\norder = [9]\n").await;
    world.http(WEST).put("things/1", json!({ "f": 1, "m": { "k": 0 } })).await.ok();
    world.both(&[("things/1", json!({ "f": 9, "m": { "k": "a" } }), json!({ "f": 3, "m": { "k": "b" } }))]).await;
    let before = world.conflicts_of("things/1").await;
    assert_eq!(before.len(), 2, "{before:?}");
    merge(world.http(1), "things/1", json!({ "note": "n", "m": { "other": 1 } })).await;
    world.0.agree().await;
    assert_eq!(world.conflicts_of("things/1").await, before, "a merge patch wrote a settled value back");
    let media = [("content-type", "application/json-patch+json")];
    let patch = json!([{ "op": "test", "path": "/f", "value": 9 }, { "op": "add", "path": "/more", "value": 1 }]);
    world.http(2).ask("PATCH", "/v1/docs/things/1", &media, patch).await.ok();
    world.0.agree().await;
    assert_eq!(world.conflicts_of("things/1").await, before, "a JSON Patch wrote a settled value back");
    assert_eq!(world.reads("things/1", "m").await, json!({ "k": "b", "other": 1 }));
    // What a patch does name is written.
    merge(world.http(1), "things/1", json!({ "f": 9 })).await;
    world.0.agree().await;
    assert_eq!(world.reads("things/1", "f").await, 9);
}

#[tokio::test]
async fn a_key_of_a_map_is_settled_opened_and_undone_without_its_neighbours() {
    let world = World::start().await;
    let both = |value: &str| json!({ "m": { "k.x": value, "j": value }, "a.b": value });
    world.http(WEST).put("things/1", both("before")).await.ok();
    world.both(&[("things/1", both("west"), both("east"))]).await;
    let listed = world.conflicts_of("things/1").await;
    assert_eq!(listed.len(), 3, "{listed:?}");
    let of = |field: &str| listed.iter().find(|conflict| conflict["field"] == field).unwrap();
    let [key, field] = [of("m.k.x"), of("a.b")];
    for conflict in [key, field] {
        world.post(1, &format!("/v1/conflicts/{}/resolve", id(conflict)), json!({ "value": "neither" })).await;
    }
    assert_eq!(world.reads("things/1", "m").await, json!({ "k.x": "neither", "j": "east" }));
    assert_eq!(world.reads("things/1", "a.b").await, "neither");
    world.post(2, &format!("/v1/conflicts/{}/reopen", id(key)), json!({})).await;
    assert_eq!(world.reads("things/1", "m").await, json!({ "k.x": "east", "j": "east" }));
    assert_eq!(world.conflicts_of("things/1").await.len(), 2, "the key's, and its neighbour's");
    let undo = format!("/v1/conflicts/{}/undo", id(field));
    world.post(0, &undo, json!({ "dot": dot(field, 1) })).await;
    assert_eq!(world.reads("things/1", "a.b").await, "west");
}
