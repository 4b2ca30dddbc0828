//! What does not merge: listed alike everywhere, settled by resolvers and people, undone and opened again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, Events, Http, run, until};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Two writers: the first of these nodes writes first.
pub(crate) const WEST: usize = 0;
pub(crate) const EAST: usize = 2;

/// Three nodes and a network to cut.
pub(crate) struct World(pub(crate) Cluster);

impl World {
    pub(crate) async fn start() -> Self {
        Self(Cluster::start(3).await)
    }

    pub(crate) fn http(&self, node: usize) -> &Http {
        &self.0[node].http
    }

    pub(crate) async fn schema(&self, collection: &str, text: &str) {
        put_text(self.http(WEST), &format!("/v1/schemas/{collection}"), text).await.ok();
    }

    async fn cut(&self) {
        self.0.agree().await;
        self.0.partition(&[&[0, 1], &[2]]).await;
    }

    pub(crate) async fn heal(&self) {
        self.0.heal().await;
        self.0.agree().await;
    }

    /// Both sides write, the east later.
    pub(crate) async fn both(&self, writes: &[(&str, Value, Value)]) {
        self.cut().await;
        for (document, west, _) in writes {
            merge(self.http(WEST), document, west.clone()).await;
        }
        next_millisecond().await;
        for (document, _, east) in writes {
            merge(self.http(EAST), document, east.clone()).await;
        }
        self.heal().await;
    }

