//! Three nodes, a network to cut, and what both sides write while it is cut.

use std::time::Duration;

use serde_json::Value;

use super::{Cluster, Ended, Http, Reply, run, until};

pub const LIMIT: Duration = Duration::from_secs(20);

/// Two writers: the first of these nodes writes first.
pub const WEST: usize = 0;
pub const EAST: usize = 2;

/// Three nodes and a network to cut.
pub struct World(pub Cluster);

impl World {
    pub async fn start() -> Self {
        Self(Cluster::start(3).await)
    }

    pub fn http(&self, node: usize) -> &Http {
        &self.0[node].http
    }

    pub async fn schema(&self, collection: &str, text: &str) {
        put_text(self.http(WEST), &format!("/v1/schemas/{collection}"), text).await.ok();
    }

    pub async fn cut(&self) {
        self.0.agree().await;
        self.0.partition(&[&[0, 1], &[2]]).await;
    }

    pub async fn heal(&self) {
        self.0.heal().await;
        self.0.agree().await;
    }

    /// Both sides write, the east later.
    pub async fn both(&self, writes: &[(&str, Value, Value)]) {
        self.cut().await;
        for (document, west, _) in writes {
            merge(self.http(WEST), document, west.clone()).await;
        }
        next_millisecond().await;
        for (document, _, east) in writes {
            merge(self.http(EAST), document, east.clone()).await;
        }
        self.heal().await;
    }

    /// The one conflict of a document, which all nodes must list alike.
    pub async fn conflict(&self, document: &str) -> Value {
        let mut found = self.conflicts_of(document).await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    pub async fn conflicts_of(&self, document: &str) -> Vec<Value> {
        let of = async |node: usize| {
            let mut listed = listed(self.http(node), "").await;
            listed.retain(|conflict| conflict["document"] == document);
            listed
        };
        let here = of(0).await;
        for node in [1, 2] {
            assert_eq!(of(node).await, here, "node {node} lists other conflicts");
        }
        here
    }

    pub async fn post(&self, node: usize, path: &str, body: Value) -> Value {
        self.http(node).ask("POST", path, &[], body).await.ok()
    }

    pub async fn cli(&self, args: &[&str]) -> Ended {
        run(&[args, &["--api", &self.0[1].ready.api]].concat(), LIMIT).await
    }

    /// What every node reads in a field.
    pub async fn reads(&self, document: &str, field: &str) -> Value {
        self.0.agree().await;
        let shown = self.http(0).fields(document).await[field].take();
        for node in [1, 2] {
            assert_eq!(self.http(node).fields(document).await[field], shown, "node {node}");
        }
        shown
    }
}

pub async fn listed(http: &Http, query: &str) -> Vec<Value> {
    let page = http.get(&format!("/v1/conflicts?limit=1000{query}")).await.ok();
    page["items"].as_array().unwrap().clone()
}

pub async fn put_text(http: &Http, path: &str, text: &str) -> Reply {
    http.send("PUT", path, &[("content-type", "application/toml")], text.to_owned()).await.unwrap()
}

pub async fn merge(http: &Http, document: &str, patch: Value) {
    let media = [("content-type", "application/merge-patch+json")];
    http.ask("PATCH", &format!("/v1/docs/{document}"), &media, patch).await.ok();
}

/// Hybrid clocks count milliseconds; of two concurrent writes within one, either may count as the later.
pub async fn next_millisecond() {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let before = now();
    until("the next millisecond", LIMIT, async || if now() > before { Ok(()) } else { Err(before.to_string()) }).await;
}

pub fn dot(conflict: &Value, sibling: usize) -> String {
    conflict["siblings"][sibling]["dot"].as_str().unwrap().to_owned()
}

pub fn id(conflict: &Value) -> &str {
    conflict["id"].as_str().unwrap()
}

pub fn values(siblings: &Value) -> Vec<&Value> {
    siblings.as_array().unwrap().iter().map(|sibling| &sibling["value"]).collect()
}

pub const MANUAL: &str = "[fields.f]\ntype = \"contested\"\nresolver = \"manual\"\n";
