//! The hosts: as few of the trace's as make placement tight, and what each task needs of them.
//!
//! A fleet scaled down host by host until its memory is what the tasks ask for would have no host that holds a single
//! task. So a few hosts of the trace stand for all: one of each size, the largest first, all scaled by one factor, such that
//! together they have a given share of the most that the trace's tasks ever held at once. Of as many as were asked for, so
//! many are taken as leave the largest host room for the largest task.

use std::collections::{BTreeMap, VecDeque};

use crate::cli::replay::plan::{Change, Plan};
use crate::cli::replay::trace::{Task, Worker};

/// A host and how much memory it is left with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub id: String,
    pub limit_mib: u64,
}

#[derive(Debug, Clone)]
pub struct Crew {
    pub hosts: Vec<Host>,
    /// The most memory that the trace's tasks held at once.
    pub peak_mib: u64,
    /// Of a task that runs.
    pub mean_mib: u64,
    /// By what the memory of each host of the trace was multiplied.
    pub factor: f64,
}

impl Crew {
    /// At most `hosts_max` hosts with `percent` of the peak together. `None`: there is no host, or nothing ever ran.
    pub fn new(plan: &Plan, percent: u64, hosts_max: usize) -> Option<Self> {
        let peak_mib = peak_mib(plan);
        let needs: Vec<u64> = plan.tasks.iter().filter(|task| task.scheduled.is_some()).map(need_mib).collect();
        let (largest, mean_mib) = (*needs.iter().max()?, needs.iter().sum::<u64>() / needs.len() as u64);
        let mut chosen = one_of_each_size(&plan.workers, hosts_max);
        let total = |chosen: &[&Worker]| chosen.iter().map(|host| host.memory_mib).sum::<u64>();
        let scaled = |host: &Worker, total: u64| {
            let share = u128::from(host.memory_mib) * u128::from(peak_mib) * u128::from(percent);
            u64::try_from(share / (u128::from(total.max(1)) * 100)).unwrap_or(u64::MAX)
        };
        while chosen.len() > 1 && scaled(chosen[0], total(&chosen)) < largest {
            chosen.pop();
        }
        let total = total(&chosen);
        let factor = peak_mib as f64 * percent as f64 / 100.0 / total.max(1) as f64;
        let host = |host: &&Worker| Host { id: host.id.clone(), limit_mib: scaled(host, total) };
        let hosts: Vec<Host> = chosen.iter().map(host).collect();
        hosts.iter().any(|host| host.limit_mib > 0).then_some(Self { hosts, peak_mib, mean_mib, factor })
    }

    pub fn total_mib(&self) -> u64 {
        self.hosts.iter().map(|host| host.limit_mib).sum()
    }

    /// Where somebody goes who has yet to learn what it is to do: the fullest host that has room for a task as tasks are, so
    /// that the large ones find room elsewhere; else the one with the most room.
    pub fn fullest(&self, free: &[u64]) -> usize {
        let roomy = (0..self.hosts.len()).filter(|host| free[*host] >= self.mean_mib).min_by_key(|host| free[*host]);
        roomy.or_else(|| (0..self.hosts.len()).max_by_key(|host| free[*host])).unwrap_or_default()
    }

    /// Where a task of this size goes: the fullest host that has room for it; else, of those that ever have, the emptiest.
    pub fn best(&self, free: &[u64], need_mib: u64) -> usize {
        let roomy = (0..self.hosts.len()).filter(|host| free[*host] >= need_mib).min_by_key(|host| free[*host]);
        let large = (0..self.hosts.len()).filter(|host| self.hosts[*host].limit_mib >= need_mib);
        roomy.or_else(|| large.max_by_key(|host| free[*host])).unwrap_or_default()
    }

    /// No host ever has so much.
    pub fn is_too_large(&self, task: &Task) -> bool {
        self.hosts.iter().all(|host| host.limit_mib < need_mib(task))
    }
}

/// Room is taken for something: a task that names no memory counts as the least.
pub fn need_mib(task: &Task) -> u64 {
    task.memory_mib.max(1)
}

