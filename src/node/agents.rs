//! Agents of a task, for programs: what each is at, and what they tell each other; see
//! [`domain::agents`](crate::domain::agents) for how it merges.
//!
//! A reader's place among the messages is a [`Token`]: for each replica that wrote some, the last one seen. It works
//! against any node, misses nothing that a split brings late, and shows nothing twice. The one exception: beyond
//! [`ENTRIES_MAX`](super::token::ENTRIES_MAX) replicas, those that do not fit are shown again.

use std::ops::Bound;

use super::builder::random;
use super::handle::Node;
use super::read::{Shown, show};
use super::token::Token;
use super::write::{DocumentWrite, Durability, IfMatch, Missing, Receipt, WriteBody, WriteError};
use crate::document::{Address, Document, Edit};
use crate::domain::agents::{
    AGENTS_MAX, Agent, AgentChange, AgentError, COLLECTION, Letter, Message, address, agent_of, join, leave, messages,
    prefix, sort,
};
use crate::engine::state::State;

/// How often a change is tried again because another writer here was faster.
const TRIES_MAX: usize = 16;
/// Agents of a task that are read: two sides of a split may each have added as many as there may be.
const READ_MAX: usize = 2 * AGENTS_MAX;

/// The agents of one task.
#[derive(Clone, Debug)]
pub struct Agents {
    node: Node,
    task: String,
}

/// Messages, in the one order, and where to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbox {
    pub messages: Vec<Message>,
    /// Covers what was seen before and what is here.
    pub next: Token,
    /// There is more that `next` does not cover.
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentsError {
    #[error("task `{task}` has no agent `{agent}` on this node")]
    NotFound { task: String, agent: String },
    #[error("agent `{0}` was changed by others {TRIES_MAX} times in a row: try again")]
    Contended(String),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Node {
    /// Those that work on `task`. Nothing asks that the task be there.
    pub fn agents(&self, task: &str) -> Agents {
        Agents { node: self.clone(), task: task.to_owned() }
    }
}

impl Agents {
    /// The agent is there. It has to be heard of again within its time to live: whatever it writes says that it is there.
    pub async fn join(&self, agent: &str, role: Option<&str>) -> Result<Receipt, AgentsError> {
        let now_ms = self.node.wall_ms();
        self.write(agent, Missing::Create, |_| {
            let others = self.list()?.iter().filter(|other| other.agent != agent).count();
            Ok(join(role, others, now_ms)?)
        })
        .await
    }

    /// What the agent says of itself; nothing, and it is only there.
    pub async fn change(&self, agent: &str, change: &AgentChange) -> Result<Receipt, AgentsError> {
        let now_ms = self.node.wall_ms();
        self.write(agent, Missing::Refuse, |now| Ok(now.map_or(Ok(Vec::new()), |now| now.change(change, now_ms))?))
            .await
    }

    /// Writes a message; gives its id. With an id of one's own it can be sent again when no answer came.
    pub async fn send(&self, from: &str, letter: &Letter, id: Option<&str>) -> Result<(String, Receipt), AgentsError> {
        let id = id.map_or_else(|| format!("{:016x}", u64::from_le_bytes(random())), str::to_owned);
        let now_ms = self.node.wall_ms();
        let receipt = self.write(from, Missing::Refuse, |now| {
            let own = self.messages_of(&address(&self.task, from)?, from);
            Ok(now.map_or(Ok(Vec::new()), |now| now.send(&own, &id, letter, now_ms))?)
        });
        let receipt = receipt.await?;
        Ok((id, receipt))
    }

    /// The agent has left; what it said stays.
    pub async fn leave(&self, agent: &str) -> Result<Receipt, AgentsError> {
        self.write(agent, Missing::Refuse, |_| Ok(leave())).await
    }

    /// The agent is forgotten, with what it said.
    pub async fn forget(&self, agent: &str) -> Result<Receipt, AgentsError> {
        let address = address(&self.task, agent)?;
        let write = DocumentWrite {
            address,
            body: WriteBody::Delete,
            if_match: None,
            create_only: false,
            missing: Missing::Refuse,
        };
        match self.node.write(vec![write], Durability::Local).await {
            Err(WriteError::NotFound { .. }) => Err(self.not_found(agent)),
            written => Ok(written?),
        }
    }

    /// As this node has it.
    pub fn get(&self, agent: &str) -> Result<Agent, AgentsError> {
        let shown = self.node.read(&address(&self.task, agent)?).document;
        shown.map(|shown| self.read(agent, &shown)).ok_or_else(|| self.not_found(agent))
    }

    /// As this node has them, in order of their names; those that left, too.
    pub fn list(&self) -> Result<Vec<Agent>, AgentsError> {
        let now_ms = self.node.wall_ms();
        let replica = self.node.inner.replica.read();
        let mut agents = Vec::new();
        for (name, document) in self.documents(replica.state()) {
            let Some(agent) = self.agent_in(name) else { continue };
            agents.extend(show(&replica, name, document, now_ms).map(|shown| self.read(agent, &shown)));
        }
        Ok(agents)
    }

    /// Every message of the task that `since` does not cover, at most `limit` of them.
    pub fn messages(&self, since: &Token, limit: usize) -> Inbox {
        self.page(since, limit, |_| true)
    }

    /// Those for one agent: sent to it, or by others to all.
    pub fn inbox(&self, agent: &str, since: &Token, limit: usize) -> Inbox {
        self.page(since, limit, |message| message.is_for(agent))
    }

    fn page(&self, since: &Token, limit: usize, wanted: impl Fn(&Message) -> bool) -> Inbox {
        let mut all = Vec::new();
        let replica = self.node.inner.replica.read();
        for (name, document) in self.documents(replica.state()) {
            let Some(agent) = self.agent_in(name) else { continue };
            all.extend(messages(agent, document, &replica.state().roster).into_iter().filter(&wanted));
        }
        drop(replica);
        sort(&mut all);
        page(all, since, limit)
    }

    /// The documents below the task, in order.
    fn documents<'s>(&self, state: &'s State) -> Vec<(&'s str, &'s Document)> {
        let from = format!("{COLLECTION}/{}", prefix(&self.task));
        let below = state.names_from(Bound::Included(from.as_str()));
        let below = below.take_while(|(name, _)| name.starts_with(&from)).take(READ_MAX);
        below.map(|(name, document)| (&**name, document)).collect()
    }

    fn agent_in<'n>(&self, name: &'n str) -> Option<&'n str> {
        agent_of(&self.task, name.strip_prefix(COLLECTION)?.strip_prefix('/')?)
    }

    fn messages_of(&self, address: &Address, agent: &str) -> Vec<Message> {
        let replica = self.node.inner.replica.read();
        let document = replica.state().document(address.as_str());
        document.map(|document| messages(agent, document, &replica.state().roster)).unwrap_or_default()
    }

    fn read(&self, agent: &str, shown: &Shown) -> Agent {
        Agent::of(&self.task, agent, &shown.view.fields, shown.view.expires_at_ms.is_some() && !shown.expired)
    }

    fn not_found(&self, agent: &str) -> AgentsError {
        AgentsError::NotFound { task: self.task.clone(), agent: agent.to_owned() }
    }

    /// Writes what `edits` says of the agent as it is; again when another writer here came between.
    async fn write(
        &self,
        agent: &str,
        missing: Missing,
        edits: impl Fn(Option<&Agent>) -> Result<Vec<Edit>, AgentsError>,
    ) -> Result<Receipt, AgentsError> {
        let address = address(&self.task, agent)?;
        for _ in 0..TRIES_MAX {
            let shown = self.node.read(&address).document;
            if shown.is_none() && missing == Missing::Refuse {
                return Err(self.not_found(agent));
            }
            let edits = edits(shown.as_ref().map(|shown| self.read(agent, shown)).as_ref())?;
            let write = DocumentWrite {
                address: address.clone(),
                body: WriteBody::Edits(edits),
                create_only: shown.is_none(),
                if_match: shown.map(|shown| IfMatch::Tags(vec![shown.etag])),
                missing,
            };
            match self.node.write(vec![write], Durability::Local).await {
                Err(WriteError::Precondition { .. }) => {}
                written => return Ok(written?),
            }
        }
        Err(AgentsError::Contended(agent.to_owned()))
    }
}

