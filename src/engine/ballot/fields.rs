//! Fields of a document that a quorum decides, one decision after another.
//!
//! A write may test what the fields are: it is done if they are so when it is decided, whoever decides what at the same
//! time. While somebody holds the document's lock, only writes under its token are done.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::lock::{LockChange, LockVerdict, RequestId};

/// Writes that are remembered, so that one that is asked again is done once.
pub const RECENT_MAX: usize = 16;

/// A field's value in its canonical form; `None`: there is none.
pub type FieldValue = Option<Vec<u8>>;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Fields {
    /// Grows with every write that was decided.
    pub version: u64,
    values: BTreeMap<String, Decided>,
    /// The last writes, and the version that each made.
    recent: VecDeque<(RequestId, u64)>,
}

/// A value, and the version that it came with.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Decided {
    pub version: u64,
    pub value: FieldValue,
}

/// What is asked of the fields.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FieldsChange {
    pub request: RequestId,
    /// Gets the document's lock with it, or does nothing: an [`LockChange::Acquire`].
    pub take: Option<LockChange>,
    /// The token under which the lock is held.
    pub token: Option<u64>,
    /// Only if these are so.
    pub tests: Vec<(String, FieldValue)>,
    pub set: Vec<(String, FieldValue)>,
    /// Gives the lock back with it.
    pub release: bool,
    /// Whether the lock is heeded: not where that bug is planted.
    pub fenced: bool,
    /// The first version that some attempt at it may have made, where one got so far.
    pub proposed: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum FieldsOutcome {
    Done,
    /// Another holds the document's lock.
    Held,
    /// The token is not that of who holds it now.
    NotHolder,
    /// This field is not what it was to be.
    Differs(String),
    /// With it the register would be longer than [`VALUE_MAX`](super::message::VALUE_MAX).
    TooLarge,
    /// An attempt at it may have been done so long ago that nobody remembers.
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FieldsVerdict {
    pub outcome: FieldsOutcome,
    /// The lock and the fields as they are by this decision.
    pub guard: Guard,
}

impl Fields {
    pub fn get(&self, field: &str) -> Option<&[u8]> {
        self.values.get(field)?.value.as_deref()
    }

    /// The last writes, and the version that each made.
    pub fn recent(&self) -> impl Iterator<Item = (RequestId, u64)> {
        self.recent.iter().copied()
    }

    /// All that was ever decided, also that there is none.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Decided)> {
        self.values.iter().map(|(name, decided)| (name.as_str(), decided))
    }
}

impl FieldsChange {
    /// Only asks.
    pub fn read(request: RequestId) -> Self {
        Self {
            request,
            take: None,
            token: None,
            tests: vec![],
            set: vec![],
            release: false,
            fenced: true,
            proposed: None,
        }
    }

    /// It was done, and is asked again. A holder counts its lease from now, so whoever watches begins to count anew; one that lost
    /// the lock since is told so.
    fn done_again(&self, guard: &mut Guard) -> FieldsOutcome {
        let Some(take @ LockChange::Acquire { waiter, .. }) = self.take.as_ref().filter(|_| !self.release) else {
            return FieldsOutcome::Done;
        };
        if guard.lock.held.as_ref().is_none_or(|held| held.request != waiter.request) {
            return FieldsOutcome::NotHolder;
        }
        take.apply(&mut guard.lock);
        FieldsOutcome::Done
    }

