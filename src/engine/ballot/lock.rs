//! A lock: a register that one holder has at a time.
//!
//! What makes it safe is the *fencing token*: it grows whenever the holder changes, and is never deleted or set back. A
//! resource that refuses a token below the highest it has seen is written by one holder at a time, whatever happens to
//! clocks, networks and pauses (Kleppmann, "How to do distributed locking", 2016). What makes it live is the *lease*, a
//! duration that nobody's wall clock is asked about: the holder counts it from before it asked, and stops early; whoever
//! wants the lock counts a tenth more from when it first read what it still reads, and then takes it.
//!
//! Those who wait stand in a queue. A lock that is released goes to the first of them, who has to claim it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::address::{COLLECTION_BYTES_MAX, ID_BYTES_MAX};

/// Longest name of a lock, bytes: that of a document, whose lock has its name.
pub const NAME_MAX: usize = COLLECTION_BYTES_MAX + 1 + ID_BYTES_MAX;
/// Longest name of a holder, bytes.
pub const HOLDER_MAX: usize = 256;
/// Leases, ms. Under the least, a network's hiccup ends them; over the most, nobody waits for a dead holder.
pub const LEASE_MS_MIN: u64 = 100;
pub const LEASE_MS_MAX: u64 = 24 * 3_600_000;
/// Who may wait for one lock.
pub const WAITERS_MAX: usize = 64;
/// How long a lock that was handed on waits to be claimed, ms, where its lease is longer.
pub const CLAIM_MS: u64 = 1_000;
/// Clocks that only go forward may differ by this much in speed; a hundred times what quartz does.
pub const DRIFT: u64 = 10;

/// Names one attempt to get a lock, so that it may be asked again when nobody knows what came of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RequestId(pub u128);

/// What the register holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Lock {
    /// Grows whenever the holder changes.
    pub token: u64,
    pub held: Option<Holding>,
    /// In their order. Nobody waits for a lock that is free.
    pub waiters: Vec<Waiter>,
    /// Tokens are above this, see [`Voters::floor`](super::Voters::floor).
    pub floor: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Holding {
    pub holder: String,
    pub request: RequestId,
    pub lease_ms: u64,
    /// Grows with every renewal: a lock that reads the same was not renewed.
    pub renewal: u64,
    /// It was handed on, and its holder has not said yet that it knows.
    pub unclaimed: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Waiter {
    pub holder: String,
    pub request: RequestId,
    pub lease_ms: u64,
}

/// A holding that was not renewed while its lease ran out. The request tells two apart that were asked for at once, of which
/// voters may have accepted both before one was decided.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Expired {
    pub request: RequestId,
    pub token: u64,
    pub renewal: u64,
}

/// What is asked of a lock.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LockChange {
    Read,
    Acquire {
        waiter: Waiter,
        /// Stand in the queue while another has it.
        waits: bool,
        expired: Option<Expired>,
    },
    Renew {
        token: u64,
    },
    Release {
        token: u64,
    },
    /// Wait no longer, and let go of what was handed on meanwhile.
    Withdraw {
        request: RequestId,
    },
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LockVerdict {
    /// What it is now; it was read, renewed, released or withdrawn.
    Is(Lock),
    Granted(Lock),
    /// Another has it.
    Held(Lock),
    /// It stands in the queue, after so many.
    Waits {
        before: usize,
        lock: Lock,
    },
    /// The token is not that of who has it now.
    NotHolder(Lock),
    /// Too many wait for it.
    Full(Lock),
}

impl LockVerdict {
    /// The lock as it is by this decision.
    pub fn lock(&self) -> &Lock {
        match self {
            Self::Is(lock) | Self::Granted(lock) | Self::Held(lock) | Self::NotHolder(lock) | Self::Full(lock) => lock,
            Self::Waits { lock, .. } => lock,
        }
    }
}

impl Lock {
    fn grant(&mut self, waiter: Waiter, unclaimed: bool) {
        let Waiter { holder, request, lease_ms } = waiter;
        self.token = self.token.max(self.floor) + 1;
        self.held = Some(Holding { holder, request, lease_ms, renewal: 0, unclaimed });
    }

    /// To the first who waits, or to nobody.
    fn hand_on(&mut self) {
        self.held = None;
        if !self.waiters.is_empty() {
            let first = self.waiters.remove(0);
            self.grant(first, true);
        }
    }

