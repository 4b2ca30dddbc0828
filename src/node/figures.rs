//! What `/metrics` shows of the node.

use super::handle::Node;
use crate::engine::detector::Liveness;
use crate::net;

pub use crate::telemetry::{Figure, FigureKind};

impl Node {
    /// Figures in one order, those of one name together.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = self.engine_figures();
        if let Some(net) = self.inner.effects.net() {
            figures.extend(network_figures(&net.statistics()));
        }
        figures
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
                f64::from(u8::from(replica.storage_failed())),
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
    }
}

fn network_figures(net: &net::Statistics) -> Vec<Figure> {
    vec![
        counter("folkmoot_net_in_bytes", "Bytes of messages received", net.bytes_in),
        counter("folkmoot_net_out_bytes", "Bytes of messages sent", net.bytes_out),
        counter("folkmoot_net_dials", "Connections tried", net.dials),
        counter("folkmoot_net_dials_failed", "Connections tried that did not come about", net.dials_failed),
        counter(
            "folkmoot_net_refused",
            "Inbound connections that did not pass: wrong key, blocked, over a limit, another protocol",
            net.refused,
        ),
        counter(
            "folkmoot_net_malformed",
            "Frames and greetings that broke the rules; each cost its connection",
            net.malformed,
        ),
        counter("folkmoot_net_restarts", "Times the transport died and was started again", net.restarts),
    ]
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Figure {
    Figure { name, help, kind: FigureKind::Gauge, labels: Vec::new(), value }
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Figure {
    Figure { name, help, kind: FigureKind::Counter, labels: Vec::new(), value: value as f64 }
}
