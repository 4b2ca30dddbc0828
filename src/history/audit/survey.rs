//! Patterns and hotspots: what conflicts most, what keeps coming back, and who settles it.
//!
//! Records go in one by one, in the order of the chain; the answer comes out sorted, the same for the same records. What
//! is read of a detail is named in [`detail`](super::detail); a record without it counts where it can.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::detail::{NODES, STRATEGY, VALUE};
use super::kind::Kind;
pub use super::patterns::{Count, FieldCount, Flapping, PairCount, Patterns, Window};
use super::record::RecordRef;
use super::swing::{Seen, Swing, flapping};
use super::tally::{KEYS_MAX, Tally};

/// The strategy that is a person.
const MANUAL: &str = "manual";

/// Nodes of one conflict whose pairs are counted: 28 pairs. A write met by more is everybody's.
const NODES_MAX: usize = 8;
/// Longest name of a node or strategy that is counted; a printed node id takes 52.
const NAME_BYTES_MAX: usize = 128;

/// Takes records, tells patterns.
#[derive(Clone, Debug)]
pub struct Survey {
    window: Window,
    seen: Patterns,
    documents: Tally<String>,
    fields: Tally<(String, String)>,
    collections: Tally<(String, String)>,
    pairs: Tally<(String, String)>,
    strategies: Tally<String>,
    manual: u64,
    /// Conflicts that were found and are not over, at most [`KEYS_MAX`]: one that is told again is the same one.
    open: BTreeSet<String>,
    /// At most [`KEYS_MAX`], the first that came.
    swings: BTreeMap<(String, String), Swing>,
}

impl Survey {
    pub fn new(window: Window) -> Self {
        Self {
            window,
            seen: Patterns::default(),
            documents: Tally::default(),
            fields: Tally::default(),
            collections: Tally::default(),
            pairs: Tally::default(),
            strategies: Tally::default(),
            manual: 0,
            open: BTreeSet::new(),
            swings: BTreeMap::new(),
        }
    }

    /// Counts a record, if the window holds it.
    pub fn add(&mut self, record: &RecordRef<'_>) {
        if record.at_ms < self.window.from_ms || record.at_ms >= self.window.until_ms {
            return;
        }
        self.seen.records += 1;
        match record.kind {
            Kind::Detected => self.on_detected(record),
            Kind::Resolved | Kind::RolledBack => self.on_resolved(record),
            Kind::Overruled | Kind::Undone => self.on_value(record, &record.detail_value().unwrap_or_default()),
            _ => {}
        }
    }

    fn on_detected(&mut self, record: &RecordRef<'_>) {
        if let Some(conflict) = record.conflict {
            if self.open.contains(conflict) {
                return;
            }
            if self.open.len() < KEYS_MAX {
                self.open.insert(conflict.to_owned());
            }
        }
        self.seen.detected += 1;
        if let Some(document) = record.document {
            self.documents.add(document.to_owned());
        }
        if let (Some(document), Some(field)) = (record.document, record.field) {
            self.fields.add((document.to_owned(), field.to_owned()));
        }
        if let (Some(collection), Some(field)) = (record.collection(), record.field) {
            self.collections.add((collection.to_owned(), field.to_owned()));
        }
        let detail = record.detail_value().unwrap_or_default();
        let listed = detail.get(NODES).and_then(Value::as_array).into_iter().flatten();
        let names = listed.filter_map(Value::as_str).filter(|name| name.len() <= NAME_BYTES_MAX);
        let nodes: BTreeSet<&str> = names.take(NODES_MAX).collect();
        for (place, a) in nodes.iter().enumerate() {
            nodes.iter().skip(place + 1).for_each(|b| self.pairs.add(((*a).to_owned(), (*b).to_owned())));
        }
    }

    fn on_resolved(&mut self, record: &RecordRef<'_>) {
        self.seen.resolved += 1;
        if let Some(conflict) = record.conflict {
            self.open.remove(conflict);
        }
        let detail = record.detail_value().unwrap_or_default();
        let strategy = detail.get(STRATEGY).and_then(Value::as_str).filter(|name| name.len() <= NAME_BYTES_MAX);
        self.strategies.add(strategy.unwrap_or("unknown").to_owned());
        self.manual += u64::from(strategy == Some(MANUAL));
        self.on_value(record, &detail);
    }

    /// A field got a value: does it go back to the one before the last?
    fn on_value(&mut self, record: &RecordRef<'_>, detail: &Value) {
        let (Some(document), Some(field), Some(value)) = (record.document, record.field, detail.get(VALUE)) else {
            return;
        };
        let value = Seen::of(value);
        let key = (document.to_owned(), field.to_owned());
        if let Some(swing) = self.swings.get_mut(&key) {
            swing.take(value);
        } else if self.swings.len() < KEYS_MAX {
            self.swings.insert(key, Swing::new(value));
        } else {
            self.seen.unwatched += 1;
        }
    }

