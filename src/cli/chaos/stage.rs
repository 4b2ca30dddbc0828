//! The nodes of a run, and what is done to them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::chaos::clients::Doors;
use crate::cli::chaos::namespace::Hosts;
use crate::cli::chaos::switch::Tally;
use crate::cli::chaos::timeline::Act;
use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::processes::{Plan, Process};
use crate::cli::view::{ClusterView, all_equal};

/// How often the nodes are looked at: short enough to time a healing.
const POLL: Duration = Duration::from_millis(10);
/// A node that does not answer in time counts as not equal.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Stage {
    plan: Plan,
    hosts: Hosts,
    nodes: Vec<Option<Process>>,
    /// What clients see of the nodes.
    doors: Doors,
    join: String,
    stopped: BTreeSet<usize>,
    /// Processes that ended by themselves.
    pub died: Vec<String>,
    /// Nodes that took a network for whole that was not.
    pub unaware: Vec<String>,
    /// The most memory a node was seen to take, in KiB.
    pub memory_kib_max: u64,
}

impl Stage {
    /// Starts the first `count` nodes and waits until all see all.
    pub async fn open(plan: Plan, hosts: Hosts, count: usize) -> Result<Self, Error> {
        std::fs::create_dir_all(&plan.dir)
            .map_err(|error| Error::Failed(format!("cannot create {}: {error}", plan.dir.display())))?;
        let mut stage = Self {
            nodes: plan.names.iter().map(|_| None).collect(),
            doors: Doors::default(),
            join: String::new(),
            stopped: BTreeSet::new(),
            died: Vec::new(),
            unaware: Vec::new(),
            memory_kib_max: 0,
            plan,
            hosts,
        };
        stage.doors.lock().unwrap_or_else(PoisonError::into_inner).resize(stage.nodes.len(), None);
        for node in 0..count {
            stage.start(node).await?;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let views = stage.views().await;
            if views.len() == count && views.iter().all(|view| view.alive() >= count && !view.partitioned) {
                return Ok(stage);
            }
            if Instant::now() > deadline {
                return Err(Error::Failed("the nodes did not all meet within 30 s".into()));
            }
            sleep(POLL).await;
        }
    }

    pub fn doors(&self) -> Doors {
        self.doors.clone()
    }

    async fn start(&mut self, node: usize) -> Result<(), Error> {
        if self.nodes[node].is_some() {
            return Ok(());
        }
        let join = (node > 0).then_some(self.join.as_str());
        let process = Process::start(&self.plan, node, join).await?;
        if node == 0 && self.join.is_empty() {
            self.join = process.ready.listen.first().cloned().unwrap_or_default();
        }
        self.open_door(node, Some(process.client.clone()));
        self.nodes[node] = Some(process);
        Ok(())
    }

    fn open_door(&self, node: usize, client: Option<Client>) {
        if let Some(door) = self.doors.lock().unwrap_or_else(PoisonError::into_inner).get_mut(node) {
            *door = client;
        }
    }

    async fn kill(&mut self, node: usize) {
        self.open_door(node, None);
        if let Some(process) = self.nodes[node].take() {
            process.kill().await;
        }
    }

    pub async fn act(&mut self, act: &Act) -> Result<(), Error> {
        match act {
            Act::Cut(pairs) => self.hosts.cut(pairs),
            Act::Mend(pairs) => self.hosts.mend(pairs),
            Act::Lose(p) => self.hosts.lose(*p),
            Act::Slow(factor) => self.hosts.slow(*factor),
            Act::Stop(node) => {
                self.stopped.insert(*node);
                self.signal(*node, Signal::STOP);
            }
            Act::Continue(node) => {
                self.stopped.remove(node);
                self.signal(*node, Signal::CONT);
            }
            Act::Kill(node) => self.kill(*node).await,
            Act::Start(node) | Act::Join(node) => self.start(*node).await?,
            Act::Keep(node) => {
                // Of a running store a copy would be torn: it stands still while it is taken.
                self.signal(*node, Signal::STOP);
                let copied = copy(&self.data_of(*node), &self.kept_of(*node));
                self.signal(*node, Signal::CONT);
                copied?;
            }
            Act::Restore(node) => {
                self.kill(*node).await;
                let (data, kept) = (self.data_of(*node), self.kept_of(*node));
                let done = std::fs::remove_dir_all(&data).and_then(|()| std::fs::rename(&kept, &data));
                done.map_err(|error| Error::Failed(format!("cannot bring back {}: {error}", data.display())))?;
                self.start(*node).await?;
            }
            Act::Flip(node) => {
                self.kill(*node).await;
                flip(&self.data_of(*node))?;
                self.start(*node).await?;
            }
            Act::Notice(nodes) => {
                let views = self.views().await;
                let cut: BTreeSet<&String> = nodes.iter().map(|node| &self.plan.names[*node]).collect();
                let unaware = views.iter().filter(|view| cut.contains(&view.name) && !view.partitioned);
                self.unaware.extend(unaware.map(|view| format!("{} says that it reaches everyone", view.name)));
            }
            Act::Leave(node) => {
                if let Some(process) = &self.nodes[*node] {
                    process.client.post("/v1/leave", json!({})).await?;
                }
                self.kill(*node).await;
            }
        }
        Ok(())
    }

