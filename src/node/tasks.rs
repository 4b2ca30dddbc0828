//! Tasks, for programs: each is at one worker at a time, which a quorum decides; see [`domain::tasks`](crate::domain::tasks) for
//! what may become of one.

use std::time::Duration;

use serde_json::Value as Json;

use super::decide::{DecideError, Decision, Take};
use super::handle::Node;
use super::keep::Kept;
use super::lock::{Grant, LockError};
use super::write::{DocumentWrite, Durability, Missing, Receipt, WriteBody, WriteError};
use crate::document::{Address, AddressError, Edit};
use crate::domain::tasks::{COLLECTION, Ended, Task, TaskError, TaskSpec, TaskState, is_task};
use crate::engine::ballot::AskError;
use crate::engine::ballot::lock::RequestId;

/// How often something is decided anew because the task was not any more as this node had it.
const TRIES_MAX: usize = 4;
/// Tasks read at a time when they are listed.
const PAGE: usize = 256;
/// Tasks that a voter hands out again or cancels, at each look.
const TIDIED_MAX: usize = 64;
/// How often a voter looks for such.
const TIDY_EVERY: Duration = Duration::from_millis(500);
/// The first voter hands them out again at once, and each further one so much later.
const LAPSED_APART_US: u64 = 1_000_000;

/// The tasks of the cluster.
#[derive(Clone, Debug)]
pub struct Tasks {
    node: Node,
}

/// A task that a worker has. What the token is for: hand it to whatever the work writes to, and have it refuse a lower one.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub task: Task,
    pub lease: Duration,
    pub grant: Grant,
}

