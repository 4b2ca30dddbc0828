//! A contest on the nodes: workers, each a process beside its node, of which one at a time has a lock or a VM.
//!
//! A worker reaches its node and the fence whatever is cut, as a host that shares a disk with others does; it stands still
//! when its node does, as everything on a suspended host. The listener here is the fence that they write to.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::cli::chaos::fence::{Fence, Said};
use crate::cli::chaos::stage::Stage;
use crate::cli::chaos::tenure::{Course, Still};
use crate::cli::chaos::timeline::Act;
use crate::cli::chaos::worker::THINKS;
use crate::cli::exit::Error;
use crate::sim::Plan;
use crate::sim::chance::Chance;
use crate::sim::scenario::{Contest as Settings, Over};

/// What they fight for.
const LOCK: &str = "the-thing";
const VM: &str = "7";
/// Processes start and get what they ask for within a second or two; a busy machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Who is to stand still in the middle of its work writes within this, if it has the thing.
const WRITES_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Contest {
    settings: Settings,
    shared: Arc<Shared>,
    workers: Vec<Child>,
    listener: JoinHandle<()>,
    /// When the first thing was done to the nodes.
    hurt_us: Option<u64>,
    stood: Vec<Still>,
}

#[derive(Debug)]
struct Shared {
    fence: Mutex<Fence>,
    begin: Instant,
    heard: Notify,
}

impl Shared {
    fn fence(&self) -> MutexGuard<'_, Fence> {
        self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        self.begin.elapsed().as_micros() as u64
    }
}

impl Contest {
    /// Gives the thing to the first worker and has the others ask for it.
    pub async fn open(settings: &Settings, plan: &Plan, stage: &Stage, dir: &Path) -> Result<Self, Error> {
        if settings.over == Over::Vm {
            let node = settings.workers.first().copied().unwrap_or(0);
            let client = stage.client(node)?;
            client.post(&format!("/v1/vms/{VM}"), json!({ "cpus": 1, "memory_mb": 64 })).await?;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| failed("listen", &error))?;
        let fence = listener.local_addr().map_err(|error| failed("listen", &error))?.to_string();
        let shared = Shared { fence: Mutex::default(), begin: Instant::now(), heard: Notify::new() };
        let shared = Arc::new(shared);
        let listener = tokio::spawn(listen(listener, shared.clone()));
        let mut contest = Self {
            settings: settings.clone(),
            shared,
            workers: Vec::new(),
            listener,
            hurt_us: None,
            stood: Vec::new(),
        };
        for (worker, node) in settings.workers.iter().enumerate() {
            let child = contest.start(worker, stage.client(*node)?.api(), &fence, dir)?;
            contest.workers.push(child);
            // The first has it before the others ask.
            let ready =
                |fence: &Fence| if worker == 0 { !fence.tenures.is_empty() } else { fence.asking.contains(&worker) };
            contest.wait(ready).await?;
        }
        // What is done to the nodes falls on another moment between two renewals with each seed.
        let third_ms = settings.lease.0 / 3;
        sleep(Duration::from_millis(Chance::of(plan.seed, "contest").between(0, third_ms))).await;
        Ok(contest)
    }

