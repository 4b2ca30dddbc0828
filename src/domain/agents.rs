//! Agents: those that work on one task together, what each of them is at, and what they tell each other.
//!
//! An agent is one document, `tasks/<task>/agents/<agent>`, which only that agent writes. So nothing of it is contested
//! while an agent is one program; where two play the same agent, both values stay visible.
//!
//! | field | merges | rule |
//! |---|---|---|
//! | `agent_role`, `agent_state` | `contested`, the last writer's | |
//! | `agent_data` | `map` | each key by itself |
//! | `agent_heartbeat` | `lww`, with a time to live | an agent whose heartbeat ran out is not there |
//! | `agent_messages` | `map` of `fww`, by id | each message is written once |
//!
//! The names are their own: the schema of `tasks` holds for these documents too, and a task's `state` is another thing.
//!
//! **Messages** lie with their sender, who takes the oldest away: [`MESSAGES_MAX`] of each agent stay. Every node puts
//! those of a task in one order, by the hybrid time of their writing and then by id: an answer comes after what it
//! answers, and what was written apart is ordered alike once it met. What comes late may belong before what was read,
//! so a reader's place is not a time but the set of those it has seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::clock::{HybridTime, ReplicaId, Roster};
use crate::crdt::{FieldKind, Value, map};
use crate::document::{Address, AddressError, CellKey, Document, Edit, exists};

pub const COLLECTION: &str = "tasks";
/// Longest name of an agent, a role, a state, a message and a key of the data, bytes.
pub const NAME_MAX: usize = 128;
/// Agents of one task, those that left included.
pub const AGENTS_MAX: usize = 64;
/// Messages of one agent in one task that stay: with [`BODY_BYTES_MAX`] a task's messages take 64 MiB at the very most.
pub const MESSAGES_MAX: usize = 256;
/// Longest body of a message, and longest value of the data, as JSON text.
pub const BODY_BYTES_MAX: usize = 4 << 10;
/// Keys of an agent's data.
pub const DATA_MAX: usize = 64;
/// The state of an agent that has left. The only one that means something here.
pub const LEFT: &str = "left";
/// The state of an agent that has said nothing else yet.
pub const JOINED: &str = "joined";

const MESSAGES: &str = "agent_messages";
const MIDDLE: &str = "/agents/";

/// An agent as its document reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agent {
    pub task: String,
    pub agent: String,
    pub role: Option<String>,
    /// In the agent's own words; [`LEFT`] once it has left.
    pub state: Option<String>,
    pub data: BTreeMap<String, Json>,
    /// It has not left, and its heartbeat has not run out by the clock of whoever reads.
    pub alive: bool,
    /// When it was last heard of, by its writer's clock.
    pub heartbeat_ms: Option<u64>,
}

/// What an agent says of itself. What is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentChange {
    #[serde(default)]
    pub role: Option<String>,
    #[serde(default)]
    pub state: Option<String>,
    /// Null takes a key away.
    #[serde(default)]
    pub data: BTreeMap<String, Json>,
}

/// A message that is to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// `None`: all agents of the task.
    #[serde(default)]
    pub to: Option<String>,
    #[serde(default)]
    pub body: Json,
}

/// A message as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: String,
    pub from: String,
    pub to: Option<String>,
    pub body: Json,
    pub at: HybridTime,
    /// The write that is read.
    pub dot: (ReplicaId, u64),
    /// Where the same id was written at two nodes: the others.
    pub more: Vec<(ReplicaId, u64)>,
}

/// Why a change of an agent makes no sense. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("the name of {what} has 1 to {NAME_MAX} bytes, no control characters and no slash: `{name}`")]
    Name { what: &'static str, name: String },
    #[error("a task has at most {AGENTS_MAX} agents: have some that left forgotten")]
    TooManyAgents,
    #[error("an agent has at most {DATA_MAX} keys of data")]
    TooMuchData,
    #[error("{what} takes at most {BODY_BYTES_MAX} bytes as JSON, and this has {len}: store it, and send its name")]
    TooLong { what: &'static str, len: usize },
    #[error("agent `{0}` has left this task: it joins when it comes back")]
    Left(String),
    #[error("`{LEFT}` is for an agent that leaves: leave, or take another word")]
    SaysLeft,
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// The document of an agent.
pub fn address(task: &str, agent: &str) -> Result<Address, AgentError> {
    check_name("an agent", agent)?;
    Address::new(COLLECTION, task)?;
    Ok(Address::new(COLLECTION, &format!("{task}{MIDDLE}{agent}"))?)
}

/// How the ids of a task's agents begin.
pub fn prefix(task: &str) -> String {
    format!("{task}{MIDDLE}")
}

/// The agent that `id` names below the prefix of a task; `None`: what lies there belongs to another task.
pub fn agent_of<'i>(task: &str, id: &'i str) -> Option<&'i str> {
    let agent = id.strip_prefix(task)?.strip_prefix(MIDDLE)?;
    (!agent.is_empty() && !agent.contains('/')).then_some(agent)
}

