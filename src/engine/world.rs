//! A small world for tests: replicas, ordered links between them, disks that keep or lose what was not yet durable, and
//! a time that passes only when told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::hooks::Hooks;
use super::io::{Event, Input, LinkId, Now, Output, Ticket};
use super::keys::{Ed25519, Keys};
use super::limits::Limits;
use super::persist::{Tree, WriteBatch};
use super::replica::{Config, Replica};
use super::rows::{Loaded, Loader};
use crate::clock::{ClusterId, Incarnation, NodeId};
use crate::document::Address;
use crate::document::plan::{Edit, Write};

/// Messages under way on a link, in order.
type Wire = VecDeque<(LinkId, Vec<u8>)>;
type Rows = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

pub struct World {
    pub now: Now,
    pub nodes: Vec<Node>,
    pub cut: BTreeSet<(usize, usize)>,
    links: BTreeMap<(usize, usize), LinkId>,
    pub wires: BTreeMap<(usize, usize), Wire>,
    next: u64,
    /// Disks answer at once, unless told to wait for `World::sync`.
    pub slow_disks: bool,
    pub sent_bytes: usize,
    /// What the next start finds instead of what its disk holds.
    pub damaged: Option<Loaded>,
    /// Of the last request to a quorum.
    pub next_request: u128,
}

pub struct Node {
    pub replica: Replica,
    pub disk: Rows,
    pub pending: VecDeque<(Ticket, Arc<WriteBatch>)>,
    pub events: Vec<Event>,
}

impl World {
    /// `n` nodes of one cluster, linked to each other and in agreement.
    pub fn new(n: usize) -> Self {
        let mut world = Self {
            now: Now { wall_ms: 1_700_000_000_000, mono_us: 1_000_000 },
            nodes: Vec::new(),
            cut: BTreeSet::new(),
            links: BTreeMap::new(),
            wires: BTreeMap::new(),
            next: 0,
            slow_disks: false,
            sent_bytes: 0,
            damaged: None,
            next_request: 0,
        };
        for node in 0..n {
            world.start(node, Rows::new());
        }
        world.settle();
        for node in 0..n {
            let now = world.now;
            world.nodes[node].replica.announce_self(&[], "", now).unwrap();
            world.carry_out(node);
        }
        world.settle();
        world
    }

    pub fn id(&self, node: usize) -> NodeId {
        self.nodes[node].replica.id().node
    }

    pub fn replica(&self, node: usize) -> &Replica {
        &self.nodes[node].replica
    }

    /// One more node, under this name.
    pub fn join_as(&mut self, name: &str) -> usize {
        let node = self.nodes.len();
        self.start_as(node, Rows::new(), name.to_owned());
        let now = self.now;
        self.nodes[node].replica.announce_self(&[], "", now).unwrap();
        self.carry_out(node);
        node
    }

    fn start(&mut self, node: usize, disk: Rows) {
        self.start_as(node, disk, format!("n{node}"));
    }