    /// The one conflict of a document, which all nodes must list alike.
    pub(crate) async fn conflict(&self, document: &str) -> Value {
        let mut found = self.conflicts_of(document).await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    pub(crate) async fn conflicts_of(&self, document: &str) -> Vec<Value> {
        let of = async |node: usize| {
            let mut listed = listed(self.http(node), "").await;
            listed.retain(|conflict| conflict["document"] == document);
            listed
        };
        let here = of(0).await;
        for node in [1, 2] {
            assert_eq!(of(node).await, here, "node {node} lists other conflicts");
        }
        here
    }

    pub(crate) async fn post(&self, node: usize, path: &str, body: Value) -> Value {
        self.http(node).ask("POST", path, &[], body).await.ok()
    }

    pub(crate) async fn cli(&self, args: &[&str]) -> Ended {
        run(&[args, &["--api", &self.0[1].ready.api]].concat(), LIMIT).await
    }

    /// What every node reads in a field.
    pub(crate) async fn reads(&self, document: &str, field: &str) -> Value {
        self.0.agree().await;
        let shown = self.http(0).fields(document).await[field].take();
        for node in [1, 2] {
            assert_eq!(self.http(node).fields(document).await[field], shown, "node {node}");
        }
        shown
    }
}

pub(crate) async fn listed(http: &Http, query: &str) -> Vec<Value> {
    let page = http.get(&format!("/v1/conflicts?limit=1000{query}")).await.ok();
    page["items"].as_array().unwrap().clone()
}

pub(crate) async fn put_text(http: &Http, path: &str, text: &str) -> crate::harness::Reply {
    http.send("PUT", path, &[("content-type", "application/toml")], text.to_owned()).await.unwrap()
}

async fn merge(http: &Http, document: &str, patch: Value) {
    let media = [("content-type", "application/merge-patch+json")];
    http.ask("PATCH", &format!("/v1/docs/{document}"), &media, patch).await.ok();
}

/// Hybrid clocks count milliseconds; of two concurrent writes within one, either may count as the later.
async fn next_millisecond() {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let before = now();
    until("the next millisecond", LIMIT, async || if now() > before { Ok(()) } else { Err(before.to_string()) }).await;
}

pub(crate) fn dot(conflict: &Value, sibling: usize) -> String {
    conflict["siblings"][sibling]["dot"].as_str().unwrap().to_owned()
}

pub(crate) fn id(conflict: &Value) -> &str {
    conflict["id"].as_str().unwrap()
}

fn values(siblings: &Value) -> Vec<&Value> {
    siblings.as_array().unwrap().iter().map(|sibling| &sibling["value"]).collect()
}

pub(crate) const MANUAL: &str = "[fields.f]\ntype = \"contested\"\nresolver = \"manual\"\n";

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
        ("vote", "", json!("x"), json!("a"), json!("b"), json!("b"), "no_quorum"),
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
async fn what_a_policy_settles_otherwise_has_another_etag_and_is_told_to_who_watches() {
    let world = World::start().await;
    world.http(WEST).put("things/1", json!({ "f": "x" })).await.ok();
    world.both(&[("things/1", json!({ "f": "older" }), json!({ "f": "newer" }))]).await;
    assert_eq!(world.reads("things/1", "f").await, "newer");
    let http = world.http(0);
    let read = http.get("/v1/docs/things/1").await;
    let etag = read.headers["etag"].to_str().unwrap().to_owned();
    let mut changes = Events::open(http, "/v1/watch?prefix=things/&conflicts=true", None).await;
    let policy = "[[rules]]\nname = \"first\"\nresolver = \"first_writer\"\n";
    put_text(http, "/v1/policies/p", policy).await.ok();
    assert_eq!(world.reads("things/1", "f").await, "older");
    let now = http.ask("GET", "/v1/docs/things/1", &[("if-none-match", &etag)], Value::Null).await;
    assert_eq!(
        (now.status, now.json()["fields"]["f"].as_str()),
        (200, Some("older")),
        "no reader is told that nothing changed"
    );
    let stale = [("if-match", etag.as_str())];
    http.ask("PUT", "/v1/docs/things/1", &stale, json!({ "f": "z" })).await.refused(412, "precondition-failed");
    let (mut put, mut turned) = (false, false);
    while !(put && turned) {
        let event = tokio::time::timeout(LIMIT, changes.next()).await.expect("both are told");
        put |= event.name == "put" && event.data["fields"]["f"] == "older";
        turned |= event.name == "conflict" && event.data["document"] == "things/1";
    }
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

#[tokio::test]
async fn rules_that_merged_documents_break_are_listed_until_the_documents_are_mended() {
    let world = World::start().await;
    let guests = "[[rules]]\nname = \"a stopped guest does not migrate\"\n\
                  check = \"!(has(doc.migration) && doc.power_state == 'stopped')\"\n\
                  [[rules]]\nname = \"one guest for each address\"\nexclusive = \"address\"\n";
    let hosts = "[[rules]]\nname = \"a host holds its guests\"\nseverity = \"critical\"\n\
                 over = { collection = \"guests\", where = \"item.host == id\", sum = \"mb\" }\ncheck = \"total <= doc.mb\"\n";
    world.schema("guests", guests).await;
    world.schema("hosts", hosts).await;
    let guest = json!({ "power_state": "running", "host": "h1", "mb": 6, "address": "10.0.0.1" });
    world.http(WEST).put("hosts/h1", json!({ "mb": 10 })).await.ok();
    world.http(WEST).put("guests/g1", guest.clone()).await.ok();
    world.cut().await;
    merge(world.http(WEST), "guests/g1", json!({ "power_state": "stopped" })).await;
    merge(world.http(EAST), "guests/g1", json!({ "migration": "running" })).await;
    world.http(EAST).put("guests/g2", guest).await.ok();
    world.heal().await;
    let broken = until("three broken rules, told alike", LIMIT, async || {
        let here = listed(world.http(0), "").await;
        let alike = listed(world.http(1), "").await == here && listed(world.http(2), "").await == here;
        if here.len() == 3 && alike { Ok(here) } else { Err(format!("{here:?}")) }
    })
    .await;
    let of = |class: &str| broken.iter().find(|conflict| conflict["class"] == class).unwrap();
    assert_eq!((&of("semantic")["document"], &of("semantic")["status"]), (&json!("guests/g1"), &json!("open")));
    assert_eq!((&of("contention")["field"], &of("contention")["others"]), (&json!("address"), &json!(["guests/g2"])));
    assert_eq!((&of("invariant")["document"], &of("invariant")["severity"]), (&json!("hosts/h1"), &json!("critical")));
    assert!(of("invariant")["cause"].as_str().unwrap().contains("12"), "it names the sum: {}", of("invariant"));
    for verb in ["resolve", "undo"] {
        let body = if verb == "undo" { json!({}) } else { json!({ "resolver": "max" }) };
        let path = format!("/v1/conflicts/{}/{verb}", id(of("contention")));
        let detail = world.http(0).ask("POST", &path, &[], body).await.refused(422, "not-settled");
        assert!(detail.contains("guests/g1, guests/g2"), "{detail}");
    }
    assert_eq!(listed(world.http(1), "&severity=critical").await.len(), 1);
    merge(world.http(1), "guests/g1", json!({ "migration": null })).await;
    merge(world.http(1), "guests/g2", json!({ "address": "10.0.0.2", "mb": 4 })).await;
    until("no broken rule", LIMIT, async || {
        let left = listed(world.http(2), "").await;
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_policy_is_previewed_put_in_force_everywhere_and_named_with_its_version() {
    let world = World::start().await;
    world.http(WEST).put("vms/1", json!({ "power_state": "x", "tier": "serving" })).await.ok();
    world.both(&[("vms/1", json!({ "power_state": "running" }), json!({ "power_state": "stopped" }))]).await;
    let by_schema = world.conflict("vms/1").await;
    assert_eq!((&by_schema["value"], &by_schema["policy"]), (&json!("stopped"), &Value::Null));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policies.toml");

    let preview = world.cli(&["policy", "preview", file, "--json"]).await.json();
    assert_eq!((&preview["now"]["value"], &preview["then"]["value"]), (&json!("stopped"), &json!("running")));
    assert_eq!(world.conflict("vms/1").await, by_schema, "a preview changes nothing");

    world.cli(&["policy", "put", "fleet", file]).await.ok();
    let by_policy = world.conflict_by(&["running"]).await;
    assert_eq!(id(&by_policy), id(&by_schema), "it is the same conflict");
    let version = world.http(2).get("/v1/policies/fleet").await.ok()["version"].as_str().unwrap().to_owned();
    assert_eq!(by_policy["policy"], format!("fleet@{version}/serving vms stay up"));
    assert!(world.cli(&["policy", "ls"]).await.ok().starts_with("fleet\t"));

    // What the rule is told is what `resolve` is told.
    let path = format!("/v1/conflicts/{}/resolve?preview=true", id(&by_policy));
    assert_eq!(world.post(0, &path, json!({ "resolver": "priority" })).await["value"], "running");
    world.cli(&["policy", "rm", "fleet"]).await.ok();
    assert_eq!(world.conflict_by(&["stopped"]).await, by_schema);
    world.http(0).get("/v1/policies/fleet").await.refused(404, "not-found");
}

impl World {
    /// The conflict of `vms/1` once it has this value on all nodes.
    async fn conflict_by(&self, value: &[&str; 1]) -> Value {
        self.0.agree().await;
        assert_eq!(self.reads("vms/1", "power_state").await, value[0]);
        self.conflict("vms/1").await
    }
}

#[tokio::test]
async fn the_policy_of_the_examples_does_what_its_cases_say_and_a_wrong_case_fails() {
    let of = |name: &str| format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let (policy, cases) = (of("policies.toml"), of("policies-cases.toml"));
    let ended = run(&["policy", "test", &policy, &cases], LIMIT).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.lines().count() >= 8 && ended.stdout.lines().all(|line| line.starts_with("ok")), "{ended:?}");
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong.toml");
    let one = "[[cases]]\ndocument = \"vms/1\"\nfield = \"owner\"\nsiblings = [1, 2, 3]\n";
    for expectation in ["expect = 1", "rule = \"\"", "resolver = \"max\""] {
        std::fs::write(&wrong, format!("{one}{expectation}\n")).unwrap();
        let ended = run(&["policy", "test", &policy, wrong.to_str().unwrap()], LIMIT).await;
        ended.failed(1);
        assert!(ended.stdout.starts_with("FAILED"), "{expectation}: {ended:?}");
    }
    std::fs::write(&wrong, one.replace("[1, 2, 3]", "[1]")).unwrap();
    run(&["policy", "test", &policy, wrong.to_str().unwrap()], LIMIT).await.failed(1);
    std::fs::write(&wrong, "[[rules]]\nname = \"x\"\nresolver = \"max\"\nwhen = \"size(sibling) > 2\"\n").unwrap();
    let ended = run(&["policy", "test", wrong.to_str().unwrap(), &cases], LIMIT).await;
    assert!(ended.failed(2).contains("wrong.toml:4:1") && ended.stderr.contains("`sibling`"), "{ended:?}");
}

#[tokio::test]
async fn a_wrong_policy_or_schema_is_refused_with_its_line_and_nothing_of_it_holds() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    let good = "[fields.a]\ntype = \"contested\"\nresolver = \"max\"\n";
    put_text(http, "/v1/schemas/things", good).await.ok();
    put_text(http, "/v1/policies/p", "[[rules]]\nname = \"x\"\nresolver = \"max\"\n").await.ok();
    let before = [http.get("/v1/schemas/things").await.ok(), http.get("/v1/policies/p").await.ok()];
    let cases = [
        ("schemas/things", "bad-schema", 3, "`dice`", "[fields.a]\ntype = \"contested\"\nresolver = \"dice\"\n"),
        (
            "schemas/things",
            "bad-schema",
            1,
            "needs `order`",
            "[fields.a]\ntype = \"contested\"\nresolver = \"priority\"\n",
        ),
        ("schemas/things", "bad-schema", 3, "rule `r`", "[[rules]]\nname = \"r\"\ncheck = \"doc.a <\"\n"),
        ("schemas/things", "bad-schema", 3, "no `dco`", "[[rules]]\nname = \"r\"\ncheck = \"dco.a < 1\"\n"),
        ("schemas/things", "bad-schema", 3, "`chekc`", "[[rules]]\nname = \"r\"\nchekc = \"doc.a < 1\"\n"),
        ("policies/p", "bad-policy", 3, "`dice`", "[[rules]]\nname = \"x\"\nresolver = \"dice\"\n"),
        ("policies/p", "bad-policy", 4, "rule `x`", "[[rules]]\nname = \"x\"\nresolver = \"max\"\nwhen = \"size(\"\n"),
        (
            "policies/p",
            "bad-policy",
            4,
            "no `sibling`",
            "[[rules]]\nname = \"x\"\nresolver = \"max\"\nwhen = \"size(sibling) > 1\"\n",
        ),
        (
            "policies/p",
            "bad-policy",
            4,
            "\"bigger\"",
            "[[rules]]\nname = \"x\"\nresolver = \"three_way\"\nmerge = { strategies = { a = \"bigger\" } }\n",
        ),
        ("policies/p", "bad-policy", 1, "table", "[[rules]\n"),
    ];
    for (path, kind, line, words, text) in cases {
        let reply = put_text(http, &format!("/v1/{path}"), text).await;
        assert!(reply.refused(422, kind).contains(words), "{words}: {}", reply.json());
        assert_eq!(reply.json()["line"], line, "{}", reply.json());
    }
    let after = [http.get("/v1/schemas/things").await.ok(), http.get("/v1/policies/p").await.ok()];
    assert_eq!((&after[0]["fields"], &after[1]["definition"]), (&before[0]["fields"], &before[1]["definition"]));
}

#[tokio::test]
async fn a_conflict_that_waits_too_long_is_frozen_for_all_but_who_settles_it() {
    let world = World::start().await;
    let policy =
        "[[rules]]\nname = \"people\"\nresolver = \"manual\"\nescalate = { to = \"freeze\", after_ms = 300 }\n";
    put_text(world.http(EAST), "/v1/policies/slow", policy).await.ok();
    merge(world.http(WEST), "vms/1?upsert=true", json!({"f": "x", "other": 1})).await;
    world.both(&[("vms/1", json!({"f": "a"}), json!({"f": "b"}))]).await;
    let frozen = async |node: usize| {
        let listed = listed(world.http(node), "").await;
        let is_frozen = |conflict: &&Value| conflict["document"] == "vms/1" && conflict["escalated"] == "freeze";
        listed.iter().find(is_frozen).map(|conflict| id(conflict).to_owned()).ok_or_else(|| format!("{listed:?}"))
    };
    for node in 0..3 {
        until("the conflict to be frozen", LIMIT, async || frozen(node).await).await;
    }
    let media = [("content-type", "application/merge-patch+json")];
    let refused = world.http(WEST).ask("PATCH", "/v1/docs/vms/1", &media, json!({"f": "c"})).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    // Other fields are nobody's concern.
    for (media, change) in [
        ("application/vnd.folkmoot.ops+json", json!([{"field": "other", "set": 2}])),
        ("application/merge-patch+json", json!({"other": 3})),
        ("application/json-patch+json", json!([{"op": "replace", "path": "/other", "value": 4}])),
    ] {
        world.http(WEST).ask("PATCH", "/v1/docs/vms/1", &[("content-type", media)], change).await.ok();
    }
    let conflict = world.conflict("vms/1").await;
    world.post(EAST, &format!("/v1/conflicts/{}/resolve", id(&conflict)), json!({"value": "c", "by": "ada"})).await;
    assert_eq!(world.reads("vms/1", "f").await, "c");
    merge(world.http(WEST), "vms/1", json!({"f": "d"})).await;
    assert_eq!(world.reads("vms/1", "f").await, "d");
}

#[tokio::test]
async fn a_note_written_by_hand_changes_nothing_that_every_node_reads() {
    let world = World::start().await;
    let policy = "[[rules]]\nname = \"p\"\nresolver = \"max\"\n";
    put_text(world.http(WEST), "/v1/policies/p", policy).await.ok();
    let sibling = |n: u64| json!({"value": {"evil": n}, "dot": format!("x:{n}"), "replica": "x", "at": n});
    let note = |siblings: Vec<Value>| json!({"status": "resolved", "document": "policies/p", "field": "definition", "siblings": siblings, "value": 0});
    let put = async |id: &str, body: Value| {
        world.http(WEST).ask("PUT", &format!("/v1/docs/conflicts/{id}"), &[], body).await.ok()
    };
    put("aa", note(vec![sibling(1)])).await;
    put("many", note((0..2_000).map(sibling).collect())).await;
    let undo = world.http(WEST).ask("POST", "/v1/conflicts/aa/undo", &[], json!({"dot": "x:1"})).await;
    let reopen = world.http(WEST).ask("POST", "/v1/conflicts/many/reopen", &[], json!({})).await;
    assert!(undo.status >= 400 && reopen.status >= 400, "{undo:?} {reopen:?}");
    let listed = world.http(WEST).get("/v1/policies").await.ok();
    assert_eq!(listed["items"][0]["definition"]["rules"][0]["resolver"], "max", "{listed}");
}