impl Agent {
    /// What a document says. `heard`: it has a heartbeat that has not run out.
    pub fn of(task: &str, agent: &str, fields: &Map<String, Json>, heard: bool) -> Self {
        let text = |field: &str| fields.get(field).and_then(Json::as_str).map(str::to_owned);
        let data = fields.get("agent_data").and_then(Json::as_object).cloned().unwrap_or_default();
        let state = text("agent_state");
        Self {
            task: task.to_owned(),
            agent: agent.to_owned(),
            role: text("agent_role"),
            alive: heard && state.as_deref() != Some(LEFT),
            state,
            data: data.into_iter().collect(),
            heartbeat_ms: fields.get("agent_heartbeat").and_then(Json::as_u64),
        }
    }

    pub fn has_left(&self) -> bool {
        self.state.as_deref() == Some(LEFT)
    }

    /// It is there, and says what has changed.
    pub fn change(&self, change: &AgentChange, now_ms: u64) -> Result<Vec<Edit>, AgentError> {
        self.is_here()?;
        let mut edits = vec![beat(now_ms)];
        edits.extend(words(change)?);
        let mut keys: Vec<&String> = self.data.keys().collect();
        for (key, value) in &change.data {
            check_name("a key of the data", key)?;
            let (field, known) = ("agent_data".to_owned(), self.data.contains_key(key));
            match value {
                Json::Null if !known => {}
                Json::Null => {
                    keys.retain(|other| *other != key);
                    edits.push(Edit::UnsetKey { field, key: key.clone() });
                }
                value => {
                    check_length("a value of the data", value)?;
                    if !known {
                        keys.push(key);
                    }
                    edits.push(Edit::SetKey { field, key: key.clone(), value: value.clone() });
                }
            }
        }
        if keys.len() > DATA_MAX { Err(AgentError::TooMuchData) } else { Ok(edits) }
    }

    /// Writes a message, and takes away the oldest of its own that are too many. `own`: those it has written, in order.
    pub fn send(&self, own: &[Message], id: &str, letter: &Letter, now_ms: u64) -> Result<Vec<Edit>, AgentError> {
        self.is_here()?;
        check_name("a message", id)?;
        letter.to.as_deref().map_or(Ok(()), |to| check_name("an agent", to))?;
        check_length("a message", &letter.body)?;
        let mut edits = vec![beat(now_ms)];
        // Sent already: an answer got lost on the way.
        if own.iter().any(|message| message.id == id) {
            return Ok(edits);
        }
        let spare = (own.len() + 1).saturating_sub(MESSAGES_MAX);
        let old = own[..spare].iter().map(|message| message.id.clone());
        edits.extend(old.map(|key| Edit::UnsetKey { field: MESSAGES.into(), key }));
        let mut value = json!({ "body": letter.body });
        if let Some(to) = &letter.to {
            value["to"] = to.as_str().into();
        }
        edits.push(Edit::SetKey { field: MESSAGES.into(), key: id.to_owned(), value });
        Ok(edits)
    }

    fn is_here(&self) -> Result<(), AgentError> {
        if self.has_left() { Err(AgentError::Left(self.agent.clone())) } else { Ok(()) }
    }
}

/// An agent joins, or is back. `others`: how many agents the task has beside it.
pub fn join(role: Option<&str>, others: usize, now_ms: u64) -> Result<Vec<Edit>, AgentError> {
    if others >= AGENTS_MAX {
        return Err(AgentError::TooManyAgents);
    }
    let mut edits = vec![beat(now_ms), set("agent_state", JOINED)];
    if let Some(role) = role {
        check_name("a role", role)?;
        edits.push(set("agent_role", role));
    }
    Ok(edits)
}

pub fn leave() -> Vec<Edit> {
    vec![set("agent_state", LEFT)]
}

