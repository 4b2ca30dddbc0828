//! What this process knows of the rights that it holds. It begins with none: an earlier process was another replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::clock::ReplicaId;
use crate::domain::capacity::{Account, Amounts};

/// Workers that a node may hold rights on: a fleet of a thousand, four times.
const ACCOUNTS_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(in crate::node) struct Accounts {
    all: Mutex<BTreeMap<String, Arc<Held>>>,
}

/// A right on one worker.
#[derive(Debug)]
pub(super) struct Held {
    /// Held while something is placed or released here: what is checked is so until it is written. Never while waiting.
    pub account: Mutex<Account>,
    /// One asks the quorum at a time: its word says what this replica holds just then.
    pub asking: tokio::sync::Mutex<()>,
    /// It has had more than twice what it uses since then.
    pub idle_since: Mutex<Option<Instant>>,
}

impl Accounts {
    pub(super) fn get(&self, worker: &str) -> Option<Arc<Held>> {
        self.all.lock().get(worker).cloned()
    }

    /// `None`: there are too many.
    pub(super) fn of(&self, worker: &str, me: &ReplicaId) -> Option<Arc<Held>> {
        let mut all = self.all.lock();
        if let Some(held) = all.get(worker) {
            return Some(held.clone());
        }
        if all.len() >= ACCOUNTS_MAX {
            return None;
        }
        let held = Arc::new(Held {
            account: Mutex::new(Account::new(me.to_string())),
            asking: tokio::sync::Mutex::default(),
            idle_since: Mutex::default(),
        });
        all.insert(worker.to_owned(), held.clone());
        Some(held)
    }

    pub(super) fn unspent(&self) -> Amounts {
        let all: Vec<Arc<Held>> = self.all.lock().values().cloned().collect();
        let unspent: Vec<Amounts> = all.iter().map(|held| held.account.lock().unspent()).collect();
        unspent.iter().sum()
    }
}
