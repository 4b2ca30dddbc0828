//! Starting a node inside a program.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng as _;

use super::driver::{Effects, FREE_BYTES_MIN, run_network};
use super::handle::{Inner, Node};
use super::open::{self, Opened};
use super::settings::RunError;
use crate::clock::{ClusterId, Incarnation, NodeId};
use crate::conflict::{Case, Customs};
use crate::engine::hooks::Hooks;
use crate::engine::keys::{Ed25519, Keys};
use crate::engine::{Config, Limits, Loader, Now, Replica};
use crate::net;
use crate::store::{DataDir, DataDirError, Memory, Store, StoreKind, medium};

/// What a node is made of. Every setting has a default that is safe on a laptop: a store in memory, no network.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    data_dir: Option<PathBuf>,
    store: StoreKind,
    listen: Vec<String>,
    join: Vec<String>,
    psk: Option<[u8; 32]>,
    allow: Option<BTreeSet<NodeId>>,
    mdns: bool,
    kademlia: bool,
    chaos: bool,
    host_report: bool,
    region: String,
    max_clock_skew_ms: u64,
    customs: Customs,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: "node".to_owned(),
            data_dir: None,
            store: StoreKind::Sled,
            listen: Vec::new(),
            join: Vec::new(),
            psk: None,
            allow: None,
            mdns: false,
            kademlia: true,
            chaos: false,
            host_report: false,
            region: String::new(),
            max_clock_skew_ms: 500,
            customs: Customs::default(),
        }
    }
}

impl Node {
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// What people call the node. A second live node of one name is refused when it joins.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Keeps the key and the store here. Without one, everything ends with the process.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// sled by default. redb opens large stores faster; memory keeps only the key.
    pub fn store(mut self, kind: StoreKind) -> Self {
        self.store = kind;
        self
    }

    /// Adds a multiaddr to listen on. Without any, and without one to join, there is no network at all.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Joins the cluster of the node at this multiaddr instead of founding one.
    pub fn join(mut self, address: impl Into<String>) -> Self {
        self.join.push(address.into());
        self
    }

    /// Only nodes with the same key can connect.
    pub fn pre_shared_key(mut self, key: [u8; 32]) -> Self {
        self.psk = Some(key);
        self
    }

    /// Only these nodes can connect.
    pub fn allow(mut self, nodes: BTreeSet<NodeId>) -> Self {
        self.allow = Some(nodes);
        self
    }

    /// Finds nodes on the LAN. Stays off while every listen address is loopback.
    pub fn mdns(mut self, on: bool) -> Self {
        self.mdns = on;
        self
    }

    /// Lets [`Node::set_blocked`] be reached over the API.
    pub fn chaos(mut self, on: bool) -> Self {
        self.chaos = on;
        self
    }

    /// Publishes this host's figures as `workers/<name>`.
    pub fn host_report(mut self, on: bool) -> Self {
        self.host_report = on;
        self
    }

    /// Where the host is, in any words. In a cluster of more than 32 members those of one region pass on to each other
    /// what comes from elsewhere.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// How far a stamp may run ahead of the host's clock. Twice what your time synchronization allows; more lets a wrong
    /// clock win over right ones for longer.
    pub fn max_clock_skew_ms(mut self, ms: u64) -> Self {
        self.max_clock_skew_ms = ms;
        self
    }

