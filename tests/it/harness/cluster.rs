//! Several nodes in one directory: start them, cut them apart, join them again, wait until they agree.

use std::ops::{Index, IndexMut};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::node::{Launch, Node};
use super::wait::until;

/// Clusters alive at once: tests run in parallel, the machine may have two cores.
const CLUSTERS_MAX: u32 = 2;
static ROOM: Semaphore = Semaphore::const_new(CLUSTERS_MAX as usize);

/// For agreement that is not the point of a test.
pub const DIGESTS_TIMEOUT: Duration = Duration::from_secs(15);
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

pub struct Cluster {
    // Before the directory, so that the processes end before their files go.
    pub nodes: Vec<Node>,
    dir: TempDir,
    _room: SemaphorePermit<'static>,
}

impl Cluster {
    /// `nodes` nodes on sled that all see each other.
    pub async fn start(nodes: usize) -> Self {
        Self::start_on(&vec!["sled"; nodes]).await
    }

    /// One node for each of these stores.
    pub async fn start_on(stores: &[&str]) -> Self {
        let mut cluster = Self::empty().await;
        cluster.grow(stores).await;
        cluster
    }

    /// The same with nothing else running, for tests that measure time.
    pub async fn start_alone(nodes: usize) -> Self {
        let room = ROOM.acquire_many(CLUSTERS_MAX).await.unwrap();
        let mut cluster = Self { nodes: Vec::new(), dir: tempfile::tempdir().unwrap(), _room: room };
        cluster.grow(&vec!["sled"; nodes]).await;
        cluster
    }

    /// Only the directory, and the right to run.
    pub async fn empty() -> Self {
        let room = ROOM.acquire().await.unwrap();
        Self { nodes: Vec::new(), dir: tempfile::tempdir().unwrap(), _room: room }
    }

    async fn grow(&mut self, stores: &[&str]) {
        for store in stores {
            self.add(store).await;
        }
        self.all_joined().await;
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How the next node is started: the first founds, the others join it.
    pub fn next(&self, store: &str) -> Launch {
        let launch = Launch::new(self.dir(), &format!("node-{}", self.nodes.len()), store);
        match self.nodes.first() {
            Some(first) => launch.joining(first.address()),
            None => launch,
        }
    }

    /// Starts one more node.
    pub async fn add(&mut self, store: &str) -> usize {
        self.launch(self.next(store)).await
    }

    pub async fn launch(&mut self, launch: Launch) -> usize {
        self.nodes.push(launch.start().await);
        self.nodes.len() - 1
    }

    pub async fn restart(&mut self, index: usize) {
        self.nodes[index].restart().await;
    }

    /// Cuts every connection between the groups, on both sides.
    pub async fn partition(&self, groups: &[&[usize]]) {
        let cuts = groups.iter().flat_map(|group| group.iter().map(move |here| (*here, *group)));
        join_all(cuts.map(async |(here, group)| {
            let others = (0..self.nodes.len()).filter(|index| !group.contains(index));
            let peers: Vec<&str> = others.map(|index| self[index].id()).collect();
            self[here].http.ask("POST", "/v1/chaos/block", &[], json!({ "peers": peers })).await.ok();
        }))
        .await;
    }

    /// Lets everything through again.
    pub async fn heal(&self) {
        join_all(self.running().map(async |node| {
            node.http.ask("DELETE", "/v1/chaos/block", &[], Value::Null).await.ok();
        }))
        .await;
    }

    /// `GET /v1/cluster` of every running node.
    pub async fn views(&self) -> Vec<Value> {
        join_all(self.running().map(|node| node.http.cluster())).await
    }

    /// Waits until all running nodes hold equal digests, and gives the time it took.
    pub async fn agree_within(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        until("equal digests on all nodes", limit, async || {
            let views = self.views().await;
            let digests = |view: &Value| (view["clock_digest"].clone(), view["state_digest"].clone());
            match views.windows(2).all(|pair| digests(&pair[0]) == digests(&pair[1])) {
                true => Ok(()),
                false => Err(views.iter().map(summary).collect::<Vec<_>>().join("; ")),
            }
        })
        .await;
        start.elapsed()
    }

    pub async fn agree(&self) {
        self.agree_within(DIGESTS_TIMEOUT).await;
    }

    /// Waits until every running node sees every running node alive, and nobody missing.
    pub async fn all_joined(&self) {
        self.all_joined_of(self.running().count()).await;
    }

    /// Waits until every running node sees `nodes` alive, and nobody missing.
    pub async fn all_joined_of(&self, nodes: usize) {
        until("a cluster in which all see all", JOIN_TIMEOUT, async || {
            let views = self.views().await;
            let met = |view: &Value| alive(view) == nodes && view["partitioned"] == false;
            match views.iter().all(met) {
                true => Ok(()),
                false => Err(views.iter().map(summary).collect::<Vec<_>>().join("; ")),
            }
        })
        .await;
    }

    /// Waits until all running nodes know so many voters, none of them on the way.
    pub async fn voters(&self, wanted: usize) -> Vec<Value> {
        until("voters at rest", JOIN_TIMEOUT, async || {
            let mut all = Vec::new();
            for node in self.running() {
                all.push(node.http.get("/v1/voters").await.ok());
            }
            let rests = |view: &Value| view["changing"] == false && view["voters"].as_array().unwrap().len() == wanted;
            let alike = all.windows(2).all(|pair| pair[0]["version"] == pair[1]["version"]);
            if all.iter().all(rests) && alike { Ok(all) } else { Err(format!("{all:?}")) }
        })
        .await
    }

    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.runs())
    }
}

/// Members that a node sees alive, itself included.
fn alive(view: &Value) -> usize {
    view["members"].as_array().unwrap().iter().filter(|member| member["state"] == "alive").count()
}

/// What tells two nodes apart, in a line.
fn summary(view: &Value) -> String {
    let short = |key: &str| view[key].as_str().unwrap_or_default().chars().take(8).collect::<String>();
    format!(
        "{}: clock {} state {} alive {} partitioned {} documents {} cells {} entries {} alerts {}",
        view["name"],
        short("clock_digest"),
        short("state_digest"),
        alive(view),
        view["partitioned"],
        view["documents"],
        view["cells"],
        view["entries"],
        view["alerts"],
    )
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, index: usize) -> &Node {
        &self.nodes[index]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }
}
