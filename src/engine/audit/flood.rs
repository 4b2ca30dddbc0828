//! Conflicts that a resolver settles come as fast as writes do, and one rule over a collection finds thousands at once. A
//! few a second are recorded one by one; beyond that one record a second says how many there were, of which fields, and
//! names the first.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::conflict::Conflict;
use crate::history::audit::Kind;
use crate::history::audit::detail::STRATEGY;

/// Records one by one, a second, and how many at once after a quiet time. At about 600 bytes each, a flood of days fills
/// the audit no faster than one every 15 ms; what waits for somebody in one document is not counted here.
pub const RECORDS_PER_S: u64 = 64;
pub const BURST: u64 = 256;
/// A group is closed after so long, ms.
pub const GROUP_MS: u64 = 1_000;
/// Fields told apart in a group, and conflicts named in it: a detail of at most 8 KB.
const FIELDS_MAX: usize = 32;
const NAMED_MAX: usize = 16;

#[derive(Debug)]
pub struct Flood {
    /// Thousandths of a record that may still be written.
    room: u64,
    filled_ms: u64,
    /// Of those found, and of those that ended.
    groups: BTreeMap<Kind, Group>,
}

#[derive(Debug, Default)]
struct Group {
    since_ms: u64,
    conflicts: u64,
    /// By collection, field and resolver.
    by: BTreeMap<(String, String, &'static str), u64>,
    /// Of fields beyond those told apart.
    others: u64,
    named: Vec<String>,
}

impl Default for Flood {
    fn default() -> Self {
        Self { room: BURST * 1_000, filled_ms: 0, groups: BTreeMap::new() }
    }
}

impl Flood {
    /// Whether `records` may be written one by one now.
    pub(super) fn takes(&mut self, records: u64, mono_ms: u64) -> bool {
        let passed = mono_ms.saturating_sub(self.filled_ms);
        self.filled_ms = mono_ms;
        self.room = passed.saturating_mul(RECORDS_PER_S).saturating_add(self.room).min(BURST * 1_000);
        let fits = self.room >= records * 1_000;
        if fits {
            self.room -= records * 1_000;
        }
        fits
    }

    /// Counts one more that begins or ends, and by what.
    pub(super) fn group(&mut self, kind: Kind, conflict: &Conflict, strategy: &'static str, mono_ms: u64) {
        let group = self.groups.entry(kind).or_insert_with(|| Group { since_ms: mono_ms, ..Group::default() });
        group.conflicts += 1;
        if group.named.len() < NAMED_MAX {
            group.named.push(conflict.id.clone());
        }
        let collection = conflict.document.split('/').next().unwrap_or_default().to_owned();
        let field = conflict.field.clone().or_else(|| conflict.rule.clone()).unwrap_or_default();
        let key = (collection, field, strategy);
        if group.by.contains_key(&key) || group.by.len() < FIELDS_MAX {
            *group.by.entry(key).or_default() += 1;
        } else {
            group.others += 1;
        }
    }

    /// What a group comes to, once it is old enough. Ask until there is none.
    pub(super) fn close(&mut self, mono_ms: u64) -> Option<(Kind, Json)> {
        let is_due = |(_, group): &(&Kind, &Group)| mono_ms >= group.since_ms.saturating_add(GROUP_MS);
        let kind = *self.groups.iter().find(is_due)?.0;
        let group = self.groups.remove(&kind)?;
        let mut strategies: Vec<&str> = group.by.keys().map(|(_, _, strategy)| *strategy).collect();
        strategies.dedup();
        let by = group.by.into_iter().map(|((collection, field, strategy), conflicts)| {
            json!({ "collection": collection, "field": field, STRATEGY: strategy, "conflicts": conflicts })
        });
        let by: Vec<Json> = by.collect();
        let mut detail = json!({ "grouped": group.conflicts, "by": by, "others": group.others, "first": group.named });
        if let ([strategy], Kind::Resolved) = (&strategies[..], kind) {
            detail[STRATEGY] = Json::from(*strategy);
        }
        Some((kind, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_whole_and_a_flood_at_its_rate() {
        let mut flood = Flood::default();
        let taken = |flood: &mut Flood, ms: u64| (0..1_000).filter(|_| flood.takes(1, ms)).count() as u64;
        assert_eq!(taken(&mut flood, 10), BURST);
        assert_eq!(taken(&mut flood, 1_010), RECORDS_PER_S);
        assert_eq!(taken(&mut flood, 1_011), 0);
        assert_eq!(taken(&mut flood, 3_600_000), BURST);
    }

    #[test]
    fn a_group_counts_all_and_names_the_first() {
        let mut flood = Flood::default();
        for n in 0..1_000 {
            let conflict = Conflict::past(&format!("{n}"), &format!("vms/{n}"), &format!("f{}", n % 100));
            flood.group(Kind::Detected, &conflict, "max", 5);
        }
        assert_eq!(flood.close(GROUP_MS), None);
        flood.group(Kind::Resolved, &Conflict::past("0", "vms/0", "f"), "write", 5);
        let (kind, detail) = flood.close(GROUP_MS + 5).unwrap();
        assert_eq!(kind, Kind::Detected);
        let told: u64 = detail["by"].as_array().unwrap().iter().map(|by| by["conflicts"].as_u64().unwrap()).sum();
        assert_eq!((&detail["grouped"], told + detail["others"].as_u64().unwrap()), (&json!(1_000), 1_000));
        assert_eq!(detail["first"].as_array().unwrap().len(), NAMED_MAX);
        assert!(detail.to_string().len() < 8 << 10);
        let (kind, detail) = flood.close(u64::MAX).unwrap();
        assert_eq!((kind, &detail[STRATEGY]), (Kind::Resolved, &json!("write")), "who counts strategies finds it");
        assert_eq!(flood.close(u64::MAX), None);
    }
}
