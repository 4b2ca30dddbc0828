//! Conflicts that the audit told of, and has not told the end of: those that wait for somebody, and those over many documents.
//!
//! What changed is not always judged in the step that changes it: a schema or a policy concerns a hundred thousand documents,
//! which have their turns, and rules over many documents are looked at a second later. A process may die in between, and
//! only by what was told can the next one know what is news. A flood tells most of them by number only, and old records
//! go, so the chain does not say which stand; these rows do. They are written in one step with the records, and prove
//! nothing.
//!
//! Rows: key `02 | id` of the tree `audit`; value: version, collection (empty: within one document), document, field, rule.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::Rows;
use crate::conflict::detect::across;
use crate::conflict::{Conflict, Status};
use crate::document::codec::{DecodeError, Reader, Writer};
use crate::engine::conflicts::Difference;
use crate::engine::io::Now;
use crate::engine::replica::Replica;

const PREFIX: u8 = 2;
const VERSION: u8 = 1;
/// In place of a collection: found within one document.
const WITHIN: &str = "";
/// Conflicts remembered: 32 MB at 500 bytes. One beyond is told again after a restart.
pub const STANDING_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub struct Standing {
    /// By the collection whose rules found them, and by id.
    told: BTreeMap<String, BTreeMap<String, Conflict>>,
    len: usize,
}

pub(super) fn is_key(key: &[u8]) -> bool {
    key.first() == Some(&PREFIX)
}

fn key_of(id: &str) -> Vec<u8> {
    [&[PREFIX], id.as_bytes()].concat()
}

impl Standing {
    fn holds(&self, collection: &str, id: &str) -> bool {
        self.told.get(collection).is_some_and(|told| told.contains_key(id))
    }

    fn begin(&mut self, collection: &str, conflict: &Conflict, rows: &mut Rows) {
        if self.len < STANDING_MAX && !rows.is_full() {
            rows.put(key_of(&conflict.id), encode(collection, conflict));
            self.insert(collection, remembered(conflict));
        }
    }

    fn insert(&mut self, collection: &str, conflict: Conflict) {
        let told = self.told.entry(collection.to_owned()).or_default();
        self.len += usize::from(told.insert(conflict.id.clone(), conflict).is_none());
    }

    fn end(&mut self, collection: &str, id: &str, rows: &mut Rows) {
        let Some(told) = self.told.get_mut(collection) else { return };
        if told.remove(id).is_some() {
            self.len -= 1;
            rows.remove(key_of(id));
        }
        if told.is_empty() {
            self.told.remove(collection);
        }
    }

    /// Those of a collection that are none of `found`.
    fn gone(&self, collection: &str, found: &BTreeSet<&str>) -> Vec<Conflict> {
        let told = self.told.get(collection).into_iter().flatten();
        told.filter(|(id, _)| !found.contains(id.as_str())).map(|(_, conflict)| conflict.clone()).collect()
    }

    /// Reads a row back; `None` when it is none.
    pub(super) fn load(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        let id = std::str::from_utf8(key.get(1..)?).ok()?;
        let (collection, conflict) = decode(id, row).ok()?;
        if self.len < STANDING_MAX {
            self.insert(&collection, conflict);
        }
        Some(())
    }
}

/// What the end of a conflict is told by.
fn remembered(conflict: &Conflict) -> Conflict {
    let field = conflict.field.clone();
    let (rule, status) = (conflict.rule.clone(), Status::Open);
    Conflict { field, rule, status, ..Conflict::past(&conflict.id, &conflict.document, "") }
}

fn encode(collection: &str, conflict: &Conflict) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.u8(VERSION);
    writer.slice(collection.as_bytes());
    writer.slice(conflict.document.as_bytes());
    writer.optional_slice(conflict.field.as_deref().map(str::as_bytes));
    writer.optional_slice(conflict.rule.as_deref().map(str::as_bytes));
    writer.bytes
}

fn decode(id: &str, row: &[u8]) -> Result<(String, Conflict), DecodeError> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Utf8);
    let mut reader = Reader::new(row);
    match reader.u8()? {
        VERSION => {}
        version => return Err(DecodeError::Version(version)),
    }
    let (collection, document) = (text(reader.slice()?)?, text(reader.slice()?)?);
    let field = reader.optional_slice()?.map(text).transpose()?;
    let rule = reader.optional_slice()?.map(text).transpose()?;
    reader.finish()?;
    Ok((collection, Conflict { field, rule, status: Status::Open, ..Conflict::past(id, &document, "") }))
}

impl Replica {
    /// The conflicts within one document, as they were and as they are.
    pub(in crate::engine) fn record_within(&mut self, difference: &Difference, now: Now) {
        if !self.audit.awake {
            return;
        }
        for (conflict, earlier) in &difference.found {
            let told = self.audit.standing.holds(WITHIN, &conflict.id);
            match earlier {
                // Told by an earlier process, whose store was rebuilt since.
                None if told => {}
                None => self.record_detected(conflict, now),
                Some(earlier) => self.record_turned(earlier, conflict, now),
            }
            match conflict.status.waits() {
                true if !told => self.begin_one(WITHIN, conflict),
                false if told => self.audit.standing.end(WITHIN, &conflict.id, &mut self.audit.rows),
                _ => {}
            }
        }
        for conflict in &difference.ended {
            self.record_ended(conflict, now);
            self.audit.standing.end(WITHIN, &conflict.id, &mut self.audit.rows);
        }
    }

