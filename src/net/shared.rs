//! What the handle, the loop and the links all see. It outlives the loop: a restarted transport finds the book, the
//! blocked peers, the counters and the ports here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::config::Config;
use super::dial::Planner;
use super::event::LinkId;
use super::outlet::{Outlet, Traffic};
use super::statistics::Counters;
use crate::clock::NodeId;

#[derive(Debug)]
pub(super) struct Shared {
    pub config: Config,
    pub local: NodeId,
    pub planner: Mutex<Planner>,
    pub listening: Mutex<Vec<String>>,
    /// For each listen address of the configuration the port it got, to be asked for again.
    pub ports: Mutex<Vec<Option<u16>>>,
    pub counters: Counters,
    /// Wakes the loop after any of the wishes here changed.
    pub wake: Notify,
    pub stop: AtomicBool,
    pub crash: AtomicBool,
    peers: RwLock<BTreeMap<NodeId, Peer>>,
    last_link: AtomicU64,
    started: Instant,
}

#[derive(Debug, Default)]
struct Peer {
    traffic: Arc<Traffic>,
    outlet: Option<Arc<Outlet>>,
}

impl Shared {
    pub fn new(config: Config, local: NodeId, planner: Planner) -> Self {
        let ports = Mutex::new(vec![None; config.listen.len()]);
        Self {
            config,
            local,
            planner: Mutex::new(planner),
            listening: Mutex::default(),
            ports,
            counters: Counters::default(),
            wake: Notify::new(),
            stop: AtomicBool::new(false),
            crash: AtomicBool::new(false),
            peers: RwLock::default(),
            last_link: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// The time the planner is told.
    pub fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub fn next_link(&self) -> LinkId {
        LinkId(self.last_link.fetch_add(1, Relaxed) + 1)
    }

    pub fn traffic(&self, peer: NodeId) -> Arc<Traffic> {
        let mut peers = self.peers.write();
        if peers.len() >= self.config.limits.peers_known_max && !peers.contains_key(&peer) {
            peers.retain(|_, peer| peer.outlet.is_some());
        }
        peers.entry(peer).or_default().traffic.clone()
    }

    /// From now on messages may be sent on this link.
    pub fn open(&self, peer: NodeId, outlet: Arc<Outlet>) {
        self.peers.write().entry(peer).or_default().outlet = Some(outlet);
    }

    /// The opposite, unless another link took its place.
    pub fn close(&self, peer: NodeId, link: LinkId) {
        if let Some(peer) = self.peers.write().get_mut(&peer)
            && peer.outlet.as_ref().is_some_and(|outlet| outlet.link == link)
        {
            peer.outlet = None;
        }
    }

    pub fn outlet(&self, peer: &NodeId) -> Option<Arc<Outlet>> {
        self.peers.read().get(peer)?.outlet.clone()
    }

    /// Traffic so far and the open link, if any.
    pub fn seen(&self, peer: &NodeId) -> Option<(Arc<Traffic>, Option<Arc<Outlet>>)> {
        self.peers.read().get(peer).map(|peer| (peer.traffic.clone(), peer.outlet.clone()))
    }
}
