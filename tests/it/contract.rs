//! The HTTP contract of one real node: conditions, refusals, bounds.

use serde_json::{Value, json};

use crate::harness::{Cluster, Http};

#[tokio::test]
async fn if_match_writes_only_over_what_was_read() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    http.put("vms/vm-1", json!({ "n": 1 })).await.ok();
    let read = http.get("/v1/docs/vms/vm-1").await;
    let etag = read.header("etag").to_owned();
    let put =
        async |etag: &str, n: u64| http.ask("PUT", "/v1/docs/vms/vm-1", &[("if-match", etag)], json!({ "n": n })).await;
    put(&etag, 2).await.ok();
    let detail = put(&etag, 3).await.refused(412, "precondition-failed");
    assert!(detail.contains("vms/vm-1") && detail.contains("nothing was written"), "{detail}");
    assert_eq!(http.fields("vms/vm-1").await, json!({ "n": 2 }));
    let create = [("if-none-match", "*")];
    http.ask("PUT", "/v1/docs/vms/vm-1", &create, json!({})).await.refused(412, "precondition-failed");
    http.ask("PUT", "/v1/docs/vms/vm-2", &create, json!({})).await.ok();
    let unchanged = http.ask("GET", "/v1/docs/vms/vm-2", &[("if-none-match", "*")], Value::Null).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
}

#[tokio::test]
async fn a_put_of_what_is_there_writes_nothing_and_one_with_less_removes_the_rest() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    let fields = json!({ "power_state": "running", "restarts": 5, "labels": ["eu", "gpu"], "deep": { "a": 1 } });
    http.put("vms/vm-1", fields.clone()).await.ok();
    let again = http.put("vms/vm-1", fields).await.ok();
    assert_eq!(again["dot"], Value::Null);
    http.put("vms/vm-1", json!({ "restarts": 7, "labels": ["eu"] })).await.ok();
    let document = http.document("vms/vm-1").await;
    assert_eq!(document["fields"], json!({ "restarts": 7, "labels": ["eu"] }));
    assert_eq!((&document["collection"], &document["id"]), (&json!("vms"), &json!("vm-1")));
    assert!(document["clock"].is_string() && document["siblings"] == json!({}), "{document}");
    http.incr("vms/vm-1", "restarts", -2).await.ok();
    assert_eq!(http.fields("vms/vm-1").await["restarts"], 5);
}

#[tokio::test]
async fn the_three_kinds_of_patch_change_what_they_say() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    let patch = async |media: &str, path: &str, body: Value| {
        http.ask("PATCH", &format!("/v1/docs/{path}"), &[("content-type", media)], body).await
    };
    patch("application/merge-patch+json", "vms/vm-1", json!({ "n": 1 })).await.refused(404, "not-found");
    patch("application/merge-patch+json", "vms/vm-1?upsert=true", json!({ "n": 1, "note": "x" })).await.ok();
    patch("application/merge-patch+json", "vms/vm-1", json!({ "note": null })).await.ok();
    assert_eq!(http.fields("vms/vm-1").await, json!({ "n": 1 }));
    let replace = json!([{ "op": "test", "path": "/n", "value": 1 }, { "op": "replace", "path": "/n", "value": 2 }]);
    patch("application/json-patch+json", "vms/vm-1", replace.clone()).await.ok();
    patch("application/json-patch+json", "vms/vm-1", replace).await.refused(409, "patch-conflict");
    let ops = json!([{ "field": "labels", "add": "gpu" }, { "field": "labels", "add": "old" },
                     { "field": "labels", "remove": "old" }, { "field": "status", "set": "idle" }]);
    patch("application/vnd.folkmoot.ops+json", "vms/vm-1", ops).await.ok();
    assert_eq!(http.fields("vms/vm-1").await, json!({ "n": 2, "labels": ["gpu"], "status": "idle" }));
    patch("text/plain", "vms/vm-1", json!({})).await.refused(415, "media-type");
}

#[tokio::test]
async fn a_batch_is_written_whole_or_not_at_all() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    let put = |id: &str| json!({ "op": "put", "collection": "vms", "id": id, "fields": { "n": 1 } });
    let missing = json!({ "op": "delete", "collection": "vms", "id": "nobody" });
    let batch = async |writes: Value| http.ask("POST", "/v1/batch", &[], json!({ "writes": writes })).await;
    let detail = batch(json!([put("a"), put("b"), missing])).await.refused(404, "not-found");
    assert!(detail.contains("write 2"), "{detail}");
    assert_eq!(http.list("vms").await, []);
    let receipt = batch(json!([put("a"), put("b")])).await.ok();
    assert!(receipt["dot"].is_string() && receipt["durability"] == "local", "{receipt}");
    let pages = http.get("/v1/docs/vms?limit=1").await.ok();
    assert_eq!((&pages["items"][0]["id"], &pages["next"]), (&json!("a"), &json!("a")));
    let rest = http.get("/v1/docs/vms?limit=1&after=a").await.ok();
    assert_eq!((&rest["items"][0]["id"], &rest["next"]), (&json!("b"), &Value::Null));
}

