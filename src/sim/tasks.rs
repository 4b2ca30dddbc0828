//! Clients that make tasks, and workers that do them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::chance::Chance;
use super::oracle::decisions::{Asked, History};
use super::oracle::fence::Resources;
use super::oracle::tasks::{check_ends, check_transitions, state};
use super::oracle::wrong;
use super::probe::Probe;
use super::trace::What;
use super::workload::Transaction;
use super::world::World;
use crate::document::Address;
use crate::document::plan::Write;
use crate::domain::tasks::{COLLECTION, Ended, Task, TaskError, TaskSpec, TaskState};
use crate::engine::ballot::lock::RequestId;
use crate::engine::ballot::{AskError, AskId, Decision, FieldsOutcome, FieldsVerdict, Outcome, Take, Told};

/// Tasks of one run.
const TASKS_MAX: usize = 24;
/// Once everything is healed, all tasks end within so long, µs: leases of one and a half second, backoffs, and asking.
const END_US: u64 = 60_000_000;

#[derive(Debug)]
pub struct Tasks {
    chance: Chance,
    made: usize,
    /// What workers believe to have, and under which token.
    claims: BTreeMap<(usize, String), u64>,
    /// By host, its life, and what the node calls it.
    asked: BTreeMap<(usize, u64, AskId), Errand>,
    requests: u128,
    resources: Resources,
    pub history: History,
}

#[derive(Debug)]
struct Errand {
    client: usize,
    asked: Asked,
    /// The token under which the worker lets go of it.
    ends: Option<u64>,
}

fn name(task: usize) -> String {
    format!("{COLLECTION}/t{task}")
}

impl Tasks {
    pub fn new(seed: u64) -> Self {
        Self {
            chance: Chance::of(seed, "tasks"),
            made: 0,
            claims: BTreeMap::new(),
            asked: BTreeMap::new(),
            requests: 0,
            resources: Resources::of("tasks"),
            history: History::default(),
        }
    }

    fn take(&mut self, holder: String) -> Take {
        self.requests += 1;
        let request = RequestId(self.requests);
        Take { holder, lease: Duration::from_millis(self.chance.between(100, 1_500)), request }
    }

    fn new_task(&mut self, now_ms: u64) -> Option<(Address, Write)> {
        let spec = TaskSpec {
            payload: json!(self.made),
            max_attempts: self.chance.between(1, 4) as u32,
            backoff_ms: self.chance.between(0, 300),
            ..TaskSpec::default()
        };
        let made = (Address::parse(&name(self.made)).ok()?, Write::Put(spec.fields(now_ms).ok()?));
        self.made += 1;
        Some(made)
    }

    /// How a worker's time with a task ends.
    fn end(&mut self, cancel: bool) -> Ended {
        match self.chance.below(10) {
            _ if cancel => Ended::Cancelled,
            0..6 => Ended::Done { result: json!(self.requests as u64) },
            6..9 => Ended::Failed { error: "no luck".to_owned(), retry: self.chance.happens(0.8) },
            _ => Ended::GivenBack,
        }
    }
}

impl World {
    /// A client makes a task, or asks for something about one.
    pub(super) fn worker_acts(&mut self, home: usize, client: usize, transaction: &mut Transaction) {
        let now_ms = self.now(home).wall_ms;
        let tasks = &mut self.tasks;
        if tasks.made == 0 || tasks.made < TASKS_MAX && tasks.chance.happens(0.15) {
            transaction.writes.extend(tasks.new_task(now_ms));
            return;
        }
        let at = name(tasks.chance.index(tasks.made));
        let Some(task) = self.task_at(home, &at) else { return };
        let held = self.tasks.claims.get(&(client, at.clone())).copied();
        let chance = &mut self.tasks.chance;
        if let Some(token) = held {
            if chance.happens(0.3) {
                let overtaken = self.tasks.resources.write(&at, token);
                self.probes.reached_if(Probe::TaskLost, overtaken);
                return;
            }
            let begins = chance.happens(0.3);
            let end = self.tasks.end(task.cancel);
            let planned = if begins { task.start(token) } else { task.end(token, &end, now_ms) };
            let ends = (!begins).then_some(token);
            // What this node has not heard of yet is decided all the same, where the token is right.
            let planned = planned.or_else(|_| task.end(token, &end, now_ms));
            return self.have_task_decided(home, client, &at, planned, ends);
        }
        if chance.happens(0.1) {
            let edit = Write::Edits(vec![Task::ask_to_cancel()]);
            let wanted = task.state.may_become(TaskState::Cancelled) && chance.happens(0.3);
            transaction.writes.extend(Address::parse(&at).ok().filter(|_| wanted).map(|address| (address, edit)));
            return;
        }
        let planned = match task.state {
            TaskState::Pending if task.cancel => task.cancel(),
            TaskState::Pending => task.claim(self.tasks.take(format!("client-{client}")), now_ms),
            TaskState::Failed => task.retry(),
            // As a voter does that watched a lease run out; in vain while it did not.
            TaskState::Claimed | TaskState::Running => task.lapse(self.tasks.take(format!("voter-{home}"))),
            TaskState::Done | TaskState::Cancelled => return,
        };
        self.have_task_decided(home, client, &at, planned, None);
    }

    fn task_at(&self, host: usize, at: &str) -> Option<Task> {
        let view = self.hosts[host].replica()?.view(at)?;
        Some(Task::of(at, &view.fields, Vec::new()))
    }

