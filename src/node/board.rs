//! What waits in which queue, as this node has it: an index over the tasks that follows what changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::handle::Node;
use super::watch::FellBehind;
use crate::document::Address;
use crate::domain::tasks::{COLLECTION, Task, TaskState, is_task};

/// How many tasks of a queue there are, by where they stand.
pub type Depth = BTreeMap<TaskState, u64>;

/// Who lost a task to another takes it that others ask for the same for so long, ms.
const CONTENDED_MS: u64 = 500;
/// Tasks between the places where two nodes begin that ask for the same: as many as each may ask for at once, about.
const STRETCH: usize = 4;

/// Some 200 bytes a task.
#[derive(Debug, Default)]
pub struct Board {
    /// How far the node's changes were followed; `None` before the first look.
    followed: Option<u64>,
    tasks: BTreeMap<String, Brief>,
    queues: BTreeMap<String, Lane>,
    /// Tasks that this node asks a quorum about just now.
    busy: BTreeSet<String>,
    /// Pending, and asked to be cancelled.
    unwanted: BTreeSet<String>,
    /// At some worker.
    held: BTreeSet<String>,
}

/// What the index has to know of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Brief {
    queue: String,
    state: TaskState,
    cancel: bool,
    place: Place,
    not_before_ms: u64,
}

/// A higher priority first, then the older one.
type Place = (Reverse<i64>, u64);

#[derive(Debug, Default)]
struct Lane {
    depth: Depth,
    /// In the order in which they are handed out.
    ready: BTreeSet<(Place, String)>,
    /// In the order in which their time comes.
    later: BTreeSet<(u64, String)>,
    /// Until then others are taken to ask for the same tasks at once.
    contended_until_ms: u64,
}

impl Board {
    /// Takes in what changed since the last look.
    pub fn look(&mut self, node: &Node) {
        let ring = &node.inner.ring;
        let prefix = format!("{COLLECTION}/");
        let mut count = self.followed.unwrap_or_default();
        loop {
            let changed =
                if self.followed.is_some() { ring.next_document(&mut count, &prefix) } else { Err(FellBehind) };
            match changed {
                Ok(Some(name)) => self.take(node, &name),
                Ok(None) => break,
                Err(FellBehind) => {
                    count = ring.count();
                    self.followed = Some(count);
                    self.read_all(node);
                }
            }
        }
        self.followed = Some(count);
    }

    fn read_all(&mut self, node: &Node) {
        (self.tasks, self.queues) = Default::default();
        self.unwanted.clear();
        self.held.clear();
        let names: Vec<String> = {
            let replica = node.inner.replica.read();
            let prefix = format!("{COLLECTION}/");
            let names =
                replica.state().names_from(std::ops::Bound::Included(&prefix)).map(|(name, _)| name.to_string());
            names.take_while(|name| name.starts_with(&prefix)).collect()
        };
        names.iter().for_each(|name| self.take(node, name));
    }

    fn take(&mut self, node: &Node, name: &str) {
        let Ok(address) = Address::parse(name) else { return };
        if !is_task(address.id()) {
            return;
        }
        let task = node.read(&address).document.map(|shown| Task::of(address.id(), &shown.view.fields, shown.stale));
        self.set(address.id(), task.map(|task| Brief::of(&task)));
    }

    fn set(&mut self, id: &str, brief: Option<Brief>) {
        if self.tasks.get(id) == brief.as_ref() {
            return;
        }
        if let Some(old) = self.tasks.remove(id) {
            self.unwanted.remove(id);
            self.held.remove(id);
            let lane = self.queues.entry(old.queue.clone()).or_default();
            lane.leave(id, &old);
            if lane.depth.is_empty() {
                self.queues.remove(&old.queue);
            }
        }
        let Some(brief) = brief else { return };
        if brief.state == TaskState::Pending && brief.cancel {
            self.unwanted.insert(id.to_owned());
        }
        if brief.state.is_held() {
            self.held.insert(id.to_owned());
        }
        self.queues.entry(brief.queue.clone()).or_default().enter(id, &brief);
        self.tasks.insert(id.to_owned(), brief);
    }

    /// Takes a task that may be handed out now off the board, until it is put back: the first, or while others ask for the
    /// same, one that is as urgent, from this node's stretch of the lane. `rank`: where this node stands among those who may
    /// ask.
    pub fn pick(&mut self, queue: &str, rank: usize, shunned: &BTreeSet<String>, now_ms: u64) -> Option<String> {
        let lane = self.queues.get_mut(queue)?;
        lane.ripen(now_ms, &self.tasks);
        let after = if lane.contended_until_ms > now_ms { rank * STRETCH } else { 0 };
        let is_free = |id: &String| !self.busy.contains(id) && !shunned.contains(id);
        let mut free = lane.ready.iter().filter(|(_, id)| is_free(id)).peekable();
        let ((urgency, _), _) = *free.peek()?;
        let (_, id) = free.take_while(|((of, _), _)| of == urgency).take(after + 1).last()?;
        let id = id.clone();
        self.busy.insert(id.clone());
        Some(id)
    }

    /// Another was faster. However many are, every node begins at the first again in a while: who would begin there may not
    /// be asking.
    pub fn note_lost(&mut self, queue: &str, now_ms: u64) {
        if let Some(lane) = self.queues.get_mut(queue).filter(|lane| lane.contended_until_ms <= now_ms) {
            lane.contended_until_ms = now_ms + CONTENDED_MS;
        }
    }

    pub fn put_back(&mut self, id: &str) {
        self.busy.remove(id);
    }

