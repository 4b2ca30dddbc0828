//! Scenarios: what is simulated, as a TOML file says it. `simulations/` holds the ones that are run.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::duration::Millis;
use super::fault::{Fault, FaultKind};
use super::workload::Recording;

/// A scenario as read. Holding one means that it was checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub version: u32,
    pub name: String,
    /// What it is there to show, in a line or two.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Inclusive on both ends, like `1..500`.
    #[serde(default = "default_seeds")]
    pub seeds: String,
    #[serde(default)]
    pub cluster: Cluster,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub disk: DiskTimes,
    #[serde(default)]
    pub workload: Workload,
    /// Bounds of the engine that differ from the defaults, see `engine/limits.rs`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, u64>,
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    #[serde(default, rename = "expect", skip_serializing_if = "Vec::is_empty")]
    pub expects: Vec<Expect>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swarm: Option<Swarm>,
    /// Workers who fight for one thing. Only real processes play it, see `cli/chaos/contest.rs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contest: Option<Contest>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    pub nodes: usize,
    /// How far apart the nodes start at most.
    pub start_within: Millis,
    /// Wall clocks differ by at most so much from the start on.
    pub skew_ms: u64,
    /// All members know each other from the start: it is not the joining that is looked at.
    pub acquainted: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// One way, least and most; each link draws its own within it. Ignored between nodes of `regions`.
    pub delay_ms: [f64; 2],
    /// Added to each message, at most.
    pub jitter_ms: f64,
    /// A packet is lost and sent again.
    pub loss: f64,
    /// A message is lost for good, where the protocol must bear it: batches, reports, heartbeats. So for the next two.
    pub drop: f64,
    /// A message comes twice.
    pub duplicate: f64,
    /// A message is overtaken by the next.
    pub reorder: f64,
    /// Of a link, in kilobytes per second; 0 for no bound.
    pub kilobytes_per_s: u64,
    /// A dead connection is noticed after so long, least and most.
    pub notice_ms: [u64; 2],
    /// Nodes are dealt out over them in turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// One way, from a row's region to a column's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub region_delay_ms: Vec<Vec<f64>>,
}

/// How long a disk takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiskTimes {
    pub sync_ms: [f64; 2],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// How often each kind of write is drawn, see `sim/workload.rs`.
    pub mix: BTreeMap<String, u64>,
    /// Writes per second, over all clients.
    pub rate: f64,
    pub keys: u64,
    pub clients: usize,
    pub from: Millis,
    pub until: Millis,
    /// How often each durability is asked for.
    pub durability: BTreeMap<String, u64>,
    /// A client reads after a write, and may go to another node with its session.
    pub read: f64,
    /// What `trace` replays. It is not in the file: whoever runs the scenario hands it in.
    #[serde(skip)]
    pub recording: Option<Recording>,
}

/// Faults drawn at random, one after another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    pub kinds: BTreeMap<FaultKind, u64>,
    /// Apart, on average.
    pub every: Millis,
    pub from: Millis,
    pub until: Millis,
    /// How long each lasts, least and most.
    pub hold: [Millis; 2],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub oracle: Expectation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<After>,
    /// Of `alarm`: its kind, like `rolled_back`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What must come about, beyond what every oracle watches in every run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// All nodes that are to stay hold equal clocks and equal states.
    Converged,
    /// Some node raised an alarm of this kind.
    Alarm,
    /// Some node took the full path of catch-up.
    FullReconcile,
    /// No node ever listed a conflict: nothing of the workload contradicts itself.
    NoConflicts,
    /// Some node quarantined its store and rebuilt it.
    Rebuilt,
    /// A majority of the voters is left at the end, with the stores that they promised on.
    Quorum,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// The last fault was healed.
    Heal,
    /// The last write was made.
    Writes,
}

/// One thing that one worker has at a time, for a lease that it renews; the others wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contest {
    pub over: Over,
    pub lease: Millis,
    /// The node that each worker asks and stands still with. The first has it first.
    pub workers: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    Lock,
    Vm,
}

