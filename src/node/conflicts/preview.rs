//! The policies in force, and what another one would change of today's conflicts.

use super::super::handle::Node;
use super::SYSTEM;
use crate::conflict::{Conflict, Policy};

/// A conflict as it stands, and as it would.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Previewed {
    pub now: Conflict,
    pub then: Conflict,
}

/// What a policy would change, a page of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Preview {
    /// In the order of ids.
    pub changed: Vec<Previewed>,
    /// How many would stand otherwise, on all pages.
    pub count: usize,
    /// How many there are that a policy may settle.
    pub of: usize,
    /// The id to go on after.
    pub next: Option<String>,
}

impl Node {
    /// The policies in force, in the order in which they are asked: name, version, definition.
    pub fn policies(&self) -> Vec<(String, String, Policy)> {
        let replica = self.inner.replica.read();
        let owned =
            |(name, version, policy): (&str, &str, &Policy)| (name.to_owned(), version.to_owned(), policy.clone());
        replica.policies().iter().map(owned).collect()
    }

    /// Rules of all policies but this one.
    pub fn rules_beside(&self, policy: &str) -> usize {
        self.inner.replica.read().policies().rules_beside(policy)
    }

    /// Today's conflicts that would stand otherwise under this policy, were it asked first: under another rule or
    /// resolver, with another value or status. At most `limit` of those after the id `after`.
    pub fn preview(&self, policy: Policy, after: Option<&str>, limit: usize) -> Preview {
        let replica = self.inner.replica.read();
        let may_settle = |conflict: &&Conflict| {
            !conflict.siblings.is_empty() && !SYSTEM.contains(&conflict.document.split('/').next().unwrap_or_default())
        };
        let of = replica.conflicts().within().filter(may_settle).count();
        let versions: Vec<String> =
            replica.policies().iter().map(|(name, version, _)| format!("{name}@{version}/")).collect();
        let mut changed: Vec<Previewed> = Vec::new();
        for (now, mut then) in replica.preview(policy) {
            // What waited too long was handed on by a note, which the other policy would find there too.
            if let (Some(to), Some(_)) = (now.escalated, then.escalate) {
                then.escalate(to);
            }
            if differ(&now, &then, &versions) {
                changed.push(Previewed { now, then });
            }
        }
        drop(replica);
        changed.sort_by(|a, b| a.now.id.cmp(&b.now.id));
        let count = changed.len();
        changed.retain(|pair| after.is_none_or(|after| pair.now.id.as_str() > after));
        let more = changed.len() > limit;
        changed.truncate(limit);
        let next = changed.last().filter(|_| more).map(|last| last.now.id.clone());
        Preview { changed, count, of, next }
    }
}

/// Whether what people would notice of a conflict differs. `versions` begin the names of rules that are in force; the rule
/// of a policy that is tried has its policy's version alone.
fn differ(now: &Conflict, then: &Conflict, versions: &[String]) -> bool {
    let in_force =
        |rule: &str| versions.iter().find_map(|version| rule.strip_prefix(version.as_str())).map(str::to_owned);
    let tried =
        |rule: &str| rule.strip_prefix('@').and_then(|rule| rule.split_once('/')).map(|(_, rule)| rule.to_owned());
    let rule = |conflict: &Conflict| conflict.policy.as_deref().and_then(|rule| tried(rule).or_else(|| in_force(rule)));
    (now.resolver, now.status, &now.value, rule(now)) != (then.resolver, then.status, &then.value, rule(then))
}