    /// When the next task of the queue may be handed out that may not yet, ms.
    pub fn next_ms(&self, queue: &str) -> Option<u64> {
        self.queues.get(queue)?.later.first().map(|(at_ms, _)| *at_ms)
    }

    pub fn depths(&self) -> impl Iterator<Item = (&str, &Depth)> {
        self.queues.iter().map(|(queue, lane)| (queue.as_str(), &lane.depth))
    }

    /// Tasks that some worker has.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(String::as_str)
    }

    /// Pending tasks that are to be cancelled.
    pub fn unwanted(&self) -> impl Iterator<Item = &str> {
        self.unwanted.iter().map(String::as_str)
    }
}

impl Brief {
    fn of(task: &Task) -> Self {
        Self {
            queue: task.queue.clone(),
            state: task.state,
            cancel: task.cancel,
            place: (Reverse(task.priority), task.created_ms),
            not_before_ms: task.not_before_ms,
        }
    }

    fn waits(&self) -> bool {
        self.state == TaskState::Pending && !self.cancel
    }
}

impl Lane {
    fn enter(&mut self, id: &str, brief: &Brief) {
        *self.depth.entry(brief.state).or_default() += 1;
        if brief.waits() {
            self.later.insert((brief.not_before_ms, id.to_owned()));
        }
    }

    fn leave(&mut self, id: &str, brief: &Brief) {
        if let Some(count) = self.depth.get_mut(&brief.state) {
            *count -= 1;
        }
        self.depth.retain(|_, count| *count > 0);
        self.ready.remove(&(brief.place, id.to_owned()));
        self.later.remove(&(brief.not_before_ms, id.to_owned()));
    }

    /// Those whose time has come.
    fn ripen(&mut self, now_ms: u64, tasks: &BTreeMap<String, Brief>) {
        while self.later.first().is_some_and(|(at_ms, _)| *at_ms <= now_ms) {
            let Some((_, id)) = self.later.pop_first() else { return };
            if let Some(brief) = tasks.get(&id) {
                self.ready.insert((brief.place, id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(state: TaskState, priority: i64, created_ms: u64, not_before_ms: u64) -> Option<Brief> {
        let (queue, place) = ("q".to_owned(), (Reverse(priority), created_ms));
        Some(Brief { queue, state, cancel: false, place, not_before_ms })
    }

    fn drain(board: &mut Board, now_ms: u64) -> Vec<String> {
        std::iter::from_fn(|| board.pick("q", 0, &BTreeSet::new(), now_ms)).collect()
    }

    #[test]
    fn the_urgent_comes_first_then_the_older_and_none_before_its_time() {
        let mut board = Board::default();
        board.set("young", brief(TaskState::Pending, 0, 9, 0));
        board.set("old", brief(TaskState::Pending, 0, 1, 0));
        board.set("urgent", brief(TaskState::Pending, 5, 9, 0));
        board.set("later", brief(TaskState::Pending, 9, 0, 70));
        board.set("done", brief(TaskState::Done, 9, 0, 0));
        assert_eq!(board.next_ms("q"), Some(0));
        assert_eq!(drain(&mut board, 50), ["urgent", "old", "young"]);
        assert_eq!(board.next_ms("q"), Some(70));
        assert_eq!(drain(&mut board, 70), ["later"]);
        board.put_back("old");
        assert_eq!(drain(&mut board, 70), ["old"], "the others are asked about");
        assert_eq!(board.depths().next().unwrap().1, &[(TaskState::Pending, 4), (TaskState::Done, 1)].into());
    }

    #[test]
    fn while_others_ask_for_the_same_each_node_begins_elsewhere_or_with_the_last() {
        let mut board = Board::default();
        (0..9).for_each(|n| board.set(&n.to_string(), brief(TaskState::Pending, 0, n, 0)));
        let none = BTreeSet::new();
        assert_eq!(board.pick("q", 1, &none, 0).as_deref(), Some("0"), "alone, as far as it knows");
        board.note_lost("q", 0);
        let shunned = BTreeSet::from(["1".to_owned()]);
        assert_eq!(board.pick("q", 0, &shunned, 0).as_deref(), Some("2"));
        assert_eq!(board.pick("q", 1, &none, 0).as_deref(), Some("6"));
        assert_eq!(board.pick("q", 7, &none, 0).as_deref(), Some("8"));
        board.set("urgent", brief(TaskState::Pending, 5, 9, 0));
        assert_eq!(board.pick("q", 7, &none, 0).as_deref(), Some("urgent"), "nobody passes over it");
        board.note_lost("q", CONTENDED_MS - 1);
        assert_eq!(
            board.pick("q", 1, &none, CONTENDED_MS).as_deref(),
            Some("1"),
            "it is over, who ever lost meanwhile"
        );
        assert_eq!(board.pick("other", 0, &none, 0), None);
    }

    #[test]
    fn what_goes_leaves_nothing_behind() {
        let mut board = Board::default();
        let unwanted = brief(TaskState::Pending, 0, 1, 0).map(|brief| Brief { cancel: true, ..brief });
        board.set("a", brief(TaskState::Pending, 0, 1, 0));
        board.set("a", unwanted);
        assert_eq!((board.unwanted().count(), drain(&mut board, 9).len()), (1, 0));
        board.set("a", brief(TaskState::Claimed, 0, 1, 0));
        assert_eq!((board.unwanted().count(), drain(&mut board, 9).len()), (0, 0));
        board.set("a", None);
        assert!(board.queues.is_empty() && board.tasks.is_empty());
    }
}
