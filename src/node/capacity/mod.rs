//! Capacity of workers, for programs: things are placed within rights that this node holds, without asking anybody; a quorum
//! hands rights out and takes them back. See [`domain::capacity`](crate::domain::capacity) for why that is never too much.
//!
//! [`accounts`] holds what this process knows of its own rights, [`deciding`] asks the quorum, [`tending`] does what is due.

pub(super) mod accounts;
mod deciding;
pub(super) mod tending;

pub(super) use accounts::Accounts;
pub(super) use tending::tend;

use std::sync::Arc;

use accounts::Held;
use serde_json::Map;

use super::decide::DecideError;
use super::figures::{Figure, FigureKind};
use super::handle::Node;
use super::write::{DISK_WAIT, DocumentWrite, Durability, Missing, WriteBody, WriteError};
use crate::clock::ReplicaId;
use crate::document::decided::published;
use crate::document::{Address, AddressError, Edit};
use crate::domain::capacity::{Amounts, COLLECTION, Capacity, CapacityError, ESCROW, Escrow, Fit, Placed, check_thing};

/// A placement asks for a right, and tries again, so often: others may use up meanwhile what was got.
const TRIES_MAX: usize = 8;
/// Workers whose void placements the metric counts: a scrape is to cost little.
const COUNTED_MAX: usize = 256;

/// The capacity of the cluster's workers.
#[derive(Clone, Debug)]
pub struct Capacities {
    node: Node,
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Nothing of the name was placed there.
    Nothing,
    /// Its room is free.
    Freed,
    /// Whoever placed it, or a quorum, does so once it hears of it.
    Asked,
}

