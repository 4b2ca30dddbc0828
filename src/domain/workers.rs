//! Workers: who is there, what each offers, and which of them could take a piece of work.
//!
//! | field | merges | rule |
//! |---|---|---|
//! | `status` | `contested`, `gone` over `draining` over `active` | of two words the one that gives less work stands |
//! | `heartbeat` | `lww`, with a time to live | a worker whose heartbeat ran out is given nothing |
//! | `capacity` | `contested`, the last writer's | cores and memory change together |
//! | `labels` | `map` | each label by itself |
//! | `running_tasks` | `orset` | what the worker itself says to run |
//! | `tasks_started`, `tasks_finished` | `pncounter` | each counts |
//! | [`FIGURES`], `node` | `lww` | only the host's own node writes them |
//!
//! Capacity is what somebody declared. Nothing here keeps two sides of a split from counting on the same memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::vms::Size;
use crate::document::Edit;

pub const COLLECTION: &str = "workers";
/// Longest name of a label, its value, a resource and a running task, bytes.
pub const NAME_MAX: usize = 128;
/// Labels of one worker, and of one selector.
pub const LABELS_MAX: usize = 64;
/// Resources of one capacity: cores, memory, and what else a fleet counts.
pub const RESOURCES_MAX: usize = 16;
/// Tasks that one worker says to run: with its counters a heartbeat stays within a few hundred KiB.
pub const RUNNING_MAX: usize = 1_024;

/// What a host's own node measures, and writes every two seconds.
pub const FIGURES: [&str; 8] = [
    "cpu_count",
    "cpu_percent",
    "disk_free_bytes",
    "disk_total_bytes",
    "load_1m",
    "memory_total_bytes",
    "memory_used_bytes",
    "uptime_s",
];

/// What somebody said of a worker. Whether it is there is told by its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Active,
    /// It goes on with what it runs, and is given nothing new.
    Draining,
    /// It left.
    Gone,
    /// Nothing, or a word that this version does not know.
    Unknown,
}

