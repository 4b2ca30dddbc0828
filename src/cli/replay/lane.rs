//! A lane: the one writer of its share of the documents, through one node.
//!
//! A batch with an unknown outcome (the connection broke after it was sent) may not simply be repeated, it counts. The
//! lane is the only writer of its workers, so their counters tell whether the batch arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use crate::cli::address::Address;
use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::replay::plan::Plan;
use crate::cli::replay::write::{Tally, Target, Write, cut, name};

/// Enough to share one fsync and one round trip; at about 300 bytes each far below what a node takes at once.
const BATCH_WRITES_MAX: usize = 100;
/// Writes a lane looks through to fill a batch.
const WAITING_MAX: usize = 400;
const TRIES_MAX: u32 = 10;
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What all lanes count together.
#[derive(Debug, Default)]
pub struct Progress {
    pub writes: AtomicU64,
    pub batches: AtomicU64,
    pub retries: AtomicU64,
}

#[derive(Debug)]
pub struct Lane {
    pub client: Client,
    pub plan: Arc<Plan>,
    pub progress: Arc<Progress>,
    pub bar: ProgressBar,
    tallies: BTreeMap<usize, Tally>,
}

impl Lane {
    pub fn new(client: Client, plan: Arc<Plan>, progress: Arc<Progress>, bar: ProgressBar) -> Self {
        Self { client, plan, progress, bar, tallies: BTreeMap::new() }
    }

    /// Writes all that comes, in order, until no more can come.
    pub async fn run(mut self, mut writes: Receiver<Write>) -> Result<(), Error> {
        let mut waiting = Vec::new();
        loop {
            if waiting.is_empty() {
                let Some(write) = writes.recv().await else { return Ok(()) };
                waiting.push(write);
            }
            while waiting.len() < WAITING_MAX {
                let Ok(write) = writes.try_recv() else { break };
                waiting.push(write);
            }
            let batch = cut(&mut waiting, BATCH_WRITES_MAX);
            self.send(&batch).await?;
            self.on_written(&batch);
        }
    }

    async fn send(&self, batch: &[Write]) -> Result<(), Error> {
        let writes: Vec<Value> = batch.iter().map(|write| write.to_json(&self.plan)).collect();
        let body = json!({ "writes": writes });
        let mut tries = 0;
        loop {
            let error = match self.client.post("/v1/batch", body.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let unknown = error.is_unknown();
            tries += 1;
            if !(unknown || error.may_retry()) || tries >= TRIES_MAX {
                return Err(error);
            }
            self.progress.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(100 << tries.min(6)).min(BACKOFF_MAX)).await;
            if unknown && self.arrived(batch).await? {
                return Ok(());
            }
        }
    }