/// The messages of an agent, in order. A message of which several were written under one id is the first of them.
pub fn messages(agent: &str, document: &Document, roster: &Roster) -> Vec<Message> {
    if !exists(document) {
        return Vec::new();
    }
    let mut found: BTreeMap<String, Vec<(HybridTime, ReplicaId, u64, Json)>> = BTreeMap::new();
    for cell in document.cells_of(MESSAGES) {
        let key = CellKey::decode(cell.key).filter(|key| key.tag == FieldKind::Map.tag());
        let Some((_, id)) = key.and_then(|key| map::decode_key(key.sub)) else { continue };
        for entry in cell.valued() {
            let value = entry.value.and_then(|value| Value::decode(value).ok());
            let Some(value) = value else { continue };
            let written = (entry.at, *roster.id(entry.dot.slot()), entry.dot.seq(), value.into_json());
            found.entry(id.to_owned()).or_default().push(written);
        }
    }
    let mut messages: Vec<Message> =
        found.into_iter().filter_map(|(id, written)| message(agent, id, written)).collect();
    sort(&mut messages);
    messages
}

fn message(from: &str, id: String, mut written: Vec<(HybridTime, ReplicaId, u64, Json)>) -> Option<Message> {
    written.sort_by_key(|(at, replica, seq, _)| (*at, *replica, *seq));
    let mut written = written.into_iter();
    let (at, replica, seq, mut value) = written.next()?;
    let to = value.get("to").and_then(Json::as_str).map(str::to_owned);
    let body = value.get_mut("body").map(Json::take)?;
    let more = written.map(|(_, replica, seq, _)| (replica, seq)).collect();
    Some(Message { id, from: from.to_owned(), to, body, at, dot: (replica, seq), more })
}

/// The one order of a task's messages.
pub fn sort(messages: &mut [Message]) {
    messages.sort_by(|a, b| (a.at, &a.id, &a.from).cmp(&(b.at, &b.id, &b.from)));
}

impl Message {
    /// Whether it is for this agent: sent to it, or by another to all.
    pub fn is_for(&self, agent: &str) -> bool {
        match &self.to {
            Some(to) => to == agent,
            None => self.from != agent,
        }
    }
}

fn words(change: &AgentChange) -> Result<Vec<Edit>, AgentError> {
    let mut edits = Vec::new();
    if let Some(role) = &change.role {
        check_name("a role", role)?;
        edits.push(set("agent_role", role));
    }
    if let Some(state) = &change.state {
        if state == LEFT {
            return Err(AgentError::SaysLeft);
        }
        check_name("a state", state)?;
        edits.push(set("agent_state", state));
    }
    Ok(edits)
}

fn set(field: &str, value: &str) -> Edit {
    Edit::Set { field: field.into(), value: value.into() }
}

fn beat(now_ms: u64) -> Edit {
    Edit::Set { field: "agent_heartbeat".into(), value: now_ms.into() }
}

fn check_length(what: &'static str, value: &Json) -> Result<(), AgentError> {
    let len = value.to_string().len();
    if len > BODY_BYTES_MAX { Err(AgentError::TooLong { what, len }) } else { Ok(()) }
}

