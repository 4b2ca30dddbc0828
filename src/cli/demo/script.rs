//! What is written where: the demo's three acts of writing, as data.
//!
//! `elm` is the node that is cut off; `oak` and `ash` stay together.

use serde_json::{Value, json};

use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;

pub const NAMES: [&str; 3] = ["oak", "ash", "elm"];
pub const OAK: usize = 0;
pub const ASH: usize = 1;
pub const ELM: usize = 2;

/// One write, at one node.
#[derive(Debug, Clone)]
pub struct Step {
    pub node: usize,
    /// For the report.
    pub words: String,
    pub request: Request,
}

#[derive(Debug, Clone)]
pub enum Request {
    /// Documents that appear together or not at all: collection, id, fields.
    Batch(Vec<(String, String, Value)>),
    Merge {
        document: &'static str,
        patch: Value,
    },
    /// The same operations, so many times, each a write of its own.
    Operations {
        document: &'static str,
        operations: Value,
        times: u32,
    },
    Delete {
        document: &'static str,
    },
}

impl Step {
    fn new(node: usize, words: impl Into<String>, request: Request) -> Self {
        Self { node, words: words.into(), request }
    }

    /// Documents and operations this step writes.
    pub fn writes(&self) -> u64 {
        match &self.request {
            Request::Batch(documents) => documents.len() as u64,
            Request::Operations { times, .. } => u64::from(*times),
            Request::Merge { .. } | Request::Delete { .. } => 1,
        }
    }

    pub async fn play(&self, client: &Client) -> Result<(), Error> {
        let path = |document: &str| format!("/v1/docs/{document}");
        let terms = Terms::default();
        match &self.request {
            Request::Batch(documents) => {
                let put = |(collection, id, fields): &(String, String, Value)| json!({ "op": "put", "collection": collection, "id": id, "fields": fields });
                let writes: Vec<Value> = documents.iter().map(put).collect();
                client.post("/v1/batch", json!({ "writes": writes })).await?;
            }
            Request::Merge { document, patch } => {
                let body = Body::merge_patch(patch.clone());
                client.send(reqwest::Method::PATCH, &path(document), Some(body), &terms).await?;
            }
            Request::Operations { document, operations, times } => {
                for _ in 0..*times {
                    let body = Body::operations(operations.clone());
                    let path = format!("{}?upsert=true", path(document));
                    client.send(reqwest::Method::PATCH, &path, Some(body), &terms).await?;
                }
            }
            Request::Delete { document } => {
                client.delete(&path(document)).await?;
            }
        }
        Ok(())
    }
}

pub const VMS: u64 = 30;
pub const TASKS_TOGETHER: u64 = 20;
pub const TASKS_WEST: u64 = 60;
pub const TASKS_EAST: u64 = 40;
/// The counter after all three acts.
pub const REQUESTS: i64 = (100 + 3 + 4) + (10 * 5 + 20) + 7 * 10;

const TOTALS: &str = "fleet/totals";
pub const CONTESTED: &str = "vms/vm-07";
const CONTESTED_TOO: &str = "vms/vm-12";
const DELETED: &str = "vms/vm-21";

fn requests(by: i64) -> Value {
    json!([{ "field": "requests", "incr": by }])
}

fn count(by: i64, times: u32) -> Request {
    Request::Operations { document: TOTALS, operations: requests(by), times }
}

fn tasks(prefix: &str, count: u64) -> Request {
    let task = |n| (String::from("tasks"), format!("{prefix}-{n:02}"), json!({ "payload": n, "priority": n % 3 }));
    Request::Batch((1..=count).map(task).collect())
}

/// Before the split.
pub fn together() -> Vec<Step> {
    let vm = |n| {
        let fields = json!({ "power_state": "running", "note": "new", "labels": ["eu", "old"] });
        (String::from("vms"), format!("vm-{n:02}"), fields)
    };
    vec![
        Step::new(OAK, format!("{VMS} VMs in one batch"), Request::Batch((1..=VMS).map(vm).collect())),
        Step::new(ASH, format!("{TASKS_TOGETHER} tasks in one batch"), tasks("t", TASKS_TOGETHER)),
        Step::new(OAK, "fleet/totals requests +100", count(100, 1)),
        Step::new(ASH, "fleet/totals requests +1, 3 times", count(1, 3)),
        Step::new(ELM, "fleet/totals requests +2, twice", count(2, 2)),
    ]
}

/// During the split. In the order of time: of two writes to one field, the later one is to win.
pub fn apart() -> Vec<Step> {
    let labels = |node, words: &str, operations| {
        Step::new(
            node,
            format!("{CONTESTED} labels: {words}"),
            Request::Operations { document: CONTESTED, operations, times: 1 },
        )
    };
    let merge = |node, document: &'static str, patch: Value, words: &str| {
        Step::new(node, format!("{document} {words}"), Request::Merge { document, patch })
    };
    vec![
        merge(OAK, CONTESTED, json!({ "power_state": "stopped" }), "power_state = stopped"),
        merge(ELM, CONTESTED, json!({ "power_state": "paused" }), "power_state = paused"),
        merge(ELM, CONTESTED_TOO, json!({ "note": "drain it" }), "note = drain it"),
        merge(ASH, CONTESTED_TOO, json!({ "note": "keep it" }), "note = keep it"),
        labels(
            OAK,
            "add gpu, remove old, remove eu",
            json!([
                { "field": "labels", "add": "gpu" },
                { "field": "labels", "remove": "old" },
                { "field": "labels", "remove": "eu" },
            ]),
        ),
        labels(
            ELM,
            "add spot, remove eu",
            json!([
                { "field": "labels", "add": "spot" },
                { "field": "labels", "remove": "eu" },
            ]),
        ),
        labels(ELM, "add eu again", json!([{ "field": "labels", "add": "eu" }])),
        Step::new(OAK, format!("{DELETED} deleted"), Request::Delete { document: DELETED }),
        merge(ELM, DELETED, json!({ "note": "busy" }), "note = busy"),
        Step::new(OAK, "fleet/totals requests +10, 5 times", count(10, 5)),
        Step::new(ASH, "fleet/totals requests +1, 20 times", count(1, 20)),
        Step::new(ELM, "fleet/totals requests +7, 10 times", count(7, 10)),
        Step::new(OAK, format!("{TASKS_WEST} tasks in one batch"), tasks("west", TASKS_WEST)),
        Step::new(ELM, format!("{TASKS_EAST} tasks in one batch"), tasks("east", TASKS_EAST)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_the_sum_of_all_that_is_written() {
        let sum: i64 = together()
            .iter()
            .chain(&apart())
            .filter_map(|step| match &step.request {
                Request::Operations { document: TOTALS, operations, times } => {
                    Some(operations[0]["incr"].as_i64().unwrap() * i64::from(*times))
                }
                _ => None,
            })
            .sum();
        assert_eq!(sum, REQUESTS);
    }
}
