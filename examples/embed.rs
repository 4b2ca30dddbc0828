//! Agents share a board of chores.
//!
//! Two nodes in one process (they would be two hosts) hold the same board. Each agent works at its own node and asks
//! nobody: it does chores, counts what it did, and leaves marks. At the end both boards are equal, and nothing was lost.
//!
//! ```sh
//! cargo run --example embed
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use folkmoot::document::Edit;
use folkmoot::node::{Collection, Node, Token};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What the board holds. A field's type comes from the collection's schema, or from what is first written to it: what is
/// counted up, such as `attempts`, becomes a counter, an array such as `marks` a set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Chore {
    title: String,
    state: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    attempts: i64,
    #[serde(default)]
    marks: BTreeSet<String>,
}

const CHORES: usize = 5;
const AGENTS: [&str; 4] = ["ada", "bob", "cleo", "dan"];
/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Without a data directory a node keeps everything in memory. One founds the cluster, the other joins it.
    let address = free_address()?;
    let hall = Node::builder().name("hall").listen(&address).start().await?;
    let field = Node::builder().name("field").listen("/ip4/127.0.0.1/tcp/0").join(&address).start().await?;

    // What was written at one node is waited for at the other by the token of the write's receipt.
    let (board, remote_board) = (hall.collection::<Chore>("chores")?, field.collection::<Chore>("chores")?);
    let mut written = Token::default();
    for n in 0..CHORES {
        let chore =
            Chore { title: format!("chore {n}"), state: "pending".into(), attempts: 0, marks: BTreeSet::default() };
        written.merge(&board.put(&format!("c-{n}"), &chore).await?.token);
    }
    field.wait_for(&written, PATIENCE).await?;
    println!("the board of {} has {} chores at {}", hall.name(), remote_board.list()?.len(), field.name());

    // A watch at one node sees what agents at both do, from now on.
    let changes = remote_board.watch()?;
    let (first, second) = AGENTS.split_at(AGENTS.len() / 2);
    let (here, there, ()) = tokio::join!(work(&board, first), work(&remote_board, second), until_all_are_done(changes));
    let (here, there) = (here?, there?);
    hall.wait_for(&there, PATIENCE).await?;
    field.wait_for(&here, PATIENCE).await?;

    let chores = board.list()?;
    for (id, chore) in &chores {
        println!(
            "{id}  {}  {} attempts  {}",
            chore.state,
            chore.attempts,
            Vec::from_iter(chore.marks.clone()).join(" ")
        );
        // Every agent tried each chore once and marked it: counters add up, sets unite, whoever wrote where.
        assert_eq!(chore.attempts, AGENTS.len() as i64);
        assert_eq!(chore.marks, AGENTS.map(String::from).into());
        assert_eq!(chore.state, "done");
    }
    assert_eq!(chores.len(), CHORES);
    assert_eq!(chores, remote_board.list()?);
    assert_eq!(hall.cluster().state_digest, field.cluster().state_digest);
    println!("both boards are equal");

    field.shutdown().await;
    hall.shutdown().await;
    Ok(())
}

/// Each agent of `names` does every chore once. Returns what was written, for others to wait for.
async fn work(board: &Collection<Chore>, names: &[&str]) -> Result<Token, Box<dyn Error>> {
    let mut written = Token::default();
    for name in names {
        for (id, _) in board.list()? {
            // Edits say what is meant, so those of others that are not known here yet count too.
            let tried = vec![
                Edit::Incr { field: "attempts".into(), by: 1 },
                Edit::Add { field: "marks".into(), value: json!(name) },
            ];
            written.merge(&board.edit(&id, tried).await?.token);
            // An update reads, changes and writes the difference; it starts again when another writer here came between.
            written.merge(&board.update(&id, |chore| chore.state = "done".into()).await?.token);
        }
    }
    Ok(written)
}

/// Follows the board until every task was seen done.
async fn until_all_are_done<E>(mut changes: impl StreamExt<Item = (String, Result<Option<Chore>, E>)> + Unpin) {
    let mut done = BTreeSet::new();
    while done.len() < CHORES
        && let Some((id, chore)) = changes.next().await
    {
        if chore.is_ok_and(|chore| chore.is_some_and(|chore| chore.state == "done")) && done.insert(id.clone()) {
            println!("{id} is done");
        }
    }
}

/// What was not counted yet is not written: a number that is written would be no counter.
fn is_zero(count: &i64) -> bool {
    *count == 0
}

/// A port that is free now. Hosts have fixed ones; an example should run wherever it is tried.
fn free_address() -> std::io::Result<String> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Ok(format!("/ip4/127.0.0.1/tcp/{port}"))
}

#[test]
fn it_runs() {
    main().unwrap();
}
