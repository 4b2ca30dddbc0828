//! A VM whose worker stands still is run by another, and what the VM writes to is written by one of them at a time.
//!
//! `cargo run --example vm_failover`

use std::time::Duration;

use folkmoot::domain::vms::VmSpec;
use folkmoot::node::{Node, VmRun};

/// The VM's disk. It remembers the highest token it has seen, and refuses what is lower.
#[derive(Debug, Default)]
struct Disk {
    highest: u64,
    written_by: Vec<String>,
}

impl Disk {
    fn write(&mut self, run: &VmRun) -> Result<(), String> {
        if run.grant.token < self.highest {
            return Err(format!("{} is too late: token {} has been here", run.worker, self.highest));
        }
        self.highest = run.grant.token;
        self.written_by.push(run.worker.clone());
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().start().await?;
    let (vms, lease, mut disk) = (node.vms(), Duration::from_millis(400), Disk::default());
    vms.create("web", &VmSpec { cpus: 2, memory_mb: 1024, ..VmSpec::default() }).await?;

    let ash = vms.run("web", "ash", lease, Duration::ZERO).await?;
    let kept = vms.keep(&ash);
    disk.write(&ash)?;
    println!("ash runs it under the token {}, for as long as it renews its lease", ash.grant.token);
    // Ash stands still: nobody renews.
    drop(kept);

    let oak = vms.run("web", "oak", lease, Duration::from_secs(10)).await?;
    let mut kept = vms.keep(&oak);
    disk.write(&oak)?;
    println!("oak runs it under the token {}, once the lease of ash ran out", oak.grant.token);
    let refused = disk.write(&ash).expect_err("the disk has seen a later token");
    println!("ash goes on, and its disk refuses: {refused}");
    assert_eq!(disk.written_by, ["ash", "oak"]);
    assert!(vms.get("web")?.is_split(), "ash has not said that it stopped: a critical conflict until it does");

    vms.stop("web", "ash", ash.grant.token).await?;
    assert_eq!(vms.get("web")?.host.as_deref(), Some("oak"));
    vms.stop("web", "oak", oak.grant.token).await?;
    println!("oak is told that its lease is over: {}", kept.lost().await);
    node.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_vm_is_taken_over_and_its_disk_is_written_by_one_at_a_time() {
        super::main().expect("the example runs");
    }
}
