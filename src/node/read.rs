//! Reads: local, shared, and as new as the session asks for.

use std::ops::Bound;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use xxhash_rust::xxh3::xxh3_64;

use super::handle::Node;
use super::token::Token;
use crate::clock::{Clock, Dot};
use crate::document::{self, Address, Document, DocumentView, Schema};
use crate::engine::Replica;
use crate::engine::schemas::Origin;

/// A document as it reads at this node now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    pub view: DocumentView,
    /// A hash of the live dots: equal on nodes that hold the same. Visible ASCII without quotes.
    pub etag: String,
    /// A field with a time to live was not renewed in time.
    pub expired: bool,
    /// Fields that a quorum decides, where this node reaches none: they may be others by now.
    pub stale: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Read {
    /// `None`: deleted, or never created as far as this node knows.
    pub document: Option<Shown>,
    /// What was read.
    pub token: Token,
}

#[derive(Debug, Clone)]
pub struct Listing {
    /// In order of ids.
    pub items: Vec<(String, Shown)>,
    /// The id to go on after, when there may be more.
    pub next: Option<String>,
    pub token: Token,
}

/// This node does not have what the session has seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Behind {
    pub reason: String,
}

fn unsettled(replica: &Replica, stable: &Clock) -> Token {
    let mut token = Token::default();
    let clock = replica.state().clock.iter().filter(|(slot, seq)| stable.get(*slot) < *seq);
    clock.for_each(|(slot, seq)| token.see(replica.state().roster.id(slot), seq));
    token
}

impl Node {
    pub fn read(&self, address: &Address) -> Read {
        let now_ms = self.now().wall_ms;
        let replica = self.inner.replica.read();
        let mut token = Token::default();
        let document = replica.state().document(address.as_str()).and_then(|document| {
            token.see_document(document, &replica.state().roster, &self.inner.stable.read());
            show(&replica, address.as_str(), document, now_ms)
        });
        Read { document, token }
    }

    /// Documents of a collection whose id starts with `prefix`, in order, after the id `after`.
    pub fn list(&self, collection: &str, prefix: &str, after: Option<&str>, limit: usize) -> Listing {
        let now_ms = self.now().wall_ms;
        let replica = self.inner.replica.read();
        let stable = self.inner.stable.read();
        let wanted = format!("{collection}/{prefix}");
        let after = after.map(|after| format!("{collection}/{after}")).filter(|after| *after >= wanted);
        let from = after.as_deref().map_or(Bound::Included(wanted.as_str()), Bound::Excluded);
        // All that is here, since what a list does not hold was seen, too.
        let token = unsettled(&replica, &stable);
        let mut listing = Listing { items: Vec::new(), next: None, token };
        for (name, document) in replica.state().names_from(from).take_while(|(name, _)| name.starts_with(&wanted)) {
            let Some(view) = show(&replica, name, document, now_ms) else { continue };
            if listing.items.len() == limit {
                listing.next = listing.items.last().map(|(id, _)| id.clone());
                break;
            }
            listing.items.push((name[collection.len() + 1..].to_owned(), view));
        }
        listing
    }

    /// What this node has and not every member.
    pub fn token(&self) -> Token {
        unsettled(&self.inner.replica.read(), &self.inner.stable.read())
    }

    /// Waits until this node has what the session has seen, at most for `wait`.
    pub async fn wait_for(&self, token: &Token, wait: Duration) -> Result<(), Behind> {
        let mut progress = self.inner.progress.subscribe();
        let met = || self.inner.replica.read().has_met();
        let covered = async { while (!met() || self.missing(token) > 0) && progress.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(wait, covered).await;
        match self.missing(token) {
            // What every member had is left out of a token, so an old disk cannot tell by the token alone.
            0 if !met() => Err(Behind {
                reason: "this node has met no other member since it started and cannot tell whether it lags".into(),
            }),
            0 => Ok(()),
            missing => Err(Behind {
                reason: format!(
                    "this node does not yet have what {missing} of the replicas in Folkmoot-Clock wrote, after waiting {} ms",
                    wait.as_millis()
                ),
            }),
        }
    }

    fn missing(&self, token: &Token) -> usize {
        if token.is_empty() {
            return 0;
        }
        let replica = self.inner.replica.read();
        let state = replica.state();
        let keys = self.inner.replica_keys(&state.roster);
        let has = |key: u64, seq: u64| {
            seq <= Dot::SEQ_MAX && keys.get(&key).is_some_and(|slot| state.clock.covers(Dot::new(*slot, seq)))
        };
        token.iter().filter(|(key, seq)| !has(*key, *seq)).count()
    }

    /// The schema in force for a collection, and where it comes from.
    pub fn schema(&self, collection: &str) -> (Schema, Origin) {
        let replica = self.inner.replica.read();
        let (schema, origin) = replica.schema(collection);
        (Schema::clone(schema), origin)
    }
}

/// A document as a reader sees it; `None` when it is hidden.
pub(super) fn show(replica: &Replica, name: &str, document: &Document, now_ms: u64) -> Option<Shown> {
    let mut view = replica.show(name, document)?;
    let decided = std::mem::take(&mut view.decided);
    let stale = if decided.is_empty() || replica.has_quorum() { Vec::new() } else { decided };
    Some(Shown { expired: view.expired(now_ms), etag: etag(replica, name, document, &view), view, stale })
}

/// Names what is served: the document's entries, the schema by which they are read, and what contested registers were
/// settled to, which a policy changes without a write.
pub(super) fn etag(replica: &Replica, name: &str, document: &Document, view: &DocumentView) -> String {
    let mut tag = document::etag(document, &replica.state().roster);
    tag = tag.wrapping_add(replica.schema_hash(name.split('/').next().unwrap_or_default()));
    for register in view.siblings.keys() {
        let value = register_of(&view.fields, register).map(Json::to_string).unwrap_or_default();
        tag = tag.wrapping_add(xxh3_64(format!("{register}\n{value}").as_bytes()));
    }
    format!("{tag:016x}")
}

/// The value of a field, or of one key of a map.
pub(super) fn register_of<'f>(fields: &'f Map<String, Json>, name: &str) -> Option<&'f Json> {
    let of_key = || name.match_indices('.').find_map(|(at, _)| fields.get(&name[..at])?.get(&name[at + 1..]));
    fields.get(name).or_else(of_key)
}
