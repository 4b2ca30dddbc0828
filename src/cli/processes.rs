//! Node processes of this same executable: what `cluster`, `demo` and `bench` run on, on loopback, and `chaos`, in
//! network namespaces.
//!
//! The processes cannot outlive this one: each watches its stdin, which the kernel closes when this process ends,
//! however it ends. They are leaders of their own process groups, so that Ctrl-C reaches only this process and the end
//! is an ordered one.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::view::{ClusterView, all_equal, read_all};
use crate::node::settings::Ready;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// What a node is promised to need at most after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const READY_LINE_BYTES_MAX: u64 = 64 << 10;
const LAST_WORDS_BYTES_MAX: u64 = 8 << 10;
const LAST_WORDS_LINES_MAX: usize = 12;

/// What the processes are started with.
#[derive(Debug, Clone)]
pub struct Plan {
    pub names: Vec<String>,
    /// Holds one data dir and one log for each node.
    pub dir: PathBuf,
    /// Node i serves its API on this + 2i and listens for peers on the port after; without it, the system chooses.
    pub base_port: Option<u16>,
    pub store: Option<String>,
    pub chaos: bool,
    pub host_report: bool,
    /// Where each node runs; empty for loopback, all of them.
    pub seats: Vec<Seat>,
}

/// A network namespace and the address that a node has in it.
#[derive(Debug, Clone)]
pub struct Seat {
    pub namespace: String,
    pub address: String,
}

/// One running node process.
#[derive(Debug)]
pub struct Process {
    pub name: String,
    pub ready: Ready,
    pub client: Client,
    child: Child,
    log: PathBuf,
}

/// Node processes that form one cluster.
#[derive(Debug)]
pub struct LocalCluster {
    pub processes: Vec<Process>,
}

impl LocalCluster {
    /// Starts the nodes and waits until each serves. The first founds, the others join it.
    pub async fn start(plan: &Plan) -> Result<Self, Error> {
        std::fs::create_dir_all(&plan.dir)
            .map_err(|error| Error::Failed(format!("cannot create {}: {error}", plan.dir.display())))?;
        for name in &plan.names {
            // What an earlier cluster said in this directory is not this one's last words.
            let _ = std::fs::remove_file(plan.dir.join(format!("{name}.log")));
        }
        let first = Process::start(plan, 0, None).await?;
        let join = first.ready.listen.first().cloned();
        let others = (1..plan.names.len()).map(|index| Process::start(plan, index, join.as_deref()));
        // When one fails the others are dropped here, which kills them.
        let others = futures::future::try_join_all(others).await?;
        Ok(Self { processes: std::iter::once(first).chain(others).collect() })
    }

    pub fn clients(&self) -> Vec<Client> {
        self.processes.iter().map(|process| process.client.clone()).collect()
    }

    /// All the views at one moment.
    pub async fn views(&self) -> Result<Vec<ClusterView>, Error> {
        read_all(&self.clients()).await
    }

    /// Cuts every connection between the two groups, on both sides. Needs `chaos`.
    pub async fn split(&self, left: &[usize], right: &[usize]) -> Result<(), Error> {
        let block = |here: usize, there: &[usize]| {
            let peers: Vec<&str> = there.iter().map(|index| self.processes[*index].ready.node.as_str()).collect();
            let client = self.processes[here].client.clone();
            let body = json!({ "peers": peers });
            async move { client.post("/v1/chaos/block", body).await }
        };
        let sides = left.iter().map(|here| block(*here, right)).chain(right.iter().map(|here| block(*here, left)));
        futures::future::try_join_all(sides).await.map(drop)
    }

    /// Lets all connections through again.
    pub async fn rejoin(&self) -> Result<(), Error> {
        let all = self.processes.iter().map(|process| process.client.delete("/v1/chaos/block"));
        futures::future::try_join_all(all).await.map(drop)
    }

