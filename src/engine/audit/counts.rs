//! The audit's events as numbers, for metrics. Every label comes from a set that is bounded.

use std::collections::BTreeMap;

use crate::conflict::Conflict;
use crate::conflict::detect::Class;
use crate::crdt::FieldKind;
use crate::document::rule::Severity;
use crate::history::audit::Kind;

/// Policies told apart: those that are heeded at one time, four times over. Others share one name.
const POLICIES_MAX: usize = 256;
const OTHERS: &str = "others";

/// Since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub records: BTreeMap<Kind, u64>,
    pub detected: BTreeMap<(Class, Severity), u64>,
    /// By what settled, and what came of it.
    pub resolutions: BTreeMap<(&'static str, &'static str), u64>,
    /// Conflicts that came to wait for somebody.
    pub manual: u64,
    pub invariants: u64,
    /// Conflicts for which a policy chose the resolver.
    pub policies: BTreeMap<String, u64>,
    /// Values that came to stand beside another, by the type that merges them.
    pub merges: BTreeMap<&'static str, u64>,
}

impl Counts {
    pub(super) fn record(&mut self, kind: Kind) {
        *self.records.entry(kind).or_default() += 1;
    }

    pub(super) fn detected(&mut self, conflict: &Conflict) {
        *self.detected.entry((conflict.class, conflict.severity)).or_default() += 1;
        self.invariants += u64::from(conflict.class == Class::Invariant);
        self.manual += u64::from(conflict.status.waits());
        self.applied(conflict);
    }

    /// Counts the policy that chose the resolver.
    pub(super) fn applied(&mut self, conflict: &Conflict) {
        if let Some(policy) = &conflict.policy {
            let name = policy.split(['@', '/']).next().unwrap_or_default();
            let known = self.policies.contains_key(name) || self.policies.len() < POLICIES_MAX;
            *self.policies.entry(if known { name } else { OTHERS }.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn resolved(&mut self, strategy: &'static str, outcome: &'static str) {
        *self.resolutions.entry((strategy, outcome)).or_default() += 1;
    }

    pub(in crate::engine) fn merged(&mut self, kind: FieldKind) {
        *self.merges.entry(kind.name()).or_default() += 1;
    }
}