    fn signal(&self, node: usize, signal: Signal) {
        if let Some(process) = &self.nodes[node] {
            process.signal(signal);
        }
    }

    fn data_of(&self, node: usize) -> PathBuf {
        self.plan.dir.join(&self.plan.names[node])
    }

    fn kept_of(&self, node: usize) -> PathBuf {
        self.plan.dir.join(format!("{}-kept", self.plan.names[node]))
    }

    /// Those that run and do not stand still.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Process)> {
        let nodes = self.nodes.iter().enumerate().filter_map(|(node, process)| Some((node, process.as_ref()?)));
        nodes.filter(|(node, _)| !self.stopped.contains(node))
    }

    /// Where a node that runs is asked.
    pub fn client(&self, node: usize) -> Result<&Client, Error> {
        let process = self.nodes.get(node).and_then(Option::as_ref);
        process.map(|process| &process.client).ok_or_else(|| Error::Failed(format!("n{node} does not run")))
    }

    /// What the running nodes say of themselves, of those that answer.
    pub async fn views(&self) -> Vec<ClusterView> {
        let ask = |process: &Process| {
            let client = process.client.clone();
            async move { tokio::time::timeout(ANSWER_TIMEOUT, ClusterView::read(&client)).await.ok()?.ok() }
        };
        let answers = futures::future::join_all(self.running().map(|(_, process)| ask(process))).await;
        answers.into_iter().flatten().collect()
    }

    /// Waits until all running nodes hold the same; the time it took, or `None` when it took longer than `within`.
    pub async fn wait_equal(&mut self, within: Duration) -> Option<Duration> {
        let begin = Instant::now();
        while begin.elapsed() <= within {
            let views = self.views().await;
            if views.len() == self.running().count() && all_equal(&views) {
                return Some(begin.elapsed());
            }
            sleep(POLL).await;
        }
        None
    }

    /// Notes which processes ended by themselves, and how much memory the others take.
    pub fn look_after(&mut self) {
        for process in self.nodes.iter_mut().flatten() {
            if let Some((status, words)) = process.ended() {
                let said = format!("{} ended by itself ({status}):\n{words}", process.name);
                if !self.died.contains(&said) {
                    self.died.push(said);
                }
            }
            self.memory_kib_max = self.memory_kib_max.max(process.id().and_then(memory_kib).unwrap_or(0));
        }
    }

    /// Lines of the logs that no log may hold.
    pub fn panics(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for name in &self.plan.names {
            let log = std::fs::read_to_string(self.plan.dir.join(format!("{name}.log"))).unwrap_or_default();
            let bad = log.lines().filter(|line| line.contains("panicked at")).take(3);
            lines.extend(bad.map(|line| format!("{name}: {line}")));
        }
        lines
    }

    /// What became of the packets between nodes.
    pub fn packets(&self) -> Tally {
        self.hosts.tally()
    }

    /// Ends all nodes; the network goes with them.
    pub async fn close(mut self) {
        for node in 0..self.nodes.len() {
            self.signal(node, Signal::CONT);
            self.kill(node).await;
        }
    }
}

/// The most memory the process ever took.
fn memory_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok())
}

fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot copy {}: {error}", from.display()));
    let _ = std::fs::remove_dir_all(to);
    let mut left = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = left.pop() {
        std::fs::create_dir_all(&to).map_err(failed)?;
        for entry in std::fs::read_dir(&from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let to = to.join(entry.file_name());
            match entry.file_type().map_err(failed)?.is_dir() {
                true => left.push((entry.path(), to)),
                false => std::fs::copy(entry.path(), to).map(drop).map_err(failed)?,
            }
        }
    }
    Ok(())
}

/// Turns the middle bit of the largest file of a store.
fn flip(data: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Failed(format!("cannot damage {}: {error}", data.display()));
    let (mut left, mut largest) = (vec![data.to_owned()], (0, PathBuf::new()));
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).map_err(failed)?.flatten() {
            let meta = entry.metadata().map_err(failed)?;
            if meta.is_dir() {
                left.push(entry.path());
            } else if meta.len() > largest.0 {
                largest = (meta.len(), entry.path());
            }
        }
    }
    let mut bytes = std::fs::read(&largest.1).map_err(failed)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    if let Some(byte) = bytes.get_mut(used / 2) {
        *byte ^= 1;
    }
    std::fs::write(&largest.1, bytes).map_err(failed)
}
