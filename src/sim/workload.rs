//! What clients write: every field type, batches over documents, removals and re-adds, hot keys, heartbeats.

use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::chance::Chance;
use super::disputes;
use super::scenario::Workload;
use crate::document::Address;
use crate::document::plan::{Edit, Write};
use crate::engine::schemas;

/// A kind of write that a scenario can mix in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Set,
    /// Of a counter in a document that is never deleted: its sum is known.
    Incr,
    /// Of a counter in a document that others delete.
    Count,
    Add,
    Remove,
    Flag,
    Max,
    Min,
    First,
    MapSet,
    MapUnset,
    MapIncr,
    Text,
    Json,
    Contested,
    Put,
    Delete,
    /// Several documents, all or none.
    Batch,
    /// The same few fields of one document for each client, over and over.
    Heartbeat,
    Unset,
    /// A hundred new documents at once.
    Load,
    /// Of a register that settles in one of every way there is.
    Dispute,
    /// A person settles a conflict, as their node lists it.
    Settle,
    /// ... and takes that back.
    Reopen,
    /// Another schema for those registers.
    Schema,
    /// A policy comes, changes or goes.
    Policy,
    /// A model for the advisor is put in force, or taken away.
    Advise,
    /// A lock is asked for, renewed or given back; or what it protects is written to.
    Lock,
    /// A quorum is asked to decide about a field.
    Decide,
    /// A task is made, or something is done about one.
    Task,
    /// A thing is placed on a worker, released, or reclaimed.
    Place,
    /// A replica is fenced, released, or what it wrote later discarded.
    Fence,
    /// A VM is made, run, written from, stopped or migrated.
    Vm,
    /// The next step of what was recorded elsewhere, see [`Recording`].
    Trace,
}

impl Kind {
    pub const ALL: [Kind; 34] = [
        Kind::Set,
        Kind::Incr,
        Kind::Count,
        Kind::Add,
        Kind::Remove,
        Kind::Flag,
        Kind::Max,
        Kind::Min,
        Kind::First,
        Kind::MapSet,
        Kind::MapUnset,
        Kind::MapIncr,
        Kind::Text,
        Kind::Json,
        Kind::Contested,
        Kind::Put,
        Kind::Delete,
        Kind::Batch,
        Kind::Heartbeat,
        Kind::Unset,
        Kind::Load,
        Kind::Dispute,
        Kind::Settle,
        Kind::Reopen,
        Kind::Schema,
        Kind::Policy,
        Kind::Advise,
        Kind::Lock,
        Kind::Decide,
        Kind::Task,
        Kind::Place,
        Kind::Fence,
        Kind::Vm,
        Kind::Trace,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Set => "set",
            Kind::Incr => "incr",
            Kind::Count => "count",
            Kind::Add => "add",
            Kind::Remove => "remove",
            Kind::Flag => "flag",
            Kind::Max => "max",
            Kind::Min => "min",
            Kind::First => "first",
            Kind::MapSet => "map-set",
            Kind::MapUnset => "map-unset",
            Kind::MapIncr => "map-incr",
            Kind::Text => "text",
            Kind::Json => "json",
            Kind::Contested => "contested",
            Kind::Put => "put",
            Kind::Delete => "delete",
            Kind::Batch => "batch",
            Kind::Heartbeat => "heartbeat",
            Kind::Unset => "unset",
            Kind::Load => "load",
            Kind::Dispute => "dispute",
            Kind::Settle => "settle",
            Kind::Reopen => "reopen",
            Kind::Schema => "schema",
            Kind::Policy => "policy",
            Kind::Advise => "advise",
            Kind::Lock => "lock",
            Kind::Decide => "decide",
            Kind::Task => "task",
            Kind::Place => "place",
            Kind::Fence => "fence",
            Kind::Vm => "vm",
            Kind::Trace => "trace",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a write waits for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Durability {
    Memory,
    Local,
    Replicas(usize),
}

impl Durability {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "memory" => Some(Self::Memory),
            "local" => Some(Self::Local),
            name => name.strip_prefix("replicas:")?.parse().ok().filter(|n| *n > 0).map(Self::Replicas),
        }
    }
}

/// One transaction, as a client asks for it.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub writes: Vec<(Address, Write)>,
    pub durability: Durability,
    /// What it adds to counters that are never deleted: document and amount.
    pub increments: Vec<(String, i64)>,
    /// What is written depends on the conflicts that the client's node lists.
    pub deed: Option<Deed>,
    /// A quorum is asked: about a lock, a field, a task, a VM, a worker's capacity, or a replica.
    pub asks: Option<Kind>,
}

/// What a person does about a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    Settle,
    Reopen,
}

