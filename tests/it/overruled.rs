//! What gave way is kept, tells what became of it, and comes back.

use serde_json::{Value, json};

use crate::harness::dispute::{MANUAL, WEST, World, dot, id, values};

#[tokio::test]
async fn a_decision_is_opened_again_with_all_siblings_and_an_overruled_value_comes_back_as_it_was() {
    let world = World::start().await;
    world.schema("things", MANUAL).await;
    let [a, b] = [json!({ "n": [1, 2.5, null], "text": "ü" }), json!("b")];
    world.http(WEST).put("things/1", json!({ "f": 1, "other": "kept" })).await.ok();
    world.both(&[("things/1", json!({ "f": a }), json!({ "f": b }))]).await;
    let conflict = world.conflict("things/1").await;
    let (resolve, reopen, undo) = {
        let of = |verb: &str| format!("/v1/conflicts/{}/{verb}", id(&conflict));
        (of("resolve"), of("reopen"), of("undo"))
    };

    world.post(0, &resolve, json!({ "value": "neither" })).await;
    world.0.agree().await;
    let detail = world.http(1).ask("POST", &undo, &[], json!({})).await.refused(422, "not-settled");
    assert!(detail.contains(&dot(&conflict, 0)) && detail.contains(&dot(&conflict, 1)), "{detail}");
    world.post(1, &reopen, json!({ "by": "bob" })).await;
    let open = world.conflict("things/1").await;
    assert_eq!(values(&open["siblings"]), values(&conflict["siblings"]));
    assert_eq!((world.reads("things/1", "f").await, &open["status"]), (b.clone(), &json!("open")));
    assert_eq!(world.http(2).fields(&format!("conflicts/{}", id(&conflict))).await["reopened_by"], "bob");
    world.http(1).ask("POST", &reopen, &[], json!({})).await.refused(412, "precondition-failed");

    // The one value that readers did not see.
    let undone = world.post(2, &format!("/v1/conflicts/{}/undo", id(&open)), json!({})).await;
    assert_eq!((undone["value"].clone(), world.reads("things/1", "f").await), (a.clone(), a.clone()));
    assert_eq!(world.conflicts_of("things/1").await, [] as [Value; 0]);
    // The note of the conflict tells it, and it can be taken back as any other decision.
    let note = world.http(0).fields(&format!("conflicts/{}", id(&open))).await;
    assert_eq!((&note["status"], &note["undone_by"], &note["value"]), (&json!("undone"), &json!("api"), &a));
    let over = world.http(1).get(&format!("/v1/conflicts/{}", id(&open))).await;
    assert!(over.refused(404, "no-such-conflict").contains("undone"));
    let again = world.post(2, &format!("/v1/conflicts/{}/reopen", id(&open)), json!({})).await;
    let new = world.conflict("things/1").await;
    assert_eq!((&again["conflict"], values(&new["siblings"])), (&new["id"], values(&conflict["siblings"])));
    let undone = world.post(2, &format!("/v1/conflicts/{}/undo", id(&new)), json!({})).await;
    assert_eq!(undone["value"], a);
    // By its dot, out of the ledger of a node that saw it.
    world.cli(&["conflicts", "undo", &dot(&conflict, 0)]).await.ok();
    assert_eq!(world.reads("things/1", "f").await, b);
    assert_eq!(world.reads("things/1", "other").await, "kept");
    assert_eq!(world.cli(&["conflicts", "undo", "nonsense"]).await.failed(4).matches("no such conflict").count(), 1);
}

