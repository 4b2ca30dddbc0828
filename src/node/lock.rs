//! Locks, for programs. The token makes a lock safe, the lease only makes it live: see [`Lock`].

use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::handle::Node;
use crate::engine::ballot::decision::{check_holder, check_lease, check_lock};
use crate::engine::ballot::lock::{LockChange, LockVerdict, RequestId, Waiter};
use crate::engine::ballot::{self, AskError, Told, Unfit};

/// How long one may wait for a lock.
pub const WAIT_MAX: Duration = Duration::from_secs(600);
/// Who waits looks by itself this often: the word that woke it may be lost.
const LOOK: Duration = Duration::from_millis(400);

/// A lock of the cluster, by its name.
///
/// One holder at a time has it, as far as a majority of the voters knows. **What that is worth:** a holder that is paused
/// for longer than its lease does not know that another has the lock by now, and no lock service can tell it in time. So
/// hand the *token* to whatever the lock protects, and have it refuse a token below the highest it has seen: then the
/// writes of two holders never mix. Without that check the lease makes overlaps rare, and nothing makes them impossible.
#[derive(Clone, Debug)]
pub struct Lock {
    node: Node,
    name: String,
}

/// A lock that was got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub name: String,
    pub holder: String,
    /// Grows whenever the holder changes, and never shrinks: what the resource checks.
    pub token: u64,
    /// Counted from before it was asked for: after this the lock may be another's. Renew it well before.
    pub expires: Instant,
}

/// What a lock is, as a quorum knows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LockStatus {
    pub name: String,
    pub token: u64,
    /// `None`: nobody has it.
    pub holder: Option<String>,
    pub lease_ms: Option<u64>,
    /// Who waits for it, the first first.
    pub waiting: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    #[error("`{holder}` has the lock, under the token {token}")]
    Held { holder: String, token: u64 },
    #[error("the lock is not held under the token {token} any more: it ran out or was released{}", later(*token, *now))]
    NotHolder { token: u64, now: u64 },
    #[error("so many wait for this lock that nobody else can; ask later")]
    Full,
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Who has it now, where it is another.
pub(super) fn later(token: u64, now: u64) -> String {
    if now > token { format!("; it went on to token {now} since") } else { String::new() }
}

impl From<Unfit> for LockError {
    fn from(unfit: Unfit) -> Self {
        Self::Invalid(unfit.to_string())
    }
}

impl Node {
    pub fn lock(&self, name: &str) -> Lock {
        Lock { node: self.clone(), name: name.to_owned() }
    }
}

impl Lock {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gets the lock, waiting in the queue for at most `wait`.
    pub async fn acquire(&self, holder: &str, lease: Duration, wait: Duration) -> Result<Grant, LockError> {
        self.acquire_as(RequestId(u128::from_le_bytes(super::builder::random())), holder, lease, wait).await
    }

    /// The same under a request id of the caller's: asked again with the same id, it comes to the same grant, whatever became
    /// of the answer.
    pub async fn acquire_as(
        &self,
        request: RequestId,
        holder: &str,
        lease: Duration,
        wait: Duration,
    ) -> Result<Grant, LockError> {
        self.check()?;
        let lease_ms = check_lease(lease)?;
        check_holder(holder)?;
        let begun = Instant::now();
        let deadline = begun + wait.min(WAIT_MAX);
        let waiter = Waiter { holder: holder.to_owned(), request, lease_ms };
        let mut place = Place { lock: self, request, taken: false };
        let mut changes = self.node.inner.asks.changes();
        loop {
            let asked = Instant::now();
            let waits = asked < deadline;
            let change = LockChange::Acquire { waiter: waiter.clone(), waits, expired: None };
            let lock = match self.ask(change).await? {
                LockVerdict::Granted(lock) => {
                    place.taken = false;
                    self.node.inner.asks.lock_granted(begun.elapsed());
                    let (name, holder) = (self.name.clone(), holder.to_owned());
                    return Ok(Grant { name, holder, token: lock.token, expires: asked + lease });
                }
                LockVerdict::Full(_) => return Err(LockError::Full),
                LockVerdict::Waits { lock, .. } if waits => lock,
                verdict => return Err(held(verdict.lock())),
            };
            place.taken = true;
            let takeable = self.node.lock_takeable(&self.name).unwrap_or(deadline);
            let look = (Instant::now() + LOOK).min(deadline).min(takeable.max(Instant::now()));
            let changed = async { while changes.recv().await.is_ok_and(|register| !self.is(&register)) {} };
            let woken = timeout_at(look.into(), changed).await;
            if woken.is_err() && Instant::now() >= deadline {
                place.leave().await;
                return Err(held(&lock));
            }
        }
    }