    /// Whether a batch was applied of which no answer came. A batch is atomic, so one of its workers tells.
    async fn arrived(&self, batch: &[Write]) -> Result<bool, Error> {
        let counted = batch.iter().find_map(|write| match write.target {
            Target::Worker(index) if !write.tally.is_zero() => Some((index, write.tally)),
            _ => None,
        });
        // Without counters in it, a batch may be repeated: it sets what it set.
        let Some((index, moved)) = counted else { return Ok(false) };
        let (collection, id) = name(Target::Worker(index), &self.plan);
        let address = Address::new(collection, id).map_err(Error::Usage)?;
        let mut tries = 0;
        let document: Value = loop {
            match self.client.read(&address.path()).await {
                Ok(document) => break document,
                Err(error) if tries >= TRIES_MAX => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(BACKOFF_MAX / 5).await;
        };
        let number = |field: &str| document["fields"][field].as_u64().unwrap_or(0);
        let now = Tally { started: number("tasks_started"), finished: number("tasks_finished") };
        let before = self.tallies.get(&index).copied().unwrap_or_default();
        verdict(before, moved, now)
            .ok_or_else(|| Error::Failed(format!("{address}: someone else writes its counters; replay alone")))
    }

    fn on_written(&mut self, batch: &[Write]) {
        for write in batch {
            if let Target::Worker(index) = write.target {
                let tally = self.tallies.entry(index).or_default();
                *tally = tally.plus(write.tally);
            }
        }
        self.progress.writes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.progress.batches.fetch_add(1, Ordering::Relaxed);
        self.bar.inc(batch.iter().map(|write| write.events).sum());
    }
}

fn verdict(before: Tally, moved: Tally, now: Tally) -> Option<bool> {
    if now == before.plus(moved) {
        return Some(true);
    }
    (now == before).then_some(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use tokio::net::TcpListener;

    use super::*;
    use crate::cli::replay::trace::{Task, Worker};

    /// A node with one worker's counter. The first batch gets no good answer; `applies` says whether it is applied.
    #[derive(Debug)]
    struct Flaky {
        applies: bool,
        batches: u32,
        started: u64,
    }

    type Shared = Arc<Mutex<Flaky>>;

    async fn batch(State(flaky): State<Shared>, Json(batch): Json<Value>) -> StatusCode {
        let mut flaky = flaky.lock().unwrap();
        flaky.batches += 1;
        let first = flaky.batches == 1;
        if !first || flaky.applies {
            let operations = batch["writes"].as_array().unwrap().iter().flat_map(|w| w["ops"].as_array().unwrap());
            flaky.started += operations.filter(|operation| operation["field"] == "tasks_started").count() as u64;
        }
        if first { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::OK }
    }

    async fn worker(State(flaky): State<Shared>) -> Json<Value> {
        Json(json!({ "fields": { "tasks_started": flaky.lock().unwrap().started } }))
    }

    /// Places three tasks in one batch through a flaky node; what it counted, in how many batches.
    async fn place_three(applies: bool) -> (u64, u32) {
        let flaky = Arc::new(Mutex::new(Flaky { applies, batches: 0, started: 0 }));
        let router = Router::new().route("/v1/batch", post(batch)).route("/v1/docs/workers/w", get(worker));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(&listener.local_addr().unwrap().to_string()).unwrap();
        let router = router.with_state(flaky.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let plan = Arc::new(three_tasks());
        let (sender, receiver) = tokio::sync::mpsc::channel(64);
        for event in &plan.events {
            for write in Write::of(event, &plan).into_iter().filter(|write| !write.tally.is_zero()) {
                sender.send(write).await.unwrap();
            }
        }
        drop(sender);
        Lane::new(client, plan, Arc::default(), ProgressBar::hidden()).run(receiver).await.unwrap();
        let flaky = flaky.lock().unwrap();
        (flaky.started, flaky.batches)
    }

    fn three_tasks() -> Plan {
        let worker = Worker { id: "w".into(), cpu_milli: 9, memory_mib: 9, gpus: 0, gpu_model: None };
        let task = |id: &str| Task {
            id: id.to_owned(),
            cpu_milli: 1,
            memory_mib: 1,
            gpus: 0,
            gpu_milli: 0,
            created: 0,
            scheduled: Some(1),
            deleted: None,
            qos: None,
            phase: None,
        };
        Plan::new(vec![worker], ["a", "b", "c"].map(task).to_vec())
    }

    #[tokio::test]
    async fn a_batch_of_unknown_outcome_counts_once_whether_it_arrived_or_not() {
        assert_eq!(place_three(true).await, (3, 1), "it had arrived and must not be sent again");
        assert_eq!(place_three(false).await, (3, 2), "it had not arrived and must be sent again");
    }

    #[test]
    fn the_counters_tell_whether_a_batch_arrived() {
        let tally = |started, finished| Tally { started, finished };
        assert_eq!(verdict(tally(3, 1), tally(2, 0), tally(5, 1)), Some(true));
        assert_eq!(verdict(tally(3, 1), tally(2, 0), tally(3, 1)), Some(false));
        assert_eq!(verdict(tally(3, 1), tally(2, 0), tally(4, 1)), None);
    }
}
