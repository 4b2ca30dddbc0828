//! A VM has one owner: no two hosts run it at once, the decided host is whoever holds the VM's lock, and what an owner writes
//! once another has begun is refused (invariants 8 and 9).

use std::collections::BTreeMap;

use super::decisions::{self, Asked};
use super::fence::Resources;
use super::{Verdict, Wrong, wrong};
use crate::crdt::Value;
use crate::engine::ballot::{FieldsVerdict, Guard, Lock};

#[derive(Debug)]
pub struct History {
    pub decisions: decisions::History,
    disks: Resources,
    /// Who began to run a VM last, and under which token.
    begun: BTreeMap<String, (usize, u64)>,
}

impl Default for History {
    fn default() -> Self {
        Self { decisions: decisions::History::default(), disks: Resources::of("vms"), begun: BTreeMap::new() }
    }
}

impl History {
    pub fn decided(&mut self, asked: &Asked, verdict: &FieldsVerdict) -> Verdict {
        self.decisions.told(asked, verdict)?;
        self.disks.held(&asked.document, &verdict.guard.lock)?;
        check_host(&asked.document, &verdict.guard)
    }

    pub fn told_lock(&mut self, vm: &str, lock: &Lock) -> Verdict {
        self.disks.held(vm, lock)
    }

    pub fn last(&self, vm: &str) -> Option<(usize, u64)> {
        self.begun.get(vm).copied()
    }

    /// A host was given the VM and starts it, or goes on with it for another lease. `others`: hosts that run it, or that stand
    /// still and whose lease has not ended.
    pub fn runs(&mut self, vm: &str, host: usize, token: u64, others: &[(usize, u64)]) -> Verdict {
        if let Some((other, under)) = others.first() {
            return wrong("vms", format!("{vm} runs on w{host} under {token} and on w{other} under {under} at once"));
        }
        match self.begun.insert(vm.to_owned(), (host, token)) {
            Some((other, under)) if under > token || under == token && other != host => {
                wrong("vms", format!("{vm} runs on w{host} under {token} after it ran on w{other} under {under}"))
            }
            _ => Ok(()),
        }
    }

    /// A VM writes to its disk. Gives whether that was refused, which it has to be once another began to run it.
    pub fn write(&mut self, vm: &str, host: usize, token: u64) -> Result<bool, Wrong> {
        let overtaken = self.disks.write(vm, token);
        if !overtaken && self.last(vm) != Some((host, token)) {
            let last = self.last(vm);
            wrong("vms", format!("the disk of {vm} took a write of w{host} under {token}, and {last:?} began last"))?;
        }
        Ok(overtaken)
    }
}

/// Whoever holds the lock is the host, and without one there is none.
fn check_host(vm: &str, guard: &Guard) -> Verdict {
    let host = guard.fields.get("host").and_then(|bytes| Value::decode(bytes).ok()).map(Value::into_json);
    let holder = guard.lock.held.as_ref().map(|held| held.holder.as_str());
    if host.as_ref().and_then(|host| host.as_str()) == holder {
        return Ok(());
    }
    let (token, version) = (guard.lock.token, guard.fields.version);
    wrong("vms", format!("{vm} is decided to be on {host:?} at version {version}, and {holder:?} holds token {token}"))
}