    fn acquire(&mut self, waiter: &Waiter, waits: bool, expired: Option<Expired>) -> LockVerdict {
        let out = |held: &Holding| expired == Some(held.expired(self.token));
        if self.held.as_ref().is_some_and(|held| held.request != waiter.request && out(held)) {
            self.hand_on();
        }
        if let Some(held) = self.held.as_mut().filter(|held| held.request == waiter.request) {
            // Asked again, or handed on: its holder counts from now, so whoever watches begins to count anew too.
            (held.unclaimed, held.renewal) = (false, held.renewal + 1);
            return LockVerdict::Granted(self.clone());
        }
        if self.held.is_none() {
            self.grant(waiter.clone(), false);
            return LockVerdict::Granted(self.clone());
        }
        match self.waiters.iter().position(|other| other.request == waiter.request) {
            Some(before) => LockVerdict::Waits { before, lock: self.clone() },
            None if !waits => LockVerdict::Held(self.clone()),
            None if self.waiters.len() >= WAITERS_MAX => LockVerdict::Full(self.clone()),
            None => {
                self.waiters.push(waiter.clone());
                LockVerdict::Waits { before: self.waiters.len() - 1, lock: self.clone() }
            }
        }
    }
}

impl Holding {
    /// What it is called once it ran out.
    pub fn expired(&self, token: u64) -> Expired {
        Expired { request: self.request, token, renewal: self.renewal }
    }

    /// How long a watcher has to read the same before it may take the lock, µs.
    pub fn patience_us(&self) -> u64 {
        let lease_ms = if self.unclaimed { self.lease_ms.min(CLAIM_MS) } else { self.lease_ms };
        (lease_ms + lease_ms / DRIFT) * 1_000
    }
}

impl LockChange {
    pub fn apply(&self, lock: &mut Lock) -> LockVerdict {
        let is_current = |lock: &Lock, token: u64| lock.token == token && lock.held.is_some();
        match self {
            Self::Read => LockVerdict::Is(lock.clone()),
            Self::Acquire { waiter, waits, expired } => lock.acquire(waiter, *waits, *expired),
            Self::Renew { token } if is_current(lock, *token) => {
                if let Some(held) = &mut lock.held {
                    (held.renewal, held.unclaimed) = (held.renewal + 1, false);
                }
                LockVerdict::Is(lock.clone())
            }
            Self::Release { token } if is_current(lock, *token) => {
                lock.hand_on();
                LockVerdict::Is(lock.clone())
            }
            // Released already: asked again, because nobody knew what came of it.
            Self::Release { token } if lock.token == *token && *token > 0 => LockVerdict::Is(lock.clone()),
            Self::Renew { .. } | Self::Release { .. } => LockVerdict::NotHolder(lock.clone()),
            Self::Withdraw { request } => {
                lock.waiters.retain(|waiter| waiter.request != *request);
                if lock.held.as_ref().is_some_and(|held| held.request == *request) {
                    lock.hand_on();
                }
                LockVerdict::Is(lock.clone())
            }
        }
    }
}

/// Since when this process reads a lock as it still is. Forgotten with the process: a new one begins to count anew.
#[derive(Debug, Default)]
pub struct Watch {
    seen: BTreeMap<String, Seen>,
}

/// A lock as it was read, and when it may be taken if it still reads so.
#[derive(Clone, Copy, Debug)]
struct Seen {
    holding: Expired,
    takeable_us: u64,
}

/// Locks watched at once, some 10 MB. Beyond it those are forgotten that could be taken for the longest time and that nobody
/// took: whoever wants one of them begins to count anew.
pub const WATCHED_MAX: usize = 65_536;

impl Watch {
    /// Takes note of what a lock was read to be at `now_us`.
    pub fn saw(&mut self, name: &str, lock: &Lock, now_us: u64) {
        let Some(held) = &lock.held else {
            self.seen.remove(name);
            return;
        };
        let holding = held.expired(lock.token);
        if self.seen.get(name).is_some_and(|seen| seen.holding == holding) {
            return;
        }
        if self.seen.len() >= WATCHED_MAX && !self.seen.contains_key(name) {
            self.forget_oldest();
        }
        self.seen.insert(name.to_owned(), Seen { holding, takeable_us: now_us + held.patience_us() });
    }

