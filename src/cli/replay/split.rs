//! A trace replayed while the cluster is cut in two and healed, over and over: any node takes any event, so both halves
//! write the same documents, and what they disagree about is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::cli::address::query;
use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::replay::drive::wait_equal;
use crate::cli::replay::plan::{Event, Plan};
use crate::cli::replay::write::{Body, Write};
use crate::cli::view::read_all;

/// Writes of one batch.
const BATCH_WRITES: usize = 20;
const CHAOS: &str = "/v1/chaos/block";

/// What came of it.
#[derive(Debug, Default)]
struct Told {
    cuts: u64,
    writes: u64,
    batch_us: Vec<u64>,
    equal_ms: Vec<u64>,
    /// Conflicts found after some healing, by class, field or rule, resolver and status: each with the ids of its kind.
    conflicts: BTreeMap<(String, String, String, String), BTreeSet<String>>,
    waiting: u64,
}

/// Writes the workers, then the events, `every` of them connected and `every` of them cut, in turn.
pub async fn replay_split(plan: &Plan, clients: &[Client], every: usize, output: Output) -> Result<(), Error> {
    if clients.len() < 2 {
        return Err(Error::Usage("--split needs two nodes or more: name each with --api".to_owned()));
    }
    let ids: Vec<String> = read_all(clients).await?.into_iter().map(|view| view.node).collect();
    let mut told = Told::default();
    let start = Instant::now();
    let workers: Vec<Write> =
        plan.workers.iter().enumerate().map(|(index, worker)| Write::worker(index, worker)).collect();
    send(&clients[0], plan, &workers, &mut told).await?;
    wait_equal(clients).await?;
    for (round, events) in plan.events.chunks(every.max(1)).enumerate() {
        let cut = round % 2 == 1;
        if cut {
            told.cuts += 1;
            cut_in_two(clients, &ids).await?;
        }
        let done = write_anywhere(plan, clients, events).await;
        heal(clients).await?;
        for (writes, batch_us) in done? {
            told.writes += writes;
            told.batch_us.extend(batch_us);
        }
        let equal = wait_equal(clients).await?;
        if cut {
            told.equal_ms.push(equal.as_millis() as u64);
            count_conflicts(clients, &mut told).await?;
        }
    }
    let summary = told.summary(plan, start.elapsed());
    output.either(&summary, || told.words(start.elapsed()))
}

/// The first half from the second, in this order.
pub(super) async fn cut_in_two(clients: &[Client], ids: &[String]) -> Result<(), Error> {
    let (left, right) = ids.split_at(ids.len() / 2);
    let block = |index: usize| {
        let others = if index < left.len() { right } else { left };
        clients[index].post(CHAOS, json!({ "peers": others }))
    };
    try_join_all((0..clients.len()).map(block)).await.map(drop)
}

pub(super) async fn heal(clients: &[Client]) -> Result<(), Error> {
    try_join_all(clients.iter().map(|client| client.delete(CHAOS))).await.map(drop)
}

/// Each node takes every n-th event; all of them write at once.
async fn write_anywhere(plan: &Plan, clients: &[Client], events: &[Event]) -> Result<Vec<(u64, Vec<u64>)>, Error> {
    let share = |index: usize| async move {
        let mine = events.iter().skip(index).step_by(clients.len());
        let writes: Vec<Write> = mine.flat_map(|event| Write::of(event, plan)).collect();
        let mut told = Told::default();
        send(&clients[index], plan, &writes, &mut told).await?;
        Ok((told.writes, told.batch_us))
    };
    try_join_all((0..clients.len()).map(share)).await
}

async fn send(client: &Client, plan: &Plan, writes: &[Write], told: &mut Told) -> Result<(), Error> {
    for batch in writes.chunks(BATCH_WRITES) {
        // The half that takes an event may not have the document yet: patches create.
        let writes: Vec<Value> = batch
            .iter()
            .map(|write| {
                let mut json = write.to_json(plan);
                if matches!(write.body, Body::Patch(_)) {
                    json["upsert"] = true.into();
                }
                json
            })
            .collect();
        let start = Instant::now();
        client.post("/v1/batch", json!({ "writes": writes })).await?;
        told.batch_us.push(start.elapsed().as_micros() as u64);
        told.writes += batch.len() as u64;
    }
    Ok(())
}

/// Every node must list the same conflicts.
async fn count_conflicts(clients: &[Client], told: &mut Told) -> Result<(), Error> {
    let lists = try_join_all(clients.iter().map(conflicts)).await?;
    if let Some(other) = lists.iter().position(|list| *list != lists[0]) {
        let (first, other) = (clients[0].api(), clients[other].api());
        return Err(Error::Failed(format!("{first} and {other} hold equal states and list different conflicts")));
    }
    told.waiting = 0;
    for conflict in &lists[0] {
        let text = |name: &str| conflict[name].as_str().unwrap_or_default().to_owned();
        let collection = text("document").split('/').next().unwrap_or_default().to_owned();
        let place = if conflict["field"].is_null() { text("rule") } else { text("field") };
        let key = (text("class"), format!("{collection}.{place}"), text("resolver"), text("status"));
        told.conflicts.entry(key).or_default().insert(text("id"));
        told.waiting += u64::from(conflict["status"] != "settled");
    }
    Ok(())
}

async fn conflicts(client: &Client) -> Result<Vec<Value>, Error> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let asked = query(&[("after", after), ("limit", Some("1000".to_owned()))]);
        let page: Value = client.read(&format!("/v1/conflicts{asked}")).await?;
        all.extend(page["items"].as_array().cloned().unwrap_or_default());
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(all);
        }
    }
}

pub(super) fn percentile(values: &[u64], share: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

impl Told {
    fn summary(&self, plan: &Plan, took: Duration) -> Value {
        let conflicts: Vec<Value> = self
            .conflicts
            .iter()
            .map(|((class, place, resolver, status), ids)| {
                json!({"class": class, "place": place, "resolver": resolver, "status": status, "count": ids.len()})
            })
            .collect();
        json!({
            "events": plan.events.len(), "writes": self.writes, "cuts": self.cuts, "seconds": took.as_secs_f64(),
            "batch_us": {"p50": percentile(&self.batch_us, 0.5), "p99": percentile(&self.batch_us, 0.99)},
            "equal_ms": {"p50": percentile(&self.equal_ms, 0.5), "max": self.equal_ms.iter().max()},
            "conflicts": conflicts, "waiting": self.waiting,
        })
    }

    fn words(&self, took: Duration) -> String {
        let mut lines = vec![format!(
            "{} writes with {} cuts in {:.1} s. Batches of {BATCH_WRITES}: p50 {} µs, p99 {} µs. Equal after a cut: p50 {} ms, at most {} ms.",
            self.writes,
            self.cuts,
            took.as_secs_f64(),
            percentile(&self.batch_us, 0.5),
            percentile(&self.batch_us, 0.99),
            percentile(&self.equal_ms, 0.5),
            self.equal_ms.iter().max().unwrap_or(&0),
        )];
        for ((class, place, resolver, status), ids) in &self.conflicts {
            lines.push(format!("{:7}  {class:18} {place:24} {resolver:14} {status}", ids.len()));
        }
        lines.push(format!("{:7}  wait for somebody at the end", self.waiting));
        lines.join("\n")
    }
}
