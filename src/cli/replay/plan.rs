//! From rows to writes in time order: which worker each task runs on, and what happens when.
//!
//! The trace names no machine per task. The rule: at its scheduling time a task goes to the first worker, in the order
//! of ids, with enough free cpu and memory and with as many GPUs as it takes, each with enough of it free (a task with
//! half a GPU cannot have two quarters). A task that fits nowhere then is *unplaceable*. A deletion frees what the
//! task held; at one instant, what ends ends before what starts.

use crate::cli::replay::trace::{Task, Worker};

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Created,
    /// Runs on this worker, an index into the plan's workers.
    Placed(usize),
    /// Should have been scheduled and fitted nowhere.
    Unplaceable,
    /// Ended; on this worker if it ran.
    Deleted(Option<usize>),
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub at: u64,
    /// An index into the plan's tasks.
    pub task: usize,
    pub change: Change,
}

/// What is to be written, in time order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In the order of ids.
    pub workers: Vec<Worker>,
    pub tasks: Vec<Task>,
    pub events: Vec<Event>,
    pub counts: Counts,
}

/// How many of each the trace holds. What the nodes hold at the end must say the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    pub workers: u64,
    pub tasks: u64,
    /// Tasks with a scheduling time; some may be unplaceable.
    pub scheduled: u64,
    pub never_scheduled: u64,
    pub deleted: u64,
    pub unplaceable: u64,
    /// Tasks that ran and were deleted.
    pub finished: u64,
}

/// What is free on one worker.
struct Free {
    cpu_milli: u64,
    memory_mib: u64,
    /// Thousandths of each GPU.
    gpus: Vec<u64>,
}

/// What a task holds: a worker and the GPUs on it.
struct Held {
    worker: usize,
    gpus: Vec<usize>,
}

const GPU_WHOLE_MILLI: u64 = 1_000;

impl Plan {
    pub fn new(mut workers: Vec<Worker>, tasks: Vec<Task>) -> Self {
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        let mut free: Vec<Free> = workers.iter().map(Free::whole).collect();
        let mut held: Vec<Option<Held>> = tasks.iter().map(|_| None).collect();
        let mut counts = Counts { workers: workers.len() as u64, tasks: tasks.len() as u64, ..Counts::default() };
        let mut events = Vec::new();
        for (at, step, task) in steps(&tasks) {
            let change = match step {
                Step::Create => Change::Created,
                Step::Schedule => {
                    counts.scheduled += 1;
                    held[task] = place(&mut free, &tasks[task]);
                    match &held[task] {
                        Some(held) => Change::Placed(held.worker),
                        None => Change::Unplaceable,
                    }
                }
                Step::EndEarlier | Step::EndAtOnce => {
                    counts.deleted += 1;
                    let held = held[task].take();
                    if let Some(held) = &held {
                        counts.finished += 1;
                        free[held.worker].release(&tasks[task], &held.gpus);
                    }
                    Change::Deleted(held.map(|held| held.worker))
                }
            };
            counts.unplaceable += u64::from(change == Change::Unplaceable);
            events.push(Event { at, task, change });
        }
        counts.never_scheduled = counts.tasks - counts.scheduled;
        Self { workers, tasks, events, counts }
    }
}

/// The order of what happens at one instant. A task that starts and ends at once must still start first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Create,
    EndEarlier,
    Schedule,
    EndAtOnce,
}

fn steps(tasks: &[Task]) -> Vec<(u64, Step, usize)> {
    let mut steps = Vec::with_capacity(tasks.len() * 3);
    for (index, task) in tasks.iter().enumerate() {
        steps.push((task.created, Step::Create, index));
        steps.extend(task.scheduled.map(|at| (at, Step::Schedule, index)));
        steps.extend(task.deleted.map(|at| match task.scheduled == Some(at) {
            true => (at, Step::EndAtOnce, index),
            false => (at, Step::EndEarlier, index),
        }));
    }
    steps.sort_unstable();
    steps
}

fn place(free: &mut [Free], task: &Task) -> Option<Held> {
    free.iter_mut().enumerate().find_map(|(worker, free)| Some(Held { worker, gpus: free.take(task)? }))
}

impl Free {
    fn whole(worker: &Worker) -> Self {
        let gpus = (0..worker.gpus).map(|_| GPU_WHOLE_MILLI).collect();
        Self { cpu_milli: worker.cpu_milli, memory_mib: worker.memory_mib, gpus }
    }

    /// Takes what the task needs, the lowest GPUs first, or takes nothing.
    fn take(&mut self, task: &Task) -> Option<Vec<usize>> {
        let wanted = usize::try_from(task.gpus).ok()?;
        let fitting = self.gpus.iter().enumerate().filter(|(_, free)| **free >= task.gpu_milli);
        let gpus: Vec<usize> = fitting.map(|(gpu, _)| gpu).take(wanted).collect();
        if task.cpu_milli > self.cpu_milli || task.memory_mib > self.memory_mib || gpus.len() < wanted {
            return None;
        }
        self.cpu_milli -= task.cpu_milli;
        self.memory_mib -= task.memory_mib;
        for gpu in &gpus {
            self.gpus[*gpu] -= task.gpu_milli;
        }
        Some(gpus)
    }

