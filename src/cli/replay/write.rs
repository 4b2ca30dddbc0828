//! What each event writes. Every document has one writer, its lane, so the order of its writes is the plan's.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::cli::replay::plan::{Change, Event, Plan};
use crate::cli::replay::trace::{Task, Worker};

/// A document of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// An index into the plan's workers.
    Worker(usize),
    /// An index into the plan's tasks.
    Task(usize),
}

/// One write to one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub target: Target,
    pub body: Body,
    /// How many events it stands for: patches of one document are joined.
    pub events: u64,
    pub tally: Tally,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Put(Map<String, Value>),
    Patch(Vec<Value>),
}

/// What a worker's counters say, or by how much a write moves them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub started: u64,
    pub finished: u64,
}

impl Tally {
    pub fn plus(self, other: Self) -> Self {
        Self { started: self.started + other.started, finished: self.finished + other.finished }
    }

    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl Write {
    fn new(target: Target, body: Body) -> Self {
        Self { target, body, events: 1, tally: Tally::default() }
    }

    pub fn worker(index: usize, worker: &Worker) -> Self {
        let mut fields = Map::from_iter([
            (String::from("cpu_milli"), json!(worker.cpu_milli)),
            (String::from("memory_mib"), json!(worker.memory_mib)),
            (String::from("gpus"), json!(worker.gpus)),
        ]);
        fields.extend(worker.gpu_model.iter().map(|model| (String::from("gpu_model"), json!(model))));
        Self::new(Target::Worker(index), Body::Put(fields))
    }

    /// The writes of one event: the task's, and the worker's where one is touched.
    pub fn of(event: &Event, plan: &Plan) -> Vec<Self> {
        let task = &plan.tasks[event.task];
        let target = Target::Task(event.task);
        let on_task = |operations: Vec<Value>| Self::new(target, Body::Patch(operations));
        let on_worker = |worker: usize, counter: &str, verb: &str, tally: Tally| Self {
            tally,
            events: 0,
            ..Self::new(
                Target::Worker(worker),
                Body::Patch(vec![
                    json!({ "field": counter, "incr": 1 }),
                    json!({ "field": "running_tasks", verb: task.id }),
                ]),
            )
        };
        match event.change {
            Change::Created => vec![Self::new(target, Body::Put(created(task)))],
            Change::Placed(worker) => vec![
                on_task(vec![
                    set("state", json!("running")),
                    set("worker", json!(plan.workers[worker].id)),
                    set("scheduled_at", json!(event.at)),
                ]),
                on_worker(worker, "tasks_started", "add", Tally { started: 1, finished: 0 }),
            ],
            Change::Unplaceable => {
                vec![on_task(vec![set("state", json!("unplaceable")), set("scheduled_at", json!(event.at))])]
            }
            Change::Deleted(worker) => {
                let mut operations = vec![set("state", json!("deleted")), set("deleted_at", json!(event.at))];
                operations.extend(task.phase.iter().map(|phase| set("phase", json!(phase))));
                let ended = Tally { started: 0, finished: 1 };
                let worker = worker.map(|worker| on_worker(worker, "tasks_finished", "remove", ended));
                std::iter::once(on_task(operations)).chain(worker).collect()
            }
        }
    }

    /// As an element of a `/v1/batch`.
    pub fn to_json(&self, plan: &Plan) -> Value {
        let (collection, id) = name(self.target, plan);
        match &self.body {
            Body::Put(fields) => json!({ "op": "put", "collection": collection, "id": id, "fields": fields }),
            Body::Patch(operations) => json!({ "op": "patch", "collection": collection, "id": id, "ops": operations }),
        }
    }
}

/// The collection and id of a document.
pub fn name(target: Target, plan: &Plan) -> (&'static str, &str) {
    match target {
        Target::Worker(index) => ("workers", &plan.workers[index].id),
        Target::Task(index) => ("pods", &plan.tasks[index].id),
    }
}

fn created(task: &Task) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        (String::from("state"), json!("pending")),
        (String::from("cpu_milli"), json!(task.cpu_milli)),
        (String::from("memory_mib"), json!(task.memory_mib)),
        (String::from("gpus"), json!(task.gpus)),
        (String::from("gpu_milli"), json!(task.gpu_milli)),
        (String::from("created_at"), json!(task.created)),
    ]);
    fields.extend(task.qos.iter().map(|qos| (String::from("qos"), json!(qos))));
    fields
}

