//! The command line against a real node: data on stdout, words on stderr, exit codes that scripts can rely on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cluster, Ended, free_port, run, run_with_input};

const LIMIT: Duration = Duration::from_secs(20);

/// `folkmoot <args>` on the first node.
async fn at(cluster: &Cluster, args: &[&str]) -> Ended {
    run_with_input(args, &[("FOLKMOOT_API", &cluster[0].ready.api)], "", LIMIT).await
}

#[tokio::test]
async fn a_document_is_written_changed_read_and_deleted() {
    let cluster = Cluster::start(1).await;
    let receipt =
        at(&cluster, &["put", "vms/vm-1", r#"{"power_state":"running","labels":["eu","old"]}"#, "--json"]).await;
    let receipt = receipt.json();
    assert!(receipt["dot"].as_str().unwrap().starts_with(&cluster[0].ready.replica), "{receipt}");
    assert!(receipt["clock"].is_string() && receipt["durability"] == "local", "{receipt}");
    at(&cluster, &["incr", "vms/vm-1", "restarts"]).await.ok();
    at(&cluster, &["incr", "vms/vm-1", "restarts", "--", "-4"]).await.ok();
    at(&cluster, &["add", "vms/vm-1", "labels", "gpu", "8080"]).await.ok();
    at(&cluster, &["rm", "vms/vm-1", "labels", "old"]).await.ok();
    at(&cluster, &["patch", "vms/vm-1", r#"{"power_state":"stopped"}"#]).await.ok();
    at(&cluster, &["patch", "vms/vm-1", "--ops", r#"[{"field":"restarts","incr":10}]"#]).await.ok();
    let patch = r#"[{"op":"add","path":"/note","value":"n"}]"#;
    at(&cluster, &["patch", "vms/vm-1", "--json-patch", patch]).await.ok();
    let expected = json!({ "power_state": "stopped", "restarts": 7, "labels": [8080, "eu", "gpu"], "note": "n" });
    let shown: Value = at(&cluster, &["get", "vms/vm-1"]).await.json();
    assert_eq!(shown, expected);
    let whole = at(&cluster, &["get", "vms/vm-1", "--json"]).await.json();
    assert_eq!((&whole["fields"], &whole["siblings"]), (&expected, &json!({})));
    let etag = whole["etag"].as_str().unwrap().to_owned();
    at(&cluster, &["put", "vms/vm-1", "{}", "--if-match", &etag]).await.ok();
    at(&cluster, &["put", "vms/vm-1", "{}", "--if-match", &etag]).await.failed(5);
    at(&cluster, &["del", "vms/vm-1"]).await.ok();
    at(&cluster, &["get", "vms/vm-1"]).await.failed(4);
    at(&cluster, &["del", "vms/vm-1"]).await.failed(4);
    at(&cluster, &["patch", "vms/vm-1", "{}"]).await.failed(4);
    at(&cluster, &["patch", "vms/vm-1", r#"{"n":1}"#, "--upsert"]).await.ok();
}

#[tokio::test]
async fn each_failure_has_its_exit_code_and_leaves_stdout_empty() {
    let cluster = Cluster::start(1).await;
    at(&cluster, &["put", "vms/vm-1", "{}"]).await.ok();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let cases: [(i32, Ended); 9] = [
        (2, at(&cluster, &["get", "Vms/x"]).await),
        (2, at(&cluster, &["put", "vms/vm-1", "{"]).await),
        (2, at(&cluster, &["put", "vms/vm-1", "[]"]).await),
        (2, at(&cluster, &["put", "vms/vm-1", "{}", "--durability", "sometimes"]).await),
        (3, run(&["get", "vms/vm-1", "--api", &nobody], LIMIT).await),
        (3, run(&["status", "--api", &nobody], LIMIT).await),
        (4, at(&cluster, &["get", "vms/nobody"]).await),
        (5, at(&cluster, &["put", "vms/vm-1", "{}", "--if-match", "\"nonsense\""]).await),
        (1, at(&cluster, &["watch", "--since", "00000000-1"]).await),
    ];
    for (code, ended) in cases {
        ended.failed(code);
        assert_eq!(ended.stdout, "", "{ended:?}");
    }
}

#[tokio::test]
async fn a_node_is_found_through_its_variable_and_flags_beat_it() {
    let cluster = Cluster::start(1).await;
    let api = [("FOLKMOOT_API", cluster[0].ready.api.as_str())];
    run_with_input(&["put", "vms/vm-1", "-"], &api, r#"{"n":1}"#, LIMIT).await.ok();
    let got = run_with_input(&["get", "vms/vm-1"], &api, "", LIMIT).await;
    assert_eq!(got.json(), json!({ "n": 1 }));
    let wrong = [("FOLKMOOT_API", "http://127.0.0.1:1")];
    run_with_input(&["get", "vms/vm-1"], &wrong, "", LIMIT).await.failed(3);
    run_with_input(&["get", "vms/vm-1", "--api", &cluster[0].ready.api], &wrong, "", LIMIT).await.ok();
}

#[tokio::test]
async fn lists_and_watches_print_one_document_a_line() {
    let cluster = Cluster::start(1).await;
    let since = cluster[0].http.open("/v1/watch", &[]).await.chunk().await.unwrap().unwrap();
    let since = String::from_utf8(since.to_vec()).unwrap();
    let since = since.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    for n in 0..5 {
        at(&cluster, &["put", &format!("vms/{}-{n}", if n < 3 { "eu" } else { "us" }), &json!({ "n": n }).to_string()])
            .await
            .ok();
    }
    let listed = at(&cluster, &["ls", "vms", "--prefix", "eu-"]).await;
    assert_eq!(listed.ok(), "eu-0\t{\"n\":0}\neu-1\t{\"n\":1}\neu-2\t{\"n\":2}\n");
    let after = at(&cluster, &["ls", "vms", "--after", "eu-1", "--limit", "2", "--json"]).await;
    let ids: Vec<Value> =
        after.ok().lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].take()).collect();
    assert_eq!(ids, ["eu-2", "us-3"]);
    let watched = at(&cluster, &["watch", "vms/us-", "--since", &since, "--limit", "2"]).await;
    assert_eq!(watched.ok(), "vms/us-3\t{\"n\":3}\nvms/us-4\t{\"n\":4}\n");
}

#[tokio::test]
async fn an_export_imported_elsewhere_gives_the_same_documents() {
    let mut cluster = Cluster::start(1).await;
    for n in 0..30 {
        let fields = json!({ "n": n, "labels": ["ü", "b"], "deep": { "a": [1, 2.5, null] }, "text": "line\nbreak" });
        cluster[0].http.put(&format!("vms/dir/vm-{n:02}"), fields).await.ok();
        cluster[0].http.incr(&format!("workers/w-{n}"), "tasks_started", n).await.ok();
    }
    let exported = at(&cluster, &["export", "vms", "workers"]).await;
    let lines = exported.ok().to_owned();
    assert_eq!(lines.lines().count(), 60);
    let mut other = cluster.next("redb");
    other.join.clear();
    let other = cluster.launch(other).await;
    let api = [("FOLKMOOT_API", cluster[other].ready.api.as_str())];
    let imported = run_with_input(&["import", "-", "--json"], &api, &lines, LIMIT).await;
    assert_eq!(imported.json()["documents"], 60);
    for collection in ["vms", "workers"] {
        assert_eq!(cluster[other].http.list(collection).await, cluster[0].http.list(collection).await);
    }
    let again = run_with_input(&["export", "vms", "workers"], &api, "", LIMIT).await;
    assert_eq!(again.ok(), lines);
    let bad = run_with_input(&["import", "-"], &api, "{\"collection\":\"vms\"}\n", LIMIT).await;
    assert!(bad.failed(2).contains("line 1"), "{bad:?}");
}

#[tokio::test]
async fn status_and_peers_show_the_cluster_and_leave_takes_a_node_out_of_it() {
    let mut cluster = Cluster::start(3).await;
    let status = at(&cluster, &["status", "--json"]).await.json();
    assert_eq!(status["members"].as_array().unwrap().len(), 3);
    let words = at(&cluster, &["status"]).await;
    for word in ["node-0", "node-1", "node-2", "alive", "whole"] {
        assert!(words.ok().contains(word), "`{word}` is missing in:\n{}", words.stdout);
    }
    let peers = at(&cluster, &["peers", "ls", "--json"]).await.json();
    let linked = peers["peers"].as_array().unwrap().iter().filter(|peer| peer["link"] == "linked").count();
    assert_eq!(linked, 2, "{peers}");
    at(&cluster, &["peers", "ls"]).await.ok();

    let words = run(&["leave", "--api", &cluster[2].ready.api], LIMIT).await;
    assert!(words.failed(2).contains("--yes"), "leaving is for good: {words:?}");
    run(&["leave", "--yes", "--api", &cluster[2].ready.api], LIMIT).await.ok();
    assert_eq!(cluster[2].ended(LIMIT).await, Some(0), "a node that left ends");
    cluster.all_joined_of(2).await;
    let members = cluster[0].http.cluster().await["members"].take();
    let gone = members.as_array().unwrap().iter().find(|member| member["name"] == "node-2").unwrap();
    assert_eq!(gone["state"], "left", "{gone}");

    let mut alone = cluster[2].launch.clone();
    alone.join.clear();
    assert!(alone.refused().await.failed(6).contains("left its cluster"), "it does not come back by accident");
    cluster.restart(2).await;
    cluster.all_joined().await;
}

#[tokio::test]
async fn the_settings_in_force_are_shown_with_where_they_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, "# a node\nname = \"from-file\"\nstore = \"redb\"\n").unwrap();
    let config = format!("--config={}", file.display());
    let args = ["config", "show", "--origin", "--json", &config, "--api=127.0.0.1:9999"];
    let variables = [("FOLKMOOT_STORE", "memory"), ("FOLKMOOT_MAX_CLOCK_SKEW_MS", "250")];
    let shown = run_with_input(&args, &variables, "", LIMIT).await.json();
    let of = |key: &str| (shown[key]["value"].clone(), shown[key]["origin"].as_str().unwrap().to_owned());
    assert_eq!(of("name"), (json!("from-file"), format!("{}:2", file.display())));
    assert_eq!(of("store"), (json!("memory"), "$FOLKMOOT_STORE".to_owned()));
    assert_eq!(of("max_clock_skew_ms"), (json!(250), "$FOLKMOOT_MAX_CLOCK_SKEW_MS".to_owned()));
    assert_eq!(of("api"), (json!("127.0.0.1:9999"), "--api".to_owned()));
    assert_eq!(of("chaos"), (json!(false), "default".to_owned()));
    std::fs::write(&file, "name = \"x\"\ncolour = \"red\"\n").unwrap();
    let bad = run(&["config", "show", &config], LIMIT).await;
    assert!(bad.failed(2).contains("colour"), "{bad:?}");
}

#[tokio::test]
async fn version_completions_and_help_need_no_node() {
    let version = run(&["version", "--json"], LIMIT).await.json();
    assert_eq!((&version["name"], &version["version"]), (&json!("folkmoot"), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(run(&["completions", "bash"], LIMIT).await.ok().contains("folkmoot"));
    let help = run(&["--help"], LIMIT).await;
    for command in ["run", "demo", "cluster", "replay", "status", "get", "put", "watch", "export", "bench"] {
        assert!(help.ok().contains(&format!("\n  {command} ")), "{command} is missing in:\n{}", help.stdout);
    }
    assert_eq!(run(&[], LIMIT).await.code, Some(2));
}

#[tokio::test]
async fn a_seed_replays_to_the_byte_in_another_process() {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/simulations/everything-at-once.toml");
    let limit = std::time::Duration::from_secs(60);
    let first = run(&["sim", "replay", scenario, "--seed", "5"], limit).await;
    let second = run(&["sim", "replay", scenario, "--seed", "5"], limit).await;
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stderr.contains("trace ") && first.stdout.lines().count() > 1_000, "{}", first.stderr);
    assert!((first.stdout, first.stderr) == (second.stdout, second.stderr), "two runs of one seed differ");
}
