//! A resource that checks fencing tokens: a holder that was paused for longer than its lease is refused by it, though the
//! holder itself knows nothing.
//!
//! `cargo run --example fenced_resource`

use std::time::Duration;

use folkmoot::node::{Grant, Node};

/// What the lock protects. It remembers the highest token it has seen, and refuses what is lower.
#[derive(Debug, Default)]
struct Disk {
    highest: u64,
    content: Vec<String>,
}

impl Disk {
    fn write(&mut self, grant: &Grant, line: &str) -> Result<(), String> {
        if grant.token < self.highest {
            return Err(format!("token {} is stale: {} has been here", grant.token, self.highest));
        }
        self.highest = grant.token;
        self.content.push(format!("{}: {line}", grant.holder));
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().start().await?;
    let (lock, lease, mut disk) = (node.lock("disk"), Duration::from_millis(300), Disk::default());

    let ada = lock.acquire("ada", lease, Duration::ZERO).await?;
    disk.write(&ada, "first")?;
    // Ada stands still. Bob waits for the lock, and has it once her lease ran out.
    let bob = lock.acquire("bob", lease, Duration::from_secs(5)).await?;
    disk.write(&bob, "second")?;
    // Ada goes on as if nothing had been.
    let refused = disk.write(&ada, "third").expect_err("the disk has seen a later token");
    println!("ada is refused: {refused}");
    println!("the disk holds {:?}", disk.content);
    assert_eq!(disk.content, ["ada: first", "bob: second"]);
    lock.release(bob.token).await?;
    node.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_stale_holder_is_refused_by_the_resource() {
        super::main().expect("the example runs");
    }
}
