//! What a quorum is asked: for more of a right, to take one back, and for what a replica that is gone held.

use super::accounts::Held;
use super::{Capacities, EscrowError, Reclaimed};
use crate::clock::ReplicaId;
use crate::document::Address;
use crate::domain::capacity::{Amounts, CapacityError, ESCROW, Escrow, Fit};
use crate::engine::Replica;
use crate::engine::ballot::AskError;
use crate::engine::detector::Liveness;
use crate::engine::member;
use crate::node::decide::{DecideError, Decision};

/// A change is made anew of what is decided by then, so often.
const ATTEMPTS_MAX: usize = 16;

impl Capacities {
    /// Has a quorum make the next value of what is decided, as long as it is that; `None`: only asks. Gives what is decided
    /// then, and the number of that decision.
    pub(super) async fn decide(
        &self,
        address: &Address,
        mut next: impl FnMut(u64, &Escrow) -> Result<Option<Escrow>, EscrowError>,
    ) -> Result<(u64, Escrow), EscrowError> {
        for _ in 0..ATTEMPTS_MAX {
            let read = self.node.read_decided(address).await?;
            let before = read.fields.get(ESCROW);
            let escrow = Escrow::of(before)?;
            let Some(next) = next(read.version, &escrow)?.filter(|next| *next != escrow) else {
                return Ok((read.version, escrow));
            };
            let decision = Decision {
                tests: vec![(ESCROW.to_owned(), before.cloned())],
                set: vec![(ESCROW.to_owned(), Some(next.to_json()))],
                ..Decision::default()
            };
            match self.node.decide(address, &decision).await {
                Err(DecideError::Differs { .. }) => {}
                decided => {
                    let decided = decided?;
                    return Ok((decided.version, Escrow::of(decided.fields.get(ESCROW))?));
                }
            }
        }
        Err(EscrowError::Contended(address.id().to_owned()))
    }

    /// Gets the right to place a thing, if it is still lacking.
    pub(super) async fn ask_for_right(
        &self,
        worker: &str,
        address: &Address,
        held: &Held,
        thing: &str,
        amounts: &Amounts,
    ) -> Result<(), EscrowError> {
        let _one_at_a_time = held.asking.lock().await;
        let decided = self
            .decide(address, |version, escrow| {
                let mut account = held.account.lock();
                account.learn(version, escrow);
                let Fit::Lacks(needed) = account.fit(thing, amounts)? else { return Ok(None) };
                let mut read = self.read(worker)?;
                read.escrow = escrow.clone();
                let unspent = read.unspent_by_others(account.replica());
                let granted = escrow.grant(account.replica(), account.from(), &needed, self.sharers(), &unspent)?;
                Ok(Some(granted))
            })
            .await;
        let (version, escrow) = decided?;
        held.account.lock().learn(version, &escrow);
        Ok(())
    }

    fn sharers(&self) -> usize {
        self.node.inner.replica.read().members().present().count()
    }

    /// Gives back what this node has the right to and does not use; gives how much that was.
    pub async fn give_back(&self, worker: &str) -> Result<Amounts, EscrowError> {
        let address = super::address(worker)?;
        self.read(worker)?;
        let Some(held) = self.node.inner.accounts.get(worker) else { return Ok(Amounts::default()) };
        let _one_at_a_time = held.asking.lock().await;
        let (replica, from, given, keep) = {
            let mut account = held.account.lock();
            let given = account.lower();
            if given.is_nothing() {
                account.raise_again();
                return Ok(given);
            }
            (account.replica().to_owned(), account.from(), given, account.right().clone())
        };
        // What was released has to be so on this disk: else it would count again after a crash, in the place of another.
        let asked = match self.wait_durable().await {
            Err(error) => Err(error.into()),
            Ok(()) => self.decide(&address, |_, escrow| Ok(Some(escrow.give_back(&replica, from, &keep)))).await,
        };
        let mut account = held.account.lock();
        match asked {
            Ok((version, escrow)) => {
                account.learn(version, &escrow);
                Ok(given)
            }
            // It may have been decided. What the quorum says next is so.
            Err(error @ EscrowError::Decide(DecideError::Ask(AskError::Unknown))) => Err(error),
            Err(error) => {
                account.raise_again();
                Err(error)
            }
        }
    }

    /// Has a quorum take back the right of a replica that is gone. What it had placed, as far as this node knows, stays: so
    /// ask at the node that knows most, which is the worker's own, or that replica's node in its next process. **Whatever the
    /// replica still places, or had placed without this node's hearing of it, is void.**
    pub async fn reclaim(&self, worker: &str, gone: ReplicaId) -> Result<Reclaimed, EscrowError> {
        let address = super::address(worker)?;
        if !is_gone(&self.node.inner.replica.read(), &gone) {
            return Err(EscrowError::NotGone(gone));
        }
        let (name, mut reclaimed) = (gone.to_string(), None);
        self.decide(&address, |_, escrow| {
            let mut read = self.read(worker)?;
            read.escrow = escrow.clone();
            let left = read.left_by(&name);
            let settled = left.keys().cloned().collect();
            let next = match escrow.settle(&name, left) {
                // An attempt of which nobody knew what came of it.
                Err(CapacityError::NoRight(_)) if reclaimed.is_some() => return Ok(None),
                next => next?,
            };
            reclaimed = Some(Reclaimed { settled, freed: next.free().minus(&escrow.free()) });
            Ok(Some(next))
        })
        .await?;
        Ok(reclaimed.unwrap_or(Reclaimed { settled: Vec::new(), freed: Amounts::default() }))
    }
}

/// Its node runs as another replica, is no member any more, or cannot be heard.
fn is_gone(here: &Replica, gone: &ReplicaId) -> bool {
    if gone.node == here.id().node {
        return *gone != here.id();
    }
    if here.members().get(&gone.node).is_none_or(|member| member.left) {
        return true;
    }
    // The first thing that a replica writes is that its node runs as it. Who heard of it and reads another, reads a later one.
    let is_known = here.state().roster.slot(gone).is_some_and(|slot| here.state().clock.get(slot) > 0);
    let view = here.view(&format!("{}/{}", member::COLLECTION, gone.node));
    let runs_as = view.and_then(|view| view.fields.get("replica")?.as_str()?.parse::<ReplicaId>().ok());
    let is_earlier = is_known && runs_as.is_some_and(|runs_as| runs_as != *gone);
    is_earlier || here.liveness(&gone.node) != Liveness::Alive
}
