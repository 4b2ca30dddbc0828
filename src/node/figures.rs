//! What `/metrics` shows of the node.

use std::sync::atomic::Ordering;

use super::handle::Node;
use crate::domain::tasks::TaskState;
use crate::engine::Replica;
use crate::engine::detector::Liveness;
use crate::engine::timing::Timing;
use crate::net;

pub use crate::telemetry::{Figure, FigureKind};

impl Node {
    /// Figures in one order, those of one name together.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = self.engine_figures();
        let splits = self.inner.split_brains.load(Ordering::Relaxed);
        figures.push(counter("folkmoot_split_brain_total", "VMs found to be run by two hosts", splits));
        figures.extend(self.queue_figures());
        figures.extend(self.workers().counts().into_iter().map(|(state, count)| Figure {
            labels: vec![("state", state.to_owned())],
            ..gauge("folkmoot_workers", "Workers by their state, as this node knows them", count as f64)
        }));
        figures.extend(self.capacity().figures());
        if let Some(net) = self.inner.effects.net() {
            figures.extend(network_figures(&net.statistics()));
        }
        figures
    }

    fn queue_figures(&self) -> impl Iterator<Item = Figure> {
        let queues = self.queues();
        TaskState::ALL.into_iter().map(move |state| {
            let count: u64 = queues.iter().filter_map(|(_, depth)| depth.get(&state)).sum();
            let labels = vec![("state", state.name().to_owned())];
            Figure {
                labels,
                ..gauge("folkmoot_queue_depth", "Tasks, in all queues, by where they stand", count as f64)
            }
        })
    }

    fn engine_figures(&self) -> Vec<Figure> {
        let replica = self.inner.replica.read();
        let (tally, counts, state) = (replica.tally(), replica.state().counts(), replica.state());
        let members = |wanted: Liveness| {
            let present = replica.members().present();
            present.filter(|id| replica.liveness(id) == wanted).count() as f64
        };
        let member = |label: &str, liveness| {
            let value = members(liveness);
            Figure {
                labels: vec![("state", label.to_owned())],
                ..gauge("folkmoot_members", "Members by what this node believes of them", value)
            }
        };
        vec![
            gauge("folkmoot_documents", "Visible documents", counts.documents as f64),
            gauge("folkmoot_cells", "Cells held", counts.cells as f64),
            gauge("folkmoot_entries", "Live entries and removal records held", counts.entries as f64),
            gauge(
                "folkmoot_removal_records",
                "Removal records some member may not have",
                counts.removal_records as f64,
            ),
            gauge("folkmoot_state_bytes", "Memory the state holds on to, about", state.bytes() as f64),
            gauge("folkmoot_replicas", "Replicas in the clock", state.clock.iter().count() as f64),
            gauge("folkmoot_parked_batches", "Batches that wait for an earlier one", replica.parked().len() as f64),
            gauge(
                "folkmoot_partitioned",
                "1 while a member cannot be reached",
                f64::from(u8::from(!replica.unreachable().is_empty())),
            ),
            member("alive", Liveness::Alive),
            member("suspect", Liveness::Suspect),
            member("down", Liveness::Down),
            gauge(
                "folkmoot_storage_failed",
                "1 while the store refuses writes",
                f64::from(u8::from(replica.storage_failed() || self.inner.storage_trouble().is_some())),
            ),
            counter("folkmoot_ops_written", "Own ops", tally.ops_written),
            counter("folkmoot_ops_applied", "Ops of others, applied live", tally.ops_applied),
            counter("folkmoot_batches_sent", "Own batches signed", tally.batches_sent),
            counter("folkmoot_batches_applied", "Batches of others, applied live", tally.batches_applied),
            counter("folkmoot_batches_duplicate", "Batches that were known already", tally.batches_duplicate),
            counter("folkmoot_batches_parked", "Batches that came before what they need", tally.batches_parked),
            counter(
                "folkmoot_batches_dropped",
                "Batches that no room was left to park; caught up later",
                tally.batches_dropped,
            ),
            counter(
                "folkmoot_messages_malformed",
                "Messages of peers that did not decode; each cost its link",
                tally.malformed,
            ),
            counter("folkmoot_messages_refused", "Messages of peers that were not acted upon", tally.refused),
            counter("folkmoot_pulls", "Catch-up sessions asked for", tally.pulls),
            counter("folkmoot_pulls_complete", "Catch-up sessions that compared everything", tally.pulls_complete),
            counter("folkmoot_pulls_broken", "Catch-up sessions that broke off", tally.pulls_broken),
            counter("folkmoot_cells_pulled", "Cells taken by catch-up", tally.cells_pulled),
            counter("folkmoot_pulled_bytes", "Bytes of cells taken by catch-up", tally.bytes_pulled),
            counter("folkmoot_serves", "Catch-up sessions served", tally.serves),
            counter("folkmoot_alarms", "Alarms raised", tally.alarms),
        ]
        .into_iter()
        .chain(conflict_figures(&replica))
        .chain(ballot_figures(&replica))
        .chain([timing(
            "folkmoot_lock_wait_seconds",
            "Time from asking for a lock to having it, of those that were got",
            &self.inner.asks.lock_waits(),
        )])
        .collect()
    }
}