fn check_name(what: &'static str, name: &str) -> Result<(), AgentError> {
    let fits = (1..=NAME_MAX).contains(&name.len()) && !name.chars().any(|c| c.is_control() || c == '/');
    if fits { Ok(()) } else { Err(AgentError::Name { what, name: name.chars().take(40).collect() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Incarnation, NodeId};
    use crate::document::builtin;

    fn agent(fields: Json) -> Agent {
        Agent::of("7", "ada", fields.as_object().unwrap(), true)
    }

    fn sent(id: &str, ms: u64) -> Message {
        let dot = (ReplicaId { node: NodeId([1; 32]), incarnation: Incarnation([1; 16]) }, ms);
        Message {
            id: id.into(),
            from: "ada".into(),
            to: None,
            body: Json::Null,
            at: HybridTime::from_ms(ms),
            dot,
            more: vec![],
        }
    }

    #[test]
    fn every_field_of_an_agent_is_declared_and_none_is_a_tasks() {
        let schema = builtin(COLLECTION).unwrap();
        for name in ["agent_role", "agent_state", "agent_data", "agent_heartbeat", MESSAGES] {
            assert!(schema.field(name).is_some(), "{name}");
        }
        assert_eq!(schema.field(MESSAGES).unwrap().inner, Some(FieldKind::Fww));
        assert!(schema.field("agent_heartbeat").unwrap().ttl_ms.is_some());
    }

    #[test]
    fn an_agent_lies_below_its_task_and_not_below_another() {
        assert_eq!(address("7", "ada").unwrap().as_str(), "tasks/7/agents/ada");
        assert_eq!(agent_of("7", "7/agents/ada"), Some("ada"));
        assert_eq!(agent_of("7", "7/agents/ada/agents/bob"), None, "an agent of the task `7/agents/ada`");
        assert_eq!(agent_of("7", "77/agents/ada"), None);
        assert!(address("7", "a/b").is_err() && address("", "ada").is_err() && address("7", "").is_err());
    }

    #[test]
    fn an_agent_that_left_is_not_there_and_says_nothing_until_it_joins() {
        let left = agent(json!({ "agent_state": LEFT }));
        assert!(!left.alive && agent(json!({ "agent_state": "busy" })).alive);
        let refused = Err(AgentError::Left("ada".into()));
        assert_eq!(left.change(&AgentChange::default(), 7), refused);
        assert_eq!(left.send(&[], "1", &Letter::default(), 7), refused);
        assert!(join(Some("tester"), 3, 7).unwrap().contains(&set("agent_state", JOINED)));
        let says = AgentChange { state: Some(LEFT.into()), ..AgentChange::default() };
        assert_eq!(agent(json!({})).change(&says, 7), Err(AgentError::SaysLeft));
        assert_eq!(join(None, AGENTS_MAX, 7), Err(AgentError::TooManyAgents));
    }

    #[test]
    fn data_changes_key_by_key_and_is_bounded() {
        let ada = agent(json!({ "agent_data": { "old": 1 } }));
        let change = |data: Json| {
            let data = serde_json::from_value(data).unwrap();
            ada.change(&AgentChange { data, ..AgentChange::default() }, 7)
        };
        let field = || "agent_data".to_owned();
        let edits = change(json!({ "old": null, "new": [1], "no": null })).unwrap();
        let (made, taken) = (
            Edit::SetKey { field: field(), key: "new".into(), value: json!([1]) },
            Edit::UnsetKey { field: field(), key: "old".into() },
        );
        assert_eq!(edits, [beat(7), made, taken]);
        let many: Map<String, Json> = (0..DATA_MAX).map(|n| (n.to_string(), n.into())).collect();
        assert_eq!(change(Json::Object(many)), Err(AgentError::TooMuchData));
        assert!(matches!(change(json!({ "x": "x".repeat(BODY_BYTES_MAX) })), Err(AgentError::TooLong { .. })));
    }

    #[test]
    fn the_writer_takes_its_oldest_messages_away() {
        let ada = agent(json!({}));
        let mut own: Vec<Message> = (0..MESSAGES_MAX as u64).map(|n| sent(&n.to_string(), n)).collect();
        let gone = |edits: Vec<Edit>| {
            edits.into_iter().filter(|edit| matches!(edit, Edit::UnsetKey { .. })).collect::<Vec<_>>()
        };
        let edits = ada.send(&own, "new", &Letter::default(), 7).unwrap();
        assert_eq!(gone(edits), [Edit::UnsetKey { field: MESSAGES.into(), key: "0".into() }]);
        // Two sides of a cut may have written more than stay: the next write takes all of that away.
        own.extend((0..10).map(|n| sent(&format!("b{n}"), 1_000 + n)));
        assert_eq!(gone(ada.send(&own, "new", &Letter::default(), 7).unwrap()).len(), 11);
        assert_eq!(ada.send(&own, "b3", &Letter::default(), 7).unwrap(), [beat(7)], "sent again");
        let long = Letter { body: "x".repeat(BODY_BYTES_MAX).into(), ..Letter::default() };
        assert!(matches!(ada.send(&[], "1", &long, 7), Err(AgentError::TooLong { .. })));
    }

    #[test]
    fn messages_go_by_hybrid_time_and_then_by_id() {
        let mut messages = [sent("b", 2), sent("z", 1), sent("a", 2)];
        sort(&mut messages);
        assert_eq!(messages.each_ref().map(|message| message.id.as_str()), ["z", "a", "b"]);
        let to_bob = Message { to: Some("bob".into()), ..sent("1", 1) };
        assert!(to_bob.is_for("bob") && !to_bob.is_for("ada") && !to_bob.is_for("cleo"));
        assert!(sent("1", 1).is_for("bob") && !sent("1", 1).is_for("ada"));
    }
}