impl Status {
    pub const ALL: [Self; 4] = [Self::Active, Self::Draining, Self::Gone, Self::Unknown];

    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }

    fn of(name: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|status| Some(status.name()) == name).unwrap_or(Self::Unknown)
    }

    fn set(self) -> Edit {
        Edit::Set { field: "status".into(), value: self.name().into() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// So much of each resource: `cpus`, `memory_mb`, and whatever else a fleet counts in whole numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resources(pub BTreeMap<String, u64>);

impl Resources {
    pub fn new(cpus: u64, memory_mb: u64) -> Self {
        Self([("cpus".to_owned(), cpus), ("memory_mb".to_owned(), memory_mb)].into())
    }

    pub fn get(&self, resource: &str) -> u64 {
        self.0.get(resource).copied().unwrap_or_default()
    }

    pub fn add(&mut self, more: &Self) {
        for (resource, amount) in &more.0 {
            let sum = self.0.entry(resource.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// What is left of each resource of these.
    fn less(&self, taken: &Self) -> Self {
        let left = |(resource, amount): (&String, &u64)| (resource.clone(), amount.saturating_sub(taken.get(resource)));
        Self(self.0.iter().map(left).collect())
    }

    /// How often `needs` goes into these; `None`: it needs nothing.
    fn fits(&self, needs: &Self) -> Option<u64> {
        needs.0.iter().filter_map(|(resource, need)| self.get(resource).checked_div(*need)).min()
    }

    fn check(&self) -> Result<(), WorkerError> {
        if self.0.len() > RESOURCES_MAX {
            return Err(WorkerError::TooMany { what: "resources", max: RESOURCES_MAX });
        }
        self.0.keys().try_for_each(|resource| check_name("a resource", resource))
    }
}

impl From<Size> for Resources {
    fn from(size: Size) -> Self {
        Self::new(size.cpus.into(), size.memory_mb)
    }
}

/// Labels that a worker must have, each with this value: `zone=eu,disk=ssd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Selector(pub BTreeMap<String, String>);

impl Selector {
    pub fn selects(&self, worker: &Worker) -> bool {
        self.0.iter().all(|(label, value)| worker.labels.get(label) == Some(value))
    }
}

impl FromStr for Selector {
    type Err = WorkerError;

    fn from_str(text: &str) -> Result<Self, WorkerError> {
        let mut labels = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (label, value) = pair.split_once('=').ok_or_else(|| WorkerError::Selector(shortened(pair)))?;
            let (label, value) = (label.trim().to_owned(), value.trim().to_owned());
            if labels.get(&label).is_some_and(|other| *other != value) {
                return Err(WorkerError::Selector(shortened(text)));
            }
            labels.insert(label, value);
        }
        match labels.len() > LABELS_MAX {
            true => Err(WorkerError::TooMany { what: "labels", max: LABELS_MAX }),
            false => Ok(Self(labels)),
        }
    }
}

/// What is said of a worker when it registers, or later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSpec {
    /// As a whole; absent: as it was.
    #[serde(default)]
    pub capacity: Option<Resources>,
    /// Those that are named; `None` takes one away.
    #[serde(default)]
    pub labels: BTreeMap<String, Option<String>>,
}

/// A worker as its document reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Worker {
    pub id: String,
    pub status: Status,
    /// Its heartbeat has not run out, by the clock of whoever reads.
    pub alive: bool,
    /// When it was last heard of, by its writer's clock.
    pub heartbeat_ms: Option<u64>,
    /// What it offers; empty where nobody declared it.
    pub capacity: Resources,
    pub labels: BTreeMap<String, String>,
    /// What it says to run.
    pub running_tasks: BTreeSet<String>,
    pub tasks_started: i64,
    pub tasks_finished: i64,
    /// The node on its host; `None`: a program that registered itself.
    pub node: Option<String>,
    /// Those of [`FIGURES`] that its node tells.
    pub figures: Map<String, Json>,
}

/// Why a change of a worker makes no sense. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    #[error("the name of {what} has 1 to {NAME_MAX} bytes and no control characters: `{name}`")]
    Name { what: &'static str, name: String },
    #[error("a worker has at most {max} {what}")]
    TooMany { what: &'static str, max: usize },
    #[error("`{0}` selects no labels: write name=value, and each name once, as in zone=eu,disk=ssd")]
    Selector(String),
    #[error("worker `{0}` has left: it registers when it comes back")]
    Gone(String),
}

impl Worker {
    /// What a document says. `alive`: it has a heartbeat that has not run out.
    pub fn of(id: &str, fields: &Map<String, Json>, alive: bool) -> Self {
        let integer = |field: &str| fields.get(field).and_then(Json::as_i64).unwrap_or_default();
        let labels = fields.get("labels").and_then(Json::as_object).into_iter().flatten();
        let running = fields.get("running_tasks").and_then(Json::as_array).into_iter().flatten();
        let figure = |name: &str| Some((name.to_owned(), fields.get(name)?.clone()));
        Self {
            id: id.to_owned(),
            status: Status::of(fields.get("status").and_then(Json::as_str)),
            alive,
            heartbeat_ms: fields.get("heartbeat").and_then(Json::as_u64),
            capacity: fields.get("capacity").and_then(|json| Resources::deserialize(json).ok()).unwrap_or_default(),
            labels: labels.filter_map(|(label, value)| Some((label.clone(), value.as_str()?.to_owned()))).collect(),
            running_tasks: running.filter_map(Json::as_str).map(str::to_owned).collect(),
            tasks_started: integer("tasks_started"),
            tasks_finished: integer("tasks_finished"),
            node: fields.get("node").and_then(Json::as_str).map(str::to_owned),
            figures: FIGURES.into_iter().filter_map(figure).collect(),
        }
    }

    /// It is there, and takes work.
    pub fn is_active(&self) -> bool {
        self.alive && self.status == Status::Active
    }

    /// Its status, and whether it is there, in a word: `silent` is one that should be and is not.
    pub fn state(&self) -> &'static str {
        match self.status {
            Status::Gone => Status::Gone.name(),
            _ if !self.alive => SILENT,
            status => status.name(),
        }
    }

    /// It is given nothing new from now on.
    pub fn drain(&self) -> Result<Vec<Edit>, WorkerError> {
        self.become_status(Status::Draining)
    }

    /// It takes work again.
    pub fn undrain(&self) -> Result<Vec<Edit>, WorkerError> {
        self.become_status(Status::Active)
    }

    fn become_status(&self, status: Status) -> Result<Vec<Edit>, WorkerError> {
        match self.status {
            Status::Gone => Err(WorkerError::Gone(self.id.clone())),
            now if now == status => Ok(Vec::new()),
            _ => Ok(vec![status.set()]),
        }
    }

    /// It is there. Where it tells what it runs, what is new has started and what is no more has finished.
    pub fn heartbeat(&self, running: Option<&BTreeSet<String>>, now_ms: u64) -> Result<Vec<Edit>, WorkerError> {
        if self.status == Status::Gone {
            return Err(WorkerError::Gone(self.id.clone()));
        }
        let mut edits = vec![beat(now_ms)];
        let Some(running) = running else { return Ok(edits) };
        if running.len() > RUNNING_MAX {
            return Err(WorkerError::TooMany { what: "running tasks", max: RUNNING_MAX });
        }
        running.iter().try_for_each(|task| check_name("a task", task))?;
        let of = |task: &String| ("running_tasks".to_owned(), Json::from(task.as_str()));
        let started: Vec<_> = running.difference(&self.running_tasks).map(of).collect();
        let finished: Vec<_> = self.running_tasks.difference(running).map(of).collect();
        let counts = [("tasks_started", started.len()), ("tasks_finished", finished.len())];
        edits.extend(started.into_iter().map(|(field, value)| Edit::Add { field, value }));
        edits.extend(finished.into_iter().map(|(field, value)| Edit::Remove { field, value }));
        let counts = counts.into_iter().filter(|(_, by)| *by > 0);
        edits.extend(counts.map(|(field, by)| Edit::Incr { field: field.into(), by: by as i64 }));
        Ok(edits)
    }
}

/// What a worker is called that is not heard of and did not leave.
pub const SILENT: &str = "silent";

/// What a fleet's workers are counted by.
pub const STATES: [&str; 5] = ["active", "draining", SILENT, "gone", "unknown"];

/// A worker comes, or comes back: it takes work, unless somebody drains it.
pub fn register(now: Option<&Worker>, spec: &WorkerSpec, now_ms: u64) -> Result<Vec<Edit>, WorkerError> {
    let mut edits = update(now, spec)?;
    edits.push(beat(now_ms));
    edits.extend(arrive(now));
    Ok(edits)
}

/// The status of a worker that comes, where it changes.
pub fn arrive(now: Option<&Worker>) -> Option<Edit> {
    let stays = now.is_some_and(|worker| matches!(worker.status, Status::Active | Status::Draining));
    (!stays).then(|| Status::Active.set())
}

/// Capacity and labels become what `spec` says; what it does not name stays.
pub fn update(now: Option<&Worker>, spec: &WorkerSpec) -> Result<Vec<Edit>, WorkerError> {
    let mut edits = Vec::new();
    if let Some(capacity) = &spec.capacity {
        capacity.check()?;
        edits.push(Edit::Set { field: "capacity".into(), value: json!(capacity) });
    }
    let mut labels: BTreeSet<&String> = now.into_iter().flat_map(|worker| worker.labels.keys()).collect();
    for (label, value) in &spec.labels {
        check_name("a label", label)?;
        let (field, key) = ("labels".to_owned(), label.clone());
        match value {
            Some(value) => {
                check_name("a label's value", value)?;
                labels.insert(label);
                edits.push(Edit::SetKey { field, key, value: value.as_str().into() });
            }
            None => {
                // What is not there needs no taking away.
                if labels.remove(label) {
                    edits.push(Edit::UnsetKey { field, key });
                }
            }
        }
    }
    match labels.len() > LABELS_MAX {
        true => Err(WorkerError::TooMany { what: "labels", max: LABELS_MAX }),
        false => Ok(edits),
    }
}

/// A worker leaves. What it ran stays named, for whoever gives it to another.
pub fn leave() -> Vec<Edit> {
    vec![Status::Gone.set()]
}

fn beat(now_ms: u64) -> Edit {
    Edit::Set { field: "heartbeat".into(), value: now_ms.into() }
}

/// What a piece of work asks of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    #[serde(default)]
    pub needs: Resources,
    #[serde(default)]
    pub labels: Selector,
}

/// A worker that could take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    pub worker: String,
    /// How often it would fit; `None` where nothing is needed.
    pub fits: Option<u64>,
    /// What is left of its capacity.
    pub free: Resources,
    /// How many tasks it says to run.
    pub running: usize,
}

