//! One node: how it is started, and its process while it runs.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::command::{Ended, Reaped, program, run};
use super::http::Http;
use super::wait::until;

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// What is promised after SIGTERM.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The flags of `folkmoot run`.
#[derive(Debug, Clone)]
pub struct Launch {
    pub name: String,
    pub data_dir: PathBuf,
    pub store: String,
    pub api: String,
    pub listen: String,
    pub join: Vec<String>,
    pub more: Vec<String>,
}

/// The one line that a node prints when it serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    pub event: String,
    pub node: String,
    pub replica: String,
    pub api: String,
    pub listen: Vec<String>,
}

pub struct Node {
    pub launch: Launch,
    /// What the last start said.
    pub ready: Ready,
    pub ready_line: String,
    pub http: Http,
    log: PathBuf,
    process: Option<Reaped>,
}

/// Ports below those that the system gives to whoever connects: one of those may be somebody's by the time a node starts,
/// or starts again.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on, and that is given out once.
pub fn free_port() -> u16 {
    let of_process = (std::process::id() % 200) as u16 * 100;
    loop {
        let port =
            PORTS.start + of_process.wrapping_add(NEXT_PORT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Launch {
    /// A node with its data in `dir/name`, on ports of its own.
    pub fn new(dir: &Path, name: &str, store: &str) -> Self {
        Self {
            name: name.to_owned(),
            data_dir: dir.join(name),
            store: store.to_owned(),
            api: format!("127.0.0.1:{}", free_port()),
            listen: format!("/ip4/127.0.0.1/tcp/{}", free_port()),
            join: Vec::new(),
            more: vec!["--chaos".to_owned()],
        }
    }

    pub fn joining(mut self, address: &str) -> Self {
        self.join = vec![address.to_owned()];
        self
    }

    pub fn with(mut self, flag: impl Into<String>) -> Self {
        self.more.push(flag.into());
        self
    }

    fn args(&self) -> Vec<String> {
        let plain = ["run", "--json", "--exit-with-parent", "--mdns=off"];
        let mut args = plain.map(String::from).to_vec();
        if !self.more.iter().any(|flag| flag.starts_with("--host-report")) {
            args.push("--host-report=off".to_owned());
        }
        args.push(format!("--data-dir={}", self.data_dir.display()));
        args.push(format!("--name={}", self.name));
        args.push(format!("--store={}", self.store));
        args.push(format!("--api={}", self.api));
        args.push(format!("--listen={}", self.listen));
        args.extend(self.join.iter().map(|address| format!("--join={address}")));
        args.extend(self.more.iter().cloned());
        args
    }

    /// Starts it and waits until it serves.
    pub async fn start(self) -> Node {
        let log = self.data_dir.with_extension("log");
        let (process, ready_line) = spawn(&self, &log).await;
        let ready = parse(&ready_line);
        let http = Http::new(&ready.api);
        Node { launch: self, ready, ready_line, http, log, process: Some(process) }
    }

    /// Starts it where it must not come up, and gives how it ended.
    pub async fn refused(&self) -> Ended {
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&args, READY_TIMEOUT).await
    }
}

/// Appends stderr to the log, and waits for the ready line.
async fn spawn(launch: &Launch, log: &Path) -> (Reaped, String) {
    let words = std::fs::File::options().create(true).append(true).open(log).unwrap();
    let mut command = program();
    command.args(launch.args()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(words);
    let mut child = Reaped(command.spawn().unwrap());
    let stdout = child.0.stdout.take().unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    // Lives until the node closes its stdout, which its end does.
    std::thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|l| sender.send(l)));
    let line = tokio::time::timeout(READY_TIMEOUT, receiver.recv()).await.ok().flatten();
    let line = line.unwrap_or_else(|| {
        let words = std::fs::read_to_string(log).unwrap_or_default();
        panic!("{} gave no ready line; its words:\n{words}", launch.name)
    });
    // Nothing may ever follow the ready line: what is said later is said on stderr.
    tokio::spawn(async move {
        if let Some(more) = receiver.recv().await {
            eprintln!("stdout had more than the ready line: {more}");
            std::process::abort();
        }
    });
    (child, line)
}

fn parse(line: &str) -> Ready {
    let ready: Ready = serde_json::from_str(line).unwrap_or_else(|error| panic!("no ready line ({error}): {line}"));
    assert!(!ready.listen.is_empty(), "a node is ready once others can be told where it is: {line}");
    ready
}

impl Node {
    /// Comes up again on the same ports.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "{} still runs", self.launch.name);
        self.launch.api = self.ready.api.trim_start_matches("http://").to_owned();
        self.launch.listen = self.address().split("/p2p/").next().unwrap().to_owned();
        let (process, line) = spawn(&self.launch, &self.log).await;
        let ready = parse(&line);
        assert_eq!(ready.node, self.ready.node, "a restart keeps the node's key");
        assert_ne!(ready.replica, self.ready.replica, "every start is a new incarnation");
        self.http = Http::new(&ready.api);
        (self.process, self.ready, self.ready_line) = (Some(process), ready, line);
    }

    /// `kill -9`, and waits for its end.
    pub fn kill(&mut self) {
        drop(self.process.take().expect("it runs"));
    }

    /// SIGTERM, and waits for its end, which must be an orderly one.
    pub async fn stop(&mut self) -> Duration {
        let start = std::time::Instant::now();
        self.signal(Signal::TERM);
        let mut process = self.process.take().expect("it runs");
        let status = until("the end after SIGTERM", STOP_TIMEOUT, async || {
            process.0.try_wait().unwrap().ok_or_else(|| format!("{} still runs", self.launch.name))
        })
        .await;
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
        start.elapsed()
    }

    /// Waits until the node ends by itself.
    pub async fn ended(&mut self, limit: Duration) -> Option<i32> {
        let process = self.process.as_mut().expect("it runs");
        let status = until("its own end", limit, async || {
            process.0.try_wait().unwrap().ok_or_else(|| "it still runs".to_owned())
        });
        let code = status.await.code();
        self.process = None;
        code
    }

    /// Stops the process from running, without ending it.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").0.id()
    }

    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    pub fn id(&self) -> &str {
        &self.ready.node
    }

    /// Where others join it.
    pub fn address(&self) -> &str {
        &self.ready.listen[0]
    }

    /// The port on which it listens for peers.
    pub fn peer_port(&self) -> u16 {
        let after = self.address().split("/tcp/").nth(1).unwrap();
        after.split('/').next().unwrap().parse().unwrap()
    }

    /// Everything it ever said on stderr.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory.
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let words = self.stderr();
            let lines: Vec<&str> = words.lines().collect();
            let shown = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- stderr of {} ({}) ---\n{shown}\n", self.launch.name, self.ready.node);
        }
    }
}