    fn is(&self, register: &str) -> bool {
        register.strip_prefix(ballot::ask::GUARD) == Some(&self.name)
    }

    /// The lease begins anew, counted from now.
    pub async fn renew(&self, token: u64) -> Result<Grant, LockError> {
        self.check()?;
        let asked = Instant::now();
        let lock = match self.ask(LockChange::Renew { token }).await? {
            LockVerdict::Is(lock) => lock,
            LockVerdict::NotHolder(lock) => return Err(LockError::NotHolder { token, now: lock.token }),
            verdict => return Err(held(verdict.lock())),
        };
        let Some(held) = lock.held else { return Err(LockError::NotHolder { token, now: lock.token }) };
        let expires = asked + Duration::from_millis(held.lease_ms);
        Ok(Grant { name: self.name.clone(), holder: held.holder, token, expires })
    }

    /// Gives it back. Asked again, it comes to the same.
    pub async fn release(&self, token: u64) -> Result<(), LockError> {
        self.check()?;
        match self.ask(LockChange::Release { token }).await? {
            LockVerdict::NotHolder(lock) => Err(LockError::NotHolder { token, now: lock.token }),
            _ => Ok(()),
        }
    }

    /// What a quorum knows of it. Looking at a lock that somebody holds also begins to count its lease.
    pub async fn read(&self) -> Result<LockStatus, LockError> {
        self.check()?;
        let verdict = self.ask(LockChange::Read).await?;
        Ok(LockStatus::of(&self.name, verdict.lock()))
    }

    async fn ask(&self, change: LockChange) -> Result<LockVerdict, AskError> {
        let asked = self.node.inner.ask(|replica, now| replica.ask_lock(&self.name, change, now));
        match asked.await? {
            Told::Lock(verdict) => Ok(verdict),
            _ => Err(AskError::Unknown),
        }
    }

    fn check(&self) -> Result<(), LockError> {
        Ok(check_lock(&self.name)?)
    }
}

impl LockStatus {
    /// Who has it, and under which token.
    pub fn held(self) -> Option<(String, u64)> {
        Some((self.holder?, self.token))
    }

    pub(super) fn of(name: &str, lock: &ballot::Lock) -> Self {
        Self {
            name: name.to_owned(),
            token: lock.token,
            holder: lock.held.as_ref().map(|held| held.holder.clone()),
            lease_ms: lock.held.as_ref().map(|held| held.lease_ms),
            waiting: lock.waiters.iter().map(|waiter| waiter.holder.clone()).collect(),
        }
    }
}

/// A place in the queue. Whoever stops waiting, by whatever way, leaves it.
struct Place<'a> {
    lock: &'a Lock,
    request: RequestId,
    taken: bool,
}

impl Place<'_> {
    async fn leave(&mut self) {
        if std::mem::take(&mut self.taken) {
            // Without a quorum it stays; it is given the lock once, does not claim it, and loses it a second later.
            let _ = self.lock.ask(LockChange::Withdraw { request: self.request }).await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.taken && tokio::runtime::Handle::try_current().is_ok() {
            let (lock, request) = (self.lock.clone(), self.request);
            tokio::spawn(async move { lock.ask(LockChange::Withdraw { request }).await });
        }
    }
}

fn held(lock: &ballot::Lock) -> LockError {
    let holder = lock.held.as_ref().map_or_else(String::new, |held| held.holder.clone());
    LockError::Held { holder, token: lock.token }
}
