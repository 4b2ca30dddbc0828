//! An overruled value is brought back, as a new write.

use serde_json::{Map, Value as Json, json};

use super::super::handle::Node;
use super::super::write::Durability;
use super::note::{Decision, decided, shortened};
use super::register::Change;
use super::resolve::of_values;
use super::{ResolveError, Resolved};
use crate::conflict::Conflict;
use crate::document::Sibling;
use crate::history::ledger::Entry;

impl Node {
    /// Brings an overruled value back, as a new write. `id` names a conflict that is, one that a person settled, or the
    /// dot of a value in the ledger; `dot` one of a conflict's values, and may be left out where only one was overruled.
    pub async fn undo(
        &self,
        id: &str,
        dot: Option<&str>,
        by: &str,
        durability: Durability,
    ) -> Result<Resolved, ResolveError> {
        let Overruled { conflict, dot, value, note } = self.overruled(id, dot)?;
        let document = conflict.document.clone();
        let field = conflict.field.clone().unwrap_or_default();
        let back = self.edit(&document, &field, Change::Back(value.clone()), None)?;
        let Note { id: name, mut fields } = note;
        let undone = json!({
            "status": "undone", "document": document, "field": field, "value": value, "dot": dot, "undone_by": by,
            "undone_ms": self.now().wall_ms,
        });
        if let Json::Object(undone) = undone {
            fields.extend(undone);
        }
        let receipt = self.write(vec![back, decided(&name, Json::Object(fields))?], durability).await?;
        Ok(Resolved { conflict, value, receipt: Some(receipt) })
    }

    /// The value to bring back: of a conflict that is, else of a person's decision, else of the ledger.
    fn overruled(&self, id: &str, dot: Option<&str>) -> Result<Overruled, ResolveError> {
        if let Some(conflict) = self.conflict(id) {
            of_values(&conflict)?;
            let lost = lost(&conflict.siblings, conflict.value.as_ref(), dot)?;
            let fields = json!({ "class": conflict.class, "siblings": conflict.siblings, "shown": conflict.value });
            return Ok(lost.of(conflict, fields));
        }
        if let Ok(Decision { document, field, siblings, value, mut fields, .. }) = self.decision(id) {
            let lost = lost(&siblings, Some(&value), dot)?;
            // What somebody decided stays in the note, beside who took it back.
            fields.insert("undid".to_owned(), value);
            return Ok(lost.of(Conflict::past(id, &document, &field), Json::Object(fields)));
        }
        let dot = dot.unwrap_or(id);
        let replica = self.inner.replica.read();
        let entries: Vec<&Entry> =
            replica.conflicts().ledger().iter().map(|(_, entry)| entry).filter(|entry| entry.dot == dot).collect();
        match entries[..] {
            [] => Err(ResolveError::NotInLedger(dot.to_owned())),
            [entry, ..] => {
                // The ledger knows no conflicts: a value by its dot has a note of its own.
                let name = blake3::hash(format!("{} {} {dot}", entry.document, entry.field).as_bytes());
                let conflict = Conflict::past(&name.to_hex()[..32], &entry.document, &entry.field);
                let value = serde_json::from_str(&entry.value).unwrap_or(Json::Null);
                Ok(Lost { dot: dot.to_owned(), value }.of(conflict, Json::Null))
            }
        }
    }
}

/// A value that gave way, and the conflict it was in.
struct Overruled {
    conflict: Conflict,
    dot: String,
    value: Json,
    note: Note,
}

/// The document `conflicts/<id>`, as far as it says what was there before.
struct Note {
    id: String,
    fields: Map<String, Json>,
}

/// One sibling's dot and value.
struct Lost {
    dot: String,
    value: Json,
}

impl Lost {
    fn of(self, conflict: Conflict, fields: Json) -> Overruled {
        let fields = if let Json::Object(fields) = fields { fields } else { Map::new() };
        let note = Note { id: conflict.id.clone(), fields };
        Overruled { conflict, dot: self.dot, value: self.value, note }
    }
}

/// The sibling with this dot; without one the only sibling that is not what readers see.
fn lost(siblings: &[Sibling], shown: Option<&Json>, dot: Option<&str>) -> Result<Lost, ResolveError> {
    let listed = |siblings: &[&Sibling]| {
        let each = |sibling: &&Sibling| format!("{} ({})", sibling.dot, shortened(&sibling.value));
        siblings.iter().map(each).collect::<Vec<_>>().join(", ")
    };
    let found: Vec<&Sibling> = match dot {
        Some(dot) => siblings.iter().filter(|sibling| sibling.dot == dot).collect(),
        None => siblings.iter().filter(|sibling| Some(&sibling.value) != shown).collect(),
    };
    match (&found[..], dot) {
        ([only], _) => Ok(Lost { dot: only.dot.clone(), value: only.value.clone() }),
        (_, Some(dot)) => {
            let known = listed(&siblings.iter().collect::<Vec<_>>());
            Err(ResolveError::NoSuchSibling { dot: dot.to_owned(), known })
        }
        ([], None) => Err(ResolveError::NothingOverruled),
        (several, None) => Err(ResolveError::Several(listed(several))),
    }
}