/// In the order of sizes, the largest first; where more are wanted than there are sizes, again from the largest.
fn one_of_each_size(workers: &[Worker], most: usize) -> Vec<&Worker> {
    let mut sizes: BTreeMap<u64, VecDeque<&Worker>> = BTreeMap::new();
    for worker in workers {
        sizes.entry(worker.memory_mib).or_default().push_back(worker);
    }
    let mut chosen = Vec::new();
    while chosen.len() < most.min(workers.len()) {
        chosen.extend(sizes.values_mut().rev().filter_map(VecDeque::pop_front));
    }
    chosen.truncate(most);
    chosen.sort_by(|a, b| (b.memory_mib, &a.id).cmp(&(a.memory_mib, &b.id)));
    chosen
}

/// At one instant, what ends ends before what starts: the plan's order.
fn peak_mib(plan: &Plan) -> u64 {
    let (mut held, mut peak) = (0, 0);
    for event in &plan.events {
        let task = &plan.tasks[event.task];
        match event.change {
            Change::Placed(_) | Change::Unplaceable => held += need_mib(task),
            Change::Deleted(_) if task.scheduled.is_some() => held -= need_mib(task),
            Change::Created | Change::Deleted(_) => {}
        }
        peak = peak.max(held);
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str, memory_mib: u64) -> Worker {
        Worker { id: id.to_owned(), cpu_milli: 1, memory_mib, gpus: 0, gpu_model: None }
    }

    fn task(id: &str, memory_mib: u64, scheduled: Option<u64>, deleted: u64) -> Task {
        Task {
            id: id.to_owned(),
            cpu_milli: 1,
            memory_mib,
            gpus: 0,
            gpu_milli: 0,
            created: 0,
            scheduled,
            deleted: Some(deleted),
            qos: None,
            phase: None,
        }
    }

    fn plan(tasks: Vec<Task>) -> Plan {
        let workers = vec![worker("a", 100), worker("b", 400), worker("c", 400), worker("d", 200), worker("e", 200)];
        Plan::new(workers, tasks)
    }

    fn hosts(crew: &Crew) -> Vec<(&str, u64)> {
        crew.hosts.iter().map(|host| (host.id.as_str(), host.limit_mib)).collect()
    }

    #[test]
    fn the_peak_is_what_ran_at_once() {
        let tasks = vec![task("x", 30, Some(1), 5), task("y", 50, Some(5), 9), task("z", 900, None, 9)];
        assert_eq!(peak_mib(&plan(tasks)), 50, "x ends before y starts, and z never does");
    }

    #[test]
    fn hosts_of_each_size_share_what_is_asked_for() {
        let tasks = vec![task("x", 30, Some(1), 5), task("y", 40, Some(2), 9)];
        let crew = Crew::new(&plan(tasks.clone()), 200, 3).unwrap();
        assert_eq!(hosts(&crew), [("b", 80), ("d", 40), ("a", 20)]);
        assert_eq!((crew.peak_mib, crew.total_mib(), crew.is_too_large(&tasks[1])), (70, 140, false));
        let crew = Crew::new(&plan(tasks), 200, 4).unwrap();
        assert_eq!(hosts(&crew), [("b", 50), ("c", 50), ("d", 25), ("a", 12)], "again from the largest");
    }

    #[test]
    fn the_fullest_host_that_has_room_is_taken_first() {
        let tasks = vec![task("x", 30, Some(1), 5), task("y", 40, Some(2), 9)];
        let crew = Crew::new(&plan(tasks), 200, 3).unwrap();
        assert_eq!(crew.mean_mib, 35);
        assert_eq!((crew.fullest(&[80, 40, 20]), crew.fullest(&[34, 30, 20])), (1, 0));
        assert_eq!((crew.best(&[60, 40, 20], 20), crew.best(&[60, 40, 20], 50)), (2, 0));
        assert_eq!(crew.best(&[10, 40, 20], 50), 0, "no other ever has room");
    }

    #[test]
    fn so_few_hosts_are_taken_that_the_largest_task_fits() {
        let tasks = vec![task("x", 60, Some(1), 5), task("y", 20, Some(2), 9)];
        let crew = Crew::new(&plan(tasks.clone()), 100, 3).unwrap();
        assert_eq!(hosts(&crew), [("b", 80)]);
        let crew = Crew::new(&plan(tasks.clone()), 50, 3).unwrap();
        assert_eq!((hosts(&crew), crew.is_too_large(&tasks[0])), (vec![("b", 40)], true));
        assert!(Crew::new(&plan(vec![]), 100, 3).is_none());
    }
}
