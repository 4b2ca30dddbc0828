//! The workload of a scenario over HTTP, and what each client was told of its writes.
//!
//! The transactions are the simulator's, drawn from the same seed. Each carries a marker, a document of its own, so that
//! afterwards it can be said of every single write whether it is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::cli::chaos::deciders::Deciders;
use crate::cli::chaos::lockers::Lockers;
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;
use crate::document::plan::{Edit, Write};
use crate::sim::Plan;
use crate::sim::chance::Chance;
use crate::sim::trace::{Entry, Trace, What};
use crate::sim::workload::{Durability, Kind, Transaction, Workshop};

/// Requests under way at once.
const UNDER_WAY_MAX: usize = 64;
/// The collection of the markers.
pub const MARKERS: &str = "markers";

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is on the disks that the client asked for.
    Acknowledged(Durability),
    /// No answer, or none that says.
    Unknown,
}

/// One write that was applied, or may have been.
#[derive(Clone, Debug)]
pub struct Marker {
    pub node: usize,
    pub told: Told,
    /// What its client was told when it removed it again.
    pub removed: Option<Told>,
}

/// What all clients were told.
#[derive(Debug, Default)]
pub struct History {
    pub markers: BTreeMap<String, Marker>,
    /// For each counter: the node, the amount, and what was told of it.
    pub increments: BTreeMap<String, Vec<(usize, i64, Told)>>,
    /// Surely not written: refused, or there was no node to ask.
    pub refused: u64,
    /// Reads that went back in time.
    pub stale: Vec<String>,
    pub reads: u64,
    /// Latency of acknowledged writes, µs.
    pub took_us: Vec<u64>,
    /// Every operation, and what was told of it.
    pub trace: Trace,
}

impl History {
    pub fn recording() -> Self {
        Self { trace: Trace::recording(), ..Self::default() }
    }

    pub fn count(&self, told: impl Fn(Told) -> bool) -> usize {
        self.markers.values().filter(|marker| told(marker.told)).count()
    }
}

/// Who can be asked just now, by node.
pub type Doors = Arc<Mutex<Vec<Option<Client>>>>;

/// Where clients go, and where it is noted what came of it.
#[derive(Clone, Debug)]
struct Desk {
    doors: Doors,
    history: Arc<Mutex<History>>,
    start: Instant,
    verbs: Verbs,
}

/// What takes a quorum.
#[derive(Clone, Debug)]
pub struct Verbs {
    pub lockers: Lockers,
    pub deciders: Deciders,
}

impl Desk {
    /// Notes what is known now.
    fn note(&self, node: usize, what: What, text: String) {
        let at_us = self.start.elapsed().as_micros() as u64;
        lock(&self.history).trace.keep(|| Entry { at_us, node, peer: None, what, text });
    }

    /// Notes what a client was told of `what` it did.
    fn note_told(&self, node: usize, told: Option<Told>, what: &str, began: Instant) {
        let kind = match told {
            Some(Told::Acknowledged(_)) => What::Acknowledged,
            Some(Told::Unknown) => What::Unknown,
            None => What::Failed,
        };
        self.note(node, kind, format!("{what}, after {:.1} ms", began.elapsed().as_secs_f64() * 1e3));
    }
}

#[derive(Debug)]
struct Job {
    id: String,
    client: usize,
    node: usize,
    elsewhere: usize,
    transaction: Transaction,
    reads: bool,
    removes: bool,
}

