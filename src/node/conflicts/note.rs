//! The document `conflicts/<id>`: what a person made of a conflict. Anybody may write one, so that what it says is held to
//! what a conflict can be, and shown as JSON, shortened.

use serde_json::{Map, Value as Json};

use super::super::write::{DocumentWrite, Missing, WriteBody};
use super::{COLLECTION, ResolveError};
use crate::document::{Address, Sibling};

/// What a person made of a conflict, as `conflicts/<id>` keeps it.
pub(super) struct Decision {
    pub(super) status: String,
    pub(super) document: String,
    pub(super) field: String,
    pub(super) siblings: Vec<Sibling>,
    pub(super) value: Json,
    /// All of it.
    pub(super) fields: Map<String, Json>,
}

impl Decision {
    /// `None`: it is none, or one of an undo by a dot alone, which has no siblings.
    pub(super) fn of(fields: Map<String, Json>) -> Option<Self> {
        let text = |key: &str| fields.get(key).and_then(Json::as_str).map(str::to_owned);
        let siblings = fields.get("siblings")?.as_array()?.iter().map(sibling_of).collect::<Option<_>>()?;
        Some(Self {
            status: text("status")?,
            document: text("document")?,
            field: text("field")?,
            siblings,
            value: fields.get("value").cloned().unwrap_or(Json::Null),
            fields,
        })
    }
}

fn sibling_of(json: &Json) -> Option<Sibling> {
    Some(Sibling {
        value: json.get("value")?.clone(),
        dot: json.get("dot")?.as_str()?.to_owned(),
        replica: json.get("replica")?.as_str()?.to_owned(),
        at: json.get("at")?.as_u64()?,
        base: json.get("base").cloned(),
    })
}

/// What a note says became of its conflict.
pub(super) fn ended(fields: &Map<String, Json>) -> Option<String> {
    let shown = |key: &str| fields.get(key).map(shortened);
    let by = shown("by").map_or_else(String::new, |by| format!(" by {by}"));
    let value = shown("value").map_or_else(String::new, |value| format!(", with {value}"));
    match fields.get("status")?.as_str()? {
        "resolved" => Some(format!("it was resolved{by}{value}")),
        "undone" => {
            let undone_by = shown("undone_by").map_or_else(String::new, |by| format!(" by {by}"));
            let before =
                shown("undid").map_or_else(String::new, |undid| format!("; before, it was resolved{by}, with {undid}"));
            Some(format!("it was undone{undone_by}{value}{before}"))
        }
        "reopened" => {
            let by = shown("reopened_by").map_or_else(String::new, |by| format!(" by {by}"));
            Some(format!("it was opened again{by}, as a new conflict that the list names"))
        }
        "escalated" => {
            let to = shown("to").map_or_else(String::new, |to| format!(" to {to}"));
            Some(format!("it was escalated{to}, and its field was written since"))
        }
        other => Some(format!("its status is {}{by}{value}", shortened(&other.into()))),
    }
}

/// The write of a note.
pub(super) fn decided(id: &str, decision: Json) -> Result<DocumentWrite, ResolveError> {
    let Json::Object(fields) = decision else { return Err(ResolveError::NotDecided(id.to_owned())) };
    Ok(DocumentWrite {
        address: Address::new(COLLECTION, id)?,
        body: WriteBody::Put(fields),
        if_match: None,
        create_only: false,
        missing: Missing::Create,
    })
}

/// A value as an error shows it.
pub(super) fn shortened(value: &Json) -> String {
    const SHOWN_MAX: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