/// The first `limit` that `since` does not cover. What `next` covers with them is among them, so that nothing is skipped.
fn page(all: Vec<Message>, since: &Token, limit: usize) -> Inbox {
    let mut inbox = Inbox { next: since.clone(), ..Inbox::default() };
    for message in all {
        let dots = || std::iter::once(&message.dot).chain(&message.more);
        if dots().any(|(replica, seq)| since.covers(replica, *seq)) {
            continue;
        }
        let (replica, seq) = message.dot;
        if inbox.messages.len() >= limit && !inbox.next.covers(&replica, seq) {
            inbox.more = true;
            continue;
        }
        inbox.next.see(&replica, seq);
        inbox.messages.push(message);
    }
    inbox
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{HybridTime, Incarnation, NodeId, ReplicaId};
    use serde_json::json;

    fn letter(to: Option<&str>, body: &str) -> Letter {
        Letter { to: to.map(str::to_owned), body: body.into() }
    }

    fn bodies(inbox: &Inbox) -> Vec<&str> {
        inbox.messages.iter().map(|message| message.body.as_str().unwrap()).collect()
    }

    async fn task() -> (Node, Agents) {
        let node = Node::builder().start().await.unwrap();
        let agents = node.agents("build/7");
        agents.join("ada", Some("lead")).await.unwrap();
        agents.join("bob", None).await.unwrap();
        (node, agents)
    }

    #[tokio::test]
    async fn an_agent_joins_says_what_it_is_at_and_leaves() {
        let (node, agents) = task().await;
        let change =
            AgentChange { state: Some("testing".into()), data: [("shard".into(), json!(3))].into(), role: None };
        agents.change("ada", &change).await.unwrap();
        let ada = agents.get("ada").unwrap();
        assert_eq!((ada.role.as_deref(), ada.state.as_deref(), ada.alive), (Some("lead"), Some("testing"), true));
        assert_eq!(ada.data, [("shard".to_owned(), json!(3))].into());
        let names = |agents: &Agents| agents.list().unwrap().into_iter().map(|agent| agent.agent).collect::<Vec<_>>();
        assert_eq!(names(&agents), ["ada", "bob"]);
        agents.leave("bob").await.unwrap();
        let left = AgentError::Left("bob".into());
        assert_eq!(agents.send("bob", &letter(None, "x"), None).await.unwrap_err(), left.into());
        assert!(!agents.get("bob").unwrap().alive);
        agents.forget("bob").await.unwrap();
        assert_eq!(names(&agents), ["ada"]);
        assert!(matches!(agents.change("bob", &change).await, Err(AgentsError::NotFound { .. })));
        assert!(matches!(agents.forget("bob").await, Err(AgentsError::NotFound { .. })));
        assert_eq!(node.agents("build").list().unwrap(), [], "another task");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn an_inbox_holds_what_is_for_its_agent_and_goes_on_where_it_was_read() {
        let (node, agents) = task().await;
        let none = Token::default();
        agents.send("ada", &letter(None, "all"), None).await.unwrap();
        agents.send("bob", &letter(Some("ada"), "ada"), None).await.unwrap();
        let (id, _) = agents.send("ada", &letter(Some("bob"), "bob"), None).await.unwrap();
        let read = agents.inbox("bob", &none, 9);
        assert_eq!((bodies(&read), read.more), (vec!["all", "bob"], false));
        assert_eq!(bodies(&agents.inbox("ada", &none, 9)), ["ada"]);
        assert_eq!(bodies(&agents.messages(&none, 9)), ["all", "ada", "bob"]);
        assert_eq!(agents.inbox("bob", &read.next, 9).messages, []);
        // Sent again under its id, it is the same message.
        agents.send("ada", &letter(Some("bob"), "twice"), Some(&id)).await.unwrap();
        assert_eq!(agents.inbox("bob", &read.next, 9).messages, []);
        agents.send("ada", &letter(None, "more"), None).await.unwrap();
        assert_eq!(bodies(&agents.inbox("bob", &read.next, 9)), ["more"]);
        // By pages it comes to the same.
        let (mut seen, mut place) = (Vec::new(), none);
        loop {
            let page = agents.messages(&place, 1);
            seen.extend(bodies(&page).into_iter().map(str::to_owned));
            place = page.next.to_string().parse().unwrap();
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, ["all", "ada", "bob", "more"]);
        node.shutdown().await;
    }

    #[test]
    fn what_comes_late_is_shown_although_it_was_written_before_what_was_read() {
        let message = |replica: u8, seq: u64, ms: u64| Message {
            id: format!("{replica}-{seq}"),
            from: "ada".into(),
            to: None,
            body: format!("{replica}-{seq}").into(),
            at: HybridTime::from_ms(ms),
            dot: (ReplicaId { node: NodeId([replica; 32]), incarnation: Incarnation([1; 16]) }, seq),
            more: Vec::new(),
        };
        let here = page(vec![message(1, 1, 10), message(1, 5, 20)], &Token::default(), 9);
        // The other side of a cut wrote between them.
        let both = vec![message(1, 1, 10), message(2, 3, 15), message(1, 5, 20)];
        let late = page(both.clone(), &here.next, 9);
        assert_eq!(bodies(&late), ["2-3"]);
        assert_eq!(bodies(&page(both.clone(), &Token::default(), 9)), ["1-1", "2-3", "1-5"]);
        assert_eq!(page(both, &late.next, 9).messages, []);
        // Of one replica, a page never skips an earlier write: they may be of one time and ordered by their ids.
        let together = page(vec![message(1, 9, 10), message(1, 8, 10), message(1, 10, 10)], &Token::default(), 1);
        assert_eq!((bodies(&together), together.more), (vec!["1-9", "1-8"], true));
    }

    #[test]
    fn one_id_written_at_two_nodes_is_seen_once() {
        let replica = |n: u8| ReplicaId { node: NodeId([n; 32]), incarnation: Incarnation([1; 16]) };
        let message = |dot, more| Message {
            id: "1".into(),
            from: "ada".into(),
            to: None,
            body: "x".into(),
            at: HybridTime::from_ms(1),
            dot,
            more,
        };
        let read = page(vec![message((replica(2), 7), vec![])], &Token::default(), 9);
        // An earlier one, written elsewhere under that id, is what is read from now on.
        let again = page(vec![message((replica(1), 3), vec![(replica(2), 7)])], &read.next, 9);
        assert_eq!(again.messages, []);
    }
}
