//! What operates a node: its view of the cluster, leaving it, and partitions made on purpose. None of these waits for a
//! session's clock: they must answer while the node is cut off.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::docs::JSON;
use super::operation::{Ask, Operation, Outcome, answer};
use super::problem::{Kind, Problem};
use super::query::{Parameter, Takes};
use super::wire::Indexed;
use crate::clock::NodeId;
use crate::engine::eviction::NotLost;
use crate::node::EvictError;

/// Peers that can be blocked at once.
const BLOCKED_MAX: usize = 1_000;
static BY: Parameter =
    Parameter { name: "by", takes: Takes::Text { bytes_max: 128 }, says: "Who does it, for the record." };
const CHAOS: &str = "/v1/chaos/block";

pub(super) static OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::GET,
        path: "/v1/cluster",
        id: "readCluster",
        says: "This node, its members and what each has of us, whether it is partitioned, its digests and counts.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Cluster"),
        session: false,
        problems: &[],
        handler: |ask| Box::pin(async move { shown(&ask, serde_json::to_value(ask.api.node.cluster())) }),
    },
    Operation {
        method: Method::GET,
        path: "/v1/peers",
        id: "listPeers",
        says: "The peers this node knows, and how it is connected to each.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Peers"),
        session: false,
        problems: &[],
        handler: |ask| {
            let peers = |peers: Value| json!({ "peers": peers });
            Box::pin(async move { shown(&ask, serde_json::to_value(ask.api.node.peers()).map(peers)) })
        },
    },
    Operation {
        method: Method::DELETE,
        path: "/v1/peers/{id}",
        id: "evictPeer",
        says: "Takes a lost member out of the cluster, by a quorum: nobody waits for it any more. Should it come back, it takes \
               over all there is as a newcomer does.",
        parameters: &[&BY],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Evicted"),
        session: false,
        problems: &[
            Kind::BadParameter,
            Kind::NotFound,
            Kind::NotLost,
            Kind::Held,
            Kind::NoQuorum,
            Kind::Undecided,
            Kind::TooNew,
            Kind::Busy,
            Kind::Storage,
            Kind::ShuttingDown,
        ],
        handler: |ask| Box::pin(evict(ask)),
    },
    Operation {
        method: Method::POST,
        path: "/v1/leave",
        id: "leave",
        says: "Takes this node out of the cluster for good: the others stop waiting for it. Its data stays on its disk.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Left"),
        session: false,
        problems: &[Kind::Storage, Kind::Fenced, Kind::ShuttingDown],
        handler: |ask| Box::pin(leave(ask)),
    },
    Operation {
        method: Method::POST,
        path: CHAOS,
        id: "block",
        says: "With --chaos: cuts this node off from exactly these peers, replacing the set before.",
        parameters: &[],
        headers: &[],
        accepts: &[(JSON, "Block")],
        gives: (JSON, "Blocked"),
        session: false,
        problems: &[Kind::ChaosDisabled, Kind::BodyTooLarge],
        handler: |ask| Box::pin(block(ask)),
    },
    Operation {
        method: Method::DELETE,
        path: CHAOS,
        id: "unblock",
        says: "With --chaos: lets all peers in again.",
        parameters: &[],
        headers: &[],
        accepts: &[],
        gives: (JSON, "Blocked"),
        session: false,
        problems: &[Kind::ChaosDisabled],
        handler: |ask| Box::pin(unblock(ask)),
    },
];

fn shown(ask: &Ask, status: serde_json::Result<Value>) -> Outcome {
    let status =
        status.map_err(|error| Problem::new(Kind::Internal, format!("the status has no JSON form: {error}")))?;
    Ok(answer(StatusCode::OK, &ask.clock, &status))
}

async fn evict(mut ask: Ask) -> Outcome {
    let member: NodeId = ask
        .name()
        .parse()
        .map_err(|error: crate::clock::id::ParseIdError| Problem::new(Kind::BadParameter, error.to_string()))?;
    let by = super::conflicts::by(ask.params.text(&BY).map(str::to_owned).as_ref())?.to_owned();
    // Voters are waited for; others may work meanwhile.
    ask.working = None;
    ask.api.node.evict(member, &by).await?;
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "evicted": member.to_string() })))
}