/// The active workers that could take it, the one with the most room first: where it would fit most often, then where the
/// fewest tasks run, then in order of ids. `taken` is what is known to be in use, by worker. At most `limit`.
pub fn assign<'w>(
    workers: impl IntoIterator<Item = &'w Worker>,
    taken: &BTreeMap<String, Resources>,
    needs: &Needs,
    limit: usize,
) -> Result<Vec<Candidate>, WorkerError> {
    needs.needs.check()?;
    let none = Resources::default();
    let active = workers.into_iter().filter(|worker| worker.is_active() && needs.labels.selects(worker));
    let mut candidates: Vec<Candidate> = active
        .map(|worker| {
            let free = worker.capacity.less(taken.get(&worker.id).unwrap_or(&none));
            let fits = free.fits(&needs.needs);
            Candidate { worker: worker.id.clone(), fits, free, running: worker.running_tasks.len() }
        })
        .filter(|candidate| candidate.fits != Some(0))
        .collect();
    candidates.sort_by(|a, b| {
        let rank = |candidate: &Candidate| (Reverse(candidate.fits), candidate.running);
        rank(a).cmp(&rank(b)).then_with(|| a.worker.cmp(&b.worker))
    });
    candidates.truncate(limit);
    Ok(candidates)
}

fn check_name(what: &'static str, name: &str) -> Result<(), WorkerError> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(WorkerError::Name { what, name: shortened(name) }) }
}

