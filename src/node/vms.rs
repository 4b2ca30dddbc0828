//! Virtual machines, for programs: who runs one is decided by a quorum, under a token; see [`domain::vms`](crate::domain::vms)
//! for how each field merges.

use std::time::{Duration, Instant};

use super::capacity::EscrowError;
use super::decide::{DecideError, Take};
use super::handle::Node;
use super::keep::Kept;
use super::lock::{Grant, LockError};
use super::write::{DocumentWrite, Durability, Missing, Receipt, WriteBody, WriteError};
use crate::document::{Address, AddressError, Edit};
use crate::domain::capacity::Amounts;
use crate::domain::vms::{COLLECTION, Migration, Vm, VmError, VmSpec, check_worker, started, stopped};
use crate::engine::ballot::AskError;
use crate::engine::ballot::lock::RequestId;

/// Who waits for a VM looks this often whether it is free.
const LOOK: Duration = Duration::from_millis(100);
/// How long one may wait for a VM.
pub const WAIT_MAX: Duration = Duration::from_secs(600);

/// The virtual machines of the cluster.
#[derive(Clone, Debug)]
pub struct Vms {
    node: Node,
}

/// A VM that a worker runs. What the token is for: hand it to whatever the VM writes to (its disks, its address), and have it
/// refuse a lower one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmRun {
    pub id: String,
    pub worker: String,
    pub lease: Duration,
    pub grant: Grant,
}