    /// Waits until `good` holds for the views, and gives the time it took and the views that were good.
    pub async fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        good: impl Fn(&[ClusterView]) -> bool,
    ) -> Result<(Duration, Vec<ClusterView>), Error> {
        let start = Instant::now();
        loop {
            let views = self.views().await?;
            if good(&views) {
                return Ok((start.elapsed(), views));
            }
            if start.elapsed() > limit {
                return Err(Error::Failed(format!("{what} did not come about within {} s", limit.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until every node holds the same history and state.
    pub async fn wait_equal(&self, limit: Duration) -> Result<(Duration, Vec<ClusterView>), Error> {
        self.wait_until("equal digests on all nodes", limit, all_equal).await
    }

    /// Waits until every node sees every other alive.
    pub async fn wait_joined(&self, limit: Duration) -> Result<(), Error> {
        let nodes = self.processes.len();
        let met = move |views: &[ClusterView]| views.iter().all(|view| view.alive() >= nodes && !view.partitioned);
        self.wait_until("a cluster in which all see all", limit, met).await.map(drop)
    }

    /// Stops all: SIGTERM, then after ten seconds SIGKILL. Names those that had to be killed.
    pub async fn stop(self) -> Vec<String> {
        let deadline = Instant::now() + STOP_TIMEOUT;
        for process in &self.processes {
            process.signal(Signal::TERM);
        }
        let mut killed = Vec::new();
        for mut process in self.processes {
            if timeout_at(deadline, process.child.wait()).await.is_err() {
                killed.push(process.name);
                let _ = process.child.kill().await;
            }
        }
        killed
    }
}

/// Short enough to time a healing, long enough not to be the load itself.
const POLL: Duration = Duration::from_millis(10);

impl Process {
    /// Starts node `index` and waits until it serves.
    pub async fn start(plan: &Plan, index: usize, join: Option<&str>) -> Result<Self, Error> {
        let name = plan.names[index].clone();
        let failed = |what: &str, error: std::io::Error| Error::Failed(format!("{name}: {what}: {error}"));
        let log = plan.dir.join(format!("{name}.log"));
        let program = std::env::current_exe().map_err(|error| failed("cannot find this program", error))?;
        let words = File::options().create(true).append(true).open(&log);
        let words = words.map_err(|error| failed("cannot create its log", error))?;
        let mut command = match plan.seats.get(index) {
            None => Command::new(program),
            Some(seat) => {
                // It becomes the program it starts, under the same process id.
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", &seat.namespace]).arg(program);
                inside
            }
        };
        command.args(arguments(plan, index, join)?);
        // The settings are these flags and nothing else: not this shell's variables, not a folkmoot.toml lying here.
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOLKMOOT_")) {
            command.env_remove(variable);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(words).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed("cannot start", error))?;
        let stdout = child.stdout.take();
        let ready = match timeout(READY_TIMEOUT, ready_line(stdout)).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(cause)) => return Err(died(&name, &cause, &log)),
            Err(_) => return Err(died(&name, &format!("was not ready within {} s", READY_TIMEOUT.as_secs()), &log)),
        };
        let client = Client::new(&ready.api)?;
        Ok(Self { name, ready, client, child, log })
    }

    /// How this process ended, if it did, and its last words.
    pub fn ended(&mut self) -> Option<(ExitStatus, String)> {
        let status = self.child.try_wait().ok()??;
        Some((status, last_words(&self.log)))
    }

    /// Whether it was not yet seen to have ended.
    pub fn runs(&self) -> bool {
        self.id().is_some()
    }

    /// `None` once it was seen to have ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // An error means that it has just ended.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }
}

fn arguments(plan: &Plan, index: usize, join: Option<&str>) -> Result<Vec<String>, Error> {
    let (api, peers) = match plan.base_port {
        None => (0, 0),
        Some(base) => {
            let api = u16::try_from(usize::from(base) + 2 * index).ok().filter(|port| *port < u16::MAX);
            let api = api.ok_or_else(|| Error::Usage(format!("--base-port {base} leaves no ports for all nodes")))?;
            (api, api + 1)
        }
    };
    let name = &plan.names[index];
    let (address, api, peers) = match plan.seats.get(index) {
        None => ("127.0.0.1", api, peers),
        Some(seat) => (seat.address.as_str(), 7117, 7118),
    };
    let mut arguments = vec![
        String::from("run"),
        String::from("--json"),
        String::from("--exit-with-parent"),
        format!("--data-dir={}", plan.dir.join(name).display()),
        format!("--name={name}"),
        format!("--api={address}:{api}"),
        format!("--listen=/ip4/{address}/tcp/{peers}"),
        format!("--host-report={}", if plan.host_report { "on" } else { "off" }),
        String::from("--mdns=off"),
        String::from("--config=/dev/null"),
    ];
    arguments.extend(plan.store.iter().map(|store| format!("--store={store}")));
    arguments.extend(join.map(|join| format!("--join={join}")));
    arguments.extend(plan.chaos.then(|| String::from("--chaos")));
    // A namespace is as closed as loopback; the API is asked from outside of it.
    arguments.extend((!plan.seats.is_empty()).then(|| String::from("--insecure")));
    Ok(arguments)
}

/// Reads the ready line, and keeps the pipe drained after it.
async fn ready_line(stdout: Option<ChildStdout>) -> Result<Ready, String> {
    let mut lines = BufReader::new(stdout.ok_or("has no stdout")?);
    let mut line = String::new();
    let read = (&mut lines).take(READY_LINE_BYTES_MAX).read_line(&mut line).await;
    match read {
        Ok(0) => return Err(String::from("ended before it was ready")),
        Ok(_) => {}
        Err(error) => return Err(format!("cannot be read: {error}")),
    }
    let ready = serde_json::from_str(&line).map_err(|error| format!("gave no ready line ({error}): {line}"))?;
    tokio::spawn(async move { tokio::io::copy(&mut lines, &mut tokio::io::sink()).await });
    Ok(ready)
}

fn died(name: &str, cause: &str, log: &Path) -> Error {
    Error::Failed(format!("{name} {cause}. Its last words:\n{}", last_words(log)))
}

/// The end of a log: enough to see why a process died.
fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(LAST_WORDS_BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(cannot read {}: {error})", log.display()));
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LAST_WORDS_LINES_MAX);
    lines[skipped..].iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(base_port: Option<u16>) -> Plan {
        let names = ["a", "b"].map(String::from).to_vec();
        Plan {
            names,
            dir: "/d".into(),
            base_port,
            store: Some("redb".into()),
            chaos: true,
            host_report: false,
            seats: Vec::new(),
        }
    }

    #[test]
    fn a_node_gets_ports_of_its_own_and_the_first_ones_address() {
        let arguments = arguments(&plan(Some(7200)), 1, Some("/ip4/127.0.0.1/tcp/7201")).unwrap();
        for argument in [
            "--api=127.0.0.1:7202",
            "--listen=/ip4/127.0.0.1/tcp/7203",
            "--join=/ip4/127.0.0.1/tcp/7201",
            "--data-dir=/d/b",
            "--exit-with-parent",
            "--chaos",
        ] {
            assert!(arguments.iter().any(|given| given == argument), "{argument} is missing in {arguments:?}");
        }
        assert!(super::arguments(&plan(Some(65534)), 1, None).is_err());
    }

    #[test]
    fn the_arguments_are_ones_that_run_takes() {
        use clap::Parser;
        let arguments = arguments(&plan(None), 0, None).unwrap();
        let line = std::iter::once(String::from("folkmoot")).chain(arguments);
        crate::cli::Cli::try_parse_from(line).unwrap();
    }

    #[test]
    fn last_words_are_the_last_and_few() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, (0..10_000).map(|n| format!("line {n}\n")).collect::<String>()).unwrap();
        let words = last_words(&log);
        assert_eq!(words.lines().count(), LAST_WORDS_LINES_MAX);
        assert!(words.ends_with("line 9999\n"));
    }
}
