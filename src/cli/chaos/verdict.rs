//! The oracles over HTTP: what was told to clients is held against what the nodes hold in the end.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::cli::chaos::clients::{History, MARKERS, Told};
use crate::cli::chaos::stage::Stage;
use crate::cli::chaos::timeline::Timeline;
use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::read::{Document, Pages};
use crate::sim::workload::{COLLECTION, COUNTER, COUNTERS, Durability};

/// What one oracle said.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    pub oracle: &'static str,
    /// How much it looked at.
    pub checked: usize,
    /// What was wrong; empty when it holds.
    pub wrong: Vec<String>,
}

/// Findings told for each oracle; of the rest only that there are more.
const TOLD_MAX: usize = 5;

impl Verdict {
    pub fn new(oracle: &'static str, checked: usize, mut wrong: Vec<String>) -> Self {
        if wrong.len() > TOLD_MAX {
            let more = wrong.len() - TOLD_MAX;
            wrong.truncate(TOLD_MAX);
            wrong.push(format!("and {more} more"));
        }
        Self { oracle, checked, wrong }
    }
}

type Held = BTreeMap<String, Value>;

async fn collection(client: &Client, name: &str) -> Result<Held, Error> {
    let (mut pages, mut held) = (Pages::new(name, None), Held::new());
    while let Some(page) = pages.next(client, 1_000).await? {
        held.extend(page.into_iter().map(|document: Document| (document.id, Value::Object(document.fields))));
    }
    Ok(held)
}

async fn collections(client: &Client) -> Result<BTreeMap<&'static str, Held>, Error> {
    let mut held = BTreeMap::new();
    for name in [MARKERS, COUNTERS, COLLECTION] {
        held.insert(name, collection(client, name).await?);
    }
    Ok(held)
}

/// Asks every node for everything, and judges.
pub async fn judge(stage: &Stage, history: &History, timeline: &Timeline) -> Result<Vec<Verdict>, Error> {
    let mut all: Vec<(usize, BTreeMap<&str, Held>)> = Vec::new();
    let mut differ = Vec::new();
    for (node, process) in stage.running() {
        match collections(&process.client).await {
            Ok(held) => all.push((node, held)),
            Err(error) => differ.push(format!("n{node} does not say what it holds: {error}")),
        }
    }
    let Some((first, held)) = all.first() else {
        return Err(Error::Failed("no node is left to ask".into()));
    };
    let (markers, counters) = (&held[MARKERS], &held[COUNTERS]);
    for (node, other) in &all[1..] {
        for (name, documents) in other.iter().filter(|(name, documents)| held[**name] != **documents) {
            let ids = documents.iter().filter(|(id, fields)| held[*name].get(*id) != Some(*fields)).map(|(id, _)| id);
            let missing = held[*name].keys().filter(|id| !documents.contains_key(*id));
            let ids: Vec<&str> = ids.chain(missing).take(3).map(String::as_str).collect();
            differ.push(format!("n{first} and n{node} hold different {name}: {}", ids.join(", ")));
        }
    }
    let documents = held.values().map(Held::len).sum();
    Ok(vec![
        Verdict::new("the same documents everywhere", documents, differ),
        durability(history, markers, timeline),
        removal(history, markers),
        sums(history, counters, timeline),
        Verdict::new("a session never goes back", history.reads as usize, history.stale.clone()),
    ])
}

/// What holds through what was done: a write on this disk holds unless the disk went back, one in memory if nobody died.
fn holds(told: Told, node: usize, timeline: &Timeline) -> bool {
    let killed = timeline.steps.iter().any(|step| {
        use crate::cli::chaos::timeline::Act::*;
        matches!(&step.act, Kill(n) | Restore(n) | Flip(n) | Leave(n) if *n == node)
    });
    match told {
        Told::Unknown => false,
        Told::Acknowledged(Durability::Memory) => !killed,
        Told::Acknowledged(Durability::Replicas(n)) if n > 1 => true,
        Told::Acknowledged(_) => !timeline.rolled_back.contains(&node),
    }
}

fn durability(history: &History, markers: &Held, timeline: &Timeline) -> Verdict {
    let must = history.markers.iter().filter(|(_, marker)| holds(marker.told, marker.node, timeline));
    let must: Vec<_> = must.filter(|(_, marker)| marker.removed.is_none()).collect();
    let lost = must.iter().filter(|(id, _)| !markers.contains_key(*id));
    let lost =
        lost.map(|(id, marker)| format!("{id} of n{} was acknowledged ({:?}) and is gone", marker.node, marker.told));
    Verdict::new("what was acknowledged is there", must.len(), lost.collect())
}

fn removal(history: &History, markers: &Held) -> Verdict {
    let gone: Vec<_> =
        history.markers.iter().filter(|(_, m)| matches!(m.removed, Some(Told::Acknowledged(_)))).collect();
    let back =
        gone.iter().filter(|(id, _)| markers.contains_key(*id)).map(|(id, _)| format!("{id} was removed and is back"));
    Verdict::new("what was removed stays away", gone.len(), back.collect())
}

/// A counter lies between the sum of what surely counts and that with anything that may.
fn sums(history: &History, counters: &Held, timeline: &Timeline) -> Verdict {
    let mut wrong = Vec::new();
    for (document, increments) in &history.increments {
        let (mut low, mut high) = (0, 0);
        for (node, by, told) in increments {
            if holds(*told, *node, timeline) {
                (low, high) = (low + by, high + by);
            } else {
                (low, high) = (low + by.min(&0), high + by.max(&0));
            }
        }
        let id = document.trim_start_matches(COUNTERS).trim_start_matches('/');
        let value = counters.get(id).and_then(|fields| fields.get(COUNTER)).and_then(Value::as_i64).unwrap_or(0);
        if value < low || value > high {
            wrong.push(format!("{document} is {value}, and its increments come to {low} up to {high}"));
        }
    }
    Verdict::new("counters are the sums of their increments", history.increments.len(), wrong)
}
