//! What the surfaces of conflicts say: to whoever types a prefix, asks after what is over, tries a policy, or errs.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::dispute::{EAST, LIMIT, MANUAL, WEST, World, id, put_text};
use crate::harness::{Cluster, program, run, until};

/// A world with one disputed field in each of these documents: the west wrote 9, the east then 3.
async fn disputed(documents: &[&str]) -> World {
    let world = World::start().await;
    for document in documents {
        world.http(WEST).put(document, json!({ "f": 1 })).await.ok();
    }
    let writes: Vec<_> = documents.iter().map(|name| (*name, json!({ "f": 9 }), json!({ "f": 3 }))).collect();
    world.both(&writes).await;
    world
}

#[tokio::test]
async fn policies_take_so_many_rules_together_and_one_more_is_refused_with_the_numbers() {
    let world = World::start().await;
    let rule = |n: usize| json!({ "name": n.to_string(), "fields": [format!("f{n}")], "resolver": "max" });
    let policy = |rules: usize| json!({ "rules": (0..rules).map(rule).collect::<Vec<_>>() });
    for name in ["a", "b", "c", "d"] {
        world.http(WEST).put(&format!("policies/{name}"), json!({ "definition": policy(64) })).await.ok();
    }
    world.http(WEST).put("policies/d", json!({ "definition": policy(63) })).await.ok();
    let refused = world.http(WEST).put("policies/e", json!({ "definition": policy(2) })).await;
    let problem = refused.json();
    assert_eq!((refused.status, problem["title"].as_str()), (422, Some("The policy is not valid")));
    assert!(problem["detail"].as_str().unwrap().contains("have 255, and all together take 256"), "{problem}");
    world.http(WEST).put("policies/e", json!({ "definition": policy(1) })).await.ok();
}

#[tokio::test]
async fn a_preview_lists_what_would_stand_otherwise_and_nothing_else_page_by_page() {
    let world = disputed(&["vms/1", "vms/2", "vms/3"]).await;
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let path = dir.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let file = write("[[rules]]\nname = \"most\"\nresolver = \"max\"\n");
    world.cli(&["policy", "put", "fleet", &file]).await.ok();
    assert_eq!(world.reads("vms/1", "f").await, 9);
    let same = world.cli(&["policy", "preview", &file]).await;
    assert_eq!(same.ok(), "");
    assert!(same.stderr.starts_with("0 of the 3 conflicts that a policy may settle would stand otherwise"), "{same:?}");

    let some = "[[rules]]\nname = \"latest\"\nwhen = \"id != '3'\"\nresolver = \"last_writer\"\n";
    let told = world.cli(&["policy", "preview", &write(some)]).await;
    assert!(told.stderr.contains("2 of the 3 conflicts that a policy may settle"), "{told:?}");
    assert!(told.ok().lines().all(|line| line.contains("9 by max") && line.contains("3 by last_writer")), "{told:?}");
    let mut after = String::new();
    for (page, last) in [(0, false), (1, true)] {
        let path = format!("/v1/policies/preview?limit=1{after}");
        let media = [("content-type", "application/toml")];
        let told = world.http(0).send("POST", &path, &media, some.to_owned()).await.unwrap().ok();
        assert_eq!((&told["count"], &told["of"]), (&json!(2), &json!(3)), "page {page}: {told}");
        assert_eq!((told["changed"].as_array().unwrap().len(), told["next"].is_null()), (1, last), "{told}");
        assert_ne!(told["changed"][0]["now"]["document"], "vms/3");
        let named = told["changed"][0]["then"]["policy"].as_str().unwrap();
        assert!(named.starts_with("previewed@") && named.ends_with("/latest"), "{told}");
        after = format!("&after={}", told["next"].as_str().unwrap_or_default());
    }
    let missing = world.cli(&["policy", "rm", "nothere"]).await;
    assert!(missing.failed(4).contains("folkmoot policy ls") && !missing.stderr.contains("PUT"), "{missing:?}");
}

