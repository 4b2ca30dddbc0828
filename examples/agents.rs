//! Two agents share one task. Each writes at its own node (they would be two hosts), and neither asks anybody.
//!
//! Ada cuts the work into shards and tells Bob which are his; Bob reports what came of each; Ada waits until she has heard of
//! all of them. At the end both nodes have the same messages in the same order.
//!
//! `cargo run --example agents`

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use folkmoot::domain::agents::{AgentChange, Letter};
use folkmoot::node::{Agents, Inbox, Node, Token};
use futures::StreamExt;
use serde_json::json;

const TASK: &str = "build/7";
const SHARDS: [u64; 4] = [0, 1, 2, 3];
/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = free_address()?;
    let hall = Node::builder().name("hall").listen(&address).start().await?;
    let field = Node::builder().name("field").listen("/ip4/127.0.0.1/tcp/0").join(&address).start().await?;

    let (ada, bob) = tokio::join!(lead(&hall), work(&field));
    let (written_here, written_there) = (ada?, bob?);
    hall.wait_for(&written_there, PATIENCE).await?;
    field.wait_for(&written_here, PATIENCE).await?;

    let read = |node: &Node| node.agents(TASK).messages(&Token::default(), 100);
    let (here, there) = (read(&hall), read(&field));
    for message in &here.messages {
        let to = message.to.as_deref().unwrap_or("all");
        println!("{} -> {to}: {}", message.from, message.body);
    }
    assert_eq!(here.messages, there.messages, "one order on both nodes");
    // What Ada asked for, and what Bob said; an answer never stands before what it answers.
    assert_eq!(here.messages.len(), 1 + SHARDS.len());
    assert_eq!(here.messages[0].from, "ada");
    for agent in field.agents(TASK).list()? {
        println!("{}, the {}, is {}", agent.agent, agent.role.unwrap_or_default(), agent.state.unwrap_or_default());
    }
    field.shutdown().await;
    hall.shutdown().await;
    Ok(())
}

/// Ada gives the shards to Bob and waits until he has reported all of them.
async fn lead(node: &Node) -> Result<Token, Box<dyn Error>> {
    let agents = node.agents(TASK);
    agents.join("ada", Some("lead")).await?;
    let order = Letter { to: Some("bob".into()), body: json!({ "test": SHARDS }) };
    agents.send("ada", &order, None).await?;
    let (mut reports, mut place) = (BTreeMap::new(), Token::default());
    while reports.len() < SHARDS.len() {
        let news = news(node, &agents, "ada", &place).await?;
        place = news.next;
        for message in news.messages {
            let shard = message.body["shard"].as_u64().ok_or("a report names its shard")?;
            reports.insert(shard, message.body["passed"] == true);
        }
    }
    let red: Vec<u64> = reports.into_iter().filter(|(_, passed)| !passed).map(|(shard, _)| shard).collect();
    let says = AgentChange { state: Some("done".into()), data: [("red".into(), json!(red))].into(), role: None };
    Ok(agents.change("ada", &says).await?.token)
}

/// Bob does what he is told, once, and leaves.
async fn work(node: &Node) -> Result<Token, Box<dyn Error>> {
    let agents = node.agents(TASK);
    agents.join("bob", Some("tester")).await?;
    let orders = news(node, &agents, "bob", &Token::default()).await?;
    for shard in orders.messages[0].body["test"].as_array().ok_or("an order names shards")? {
        let testing = AgentChange { state: Some(format!("testing shard {shard}")), ..AgentChange::default() };
        agents.change("bob", &testing).await?;
        let report = Letter { to: Some("ada".into()), body: json!({ "shard": shard, "passed": *shard != 2 }) };
        agents.send("bob", &report, None).await?;
    }
    Ok(agents.leave("bob").await?.token)
}

/// What has come for the agent since `place`; waits until something has.
async fn news(node: &Node, agents: &Agents, agent: &str, place: &Token) -> Result<Inbox, Box<dyn Error>> {
    // The watch first: what comes between the two is seen by one of them.
    let mut changes = node.watch(&format!("tasks/{TASK}/agents/"), None)?;
    loop {
        let inbox = agents.inbox(agent, place, 100);
        if !inbox.messages.is_empty() {
            return Ok(inbox);
        }
        tokio::time::timeout(PATIENCE, changes.next()).await?.ok_or("the watch ended")?;
    }
}

/// A port that is free now. Hosts have fixed ones; an example should run wherever it is tried.
fn free_address() -> std::io::Result<String> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Ok(format!("/ip4/127.0.0.1/tcp/{port}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_agents_at_two_nodes_finish_one_task() {
        super::main().expect("the example runs");
    }
}
