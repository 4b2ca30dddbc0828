//! What is asked of a lock service, over HTTP and by the same client, whichever it is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::client::{Answer, Body, Client, Terms};
use crate::cli::exit::Error;

/// Longer than a whole run: no lease ends while it is measured.
pub const LEASE_S: u64 = 3_600;

#[derive(Debug, Clone)]
pub enum Service {
    Folkmoot(Client),
    /// Its own lock: a key with a revision, under a lease that exists already.
    EtcdLock {
        client: Client,
        lease: String,
    },
    /// A key that is created if nobody has: the nearest to what is decided here.
    EtcdTxn {
        client: Client,
        lease: String,
    },
}

/// A lock that was got.
#[derive(Debug, Clone)]
pub struct Held {
    pub name: String,
    /// What it is renewed and released by: a token, or a key.
    mark: Value,
}

impl Service {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Folkmoot(_) => "folkmoot",
            Self::EtcdLock { .. } => "etcd lock",
            Self::EtcdTxn { .. } => "etcd txn",
        }
    }

    pub async fn acquire(&self, name: &str) -> Result<Held, Error> {
        let mark = match self {
            Self::Folkmoot(client) => {
                let body = json!({ "holder": "bench", "lease_ms": LEASE_S * 1_000 });
                json(client, &client.post(&lock_path(name), body).await?)?["token"].take()
            }
            Self::EtcdLock { client, lease } => {
                let body = json!({ "name": STANDARD.encode(name), "lease": lease });
                json(client, &client.post("/v3/lock/lock", body).await?)?["key"].take()
            }
            Self::EtcdTxn { client, lease } => {
                let key = STANDARD.encode(name);
                let absent = json!({ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" });
                let put = json!({ "request_put": { "key": key, "value": key, "lease": lease } });
                let body = json!({ "compare": [absent], "success": [put] });
                match json(client, &client.post("/v3/kv/txn", body).await?)?["succeeded"] == true {
                    true => Value::String(key),
                    false => Value::Null,
                }
            }
        };
        match mark {
            Value::Null => Err(Error::Failed(format!("{}: nobody else asks, and {name} was not got", self.name()))),
            mark => Ok(Held { name: name.to_owned(), mark }),
        }
    }

    pub async fn renew(&self, held: &Held) -> Result<(), Error> {
        match self {
            Self::Folkmoot(client) => {
                let body = Some(Body::json(json!({ "token": held.mark })));
                client.send(Method::PUT, &lock_path(&held.name), body, &Terms::default()).await
            }
            Self::EtcdLock { client, lease } | Self::EtcdTxn { client, lease } => {
                client.post("/v3/lease/keepalive", json!({ "ID": lease })).await
            }
        }
        .map(drop)
    }

    pub async fn release(&self, held: &Held) -> Result<(), Error> {
        match self {
            Self::Folkmoot(client) => {
                let body = Some(Body::json(json!({ "token": held.mark })));
                client.send(Method::DELETE, &lock_path(&held.name), body, &Terms::default()).await
            }
            Self::EtcdLock { client, .. } => client.post("/v3/lock/unlock", json!({ "key": held.mark })).await,
            Self::EtcdTxn { client, .. } => client.post("/v3/kv/deleterange", json!({ "key": held.mark })).await,
        }
        .map(drop)
    }
}

fn lock_path(name: &str) -> String {
    format!("/v1/locks/{name}")
}

fn json(client: &Client, answer: &Answer) -> Result<Value, Error> {
    client.parse(answer)
}
