//! Workers, for programs: who is there, and which of them could take a piece of work; see
//! [`domain::workers`](crate::domain::workers) for how each field merges.
//!
//! A host's own node keeps the worker of its host alive by its report. A program that is a worker itself registers, and
//! then says every few seconds that it is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::handle::Node;
use super::read::Shown;
use super::write::{DocumentWrite, Durability, IfMatch, Missing, Receipt, WriteBody, WriteError};
use crate::document::{Address, AddressError, Edit};
use crate::domain::vms::{self, Size};
use crate::domain::workers::{
    COLLECTION, Candidate, Needs, Resources, STATES, Selector, Status, Worker, WorkerError, WorkerSpec, assign, leave,
    register, update,
};

/// How often a change is tried again because another writer here was faster.
const TRIES_MAX: usize = 16;
/// Documents read at a time: a page holds up writers for well under a millisecond.
const PAGE: usize = 256;
/// Workers, or VMs, that one question looks at: ten times the largest fleet that was run.
pub const SCANNED_MAX: usize = 10_000;

/// The workers of the cluster.
#[derive(Clone, Debug)]
pub struct Workers {
    node: Node,
}

/// Which workers are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerFilter {
    pub status: Option<Status>,
    /// Only those that are there and take work.
    pub active: bool,
    pub labels: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkersError {
    #[error("there is no worker `{0}` on this node")]
    NotFound(String),
    #[error("worker `{0}` was changed by others {TRIES_MAX} times in a row: try again")]
    Contended(String),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl WorkerFilter {
    fn wants(&self, worker: &Worker) -> bool {
        self.status.is_none_or(|status| worker.status == status)
            && (!self.active || worker.is_active())
            && self.labels.selects(worker)
    }
}

impl Node {
    pub fn workers(&self) -> Workers {
        Workers { node: self.clone() }
    }
}

impl Workers {
    /// The worker is there, offers what `spec` says and takes work, unless somebody drains it. It has to be heard of again
    /// within its time to live.
    pub async fn register(&self, id: &str, spec: &WorkerSpec) -> Result<Receipt, WorkersError> {
        let now_ms = self.node.wall_ms();
        self.change(id, Missing::Create, |worker| register(worker, spec, now_ms)).await
    }

    /// Capacity and labels, said by anybody. Does not say that the worker is there.
    pub async fn update(&self, id: &str, spec: &WorkerSpec) -> Result<Receipt, WorkersError> {
        self.change(id, Missing::Refuse, |worker| update(worker, spec)).await
    }

    /// The worker is there; where it tells what it runs, the counters move by what came and went. Waits for no disk: the
    /// next one says the same.
    pub async fn heartbeat(&self, id: &str, running: Option<&BTreeSet<String>>) -> Result<Receipt, WorkersError> {
        let now_ms = self.node.wall_ms();
        if running.is_some() {
            return self
                .change(id, Missing::Refuse, |worker| known(worker, |now| now.heartbeat(running, now_ms)))
                .await;
        }
        let edits = self.get(id)?.heartbeat(None, now_ms)?;
        let write = write(address(id)?, edits, None, Missing::Refuse);
        Ok(self.node.write(vec![write], Durability::Memory).await?)
    }

    pub async fn drain(&self, id: &str) -> Result<Receipt, WorkersError> {
        self.change(id, Missing::Refuse, |worker| known(worker, Worker::drain)).await
    }

    pub async fn undrain(&self, id: &str) -> Result<Receipt, WorkersError> {
        self.change(id, Missing::Refuse, |worker| known(worker, Worker::undrain)).await
    }

    /// The worker is gone until it registers again, or until its host's node starts again.
    pub async fn leave(&self, id: &str) -> Result<Receipt, WorkersError> {
        self.change(id, Missing::Refuse, |_| Ok(leave())).await
    }

    /// As this node has it.
    pub fn get(&self, id: &str) -> Result<Worker, WorkersError> {
        let shown = self.node.read(&address(id)?).document;
        shown.map(|shown| worker(id, &shown)).ok_or_else(|| WorkersError::NotFound(id.to_owned()))
    }

    /// Those that `filter` wants, as this node has them, in order of their ids after `after`; and where to go on.
    pub fn list(&self, filter: &WorkerFilter, after: Option<&str>, limit: usize) -> (Vec<Worker>, Option<String>) {
        let (mut found, mut after, mut scanned) = (Vec::new(), after.map(str::to_owned), 0);
        loop {
            let page = self.node.list(COLLECTION, "", after.as_deref(), PAGE);
            scanned += page.items.len();
            for (id, shown) in page.items {
                let worker = worker(&id, &shown);
                if !filter.wants(&worker) {
                    after = Some(id);
                    continue;
                }
                // There is more: the last one given is where to go on.
                if found.len() == limit {
                    return (found, after);
                }
                found.push(worker);
                after = Some(id);
            }
            if page.next.is_none() {
                return (found, None);
            }
            if scanned >= SCANNED_MAX {
                return (found, after);
            }
        }
    }

    /// The workers that are there by this node's clock, take work, and have these labels.
    pub fn active(&self, labels: &Selector) -> Vec<Worker> {
        let filter = WorkerFilter { active: true, labels: labels.clone(), ..WorkerFilter::default() };
        self.list(&filter, None, SCANNED_MAX).0
    }

    /// The active workers that could take it, the one with the most room first. What VMs take of their hosts is left out.
    /// Nobody is promised anything: two that ask at once may choose the same worker.
    pub fn assign(&self, needs: &Needs, limit: usize) -> Result<Vec<Candidate>, WorkersError> {
        let active = self.active(&needs.labels);
        Ok(assign(&active, &self.taken_by_vms(), needs, limit)?)
    }

    /// How many workers are in each of [`STATES`].
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<_, _> = STATES.into_iter().map(|state| (state, 0)).collect();
        for worker in self.list(&WorkerFilter::default(), None, SCANNED_MAX).0 {
            *counts.entry(worker.state()).or_default() += 1;
        }
        counts
    }

    fn taken_by_vms(&self) -> BTreeMap<String, Resources> {
        let (mut taken, mut after) = (BTreeMap::<String, Resources>::new(), None::<String>);
        for _ in 0..SCANNED_MAX / PAGE {
            let page = self.node.list(vms::COLLECTION, "", after.as_deref(), PAGE);
            for (_, shown) in &page.items {
                let host = shown.view.fields.get("host").and_then(serde_json::Value::as_str);
                let size = shown.view.fields.get("size").and_then(|json| Size::deserialize(json).ok());
                if let (Some(host), Some(size)) = (host, size) {
                    taken.entry(host.to_owned()).or_default().add(&size.into());
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        taken
    }

    /// Writes what `edits` says of the worker as it is; again when another writer here came between.
    async fn change(
        &self,
        id: &str,
        missing: Missing,
        edits: impl Fn(Option<&Worker>) -> Result<Vec<Edit>, WorkerError>,
    ) -> Result<Receipt, WorkersError> {
        let address = address(id)?;
        for _ in 0..TRIES_MAX {
            let shown = self.node.read(&address).document;
            if shown.is_none() && missing == Missing::Refuse {
                return Err(WorkersError::NotFound(id.to_owned()));
            }
            let edits = edits(shown.as_ref().map(|shown| worker(id, shown)).as_ref())?;
            let write = write(address.clone(), edits, shown.map(|shown| shown.etag), missing);
            match self.node.write(vec![write], Durability::Local).await {
                Err(WriteError::Precondition { .. }) => {}
                written => return Ok(written?),
            }
        }
        Err(WorkersError::Contended(id.to_owned()))
    }
}

/// A worker that must be there, as [`Workers::change`] made sure.
fn known(
    worker: Option<&Worker>,
    edits: impl FnOnce(&Worker) -> Result<Vec<Edit>, WorkerError>,
) -> Result<Vec<Edit>, WorkerError> {
    worker.map_or(Ok(Vec::new()), edits)
}

/// Edits of what was read under `etag`; of nothing, where there is none.
fn write(address: Address, edits: Vec<Edit>, etag: Option<String>, missing: Missing) -> DocumentWrite {
    let create_only = etag.is_none() && missing == Missing::Create;
    let if_match = etag.map(|etag| IfMatch::Tags(vec![etag]));
    DocumentWrite { address, body: WriteBody::Edits(edits), if_match, create_only, missing }
}

pub(super) fn worker(id: &str, shown: &Shown) -> Worker {
    Worker::of(id, &shown.view.fields, shown.view.expires_at_ms.is_some() && !shown.expired)
}

fn address(id: &str) -> Result<Address, AddressError> {
    Address::new(COLLECTION, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::vms::VmSpec;
    use std::time::Duration;

    fn spec(cpus: u64, memory_mb: u64, zone: &str) -> WorkerSpec {
        let labels = [("zone".to_owned(), Some(zone.to_owned()))].into();
        WorkerSpec { capacity: Some(Resources::new(cpus, memory_mb)), labels }
    }

    async fn fleet() -> Node {
        let node = Node::builder().start().await.unwrap();
        for (id, cpus, zone) in [("ash", 8, "eu"), ("elm", 4, "eu"), ("oak", 16, "us")] {
            node.workers().register(id, &spec(cpus, 8_192, zone)).await.unwrap();
        }
        node
    }

    fn ids(workers: &[Worker]) -> Vec<&str> {
        workers.iter().map(|worker| worker.id.as_str()).collect()
    }

    #[tokio::test]
    async fn a_worker_registers_is_drained_and_leaves() {
        let node = fleet().await;
        let workers = node.workers();
        let all = Selector::default();
        assert_eq!(ids(&workers.active(&all)), ["ash", "elm", "oak"]);
        assert_eq!(ids(&workers.active(&"zone=eu".parse().unwrap())), ["ash", "elm"]);
        workers.drain("ash").await.unwrap();
        workers.register("ash", &WorkerSpec::default()).await.unwrap();
        assert_eq!(ids(&workers.active(&all)), ["elm", "oak"], "still drained");
        assert_eq!(workers.get("ash").unwrap().capacity, Resources::new(8, 8_192), "what is not named stays");
        workers.undrain("ash").await.unwrap();
        workers.leave("elm").await.unwrap();
        assert_eq!(ids(&workers.active(&all)), ["ash", "oak"]);
        assert_eq!(workers.heartbeat("elm", None).await.unwrap_err(), WorkerError::Gone("elm".into()).into());
        assert_eq!(workers.drain("yew").await.unwrap_err(), WorkersError::NotFound("yew".into()));
        assert_eq!(workers.update("yew", &spec(1, 1, "eu")).await.unwrap_err(), WorkersError::NotFound("yew".into()));
        assert_eq!(
            workers.counts(),
            [("active", 2), ("draining", 0), ("gone", 1), ("silent", 0), ("unknown", 0)].into()
        );
        workers.register("elm", &WorkerSpec::default()).await.unwrap();
        assert_eq!(ids(&workers.active(&all)), ["ash", "elm", "oak"]);
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_list_goes_on_where_it_ended_also_under_a_filter() {
        let node = fleet().await;
        let workers = node.workers();
        let eu = WorkerFilter { labels: "zone=eu".parse().unwrap(), ..WorkerFilter::default() };
        let (first, next) = workers.list(&eu, None, 1);
        assert_eq!((ids(&first), next.as_deref()), (vec!["ash"], Some("ash")));
        let (second, next) = workers.list(&eu, next.as_deref(), 1);
        assert_eq!((ids(&second), next), (vec!["elm"], None));
        workers.drain("oak").await.unwrap();
        let draining = WorkerFilter { status: Some(Status::Draining), ..WorkerFilter::default() };
        assert_eq!(ids(&workers.list(&draining, None, 9).0), ["oak"]);
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_heartbeat_counts_what_came_and_went() {
        let node = fleet().await;
        let workers = node.workers();
        let running = |tasks: &[&str]| tasks.iter().map(|task| (*task).to_owned()).collect::<BTreeSet<_>>();
        for tasks in [running(&["1", "2"]), running(&["1", "2"]), running(&["2", "3"])] {
            workers.heartbeat("ash", Some(&tasks)).await.unwrap();
        }
        let ash = workers.get("ash").unwrap();
        assert_eq!((ash.tasks_started, ash.tasks_finished, ash.running_tasks), (3, 1, running(&["2", "3"])));
        node.shutdown().await;
    }

    #[tokio::test]
    async fn what_vms_take_of_their_hosts_is_not_given_again() {
        let node = fleet().await;
        let needs = Needs { needs: Resources::new(4, 1_024), ..Needs::default() };
        let best = |node: &Node| node.workers().assign(&needs, 1).unwrap()[0].worker.clone();
        assert_eq!(best(&node), "oak");
        node.vms().create("7", &VmSpec { cpus: 12, memory_mb: 1_024, ..VmSpec::default() }).await.unwrap();
        node.vms().run("7", "oak", Duration::from_secs(60), Duration::ZERO).await.unwrap();
        assert_eq!(best(&node), "ash");
        node.shutdown().await;
    }
}