/// Each seed turns off some of what the scenario turns on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swarm {
    pub disable_p: f64,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { nodes: 3, start_within: Millis(100), skew_ms: 50, acquainted: false }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay_ms: [1.0, 10.0],
            jitter_ms: 1.0,
            loss: 0.0,
            drop: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            kilobytes_per_s: 0,
            notice_ms: [50, 3_000],
            regions: Vec::new(),
            region_delay_ms: Vec::new(),
        }
    }
}

impl Default for DiskTimes {
    fn default() -> Self {
        Self { sync_ms: [0.2, 4.0] }
    }
}

impl Default for Workload {
    fn default() -> Self {
        let mix = [("set", 4), ("incr", 2), ("add", 2), ("remove", 1), ("put", 1), ("delete", 1), ("batch", 1)];
        Self {
            mix: mix.map(|(name, weight)| (name.to_owned(), weight)).into(),
            rate: 100.0,
            keys: 24,
            clients: 6,
            from: Millis(300),
            until: Millis(6_000),
            durability: [("memory", 1), ("local", 3), ("replicas:2", 1)].map(|(k, v)| (k.to_owned(), v)).into(),
            read: 0.3,
            recording: None,
        }
    }
}

/// What is left of a shorter lease is lost in what a busy machine takes.
const CONTEST_LEASE_MIN: Millis = Millis(1_000);

fn default_seeds() -> String {
    "1..100".into()
}

/// What is wrong with a scenario. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}")]
pub struct ScenarioError {
    pub line: usize,
    pub cause: String,
}

