//! The trace's events in their order, some connected and some cut, in turn, and what is left at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::replay::drive::wait_equal;
use crate::cli::replay::plan::Event;
use crate::cli::replay::split::{cut_in_two, heal};
use crate::cli::replay::tight::holding::check_rooms;
use crate::cli::replay::tight::shift::Stage;
use crate::cli::replay::tight::step::STILL_EVERY;
use crate::cli::replay::tight::worker::{LEASE, Owed, Worker};
use crate::cli::view::read_all;

/// Events of a step: what is asked for at once.
const STEP: usize = 20;
/// Tasks that a node on the smaller side has claimed when the cut comes.
const AHEAD: usize = 2;
/// Who claims at the end waits for tasks whose leases are about to run out.
const CLAIM_WAIT: Duration = Duration::from_millis(500);
/// Three leases: by then what anybody lost was handed out again.
const STUCK_AFTER: Duration = Duration::from_secs(3 * LEASE.as_secs());
/// Links are given up within a second; a busy machine takes longer.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// Tasks that are named when none makes progress.
const NAMED_MAX: usize = 10;

#[derive(Debug)]
pub struct Rounds<'a> {
    pub stage: Stage<'a>,
    /// The nodes' ids.
    pub(super) ids: Vec<String>,
    pub(super) running: BTreeMap<usize, Worker>,
    /// Claimed, and without room until somebody can be asked.
    pub(super) waiting: Vec<Worker>,
    /// Of whose tasks others were heard.
    pub(super) lost: Vec<Worker>,
    pub(super) still: Vec<Worker>,
    pub(super) owed: Vec<Owed>,
    /// The trace ended them before they ran.
    pub(super) overdue: BTreeSet<usize>,
    /// So many more are to begin.
    pub(super) wanted: usize,
    /// Of the last worker.
    pub(super) number: u64,
    /// Workers that began, and after how many one is to stand still.
    pub(super) begun: u64,
    pub(super) next_still: u64,
}

impl<'a> Rounds<'a> {
    pub fn new(stage: Stage<'a>, ids: Vec<String>) -> Self {
        Self {
            stage,
            ids,
            running: BTreeMap::new(),
            waiting: Vec::new(),
            lost: Vec::new(),
            still: Vec::new(),
            owed: Vec::new(),
            overdue: BTreeSet::new(),
            wanted: 0,
            number: 0,
            begun: 0,
            next_still: STILL_EVERY,
        }
    }

    /// Some events with all nodes connected.
    pub async fn connected(&mut self, events: &[Event]) -> Result<(), Error> {
        for step in events.chunks(STEP) {
            self.step(step, Duration::ZERO).await?;
        }
        Ok(())
    }

    /// Some events with the nodes cut in two; each time others are on the smaller side. Then all is healed and looked at.
    pub async fn cut(&mut self, events: &[Event], round: usize) -> Result<(), Error> {
        let order: Vec<usize> = (0..self.ids.len()).map(|index| (index + 2 * round) % self.ids.len()).collect();
        let smaller = &order[..order.len() / 2];
        let ahead = self.claim_ahead(smaller).await?;
        let clients: Vec<Client> = order.iter().map(|index| self.stage.clients[*index].clone()).collect();
        let ids: Vec<String> = order.iter().map(|index| self.ids[*index].clone()).collect();
        cut_in_two(&clients, &ids).await?;
        self.stage.count(|counts| counts.cuts += 1);
        *self.stage.cut_off.lock() = smaller.iter().copied().collect();
        let worked = self.work_apart(ahead, events).await;
        self.stage.cut_off.lock().clear();
        heal(self.stage.clients).await?;
        worked?;
        let equal = wait_equal(self.stage.clients).await?;
        self.stage.count(|counts| counts.equal_ms.push(equal.as_millis() as u64));
        check_rooms(&self.stage, false).await
    }

    async fn work_apart(&mut self, ahead: Vec<Worker>, events: &[Event]) -> Result<(), Error> {
        wait_cut(self.stage.clients).await?;
        self.place_alone(ahead).await?;
        self.connected(events).await
    }