    fn start(&self, worker: usize, api: &str, fence: &str, dir: &Path) -> Result<Child, Error> {
        let program = std::env::current_exe().map_err(|error| failed("find this program", &error))?;
        let words =
            File::create(dir.join(format!("w{worker}.log"))).map_err(|error| failed("create its log", &error))?;
        let thing = match self.settings.over {
            Over::Lock => format!("locks/{LOCK}"),
            Over::Vm => format!("vms/{VM}/run"),
        };
        let mut command = Command::new(program);
        command.args(["chaos-worker", "--api", api, "--thing", &thing, "--fence", fence]);
        command.args(["--worker", &worker.to_string(), "--lease-ms", &self.settings.lease.0.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(words).process_group(0).kill_on_drop(true);
        command.spawn().map_err(|error| failed("start", &error))
    }

    async fn wait(&self, ready: impl Fn(&Fence) -> bool) -> Result<(), Error> {
        let all = async {
            loop {
                let heard = self.shared.heard.notified();
                if ready(&self.shared.fence()) {
                    return;
                }
                heard.await;
            }
        };
        let late = |_| Error::Failed(format!("the contest did not begin within {} s", READY_WITHIN.as_secs()));
        timeout(READY_WITHIN, all).await.map_err(late)
    }

    /// Just before something is done to the nodes: what it does to the workers.
    pub async fn before(&mut self, act: &Act) {
        match act {
            Act::Stop(node) => {
                for worker in self.at(*node) {
                    self.wait_until_it_thinks(worker).await;
                    self.signal(worker, Signal::STOP);
                    self.stood.push(Still { worker, from_us: self.shared.now_us(), until_us: None });
                }
            }
            Act::Continue(node) => {
                for worker in self.at(*node) {
                    let now_us = self.shared.now_us();
                    let mut stood = self.stood.iter_mut().rev();
                    if let Some(still) = stood.find(|still| still.worker == worker) {
                        still.until_us = Some(now_us);
                    }
                    self.signal(worker, Signal::CONT);
                }
            }
            _ => {}
        }
        // Not before: until then a renewal may have been asked for, and decided.
        if matches!(act, Act::Cut(_) | Act::Stop(_) | Act::Kill(_)) {
            self.hurt_us.get_or_insert(self.shared.now_us());
        }
    }

    fn at(&self, node: usize) -> Vec<usize> {
        let workers = self.settings.workers.iter().enumerate();
        workers.filter(|(_, at)| **at == node).map(|(worker, _)| worker).collect()
    }

    /// Until it is between looking whether it may write and writing, if it writes at all.
    async fn wait_until_it_thinks(&self, worker: usize) {
        let wrote = async {
            self.shared.fence().writer = None;
            loop {
                let heard = self.shared.heard.notified();
                if self.shared.fence().writer == Some(worker) {
                    return;
                }
                heard.await;
            }
        };
        if timeout(WRITES_WITHIN, wrote).await.is_ok() {
            sleep(THINKS / 3).await;
        }
    }

    fn signal(&self, worker: usize, signal: Signal) {
        let id = self.workers[worker].id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(id) = id {
            // An error means that it has just ended; that is noticed by what it does not write.
            let _ = kill_process(id, signal);
        }
    }

    /// What became of it: the workers end here.
    pub async fn close(mut self, stage: &Stage) -> Course {
        for (worker, child) in self.workers.iter_mut().enumerate() {
            if let Ok(Some(status)) = child.try_wait() {
                self.shared.fence().twice.push(format!("w{worker} ended by itself: {status}"));
            }
        }
        let fence = std::mem::take(&mut *self.shared.fence());
        let holder = fence.tenures.values().last().map(|tenure| format!("w{}", tenure.worker));
        let said = match self.settings.over {
            Over::Vm => who_runs_it(stage, holder).await,
            Over::Lock => Vec::new(),
        };
        for child in &mut self.workers {
            let _ = child.kill().await;
        }
        self.listener.abort();
        let lease_us = self.settings.lease.us();
        Course { fence, lease_us, hurt_us: self.hurt_us, stood: std::mem::take(&mut self.stood), said }
    }
}

fn failed(what: &str, error: &std::io::Error) -> Error {
    Error::Failed(format!("the lab's workers: cannot {what}: {error}"))
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(hear(stream, shared.clone()));
    }
}

/// Answers a worker line by line.
async fn hear(stream: TcpStream, shared: Arc<Shared>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(said) = serde_json::from_str::<Said>(&line) else { return };
        let reply = shared.fence().hear(&said, shared.now_us());
        shared.heard.notify_waiters();
        let mut answer = serde_json::to_string(&reply).unwrap_or_default();
        answer.push('\n');
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Which nodes do not say in the end that it is the last to whom it was given, and nobody else.
async fn who_runs_it(stage: &Stage, holder: Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (node, process) in stage.running() {
        match process.client.read::<Value>(&format!("/v1/vms/{VM}")).await {
            Ok(vm) if vm["host"] == json!(holder) && vm["running_on"] == json!([holder]) => {}
            Ok(vm) => wrong.push(format!(
                "n{node} says that the host is {} and that it runs on {}; the last to get it was {holder:?}",
                vm["host"], vm["running_on"]
            )),
            Err(error) => wrong.push(format!("n{node} does not say who runs it: {error}")),
        }
    }
    wrong
}