/// Conflicts and the audit, since the start. What the store held at the start is no news and not counted.
fn conflict_figures(replica: &Replica) -> Vec<Figure> {
    let counts = replica.audit().counts();
    let waiting = replica.conflicts().iter().filter(|conflict| conflict.status.waits()).count();
    let mut figures = vec![
        gauge("folkmoot_conflicts_open", "Conflicts that wait for somebody", waiting as f64),
        counter("folkmoot_conflicts_manual_total", "Conflicts that came to wait for somebody", counts.manual),
        counter("folkmoot_invariant_violations_total", "Invariants found broken", counts.invariants),
        gauge("folkmoot_audit_bytes", "Memory and disk that the audit's records take", replica.audit().bytes() as f64),
    ];
    let labelled = |name, help, labels, value: &u64| Figure { labels, ..counter(name, help, *value) };
    figures.extend(counts.records.iter().map(|(kind, count)| {
        let labels = vec![("kind", kind.name().to_owned())];
        labelled("folkmoot_audit_events_total", "Records of the audit", labels, count)
    }));
    figures.extend(counts.detected.iter().map(|((class, severity), count)| {
        let labels = vec![("class", class.name().to_owned()), ("severity", severity.name().to_owned())];
        labelled("folkmoot_conflicts_detected_total", "Conflicts found", labels, count)
    }));
    figures.extend(counts.resolutions.iter().map(|((strategy, outcome), count)| {
        let labels = vec![("strategy", (*strategy).to_owned()), ("outcome", (*outcome).to_owned())];
        labelled("folkmoot_conflicts_resolutions_total", "What came of conflicts, and by what", labels, count)
    }));
    figures.extend(counts.policies.iter().map(|(policy, count)| {
        let labels = vec![("policy", policy.clone())];
        labelled("folkmoot_policy_applications_total", "Conflicts whose resolver a policy chose", labels, count)
    }));
    figures.extend(counts.merges.iter().map(|(kind, count)| {
        let labels = vec![("type", (*kind).to_owned())];
        labelled(
            "folkmoot_crdt_merges_total",
            "Register values that came to stand beside others, merged",
            labels,
            count,
        )
    }));
    figures
}

/// What this node asked of a quorum since its start, and whether it reaches one.
fn ballot_figures(replica: &Replica) -> Vec<Figure> {
    let (booth, tally) = (replica.ballots(), replica.ballots().tally());
    let outcome = |outcome: &str, count: u64| {
        let labels = vec![("outcome", outcome.to_owned())];
        Figure {
            labels,
            ..counter("folkmoot_ballots_total", "Ballots that this node held, by what came of them", count)
        }
    };
    let voters = booth.voters().map_or(0, |voters| voters.set.len());
    vec![
        gauge("folkmoot_voters", "Voters, as this node knows them", voters as f64),
        gauge(
            "folkmoot_quorum",
            "1 while this node reaches a majority of the voters",
            f64::from(u8::from(replica.has_quorum())),
        ),
        outcome("decided", tally.decided),
        outcome("no_quorum", tally.no_quorum),
        outcome("undecided", tally.unknown),
        outcome("refused", tally.refused),
        counter("folkmoot_ballots_overtaken_total", "Attempts that another proposer overtook; tried again", tally.lost),
        timing("folkmoot_ballot_seconds", "Time from being asked to being told, of what was decided", booth.took()),
        gauge(
            "folkmoot_locks_held",
            "Locks that somebody holds, as this voter accepted them; 0 at a node that is no voter",
            booth.locks_held().len() as f64,
        ),
        gauge(
            "folkmoot_ballot_registers",
            "Registers that this voter keeps: locks, documents with decided fields, and tasks, that ever were; at most 1,048,576",
            booth.acceptor().len() as f64,
        ),
    ]
}

fn network_figures(net: &net::Statistics) -> Vec<Figure> {
    vec![
        counter("folkmoot_net_in_bytes", "Bytes of messages received", net.bytes_in),
        counter("folkmoot_net_out_bytes", "Bytes of messages sent", net.bytes_out),
        counter("folkmoot_net_frames_in", "Frames received", net.frames_in),
        counter("folkmoot_net_frames_out", "Frames sent", net.frames_out),
        counter("folkmoot_net_messages_in", "Messages received", net.messages_in),
        counter("folkmoot_net_messages_out", "Messages sent", net.messages_out),
        counter(
            "folkmoot_net_compression_tried",
            "Frames over 1 KiB that were compressed to see",
            net.compression_tried,
        ),
        counter("folkmoot_net_compression_paid", "Frames that went out compressed", net.compression_paid),
        counter("folkmoot_net_compression_raw_bytes", "Bytes that went into those frames", net.compression_raw_bytes),
        counter("folkmoot_net_compression_wire_bytes", "Bytes that those frames took", net.compression_wire_bytes),
        counter("folkmoot_net_links_up", "Links opened", net.links_up),
        counter("folkmoot_net_links_down", "Links ended", net.links_down),
        counter("folkmoot_net_dials", "Dials", net.dials),
        counter("folkmoot_net_dials_failed", "Dials that failed", net.dials_failed),
        counter("folkmoot_net_refused", "Connections and streams refused", net.refused),
        counter("folkmoot_net_malformed", "Streams cut off for what they sent", net.malformed),
        counter("folkmoot_net_queue_overflows", "Links closed because the peer was too slow", net.queue_overflows),
        counter("folkmoot_net_write_stalls", "Links closed because the peer took no byte", net.write_stalls),
        counter("folkmoot_net_restarts", "Restarts of the transport", net.restarts),
    ]
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Figure {
    Figure { name, help, kind: FigureKind::Gauge, labels: Vec::new(), value }
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Figure {
    Figure { name, help, kind: FigureKind::Counter, labels: Vec::new(), value: value as f64 }
}

fn timing(name: &'static str, help: &'static str, timing: &Timing) -> Figure {
    let seconds = |us: u64| us as f64 / 1e6;
    let buckets = timing.ranges().map(|(end_us, count)| (end_us.map_or(f64::INFINITY, seconds), count)).collect();
    let value = seconds(timing.sum_us());
    Figure { name, help, kind: FigureKind::Histogram { buckets }, labels: Vec::new(), value }
}
