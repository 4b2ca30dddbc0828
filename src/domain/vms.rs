//! Virtual machines: what a VM's document says, and which changes of it make sense.
//!
//! | field | merges | rule |
//! |---|---|---|
//! | `host`, `migration` | not: a quorum decides, under the lock of the VM's document | one owner, one token |
//! | `power_state` | `contested`, `running` over `paused` over `stopped` | a VM that somebody runs is not stopped by somebody else's word |
//! | `size` | `contested`, the last writer's | cores and memory change together |
//! | `disks` | `map` of `max`, MiB by id | a disk only grows |
//! | `network` | `map`, by interface | two interfaces never meet |
//! | `snapshots`, `hidden_snapshots` | `gset` | added and hidden, never taken away |
//! | `running_on` | `orset`, of hosts | two hosts at once are a critical conflict |
//! | `restarts` | `pncounter` | each counts |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::document::Edit;
use crate::engine::ballot::{Decision, Take};

pub const COLLECTION: &str = "vms";
/// The rule of the built-in schema that a VM breaks which two hosts say to run.
pub const ONE_HOST: &str = "one host runs a vm";
/// Longest name of a worker, a disk, an interface and a snapshot, bytes.
pub const NAME_MAX: usize = 128;
/// Disks, interfaces and snapshots of one VM.
pub const PARTS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    Stopped,
    Paused,
    Running,
}

impl Power {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Running => "running",
        }
    }
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Power {
    type Err = VmError;

    fn from_str(name: &str) -> Result<Self, VmError> {
        let known = [Self::Stopped, Self::Paused, Self::Running].into_iter().find(|power| power.name() == name);
        known.ok_or_else(|| VmError::Power(shortened(name)))
    }
}

/// Cores and memory, as one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub cpus: u32,
    pub memory_mb: u64,
}

/// A VM that is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    #[serde(default)]
    pub cpus: u32,
    #[serde(default)]
    pub memory_mb: u64,
    /// MiB, by the disk's id.
    #[serde(default)]
    pub disks: BTreeMap<String, u64>,
    /// By interface.
    #[serde(default)]
    pub network: BTreeMap<String, Json>,
}

/// Where a VM goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    pub from: String,
    pub to: String,
}

impl Migration {
    /// Whoever runs the VM under this token has it noted.
    pub fn decision(&self, token: u64) -> Decision {
        let set = vec![("migration".to_owned(), Some(json!(self)))];
        Decision { token: Some(token), set, ..Decision::default() }
    }
}

/// A VM as its document reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Vm {
    pub id: String,
    pub power: Power,
    /// Who runs it, as a quorum decided; `None`: nobody.
    pub host: Option<String>,
    pub migration: Option<Migration>,
    pub size: Option<Size>,
    pub disks: BTreeMap<String, u64>,
    pub network: BTreeMap<String, Json>,
    /// Those that are not hidden.
    pub snapshots: BTreeSet<String>,
    pub hidden_snapshots: BTreeSet<String>,
    pub restarts: i64,
    /// The hosts that say to run it. More than one: a split brain.
    pub running_on: BTreeSet<String>,
    /// Decided fields that may be others by now: this node reaches no quorum.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stale: Vec<String>,
}

