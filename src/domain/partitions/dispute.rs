//! How a conflict between the sides was settled: by the resolver that every node asks, or by what a note says.

use serde::Serialize;
use serde_json::Value as Json;

use crate::conflict::Conflict;
use crate::engine::Replica;
use crate::engine::escalation;
use crate::engine::partition::Disputed;

/// A value is shown up to this length, as JSON, bytes: an account is for reading.
pub const VALUE_BYTES_MAX: usize = 256;
/// Neither listed nor noted: an ordinary write ended it.
const WRITTEN: &str = "written_since";

/// A conflict, and how it stands now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dispute {
    pub id: String,
    pub document: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// `settled`, `open`, `no_quorum` or `unresolved` while it is listed; then what a note says (`resolved`, `undone`,
    /// `reopened`, `escalated`), else `written_since`.
    pub status: String,
    /// The resolver, or who settled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What it was settled to, where that is short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
}

impl Dispute {
    /// As the node's replicated state has it.
    pub fn of(disputed: &Disputed, replica: &Replica) -> Self {
        let stands = match replica.conflicts().get(&disputed.id) {
            Some(conflict) => Stands::listed(conflict),
            None => Stands::noted(&disputed.id, replica),
        };
        let Stands { status, by, policy, value } = stands;
        let value = value.filter(|value| value.to_string().len() <= VALUE_BYTES_MAX);
        let Disputed { id, document, field } = disputed.clone();
        Self { id, document, field, status, by, policy, value }
    }
}

struct Stands {
    status: String,
    by: Option<String>,
    policy: Option<String>,
    value: Option<Json>,
}

impl Stands {
    fn listed(conflict: &Conflict) -> Self {
        Self {
            status: conflict.status.name().to_owned(),
            by: conflict.resolver.map(str::to_owned),
            policy: conflict.policy.clone(),
            value: conflict.value.clone().filter(|_| !conflict.status.waits()),
        }
    }

    fn noted(id: &str, replica: &Replica) -> Self {
        let note = replica.view(&format!("{}/{id}", escalation::COLLECTION)).map(|view| view.fields);
        let text = |key: &str| note.as_ref()?.get(key)?.as_str().map(str::to_owned);
        Self {
            status: text("status").unwrap_or_else(|| WRITTEN.to_owned()),
            by: text("by"),
            policy: text("policy"),
            value: note.as_ref().and_then(|note| note.get("value").cloned()),
        }
    }
}
