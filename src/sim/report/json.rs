//! Everything that is known of one run.

use serde_json::{Map, Value as Json, json};

use crate::sim::Outcome;
use crate::sim::probe::Probe;

pub fn json(outcome: &Outcome) -> Json {
    let reached = Probe::ALL.iter().map(|probe| (probe.name().to_owned(), json!(outcome.probes.count(*probe))));
    json!({
        "scenario": outcome.plan.scenario.name,
        "about": outcome.plan.scenario.about,
        "seed": outcome.seed,
        "trace_hash": format!("{:016x}", outcome.hash),
        "finding": outcome.finding,
        "took_us": outcome.took_us,
        "converged_us": outcome.converged_us,
        "tally": outcome.tally,
        "probes": Map::from_iter(reached),
        "drawn": outcome.plan.drawn,
        "plan": outcome.plan.scenario,
        "plan_toml": outcome.plan.scenario.to_toml(),
        "nodes": outcome.plan.scenario.nodes_ever(),
        "entries": outcome.entries,
        "entries_dropped": outcome.dropped,
    })
}
