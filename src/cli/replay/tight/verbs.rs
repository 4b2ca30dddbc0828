//! The verbs of tasks, queues and capacity at one node, as a program that uses them calls them.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::address::encode;
use crate::cli::client::{Body, Client, Terms};
use crate::cli::exit::Error;

/// Why a node did not do it. Everything else ends the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum No {
    /// It can ask nobody.
    Quorum,
    /// A quorum has not that much left to give.
    Room,
    /// The task is this worker's no more.
    Holder,
    /// It may have been done. The same may be asked again.
    Unknown,
}

/// What was asked for, or why it was not done; an error is none of both.
pub type Told<T> = Result<Result<T, No>, Error>;

/// A task of the queue, for a worker.
#[derive(Debug, Deserialize)]
pub struct Claimed {
    pub task: ClaimedTask,
    pub token: u64,
}

#[derive(Debug, Deserialize)]
pub struct ClaimedTask {
    pub id: String,
}

/// A host as a node has it.
#[derive(Debug, Default, Deserialize)]
pub struct Room {
    pub limits: Memory,
    pub used: Memory,
    pub rights: BTreeMap<String, Memory>,
    pub placements: Vec<Placement>,
    pub void: Vec<Placement>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub struct Memory {
    #[serde(default)]
    pub memory_mb: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Placement {
    pub thing: String,
    pub amounts: Memory,
    pub by: String,
    pub settled: bool,
}

/// How a worker lets a task go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Done,
    GivenBack,
    /// For good: no host is large enough.
    TooLarge,
}

impl Room {
    pub fn free(&self) -> u64 {
        self.limits.memory_mb.saturating_sub(self.used.memory_mb)
    }

    /// What all that have a right may place together.
    pub fn allotted(&self) -> u64 {
        let settled = self.placements.iter().filter(|placed| placed.settled).map(|placed| placed.amounts.memory_mb);
        self.rights.values().map(|right| right.memory_mb).chain(settled).sum()
    }

    /// What a node has the right to, and does not use.
    pub fn unspent_by(&self, node: &str) -> u64 {
        let is_its = |by: &str| by.split('/').next() == Some(node);
        let right: u64 = self.rights.iter().filter(|(by, _)| is_its(by)).map(|(_, right)| right.memory_mb).sum();
        let placed = self.placements.iter().filter(|placed| is_its(&placed.by) && !placed.settled);
        right.saturating_sub(placed.map(|placed| placed.amounts.memory_mb).sum())
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Verbs<'a>(pub &'a Client);

impl Verbs<'_> {
    pub async fn create(self, id: &str, spec: Value) -> Told<()> {
        self.ask(Method::POST, &task(id, ""), spec).await.map(|told| told.map(drop))
    }

    /// Whether it is cancelled; else it is asked for.
    pub async fn cancel(self, id: &str) -> Told<bool> {
        let told = self.ask(Method::POST, &task(id, "/cancel"), json!({})).await?;
        Ok(told.map(|task| task["state"] == "cancelled"))
    }

    /// `None`: the queue has none to hand out.
    pub async fn claim(self, queue: &str, worker: &str, lease: Duration, wait: Duration) -> Told<Option<Claimed>> {
        let (lease, wait) = (lease.as_millis() as u64, wait.as_millis() as u64);
        let wanted = json!({ "worker": worker, "lease_ms": lease, "wait_ms": wait });
        match self.ask(Method::POST, &format!("/v1/queues/{}/claim", encode(queue, false)), wanted).await? {
            Ok(answer) if answer["task"].is_null() => Ok(Ok(None)),
            Ok(answer) => self.shape(answer).map(|claimed| Ok(Some(claimed))),
            Err(no) => Ok(Err(no)),
        }
    }

    pub async fn start(self, id: &str, token: u64) -> Told<()> {
        let told = self.ask(Method::POST, &task(id, "/start"), json!({ "token": token })).await?;
        Ok(told.map(drop))
    }

    pub async fn extend(self, id: &str, token: u64) -> Told<()> {
        let told = self.ask(Method::PUT, &task(id, "/claim"), json!({ "token": token })).await?;
        Ok(told.map(drop))
    }

    /// Asked again under the same token it comes to the same.
    pub async fn let_go(self, id: &str, token: u64, word: Word, worker: &str) -> Told<()> {
        let (method, verb, body) = match word {
            Word::Done => (Method::POST, "complete", json!({ "token": token, "result": { "by": worker } })),
            Word::GivenBack => (Method::DELETE, "claim", json!({ "token": token })),
            Word::TooLarge => {
                (Method::POST, "fail", json!({ "token": token, "error": "larger than any host", "retry": false }))
            }
        };
        self.ask(method, &task(id, &format!("/{verb}")), body).await.map(|told| told.map(drop))
    }

