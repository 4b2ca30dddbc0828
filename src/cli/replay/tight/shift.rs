//! One worker's time with a task: it claims one from the queue, takes room on its host, works, and lets it go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::replay::plan::Plan;
use crate::cli::replay::tight::crew::{Crew, need_mib};
use crate::cli::replay::tight::report::Counts;
use crate::cli::replay::tight::truth::{End, Truth};
use crate::cli::replay::tight::verbs::{Claimed, No, Room, Verbs, Word};
use crate::cli::replay::tight::worker::{Asker, Begun, Heard, Owed, Worker};

/// The queue of what is to run, and of what the trace never scheduled: nobody asks for that.
pub const QUEUE: &str = "tight";
pub const IDLE_QUEUE: &str = "tight-never-scheduled";
/// Losing a lease costs an attempt, and is no reason to give a task up here.
const ATTEMPTS_MAX: u32 = 1_000;

#[derive(Debug)]
pub struct Stage<'a> {
    pub plan: &'a Plan,
    pub crew: &'a Crew,
    pub clients: &'a [Client],
    /// The tasks of the plan, by their ids.
    pub tasks: BTreeMap<&'a str, usize>,
    /// Nodes on the smaller side of a cut.
    pub cut_off: Mutex<BTreeSet<usize>>,
    pub truth: Mutex<Truth>,
    pub counts: Mutex<Counts>,
}