impl Scenario {
    pub const VERSION: u32 = 1;

    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let syntax = |error: toml::de::Error| ScenarioError {
            line: error.span().map_or(1, |span| line_of(span.start)),
            cause: error.message().to_owned(),
        };
        let scenario: Scenario = toml::from_str(text).map_err(syntax)?;
        let places = Places::find(text).map_err(syntax)?;
        scenario.check(&places).map_err(|(at, cause)| ScenarioError { line: line_of(at), cause })?;
        Ok(scenario)
    }

    /// The scenario as a file that reads back to it.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# cannot be written down: {error}\n"))
    }

    pub fn seeds(&self) -> RangeInclusive<u64> {
        parse_seeds(&self.seeds).unwrap_or(RangeInclusive::new(1, 0))
    }

    /// Whether it replays a recording that it was not handed yet.
    pub fn lacks_recording(&self) -> bool {
        self.workload.mix.contains_key(super::workload::Kind::Trace.name()) && self.workload.recording.is_none()
    }

    /// When the last fault is over, ms.
    pub fn healed_ms(&self) -> u64 {
        let faults = self.faults.iter().map(|fault| fault.heal.unwrap_or(fault.at).0).max().unwrap_or(0);
        let storm = self.storm.as_ref().map_or(0, |storm| storm.until.0 + storm.hold[1].0);
        faults.max(storm)
    }

    /// Nodes that are there at some time: those from the start, and those that join.
    pub fn nodes_ever(&self) -> usize {
        let come = |kind| matches!(kind, FaultKind::Join | FaultKind::Clone);
        self.cluster.nodes + self.faults.iter().filter(|fault| come(fault.kind)).count()
    }

    fn check(&self, places: &Places) -> Result<(), (usize, String)> {
        let top = |name: &str| places.top.get(name).map_or(0, |place| place.span().start);
        if self.version != Self::VERSION {
            let cause =
                format!("version {} is not known here: this program reads version {}", self.version, Self::VERSION);
            return Err((top("version"), cause));
        }
        if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err((top("name"), "a name takes a-z, 0-9 and `-`".into()));
        }
        parse_seeds(&self.seeds).map_err(|cause| (top("seeds"), cause))?;
        if !(1..=4096).contains(&self.cluster.nodes) {
            return Err((top("cluster"), "a cluster has 1 to 4096 nodes".into()));
        }
        self.check_network().map_err(|cause| (top("network"), cause))?;
        self.check_workload().map_err(|cause| (top("workload"), cause))?;
        for name in self.limits.keys() {
            if super::plan::set_limit(&mut crate::engine::Limits::default(), name, 1).is_none() {
                return Err((top("limits"), format!("there is no bound `{name}`, see engine/limits.rs")));
            }
        }
        for (fault, place) in self.faults.iter().zip(&places.tables.fault) {
            fault.check(self.nodes_ever()).map_err(|cause| (place.span().start, cause))?;
        }
        if let Some(storm) = &self.storm
            && (storm.kinds.is_empty()
                || storm.every.0 == 0
                || storm.hold[0] > storm.hold[1]
                || storm.until <= storm.from)
        {
            let cause = "a storm needs `kinds`, `every` above 0, `hold` from least to most, and an end after its start";
            return Err((top("storm"), cause.into()));
        }
        for (expect, place) in self.expects.iter().zip(&places.tables.expect) {
            let wrong = match expect.oracle {
                Expectation::Converged if expect.within.is_none() => Some("`converged` needs `within`"),
                Expectation::Alarm if expect.kind.is_none() => Some("`alarm` needs `kind`"),
                _ => None,
            };
            if let Some(cause) = wrong {
                return Err((place.span().start, cause.into()));
            }
        }
        if let Some(contest) = &self.contest
            && (contest.workers.is_empty()
                || contest.workers.iter().any(|node| *node >= self.cluster.nodes)
                || contest.lease < CONTEST_LEASE_MIN)
        {
            let cause = format!("a contest has workers at nodes that there are, and a lease from {CONTEST_LEASE_MIN}");
            return Err((top("contest"), cause));
        }
        match self.swarm {
            Some(swarm) if !(0.0..=1.0).contains(&swarm.disable_p) => {
                Err((top("swarm"), "`disable_p` is a probability, from 0 to 1".into()))
            }
            _ => Ok(()),
        }
    }

    fn check_network(&self) -> Result<(), String> {
        let network = &self.network;
        let odds = [network.loss, network.drop, network.duplicate, network.reorder];
        if odds.iter().any(|p| !(0.0..=1.0).contains(p)) {
            return Err("`loss`, `drop`, `duplicate` and `reorder` are probabilities, from 0 to 1".into());
        }
        let [low, high] = network.delay_ms;
        if !(0.0..=60_000.0).contains(&low) || !(low..=60_000.0).contains(&high) {
            return Err("`delay_ms` goes from least to most, at most 60000".into());
        }
        if network.notice_ms[0] > network.notice_ms[1] {
            return Err("`notice_ms` goes from least to most".into());
        }
        let regions = network.regions.len();
        let square = network.region_delay_ms.len() == regions
            && network.region_delay_ms.iter().all(|row| row.len() == regions && row.iter().all(|ms| *ms >= 0.0));
        if square { Ok(()) } else { Err(format!("`region_delay_ms` must be {regions} rows of {regions} delays")) }
    }

    fn check_workload(&self) -> Result<(), String> {
        let workload = &self.workload;
        if let Some(kind) = workload.mix.keys().find(|kind| super::workload::Kind::named(kind).is_none()) {
            let known: Vec<_> = super::workload::Kind::ALL.iter().map(|kind| kind.name()).collect();
            return Err(format!("there is no write `{kind}` to mix in: there is {}", known.join(", ")));
        }
        if let Some(level) =
            workload.durability.keys().find(|level| super::workload::Durability::named(level).is_none())
        {
            return Err(format!("`{level}` is no durability: there is memory, local, replicas:N"));
        }
        if !(0.0..=1e6).contains(&workload.rate) || workload.keys == 0 || workload.clients == 0 {
            return Err("`rate` lies between 0 and a million; there is at least one key and one client".into());
        }
        Ok(())
    }
}

/// `1..500`, both ends included, or one seed.
pub fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let wrong = || format!("`{text}` are no seeds: write a first and a last, like 1..500, or one number");
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let seeds = match text.split_once("..") {
        Some((first, last)) => number(first)?..=number(last.trim_start_matches('='))?,
        None => number(text)?..=number(text)?,
    };
    if seeds.is_empty() { Err(wrong()) } else { Ok(seeds) }
}

/// Where things stand in the file, to name the line of what is wrong.
struct Places {
    top: BTreeMap<String, Spanned<toml::Value>>,
    tables: Tables,
}

#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    fault: Vec<Spanned<toml::Value>>,
    #[serde(default)]
    expect: Vec<Spanned<toml::Value>>,
}

impl Places {
    fn find(text: &str) -> Result<Self, toml::de::Error> {
        Ok(Self { top: toml::from_str(text)?, tables: toml::from_str(text)? })
    }
}
