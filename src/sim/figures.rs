//! How the writes of clients spread: measured in a run, for clusters where that is the question.

use std::collections::BTreeMap;

use serde::Serialize;

use super::world::World;

/// From the first write of a client on.
#[derive(Clone, Debug, Default)]
pub struct Spread {
    /// From a write until it was visible, for each node that was up throughout, µs.
    delays_us: Vec<u32>,
    /// Messages and bytes sent, by kind.
    pub sent: BTreeMap<&'static str, (u64, u64)>,
    began_us: u64,
    applied_before: u64,
    received_before: u64,
}

/// What it came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Pairs of a write and a node that it reached.
    pub deliveries: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
    /// Batches that arrived for each that was applied.
    pub copies: f64,
    pub bytes: u64,
    /// Of those bytes, what was neither batches nor cells of catch-up.
    pub control_share: f64,
    pub bytes_by_kind: BTreeMap<&'static str, u64>,
    pub control_bytes_per_node_s: f64,
}

impl Spread {
    pub fn delivered(&mut self, us: u64) {
        self.delays_us.push(u32::try_from(us).unwrap_or(u32::MAX));
    }
}

impl World {
    /// Batches applied and received since the start, over all nodes.
    fn batches(&self) -> (u64, u64) {
        let tallies = self.hosts.iter().filter_map(|host| host.replica()).map(|replica| replica.tally());
        tallies.fold((0, 0), |(applied, received), tally| {
            (applied + tally.batches_applied, received + tally.batches_applied + tally.batches_duplicate)
        })
    }

    /// Clients begin: what came before is not measured.
    pub(super) fn spread_begins(&mut self) {
        let (applied_before, received_before) = self.batches();
        self.spread = Spread { began_us: self.now_us, applied_before, received_before, ..Spread::default() };
    }

    pub fn figures(&mut self) -> Figures {
        let (applied, received) = self.batches();
        let (applied, received) = (applied - self.spread.applied_before, received - self.spread.received_before);
        let delays = &mut self.spread.delays_us;
        delays.sort_unstable();
        let at = |share: f64| {
            let index = (delays.len().saturating_sub(1) as f64 * share).round() as usize;
            f64::from(delays.get(index).copied().unwrap_or(0)) / 1_000.0
        };
        let bytes: u64 = self.spread.sent.values().map(|(_, bytes)| bytes).sum();
        let payload: u64 =
            ["batch", "sync chunk"].iter().filter_map(|kind| self.spread.sent.get(kind)).map(|s| s.1).sum();
        let seconds = (self.now_us - self.spread.began_us) as f64 / 1e6;
        Figures {
            deliveries: delays.len() as u64,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            copies: received as f64 / applied.max(1) as f64,
            bytes,
            control_share: (bytes - payload) as f64 / bytes.max(1) as f64,
            bytes_by_kind: self.spread.sent.iter().map(|(kind, (_, bytes))| (*kind, *bytes)).collect(),
            control_bytes_per_node_s: (bytes - payload) as f64 / seconds.max(0.001) / self.hosts.len().max(1) as f64,
        }
    }
}