    /// What was seen.
    pub fn finish(self) -> Patterns {
        let Self { window: Window { recurring, flaps, top, .. }, seen, .. } = self;
        let count = |(name, count)| Count { name, count };
        let field = |((of, field), count)| FieldCount { of, field, count };
        let pair = |((a, b), count)| PairCount { nodes: [a, b], count };
        let lists = [self.documents.short_by(), self.fields.short_by(), self.collections.short_by()];
        let short_by = lists.into_iter().chain([self.pairs.short_by(), self.strategies.short_by()]).max();
        Patterns {
            documents: self.documents.top(top, 1).into_iter().map(count).collect(),
            fields: self.fields.top(top, 1).into_iter().map(field).collect(),
            pairs: self.pairs.top(top, 1).into_iter().map(pair).collect(),
            recurring: self.collections.top(top, recurring).into_iter().map(field).collect(),
            flapping: flapping(self.swings, flaps, top),
            strategies: self.strategies.top(top, 1).into_iter().map(count).collect(),
            manual_share: if seen.resolved == 0 { 0.0 } else { self.manual as f64 / seen.resolved as f64 },
            short_by: short_by.unwrap_or(0),
            ..seen
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::Entry;
    use super::*;

    fn survey(entries: &[Entry]) -> Patterns {
        let mut survey = Survey::new(Window::new(100, 1_000));
        for entry in entries {
            survey.add(&RecordRef::decode(&entry.encode(0, &[0; 32]).0).unwrap());
        }
        survey.finish()
    }

    fn detected(document: &str, nodes: &[&str]) -> Entry {
        Entry::new(Kind::Detected, "node", 500).document(document).field("owner").detail(json!({ NODES: nodes }))
    }

    fn resolved(value: &str, strategy: &str) -> Entry {
        let detail = json!({ VALUE: value, STRATEGY: strategy });
        Entry::new(Kind::Resolved, "alice", 500).document("vms/a").field("owner").detail(detail)
    }

    fn count(name: &str, count: u64) -> Count {
        Count { name: name.into(), count }
    }

    #[test]
    fn hotspots_are_counted_inside_the_window_and_sorted() {
        let outside = [50, 1_000].map(|at_ms| Entry { at_ms, ..detected("vms/z", &["n1", "n2"]) });
        let inside = [
            detected("vms/b", &["n2", "n1", "n1"]),
            detected("vms/b", &["n1", "n3"]),
            detected("vms/a", &["n1", "n2"]),
            detected("tasks/a", &[]),
        ];
        let seen = survey(&[&outside[..], &inside].concat());
        assert_eq!((seen.records, seen.detected, seen.short_by), (4, 4, 0));
        assert_eq!(seen.documents, [count("vms/b", 2), count("tasks/a", 1), count("vms/a", 1)]);
        let pair = |a: &str, b: &str, count| PairCount { nodes: [a.into(), b.into()], count };
        assert_eq!(seen.pairs, [pair("n1", "n2", 2), pair("n1", "n3", 1)]);
        assert_eq!(seen.recurring, [FieldCount { of: "vms".into(), field: "owner".into(), count: 3 }]);
    }

    #[test]
    fn an_open_conflict_that_is_told_again_counts_once() {
        let found = || detected("vms/a", &["n1", "n2"]).conflict("4f0c");
        let over = || resolved("a", "manual").conflict("4f0c");
        let seen = survey(&[found(), found(), over(), found(), detected("vms/a", &[]).conflict("4f0d")]);
        assert_eq!((seen.detected, seen.documents), (3, vec![count("vms/a", 3)]));
    }

    #[test]
    fn a_value_that_goes_to_and_fro_is_flapping_and_one_that_moves_on_is_not() {
        let flapping = |values: &[&str]| {
            let entries: Vec<Entry> = values.iter().map(|value| resolved(value, "vote")).collect();
            survey(&entries).flapping.first().map(|found| (found.returns, found.values.clone()))
        };
        assert_eq!(flapping(&["a", "b", "a", "b"]), Some((2, ["\"b\"".into(), "\"a\"".into()])));
        assert_eq!(flapping(&["a", "b", "b", "a", "a", "b", "c"]), Some((2, ["\"b\"".into(), "\"a\"".into()])));
        assert_eq!(flapping(&["a", "b", "a", "c", "a", "d"]), None);
        assert_eq!(flapping(&["a", "b", "c", "a", "b", "c"]), None);
    }

    #[test]
    fn strategies_are_counted_and_the_share_of_people_told() {
        let lost = resolved("a", &"s".repeat(500));
        let seen = survey(&[resolved("a", "manual"), resolved("b", "vote"), resolved("c", "vote"), lost]);
        assert_eq!(seen.strategies, [count("vote", 2), count("manual", 1), count("unknown", 1)]);
        assert_eq!(seen.manual_share, 0.25);
        assert_eq!(survey(&[]).manual_share, 0.0);
    }

    #[test]
    fn a_detail_of_any_form_is_counted_where_it_can_be() {
        let details = [json!(null), json!([1]), json!({ NODES: 5, VALUE: [1] }), json!({ NODES: [1, null, "n"] })];
        let entries: Vec<Entry> = details.into_iter().map(|detail| detected("vms/a", &[]).detail(detail)).collect();
        assert_eq!(survey(&entries).documents, [count("vms/a", 4)]);
    }
}