    /// Registers a resolver for fields that say `resolver = "custom"` and `custom = "<name>"`. It is asked at every read, and
    /// must be a function of its case alone. Register it at every node of the cluster: one that lacks it reports the
    /// conflict as unresolved.
    pub fn resolver(
        mut self,
        name: impl Into<String>,
        resolver: impl Fn(&Case<'_>) -> Result<serde_json::Value, String> + Send + Sync + 'static,
    ) -> Self {
        self.customs.register(name, Arc::new(resolver));
        self
    }

    /// Opens the store, starts the transport and the node. Needs a tokio runtime.
    pub async fn start(self) -> Result<Node, RunError> {
        let dir = self.data_dir.as_deref().map(DataDir::lock).transpose().map_err(|error| denied(&error))?;
        let seed = match &dir {
            Some(dir) => dir.node_key().map_err(|error| denied(&error))?,
            None => random(),
        };
        let keys: Arc<dyn Keys> = Arc::new(Ed25519::from_seed(&seed));
        let Opened { store, loaded, set_aside } = self.open(dir.as_ref(), &keys.node())?;
        // A node that joins has to hear from the cluster first, unless it was a member before.
        let known = loaded.cluster.is_some();
        let awaits_contact = set_aside.is_some() || !known && !self.join.is_empty();
        let (network, events) = self.start_network(seed).map_err(network_error)?.unzip();
        let (effects, engines) = Effects::new(network);
        let id = keys.node();
        if self.join.is_empty() && loaded.has_left(&id) {
            return Err(RunError::Denied(
                "this node left its cluster: start it with --join and the address of a member to come back, or with an \
                 empty --data-dir as another node"
                    .to_owned(),
            ));
        }
        let founds = !known && self.join.is_empty() && !self.mdns;
        let config = Config {
            name: self.name.clone(),
            incarnation: Incarnation(random()),
            found: founds.then(|| ClusterId(random())),
            joins: !self.join.is_empty(),
            rebuilt: set_aside.is_some(),
            medium: dir.as_ref().map_or(0, |dir| medium(dir.path())),
            max_clock_skew_ms: self.max_clock_skew_ms,
            limits: Limits::default(),
            hooks: Hooks::default(),
            customs: self.customs.clone(),
            region: self.region.clone(),
            software: concat!("folkmoot/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let replica = Replica::new(config, keys.clone(), loaded, Now { wall_ms: wall_ms(), mono_us: 0 });
        let inner = Arc::new(Inner::new(replica, effects, self.chaos, awaits_contact));
        let data_dir = dir.as_ref().map(|dir| dir.path().to_owned());
        engines.start(&inner, store, dir, keys);
        // The first outputs of the replica: what it wants kept, and when it wants to be woken.
        inner.with_replica(|_, _| ());
        inner.write_book_now();
        if let Some(events) = events {
            tokio::spawn(run_network(inner.clone(), events));
        }
        let node = Node { inner };
        if let Some(dir) = data_dir {
            tokio::spawn(watch_space(node.clone(), dir));
        }
        tokio::spawn(super::knowledge::follow(node.clone()));
        tokio::spawn(super::membership::come_back(node.clone()));
        tokio::spawn(super::tasks::tidy(node.clone()));
        tokio::spawn(super::capacity::tend(node.clone()));
        if !known && self.join.is_empty() && self.mdns {
            node.found_unless_met().await?;
        }
        if self.host_report {
            tokio::spawn(super::host::report(node.clone()));
        }
        if founds {
            node.wait_founded().await;
        }
        node.wait_listening(self.listen.len()).await;
        node.announce("");
        Ok(node)
    }

    fn open(&self, dir: Option<&DataDir>, node: &NodeId) -> Result<Opened, RunError> {
        let in_memory = |store: Result<Box<dyn Store>, _>| {
            let loaded = Loader::default().finish().map_err(|error| RunError::Failed(error.to_string()))?;
            let store = store.map_err(|error: crate::store::StoreError| RunError::Failed(error.to_string()))?;
            Ok(Opened { store, loaded, set_aside: None })
        };
        match dir {
            Some(dir) if self.store != StoreKind::Memory => {
                open::open(dir.path(), self.store, node, !self.join.is_empty())
            }
            _ => in_memory(Memory::new().open()),
        }
    }

    #[allow(clippy::type_complexity)]
    fn start_network(
        &self,
        seed: [u8; 32],
    ) -> Result<Option<(net::Handle, tokio::sync::mpsc::Receiver<net::Event>)>, net::Error> {
        if self.listen.is_empty() && self.join.is_empty() {
            return Ok(None);
        }
        let limits =
            net::Limits { message_bytes_max: crate::engine::message::MESSAGE_BYTES_MAX, ..net::Limits::default() };
        net::start(net::Config {
            secret_key: seed,
            listen: self.listen.clone(),
            seeds: self.join.clone(),
            psk: self.psk,
            allow: self.allow.clone(),
            mdns: self.mdns,
            kademlia: self.kademlia,
            limits,
        })
        .map(Some)
    }
}

impl Node {
    /// An address is known a moment after its port was taken. Without it nobody could be told where this node is.
    async fn wait_listening(&self, wanted: usize) {
        const WAIT: Duration = Duration::from_secs(2);
        let Some(net) = self.inner.effects.net() else { return };
        let mut progress = self.inner.progress.subscribe();
        let known = async { while net.listen_addresses().len() < wanted && progress.changed().await.is_ok() {} };
        if tokio::time::timeout(WAIT, known).await.is_err() {
            tracing::warn!("a listener has no address yet; others learn it once it has");
        }
    }

    /// Tells the cluster where this node and its API can be reached. Told again by [`Node::announce_again`].
    pub fn announce(&self, api: &str) {
        *self.inner.announced_api.lock() = Some(api.to_owned());
        self.announce_again();
    }

    /// Tells it once more: with a wildcard addresses come one by one, and later, when an interface comes up.
    pub(super) fn announce_again(&self) {
        // Held until it is told, so that an older address cannot overtake a newer one.
        let announced = self.inner.announced_api.lock();
        let Some(api) = announced.as_deref().filter(|_| !self.inner.is_stopping()) else { return };
        let listen = self.listen_addresses();
        let written = self.inner.with_replica(|replica, now| replica.announce_self(&listen, api, now));
        if let Err(error) = written {
            tracing::error!(%error, "this node's member document could not be written");
        }
    }

    /// A cluster is acted upon once its id is on the disk; until then this node would call itself not ready.
    async fn wait_founded(&self) {
        const WAIT: Duration = Duration::from_secs(5);
        let mut progress = self.inner.progress.subscribe();
        let founded =
            async { while self.inner.replica.read().cluster().is_none() && progress.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(WAIT, founded).await;
    }

    /// On a LAN someone may already hold a cluster: look for a moment before founding another.
    async fn found_unless_met(&self) -> Result<(), RunError> {
        const LOOK: Duration = Duration::from_millis(1_500);
        let mut refused = self.inner.refused.subscribe();
        let met = tokio::time::timeout(LOOK, refused.wait_for(Option::is_some)).await.is_ok();
        if met {
            self.shutdown().await;
            return Err(RunError::Denied(
                "a cluster is already on this network: start with --join and the address of one of its nodes, or with \
                 --mdns off to found another"
                    .to_owned(),
            ));
        }
        self.inner.with_replica(|replica, now| replica.found(ClusterId(random()), now));
        Ok(())
    }
}

/// Refuses writes while the disk is nearly full, so that none is half-done when it is.
async fn watch_space(node: Node, dir: PathBuf) {
    let mut due = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = due.tick() => {}
            () = node.stopping() => return,
        }
        if let Ok(stat) = rustix::fs::statvfs(&dir) {
            let full = stat.f_bavail * stat.f_frsize < FREE_BYTES_MIN;
            if node.inner.disk_is_full.swap(full, Ordering::Relaxed) != full {
                tracing::warn!(full, "free space on the data directory's disk crossed the reserve");
            }
        }
    }
}

fn denied(error: &DataDirError) -> RunError {
    match error {
        DataDirError::Io { .. } | DataDirError::NoRandomness { .. } => RunError::Failed(error.to_string()),
        DataDirError::KeyIsDamaged { .. } => RunError::Integrity(error.to_string()),
        _ => RunError::Denied(error.to_string()),
    }
}

#[allow(clippy::needless_pass_by_value)]
fn network_error(error: net::Error) -> RunError {
    RunError::Settings(error.to_string())
}

fn wall_ms() -> u64 {
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    wall.unwrap_or_default().as_millis() as u64
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