/// What became of the right of a replica that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reclaimed {
    /// The things that it had placed: they stay, until they are released.
    pub settled: Vec<String>,
    /// What others can be given now.
    pub freed: Amounts,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EscrowError {
    #[error("worker `{0}` has no capacity on this node")]
    NoWorker(String),
    #[error("{0} is not gone: this node hears from it. Have it give back what it does not use, or stop it")]
    NotGone(ReplicaId),
    #[error("so many change the capacity of `{0}` at once that this one did not get its turn; ask again")]
    Contended(String),
    #[error("this node holds rights on so many workers that it can ask for no more")]
    TooManyWorkers,
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Decide(#[from] DecideError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Node {
    pub fn capacity(&self) -> Capacities {
        Capacities { node: self.clone() }
    }
}

impl Capacities {
    /// As this node has it.
    pub fn read(&self, worker: &str) -> Result<Capacity, EscrowError> {
        self.local(worker).map(|(capacity, _)| capacity)
    }

    /// As this node has them, in order of the workers after `after`. One that this version cannot read is left out.
    pub fn list(&self, after: Option<&str>, limit: usize) -> (Vec<Capacity>, Option<String>) {
        let listing = self.node.list(COLLECTION, "", after, limit);
        let read = |(worker, shown): &(String, super::Shown)| {
            Capacity::of(worker, &shown.view.fields, !shown.stale.is_empty()).ok()
        };
        (listing.items.iter().filter_map(read).collect(), listing.next)
    }

    /// With it the number of the decision that is read.
    fn local(&self, worker: &str) -> Result<(Capacity, u64), EscrowError> {
        let address = address(worker)?;
        let replica = self.node.inner.replica.read();
        let missing = || EscrowError::NoWorker(worker.to_owned());
        let document = replica.state().document(address.as_str()).ok_or_else(missing)?;
        let view = replica.show(address.as_str(), document).ok_or_else(missing)?;
        let version = published(document, &replica.state().roster, ESCROW).map_or(0, |decided| decided.version);
        Ok((Capacity::of(worker, &view.fields, !replica.has_quorum())?, version))
    }

    /// Has a quorum decide how much a worker has. What is allotted already has to fit.
    pub async fn set_limits(&self, worker: &str, limits: &Amounts) -> Result<Escrow, EscrowError> {
        limits.check()?;
        let address = address(worker)?;
        if self.read(worker).is_err() {
            // A document that nothing is decided about yet would be there for nothing.
            self.node.inner.replica.read().check_quorum().map_err(DecideError::from)?;
            let body = WriteBody::Put(Map::new());
            let write = DocumentWrite {
                address: address.clone(),
                body,
                if_match: None,
                create_only: true,
                missing: Missing::Create,
            };
            match self.node.write(vec![write], Durability::Local).await {
                // Somebody else was first.
                Ok(_) | Err(WriteError::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let (_, escrow) = self.decide(&address, |_, escrow| Ok(Some(escrow.set_limits(limits)?))).await?;
        Ok(escrow)
    }

    /// Places a thing on a worker, or gives it another size. Within the right that this node holds nobody is asked; else a
    /// quorum is, for more of a right. It is on this disk once this returns.
    pub async fn place(&self, worker: &str, thing: &str, amounts: &Amounts) -> Result<Placed, EscrowError> {
        let address = address(worker)?;
        check_thing(thing)?;
        if let Some(placed) = self.placed_elsewhere(worker, thing, amounts)? {
            return Ok(placed);
        }
        if let Some(settled) = self.settled_so(worker, &address, thing, amounts).await? {
            return Ok(settled);
        }
        let held = self.held(worker)?;
        for _ in 0..TRIES_MAX {
            match self.try_place(worker, &address, &held, thing, amounts)? {
                Some(placed) => {
                    self.wait_durable().await?;
                    return Ok(placed);
                }
                None => self.ask_for_right(worker, &address, &held, thing, amounts).await?,
            }
        }
        Err(EscrowError::Contended(worker.to_owned()))
    }

    /// What another node placed so is not placed twice.
    fn placed_elsewhere(&self, worker: &str, thing: &str, amounts: &Amounts) -> Result<Option<Placed>, EscrowError> {
        let (capacity, me) = (self.read(worker)?, self.node.replica().to_string());
        let is_so = |placed: &Placed| {
            let same = placed.thing == thing && placed.amounts == *amounts;
            same && !placed.settled && placed.by != me && !capacity.is_asked_to_drop(placed)
        };
        Ok(capacity.placements().0.into_iter().find(is_so))
    }

    /// What an earlier process had placed is not placed twice.
    async fn settled_so(
        &self,
        worker: &str,
        address: &Address,
        thing: &str,
        amounts: &Amounts,
    ) -> Result<Option<Placed>, EscrowError> {
        let find = |capacity: &Capacity| {
            let is_so = |placed: &Placed| placed.settled && placed.thing == thing && placed.amounts == *amounts;
            capacity.placements().0.into_iter().find(is_so)
        };
        let mut capacity = self.read(worker)?;
        if find(&capacity).is_none() || !self.node.inner.replica.read().has_quorum() {
            return Ok(None);
        }
        let (_, escrow) = self.decide(address, |_, _| Ok(None)).await?;
        capacity.escrow = escrow;
        Ok(find(&capacity))
    }

    /// Checked, written and noted in one step; `None`: the right does not suffice.
    fn try_place(
        &self,
        worker: &str,
        address: &Address,
        held: &Held,
        thing: &str,
        amounts: &Amounts,
    ) -> Result<Option<Placed>, EscrowError> {
        let mut account = held.account.lock();
        let (capacity, version) = self.local(worker)?;
        account.hear(version, &capacity.escrow);
        account.miss(&capacity);
        let n = match account.fit(thing, amounts)? {
            Fit::Lacks(_) => return Ok(None),
            Fit::There => account.placed().get(thing).map_or(0, |placement| placement.n),
            Fit::Fits => {
                self.apply(address, account.place(thing, amounts))?;
                account.note_placed(thing, amounts)
            }
        };
        let by = account.replica().to_owned();
        Ok(Some(Placed { thing: thing.to_owned(), amounts: amounts.clone(), by, n, settled: false }))
    }

    /// Gives a thing's room back. What this node placed is free at once; what others placed, once they hear of it; and what
    /// replicas that are gone had placed, once a quorum agreed. Asked again, it is done once.
    pub async fn release(&self, worker: &str, thing: &str) -> Result<Released, EscrowError> {
        let (address, me) = (address(worker)?, self.node.replica().to_string());
        check_thing(thing)?;
        let (mut capacity, _) = self.local(worker)?;
        let mut released = Released::Nothing;
        if let Some(held) = self.node.inner.accounts.get(worker) {
            let mut account = held.account.lock();
            if let Some(edits) = account.release(thing, &capacity.freed) {
                self.apply(&address, edits)?;
                account.note_released(thing);
                released = Released::Freed;
            }
        }
        // What it placed before it was reclaimed itself is as that of others.
        let me = if released == Released::Freed { me } else { String::new() };
        if capacity.is_placed_by_others(thing, &me) {
            let decided = self.decide(&address, |_, _| Ok(None)).await;
            let sure = decided.is_ok();
            if let Ok((_, escrow)) = decided {
                capacity.escrow = escrow;
            }
            let release = capacity.release(thing, &me, sure);
            released = Released::Freed;
            if sure && !release.settled.is_empty() {
                let forget = |escrow: &Escrow| {
                    release.settled.iter().fold(escrow.clone(), |escrow, gone| escrow.forget(gone, thing))
                };
                self.decide(&address, |_, escrow| Ok(Some(forget(escrow)))).await?;
            }
            if release.asks {
                released = Released::Asked;
            }
            if !release.edits.is_empty() {
                self.apply(&address, release.edits)?;
            }
        }
        self.wait_durable().await?;
        Ok(released)
    }

    fn apply(&self, address: &Address, edits: Vec<Edit>) -> Result<(), WriteError> {
        let body = WriteBody::Edits(edits);
        let write = DocumentWrite {
            address: address.clone(),
            body,
            if_match: None,
            create_only: false,
            missing: Missing::Refuse,
        };
        self.node.apply(&[write], Durability::Local)?;
        Ok(())
    }

    /// All that this node wrote so far is on its disk.
    async fn wait_durable(&self) -> Result<(), WriteError> {
        let seq = self.node.inner.replica.read().own_seq();
        self.node.inner.wait_durable(|| self.node.inner.is_durable(seq), DISK_WAIT).await
    }

    fn held(&self, worker: &str) -> Result<Arc<Held>, EscrowError> {
        let held = self.node.inner.accounts.of(worker, &self.node.replica());
        held.ok_or(EscrowError::TooManyWorkers)
    }

    pub(super) fn figures(&self) -> Vec<Figure> {
        let gauge = |name, help, labels, value: u64| Figure {
            name,
            help,
            kind: FigureKind::Gauge,
            labels,
            value: value as f64,
        };
        let unspent = self.node.inner.accounts.unspent();
        let mut figures: Vec<Figure> = unspent
            .iter()
            .map(|(resource, amount)| {
                let labels = vec![("resource", resource.to_owned())];
                gauge("folkmoot_capacity_escrow", "Rights on workers that this node holds unspent", labels, amount)
            })
            .collect();
        let void: usize = self.list(None, COUNTED_MAX).0.iter().map(|capacity| capacity.placements().1.len()).sum();
        let help = "Placements that count for nothing: their replica was reclaimed meanwhile";
        figures.push(gauge("folkmoot_capacity_void", help, Vec::new(), void as u64));
        figures
    }
}

fn address(worker: &str) -> Result<Address, AddressError> {
    Address::new(COLLECTION, worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mb(amount: u64) -> Amounts {
        [("memory_mb", amount)].into_iter().collect()
    }

    async fn node() -> Node {
        let node = Node::builder().start().await.unwrap();
        node.capacity().set_limits("ash", &mb(100)).await.unwrap();
        node
    }

    #[tokio::test]
    async fn things_are_placed_up_to_the_limit_and_room_that_is_given_back_is_used_again() {
        let node = node().await;
        let capacity = node.capacity();
        assert_eq!(capacity.read("oak").unwrap_err(), EscrowError::NoWorker("oak".into()));
        let first = capacity.place("ash", "vms/1", &mb(60)).await.unwrap();
        assert_eq!(capacity.place("ash", "vms/1", &mb(60)).await.unwrap(), first, "it is there");
        let refused = capacity.place("ash", "vms/2", &mb(41)).await.unwrap_err();
        assert_eq!(
            refused,
            CapacityError::NoRoom { resource: "memory_mb".into(), needed: 41, free: 40, others: 0 }.into()
        );
        capacity.place("ash", "vms/1", &mb(50)).await.unwrap();
        capacity.place("ash", "vms/2", &mb(50)).await.unwrap();
        let read = capacity.read("ash").unwrap();
        assert_eq!((read.used(), read.placements().1.len(), read.escrow.free()), (mb(100), 0, Amounts::default()));
        assert_eq!(capacity.release("ash", "vms/2").await.unwrap(), Released::Freed);
        assert_eq!(capacity.release("ash", "vms/2").await.unwrap(), Released::Nothing, "once");
        assert_eq!(capacity.give_back("ash").await.unwrap(), mb(50));
        assert_eq!(capacity.read("ash").unwrap().escrow.free(), mb(50));
        let low = capacity.set_limits("ash", &mb(49)).await.unwrap_err();
        assert!(low.to_string().contains("allotted already"), "{low}");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn many_at_once_never_place_more_than_fits() {
        let node = node().await;
        let placing = (0..30).map(|n| {
            let capacity = node.capacity();
            async move { capacity.place("ash", &format!("t/{n}"), &mb(7)).await.is_ok() }
        });
        let placed = futures::future::join_all(placing).await.into_iter().filter(|placed| *placed).count();
        let read = node.capacity().read("ash").unwrap();
        assert_eq!((placed, read.used(), read.placements().1.len()), (14, mb(98), 0));
        node.shutdown().await;
    }

    #[tokio::test]
    async fn who_lives_is_not_reclaimed() {
        let node = node().await;
        node.capacity().place("ash", "x", &mb(1)).await.unwrap();
        let me = node.replica();
        assert_eq!(node.capacity().reclaim("ash", me).await, Err(EscrowError::NotGone(me)));
        node.shutdown().await;
    }

    #[tokio::test]
    async fn what_an_earlier_process_placed_stays_and_the_rest_of_its_right_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let start = async || Node::builder().data_dir(dir.path()).start().await.unwrap();
        let first = start().await;
        first.capacity().set_limits("ash", &mb(100)).await.unwrap();
        first.capacity().place("ash", "vms/1", &mb(10)).await.unwrap();
        assert_eq!(first.capacity().read("ash").unwrap().escrow.free(), mb(50), "half of it, with nobody to share");
        first.shutdown().await;
        drop(first);
        let second = start().await;
        let freed = async {
            while second.capacity().read("ash").unwrap().escrow.free() != mb(90) {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), freed).await.unwrap();
        let read = second.capacity().read("ash").unwrap();
        assert!(read.placements().0[0].settled, "{read:?}");
        let again = second.capacity().place("ash", "vms/1", &mb(10)).await.unwrap();
        assert!(again.settled, "it is there, and not twice");
        assert_eq!(second.capacity().release("ash", "vms/1").await.unwrap(), Released::Freed);
        assert_eq!(second.capacity().read("ash").unwrap().escrow.free(), mb(100));
        second.shutdown().await;
    }
}
