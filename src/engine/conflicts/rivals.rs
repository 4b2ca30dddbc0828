//! What came to stand beside other values, for the ledger.

use crate::clock::Dot;
use crate::crdt::{FieldKind, Value, map};
use crate::document::cell::{CellKey, EntryRef};
use crate::document::view::print_dot;
use crate::engine::hooks::Mutant;
use crate::engine::io::Now;
use crate::engine::replica::Replica;
use crate::engine::state::Rival;
use crate::history::ledger::Entry;

impl Replica {
    /// Enters into the ledger the values that came to stand beside others.
    pub(super) fn enter_rivals(&mut self, now: Now) {
        let rivals = self.state.take_siblings();
        if rivals.is_empty() {
            return;
        }
        for rival in rivals {
            if self.config.hooks.planted(Mutant::LedgerForgets) && rival.dot.seq().is_multiple_of(2) {
                continue;
            }
            if let Some(kind) = CellKey::decode(&rival.key).and_then(|key| FieldKind::from_tag(key.tag)) {
                self.audit.counts.merged(kind);
            }
            if let Some(entry) = self.entry_of(&rival, now) {
                self.conflicts.ledger.enter(entry, &mut self.conflicts.rows);
            }
        }
        self.persistence.touch();
    }

    fn entry_of(&self, rival: &Rival, now: Now) -> Option<Entry> {
        let roster = &self.state.roster;
        let key = CellKey::decode(&rival.key)?;
        let (kind, field) = match FieldKind::from_tag(key.tag)? {
            FieldKind::Map => {
                let (kind, sub) = map::decode_key(key.sub)?;
                (kind, format!("{}.{sub}", key.field))
            }
            kind => (kind, key.field.to_owned()),
        };
        let dot = print_dot(rival.dot, roster);
        if self.conflicts.ledger.knows(&dot, &field) {
            return None;
        }
        let conflict =
            self.conflicts.of(&rival.document).iter().find(|conflict| conflict.field.as_ref() == Some(&field));
        let (winner, rule, policy) = match conflict.filter(|_| kind == FieldKind::Contested) {
            Some(conflict) => {
                let shown = conflict.siblings.iter().find(|sibling| Some(&sibling.value) == conflict.value.as_ref());
                let rule = conflict.resolver.unwrap_or("contested").to_owned();
                (shown.map(|sibling| sibling.dot.clone()), rule, conflict.policy.clone())
            }
            None => (self.winner(rival, kind).map(|dot| print_dot(dot, roster)), kind.name().to_owned(), None),
        };
        let value = Value::decode(&rival.value).map_or(serde_json::Value::Null, Value::into_json);
        Some(Entry {
            document: rival.document.to_string(),
            field,
            dot,
            at_ms: rival.at.ms(),
            value: value.to_string(),
            seen_ms: now.wall_ms,
            winner,
            rule,
            policy,
        })
    }

    /// The entry that a register of this kind shows now.
    fn winner(&self, rival: &Rival, kind: FieldKind) -> Option<Dot> {
        let cell = self.state.document(&rival.document)?.cell(&rival.key)?;
        let rank = |entry: &EntryRef<'_>| (entry.at, *self.state.roster.id(entry.dot.slot()), entry.dot.seq());
        let value =
            |entry: &EntryRef<'_>| entry.value.and_then(|bytes| Value::decode(bytes).ok()).unwrap_or(Value::Null);
        let by_value = |a: &EntryRef<'_>, b: &EntryRef<'_>| Value::compare(&value(a), &value(b));
        let entries = cell.valued();
        let shown = match kind {
            FieldKind::Fww => entries.min_by_key(rank),
            FieldKind::Max => entries.max_by(by_value),
            FieldKind::Min => entries.min_by(by_value),
            _ => entries.max_by_key(rank),
        };
        shown.map(|entry| entry.dot)
    }
}