/// The lease of a task that began anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Extended {
    pub grant: Grant,
    /// The worker is to stop, and to say so.
    pub cancel: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TasksError {
    #[error("there is no task `{0}` on this node")]
    NotFound(String),
    #[error("there is a task `{0}` already")]
    Exists(String),
    #[error("`{worker}` has task `{id}`, under the token {token}")]
    Claimed { id: String, worker: String, token: u64 },
    #[error("task `{0}` was changed by others again and again: ask later")]
    Contended(String),
    #[error(transparent)]
    Task(#[from] TaskError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Decide(DecideError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Node {
    pub fn tasks(&self) -> Tasks {
        Tasks { node: self.clone() }
    }
}

impl Tasks {
    /// A new task. It merges: also a side without a quorum makes some, which are handed out once it has one again.
    pub async fn create(&self, id: &str, spec: &TaskSpec) -> Result<Receipt, TasksError> {
        if !is_task(id) {
            return Err(TaskError::NotATask(id.to_owned()).into());
        }
        let body = WriteBody::Put(spec.fields(self.node.now().wall_ms)?);
        let write =
            DocumentWrite { address: address(id)?, body, if_match: None, create_only: true, missing: Missing::Create };
        match self.node.write(vec![write], Durability::Local).await {
            Err(WriteError::Precondition { .. }) => Err(TasksError::Exists(id.to_owned())),
            written => Ok(written?),
        }
    }

    /// As this node has it.
    pub fn get(&self, id: &str) -> Result<Task, TasksError> {
        let shown = self.node.read(&address(id)?).document.filter(|_| is_task(id));
        let shown = shown.ok_or_else(|| TasksError::NotFound(id.to_owned()))?;
        Ok(Task::of(id, &shown.view.fields, shown.stale))
    }

    /// As this node has them, those of a queue and in a state where such are given, in order of their ids after `after`; and
    /// where to go on.
    pub fn list(
        &self,
        queue: Option<&str>,
        state: Option<TaskState>,
        after: Option<&str>,
        limit: usize,
    ) -> (Vec<Task>, Option<String>) {
        let (mut found, mut after) = (Vec::new(), after.map(str::to_owned));
        loop {
            let listing = self.node.list(COLLECTION, "", after.as_deref(), PAGE);
            for (id, shown) in listing.items.into_iter().filter(|(id, _)| is_task(id)) {
                let task = Task::of(&id, &shown.view.fields, shown.stale);
                if queue.is_none_or(|queue| task.queue == queue) && state.is_none_or(|state| task.state == state) {
                    if found.len() == limit {
                        let next = found.last().map(|task: &Task| task.id.clone());
                        return (found, next);
                    }
                    found.push(task);
                }
            }
            after = listing.next;
            if after.is_none() {
                return (found, None);
            }
        }
    }

    /// Has a quorum decide that this worker has the task, for a lease. Begin once this has returned, and stop before the lease
    /// ends unless it was extended: [`Tasks::keep`] tells in time.
    pub async fn claim(&self, id: &str, worker: &str, lease: Duration) -> Result<Claim, TasksError> {
        let claimed = self.take(id, worker, lease).await;
        if let Err(TasksError::Task(TaskError::State { state, .. })) = &claimed
            && state.is_held()
            && let Some(holder) = self.node.lock(address(id)?.as_str()).read().await?.held()
        {
            let (worker, token) = holder;
            return Err(TasksError::Claimed { id: id.to_owned(), worker, token });
        }
        claimed
    }

    /// The same, for whom it is enough to hear that somebody has it.
    pub(super) async fn take(&self, id: &str, worker: &str, lease: Duration) -> Result<Claim, TasksError> {
        let request = RequestId(u128::from_le_bytes(super::builder::random()));
        let take = Take { holder: worker.to_owned(), lease, request };
        let (task, grant) = self.decide(id, |task| task.claim(take.clone(), self.node.now().wall_ms)).await?;
        let grant = grant.ok_or(TasksError::Decide(AskError::Unknown.into()))?;
        Ok(Claim { task, lease, grant })
    }

    /// Extends the lease for as long as the result is held, and tells when the work has to be stopped.
    pub fn keep(&self, claim: &Claim) -> Kept {
        self.node.lock(&claim.grant.name).keep(&claim.grant, claim.lease)
    }

    /// The lease begins anew.
    pub async fn extend(&self, id: &str, token: u64) -> Result<Extended, TasksError> {
        let grant = self.node.lock(address(id)?.as_str()).renew(token).await?;
        Ok(Extended { grant, cancel: self.get(id)?.cancel })
    }

    /// The worker has begun.
    pub async fn start(&self, id: &str, token: u64) -> Result<Task, TasksError> {
        let told = self.decide(id, |task| task.start(token)).await.map(|(task, _)| task);
        let told = self.or_refused(id, token, told).await;
        match told {
            // Asked again by whoever has it.
            Err(TasksError::Task(TaskError::State { state: TaskState::Running, .. })) => self.get(id),
            told => told,
        }
    }

    /// How far the worker has come, in words of its own.
    pub async fn progress(&self, id: &str, progress: Json) -> Result<Receipt, TasksError> {
        self.edit(id, Task::progress(progress)).await
    }

    /// The worker is done with it. Asked again under the same token, it comes to the same.
    pub async fn end(&self, id: &str, token: u64, ended: &Ended) -> Result<Task, TasksError> {
        let error = match self.decide(id, |task| task.end(token, ended, self.node.now().wall_ms)).await {
            Ok((task, _)) => return Ok(task),
            Err(error @ (TasksError::Task(_) | TasksError::Decide(DecideError::NotHolder { .. }))) => error,
            Err(error) => return Err(error),
        };
        let task = self.get(id)?;
        match task.has_ended(token, ended) {
            true => Ok(task),
            false => self.or_refused(id, token, Err(error)).await,
        }
    }

    /// Nobody is to begin the task, and whoever has it is to stop. Where nobody has it, and a quorum is there, it is cancelled
    /// when this returns; else once its worker heard of it, or is gone.
    pub async fn cancel(&self, id: &str) -> Result<Task, TasksError> {
        let task = self.get(id)?;
        if !task.cancel && task.state.may_become(TaskState::Cancelled) {
            self.edit(id, Task::ask_to_cancel()).await?;
        }
        match self.decide(id, Task::cancel).await {
            Ok((task, _)) => Ok(task),
            Err(TasksError::Task(TaskError::State { state, .. })) if state.is_held() => self.get(id),
            Err(TasksError::Claimed { .. } | TasksError::Decide(DecideError::Ask(_))) => self.get(id),
            Err(TasksError::Task(TaskError::State { state: TaskState::Cancelled, .. })) => self.get(id),
            Err(error) => Err(error),
        }
    }

    /// All attempts failed: it is tried anew.
    pub async fn retry(&self, id: &str) -> Result<Task, TasksError> {
        Ok(self.decide(id, Task::retry).await?.0)
    }

    /// Why a worker is refused: rather than where the task stands, that it is not the worker's any more.
    async fn or_refused(&self, id: &str, token: u64, told: Result<Task, TasksError>) -> Result<Task, TasksError> {
        let Err(TasksError::Task(TaskError::State { .. })) = &told else { return told };
        let address = address(id)?;
        match self.node.lock(address.as_str()).read().await {
            Ok(lock) if lock.token != token || lock.holder.is_none() => {
                Err(DecideError::NotHolder { address, token, now: lock.token }.into())
            }
            _ => told,
        }
    }

    /// Has something decided about the task as this node has it; again, where it was not so any more.
    async fn decide(
        &self,
        id: &str,
        plan: impl Fn(&Task) -> Result<Decision, TaskError>,
    ) -> Result<(Task, Option<Grant>), TasksError> {
        let address = address(id)?;
        let mut is_fresh = false;
        for _ in 0..TRIES_MAX {
            let decision = match plan(&self.get(id)?) {
                // This node may not have heard yet how it stands.
                Err(TaskError::State { .. }) if !is_fresh => {
                    self.node.read_decided(&address).await?;
                    is_fresh = true;
                    continue;
                }
                planned => planned?,
            };
            // What a quorum says of it stands in the document when this returns.
            is_fresh = true;
            match self.node.decide(&address, &decision).await {
                Ok(decided) => return Ok((self.get(id)?, decided.grant)),
                Err(DecideError::Differs { .. }) => {}
                Err(DecideError::Held { holder, token, .. }) => {
                    return Err(TasksError::Claimed { id: id.to_owned(), worker: holder, token });
                }
                Err(error) => return Err(TasksError::Decide(error)),
            }
        }
        Err(TasksError::Contended(id.to_owned()))
    }

    async fn edit(&self, id: &str, edit: Edit) -> Result<Receipt, TasksError> {
        self.get(id)?;
        let write = DocumentWrite {
            address: address(id)?,
            body: WriteBody::Edits(vec![edit]),
            if_match: None,
            create_only: false,
            missing: Missing::Refuse,
        };
        Ok(self.node.write(vec![write], Durability::Local).await?)
    }

    /// What workers had whose leases ran out, as this node watched as a voter, is handed out again, and what is to be cancelled
    /// and has nobody is cancelled.
    async fn tidy(&self) {
        for id in self.unwanted() {
            if let Err(error) = self.decide(&id, Task::cancel).await {
                tracing::debug!(task = id, %error, "not cancelled yet");
            }
        }
        for id in self.lapsed() {
            let request = RequestId(u128::from_le_bytes(super::builder::random()));
            let take = Take { holder: self.node.id().to_string(), lease: Duration::from_secs(1), request };
            match self.decide(&id, |task| task.lapse(take.clone())).await {
                Ok((task, _)) => tracing::warn!(task = id, state = %task.state, "the lease of its worker ran out"),
                // Its worker was heard of, another voter was faster, or it is no task's lock.
                Err(error) => tracing::debug!(task = id, %error, "left as it is"),
            }
        }
    }

    /// The first voter's business.
    fn unwanted(&self) -> Vec<String> {
        let place = self.node.inner.replica.read().ballots().place(&self.node.id());
        if place != Some(0) {
            return Vec::new();
        }
        let mut board = self.node.inner.board.lock();
        board.look(&self.node);
        board.unwanted().take(TIDIED_MAX).map(str::to_owned).collect()
    }

    fn lapsed(&self) -> Vec<String> {
        let mut board = self.node.inner.board.lock();
        board.look(&self.node);
        let names: Vec<String> = {
            let replica = self.node.inner.replica.read();
            let booth = replica.ballots();
            let Some(place) = booth.place(&self.node.id()) else { return Vec::new() };
            let until_us = self.node.now().mono_us.saturating_sub(LAPSED_APART_US * place as u64);
            let expired = booth.watch().all_expired("tasks/", until_us).map(str::to_owned);
            // A worker that let go of the lock, and not of the task, has it no more.
            let names = board.held().map(|id| format!("{COLLECTION}/{id}"));
            let let_go = names.filter(|name| place == 0 && !booth.is_lock_held(name));
            expired.chain(let_go).collect()
        };
        drop(board);
        let ids = names.into_iter().filter_map(|name| Some(name.strip_prefix("tasks/")?.to_owned()));
        // A lock of that name may also be somebody's who never claimed the task.
        ids.filter(|id| self.get(id).is_ok_and(|task| task.state.is_held())).take(TIDIED_MAX).collect()
    }
}

/// Hands out again what lost workers had, for as long as the node runs.
pub(super) async fn tidy(node: Node) {
    let mut every = tokio::time::interval(TIDY_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => node.tasks().tidy().await,
            () = node.stopping() => return,
        }
    }
}

impl From<DecideError> for TasksError {
    fn from(error: DecideError) -> Self {
        Self::Decide(error)
    }
}

fn address(id: &str) -> Result<Address, AddressError> {
    Address::new(COLLECTION, id)
}
