//! Disks that lose power, and disks that are full: on a file system of their own, which needs root.
//!
//! A power cut is the image of a loop-mounted ext4 as it is at one moment while the node stands still: it holds what the
//! file system had handed to the device and nothing that was only in memory. The copy is mounted and a node started on it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Cluster, Http, Launch, until};

const CLIENTS: usize = 6;

/// Cuts for each store; `just crash` asks for more.
fn rounds() -> usize {
    std::env::var("FOLKMOOT_CRASH_ROUNDS").ok().map_or(3, |text| text.parse().expect("FOLKMOOT_CRASH_ROUNDS"))
}

/// Why file systems cannot be mounted here, if they cannot.
fn obstacle() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting a file system needs root");
    }
    let missing =
        ["mkfs.ext4", "mount", "umount"].into_iter().any(|tool| Command::new(tool).arg("-V").output().is_err());
    missing.then_some("mkfs.ext4, mount or umount is missing")
}

fn run(program: &str, args: &[&str]) {
    let said = Command::new(program).args(args).output().unwrap();
    assert!(said.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&said.stderr));
}

/// A mounted file system, unmounted at the end whatever happens.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path, args: &[&str], source: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        run("mount", &[args, &[source, dir.to_str().unwrap()]].concat());
        Self(dir.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a node that failed to end must not keep the test from ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_power_cut_loses_no_acknowledged_write_on_sled() {
    power_is_cut("sled").await;
}

#[tokio::test]
async fn a_power_cut_loses_no_acknowledged_write_on_redb() {
    power_is_cut("redb").await;
}

async fn power_is_cut(store: &str) {
    if let Some(why) = obstacle() {
        eprintln!("skipped: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let image = |round: usize| dir.path().join(format!("image-{round}"));
    let file = std::fs::File::create(image(0)).unwrap();
    file.set_len(192 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", image(0).to_str().unwrap()]);
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds() {
        let mounted = Mounted::new(&dir.path().join("disk"), &["-o", "loop"], image(round).to_str().unwrap());
        let mut node = Launch::new(&mounted.0, "n", store).start().await;
        let held = ids(&node.http).await;
        let lost: Vec<&String> = acknowledged.iter().filter(|id| !held.contains(*id)).collect();
        assert!(
            lost.is_empty(),
            "round {round}: {} of {} are gone: {:?}…",
            lost.len(),
            acknowledged.len(),
            &lost[..lost.len().min(3)]
        );
        let told = Mutex::new(Vec::new());
        let enough = [5, 60, 400][round % 3];
        tokio::select! {
            () = write_forever(&node.http, round, &told) => panic!("the writers ended: {}", node.stderr()),
            () = until_told(&told, enough) => {}
        }
        node.freeze();
        acknowledged.extend(told.into_inner().unwrap());
        // The page cache of the image file is what the device would hold; that of the file system is not in it.
        run("cp", &["--sparse=always", image(round).to_str().unwrap(), image(round + 1).to_str().unwrap()]);
        node.kill();
        assert!(!node.stderr().contains("panicked"), "{}", node.stderr());
        drop(mounted);
        std::fs::remove_file(image(round)).unwrap();
    }
    eprintln!("{store}: {} acknowledged writes survived {} power cuts", acknowledged.len(), rounds() - 1);
}

async fn until_told(told: &Mutex<Vec<String>>, enough: usize) {
    until("acknowledged writes", Duration::from_secs(30), async || match told.lock().unwrap().len() {
        count if count >= enough => Ok(()),
        count => Err(format!("{count} of {enough}")),
    })
    .await;
}

async fn write_forever(http: &Http, round: usize, told: &Mutex<Vec<String>>) {
    let client = |client: usize| async move {
        for n in 0.. {
            let id = format!("r{round}-c{client}-{n}");
            let body = json!({ "n": n, "text": "x".repeat(100) }).to_string();
            let headers = [("content-type", "application/json")];
            let Ok(reply) = http.send("PUT", &format!("/v1/docs/tasks/{id}"), &headers, body).await else { return };
            assert_eq!(reply.ok()["durability"], "local");
            told.lock().unwrap().push(id);
        }
    };
    futures::future::join_all((0..CLIENTS).map(client)).await;
}

async fn ids(http: &Http) -> BTreeSet<String> {
    let (mut ids, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = http.ask("GET", &format!("/v1/docs/tasks?limit=1000{after}"), &[], json!(null)).await.ok();
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers_with_sled() {
    disk_is_full("sled").await;
}

#[tokio::test]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers_with_redb() {
    disk_is_full("redb").await;
}

async fn disk_is_full(store: &str) {
    if let Some(why) = obstacle() {
        eprintln!("skipped: {why}");
        return;
    }
    let mut cluster = Cluster::start_on(&["sled"]).await;
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(&dir.path().join("disk"), &["-t", "tmpfs", "-o", "size=160m"], "tmpfs");
    let launch = Launch::new(&mounted.0, "small", store).joining(cluster[0].address());
    cluster.launch(launch).await;
    let ballast = mounted.0.join("ballast");
    let http = cluster[1].http.clone();
    http.ask("PUT", "/v1/docs/tasks/before", &[], json!({ "n": 1 })).await.ok();
    // Whatever is free goes to the ballast, so that the next growth of the store finds nothing.
    let mut held = Vec::new();
    let refused = until("a refused write", Duration::from_secs(60), async || {
        fill(&ballast);
        let id = format!("t-{}", held.len());
        let body = json!({ "text": "x".repeat(60_000) });
        let reply = http.ask("PUT", &format!("/v1/docs/tasks/{id}"), &[], body).await;
        if reply.status == 200 || reply.status == 201 {
            held.push(id);
        }
        if reply.status == 507 { Ok(reply) } else { Err(format!("{} after {} writes", reply.status, held.len())) }
    })
    .await;
    let words = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(words.contains("full") && words.contains("free"), "it names the cause and what to do: {words}");
    assert_eq!(http.ask("GET", "/v1/docs/tasks/before", &[], json!(null)).await.ok()["fields"], json!({ "n": 1 }));
    // What others write arrives all the same, and can be read.
    cluster[0].http.ask("PUT", "/v1/docs/tasks/elsewhere", &[], json!({ "n": 2 })).await.ok();
    until("what another node wrote", Duration::from_secs(10), async || {
        let reply = http.ask("GET", "/v1/docs/tasks/elsewhere", &[], json!(null)).await;
        if reply.status == 200 { Ok(()) } else { Err(format!("{}", reply.status)) }
    })
    .await;
    // A start on a full disk is refused before anything is touched.
    fill(&ballast);
    cluster[1].kill();
    let refused = cluster[1].launch.refused().await;
    assert!(refused.code == Some(1) && refused.stderr.contains("too full"), "{:?}: {}", refused.code, refused.stderr);
    std::fs::remove_file(&ballast).unwrap();
    cluster.restart(1).await;
    let http = cluster[1].http.clone();
    until("a write that is taken again", Duration::from_secs(20), async || {
        let reply = http.ask("PUT", "/v1/docs/tasks/after", &[], json!({ "n": 3 })).await;
        if reply.status < 300 { Ok(()) } else { Err(String::from_utf8_lossy(&reply.body).into_owned()) }
    })
    .await;
    cluster[1].kill();
    cluster.restart(1).await;
    let held_now = ids(&cluster[1].http).await;
    let lost: Vec<&String> = held.iter().filter(|id| !held_now.contains(*id)).collect();
    assert!(lost.is_empty() && held_now.contains("after"), "{lost:?} were acknowledged");
    assert!(!cluster[1].stderr().contains("panicked"), "{}", cluster[1].stderr());
    cluster.agree().await;
    drop(cluster);
}

/// Writes until nothing fits any more.
fn fill(ballast: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::options().create(true).append(true).open(ballast).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
}
