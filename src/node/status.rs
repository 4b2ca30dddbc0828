//! What a node says of itself and of the others, in the shapes of the API.

use std::collections::BTreeMap;

use serde::Serialize;

use super::handle::Node;
use crate::clock::NodeId;
use crate::engine::Alarm;
use crate::engine::detector::Liveness;
use crate::net;

/// `GET /v1/cluster`: everything from one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ClusterStatus {
    pub node: String,
    pub replica: String,
    pub name: String,
    /// `null` until a cluster was founded or met.
    pub cluster_id: Option<String>,
    /// Some member that has not left cannot be reached from here.
    pub partitioned: bool,
    pub unreachable: Vec<String>,
    pub clock_digest: String,
    pub state_digest: String,
    pub members: Vec<MemberStatus>,
    /// Visible documents for each collection.
    pub collections: BTreeMap<String, usize>,
    pub documents: usize,
    pub cells: usize,
    pub entries: usize,
    pub removal_records: usize,
    /// Memory the state holds on to, about.
    pub bytes: usize,
    pub parked_batches: usize,
    /// Replicas in the clock: one for each start of each node that wrote.
    pub replicas: usize,
    pub pulling: bool,
    pub serving: usize,
    pub storage_failed: bool,
    pub alerts: Vec<Alert>,
    pub uptime_ms: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct MemberStatus {
    pub node: String,
    pub name: String,
    /// `alive`, `suspect`, `down` or `left`, as this node sees it.
    pub state: &'static str,
    #[serde(rename = "self")]
    pub is_self: bool,
    pub addresses: Vec<String>,
    pub api: String,
    /// Own ops of this node that the member reported to have on its disk.
    pub has_of_us: u64,
    /// Own ops of this node that it has not reported yet.
    pub lacks_of_us: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Alert {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub text: String,
    #[serde(flatten)]
    pub alarm: Alarm,
}

/// One row of `GET /v1/peers`: the transport's view.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    pub node: String,
    pub name: String,
    /// `linked`, `dialling`, `waiting` or `idle`.
    pub link: &'static str,
    pub liveness: Liveness,
    pub blocked: bool,
    pub addresses: Vec<String>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub queue_bytes: usize,
    /// Sent live and not yet reported durable there.
    pub window_bytes: usize,
    pub lagging: bool,
    pub last_error: Option<String>,
}

impl Node {
    pub fn cluster(&self) -> ClusterStatus {
        let replica = self.inner.replica.read();
        let (state, digests, counts) = (replica.state(), replica.digests(), replica.state().counts());
        let own = replica.own_seq();
        let members = replica.members().iter().map(|(id, member)| {
            let is_self = *id == self.id();
            let has = if is_self { own } else { replica.reported_of_us(id) };
            MemberStatus {
                node: id.to_string(),
                name: member.name.clone(),
                state: if member.left { "left" } else { liveness_name(replica.liveness(id)) },
                is_self,
                addresses: member.addresses.clone(),
                api: member.api.clone(),
                has_of_us: has,
                lacks_of_us: own.saturating_sub(has),
            }
        });
        ClusterStatus {
            node: self.id().to_string(),
            replica: self.inner.id.to_string(),
            name: self.inner.name.clone(),
            cluster_id: replica.cluster().map(|id| id.to_string()),
            partitioned: !replica.unreachable().is_empty(),
            unreachable: replica.unreachable().iter().map(NodeId::to_string).collect(),
            clock_digest: format!("{:032x}", digests.clock),
            state_digest: format!("{:032x}", digests.state),
            members: members.collect(),
            collections: state.collections().map(|(name, count)| (name.to_owned(), count)).collect(),
            documents: counts.documents,
            cells: counts.cells,
            entries: counts.entries,
            removal_records: counts.removal_records,
            bytes: state.bytes(),
            parked_batches: replica.parked().len(),
            replicas: state.clock.iter().count(),
            pulling: replica.puller().current().is_some(),
            serving: replica.server().len(),
            storage_failed: replica.storage_failed(),
            alerts: replica.alarms().map(alert).collect(),
            uptime_ms: self.now().mono_ms(),
        }
    }

    /// Every peer the transport knows, in order of ids.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let known = self.inner.effects.net().map(net::Handle::peers).unwrap_or_default();
        let replica = self.inner.replica.read();
        let row = |info: net::PeerInfo| {
            let peer = replica.peer(&info.peer);
            let link = peer.and_then(|peer| peer.link.as_ref());
            let member = replica.members().get(&info.peer).map(|member| member.name.clone());
            PeerStatus {
                node: info.peer.to_string(),
                name: member.or(peer.map(|peer| peer.name.clone())).unwrap_or_default(),
                link: match info.state {
                    net::PeerState::Linked => "linked",
                    net::PeerState::Dialling => "dialling",
                    net::PeerState::Waiting { .. } => "waiting",
                    net::PeerState::Idle => "idle",
                },
                liveness: replica.liveness(&info.peer),
                blocked: info.blocked,
                addresses: info.addresses,
                bytes_in: info.bytes_in,
                bytes_out: info.bytes_out,
                queue_bytes: info.queue_bytes,
                window_bytes: link.map_or(0, |link| link.window_bytes()),
                lagging: link.is_some_and(|link| link.lagging),
                last_error: info.last_error,
            }
        };
        known.into_iter().map(row).collect()
    }
}

fn alert((at, alarm): &(u64, Alarm)) -> Alert {
    Alert { at: *at, text: alarm.to_string(), alarm: alarm.clone() }
}

fn liveness_name(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "alive",
        Liveness::Suspect => "suspect",
        Liveness::Down => "down",
    }
}