fn shortened(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::builtin;

    fn worker(id: &str, fields: Json) -> Worker {
        Worker::of(id, fields.as_object().unwrap(), true)
    }

    fn offering(id: &str, cpus: u64, memory_mb: u64) -> Worker {
        worker(id, json!({ "status": "active", "capacity": { "cpus": cpus, "memory_mb": memory_mb } }))
    }

    fn ranked(workers: &[Worker], taken: &BTreeMap<String, Resources>, needs: Resources) -> Vec<String> {
        let needs = Needs { needs, ..Needs::default() };
        let ranked = assign(workers, taken, &needs, 10).unwrap();
        ranked.into_iter().map(|candidate| candidate.worker).collect()
    }

    #[test]
    fn every_field_of_a_worker_is_declared() {
        let schema = builtin(COLLECTION).unwrap();
        let more = ["status", "heartbeat", "capacity", "labels", "running_tasks", "tasks_started", "tasks_finished"];
        for name in FIGURES.into_iter().chain(more).chain(["node"]) {
            assert!(schema.field(name).is_some(), "{name}");
        }
        assert!(schema.field("heartbeat").unwrap().ttl_ms.is_some());
    }

    #[test]
    fn a_worker_that_registers_anew_stays_drained_and_one_that_left_is_back() {
        let spec = WorkerSpec { capacity: Some(Resources::new(4, 1024)), ..WorkerSpec::default() };
        let becomes = |status: &str| {
            let edits = register(Some(&worker("w", json!({ "status": status }))), &spec, 7).unwrap();
            edits.iter().any(|edit| *edit == Status::Active.set())
        };
        assert_eq!(["active", "draining", "gone", "resting"].map(becomes), [false, false, true, true]);
        assert_eq!(register(None, &spec, 7).unwrap().len(), 3, "capacity, heartbeat and status");
        assert_eq!(arrive(None), Some(Status::Active.set()));
    }

    #[test]
    fn one_that_left_is_neither_drained_nor_heard_until_it_registers() {
        let gone = worker("w", json!({ "status": "gone" }));
        let refused = Err(WorkerError::Gone("w".into()));
        assert_eq!(
            (gone.drain(), gone.undrain(), gone.heartbeat(None, 7)),
            (refused.clone(), refused.clone(), refused)
        );
        let draining = worker("w", json!({ "status": "draining" }));
        assert_eq!((draining.drain().unwrap(), draining.undrain().unwrap()), (vec![], vec![Status::Active.set()]));
        assert!(!draining.is_active() && !gone.is_active());
    }

    #[test]
    fn a_worker_without_a_heartbeat_is_silent_and_not_active() {
        let fields = json!({ "status": "active", "heartbeat": 5 });
        let silent = Worker::of("w", fields.as_object().unwrap(), false);
        assert_eq!((silent.state(), silent.is_active(), silent.heartbeat_ms), (SILENT, false, Some(5)));
        assert_eq!(worker("w", fields).state(), "active");
        let states =
            ["active", "draining", "gone", "resting"].map(|status| worker("w", json!({ "status": status })).state());
        assert!(states.iter().all(|state| STATES.contains(state)), "{states:?}");
    }

    #[test]
    fn what_a_heartbeat_names_anew_has_started_and_what_it_leaves_out_has_finished() {
        let worker = worker("w", json!({ "status": "active", "running_tasks": ["a", "b"] }));
        let edits = worker.heartbeat(Some(&["b".to_owned(), "c".to_owned()].into()), 9).unwrap();
        assert!(edits.contains(&Edit::Add { field: "running_tasks".into(), value: "c".into() }));
        assert!(edits.contains(&Edit::Remove { field: "running_tasks".into(), value: "a".into() }));
        assert!(edits.contains(&Edit::Incr { field: "tasks_started".into(), by: 1 }));
        assert_eq!(edits.len(), 5);
        assert_eq!(worker.heartbeat(Some(&worker.running_tasks), 9).unwrap(), [beat(9)]);
        let many = (0..=RUNNING_MAX).map(|n| n.to_string()).collect();
        assert!(matches!(worker.heartbeat(Some(&many), 9), Err(WorkerError::TooMany { .. })));
    }

    #[test]
    fn labels_are_set_and_taken_away_one_by_one_and_bounded() {
        let now = worker("w", json!({ "labels": { "zone": "eu", "disk": "ssd" } }));
        let labels = [("zone".to_owned(), None), ("gpu".to_owned(), Some("a".to_owned())), ("no".to_owned(), None)];
        let edits = update(Some(&now), &WorkerSpec { labels: labels.into(), ..WorkerSpec::default() }).unwrap();
        let taken = Edit::UnsetKey { field: "labels".into(), key: "zone".into() };
        assert_eq!(edits, [Edit::SetKey { field: "labels".into(), key: "gpu".into(), value: "a".into() }, taken]);
        let many = (0..LABELS_MAX).map(|n| (n.to_string(), Some("x".to_owned()))).collect();
        let refused = update(Some(&now), &WorkerSpec { labels: many, ..WorkerSpec::default() });
        assert_eq!(refused, Err(WorkerError::TooMany { what: "labels", max: LABELS_MAX }));
        let nameless = [(String::new(), Some("x".to_owned()))].into();
        assert!(update(None, &WorkerSpec { labels: nameless, ..WorkerSpec::default() }).is_err());
    }

    #[test]
    fn a_selector_names_labels_and_their_values() {
        let eu = worker("w", json!({ "labels": { "zone": "eu", "disk": "ssd" } }));
        let selects = |text: &str| text.parse::<Selector>().unwrap().selects(&eu);
        assert!(selects("") && selects("zone=eu") && selects("zone=eu,disk=ssd"));
        assert!(!selects("zone=us") && !selects("zone=eu,gpu=a"));
        assert!("zone".parse::<Selector>().is_err());
        assert!("zone=eu,zone=us".parse::<Selector>().is_err());
    }

    #[test]
    fn the_worker_with_the_most_room_is_first_and_equals_go_by_their_ids() {
        let fleet = [offering("oak", 8, 4096), offering("ash", 8, 4096), offering("elm", 2, 65_536)];
        assert_eq!(ranked(&fleet, &BTreeMap::new(), Resources::new(1, 1024)), ["ash", "oak", "elm"]);
        assert_eq!(ranked(&fleet, &BTreeMap::new(), Resources::new(1, 4096)), ["elm", "ash", "oak"]);
        // What is in use counts, and one without room is left out.
        let taken = [("ash".to_owned(), Resources::new(6, 0))].into();
        assert_eq!(ranked(&fleet, &taken, Resources::new(1, 1024)), ["oak", "ash", "elm"]);
        assert_eq!(ranked(&fleet, &taken, Resources::new(4, 1024)), ["oak"]);
        let backwards: Vec<Worker> = fleet.iter().rev().cloned().collect();
        assert_eq!(ranked(&backwards, &taken, Resources::new(1, 1024)), ["oak", "ash", "elm"]);
    }

    #[test]
    fn work_goes_to_active_workers_that_have_what_it_needs() {
        let mut fleet = [offering("ash", 8, 4096), offering("oak", 8, 4096), offering("elm", 8, 4096)];
        fleet[0].status = Status::Draining;
        fleet[1].alive = false;
        assert_eq!(ranked(&fleet, &BTreeMap::new(), Resources::new(1, 1)), ["elm"]);
        assert_eq!(ranked(&fleet, &BTreeMap::new(), Resources([("gpus".to_owned(), 1)].into())), [""; 0]);
        // What needs nothing goes to whoever runs the least.
        let idle = worker("yew", json!({ "status": "active" }));
        let busy = worker("box", json!({ "status": "active", "running_tasks": ["a"] }));
        assert_eq!(ranked(&[busy, idle], &BTreeMap::new(), Resources::default()), ["yew", "box"]);
        let needs = Needs { labels: "zone=eu".parse().unwrap(), ..Needs::default() };
        assert_eq!(assign(&fleet, &BTreeMap::new(), &needs, 10).unwrap(), []);
        assert_eq!(assign(&fleet, &BTreeMap::new(), &Needs::default(), 0).unwrap(), []);
    }
}