/// What became of a VM that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmStop {
    /// `None`: the VM is free. Else it was stopped here, and nobody could be told: its lease runs out by itself.
    pub unreleased: Option<DecideError>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VmsError {
    #[error("there is no VM `{0}` on this node")]
    NotFound(String),
    #[error("there is a VM `{0}` already")]
    Exists(String),
    #[error("`{worker}` runs VM `{id}`, under the token {token}")]
    Runs { id: String, worker: String, token: u64 },
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Decide(#[from] DecideError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Capacity(#[from] EscrowError),
}

impl Node {
    pub fn vms(&self) -> Vms {
        Vms { node: self.clone() }
    }
}

impl Vms {
    pub async fn create(&self, id: &str, spec: &VmSpec) -> Result<Receipt, VmsError> {
        let body = WriteBody::Put(spec.fields()?);
        let write =
            DocumentWrite { address: address(id)?, body, if_match: None, create_only: true, missing: Missing::Create };
        match self.node.write(vec![write], Durability::Local).await {
            Err(WriteError::Precondition { .. }) => Err(VmsError::Exists(id.to_owned())),
            written => Ok(written?),
        }
    }

    /// As this node has it.
    pub fn get(&self, id: &str) -> Result<Vm, VmsError> {
        let shown = self.node.read(&address(id)?).document.ok_or_else(|| VmsError::NotFound(id.to_owned()))?;
        Ok(Vm::of(id, &shown.view.fields, shown.stale))
    }

    /// As this node has them, in order of their ids after `after`.
    pub fn list(&self, after: Option<&str>, limit: usize) -> (Vec<Vm>, Option<String>) {
        let listing = self.node.list(COLLECTION, "", after, limit);
        let vm = |(id, shown): (String, super::Shown)| Vm::of(&id, &shown.view.fields, shown.stale);
        (listing.items.into_iter().map(vm).collect(), listing.next)
    }

    /// Has a quorum decide that this worker runs the VM, for a lease; waits for at most `wait` while another does. Start the
    /// VM once this has returned, and stop it before the lease ends unless it was renewed: [`Vms::keep`] tells in time.
    ///
    /// A worker that has a capacity ([`Node::capacity`]) has to have room for it, which is the VM's until it is stopped.
    pub async fn run(&self, id: &str, worker: &str, lease: Duration, wait: Duration) -> Result<VmRun, VmsError> {
        check_worker(worker)?;
        let is_new = self.find_room(&self.get(id)?, worker).await?;
        let run = self.run_there(id, worker, lease, wait).await;
        if run.is_err() && is_new {
            self.leave_room(id, worker).await;
        }
        run
    }

    /// Gives whether the VM had none there before.
    async fn find_room(&self, vm: &Vm, worker: &str) -> Result<bool, VmsError> {
        let capacity = self.node.capacity();
        let read = match capacity.read(worker) {
            Err(EscrowError::NoWorker(_)) => return Ok(false),
            read => read?,
        };
        let size =
            vm.size.map_or_else(Vec::new, |size| vec![("cpus", u64::from(size.cpus)), ("memory_mb", size.memory_mb)]);
        let wanted: Amounts = size.into_iter().filter(|(resource, _)| read.escrow.limits.has(resource)).collect();
        if wanted.is_nothing() {
            return Ok(false);
        }
        let thing = thing(&vm.id);
        let was_there = read.placements().0.iter().any(|placed| placed.thing == thing);
        capacity.place(worker, &thing, &wanted).await?;
        Ok(!was_there)
    }

    /// What could not be released now is released by hand: that a VM was stopped does not wait for it.
    async fn leave_room(&self, id: &str, worker: &str) {
        match self.node.capacity().release(worker, &thing(id)).await {
            Ok(_) | Err(EscrowError::NoWorker(_)) => {}
            Err(error) => tracing::warn!(id, worker, %error, "the room of a VM that was stopped is not free yet"),
        }
    }

    async fn run_there(&self, id: &str, worker: &str, lease: Duration, wait: Duration) -> Result<VmRun, VmsError> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let request = RequestId(u128::from_le_bytes(super::builder::random()));
        let take = Take { holder: worker.to_owned(), lease, request };
        let decision = Vm::run(take);
        let address = address(id)?;
        let decided = loop {
            // A request of its own for each attempt: what was not done is not remembered.
            match self.node.decide(&address, &decision).await {
                Err(DecideError::Held { .. }) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                Err(DecideError::Held { holder, token, .. }) => {
                    return Err(VmsError::Runs { id: id.to_owned(), worker: holder, token });
                }
                decided => break decided?,
            }
        };
        let grant = decided.grant.ok_or(DecideError::Ask(AskError::Unknown))?;
        self.edit(id, started(&self.get(id)?, worker)).await?;
        Ok(VmRun { id: id.to_owned(), worker: worker.to_owned(), lease, grant })
    }

    /// Renews the lease for as long as the result is held, and tells when the VM has to be stopped.
    pub fn keep(&self, run: &VmRun) -> Kept {
        self.node.lock(&run.grant.name).keep(&run.grant, run.lease)
    }

    /// The lease begins anew.
    pub async fn renew(&self, id: &str, token: u64) -> Result<Grant, VmsError> {
        Ok(self.node.lock(address(id)?.as_str()).renew(token).await?)
    }

    /// The worker has stopped the VM: says so, and lets another run it. Without a quorum only the first is done.
    pub async fn stop(&self, id: &str, worker: &str, token: u64) -> Result<VmStop, VmsError> {
        check_worker(worker)?;
        let (vm, address) = (self.get(id)?, address(id)?);
        // Who has it again, under a later token, does not lose it by an old word, and who never had it stops nothing.
        if let Ok(lock) = self.node.lock(address.as_str()).read().await {
            let has_it = lock.holder.as_deref() == Some(worker);
            if has_it && lock.token != token || !has_it && !vm.running_on.contains(worker) {
                return Err(DecideError::NotHolder { address, token, now: lock.token }.into());
            }
        }
        self.edit(id, stopped(&vm, worker)).await?;
        self.leave_room(id, worker).await;
        match self.node.decide(&address, &Vm::free(worker, token)).await {
            Ok(_) => Ok(VmStop { unreleased: None }),
            Err(error @ (DecideError::Ask(_) | DecideError::NotHolder { .. } | DecideError::Differs { .. })) => {
                Ok(VmStop { unreleased: Some(error) })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whoever runs the VM has a quorum note where it goes. Once it is stopped here, the other runs it.
    pub async fn migrate(&self, id: &str, token: u64, to: &str) -> Result<Migration, VmsError> {
        let migration = self.get(id)?.migrate(to)?;
        self.node.decide(&address(id)?, &migration.decision(token)).await?;
        Ok(migration)
    }

    pub async fn grow_disk(&self, id: &str, disk: &str, mb: u64) -> Result<Receipt, VmsError> {
        let edits = self.get(id)?.grow(disk, mb)?;
        self.edit(id, edits).await
    }

    pub async fn snapshot(&self, id: &str, name: &str) -> Result<Receipt, VmsError> {
        let edits = self.get(id)?.snapshot(name)?;
        self.edit(id, edits).await
    }

    pub async fn hide_snapshot(&self, id: &str, name: &str) -> Result<Receipt, VmsError> {
        let edits = self.get(id)?.hide_snapshot(name)?;
        self.edit(id, edits).await
    }

    async fn edit(&self, id: &str, edits: Vec<Edit>) -> Result<Receipt, VmsError> {
        let write = DocumentWrite {
            address: address(id)?,
            body: WriteBody::Edits(edits),
            if_match: None,
            create_only: false,
            missing: Missing::Refuse,
        };
        Ok(self.node.write(vec![write], Durability::Local).await?)
    }
}

/// A VM as its worker's capacity names it.
fn thing(id: &str) -> String {
    format!("{COLLECTION}/{id}")
}

fn address(id: &str) -> Result<Address, AddressError> {
    Address::new(COLLECTION, id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(400);

    async fn node_with_vm() -> Node {
        let node = Node::builder().start().await.unwrap();
        let spec = VmSpec { cpus: 2, memory_mb: 512, ..VmSpec::default() };
        node.vms().create("7", &spec).await.unwrap();
        node
    }

    #[tokio::test]
    async fn one_worker_runs_a_vm_and_the_next_has_it_once_it_is_stopped() {
        let node = node_with_vm().await;
        let vms = node.vms();
        let spec = VmSpec { cpus: 1, memory_mb: 1, ..VmSpec::default() };
        assert_eq!(vms.create("7", &spec).await.unwrap_err(), VmsError::Exists("7".into()));
        let ash = vms.run("7", "ash", Duration::from_secs(9), Duration::ZERO).await.unwrap();
        let refused = vms.run("7", "oak", LEASE, Duration::ZERO).await.unwrap_err();
        assert_eq!(refused, VmsError::Runs { id: "7".into(), worker: "ash".into(), token: ash.grant.token });
        let vm = vms.get("7").unwrap();
        assert_eq!((vm.host.as_deref(), vm.power.name(), vm.is_split()), (Some("ash"), "running", false));
        assert_eq!(vms.migrate("7", ash.grant.token, "oak").await.unwrap().to, "oak");
        assert!(matches!(vms.migrate("7", 99, "oak").await, Err(VmsError::Decide(DecideError::NotHolder { .. }))));
        assert_eq!(vms.stop("7", "ash", ash.grant.token).await.unwrap(), VmStop { unreleased: None });
        let oak = vms.run("7", "oak", LEASE, Duration::ZERO).await.unwrap();
        assert!(oak.grant.token > ash.grant.token);
        let vm = vms.get("7").unwrap();
        assert_eq!((vm.host.as_deref(), vm.migration), (Some("oak"), None));
        assert_eq!(vm.running_on, ["oak".to_owned()].into());
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_vm_whose_worker_is_gone_is_taken_over_once_its_lease_ran_out() {
        let node = node_with_vm().await;
        let vms = node.vms();
        let ash = vms.run("7", "ash", LEASE, Duration::ZERO).await.unwrap();
        let since = Instant::now();
        let oak = vms.run("7", "oak", LEASE, Duration::from_secs(10)).await.unwrap();
        assert!(since.elapsed() >= LEASE, "{:?}", since.elapsed());
        assert!(oak.grant.token > ash.grant.token);
        // Ash comes back: what it holds counts for nothing.
        let stop = vms.stop("7", "ash", ash.grant.token).await.unwrap();
        assert!(matches!(stop.unreleased, Some(DecideError::NotHolder { .. })));
        assert_eq!(vms.get("7").unwrap().host.as_deref(), Some("oak"));
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_vm_runs_where_there_is_room_and_leaves_it_when_it_is_stopped() {
        let node = node_with_vm().await;
        let (vms, capacity) = (node.vms(), node.capacity());
        capacity.set_limits("ash", &[("memory_mb", 600)].into_iter().collect()).await.unwrap();
        vms.create("8", &VmSpec { cpus: 1, memory_mb: 100, ..VmSpec::default() }).await.unwrap();
        let run = vms.run("7", "ash", Duration::from_secs(9), Duration::ZERO).await.unwrap();
        assert!(matches!(vms.run("7", "ash", LEASE, Duration::ZERO).await, Err(VmsError::Runs { .. })));
        let refused = vms.run("8", "ash", LEASE, Duration::ZERO).await.unwrap_err();
        assert!(refused.to_string().starts_with("100 more of `memory_mb` are needed; 88 are free"), "{refused}");
        assert_eq!(capacity.read("ash").unwrap().placements().0.len(), 1, "one that runs keeps its room");
        vms.stop("7", "ash", run.grant.token).await.unwrap();
        let again = vms.run("7", "ash", Duration::from_secs(9), Duration::ZERO).await.unwrap();
        for (worker, token) in [("ash", run.grant.token), ("oak", again.grant.token), ("oak", run.grant.token)] {
            let refused = vms.stop("7", worker, token).await.unwrap_err();
            assert!(matches!(refused, VmsError::Decide(DecideError::NotHolder { .. })), "{worker}: {refused}");
        }
        assert_eq!(capacity.read("ash").unwrap().placements().0.len(), 1, "an old word takes no room away");
        vms.stop("7", "ash", again.grant.token).await.unwrap();
        vms.run("8", "ash", LEASE, Duration::ZERO).await.unwrap();
        assert_eq!(capacity.read("ash").unwrap().placements().0[0].thing, "vms/8");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn disks_grow_and_snapshots_are_added_and_hidden() {
        let node = node_with_vm().await;
        let vms = node.vms();
        vms.grow_disk("7", "root", 100).await.unwrap();
        assert!(matches!(vms.grow_disk("7", "root", 50).await, Err(VmsError::Vm(VmError::Shrinks { .. }))));
        vms.snapshot("7", "before").await.unwrap();
        vms.hide_snapshot("7", "before").await.unwrap();
        assert!(matches!(vms.snapshot("7", "before").await, Err(VmsError::Vm(VmError::Snapshot(_)))));
        let vm = vms.get("7").unwrap();
        assert_eq!((vm.disks["root"], vm.snapshots.len()), (100, 0));
        assert_eq!(vms.get("8").unwrap_err(), VmsError::NotFound("8".into()));
        node.shutdown().await;
    }
}