    fn release(&mut self, task: &Task, gpus: &[usize]) {
        self.cpu_milli += task.cpu_milli;
        self.memory_mib += task.memory_mib;
        for gpu in gpus {
            self.gpus[*gpu] += task.gpu_milli;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str, cpu_milli: u64, gpus: u64) -> Worker {
        Worker { id: id.to_owned(), cpu_milli, memory_mib: 1_000, gpus, gpu_model: None }
    }

    fn task(id: &str, cpu_milli: u64, created: u64, scheduled: Option<u64>, deleted: Option<u64>) -> Task {
        Task {
            id: id.to_owned(),
            cpu_milli,
            memory_mib: 10,
            gpus: 0,
            gpu_milli: 0,
            created,
            scheduled,
            deleted,
            qos: None,
            phase: None,
        }
    }

    fn with_gpus(task: Task, gpus: u64, gpu_milli: u64) -> Task {
        Task { gpus, gpu_milli, ..task }
    }

    fn changes(plan: &Plan) -> Vec<(u64, &str, Change)> {
        plan.events.iter().map(|event| (event.at, plan.tasks[event.task].id.as_str(), event.change)).collect()
    }

    #[test]
    fn a_task_goes_to_the_first_worker_in_id_order_that_has_room() {
        let tasks = vec![task("a", 600, 0, Some(1), None), task("b", 600, 0, Some(2), None)];
        let plan = Plan::new(vec![worker("w2", 1_000, 0), worker("w1", 1_000, 0)], tasks);
        assert_eq!(plan.workers[0].id, "w1");
        let placed: Vec<Change> = plan.events.iter().skip(2).map(|event| event.change).collect();
        assert_eq!(placed, [Change::Placed(0), Change::Placed(1)]);
    }

    #[test]
    fn a_task_that_fits_nowhere_is_told_and_a_deletion_makes_room() {
        let tasks = vec![
            task("a", 800, 0, Some(1), Some(5)),
            task("b", 800, 0, Some(2), Some(9)),
            task("c", 800, 0, Some(5), None),
        ];
        let plan = Plan::new(vec![worker("w", 1_000, 0)], tasks);
        assert_eq!(
            changes(&plan)[3..],
            [
                (1, "a", Change::Placed(0)),
                (2, "b", Change::Unplaceable),
                (5, "a", Change::Deleted(Some(0))),
                (5, "c", Change::Placed(0)),
                (9, "b", Change::Deleted(None)),
            ]
        );
        let counts = plan.counts;
        assert_eq!((counts.scheduled, counts.unplaceable, counts.deleted, counts.finished), (3, 1, 2, 1));
    }

    #[test]
    fn a_task_that_ends_when_it_starts_still_starts_first() {
        let plan = Plan::new(vec![worker("w", 1_000, 0)], vec![task("a", 1, 3, Some(3), Some(3))]);
        assert_eq!(
            changes(&plan),
            [(3, "a", Change::Created), (3, "a", Change::Placed(0)), (3, "a", Change::Deleted(Some(0)))]
        );
    }

    #[test]
    fn a_task_never_scheduled_takes_nothing() {
        let plan =
            Plan::new(vec![worker("w", 10, 0)], vec![task("a", 10, 0, None, Some(4)), task("b", 10, 0, None, None)]);
        assert_eq!(plan.counts.never_scheduled, 2);
        assert_eq!((plan.counts.deleted, plan.counts.finished), (1, 0));
        assert_eq!(changes(&plan).last(), Some(&(4, "a", Change::Deleted(None))));
    }

    #[test]
    fn a_share_of_a_gpu_comes_from_one_gpu() {
        let half = |id: &str, at| with_gpus(task(id, 1, 0, Some(at), None), 1, 600);
        let plan = Plan::new(vec![worker("w", 1_000, 2)], vec![half("a", 1), half("b", 2), half("c", 3)]);
        let placed: Vec<Change> = plan.events.iter().skip(3).map(|event| event.change).collect();
        // 800 thousandths are free for c, but 400 on each of two.
        assert_eq!(placed, [Change::Placed(0), Change::Placed(0), Change::Unplaceable]);
    }

    #[test]
    fn whole_gpus_are_taken_together_and_given_back() {
        let two = |id: &str, at, end| with_gpus(task(id, 1, 0, Some(at), end), 2, 1_000);
        let plan =
            Plan::new(vec![worker("w", 1_000, 3)], vec![two("a", 1, Some(3)), two("b", 2, None), two("c", 4, None)]);
        let placed: Vec<Change> = plan.events.iter().skip(3).map(|event| event.change).collect();
        assert_eq!(placed, [Change::Placed(0), Change::Unplaceable, Change::Deleted(Some(0)), Change::Placed(0)]);
    }
}