    /// Half of them at once, so that it is seldom done.
    fn forget_oldest(&mut self) {
        let mut ends: Vec<u64> = self.seen.values().map(|seen| seen.takeable_us).collect();
        let (_, middle, _) = ends.select_nth_unstable(WATCHED_MAX / 2);
        let middle = *middle;
        self.seen.retain(|_, seen| seen.takeable_us > middle);
    }

    /// Those whose names begin so and that were not renewed while this process watched them, until so long ago.
    pub fn all_expired<'w>(&'w self, prefix: &'w str, until_us: u64) -> impl Iterator<Item = &'w str> + 'w {
        let named = self.seen.range(prefix.to_owned()..).take_while(move |(name, _)| name.starts_with(prefix));
        named.filter(move |(_, seen)| seen.takeable_us <= until_us).map(|(name, _)| name.as_str())
    }

    /// When the lock may be taken if it still reads as it did, µs; `None` when it is not watched.
    pub fn takeable_us(&self, name: &str) -> Option<u64> {
        self.seen.get(name).map(|seen| seen.takeable_us)
    }

    /// The holding that ran out by now, as far as this process watched it.
    pub fn expired(&self, name: &str, now_us: u64) -> Option<Expired> {
        self.seen.get(name).filter(|seen| now_us >= seen.takeable_us).map(|seen| seen.holding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(n: u128) -> Waiter {
        Waiter { holder: format!("h{n}"), request: RequestId(n), lease_ms: 10_000 }
    }

    fn acquire(n: u128) -> LockChange {
        LockChange::Acquire { waiter: waiter(n), waits: false, expired: None }
    }

    fn queue(n: u128) -> LockChange {
        LockChange::Acquire { waiter: waiter(n), waits: true, expired: None }
    }

    /// Asks for what `of` held.
    fn after(n: u128, of: u128, token: u64, renewal: u64) -> LockChange {
        let expired = Expired { request: RequestId(of), token, renewal };
        LockChange::Acquire { waiter: waiter(n), waits: true, expired: Some(expired) }
    }

    /// A lock that is changed by one after the other.
    #[derive(Default)]
    struct Register(Lock);

    impl Register {
        fn ask(&mut self, change: &LockChange) -> LockVerdict {
            change.apply(&mut self.0)
        }

        fn lock(&self) -> Lock {
            self.0.clone()
        }

        /// The token it was granted under.
        fn grant(&mut self, change: &LockChange) -> Option<u64> {
            if let LockVerdict::Granted(lock) = self.ask(change) { Some(lock.token) } else { None }
        }

        fn holder(&self) -> Option<String> {
            self.lock().held.map(|held| held.holder)
        }
    }

    #[test]
    fn the_token_grows_whenever_the_holder_changes_and_never_shrinks() {
        let mut register = Register::default();
        assert_eq!(register.grant(&acquire(1)), Some(1));
        assert!(matches!(register.ask(&acquire(2)), LockVerdict::Held(_)));
        assert!(
            matches!(register.ask(&LockChange::Release { token: 1 }), LockVerdict::Is(lock) if lock.held.is_none())
        );
        assert_eq!(register.lock().token, 1, "a free lock keeps its token");
        assert_eq!(register.grant(&acquire(2)), Some(2));
        assert!(matches!(register.ask(&LockChange::Release { token: 1 }), LockVerdict::NotHolder(_)));
        assert!(matches!(register.ask(&LockChange::Renew { token: 1 }), LockVerdict::NotHolder(_)));
        assert_eq!(register.holder().as_deref(), Some("h2"));
    }

    #[test]
    fn whatever_is_asked_twice_comes_to_the_same() {
        let mut register = Register::default();
        assert_eq!((register.grant(&acquire(1)), register.grant(&acquire(1))), (Some(1), Some(1)));
        assert!(
            matches!(register.ask(&after(2, 1, 1, 0)), LockVerdict::Waits { .. }),
            "who asked again counts from then"
        );
        register.ask(&LockChange::Withdraw { request: RequestId(2) });
        let released = LockChange::Release { token: 1 };
        assert_eq!(register.ask(&released), register.ask(&released));
        assert!(matches!(Register::default().ask(&LockChange::Release { token: 0 }), LockVerdict::NotHolder(_)));
    }

    #[test]
    fn those_who_wait_have_it_in_their_order() {
        let mut register = Register::default();
        register.ask(&acquire(1));
        for n in 2..5 {
            assert!(matches!(register.ask(&queue(n)), LockVerdict::Waits { before, .. } if before == n as usize - 2));
        }
        register.ask(&LockChange::Withdraw { request: RequestId(3) });
        register.ask(&LockChange::Release { token: 1 });
        assert_eq!(register.holder().as_deref(), Some("h2"));
        assert!(matches!(register.ask(&acquire(9)), LockVerdict::Held(_)), "nobody jumps the queue");
        assert_eq!(register.grant(&queue(2)), Some(2), "it claims what it was given");
        // The next was given it, and never came for it.
        register.ask(&LockChange::Release { token: 2 });
        assert!(register.lock().held.unwrap().unclaimed);
        assert_eq!(register.grant(&after(9, 4, 3, 0)), Some(4));
    }

    #[test]
    fn a_lease_that_ran_out_is_taken_only_as_it_was_read() {
        let mut register = Register::default();
        register.ask(&acquire(1));
        register.ask(&LockChange::Renew { token: 1 });
        assert!(matches!(register.ask(&after(2, 1, 1, 0)), LockVerdict::Waits { .. }), "it was renewed since");
        assert!(
            matches!(register.ask(&after(2, 9, 1, 1)), LockVerdict::Waits { .. }),
            "another held it so, and had asked"
        );
        // First come, first served, also after who died.
        assert!(matches!(register.ask(&after(3, 1, 1, 1)), LockVerdict::Waits { before: 0, .. }));
        assert_eq!(register.grant(&queue(2)), Some(2));
        assert!(matches!(register.ask(&LockChange::Renew { token: 1 }), LockVerdict::NotHolder(_)));
    }

    #[test]
    fn a_watcher_counts_from_when_it_first_read_what_it_still_reads() {
        let mut register = Register::default();
        register.ask(&acquire(1));
        assert_eq!(register.lock().held.unwrap().patience_us(), 11_000_000);
        let mut watch = Watch::default();
        watch.saw("l", &register.lock(), 5);
        watch.saw("l", &register.lock(), 9_000_000);
        assert_eq!(watch.takeable_us("l"), Some(11_000_005), "it reads the same");
        assert_eq!(watch.expired("l", 11_000_004), None);
        assert_eq!(watch.expired("l", 11_000_005), Some(Expired { request: RequestId(1), token: 1, renewal: 0 }));
        register.ask(&LockChange::Renew { token: 1 });
        watch.saw("l", &register.lock(), 7_000_000);
        assert_eq!(watch.takeable_us("l"), Some(18_000_000), "it was renewed");
        assert_eq!(Watch::default().expired("l", u64::MAX), None, "a new process begins to count anew");
        register.ask(&LockChange::Release { token: 1 });
        watch.saw("l", &register.lock(), 8);
        assert_eq!(watch.takeable_us("l"), None);
    }

    #[test]
    fn who_watches_too_many_forgets_those_that_ran_out_first() {
        let lock = |token: u64| {
            let mut register = Register::default();
            register.0.floor = token;
            register.ask(&acquire(1));
            register.lock()
        };
        let mut watch = Watch::default();
        (0..=WATCHED_MAX as u64).for_each(|n| watch.saw(&format!("{n:06}"), &lock(n), n));
        assert!(watch.seen.len() <= WATCHED_MAX / 2 + 1);
        assert_eq!(watch.takeable_us("000000"), None);
        assert!(watch.takeable_us(&format!("{WATCHED_MAX:06}")).is_some());
        let end_us = 11_000_000 + WATCHED_MAX as u64;
        assert_eq!(watch.all_expired("06553", end_us).count(), 7, "065530 to 065536");
        assert_eq!(watch.all_expired("065536", end_us - 1).count(), 0);
    }

    #[test]
    fn a_queue_is_bounded() {
        let mut register = Register::default();
        register.ask(&acquire(1));
        (0..WAITERS_MAX as u128).for_each(|n| drop(register.ask(&queue(100 + n))));
        assert!(matches!(register.ask(&queue(2)), LockVerdict::Full(_)));
    }
}