    /// Does all of it, or nothing. What is given back in `guard` is to be thrown away unless the outcome is `Done`.
    pub(super) fn apply(&self, guard: &mut Guard) -> FieldsOutcome {
        let recent = &guard.fields.recent;
        if recent.iter().any(|(request, _)| *request == self.request) {
            return self.done_again(guard);
        }
        let forgotten =
            |proposed: u64| recent.len() == RECENT_MAX && recent.front().is_some_and(|(_, at)| *at > proposed);
        if self.proposed.is_some_and(forgotten) {
            return FieldsOutcome::Unknown;
        }
        let before = guard.clone();
        let token = match &self.take {
            None => self.token,
            Some(take) => match take.apply(&mut guard.lock) {
                LockVerdict::Granted(lock) => Some(lock.token),
                _ => return FieldsOutcome::Held,
            },
        };
        let held = guard.lock.held.is_some();
        match token {
            _ if !self.fenced => {}
            Some(token) if token != guard.lock.token || !held => return FieldsOutcome::NotHolder,
            None if held && !(self.set.is_empty() && self.tests.is_empty()) => return FieldsOutcome::Held,
            _ => {}
        }
        let differs = self.tests.iter().find(|(field, value)| guard.fields.get(field) != value.as_deref());
        if let Some((field, _)) = differs {
            return FieldsOutcome::Differs(field.clone());
        }
        let version = guard.fields.version + 1;
        for (field, value) in &self.set {
            if guard.fields.get(field) != value.as_deref() {
                guard.fields.values.insert(field.clone(), Decided { version, value: value.clone() });
            }
        }
        if let Some(token) = token.filter(|_| self.release) {
            LockChange::Release { token }.apply(&mut guard.lock);
        }
        if *guard != before {
            guard.fields.version = version;
            guard.fields.recent.push_back((self.request, version));
            if guard.fields.recent.len() > RECENT_MAX {
                guard.fields.recent.pop_front();
            }
        }
        FieldsOutcome::Done
    }
}

#[cfg(test)]
mod tests {
    use super::super::lock::Waiter;
    use super::*;

    fn change(request: u128) -> FieldsChange {
        FieldsChange::read(RequestId(request))
    }

    fn set(request: u128, value: &str) -> FieldsChange {
        FieldsChange { set: vec![("host".into(), Some(value.into()))], ..change(request) }
    }

    fn take(request: u128) -> Option<LockChange> {
        let waiter = Waiter { holder: format!("h{request}"), request: RequestId(request), lease_ms: 1_000 };
        Some(LockChange::Acquire { waiter, waits: false, expired: None })
    }

    fn host(guard: &Guard) -> Option<&[u8]> {
        guard.fields.get("host")
    }

    #[test]
    fn a_write_is_done_if_all_that_it_tests_is_so_and_else_nothing_of_it() {
        let mut guard = Guard::default();
        let first = FieldsChange { tests: vec![("host".into(), None)], ..set(1, "a") };
        assert_eq!(guard.ask(&first), FieldsOutcome::Done);
        let second = FieldsChange { tests: vec![("host".into(), None)], ..set(2, "b") };
        let before = guard.clone();
        assert_eq!(guard.ask(&second), FieldsOutcome::Differs("host".into()));
        assert_eq!(guard, before);
        let third = FieldsChange { tests: vec![("host".into(), Some("a".into()))], ..set(3, "b") };
        assert_eq!(guard.ask(&third), FieldsOutcome::Done);
        assert_eq!((host(&guard), guard.fields.version), (Some(&b"b"[..]), 2));
        let gone = FieldsChange { set: vec![("host".into(), None)], ..change(4) };
        assert_eq!((guard.ask(&gone), host(&guard)), (FieldsOutcome::Done, None));
        assert_eq!(guard.fields.iter().count(), 1, "it is remembered that there is none");
    }