    /// Some have a task when the cut comes, and no room yet.
    async fn claim_ahead(&mut self, nodes: &[usize]) -> Result<Vec<Worker>, Error> {
        let mut ahead = Vec::new();
        for node in nodes.iter().flat_map(|node| [*node; AHEAD]).take(self.wanted.max(AHEAD)) {
            let unspent = self.stage.unspent(node, &self.ids[node]).await?;
            let host = (0..unspent.len()).max_by_key(|host| unspent[*host]).unwrap_or_default();
            let by = self.asker(node, host);
            ahead.extend(self.stage.claim(by, Duration::ZERO).await?);
        }
        Ok(ahead)
    }

    /// What a node places without asking anybody, it places on whichever side it is.
    async fn place_alone(&mut self, ahead: Vec<Worker>) -> Result<(), Error> {
        for worker in ahead {
            let begun = self.stage.settle(worker, true).await?;
            if let Some(worker) = self.began(begun) {
                self.waiting.push(worker);
            }
        }
        Ok(())
    }

    /// Until every task has ended. Those that the trace does not end, end with it.
    pub async fn drain(&mut self) -> Result<(), Error> {
        let unscheduled = (0..self.stage.plan.tasks.len()).filter(|task| {
            self.stage.plan.tasks[*task].scheduled.is_none() && self.stage.truth.lock().stories[*task].end.is_none()
        });
        for task in unscheduled.collect::<Vec<_>>() {
            self.stage.cancel(self.maker(task), task).await?;
        }
        self.overdue.extend(0..self.stage.plan.tasks.len());
        let (mut ended, mut since) = (self.progress(), Instant::now());
        while self.is_going_on() {
            let at_work: BTreeSet<usize> = self.running.keys().copied().collect();
            self.wanted = self.open().filter(|task| !at_work.contains(task)).count();
            self.end_all(at_work.into_iter().collect()).await?;
            self.step(&[], CLAIM_WAIT).await?;
            let now = self.progress();
            if now != ended {
                (ended, since) = (now, Instant::now());
            } else if since.elapsed() > STUCK_AFTER {
                return Err(self.stuck());
            }
        }
        wait_equal(self.stage.clients).await?;
        Ok(())
    }

    fn is_going_on(&self) -> bool {
        let left = self.running.len() + self.waiting.len() + self.lost.len() + self.still.len() + self.owed.len();
        left > 0 || self.open().next().is_some()
    }

    /// Tasks of which no end was told.
    fn open(&self) -> impl Iterator<Item = usize> {
        let truth = self.stage.truth.lock();
        let open: Vec<usize> =
            truth.stories.iter().enumerate().filter(|(_, story)| story.end.is_none()).map(|(task, _)| task).collect();
        open.into_iter()
    }

    fn progress(&self) -> (usize, usize) {
        (self.stage.truth.lock().ended_count(), self.still.len())
    }

    fn stuck(&self) -> Error {
        let name = |task: usize| self.stage.plan.tasks[task].id.clone();
        let at = |task: usize| {
            let is_of = |worker: &&Worker| worker.task == task;
            let worker = self.waiting.iter().chain(self.still.iter()).find(is_of);
            let host = worker.map(|worker| self.stage.name(worker.by));
            format!("{} ({})", name(task), host.unwrap_or_else(|| "with nobody".to_owned()))
        };
        let open: Vec<usize> = self.open().chain(self.still.iter().map(|worker| worker.task)).collect();
        let named: Vec<String> = open.iter().take(NAMED_MAX).map(|task| at(*task)).collect();
        let (count, seconds) = (open.len(), STUCK_AFTER.as_secs());
        Error::Failed(format!("{count} tasks made no progress for {seconds} s, among them {}", named.join(", ")))
    }
}

/// Until each node has noticed: before that, whoever asks waits for answers that cannot come.
async fn wait_cut(clients: &[Client]) -> Result<(), Error> {
    let start = Instant::now();
    while !read_all(clients).await?.iter().all(|view| view.partitioned) {
        if start.elapsed() > NOTICED_WITHIN {
            let seconds = NOTICED_WITHIN.as_secs();
            return Err(Error::Failed(format!("a node has not noticed the cut after {seconds} s")));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