    fn have_task_decided(
        &mut self,
        home: usize,
        client: usize,
        at: &str,
        planned: Result<Decision, TaskError>,
        ends: Option<u64>,
    ) {
        self.tasks.requests += 1;
        let request = RequestId(self.tasks.requests);
        let Some(replica) = self.hosts[home].replica() else { return };
        let schema = replica.schema(COLLECTION).0;
        let Some(change) = planned.ok().and_then(|decision| decision.change(request, schema).ok()) else { return };
        let asked = self.tasks.history.asks(at, change.clone());
        self.note(home, None, What::Write, || format!("client {client} has {at} decided: {change:?}"));
        let mut id = None;
        self.locally(home, &[at.to_owned()], |replica, now| id = Some(replica.ask_fields(at, change, now)));
        let Some(id) = id else { return };
        self.trace.step(self.now_us, home, What::Write, id.0);
        self.tasks.asked.insert((home, self.hosts[home].life, id), Errand { client, asked, ends });
    }

    /// A node tells what came of something that it was asked; gives whether it was asked about a task.
    pub(super) fn task_told(&mut self, host: usize, id: AskId, outcome: &Outcome) -> bool {
        let life = self.hosts[host].life;
        let Some(errand) = self.tasks.asked.remove(&(host, life, id)) else { return false };
        match outcome {
            Ok(Told::Fields(verdict)) => {
                let at = &errand.asked.document;
                let mut checked = self.tasks.history.told(&errand.asked, verdict);
                checked = checked.and_then(|()| check_transitions(at, &self.tasks.history));
                checked = checked.and_then(|()| check_ends(at, &self.tasks.history));
                checked = checked.and_then(|()| self.tasks.resources.held(at, &verdict.guard.lock));
                self.judge(host, checked);
                self.learn_of_task(&errand, verdict);
            }
            Err(AskError::NoQuorum { .. } | AskError::NoVoters) => self.probes.reached(Probe::NoQuorum),
            Err(AskError::Unknown) => self.probes.reached(Probe::Undecided),
            Ok(_) | Err(AskError::Busy | AskError::Unreadable) => {}
        }
        true
    }

    /// What the worker makes of it.
    fn learn_of_task(&mut self, errand: &Errand, verdict: &FieldsVerdict) {
        let place = (errand.client, errand.asked.document.clone());
        let (change, stands) = (&errand.asked.change, state(&verdict.guard.fields));
        match &verdict.outcome {
            FieldsOutcome::Done if errand.ends.is_some() => {
                self.tasks.claims.remove(&place);
                self.probes.reached_if(Probe::TaskDone, stands == TaskState::Done);
                self.probes.reached_if(Probe::TaskFailed, stands == TaskState::Failed);
                self.probes.reached_if(Probe::TaskCancelled, stands == TaskState::Cancelled);
            }
            FieldsOutcome::Done if change.take.is_some() && change.release => self.probes.reached(Probe::TaskLapsed),
            FieldsOutcome::Done if change.take.is_some() => {
                self.tasks.claims.insert(place, verdict.guard.lock.token);
                self.probes.reached(Probe::TaskClaimed);
            }
            FieldsOutcome::NotHolder => drop(self.tasks.claims.remove(&place)),
            _ => {}
        }
    }

    /// Once everything is healed: one worker does all that is left. No task is lost, and none is stuck.
    pub(super) fn end_all_tasks(&mut self) {
        let stayers: Vec<usize> = (0..self.hosts.len()).filter(|host| self.hosts[*host].stays).collect();
        let Some(home) = stayers.iter().copied().find(|host| self.hosts[*host].process.is_some()) else { return };
        if self.tasks.made == 0 || !self.voters_stand(&stayers) {
            return;
        }
        const LAST: usize = usize::MAX;
        let deadline_us = self.now_us + END_US;
        loop {
            let open: Vec<String> = (0..self.tasks.made).map(name).filter(|at| self.is_open(home, at)).collect();
            if open.is_empty() || self.finding.is_some() {
                break;
            }
            if self.now_us >= deadline_us {
                let text = format!("{} tasks have not ended so long after everything was healed: {open:?}", open.len());
                return self.judge(home, wrong("tasks", text));
            }
            for at in open {
                self.end_task(home, LAST, &at);
            }
            self.run_until(self.now_us + 300_000);
        }
        self.tasks.history.is_complete = self.finding.is_none();
    }

    fn is_open(&self, home: usize, at: &str) -> bool {
        let ended = |task: Task| matches!(task.state, TaskState::Done | TaskState::Failed | TaskState::Cancelled);
        self.task_at(home, at).is_some_and(|task| !ended(task))
    }

    fn end_task(&mut self, home: usize, client: usize, at: &str) {
        let (Some(task), now_ms) = (self.task_at(home, at), self.now(home).wall_ms) else { return };
        let held = self.tasks.claims.get(&(client, at.to_owned())).copied();
        let done = Ended::Done { result: Json::Null };
        let planned = match (held, task.state) {
            (Some(token), TaskState::Claimed | TaskState::Running) => task.end(token, &done, now_ms),
            (_, TaskState::Pending) if task.cancel => task.cancel(),
            (_, TaskState::Pending) => task.claim(self.tasks.take("last".to_owned()), now_ms),
            _ => task.lapse(self.tasks.take("voter".to_owned())),
        };
        self.have_task_decided(home, client, at, planned, held);
    }
}
