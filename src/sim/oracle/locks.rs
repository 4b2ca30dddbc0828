//! One decision on one thing (invariants 8 and 9): a lock has one holder for each token, nobody is told of less than was told
//! before it asked, and the voters of one version are the same everywhere.

use std::collections::BTreeMap;

use super::{Verdict, wrong};
use crate::engine::Replica;
use crate::engine::ballot::acceptor::Value;
use crate::engine::ballot::lock::{Lock, LockVerdict, RequestId};
use crate::engine::ballot::{Ballot, Voters};

/// How far a lock has come: its token, and what happened under it. It only grows.
pub type Place = (u64, u64);

#[derive(Debug, Default)]
pub struct History {
    places: BTreeMap<usize, Place>,
    /// Who was granted which token.
    granted: BTreeMap<(usize, u64), RequestId>,
    /// The highest token that a write to the protected thing carried.
    written: BTreeMap<usize, u64>,
    voters: BTreeMap<u64, Voters>,
}

fn place_of(lock: &Lock) -> Place {
    (lock.token, lock.held.as_ref().map_or(u64::MAX, |held| held.renewal))
}

impl History {
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn place(&self, lock: usize) -> Option<Place> {
        self.places.get(&lock).copied()
    }

    /// A write to what the lock protects, which checks the token. Gives whether it was refused.
    pub fn write(&mut self, lock: usize, token: u64) -> bool {
        let highest = self.written.entry(lock).or_default();
        let stale = token < *highest;
        *highest = token.max(*highest);
        stale
    }

    /// Somebody was told of a lock. `floor`: how far it had come when that was asked.
    pub fn told(
        &mut self,
        lock: usize,
        floor: Option<Place>,
        request: Option<RequestId>,
        verdict: &LockVerdict,
    ) -> Verdict {
        let place = place_of(verdict.lock());
        if floor.is_some_and(|floor| place < floor) {
            let text = format!("l{lock} was told to be at {place:?} after it had been told to be at {floor:?}");
            return wrong("ballots", text);
        }
        let known = self.places.entry(lock).or_default();
        *known = place.max(*known);
        if let (LockVerdict::Granted(granted), Some(request)) = (verdict, request) {
            let token = granted.token;
            let first = *self.granted.entry((lock, token)).or_insert(request);
            if first != request {
                return wrong("ballots", format!("l{lock} was granted twice under the token {token}"));
            }
            let later = self.granted.range((lock, token + 1)..(lock + 1, 0)).any(|(_, other)| *other == request);
            if later {
                return wrong(
                    "ballots",
                    format!("l{lock} was granted under {token} to who had it under a later token"),
                );
            }
        }
        Ok(())
    }

    /// The voters of this version, and all that came later, as far as nodes took them for the ones that count.
    pub fn voters_since(&self, version: u64) -> impl Iterator<Item = &Voters> {
        self.voters.range(version..).map(|(_, voters)| voters)
    }

    /// A node takes these voters for the ones that count.
    pub fn voters(&mut self, voters: &Voters) -> Verdict {
        let known = self.voters.entry(voters.version).or_insert_with(|| voters.clone());
        if known == voters {
            return Ok(());
        }
        wrong("ballots", format!("two sets of voters have the version {}: {known:?} and {voters:?}", voters.version))
    }
}

/// What was accepted in one ballot is one value, whoever accepted it.
pub fn check_ballots<'a>(replicas: impl Iterator<Item = &'a Replica>) -> Verdict {
    let mut values: BTreeMap<(&str, Ballot), &Value> = BTreeMap::new();
    for replica in replicas {
        for (register, held) in replica.ballots().acceptor().registers() {
            let Some(accepted) = &held.accepted else { continue };
            let known = values.entry((register, accepted.ballot)).or_insert(&accepted.value);
            if **known != accepted.value {
                return wrong("ballots", format!("two values were accepted for {register} in {}", accepted.ballot));
            }
        }
    }
    Ok(())
}