    /// Once after a start: what began or ended within documents that the last process had not judged when it ended.
    pub(super) fn recall_within(&mut self, now: Now) {
        if self.audit.recalled || self.lacks_documents() || self.conflicts.is_behind() {
            return;
        }
        self.audit.recalled = true;
        let waits = |conflict: &&Conflict| conflict.status.waits();
        let listed: Vec<Conflict> = self.conflicts.within().filter(waits).cloned().collect();
        for conflict in
            listed.iter().filter(|conflict| !self.audit.standing.holds(WITHIN, &conflict.id)).collect::<Vec<_>>()
        {
            self.record_one_of_many(conflict, now);
            self.begin_one(WITHIN, conflict);
        }
        let stands = listed.iter().map(|conflict| conflict.id.as_str()).collect();
        self.end_missed(WITHIN, &stands, now);
    }

    fn begin_one(&mut self, collection: &str, conflict: &Conflict) {
        self.audit.standing.begin(collection, conflict, &mut self.audit.rows);
        self.persistence.touch();
    }

    /// The rules of a collection over many documents were looked at: what is new, and what is over.
    pub(in crate::engine) fn record_across(&mut self, collection: &str, difference: &Difference, now: Now) {
        for (conflict, earlier) in &difference.found {
            if earlier.is_none() && !self.audit.standing.holds(collection, &conflict.id) {
                self.record_one_of_many(conflict, now);
                self.begin_one(collection, conflict);
            }
        }
        for conflict in &difference.ended {
            self.end_one(collection, conflict, false, now);
        }
        let stands = difference.found.iter().map(|(conflict, _)| conflict.id.as_str()).collect();
        self.end_missed(collection, &stands, now);
    }

    fn end_one(&mut self, collection: &str, conflict: &Conflict, missed: bool, now: Now) {
        // A disk that takes nothing for days: it is told as missed once it does, or at the next start.
        if self.audit.rows.is_full() {
            return;
        }
        self.record_end_of_many(conflict, missed, now);
        self.audit.standing.end(collection, &conflict.id, &mut self.audit.rows);
        self.persistence.touch();
    }

    /// Told before this start, and found no more.
    fn end_missed(&mut self, collection: &str, stands: &BTreeSet<&str>, now: Now) {
        if self.lacks_documents() {
            return;
        }
        for conflict in self.audit.standing.gone(collection, stands) {
            self.end_one(collection, &conflict, true, now);
        }
    }

    /// A store that is being rebuilt lacks the documents that are in conflict, not the conflict.
    fn lacks_documents(&self) -> bool {
        self.config.rebuilt && !self.met
    }

    /// Collections whose rules went are not looked at any more.
    pub(super) fn end_what_no_rule_names(&mut self, now: Now) {
        let ruled = |collection: &String| collection == WITHIN || across::has_rules(&self.schemas.judge(collection));
        let gone: Vec<String> = self.audit.standing.told.keys().filter(|name| !ruled(name)).cloned().collect();
        for collection in gone {
            self.end_missed(&collection, &BTreeSet::new(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::WAITING_MAX;
    use super::*;

    fn conflict(n: usize) -> Conflict {
        let rule = Some("address".to_owned());
        remembered(&Conflict { rule, ..Conflict::past(&format!("{n:032x}"), &format!("vms/{n}"), "ip") })
    }

    #[test]
    fn what_stands_is_read_back_as_it_was_told() {
        let (mut standing, mut rows) = (Standing::default(), Rows::default());
        (0..9).for_each(|n| standing.begin("vms", &conflict(n), &mut rows));
        standing.begin("hosts", &Conflict { field: None, ..conflict(9) }, &mut rows);
        standing.end("vms", &conflict(4).id, &mut rows);
        let disk: BTreeMap<_, _> = rows.take().into_iter().filter_map(|(key, row)| Some((key, row?))).collect();
        let mut read = Standing::default();
        disk.iter().for_each(|(key, row)| assert!(is_key(key) && read.load(key, row).is_some()));
        assert_eq!((&read.told, read.len), (&standing.told, 9));
        assert_eq!(read.gone("vms", &BTreeSet::from([conflict(1).id.as_str()])).len(), 7);
        assert_eq!(read.load(&key_of("x"), &[9]), None);
    }

    #[test]
    fn what_stands_is_bounded() {
        let (mut standing, mut rows) = (Standing::default(), Rows::default());
        (0..STANDING_MAX + 9).for_each(|n| standing.begin("vms", &conflict(n), &mut rows));
        assert_eq!((standing.len, rows.take().len()), (STANDING_MAX, STANDING_MAX));
        (0..WAITING_MAX).for_each(|n| rows.remove(n.to_be_bytes().to_vec()));
        standing.end("vms", &conflict(0).id, &mut rows);
        standing.begin("vms", &conflict(STANDING_MAX), &mut rows);
        assert_eq!(standing.len, STANDING_MAX - 1, "no more wait for a disk that takes nothing");
    }
}