/// What a real cluster did, step by step: the writes of each step are one transaction. A scenario that mixes in `trace`
/// takes its steps in order, from one that the seed draws.
#[derive(Clone, Debug)]
pub struct Recording(pub Arc<[Vec<(Address, Write)>]>);

/// Two scenarios are alike only if they replay the very same recording.
impl PartialEq for Recording {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Draws transactions.
#[derive(Debug)]
pub struct Workshop {
    chance: Chance,
    recording: Option<Recording>,
    /// The next step of the recording.
    step: usize,
    mix: Vec<(Kind, u64)>,
    durability: Vec<(Durability, u64)>,
    keys: u64,
    loads: u64,
}

/// Documents of one `load`.
const LOAD_LEN: usize = 100;

/// The schema of the documents below, for the types that are not inferred.
pub const COLLECTION: &str = "things";
pub const SCHEMA: &str = r#"{"fields":{
    "armed":{"type":"flag"},"high":{"type":"max"},"low":{"type":"min"},"born":{"type":"fww"},"beat":{"type":"lww"},
    "notes":{"type":"text"},"tree":{"type":"json"},"host":{"type":"contested","resolver":"manual"},"by":{"type":"map"},
    "count":{"type":"pncounter"},"tags":{"type":"orset"},"state":{"type":"contested","resolver":"last_writer"}}}"#;
/// Counters here are never deleted, nor removed from a document.
pub const COUNTERS: &str = "counters";
pub const COUNTER: &str = "n";

impl Workshop {
    pub fn new(workload: &Workload, seed: u64) -> Self {
        let named = |(name, weight): (&String, &u64)| Kind::named(name).map(|kind| (kind, *weight));
        let level = |(name, weight): (&String, &u64)| Durability::named(name).map(|level| (level, *weight));
        let steps = workload.recording.as_ref().map_or(0, |recording| recording.0.len());
        Self {
            chance: Chance::of(seed, "workload"),
            recording: workload.recording.clone(),
            // Where it begins is drawn apart, so that a recording changes nothing else that the seed means.
            step: Chance::of(seed, "recording").index(steps.max(1)),
            mix: workload.mix.iter().filter_map(named).collect(),
            durability: workload.durability.iter().filter_map(level).collect(),
            keys: workload.keys,
            loads: 0,
        }
    }

    /// The next transaction of `client`.
    pub fn transaction(&mut self, client: usize) -> Option<Transaction> {
        let kind = self.chance.weighted(&self.mix)?;
        let durability = self.chance.weighted(&self.durability).unwrap_or(Durability::Local);
        let mut transaction =
            Transaction { writes: Vec::new(), durability, increments: Vec::new(), deed: None, asks: None };
        if kind == Kind::Batch {
            let inner: Vec<_> = self.mix.iter().copied().filter(|(kind, _)| *kind != Kind::Batch).collect();
            for _ in 0..self.chance.between(2, 5) {
                let kind = self.chance.weighted(&inner).unwrap_or(Kind::Set);
                self.add(kind, client, &mut transaction);
            }
        } else {
            self.add(kind, client, &mut transaction);
        }
        Some(transaction)
    }

    /// Half of all draws fall on a few hot keys.
    fn key(&mut self) -> u64 {
        let hot = self.chance.happens(0.5);
        self.chance.below(if hot { self.keys.div_ceil(8) } else { self.keys })
    }

