//! A step of a few events: tasks are made, then as many are begun as the trace begins, then those end that the trace ends.
//!
//! Which task is begun says the queue. One that the trace ends before it had room ends as soon as it has begun. Who is
//! refused room gives the task back, and it is tried where it fits best. If there is no room there either, its worker keeps
//! it until others have ended; once ten do so, nobody asks for a task before the next step.

use std::time::Duration;

use futures::future::try_join_all;

use crate::cli::exit::Error;
use crate::cli::replay::plan::{Change, Event};
use crate::cli::replay::tight::rounds::Rounds;
use crate::cli::replay::tight::verbs::Word;
use crate::cli::replay::tight::worker::{Asker, Begun, Heard, Worker};

/// Workers that speak to one node at once.
const LANES: usize = 2;
/// Tasks that wait for room at their workers.
const WAITING_MAX: usize = 10;
/// After so many workers one stands still for longer than its lease.
pub const STILL_EVERY: u64 = 40;

impl Rounds<'_> {
    pub(super) async fn step(&mut self, events: &[Event], wait: Duration) -> Result<(), Error> {
        let of = |is: fn(&Change) -> bool| events.iter().filter(move |event| is(&event.change)).map(|event| event.task);
        self.make(of(|change| *change == Change::Created).collect()).await?;
        self.wanted += of(|change| matches!(change, Change::Placed(_) | Change::Unplaceable)).count();
        self.say_owed().await?;
        self.settle_waiting().await?;
        self.begin(wait).await?;
        self.wake().await?;
        self.end_all(of(|change| matches!(change, Change::Deleted(_))).collect()).await?;
        self.extend().await
    }

    /// Tasks are made at all nodes, each at its own.
    async fn make(&self, tasks: Vec<usize>) -> Result<(), Error> {
        let made = (0..self.ids.len()).map(async |node| {
            for task in tasks.iter().filter(|task| self.maker(**task) == node) {
                self.stage.create(node, *task).await?;
            }
            Ok::<(), Error>(())
        });
        try_join_all(made).await.map(drop)
    }

    /// The node that a task was made at knows of it whatever is cut.
    pub(super) fn maker(&self, task: usize) -> usize {
        task % self.ids.len()
    }

    fn lanes(&self) -> usize {
        LANES * self.ids.len()
    }

    /// Every so often one is to stand still; the next, if that one finds no room.
    pub(super) fn asker(&mut self, node: usize, host: usize) -> Asker {
        self.number += 1;
        let stands_still = self.begun >= self.next_still;
        if stands_still {
            self.next_still = self.begun + 1;
        }
        Asker { number: self.number, node, host, stands_still }
    }

    /// A few at each node. After a refusal one at a time, where the task goes that was refused.
    async fn begin(&mut self, wait: Duration) -> Result<(), Error> {
        let mut refused = None;
        while self.wanted > 0 {
            let askers = self.askers(refused).await?;
            let begun = try_join_all(askers.into_iter().map(|by| self.stage.begin(by, wait))).await?;
            let is = |wanted: fn(&Begun) -> bool| begun.iter().any(wanted);
            let goes_on = is(|begun| !matches!(begun, Begun::Nothing));
            let mut no_room = Vec::new();
            for begun in begun {
                no_room.extend(self.began(begun));
            }
            let next = no_room.iter().min_by_key(|worker| worker.task).map(|worker| self.stage.need(worker));
            let was_refused = refused.is_some();
            for worker in no_room {
                let need = self.stage.need(&worker);
                let fits_best = was_refused && self.stage.crew.hosts[worker.by.host].limit_mib >= need;
                if fits_best && self.waiting.len() < WAITING_MAX {
                    // There is no better place. It waits, and others go on.
                    self.wanted = self.wanted.saturating_sub(1);
                    self.stage.count(|counts| counts.waited += 1);
                    self.waiting.push(worker);
                    refused = None;
                    continue;
                }
                self.owed.extend(self.stage.gives_up(worker, Word::GivenBack).await?);
                if fits_best {
                    self.stage.count(|counts| counts.stood_in_line += 1);
                    return Ok(());
                }
                refused = next;
            }
            if next.is_none() {
                refused = None;
            }
            // A side that reaches no quorum gets none; where nobody got any, there is none.
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Who asks next, and for which host.
    async fn askers(&mut self, refused: Option<u64>) -> Result<Vec<Asker>, Error> {
        let first = self.number as usize;
        let mut free = self.stage.free(first % self.ids.len()).await?;
        if let Some(need) = refused {
            let host = self.stage.crew.best(&free, need);
            return Ok(vec![self.asker(first % self.ids.len(), host)]);
        }
        let count = self.wanted.min(self.lanes());
        let asker = |index| {
            let host = self.stage.crew.fullest(&free);
            free[host] = free[host].saturating_sub(self.stage.crew.mean_mib);
            ((first + index) % self.ids.len(), host)
        };
        let places: Vec<(usize, usize)> = (0..count).map(asker).collect();
        Ok(places.into_iter().map(|(node, host)| self.asker(node, host)).collect())
    }

    /// Hands over who was refused room.
    pub(super) fn began(&mut self, begun: Begun) -> Option<Worker> {
        self.begun += u64::from(matches!(begun, Begun::Works(_)));
        match begun {
            Begun::Works(worker) if worker.by.stands_still => {
                self.next_still = self.begun + STILL_EVERY;
                self.stage.count(|counts| counts.stood_still += 1);
                self.still.push(worker);
            }
            Begun::Works(worker) => {
                // Whoever had it until now has lost it, and has yet to hear of that.
                match self.running.insert(worker.task, worker) {
                    Some(lost) => self.lost.push(lost),
                    None => self.wanted = self.wanted.saturating_sub(1),
                }
            }
            Begun::Waits(worker) => {
                self.wanted = self.wanted.saturating_sub(1);
                self.waiting.push(worker);
            }
            Begun::Refused(worker) => return Some(worker),
            Begun::Gone(owed) => {
                self.wanted = self.wanted.saturating_sub(1);
                self.owed.extend(owed);
            }
            Begun::Nothing => {}
        }
        None
    }

    /// Whoever waits takes room as soon as there is some, before others are asked for.
    async fn settle_waiting(&mut self) -> Result<(), Error> {
        for mut worker in std::mem::take(&mut self.waiting) {
            if worker.since.elapsed() > worker.lease() / 3 && !self.stage.extend(&mut worker).await? || worker.is_over()
            {
                self.wanted += 1;
                self.lost.push(worker);
                continue;
            }
            let free = self.stage.free(worker.by.node).await?[worker.by.host];
            if free < self.stage.need(&worker) {
                self.waiting.push(worker);
                continue;
            }
            self.wanted += 1;
            let begun = self.stage.settle(worker, false).await?;
            if let Some(worker) = self.began(begun) {
                self.wanted = self.wanted.saturating_sub(1);
                self.waiting.push(worker);
            }
        }
        Ok(())
    }

    /// Who has lost its task stops, and its room is free.
    async fn stop_lost(&mut self) -> Result<(), Error> {
        for worker in std::mem::take(&mut self.lost) {
            self.stage.count(|counts| counts.lost += 1);
            self.stage.leave(worker).await?;
        }
        Ok(())
    }

    /// Who stood still goes on once another has begun. Its host counts it for dead when its lease has run out, and gives its
    /// room away: else a task that needs a whole host could never be begun again.
    async fn wake(&mut self) -> Result<(), Error> {
        for mut worker in std::mem::take(&mut self.still) {
            if worker.placed && worker.is_over() {
                worker = self.stage.leave(worker).await?;
            }
            let is_late = self.stage.truth.lock().is_overtaken(worker.task, worker.token);
            if !is_late || !self.stage.come_back(&worker).await? {
                self.still.push(worker);
            }
        }
        Ok(())
    }

    /// These end, in this order, a few at once, and those that should have before they began.
    pub(super) async fn end_all(&mut self, tasks: Vec<usize>) -> Result<(), Error> {
        let mut ending = Vec::new();
        for task in tasks {
            match self.running.remove(&task) {
                Some(worker) => ending.push(worker),
                None if self.stage.plan.tasks[task].scheduled.is_none() => {
                    self.stage.cancel(self.maker(task), task).await?;
                }
                None => drop(self.overdue.insert(task)),
            }
        }
        let late: Vec<usize> = self.running.keys().copied().filter(|task| self.overdue.contains(task)).collect();
        ending.extend(late.into_iter().filter_map(|task| self.running.remove(&task)));
        let (stage, ending) = (&self.stage, &ending);
        let lanes = self.lanes();
        let ended = (0..lanes).map(async |lane| {
            let mut told = Vec::new();
            for worker in ending.iter().skip(lane).step_by(lanes) {
                told.push((worker.task, stage.end(worker.clone()).await?));
            }
            Ok::<_, Error>(told)
        });
        let ended: Vec<_> = try_join_all(ended).await?.into_iter().flatten().collect();
        for (task, (owed, heard)) in ended {
            self.owed.extend(owed);
            self.heard(task, heard);
        }
        Ok(())
    }

    /// A task whose end did not count is done again.
    fn heard(&mut self, task: usize, heard: Heard) {
        if heard == Heard::Lost {
            self.wanted += 1;
            self.overdue.insert(task);
            self.stage.count(|counts| counts.lost += 1);
        }
    }

    async fn say_owed(&mut self) -> Result<(), Error> {
        for owed in std::mem::take(&mut self.owed) {
            let is_end = owed.word != Word::GivenBack;
            match self.stage.say(&owed).await? {
                Heard::NotYet => self.owed.push(owed),
                heard if is_end => self.heard(owed.worker.task, heard),
                _ => {}
            }
        }
        Ok(())
    }

    /// In time: whose lease is past a third. No more are at it than the hosts hold.
    async fn extend(&mut self) -> Result<(), Error> {
        let due = |worker: &Worker| worker.since.elapsed() > worker.lease() / 3;
        let due: Vec<Worker> = self.running.values().filter(|worker| due(worker)).cloned().collect();
        let stage = &self.stage;
        let extended = try_join_all(due.into_iter().map(async |mut worker| {
            let has_it = stage.extend(&mut worker).await?;
            Ok::<_, Error>((worker, has_it))
        }));
        for (worker, has_it) in extended.await? {
            if has_it {
                self.running.insert(worker.task, worker);
                continue;
            }
            self.running.remove(&worker.task);
            self.wanted += 1;
            self.lost.push(worker);
        }
        self.stop_lost().await
    }
}