fn set(field: &str, value: Value) -> Value {
    json!({ "field": field, "set": value })
}

/// Takes the next batch out of what waits, the oldest first.
///
/// A document stands in a batch once: its later patches are joined to the first; what cannot be joined waits, and all
/// later writes of that document wait behind it.
pub fn cut(waiting: &mut Vec<Write>, writes_max: usize) -> Vec<Write> {
    let mut batch: Vec<Write> = Vec::new();
    let mut at: BTreeMap<Target, Option<usize>> = BTreeMap::new();
    let mut left = Vec::new();
    for write in waiting.drain(..) {
        match at.get(&write.target).copied() {
            None if batch.len() < writes_max => {
                at.insert(write.target, Some(batch.len()));
                batch.push(write);
            }
            Some(Some(index)) if join(&mut batch[index], &write) => {}
            _ => {
                at.insert(write.target, None);
                left.push(write);
            }
        }
    }
    *waiting = left;
    batch
}

fn join(first: &mut Write, later: &Write) -> bool {
    let (Body::Patch(operations), Body::Patch(more)) = (&mut first.body, &later.body) else { return false };
    operations.extend(more.iter().cloned());
    first.events += later.events;
    first.tally = first.tally.plus(later.tally);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(target: Target) -> Write {
        Write::new(target, Body::Put(Map::new()))
    }

    fn patch(target: Target, n: u64) -> Write {
        Write::new(target, Body::Patch(vec![json!(n)]))
    }

    #[test]
    fn a_documents_writes_keep_their_order_over_batches() {
        let (a, b) = (Target::Task(0), Target::Task(1));
        let mut waiting = vec![put(a), patch(a, 1), patch(b, 2), patch(a, 3), patch(b, 4)];
        let first = cut(&mut waiting, 10);
        assert_eq!(first.len(), 2);
        assert_eq!(first[0], put(a));
        assert_eq!(first[1].body, Body::Patch(vec![json!(2), json!(4)]));
        assert_eq!(first[1].events, 2);
        let second = cut(&mut waiting, 10);
        assert_eq!(second[0].body, Body::Patch(vec![json!(1), json!(3)]));
        assert!(waiting.is_empty() && cut(&mut waiting, 10).is_empty());
    }

    #[test]
    fn a_put_behind_a_patch_holds_back_what_follows_it() {
        let a = Target::Task(0);
        let mut waiting = vec![patch(a, 1), put(a), patch(a, 2)];
        assert_eq!(cut(&mut waiting, 10), [patch(a, 1)]);
        assert_eq!(cut(&mut waiting, 10), [put(a)]);
        assert_eq!(cut(&mut waiting, 10), [patch(a, 2)]);
    }

    #[test]
    fn a_full_batch_leaves_the_rest_in_order() {
        let mut waiting: Vec<Write> = (0..5).map(|n| patch(Target::Task(n), 0)).collect();
        waiting.push(patch(Target::Task(4), 1));
        assert_eq!(cut(&mut waiting, 3).len(), 3);
        assert_eq!(cut(&mut waiting, 3)[1].body, Body::Patch(vec![json!(0), json!(1)]));
    }

    #[test]
    fn a_task_that_runs_moves_its_workers_counters() {
        let worker = Worker { id: "w".into(), cpu_milli: 1, memory_mib: 1, gpus: 0, gpu_model: None };
        let task = Task {
            id: "t".into(),
            cpu_milli: 1,
            memory_mib: 1,
            gpus: 0,
            gpu_milli: 0,
            created: 0,
            scheduled: Some(1),
            deleted: Some(2),
            qos: None,
            phase: Some("Failed".into()),
        };
        let plan = Plan::new(vec![worker], vec![task]);
        let writes: Vec<Write> = plan.events.iter().flat_map(|event| Write::of(event, &plan)).collect();
        assert_eq!(writes.len(), 5);
        let tally = writes.iter().fold(Tally::default(), |sum, write| sum.plus(write.tally));
        assert_eq!(tally, Tally { started: 1, finished: 1 });
        assert_eq!(writes.iter().map(|write| write.events).sum::<u64>(), 3);
        assert_eq!(
            writes[2].to_json(&plan),
            json!({ "op": "patch", "collection": "workers", "id": "w",
                    "ops": [{ "field": "tasks_started", "incr": 1 }, { "field": "running_tasks", "add": "t" }] })
        );
    }
}