#[tokio::test]
async fn a_schema_is_replicated_and_what_does_not_fit_it_is_refused() {
    let cluster = Cluster::start(2).await;
    let schema = json!({ "fields": { "restarts": { "type": "gcounter" }, "best": { "type": "max" } } });
    let declared = cluster[0].http.ask("PUT", "/v1/schemas/jobs", &[], schema).await;
    declared.ok();
    let clock = declared.header("folkmoot-clock").to_owned();
    let there = cluster[1].http.ask("GET", "/v1/schemas/jobs", &[("folkmoot-clock", &clock)], Value::Null).await.ok();
    assert_eq!(there["fields"]["best"]["type"], "max", "{there}");
    let http = &cluster[1].http;
    http.put("jobs/j-1", json!({ "restarts": 2, "best": 10 })).await.ok();
    http.ops("jobs/j-1", json!([{ "field": "best", "set": 7 }])).await.ok();
    assert_eq!(http.fields("jobs/j-1").await, json!({ "restarts": 2, "best": 10 }));
    for ops in [json!([{ "field": "restarts", "set": "many" }]), json!([{ "field": "restarts", "incr": -1 }])] {
        let detail = http.ops("jobs/j-1", ops).await.refused(422, "does-not-fit");
        assert!(detail.contains("restarts"), "{detail}");
    }
    let toml = "[fields.a]\ntype = \"nonsense\"\n";
    let bad = http.send("PUT", "/v1/schemas/jobs", &[("content-type", "application/toml")], toml).await.unwrap();
    let detail = bad.refused(422, "bad-schema");
    assert!(detail.contains("line 2"), "the line is named: {detail}");
}

#[tokio::test]
async fn what_is_malformed_too_large_or_foreign_is_refused_by_name() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    let raw = async |path: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        let headers = [&[("content-type", "application/json")], headers].concat();
        http.send("PUT", path, &headers, body).await.unwrap()
    };
    raw("/v1/docs/vms/a", &[], b"{".to_vec()).await.refused(400, "bad-json");
    raw("/v1/docs/vms/a", &[], b"[]".to_vec()).await.refused(400, "bad-json");
    raw("/v1/docs/Vms/a", &[], b"{}".to_vec()).await.refused(400, "bad-name");
    raw("/v1/docs/vms/a?durability=x", &[], b"{}".to_vec()).await.refused(400, "bad-parameter");
    raw("/v1/docs/vms/a?colour=red", &[], b"{}".to_vec()).await.refused(400, "bad-parameter");
    raw("/v1/docs/vms/a", &[("folkmoot-clock", "nonsense")], b"{}".to_vec()).await.refused(400, "bad-clock");
    raw("/v1/docs/vms/a", &[("host", "evil.example")], b"{}".to_vec()).await.refused(403, "foreign-host");
    raw("/v1/docs/vms/a", &[("origin", "http://evil.example")], b"{}".to_vec()).await.refused(403, "foreign-origin");
    let large = json!({ "text": "x".repeat((8 << 20) + 1) }).to_string().into_bytes();
    raw("/v1/docs/vms/a", &[], large).await.refused(413, "body-too-large");
    http.get("/v1/docs/vms?limit=0").await.refused(400, "bad-parameter");
    http.get("/v1/docs/vms?limit=1001").await.refused(400, "bad-parameter");
    http.get("/v1/nothing").await.refused(404, "no-such-path");
    assert_eq!(http.list("vms").await, [], "nothing was written");
    let long = "i".repeat(512);
    http.put(&format!("vms/{long}"), json!({ "n": 1 })).await.ok();
    http.put("vms/a/b%20c/%C3%BC", json!({ "n": 2 })).await.ok();
    let ids: Vec<String> = http.list("vms").await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["a/b c/ü", &long]);
}

#[tokio::test]
async fn without_chaos_no_partition_can_be_made_over_the_api() {
    let mut cluster = Cluster::empty().await;
    let mut launch = cluster.next("memory");
    launch.more.retain(|flag| flag != "--chaos");
    let node = cluster.launch(launch).await;
    let http: &Http = &cluster[node].http;
    http.ask("POST", "/v1/chaos/block", &[], json!({ "peers": [] })).await.refused(404, "chaos-disabled");
    http.ask("DELETE", "/v1/chaos/block", &[], Value::Null).await.refused(404, "chaos-disabled");
}

#[tokio::test]
async fn a_node_describes_itself() {
    let cluster = Cluster::start(1).await;
    let http = &cluster[0].http;
    let openapi = http.get("/openapi.json").await.ok();
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3."));
    for path in ["/v1/docs/{collection}/{id}", "/v1/batch", "/v1/watch", "/v1/cluster", "/metrics"] {
        assert!(openapi["paths"][path].is_object(), "{path} is missing in {:?}", openapi["paths"]);
    }
    assert_eq!(http.get("/healthz").await.status, 200);
    assert_eq!(http.get("/readyz").await.ok(), json!({ "ready": true, "reasons": [] }));
    let before = http.metric("folkmoot_ops_written_total").await;
    http.put("vms/vm-1", json!({ "n": 1 })).await.ok();
    assert!(http.metric("folkmoot_ops_written_total").await > before);
}