#[tokio::test]
async fn an_id_may_be_cut_short_and_one_that_is_over_tells_what_became_of_it() {
    let world = World::start().await;
    world.schema("things", MANUAL).await;
    world.http(WEST).put("things/1", json!({ "f": 1 })).await.ok();
    world.both(&[("things/1", json!({ "f": "a" }), json!({ "f": "b" }))]).await;
    let conflict = world.conflict("things/1").await;
    let short = &id(&conflict)[..6];
    assert_eq!(world.cli(&["conflicts", "show", short]).await.json(), conflict);
    assert!(world.cli(&["conflicts", "show", &short[..3]]).await.failed(2).contains("at least 4"));
    world.cli(&["conflicts", "resolve", short, "--value", "c", "--by", "ada"]).await.ok();
    world.0.agree().await;

    for ended in [
        world.cli(&["conflicts", "show", short]).await,
        world.cli(&["conflicts", "resolve", id(&conflict), "--value", "d"]).await,
    ] {
        let words = ended.failed(4);
        assert!(words.contains("resolved by \"ada\", with \"c\""), "{words}");
        assert!(words.contains(&format!("conflicts/{}", id(&conflict))), "{words}");
    }
    let detail =
        world.http(EAST).get(&format!("/v1/conflicts/{}", id(&conflict))).await.refused(404, "no-such-conflict");
    assert!(detail.contains("resolved by \"ada\""), "{detail}");
    world.cli(&["conflicts", "reopen", short]).await.ok();
    let detail = world.http(1).get(&format!("/v1/conflicts/{}", id(&conflict))).await.refused(404, "no-such-conflict");
    assert!(detail.contains("opened again"), "{detail}");

    // Notes may be anybody's: two that begin alike.
    for name in ["0123456789ab", "0123456789cd"] {
        let note = json!({ "status": "resolved", "document": format!("things/{name}"), "field": "f" });
        world.http(1).put(&format!("conflicts/{name}"), note).await.ok();
    }
    let ambiguous = world.cli(&["conflicts", "reopen", "012345"]).await;
    assert!(ambiguous.failed(2).contains("0123456789ab  things/0123456789ab f"), "{ambiguous:?}");
    assert!(ambiguous.stderr.contains("0123456789cd"), "{ambiguous:?}");
}

#[tokio::test]
async fn the_ledger_calls_overruled_only_what_readers_did_not_see() {
    let world = World::start().await;
    let schema = "[fields.all]\ntype = \"contested\"\nresolver = \"keep_all\"\n\
                  [fields.each]\ntype = \"contested\"\nresolver = \"union\"\n[fields.many]\ntype = \"mv\"\n";
    world.schema("things", schema).await;
    world.http(WEST).put("things/1", json!({ "all": 0, "each": [], "many": 0, "same": 0, "last": 0 })).await.ok();
    let side = |n: u64| json!({ "all": n, "each": [n], "many": n, "same": "alike", "last": n });
    world.both(&[("things/1", side(1), side(2))]).await;
    let items = world.http(0).get("/v1/ledger?document=things/1").await.ok()["items"].take();
    for item in items.as_array().unwrap() {
        let (says, overruled) = (item["says"].as_str().unwrap(), item["overruled"].as_bool().unwrap());
        let expected = match (item["field"].as_str().unwrap(), item["value"].as_u64()) {
            ("all" | "many", Some(1)) => says == "kept beside others",
            ("each", _) => says == "merged with others",
            ("same", _) => says.starts_with("stood"),
            ("last", Some(1)) => overruled && says.starts_with("overruled by "),
            _ => says == "stood" || says == "kept beside others",
        };
        assert!(expected && (overruled == says.starts_with("overruled")), "{item}");
    }
    assert!(items.as_array().unwrap().iter().any(|item| item["field"] == "same"), "{items}");
    let table = world.cli(&["conflicts", "ledger", "things/1"]).await;
    assert!(table.ok().contains("kept beside others") && table.stdout.contains("merged with others"), "{table:?}");
    let shown = world.cli(&["get", "things/1"]).await;
    shown.ok();
    assert!(shown.stderr.contains("last was written concurrently: 2, 1"), "{shown:?}");
    assert!(!shown.stderr.contains("same was"), "both wrote the same: {shown:?}");
}