impl<'a> Stage<'a> {
    pub fn verbs(&self, node: usize) -> Verbs<'a> {
        Verbs(&self.clients[node])
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock());
    }

    fn id(&self, task: usize) -> &'a str {
        &self.plan.tasks[task].id
    }

    pub fn need(&self, worker: &Worker) -> u64 {
        need_mib(&self.plan.tasks[worker.task])
    }

    fn host(&self, host: usize) -> &'a str {
        &self.crew.hosts[host].id
    }

    pub fn name(&self, by: Asker) -> String {
        format!("{}/{}", self.host(by.host), by.number)
    }

    /// Room is taken for one attempt: what a worker left behind is not that of the next.
    fn thing(&self, worker: &Worker) -> String {
        format!("tasks/{}/{}", self.id(worker.task), worker.token)
    }

    /// Through any node, also one without a quorum; again, where nobody knows what came of it.
    pub async fn create(&self, node: usize, task: usize) -> Result<(), Error> {
        let queue = if self.plan.tasks[task].scheduled.is_some() { QUEUE } else { IDLE_QUEUE };
        let spec = json!({
            "queue": queue, "max_attempts": ATTEMPTS_MAX,
            "payload": { "memory_mib": need_mib(&self.plan.tasks[task]) },
        });
        match self.verbs(node).create(self.id(task), spec).await? {
            Ok(()) => self.truth.lock().created(task),
            Err(no) => {
                return Err(Error::Failed(format!("task {} was not made: {no:?}", self.id(task))));
            }
        }
        Ok(())
    }

    /// What the trace ends and never scheduled. Asked for without a quorum, it is cancelled once the voters hear of it.
    pub async fn cancel(&self, node: usize, task: usize) -> Result<(), Error> {
        match self.verbs(node).cancel(self.id(task)).await? {
            Ok(_) => self.truth.lock().ended(task, End::Cancelled),
            Err(no) => {
                return Err(Error::Failed(format!(
                    "nobody heard that task {} is to be cancelled: {no:?}",
                    self.id(task)
                )));
            }
        }
        Ok(())
    }

    /// A worker of this host asks for a task, through this node.
    pub async fn claim(&self, by: Asker, wait: Duration) -> Result<Option<Worker>, Error> {
        let (lease, asked) = (by.lease(), Instant::now());
        let told = self.verbs(by.node).claim(QUEUE, &self.name(by), lease, wait).await?;
        let Claimed { task, token } = match told {
            Ok(Some(claimed)) => claimed,
            Ok(None) => return Ok(None),
            Err(no) => {
                self.count(|counts| match no {
                    No::Quorum => counts.claims_without_quorum += 1,
                    _ => counts.unknown += 1,
                });
                return Ok(None);
            }
        };
        let Some(index) = self.tasks.get(task.id.as_str()).copied() else {
            return Err(Error::Usage(format!("the queue `{QUEUE}` holds `{}`, which is not of this trace", task.id)));
        };
        self.count(|counts| counts.claims += 1);
        self.truth.lock().claimed(index, token, asked, Instant::now(), lease);
        Ok(Some(Worker { by, task: index, token, since: asked, placed: false }))
    }

    /// Claims, takes room and begins.
    pub async fn begin(&self, by: Asker, wait: Duration) -> Result<Begun, Error> {
        match self.claim(by, wait).await? {
            Some(worker) => self.settle(worker, false).await,
            None => Ok(Begun::Nothing),
        }
    }

    /// Takes room for a worker's task and begins. `alone`: whoever would have to be asked cannot be.
    pub async fn settle(&self, mut worker: Worker, alone: bool) -> Result<Begun, Error> {
        if self.crew.is_too_large(&self.plan.tasks[worker.task]) {
            return Ok(Begun::Gone(self.gives_up(worker, Word::TooLarge).await?));
        }
        match self.place(&worker).await? {
            Ok(()) => {
                worker.placed = true;
                let alone_there = self.cut_off.lock().contains(&worker.by.node);
                self.count(|counts| counts.placed_alone += u64::from(alone_there));
                self.truth.lock().placed(worker.by.host, self.need(&worker));
                self.work(&worker);
                // A worker may leave this out, and one that is about to stand still does.
                if !alone && !worker.by.stands_still {
                    let _ = self.verbs(worker.by.node).start(self.id(worker.task), worker.token).await?;
                }
                Ok(Begun::Works(worker))
            }
            Err(No::Room) => {
                self.count(|counts| counts.no_room += 1);
                Ok(Begun::Refused(worker))
            }
            Err(no) => {
                self.count(|counts| match no {
                    No::Quorum => counts.no_right += 1,
                    _ => counts.unknown += 1,
                });
                Ok(Begun::Waits(worker))
            }
        }
    }

    /// Where the room is there and others hold the right to it, they are asked to give back what they do not use.
    async fn place(&self, worker: &Worker) -> Result<Result<(), No>, Error> {
        let (verbs, host, thing) = (self.verbs(worker.by.node), self.host(worker.by.host), self.thing(worker));
        let need = self.need(worker);
        let told = verbs.place(host, &thing, need).await?;
        if told != Err(No::Room) {
            return Ok(told);
        }
        let room = verbs.room(host).await?;
        if room.free() < need {
            return Ok(told);
        }
        // One after the other: all of them ask for the same to be decided.
        for other in (0..self.clients.len()).filter(|other| *other != worker.by.node) {
            let _ = self.verbs(other).give_back(host).await?;
        }
        self.count(|counts| counts.rights_asked_for += 1);
        verbs.place(host, &thing, need).await
    }

    /// A step of the work.
    pub fn work(&self, worker: &Worker) -> bool {
        let taken = self.truth.lock().writes(worker.task, worker.by.number, worker.token);
        self.count(|counts| if taken { counts.writes += 1 } else { counts.writes_refused += 1 });
        taken
    }

    /// The work is over: its room is free at once, and what came of it is said.
    pub async fn end(&self, worker: Worker) -> Result<(Option<Owed>, Heard), Error> {
        // Who counts its lease out has stopped before.
        if !worker.is_over() && !self.work(&worker) {
            self.truth.lock().wrong(format!("{} may not write under its lease", self.id(worker.task)));
        }
        let worker = self.leave(worker).await?;
        let owed = Owed { worker, word: Word::Done };
        let heard = self.say(&owed).await?;
        Ok(((heard == Heard::NotYet).then_some(owed), heard))
    }

    /// Its room is free again. Asked for until it is so: nothing else would free it.
    pub async fn leave(&self, mut worker: Worker) -> Result<Worker, Error> {
        if std::mem::take(&mut worker.placed) {
            self.truth.lock().leaves(worker.by.host, self.need(&worker));
        }
        // Also where nobody knows whether it was placed.
        let (host, thing) = (self.host(worker.by.host), self.thing(&worker));
        for _ in 0..RELEASES_MAX {
            if self.verbs(worker.by.node).release(host, &thing).await?.is_ok() {
                return Ok(worker);
            }
        }
        Err(Error::Failed(format!("{host}: {thing} was not released in {RELEASES_MAX} attempts")))
    }

    /// Lets go of what it has no room for.
    pub async fn gives_up(&self, worker: Worker, word: Word) -> Result<Option<Owed>, Error> {
        let owed = Owed { worker, word };
        Ok((self.say(&owed).await? == Heard::NotYet).then_some(owed))
    }

    /// Says what is owed. It counts unless the task is another's by now.
    pub async fn say(&self, owed: &Owed) -> Result<Heard, Error> {
        let Owed { worker, word } = owed;
        let name = self.name(worker.by);
        self.truth.lock().lets_go(worker.task, worker.token);
        let told = self.verbs(worker.by.node).let_go(self.id(worker.task), worker.token, *word, &name).await?;
        let token = worker.token;
        let end = match word {
            Word::Done => Some(End::Done { token, by: name }),
            Word::TooLarge => Some(End::Failed { token }),
            Word::GivenBack => None,
        };
        Ok(match told {
            Ok(()) => {
                end.into_iter().for_each(|end| self.truth.lock().ended(worker.task, end));
                self.count(|counts| counts.given_back += u64::from(*word == Word::GivenBack));
                Heard::Yes
            }
            Err(No::Holder) => Heard::Lost,
            Err(_) => {
                self.count(|counts| counts.owed += 1);
                Heard::NotYet
            }
        })
    }

    /// Its lease begins anew; false: it has lost the task.
    pub async fn extend(&self, worker: &mut Worker) -> Result<bool, Error> {
        let asked = Instant::now();
        match self.verbs(worker.by.node).extend(self.id(worker.task), worker.token).await? {
            Ok(()) => {
                worker.since = asked;
                self.truth.lock().extended(worker.task, worker.token, asked, worker.lease());
                self.work(worker);
                Ok(true)
            }
            Err(No::Holder) => Ok(false),
            Err(_) => Ok(true),
        }
    }

    /// A worker that stood still goes on as if nothing had been, while another has its task: whatever it says is too late.
    pub async fn come_back(&self, worker: &Worker) -> Result<bool, Error> {
        let word = Owed { worker: worker.clone(), word: Word::Done };
        let name = self.name(worker.by);
        let told = self.verbs(worker.by.node).let_go(self.id(worker.task), worker.token, word.word, &name).await?;
        match told {
            Err(No::Quorum | No::Unknown | No::Room) => return Ok(false),
            Err(No::Holder) => self.count(|counts| counts.late_words_refused += 1),
            Ok(()) => self.truth.lock().wrong(format!("the late word of {name} on {} counted", self.id(worker.task))),
        }
        match self.work(worker) {
            true => self.truth.lock().wrong(format!("a late write of {name} to {} was taken", self.id(worker.task))),
            false => self.count(|counts| counts.late_writes_refused += 1),
        }
        if worker.placed {
            self.leave(worker.clone()).await?;
        }
        Ok(true)
    }

    /// What is free on each host, as this node has it.
    pub async fn free(&self, node: usize) -> Result<Vec<u64>, Error> {
        self.rooms(node, Room::free).await
    }

    /// What this node may place on each host without asking anybody.
    pub async fn unspent(&self, node: usize, id: &str) -> Result<Vec<u64>, Error> {
        self.rooms(node, |room| room.unspent_by(id)).await
    }

    async fn rooms(&self, node: usize, of: impl Fn(&Room) -> u64) -> Result<Vec<u64>, Error> {
        let mut rooms = Vec::new();
        for host in &self.crew.hosts {
            rooms.push(of(&self.verbs(node).room(&host.id).await?));
        }
        Ok(rooms)
    }
}

/// A release waits for one disk only; an answer that is lost so often is a node that is gone.
const RELEASES_MAX: usize = 5;