    pub async fn set_limit(self, host: &str, mib: u64) -> Told<()> {
        let told = self.ask(Method::PUT, &capacity(host, ""), json!({ "memory_mb": mib })).await?;
        Ok(told.map(drop))
    }

    pub async fn place(self, host: &str, thing: &str, mib: u64) -> Told<()> {
        let path = capacity(host, &format!("/placements/{}", encode(thing, true)));
        self.ask(Method::PUT, &path, json!({ "memory_mb": mib })).await.map(|told| told.map(drop))
    }

    pub async fn release(self, host: &str, thing: &str) -> Told<()> {
        let path = capacity(host, &format!("/placements/{}", encode(thing, true)));
        self.ask(Method::DELETE, &path, Value::Null).await.map(|told| told.map(drop))
    }

    /// The node keeps no right on the host that it does not use.
    pub async fn give_back(self, host: &str) -> Told<()> {
        let told = self.ask(Method::POST, &capacity(host, "/give-back"), Value::Null).await?;
        Ok(told.map(drop))
    }

    pub async fn room(self, host: &str) -> Result<Room, Error> {
        self.0.read(&capacity(host, "")).await
    }

    async fn ask(self, method: Method, path: &str, body: Value) -> Told<Value> {
        let body = (!body.is_null()).then(|| Body::json(body));
        match self.0.send(method, path, body, &Terms::default()).await {
            Ok(answer) => self.0.parse(&answer).map(Ok),
            Err(error) => no(&error).map(Err).ok_or(error),
        }
    }

    fn shape<T: serde::de::DeserializeOwned>(self, answer: Value) -> Result<T, Error> {
        serde_json::from_value(answer)
            .map_err(|error| Error::Answer { api: self.0.api().to_owned(), cause: error.to_string() })
    }
}

fn task(id: &str, more: &str) -> String {
    format!("/v1/tasks/{}{more}", encode(id, false))
}

fn capacity(host: &str, more: &str) -> String {
    format!("/v1/capacity/{}{more}", encode(host, false))
}

fn no(error: &Error) -> Option<No> {
    match error {
        Error::Refused(problem) => match problem.kind.strip_prefix("urn:folkmoot:problem:")? {
            "no-quorum" => Some(No::Quorum),
            "no-room" => Some(No::Room),
            "not-holder" | "held" | "wrong-state" => Some(No::Holder),
            "undecided" | "busy" | "behind" => Some(No::Unknown),
            _ => None,
        },
        Error::NoAnswer { .. } => Some(No::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::problem::Problem;

    #[test]
    fn what_a_node_may_place_by_itself_is_its_right_less_what_it_placed() {
        let room: Room = serde_json::from_value(json!({
            "worker": "h", "limits": { "memory_mb": 100 }, "free": { "memory_mb": 30 }, "used": { "memory_mb": 25 },
            "rights": { "a/1": { "memory_mb": 40 }, "b/1": { "memory_mb": 20 } }, "void": [], "stale": false,
            "placements": [
                { "thing": "x", "amounts": { "memory_mb": 15 }, "by": "a/1", "settled": false },
                { "thing": "y", "amounts": { "memory_mb": 10 }, "by": "a/0", "settled": true },
            ],
        }))
        .unwrap();
        assert_eq!((room.unspent_by("a"), room.unspent_by("b"), room.unspent_by("c")), (25, 20, 0));
        assert_eq!((room.free(), room.allotted()), (75, 70));
    }

    #[test]
    fn each_refusal_is_known_by_its_kind_and_what_is_not_ends_the_replay() {
        let refused = |kind: &str| {
            let body = format!(r#"{{"type":"urn:folkmoot:problem:{kind}","title":"t","detail":"d","status":409}}"#);
            no(&Error::Refused(Problem::parse(409, body.as_bytes())))
        };
        assert_eq!(refused("no-room"), Some(No::Room));
        assert_eq!(refused("no-quorum"), Some(No::Quorum));
        assert_eq!(refused("not-holder"), Some(No::Holder));
        assert_eq!(refused("undecided"), Some(No::Unknown));
        assert_eq!(refused("bad-capacity"), None);
        assert_eq!(no(&Error::NoAnswer { api: String::new(), cause: String::new() }), Some(No::Unknown));
    }
}