#[tokio::test]
async fn what_is_typed_wrong_ends_with_exit_code_2_whoever_notices() {
    let cluster = Cluster::start(1).await;
    let api = cluster[0].ready.api.clone();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let good = file("good.toml", "[[rules]]\nname = \"r\"\nresolver = \"max\"\n");
    let starred = file("starred.toml", "[[rules]]\nname = \"r\"\nresolver = \"max\"\nfields = [\"a*b\"]\n");
    let empty = file("empty.toml", "about = \"nothing\"\n");
    let twice = file("twice.toml", &"[[rules]]\nname = \"r\"\nresolver = \"max\"\n".repeat(2));
    let long = "x".repeat(200);
    let wrong: &[&[&str]] = &[
        &["conflicts", "ls", "--status", "closed"],
        &["conflicts", "ls", "--collection", "No Such"],
        &["conflicts", "ls", "--older-than-ms", "soon"],
        &["conflicts", "show", ""],
        &["conflicts", "show", "4f"],
        &["conflicts", "resolve", "4f2c"],
        &["conflicts", "resolve", "4f2c", "--value", "1", "--choose", "x:1"],
        &["conflicts", "reopen", "nobody", "--by", &long],
        &["conflicts", "ledger", "nodocument"],
        &["conflicts", "ledger", "--limit", "0"],
        &["conflicts", "ledger", "--limit", "5000"],
        &["audit", "query", "--conflict", "4f0"],
        &["audit", "query", "--conflict", "nonsense"],
        &["audit", "query", "--document", "vms"],
        &["audit", "query", "--since-ms", "soon"],
        &["audit", "import", &good],
        &["policy", "put", "fleet", &empty],
        &["policy", "put", "fleet", &twice],
        &["policy", "put", "", &good],
        &["policy", "put", "a\nb", &good],
        &["policy", "put", "fleet", "/nowhere/policy.toml"],
        &["policy", "put", "fleet", &starred],
        &["policy", "preview", &starred],
        &["policy", "show", ""],
        &["policy", "rm", "a/.."],
        &["knowledge", "add", "x", "--confidence", "NaN"],
        &["knowledge", "add", "x", "--confidence", "inf"],
        &["knowledge", "add", "x", "--confidence", "-0.5"],
        &["knowledge", "add", "x", "--confidence", "7"],
        &["knowledge", "add", ""],
        &["knowledge", "add", "x", "--type", ""],
        &["knowledge", "add", "x", "--id", "a\nb"],
        &["knowledge", "add", "x", "--source", &"s".repeat(2_000)],
        &["knowledge", "ls", "--source", &"s".repeat(2_000)],
        &["knowledge", "similar", ""],
        &["knowledge", "similar"],
        &["knowledge", "findings", "--class", "nonsense"],
        &["knowledge", "findings", "--limit", "0"],
        &["advisor", "train", "--by", &long],
        &["advisor", "explain", ""],
        &["put", "schemas/vms", "{\"definition\":{\"fields\":{\"a\":{\"type\":\"nonsense\"}}}}"],
        &["get", "vms/1", "--consistency", "eventual"],
        &["get", "vms/1", "--clock", "noclock"],
    ];
    for args in wrong {
        let ended = run(&[args, &["--api", &api][..]].concat(), LIMIT).await;
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
    }
    assert!(
        put_text(
            &cluster[0].http,
            "/v1/policies/p",
            "[[rules]]\nname = \"r\"\nresolver = \"max\"\nfields = [\"a*b\"]\n"
        )
        .await
        .refused(422, "bad-policy")
        .contains("line 4")
    );
    let null = json!({ "type": "fact", "content": "x", "confidence": null });
    cluster[0].http.ask("POST", "/v1/knowledge", &[], null).await.refused(422, "bad-item");
}

