//! What a node holds at the end, counted the way the trace is.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::read::Pages;
use crate::cli::replay::plan::{Counts, Plan};

/// The counts of one node.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    pub api: String,
    #[serde(flatten)]
    pub counts: Counts,
    pub tasks_started: u64,
    pub tasks_finished: u64,
    pub running: u64,
}

impl Held {
    /// Counts what this node holds of the plan's documents; others may be there too.
    pub async fn read(client: &Client, plan: &Plan) -> Result<Self, Error> {
        let mut held = Self {
            api: client.api().to_owned(),
            counts: Counts::default(),
            tasks_started: 0,
            tasks_finished: 0,
            running: 0,
        };
        let workers: BTreeSet<&str> = plan.workers.iter().map(|worker| worker.id.as_str()).collect();
        let mut pages = Pages::new("workers", None);
        while let Some(page) = pages.next(client, u64::MAX).await? {
            page.iter().filter(|worker| workers.contains(worker.id.as_str())).for_each(|w| held.worker(&w.fields));
        }
        let tasks: BTreeSet<&str> = plan.tasks.iter().map(|task| task.id.as_str()).collect();
        let mut pages = Pages::new("pods", None);
        while let Some(page) = pages.next(client, u64::MAX).await? {
            page.iter().filter(|task| tasks.contains(task.id.as_str())).for_each(|task| held.task(&task.fields));
        }
        Ok(held)
    }

    fn worker(&mut self, fields: &Map<String, Value>) {
        let number = |field: &str| fields.get(field).and_then(Value::as_u64).unwrap_or(0);
        self.counts.workers += 1;
        self.tasks_started += number("tasks_started");
        self.tasks_finished += number("tasks_finished");
        self.running += fields.get("running_tasks").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    }

    fn task(&mut self, fields: &Map<String, Value>) {
        let has = |field: &str| fields.get(field).is_some_and(|value| !value.is_null());
        let deleted = fields.get("state").is_some_and(|state| state == "deleted");
        self.counts.tasks += 1;
        self.counts.scheduled += u64::from(has("scheduled_at"));
        self.counts.never_scheduled += u64::from(!has("scheduled_at"));
        self.counts.deleted += u64::from(deleted);
        self.counts.unplaceable += u64::from(has("scheduled_at") && !has("worker"));
        self.counts.finished += u64::from(deleted && has("worker"));
    }

    /// Whether this is what the trace says: the documents, and the workers' counters and sets beside them.
    pub fn agrees(&self, counts: &Counts) -> bool {
        let started = counts.scheduled - counts.unplaceable;
        self.counts == *counts
            && self.tasks_started == started
            && self.tasks_finished == counts.finished
            && self.running == started - counts.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn counters_that_miss_one_start_do_not_agree() {
        let counts =
            Counts { workers: 1, tasks: 2, scheduled: 1, never_scheduled: 1, deleted: 1, unplaceable: 0, finished: 1 };
        let held = |started: u64, running: Value| {
            let (api, counts) = (String::new(), Counts::default());
            let mut held = Held { api, counts, tasks_started: 0, tasks_finished: 0, running: 0 };
            held.worker(&fields(json!({ "tasks_started": started, "tasks_finished": 1, "running_tasks": running })));
            held.task(&fields(json!({ "state": "deleted", "scheduled_at": 1, "worker": "w" })));
            held.task(&fields(json!({ "state": "pending" })));
            held
        };
        assert!(held(1, json!([])).agrees(&counts));
        assert!(!held(2, json!([])).agrees(&counts));
        assert!(!held(1, json!(["t"])).agrees(&counts));
    }
}
