//! Rules and policies: what they settle, what they refuse, and when they change.

use serde_json::{Value, json};

use crate::harness::dispute::{EAST, LIMIT, WEST, World, id, listed, merge, put_text};
use crate::harness::{Cluster, Events, run, until};

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
    world.schema("vms", "[fields.power_state]\ntype = \"contested\"\nresolver = \"last_writer\"\n").await;
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