    fn add(&mut self, kind: Kind, client: usize, transaction: &mut Transaction) {
        let key = self.key();
        let n = self.chance.below(1_000) as i64;
        let small = self.chance.below(6);
        let field = |name: &str| name.to_owned();
        let member = json!(["red", "green", "blue", "grey", "black", "white"][small as usize]);
        let edit = match kind {
            Kind::Incr => {
                let by = n % 21 - 7;
                transaction.increments.push((format!("{COUNTERS}/{key}"), by));
                let edit = Edit::Incr { field: field(COUNTER), by };
                push(transaction, COUNTERS, &key.to_string(), Write::Upsert(vec![edit]));
                return;
            }
            Kind::Heartbeat => {
                let fields = [("beat", json!(n)), ("state", json!(small)), ("note", json!("x".repeat(small as usize)))];
                let edits = fields.map(|(name, value)| Edit::Set { field: field(name), value });
                push(transaction, COLLECTION, &format!("client-{client}"), Write::Upsert(edits.into()));
                return;
            }
            Kind::Put => {
                let fields = json!({"state": small, "tags": [member, "new"], "count": n % 10, "beat": n, "low": n});
                let Json::Object(mut fields) = fields else { return };
                fields.retain(|_, _| !self.chance.happens(0.3));
                push(transaction, COLLECTION, &key.to_string(), Write::Put(fields));
                return;
            }
            Kind::Delete => {
                push(transaction, COLLECTION, &key.to_string(), Write::Delete);
                return;
            }
            Kind::Load => {
                self.loads += 1;
                for at in 0..LOAD_LEN {
                    let fields = json!({"state": "running", "owner": format!("client-{client}"), "n": at});
                    let Json::Object(fields) = fields else { return };
                    push(transaction, "load", &format!("{}-{at}", self.loads), Write::Put(fields));
                }
                return;
            }
            Kind::Dispute => {
                let (field, value) = disputes::write(&mut self.chance, n);
                let edit = Edit::Set { field, value };
                push(transaction, disputes::COLLECTION, &key.to_string(), Write::Upsert(vec![edit]));
                return;
            }
            Kind::Settle | Kind::Reopen => {
                transaction.deed = Some(if kind == Kind::Settle { Deed::Settle } else { Deed::Reopen });
                return;
            }
            Kind::Schema => {
                transaction.writes.extend(definition(
                    "schemas",
                    disputes::COLLECTION,
                    &disputes::schema(&mut self.chance),
                ));
                return;
            }
            Kind::Policy => {
                let name = ["first", "second"][n as usize % 2];
                match disputes::policy(&mut self.chance) {
                    Some(policy) => transaction.writes.extend(definition("policies", name, &policy)),
                    None => push(transaction, "policies", name, Write::Delete),
                }
                return;
            }
            Kind::Advise => {
                let (collection, id) = (schemas::ADVISOR, schemas::ADVISOR_MODEL);
                match disputes::model(&mut self.chance) {
                    Some(model) => transaction.writes.extend(definition(collection, id, &model)),
                    None => push(transaction, collection, id, Write::Delete),
                }
                return;
            }
            Kind::Trace => {
                let Some(Recording(steps)) = &self.recording else { return };
                let Some(writes) = steps.get(self.step) else { return };
                transaction.writes.extend(writes.iter().cloned());
                self.step = (self.step + 1) % steps.len();
                return;
            }
            Kind::Lock | Kind::Decide | Kind::Task | Kind::Place | Kind::Fence | Kind::Vm => {
                transaction.asks = Some(kind);
                return;
            }
            Kind::Batch => return,
            Kind::Set => Edit::Set { field: field("state"), value: json!(n) },
            Kind::Contested => Edit::Set { field: field("host"), value: json!(format!("w{small}")) },
            Kind::Count => Edit::Incr { field: field("count"), by: n % 9 - 3 },
            Kind::Add => Edit::Add { field: field("tags"), value: member },
            Kind::Remove => Edit::Remove { field: field("tags"), value: member },
            Kind::Flag => Edit::Set { field: field("armed"), value: json!(n % 2 == 0) },
            Kind::Max => Edit::Set { field: field("high"), value: json!(n) },
            Kind::Min => Edit::Set { field: field("low"), value: json!(n) },
            Kind::First => Edit::Set { field: field("born"), value: json!(n) },
            Kind::MapSet => Edit::SetKey { field: field("by"), key: format!("k{small}"), value: json!(n) },
            Kind::MapUnset => Edit::UnsetKey { field: field("by"), key: format!("k{small}") },
            Kind::MapIncr => Edit::IncrKey { field: field("by"), key: format!("c{small}"), by: n % 5 },
            Kind::Text => Edit::Splice { field: field("notes"), at: 0, delete: 0, insert: format!("{client}") },
            Kind::Json => Edit::Set { field: field("tree"), value: json!({"a": n, "b": [small]}) },
            Kind::Unset => {
                let fields = ["state", "high", "low", "born", "armed", "host", "tags", "by"];
                Edit::Unset { field: field(fields[n as usize % fields.len()]) }
            }
        };
        push(transaction, COLLECTION, &key.to_string(), Write::Upsert(vec![edit]));
    }
}

fn push(transaction: &mut Transaction, collection: &str, id: &str, write: Write) {
    if let Ok(address) = Address::new(collection, id) {
        transaction.writes.push((address, write));
    }
}

/// The document that declares the schema, written once by the first node.
pub fn schema() -> Option<(Address, Write)> {
    let schema = serde_json::from_str::<Json>(SCHEMA).ok()?;
    definition(crate::engine::schemas::COLLECTION, COLLECTION, &schema)
}

/// The document that holds the definition of a schema or a policy.
fn definition(collection: &str, id: &str, definition: &Json) -> Option<(Address, Write)> {
    let fields = Map::from_iter([(schemas::DEFINITION.to_owned(), definition.clone())]);
    Some((Address::new(collection, id).ok()?, Write::Put(fields)))
}