    #[test]
    fn a_lock_that_is_taken_again_is_the_holders_or_is_refused() {
        let mut guard = Guard::default();
        let taken = FieldsChange { take: take(1), ..set(1, "a") };
        assert_eq!(guard.ask(&taken), FieldsOutcome::Done);
        let renewal = |guard: &Guard| guard.lock.held.as_ref().map(|held| held.renewal);
        let (before, version) = (renewal(&guard), guard.fields.version);
        assert_eq!(guard.ask(&taken), FieldsOutcome::Done);
        assert!(renewal(&guard) > before, "its holder counts anew, and so do those who watch");
        assert_eq!((guard.lock.token, guard.fields.version), (1, version));
        assert_eq!(guard.ask(&FieldsChange { token: Some(1), release: true, ..change(2) }), FieldsOutcome::Done);
        assert_eq!(guard.ask(&FieldsChange { take: take(3), ..set(3, "b") }), FieldsOutcome::Done);
        assert_eq!(guard.ask(&taken), FieldsOutcome::NotHolder, "another has it by now");
        let passing = FieldsChange { take: take(5), release: true, ..set(5, "c") };
        assert_eq!(guard.ask(&FieldsChange { token: Some(2), release: true, ..change(4) }), FieldsOutcome::Done);
        assert_eq!((guard.ask(&passing), guard.ask(&passing)), (FieldsOutcome::Done, FieldsOutcome::Done));
    }

    #[test]
    fn a_write_that_is_asked_again_is_done_once() {
        let mut guard = Guard::default();
        assert_eq!(guard.ask(&set(1, "a")), FieldsOutcome::Done);
        assert_eq!(guard.ask(&set(2, "b")), FieldsOutcome::Done);
        assert_eq!(guard.ask(&set(1, "a")), FieldsOutcome::Done);
        assert_eq!(host(&guard), Some(&b"b"[..]), "the second came after the first");
        // So many others that nobody remembers: it is not done for a second time.
        (10..10 + RECENT_MAX as u128).for_each(|n| assert_eq!(guard.ask(&set(n, &n.to_string())), FieldsOutcome::Done));
        let again = FieldsChange { proposed: Some(1), ..set(1, "a") };
        assert_eq!(guard.ask(&again), FieldsOutcome::Unknown);
        let never = FieldsChange { proposed: None, ..set(1, "a") };
        assert_eq!(guard.ask(&never), FieldsOutcome::Done, "no attempt got so far");
    }

    #[test]
    fn while_the_lock_is_held_only_its_token_writes() {
        let mut guard = Guard::default();
        assert_eq!(guard.ask(&FieldsChange { take: take(1), ..set(1, "a") }), FieldsOutcome::Done);
        assert_eq!((guard.lock.token, guard.fields.version), (1, 1));
        assert_eq!(guard.ask(&set(2, "b")), FieldsOutcome::Held);
        assert_eq!(guard.ask(&FieldsChange { take: take(3), ..set(3, "b") }), FieldsOutcome::Held);
        assert_eq!(guard.ask(&change(4)), FieldsOutcome::Done, "everybody may read");
        assert_eq!(guard.ask(&FieldsChange { token: Some(2), ..set(5, "b") }), FieldsOutcome::NotHolder);
        let last = FieldsChange { token: Some(1), release: true, ..set(6, "done") };
        assert_eq!(guard.ask(&last), FieldsOutcome::Done);
        assert_eq!((guard.lock.held.is_none(), guard.lock.token), (true, 1));
        assert_eq!(guard.ask(&FieldsChange { token: Some(1), ..set(7, "late") }), FieldsOutcome::NotHolder);
        assert_eq!(guard.ask(&last), FieldsOutcome::Done, "asked again");
        assert_eq!(guard.ask(&set(8, "free")), FieldsOutcome::Done);
    }

    #[test]
    fn a_lock_that_is_taken_for_a_write_that_is_not_done_is_not_taken() {
        let mut guard = Guard::default();
        let asked = FieldsChange { take: take(1), tests: vec![("host".into(), Some("x".into()))], ..set(1, "a") };
        assert_eq!(guard.ask(&asked), FieldsOutcome::Differs("host".into()));
        assert_eq!(guard, Guard::default());
    }

    #[test]
    fn what_would_be_too_long_is_not_done() {
        let mut guard = Guard::default();
        let long = "x".repeat(super::super::message::VALUE_MAX);
        assert_eq!(guard.ask(&set(1, &long)), FieldsOutcome::TooLarge);
        assert_eq!(guard, Guard::default());
    }
}