    fn start_as(&mut self, node: usize, disk: Rows, name: String) {
        self.next += 1;
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&self.next.to_le_bytes());
        let config = Config {
            name,
            incarnation: Incarnation(incarnation),
            found: (node == 0).then_some(ClusterId([9; 16])),
            joins: node > 0,
            rebuilt: self.damaged.is_some(),
            medium: 0,
            max_clock_skew_ms: 500,
            region: String::new(),
            software: "test".into(),
            limits: Limits::default(),
            hooks: Hooks::default(),
            customs: crate::conflict::Customs::default(),
        };
        let keys: Arc<dyn Keys> = Arc::new(Ed25519::from_seed(&[node as u8 + 1; 32]));
        let loaded = self.damaged.take().unwrap_or_else(|| load(&disk).unwrap());
        let replica = Replica::new(config, keys, loaded, self.now);
        let started = Node { replica, disk, pending: VecDeque::new(), events: Vec::new() };
        if node < self.nodes.len() {
            self.nodes[node] = started;
        } else {
            self.nodes.push(started);
        }
        self.carry_out(node);
        for other in 0..self.nodes.len() {
            self.link(node, other);
        }
    }

    /// The process dies; what was not durable is gone. It starts again from `disk`, or from its own.
    pub fn restart(&mut self, node: usize, disk: Option<Rows>) {
        for other in 0..self.nodes.len() {
            self.unlink(node, other);
        }
        let disk = disk.unwrap_or_else(|| self.nodes[node].disk.clone());
        self.start(node, disk);
    }

    fn link(&mut self, a: usize, b: usize) {
        let pair = (a.min(b), a.max(b));
        if a == b || self.cut.contains(&pair) || self.links.contains_key(&pair) {
            return;
        }
        self.next += 1;
        let link = LinkId(self.next);
        self.links.insert(pair, link);
        for (from, to) in [(a, b), (b, a)] {
            let peer = self.id(to);
            self.input(from, Input::LinkUp { peer, link });
        }
    }

    fn unlink(&mut self, a: usize, b: usize) {
        let pair = (a.min(b), a.max(b));
        let Some(link) = self.links.remove(&pair) else { return };
        for (from, to) in [(a, b), (b, a)] {
            self.wires.remove(&(from, to));
            let peer = self.id(to);
            self.input(from, Input::LinkDown { peer, link });
        }
    }

    /// Cuts every link between two groups.
    pub fn partition(&mut self, left: &[usize], right: &[usize]) {
        for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
            self.cut.insert((a.min(b), a.max(b)));
            self.unlink(a, b);
        }
    }

    pub fn heal(&mut self) {
        self.heal_but(&[]);
    }

    /// All cuts but these, each the lower first.
    pub fn heal_but(&mut self, cut: &[(usize, usize)]) {
        self.cut = cut.iter().copied().collect();
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.link(a, b);
            }
        }
    }

    pub fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        self.nodes[node].replica.handle(input, now);
        self.carry_out(node);
    }

    pub fn write(&mut self, node: usize, document: &str, write: Write) {
        let now = self.now;
        let address = Address::parse(document).unwrap();
        self.nodes[node].replica.write(&[(address, write)], false, now).unwrap();
        self.carry_out(node);
    }

    pub fn put(&mut self, node: usize, document: &str, fields: Json) {
        let Json::Object(fields) = fields else { panic!("fields are an object") };
        self.write(node, document, Write::Put(fields));
    }

    pub fn edit(&mut self, node: usize, document: &str, edit: Edit) {
        self.write(node, document, Write::Upsert(vec![edit]));
    }

    pub fn incr(&mut self, node: usize, document: &str, by: i64) {
        self.edit(node, document, Edit::Incr { field: "n".into(), by });
    }

    pub fn get(&self, node: usize, document: &str) -> Json {
        self.replica(node).view(document).map_or(Json::Null, |view| json!(view.fields))
    }

    pub(super) fn carry_out(&mut self, node: usize) {
        let outputs: Vec<Output> = self.nodes[node].replica.drain().collect();
        for output in outputs {
            match output {
                Output::Send { peer, link, message } => {
                    let Some(to) = (0..self.nodes.len()).find(|n| self.id(*n) == peer) else { continue };
                    if self.links.get(&(node.min(to), node.max(to))) == Some(&link) {
                        self.sent_bytes += message.len();
                        self.wires.entry((node, to)).or_default().push_back((link, message.to_vec()));
                    }
                }
                Output::Disconnect { peer, reason, .. } => panic!("{node} hung up on {peer:?}: {reason}"),
                Output::Persist { ticket, rows } => {
                    self.nodes[node].pending.push_back((ticket, rows));
                    if !self.slow_disks {
                        self.sync(node);
                    }
                }
                Output::Verify(claim) => {
                    let keys = Ed25519::from_seed(&[99; 32]);
                    assert!(keys.verify(&claim.replica.node, &claim.hash, &claim.signature), "a forged batch");
                }
                Output::Schedule { .. } => {}
                Output::Emit(event) => self.nodes[node].events.push(event),
            }
        }
    }

    /// The disk finishes what it was asked for.
    pub fn sync(&mut self, node: usize) {
        while let Some((ticket, rows)) = self.nodes[node].pending.pop_front() {
            for write in rows.writes.iter().cloned() {
                let key = (write.tree, write.key);
                match write.value {
                    Some(value) => self.nodes[node].disk.insert(key, value),
                    None => self.nodes[node].disk.remove(&key),
                };
            }
            self.input(node, Input::Persisted { ticket });
        }
    }

    /// Delivers one message on the wire `from -> to`, if there is one.
    pub fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some((link, bytes)) = self.wires.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return false };
        let peer = self.id(from);
        self.input(to, Input::Message { peer, link, bytes });
        true
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.mono_us += ms * 1_000;
        for node in 0..self.nodes.len() {
            self.input(node, Input::Tick);
        }
    }

    pub fn drain_wires(&mut self) {
        while let Some((from, to)) = self.wires.iter().find(|(_, wire)| !wire.is_empty()).map(|(pair, _)| *pair) {
            self.deliver(from, to);
        }
    }

    /// Lets time pass and everything arrive until nothing is left to say.
    pub fn settle(&mut self) {
        for _ in 0..80 {
            (0..self.nodes.len()).for_each(|node| self.sync(node));
            self.drain_wires();
            self.pass(100);
        }
        self.drain_wires();
    }

    pub fn agree(&self) -> bool {
        let digests = self.nodes[0].replica.digests();
        self.nodes.iter().all(|node| node.replica.digests() == digests)
    }

    pub fn disk(&self, node: usize) -> Rows {
        self.nodes[node].disk.clone()
    }
}

pub fn load(disk: &Rows) -> Result<Loaded, super::rows::LoadError> {
    let mut loader = Loader::default();
    for tree in Tree::LOADED {
        for ((_, key), value) in disk.iter().filter(|((of, _), _)| *of == tree) {
            loader.row(tree, key, value)?;
        }
    }
    loader.finish()
}
