//! Workers do the tasks of a queue, each task at one worker at a time, also when a worker stands still.
//!
//! `cargo run --example task_queue`

use std::time::Duration;

use folkmoot::domain::tasks::{Ended, TaskSpec, TaskState};
use folkmoot::node::{Claim, Node, Queue, Tasks};
use serde_json::json;

/// What the work writes to. It remembers the highest token of each task, and refuses what is lower.
#[derive(Debug, Default)]
struct Outbox {
    sent: std::collections::BTreeMap<String, (u64, String)>,
}

impl Outbox {
    fn send(&mut self, claim: &Claim, by: &str) -> Result<(), String> {
        let token = claim.grant.token;
        match self.sent.get(&claim.task.id) {
            Some((highest, _)) if token < *highest => Err(format!("{by} is too late: token {highest} has been here")),
            _ => {
                self.sent.insert(claim.task.id.clone(), (token, by.to_owned()));
                Ok(())
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().start().await?;
    let (queue, tasks) = (node.queue("mail"), node.tasks());
    let lease = Duration::from_millis(400);
    for to in ["ada", "bob", "cleo"] {
        let spec = TaskSpec { payload: json!({ "to": to }), backoff_ms: 10, ..TaskSpec::default() };
        queue.push(&spec).await?;
    }

    // Ash takes the first, and stands still: nobody extends its lease, and voters hand the task out again.
    let mut outbox = Outbox::default();
    let stuck = queue.claim("ash", lease, Duration::ZERO).await?.ok_or("there is a task")?;
    println!("ash has {} under the token {}, and stands still", stuck.task.payload, stuck.grant.token);

    let done = work(&queue, &tasks, &mut outbox).await?;
    println!("oak did {done}");
    assert_eq!(queue.depth(), [(TaskState::Done, 3)].into());

    // Ash wakes up. What it sends is refused, and so is what it says of the task.
    println!("{}", outbox.send(&stuck, "ash").unwrap_err());
    let late = tasks.end(&stuck.task.id, stuck.grant.token, &Ended::Done { result: json!("by ash") }).await;
    println!("{}", late.unwrap_err());
    node.shutdown().await;
    Ok(())
}

/// Does all that is in the queue. The second attempt of the first task fails, and is made good by the third.
async fn work(queue: &Queue, tasks: &Tasks, outbox: &mut Outbox) -> Result<usize, Box<dyn std::error::Error>> {
    let mut done = 0;
    while let Some(claim) = queue.claim("oak", Duration::from_secs(30), Duration::from_secs(3)).await? {
        let (id, token) = (claim.task.id.clone(), claim.grant.token);
        // A long work is kept: the lease begins anew by itself, and it is told when the work has to be stopped.
        let kept = tasks.keep(&claim);
        let ended = match claim.task.attempt {
            2 => Ended::Failed { error: "no route".to_owned(), retry: true },
            _ => {
                outbox.send(&claim, "oak")?;
                Ended::Done { result: json!("sent") }
            }
        };
        drop(kept);
        let task = tasks.end(&id, token, &ended).await?;
        println!("{} is {} after {} attempts", task.payload, task.state, task.attempt);
        done += usize::from(task.state == TaskState::Done);
        if queue.depth().keys().all(|state| *state == TaskState::Done) {
            break;
        }
    }
    Ok(done)
}

#[test]
fn it_runs() {
    main().unwrap();
}