#[tokio::test]
async fn the_audit_and_the_advisor_say_what_they_lack_with_the_exit_codes_of_their_pages() {
    let world = disputed(&["vms/1"]).await;
    let id = world.conflict("vms/1").await["id"].as_str().unwrap().to_owned();
    let short = world.cli(&["audit", "query", "--conflict", &id[..6], "--json"]).await;
    assert!(!short.ok().is_empty() && short.stdout.lines().all(|line| line.contains(&id)), "{short:?}");
    let nothing = world.cli(&["audit", "query", "--document", "vms/none"]).await;
    assert_eq!((nothing.ok(), nothing.stderr.trim()), ("", "no records"));

    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        dir.path().join(name).to_str().unwrap().to_owned()
    };
    let export = world.cli(&["audit", "export"]).await.ok().to_owned();
    let own = file("own.jsonl", &export);
    let offline = world.cli(&["audit", "verify", &own, "--json", "--offline"]).await.json();
    assert_eq!((&offline["anchors_from"], &offline["proven_to"]), (&json!("nobody"), &Value::Null), "{offline}");
    let said = run(&["audit", "verify", &own, "--offline"], LIMIT).await;
    assert!(said.ok().contains("only that it is whole in itself"), "{said:?}");
    assert!(!world.cli(&["audit", "verify", &own]).await.ok().contains("that the node asked holds"));
    let refused = world.cli(&["audit", "import", &own]).await;
    assert!(refused.failed(1).contains("here already"), "{refused:?}");
    let place = export.lines().position(|line| line.contains("\"record\"")).unwrap();
    let cut: Vec<&str> = export.lines().enumerate().filter(|(at, _)| *at != place).map(|(_, line)| line).collect();
    let cut = file("cut.jsonl", &(cut.join("\n") + "\n"));
    let refused = run(&["audit", "import", &cut, "--api", &world.http(WEST).base], LIMIT).await;
    assert!(refused.failed(8).contains("not as they were written"), "{refused:?}");

    assert!(world.cli(&["advisor", "show"]).await.ok().starts_with("off: "));
    for (args, code) in
        [(&["train"][..], 1), (&["eval"], 1), (&["explain", &id], 1), (&["explain", &"0".repeat(32)], 4)]
    {
        let ended = world.cli(&[&["advisor"], args].concat()).await;
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
    }
    let eval = world.cli(&["advisor", "eval"]).await;
    assert!(eval.failed(1).contains("takes 50 decisions, and there are 0"), "{eval:?}");
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_hears_why() {
    let cluster = Cluster::start(1).await;
    let address = cluster[0].ready.api.trim_start_matches("http://").to_owned();
    // Refused for its size, for its media type, and for its path: each before all of it has come.
    for (path, media, bytes, status) in [
        ("/v1/docs/vms/1", "application/json", 100 << 20, "413"),
        ("/v1/docs/vms/1", "image/png", 20 << 20, "415"),
        ("/v1/nothing", "application/json", 20 << 20, "404"),
    ] {
        let exchange = async {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let head = format!(
                "PUT {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: {media}\r\ncontent-length: {bytes}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let piece = vec![b' '; 1 << 20];
            for _ in 0..bytes >> 20 {
                stream.write_all(&piece).await.unwrap();
            }
            let mut head = [0; 12];
            stream.read_exact(&mut head).await.unwrap();
            String::from_utf8_lossy(&head).into_owned()
        };
        let head = timeout(LIMIT, exchange).await.expect("it answers");
        assert_eq!(head, format!("HTTP/1.1 {status}"), "{path} {media}");
    }
}

#[tokio::test]
async fn a_cluster_goes_on_when_one_of_its_nodes_is_killed_and_says_so_at_its_end() {
    let mut command = program();
    command.args(["--json", "cluster", "--nodes", "2", "--store", "memory"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (told, mut lines) = tokio::sync::mpsc::channel::<Value>(64);
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        let lines = stdout.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
        lines.map_while(|line| told.blocking_send(line).ok()).for_each(drop);
    });
    let mut next = async |what: &str, good: fn(&Value) -> bool| {
        let reading = async {
            loop {
                let line = lines.recv().await.expect("the cluster goes on");
                if good(&line) {
                    return line;
                }
            }
        };
        timeout(Duration::from_secs(40), reading).await.unwrap_or_else(|_| panic!("{what} was not told"))
    };
    let serves = |node: &Value| node["serves"] == true;
    let up = next("both nodes", |line| {
        line["nodes"].as_array().is_some_and(|nodes| nodes.iter().all(|n| n["serves"] == true))
    })
    .await;
    let pid = up["nodes"][0]["pid"].as_u64().unwrap();
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    let after = next("the end of one", |line| line["nodes"][0]["pid"].is_null()).await;
    assert!(!serves(&after["nodes"][0]) && serves(&after["nodes"][1]), "{after}");
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let status =
        until("the end of the cluster", LIMIT, async || child.try_wait().unwrap().ok_or("it runs".to_owned())).await;
    let mut words = String::new();
    std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut words).unwrap();
    assert_eq!(status.code(), Some(1), "{words}");
    assert!(words.contains("node-1 ended") && words.contains("the others go on"), "{words}");
    assert!(words.contains("ended before they were told to: node-1"), "{words}");
}