impl From<EvictError> for Problem {
    fn from(error: EvictError) -> Self {
        let said = error.to_string();
        match error {
            EvictError::NotLost(NotLost::NoSuchMember(_)) => {
                Self::new(Kind::NotFound, format!("{said}: GET /v1/cluster lists them"))
            }
            EvictError::NotLost(NotLost::Address(error)) => error.into(),
            EvictError::NotLost(NotLost::Itself | NotLost::Gone(_) | NotLost::Alive(_)) => {
                Self::new(Kind::NotLost, said)
            }
            EvictError::Decide(error) => error.into(),
            EvictError::Write(error) => error.into(),
        }
    }
}

async fn leave(ask: Ask) -> Outcome {
    ask.api.node.leave().await?;
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "left": true, "node": ask.api.node.id().to_string() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    peers: Indexed<Peer, BLOCKED_MAX>,
}

/// A node id as it is printed everywhere.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Peer(NodeId);

impl TryFrom<String> for Peer {
    type Error = crate::clock::id::ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

async fn block(ask: Ask) -> Outcome {
    chaos_enabled(&ask)?;
    let block: Block = ask.json()?;
    set_blocked(&ask, block.peers.0.into_iter().map(|Peer(id)| id).collect())
}

async fn unblock(ask: Ask) -> Outcome {
    chaos_enabled(&ask)?;
    set_blocked(&ask, BTreeSet::new())
}

fn set_blocked(ask: &Ask, peers: BTreeSet<NodeId>) -> Outcome {
    let names: Vec<_> = peers.iter().map(NodeId::to_string).collect();
    ask.api.node.set_blocked(peers);
    Ok(answer(StatusCode::OK, &ask.clock, &json!({ "blocked": names })))
}

fn chaos_enabled(ask: &Ask) -> Result<(), Problem> {
    if ask.api.node.chaos_enabled() {
        return Ok(());
    }
    Err(Problem::new(Kind::ChaosDisabled, "this node cannot be cut off on request: start it with --chaos"))
}

#[cfg(test)]
mod tests {
    use super::super::server::{FOREIGN_CLOCK, Server};
    use super::*;

    #[tokio::test]
    async fn the_cluster_is_shown_and_left_also_when_the_session_is_ahead() {
        let server = Server::start().await;
        for path in ["/v1/cluster", "/v1/peers", "/healthz"] {
            let answer = server.ask("GET", path, &[("folkmoot-clock", FOREIGN_CLOCK)], b"").await;
            assert_eq!((answer.status, answer.header("folkmoot-clock")), (200, FOREIGN_CLOCK), "{path}");
        }
        assert_eq!(server.get("/v1/cluster").await.value()["partitioned"], false);
        assert!(server.get("/v1/peers").await.value()["peers"].is_array());
        assert_eq!(server.ask("POST", "/v1/leave", &[], b"").await.value()["left"], true);
    }

    #[tokio::test]
    async fn peers_are_blocked_only_where_chaos_is_allowed() {
        let server = Server::start().await;
        server.json("POST", CHAOS, json!({"peers": []})).await.problem("chaos-disabled");
        server.ask("DELETE", CHAOS, &[], b"").await.problem("chaos-disabled");

        let server = Server::with_chaos().await;
        let peer = NodeId([3; 32]).to_string();
        let blocked = server.json("POST", CHAOS, json!({ "peers": [peer] })).await;
        assert_eq!(blocked.value(), json!({ "blocked": [peer] }));
        let wrong = server.json("POST", CHAOS, json!({"peers": [peer, "nonsense"]})).await;
        assert!(wrong.problem("bad-json").contains("item 1: `nonsense` is not a node id"));
        server.json("POST", CHAOS, json!({"peers": [], "more": 1})).await.problem("bad-json");
        assert_eq!(server.ask("DELETE", CHAOS, &[], b"").await.value(), json!({"blocked": []}));
    }
}