/// Why a change of a VM makes no sense. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmError {
    #[error("`{0}` is no power state: use running, paused or stopped")]
    Power(String),
    #[error("a VM has at least one core and some memory: give `cpus` and `memory_mb`")]
    Size,
    #[error("the name of {what} has 1 to {NAME_MAX} bytes and no control characters: `{name}`")]
    Name { what: &'static str, name: String },
    #[error("a VM has at most {PARTS_MAX} {0}")]
    TooMany(&'static str),
    #[error("disk `{disk}` has {now} MiB and only grows: {asked} MiB would shrink it")]
    Shrinks { disk: String, now: u64, asked: u64 },
    #[error("a disk has at least 1 MiB")]
    NoDisk,
    #[error("there is no snapshot `{0}`")]
    NoSnapshot(String),
    #[error("there is a snapshot `{0}` already, hidden or not: take another name")]
    Snapshot(String),
    #[error("nobody runs this VM: there is nothing to migrate")]
    NotRunning,
    #[error("`{0}` runs this VM already")]
    There(String),
}

impl VmSpec {
    /// The document of the new VM.
    pub fn fields(&self) -> Result<Map<String, Json>, VmError> {
        if self.cpus == 0 || self.memory_mb == 0 {
            return Err(VmError::Size);
        }
        check_parts("a disk", "disks", self.disks.keys())?;
        check_parts("an interface", "interfaces", self.network.keys())?;
        if self.disks.values().any(|mb| *mb == 0) {
            return Err(VmError::NoDisk);
        }
        let fields = json!({
            "power_state": Power::Stopped.name(), "size": { "cpus": self.cpus, "memory_mb": self.memory_mb },
            "disks": self.disks, "network": self.network,
        });
        let Json::Object(fields) = fields else { return Ok(Map::new()) };
        Ok(fields)
    }
}

impl Vm {
    /// What a document says; what it does not say is as little as can be.
    pub fn of(id: &str, fields: &Map<String, Json>, stale: Vec<String>) -> Self {
        let text = |field: &str| fields.get(field).and_then(Json::as_str);
        let names =
            |field: &str| fields.get(field).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
        let map = |field: &str| fields.get(field).and_then(Json::as_object).cloned().unwrap_or_default();
        let hidden: BTreeSet<String> = names("hidden_snapshots").map(str::to_owned).collect();
        Self {
            id: id.to_owned(),
            power: text("power_state").and_then(|name| name.parse().ok()).unwrap_or(Power::Stopped),
            host: text("host").map(str::to_owned),
            migration: fields.get("migration").and_then(|json| Migration::deserialize(json).ok()),
            size: fields.get("size").and_then(|json| Size::deserialize(json).ok()),
            disks: map("disks").into_iter().filter_map(|(disk, mb)| Some((disk, mb.as_u64()?))).collect(),
            network: map("network").into_iter().collect(),
            snapshots: names("snapshots").filter(|name| !hidden.contains(*name)).map(str::to_owned).collect(),
            hidden_snapshots: hidden,
            restarts: fields.get("restarts").and_then(Json::as_i64).unwrap_or_default(),
            running_on: names("running_on").map(str::to_owned).collect(),
            stale,
        }
    }

    /// Two hosts say to run it.
    pub fn is_split(&self) -> bool {
        self.running_on.len() > 1
    }

    /// A disk is made, or made larger.
    pub fn grow(&self, disk: &str, mb: u64) -> Result<Vec<Edit>, VmError> {
        check_name("a disk", disk)?;
        match self.disks.get(disk) {
            _ if mb == 0 => return Err(VmError::NoDisk),
            Some(now) if *now > mb => return Err(VmError::Shrinks { disk: disk.to_owned(), now: *now, asked: mb }),
            None if self.disks.len() >= PARTS_MAX => return Err(VmError::TooMany("disks")),
            _ => {}
        }
        Ok(vec![Edit::SetKey { field: "disks".into(), key: disk.to_owned(), value: mb.into() }])
    }

    /// A snapshot is there from now on.
    pub fn snapshot(&self, name: &str) -> Result<Vec<Edit>, VmError> {
        check_name("a snapshot", name)?;
        if self.snapshots.contains(name) || self.hidden_snapshots.contains(name) {
            return Err(VmError::Snapshot(name.to_owned()));
        }
        if self.snapshots.len() + self.hidden_snapshots.len() >= PARTS_MAX {
            return Err(VmError::TooMany("snapshots"));
        }
        Ok(vec![Edit::Add { field: "snapshots".into(), value: name.into() }])
    }

    /// A snapshot is shown no more. It is not taken away: somebody may restore it just now.
    pub fn hide_snapshot(&self, name: &str) -> Result<Vec<Edit>, VmError> {
        match self.snapshots.contains(name) {
            true => Ok(vec![Edit::Add { field: "hidden_snapshots".into(), value: name.into() }]),
            false => Err(VmError::NoSnapshot(shortened(name))),
        }
    }

    /// Where it would go, if whoever runs it lets it.
    pub fn migrate(&self, to: &str) -> Result<Migration, VmError> {
        check_worker(to)?;
        let from = self.host.clone().ok_or(VmError::NotRunning)?;
        if from == to { Err(VmError::There(from)) } else { Ok(Migration { from, to: to.to_owned() }) }
    }

    /// A worker has it, for a lease. Where it was to go is over with that.
    pub fn run(take: Take) -> Decision {
        let set = vec![("host".to_owned(), Some(take.holder.as_str().into())), ("migration".to_owned(), None)];
        Decision { take: Some(take), set, ..Decision::default() }
    }

    /// Whoever has it under this token has it no more, and another may.
    pub fn free(worker: &str, token: u64) -> Decision {
        let (tests, set) = (vec![("host".to_owned(), Some(worker.into()))], vec![("host".to_owned(), None)]);
        Decision { token: Some(token), tests, set, release: true, ..Decision::default() }
    }
}

/// A host begins to run a VM, or says so again. That it runs is written also where it reads so already: what is not written
/// does not outlast a `stopped` that the host before it writes at the same time.
pub fn started(vm: &Vm, worker: &str) -> Vec<Edit> {
    let field = || "power_state".to_owned();
    let anew = (vm.power == Power::Running).then(|| Edit::Unset { field: field() });
    let runs = [
        Edit::Set { field: field(), value: Power::Running.name().into() },
        Edit::Add { field: "running_on".into(), value: worker.into() },
    ];
    anew.into_iter().chain(runs).collect()
}

/// A host has stopped a VM. Where another says to run it, its state is left to that one.
pub fn stopped(vm: &Vm, worker: &str) -> Vec<Edit> {
    let mut edits = vec![Edit::Remove { field: "running_on".into(), value: worker.into() }];
    if vm.running_on.iter().all(|host| host == worker) {
        edits.push(Edit::Set { field: "power_state".into(), value: Power::Stopped.name().into() });
    }
    edits
}

pub fn check_worker(worker: &str) -> Result<(), VmError> {
    check_name("a worker", worker)
}

fn check_parts<'n>(
    what: &'static str,
    many: &'static str,
    names: impl ExactSizeIterator<Item = &'n String>,
) -> Result<(), VmError> {
    if names.len() > PARTS_MAX {
        return Err(VmError::TooMany(many));
    }
    names.into_iter().try_for_each(|name| check_name(what, name))
}