/// Writes from `from_ms` to `until_ms` after `start`, as the scenario says.
pub async fn run(plan: &Plan, start: Instant, doors: Doors, history: Arc<Mutex<History>>, verbs: &Verbs) {
    let workload = &plan.scenario.workload;
    let mut workshop = Workshop::new(workload, plan.seed);
    let mut chance = Chance::of(plan.seed, "clients");
    let permits = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut at_us = workload.from.us();
    let desk = Desk { doors, history, start, verbs: verbs.clone() };
    let (mut number, mut tasks) = (0u64, tokio::task::JoinSet::new());
    while workload.rate > 0.0 && at_us < workload.until.us() {
        sleep_until(start + Duration::from_micros(at_us)).await;
        at_us += chance.gap(1e6 / workload.rate).max(1);
        let client = chance.index(workload.clients.max(1));
        let Some(transaction) = workshop.transaction(client) else { continue };
        let nodes = plan.scenario.cluster.nodes;
        number += 1;
        let job = Job {
            id: format!("c{client}-{number}"),
            client,
            node: client % nodes,
            elsewhere: chance.index(nodes),
            transaction,
            reads: chance.happens(workload.read),
            removes: chance.happens(0.1),
        };
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let desk = desk.clone();
        tasks.spawn(async move {
            act(job, &desk).await;
            drop(permit);
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn door(doors: &Doors, node: usize) -> Option<Client> {
    doors.lock().unwrap_or_else(PoisonError::into_inner).get(node)?.clone()
}

async fn act(job: Job, desk: &Desk) {
    let Some(client) = door(&desk.doors, job.node) else {
        lock(&desk.history).refused += 1;
        return desk.note(job.node, What::Failed, format!("{}: the node is down", job.id));
    };
    if let Some(verb) = job.transaction.asks {
        let (did, done) = match verb {
            Kind::Lock => desk.verbs.lockers.act(job.client, &client).await,
            _ => desk.verbs.deciders.act(job.client, &client).await,
        };
        let what = if done { What::Acknowledged } else { What::Failed };
        return desk.note(job.node, what, format!("client {} {did}", job.client));
    }
    let began = Instant::now();
    let durability = level(job.transaction.durability);
    desk.note(job.node, What::Write, format!("{}: {} writes, {durability}", job.id, job.transaction.writes.len() + 1));
    let (path, body) = request(&job);
    let answer = client.send(reqwest::Method::POST, &path, Some(Body::json(body)), &Terms::default()).await;
    let clock = answer.as_ref().ok().and_then(|answer| answer.clock.clone());
    let told = told(answer.map(drop), job.transaction.durability);
    desk.note_told(job.node, told, &job.id, began);
    let Some(told) = told else {
        lock(&desk.history).refused += 1;
        return;
    };
    {
        let mut history = lock(&desk.history);
        history.took_us.push(began.elapsed().as_micros() as u64);
        for (document, by) in &job.transaction.increments {
            history.increments.entry(document.clone()).or_default().push((job.node, *by, told));
        }
        history.markers.insert(job.id.clone(), Marker { node: job.node, told, removed: None });
    }
    if let (true, Some(clock), Told::Acknowledged(_)) = (job.reads, clock, told) {
        read_elsewhere(&job, clock, desk).await;
    }
    if job.removes && matches!(told, Told::Acknowledged(_)) {
        remove(&job, &client, desk).await;
    }
}

/// Takes the marker away again.
async fn remove(job: &Job, client: &Client, desk: &Desk) {
    let (began, what) = (Instant::now(), format!("removal of {}", job.id));
    desk.note(job.node, What::Write, what.clone());
    let path = format!("/v1/docs/{MARKERS}/{}?durability=local", job.id);
    let removed = told(client.delete(&path).await.map(drop), Durability::Local);
    desk.note_told(job.node, removed, &what, began);
    if let Some(marker) = lock(&desk.history).markers.get_mut(&job.id) {
        marker.removed = removed;
    }
}

/// A reader who brings its clock sees at least what it saw, at any node, or is told that it must wait.
async fn read_elsewhere(job: &Job, clock: String, desk: &Desk) {
    let Some(other) = door(&desk.doors, job.elsewhere) else { return };
    let terms = Terms { clock: Some(clock), if_match: None };
    let path = format!("/v1/docs/{MARKERS}/{}", job.id);
    let answer = other.send(reqwest::Method::GET, &path, None, &terms).await;
    let stale = matches!(&answer, Err(Error::Refused(problem)) if problem.status == 404);
    let saw = if stale {
        "is missing"
    } else if answer.is_ok() {
        "is there"
    } else {
        "was not told"
    };
    let what = if stale { What::Alarm } else { What::Read };
    desk.note(job.elsewhere, what, format!("{}, read in its session: {saw}", job.id));
    let mut history = lock(&desk.history);
    history.reads += 1;
    if stale {
        history
            .stale
            .push(format!("{} was written and read at n{}, and is missing at n{}", job.id, job.node, job.elsewhere));
    }
}

fn lock(history: &Mutex<History>) -> std::sync::MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` when it surely was not written.
fn told(answer: Result<(), Error>, durability: Durability) -> Option<Told> {
    match answer {
        Ok(()) => Some(Told::Acknowledged(durability)),
        Err(error) if error.is_unknown() => Some(Told::Unknown),
        Err(Error::Refused(problem)) if problem.status < 500 || problem.status == 503 => None,
        Err(Error::Unreachable { .. }) => None,
        Err(_) => Some(Told::Unknown),
    }
}

/// As the API takes it.
fn level(durability: Durability) -> String {
    match durability {
        Durability::Memory => "memory".to_owned(),
        Durability::Local => "local".to_owned(),
        Durability::Replicas(n) => format!("replicas:{n}"),
    }
}

fn request(job: &Job) -> (String, Value) {
    let durability = level(job.transaction.durability);
    let marker = json!({"op": "put", "collection": MARKERS, "id": job.id, "fields": {"by": format!("n{}", job.node)}});
    let writes = job.transaction.writes.iter().map(|(address, write)| {
        let (collection, id) = (address.collection(), address.id());
        match write {
            Write::Put(fields) => json!({"op": "put", "collection": collection, "id": id, "fields": fields}),
            Write::Delete => json!({"op": "delete", "collection": collection, "id": id}),
            Write::Replace(fields) => json!({"op": "patch", "collection": collection, "id": id, "fields": fields}),
            Write::Edits(edits) | Write::Upsert(edits) => {
                let ops: Vec<Value> = edits.iter().map(op).collect();
                json!({"op": "patch", "collection": collection, "id": id, "ops": ops, "upsert": true})
            }
        }
    });
    let writes: Vec<Value> = writes.chain([marker]).collect();
    (format!("/v1/batch?durability={durability}"), json!({ "writes": writes }))
}

fn op(edit: &Edit) -> Value {
    match edit {
        Edit::Set { field, value } => json!({"field": field, "set": value}),
        Edit::Unset { field } => json!({"field": field, "unset": true}),
        Edit::Incr { field, by } => json!({"field": field, "incr": by}),
        Edit::Add { field, value } => json!({"field": field, "add": value}),
        Edit::Remove { field, value } => json!({"field": field, "remove": value}),
        Edit::SetKey { field, key, value } => json!({"field": field, "key": key, "set": value}),
        Edit::UnsetKey { field, key } => json!({"field": field, "key": key, "unset": true}),
        Edit::IncrKey { field, key, by } => json!({"field": field, "key": key, "incr": by}),
        // No workload reopens conflicts.
        Edit::Siblings { field, values, .. } => json!({"field": field, "set": values.first()}),
        Edit::Splice { field, at, delete, insert } => {
            json!({"field": field, "splice": {"at": at, "delete": delete, "insert": insert}})
        }
    }
}
