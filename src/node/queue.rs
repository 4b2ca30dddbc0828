//! Queues, for programs: tasks by the name of their queue, handed out to whoever asks, the urgent and the old ones first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::board::Depth;
use super::decide::DecideError;
use super::handle::Node;
use super::lock::LockError;
use super::tasks::{Claim, TasksError};
use super::write::Receipt;
use crate::domain::tasks::{TaskError, TaskSpec, check_queue, check_worker};
use crate::engine::ballot::decision::check_lease;

/// How long one may wait for a task.
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// Tasks that others were given meanwhile, of which one asks for the next at once. After that one waits until more is known.
const LOST_MAX: usize = 64;
/// Who waits looks by itself this often.
const LOOK: Duration = Duration::from_millis(400);

/// One queue of the cluster, by its name.
#[derive(Clone, Debug)]
pub struct Queue {
    node: Node,
    name: String,
}

impl Node {
    pub fn queue(&self, name: &str) -> Queue {
        Queue { node: self.clone(), name: name.to_owned() }
    }

    /// The queues that hold a task, and how many tasks stand where in each, as this node has them.
    pub fn queues(&self) -> Vec<(String, Depth)> {
        let mut board = self.inner.board.lock();
        board.look(self);
        board.depths().map(|(queue, depth)| (queue.to_owned(), depth.clone())).collect()
    }

    /// Where this node stands among the members that it sees: who asks for the same as others at once does better to begin at
    /// different ends.
    fn rank(&self) -> usize {
        let replica = self.inner.replica.read();
        replica.neighbours().filter(|other| *other < self.id()).count()
    }
}

impl Queue {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new task in this queue, under an id of its own. Gives the id.
    pub async fn push(&self, spec: &TaskSpec) -> Result<(String, Receipt), TasksError> {
        let id = format!("{:032x}", u128::from_be_bytes(super::builder::random()));
        let spec = TaskSpec { queue: self.name.clone(), ..spec.clone() };
        let receipt = self.node.tasks().create(&id, &spec).await?;
        Ok((id, receipt))
    }

    /// How many of its tasks stand where, as this node has them.
    pub fn depth(&self) -> Depth {
        let depth = self.node.queues().into_iter().find(|(queue, _)| *queue == self.name);
        depth.map(|(_, depth)| depth).unwrap_or_default()
    }

    /// A task for this worker, for a lease; waits for one for at most `wait`. `None`: there was none.
    pub async fn claim(&self, worker: &str, lease: Duration, wait: Duration) -> Result<Option<Claim>, TasksError> {
        check_worker(worker)?;
        check_queue(&self.name)?;
        check_lease(lease).map_err(LockError::from)?;
        self.node.inner.replica.read().check_quorum().map_err(DecideError::from)?;
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let mut moved = self.node.inner.ring.moved();
        loop {
            // What changes from here on wakes who waits.
            moved.borrow_and_update();
            if let Some(claim) = self.claim_now(worker, lease).await? {
                return Ok(Some(claim));
            }
            let now = Instant::now();
            if now >= deadline || self.node.inner.is_stopping() {
                return Ok(None);
            }
            let look = (now + self.ripens_in().min(LOOK)).min(deadline);
            let _ = tokio::time::timeout_at(look.into(), moved.changed()).await;
        }
    }

    async fn claim_now(&self, worker: &str, lease: Duration) -> Result<Option<Claim>, TasksError> {
        let (mut lost, rank) = (BTreeSet::new(), self.node.rank());
        while lost.len() < LOST_MAX {
            let Some(picked) = self.pick(rank, &lost) else { return Ok(None) };
            match self.node.tasks().take(&picked.id, worker, lease).await {
                Ok(claim) => return Ok(Some(claim)),
                Err(TasksError::Claimed { .. } | TasksError::Contended(_)) => self.note_lost(),
                Err(TasksError::Task(TaskError::State { state, .. })) if state.is_held() => self.note_lost(),
                // Somebody deleted or ended it.
                Err(TasksError::NotFound(_)) => {}
                Err(TasksError::Task(TaskError::State { .. } | TaskError::Cancelled | TaskError::Early { .. })) => {}
                // One that cannot be claimed does not keep those behind it from being.
                Err(TasksError::Decide(error @ (DecideError::TooLarge(_) | DecideError::Field { .. }))) => {
                    tracing::warn!(task = picked.id, %error, "it cannot be claimed");
                }
                Err(error) => return Err(error),
            }
            lost.insert(picked.id.clone());
        }
        Ok(None)
    }

    fn pick(&self, rank: usize, lost: &BTreeSet<String>) -> Option<Picked<'_>> {
        let mut board = self.node.inner.board.lock();
        board.look(&self.node);
        let id = board.pick(&self.name, rank, lost, self.node.now().wall_ms)?;
        Some(Picked { node: &self.node, id })
    }

    fn note_lost(&self) {
        self.node.inner.board.lock().note_lost(&self.name, self.node.now().wall_ms);
    }

    /// Until the next task's time comes.
    fn ripens_in(&self) -> Duration {
        let at_ms = self.node.inner.board.lock().next_ms(&self.name);
        let now_ms = self.node.now().wall_ms;
        at_ms.map_or(Duration::MAX, |at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms).max(1)))
    }
}

/// A task off the board, until it is known what came of it.
struct Picked<'a> {
    node: &'a Node,
    id: String,
}

impl Drop for Picked<'_> {
    fn drop(&mut self) {
        let mut board = self.node.inner.board.lock();
        // Before it goes back: what became of it.
        board.look(self.node);
        board.put_back(&self.id);
    }
}