fn check_name(what: &'static str, name: &str) -> Result<(), VmError> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(VmError::Name { what, name: shortened(name) }) }
}

fn shortened(name: &str) -> String {
    name.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::builtin;

    fn vm(fields: Json) -> Vm {
        Vm::of("7", fields.as_object().unwrap(), Vec::new())
    }

    #[test]
    fn every_field_of_a_vm_is_declared() {
        let spec = VmSpec { cpus: 2, memory_mb: 512, disks: [("root".into(), 10)].into(), ..VmSpec::default() };
        let schema = builtin(COLLECTION).unwrap();
        let more = ["host", "migration", "snapshots", "hidden_snapshots", "restarts", "running_on"];
        let fields = spec.fields().unwrap();
        let names: Vec<&str> = fields.keys().map(String::as_str).chain(more).collect();
        assert!(names.iter().all(|name| schema.field(name).is_some()), "{names:?}");
        assert!(schema.rules.iter().any(|rule| rule.name == ONE_HOST));
        assert_eq!(vm(Json::Object(fields)).size, Some(Size { cpus: 2, memory_mb: 512 }));
    }

    #[test]
    fn a_disk_only_grows() {
        let vm = vm(json!({ "disks": { "root": 10 } }));
        assert!(vm.grow("root", 20).is_ok() && vm.grow("data", 1).is_ok());
        assert_eq!(vm.grow("root", 5), Err(VmError::Shrinks { disk: "root".into(), now: 10, asked: 5 }));
        assert_eq!(vm.grow("root", 0), Err(VmError::NoDisk));
        assert!(vm.grow("", 5).unwrap_err().to_string().starts_with("the name of a disk"));
    }

    #[test]
    fn a_snapshot_is_added_and_hidden_and_its_name_is_not_given_twice() {
        let full: Vec<String> = (0..PARTS_MAX).map(|n| n.to_string()).collect();
        assert_eq!(vm(json!({ "snapshots": full })).snapshot("c"), Err(VmError::TooMany("snapshots")));
        let vm = vm(json!({ "snapshots": ["a", "b"], "hidden_snapshots": ["b"] }));
        assert_eq!(vm.snapshots, ["a".to_owned()].into());
        assert_eq!(vm.snapshot("a"), Err(VmError::Snapshot("a".into())));
        assert_eq!(vm.snapshot("b"), Err(VmError::Snapshot("b".into())), "hidden, and not free");
        assert!(vm.snapshot("c").is_ok() && vm.hide_snapshot("a").is_ok());
        assert_eq!(vm.hide_snapshot("b"), Err(VmError::NoSnapshot("b".into())));
    }

    #[test]
    fn two_hosts_that_say_to_run_it_are_a_split() {
        let one = vm(json!({ "running_on": ["ash"], "host": "ash" }));
        let two = vm(json!({ "running_on": ["ash", "oak"] }));
        assert!(!one.is_split() && two.is_split());
        assert_eq!(one.migrate("oak"), Ok(Migration { from: "ash".into(), to: "oak".into() }));
        assert_eq!(one.migrate("ash"), Err(VmError::There("ash".into())));
        assert_eq!(two.migrate("elm"), Err(VmError::NotRunning), "nobody was decided upon");
        assert_eq!(stopped(&one, "ash").len(), 2);
        assert_eq!(
            (started(&one, "ash").len(), started(&vm(json!({ "power_state": "running" })), "ash").len()),
            (2, 3)
        );
        assert_eq!(stopped(&two, "ash").len(), 1, "oak says to run it");
    }

    #[test]
    fn what_makes_no_vm_is_refused_by_name() {
        assert_eq!(VmSpec::default().fields(), Err(VmError::Size));
        let spec = VmSpec { cpus: 1, memory_mb: 1, disks: [("d".into(), 0)].into(), ..VmSpec::default() };
        assert_eq!(spec.fields(), Err(VmError::NoDisk));
        assert!("resting".parse::<Power>().unwrap_err().to_string().contains("`resting`"));
    }
}