#[tokio::test]
async fn the_ledger_says_what_waits_and_what_is_read_now() {
    let world = World::start().await;
    world.schema("things", MANUAL).await;
    world.http(WEST).put("things/1", json!({ "f": 1 })).await.ok();
    world.both(&[("things/1", json!({ "f": 9 }), json!({ "f": 3 }))]).await;
    let told = async || {
        let items = world.http(0).get("/v1/ledger?document=things/1").await.ok()["items"].take();
        let of = |item: &Value| (item["outcome"].as_str().unwrap().to_owned(), item["now"].clone());
        items.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let read = world.reads("things/1", "f").await;
    assert_eq!(told().await, vec![("waits".to_owned(), read); 2], "nobody has overruled anything yet");
    let conflict = world.conflict("things/1").await;
    world.post(0, &format!("/v1/conflicts/{}/resolve", id(&conflict)), json!({ "value": 5 })).await;
    assert!(told().await.iter().all(|(outcome, now)| outcome != "waits" && *now == 5));
}

#[tokio::test]
async fn the_ledger_tells_what_gave_way_where_and_by_which_rule_also_under_a_plain_lww() {
    let world = World::start().await;
    world.schema("things", "[fields.f]\ntype = \"contested\"\nresolver = \"max\"\n[fields.g]\ntype = \"lww\"\n").await;
    world.http(WEST).put("things/1", json!({ "f": 1, "g": 0 })).await.ok();
    world.both(&[("things/1", json!({ "f": 9, "g": "old" }), json!({ "f": 3, "g": "new" }))]).await;
    for node in 0..3 {
        let items = world.http(node).get("/v1/ledger?document=things/1").await.ok()["items"].take();
        let of = |field: &str, value: Value| {
            let found = items.as_array().unwrap().iter().find(|item| item["field"] == field && item["value"] == value);
            found.unwrap_or_else(|| panic!("node {node}: no {field} {value} in {items}")).clone()
        };
        assert_eq!(items.as_array().unwrap().len(), 4, "{items}");
        assert_eq!((&of("f", json!(9))["overruled"], &of("f", json!(3))["overruled"]), (&json!(false), &json!(true)));
        assert_eq!(of("f", json!(3))["winner"], of("f", json!(9))["dot"]);
        assert_eq!((&of("f", json!(3))["rule"], &of("g", json!("old"))["rule"]), (&json!("max"), &json!("lww")));
        assert_eq!(
            (&of("g", json!("old"))["overruled"], &of("g", json!("new"))["overruled"]),
            (&json!(true), &json!(false))
        );
    }
    let table = world.cli(&["conflicts", "ledger", "things/1"]).await;
    let lost = table.ok().lines().find(|line| line.contains("\"old\"")).unwrap();
    let dot = lost.split_whitespace().find(|word| word.contains("/") && word.contains(":")).unwrap();
    world.cli(&["conflicts", "undo", dot]).await.ok();
    assert_eq!(world.reads("things/1", "g").await, "old");
    assert_eq!(world.reads("things/1", "f").await, 9, "the other field stays as it is");
}

#[tokio::test]
async fn an_undo_brings_a_value_back_also_where_the_first_or_the_largest_is_kept() {
    let world = World::start().await;
    world
        .schema("things", "[fields.first]\ntype = \"fww\"\n[fields.top]\ntype = \"max\"\n[fields.m]\ntype = \"map\"\ninner = \"fww\"\n")
        .await;
    world.http(WEST).put("things/1", json!({})).await.ok();
    let both = |value: u64| json!({ "first": value, "top": value, "m": { "k": value } });
    world.both(&[("things/1", both(9), both(3))]).await;
    let read = world.http(0).get("/v1/ledger?document=things/1").await.ok();
    for field in ["first", "top", "m.k"] {
        let is_it = |item: &&Value| item["field"] == field && item["value"] == 3;
        let entry = read["items"].as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("{field}: {read}"));
        assert_eq!(entry["overruled"], true, "{entry}");
        world.cli(&["conflicts", "undo", entry["dot"].as_str().unwrap()]).await.ok();
    }
    assert_eq!((world.reads("things/1", "first").await, world.reads("things/1", "top").await), (json!(3), json!(3)));
    assert_eq!(world.reads("things/1", "m").await, json!({ "k": 3 }));
}
