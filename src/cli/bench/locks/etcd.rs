//! etcd on loopback, where it is installed: as many processes, with their data beside that of the nodes.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::service::{LEASE_S, Service};
use crate::cli::client::Client;
use crate::cli::exit::Error;

const PROGRAM: &str = "etcd";
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether there is a leader.
const LOOK: Duration = Duration::from_millis(50);

/// A cluster of etcd processes. They end with it.
pub struct Etcd {
    children: Vec<Child>,
    /// Of the leader: one that is not passes on what it is asked, which takes longer.
    leader: Client,
    lease: String,
}

/// The version that is installed, if one is.
pub async fn version() -> Option<String> {
    let output = Command::new(PROGRAM).arg("--version").output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(|line| line.trim_start_matches("etcd Version: ").to_owned())
}

impl Etcd {
    pub async fn start(nodes: usize, dir: &Path) -> Result<Self, Error> {
        let failed = |what: &str, error: std::io::Error| Error::Failed(format!("etcd: {what}: {error}"));
        std::fs::create_dir_all(dir).map_err(|error| failed("cannot create its directory", error))?;
        let ports = free_ports(2 * nodes).map_err(|error| failed("no free ports", error))?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (api, peers) = ports.split_at(nodes);
        let member = |n: usize| format!("e{n}={}", url(peers[n]));
        let members = (0..nodes).map(member).collect::<Vec<_>>().join(",");
        let mut children = Vec::new();
        for n in 0..nodes {
            let log = File::create(dir.join(format!("e{n}.log"))).map_err(|error| failed("no log", error))?;
            let mut command = Command::new(PROGRAM);
            command.arg("--name").arg(format!("e{n}")).arg("--data-dir").arg(dir.join(format!("e{n}")));
            command.arg("--listen-client-urls").arg(url(api[n])).arg("--advertise-client-urls").arg(url(api[n]));
            command
                .arg("--listen-peer-urls")
                .arg(url(peers[n]))
                .arg("--initial-advertise-peer-urls")
                .arg(url(peers[n]));
            command.arg("--initial-cluster").arg(&members).args(["--logger", "zap", "--log-level", "error"]);
            // Its settings are these and nothing else.
            for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
                command.env_remove(variable);
            }
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
            children.push(command.spawn().map_err(|error| failed("cannot start", error))?);
        }
        let clients = api.iter().map(|port| Client::new(&url(*port))).collect::<Result<Vec<_>, _>>()?;
        let leader = leader(&clients).await?;
        let granted: Value =
            leader.parse(&leader.post("/v3/lease/grant", json!({ "TTL": LEASE_S.to_string() })).await?)?;
        let lease = granted["ID"].as_str().map(str::to_owned);
        let lease = lease.ok_or_else(|| Error::Failed(format!("etcd granted no lease: {granted}")))?;
        Ok(Self { children, leader, lease })
    }

    pub fn lock(&self) -> Service {
        Service::EtcdLock { client: self.leader.clone(), lease: self.lease.clone() }
    }

    pub fn txn(&self) -> Service {
        Service::EtcdTxn { client: self.leader.clone(), lease: self.lease.clone() }
    }

    /// What is not gone soon is killed.
    pub async fn stop(mut self) {
        for child in &self.children {
            if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
                // An error means that it has just ended.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for child in &mut self.children {
            if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }
}

/// The one that leads, once every one knows it.
async fn leader(clients: &[Client]) -> Result<Client, Error> {
    let start = Instant::now();
    loop {
        let asked = clients.iter().map(|client| client.post("/v3/maintenance/status", json!({})));
        let answers = futures::future::join_all(asked).await;
        let known: Option<Vec<Value>> =
            answers.iter().zip(clients).map(|(answer, client)| client.parse(answer.as_ref().ok()?).ok()).collect();
        // A member that knows no leader leaves the field out.
        if let Some(known) = known.filter(|known| known.iter().all(|status| status["leader"].is_string())) {
            let leads = |status: &&Value| status["header"]["member_id"] == known[0]["leader"];
            if let Some(place) = known.iter().position(|status| leads(&status)) {
                return Ok(clients[place].clone());
            }
        }
        if start.elapsed() > READY_TIMEOUT {
            return Err(Error::Failed(format!("etcd chose no leader within {} s", READY_TIMEOUT.as_secs())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Ports that nobody had a moment ago. All are held until the last is found, so no two are one.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
