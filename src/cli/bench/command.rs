//! Runs all measurements in turn.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::bench::figure::{Figure, table};
use crate::cli::bench::{heal, visible, writes};
use crate::cli::cluster::directory;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::processes::{LocalCluster, Plan};

/// Measure this build on this machine.
///
/// Starts local clusters of 3 and of 5 real processes and measures over HTTP: how long until a write can be read
/// everywhere, durable writes per second, bytes on the wire, how long a split takes to heal. Use a release build, and
/// compare only figures of one machine in one run.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot bench --quick
  folkmoot bench --store redb --json > figures.json")]
pub struct BenchArgs {
    /// Fewer samples, a smaller heal: about half a minute
    #[arg(long)]
    quick: bool,
    /// Where data is kept: sled, redb or memory
    #[arg(long, value_name = "sled|redb|memory", value_parser = ["sled", "redb", "memory"])]
    store: Option<String>,
}

/// How much is measured.
struct Size {
    samples: u32,
    write_length: Duration,
    wire_writes: u64,
    heal_documents: u64,
    heal_cut: Duration,
}

const QUICK: Size = Size {
    samples: 200,
    write_length: Duration::from_secs(2),
    wire_writes: 300,
    heal_documents: 1_000,
    heal_cut: Duration::from_secs(5),
};
const FULL: Size = Size {
    samples: 2_000,
    write_length: Duration::from_secs(8),
    wire_writes: 2_000,
    heal_documents: 10_000,
    heal_cut: Duration::from_secs(20),
};

pub async fn bench(args: BenchArgs, output: Output) -> Result<(), Error> {
    let size = if args.quick { QUICK } else { FULL };
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if cfg!(debug_assertions) {
        output.say("This is a debug build: its figures say little. Build with --release.");
    }
    let figures = tokio::select! {
        figures = measure(&args, &size, output) => figures?,
        _ = tokio::signal::ctrl_c() => return Err(Error::Failed(String::from("stopped before the end"))),
    };
    let answer = json!({ "version": env!("CARGO_PKG_VERSION"), "profile": profile, "figures": figures });
    output.either(&answer, || table(&figures))
}

async fn measure(args: &BenchArgs, size: &Size, output: Output) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    output.say("3 nodes: visibility, durable writes…");
    let (cluster, _dir) = start(args, 3).await?;
    figures.extend(visible::visible(&cluster, size.samples).await?);
    for clients in [1, 8, 64] {
        figures.extend(writes::durable(&cluster, clients, size.write_length).await?);
    }
    cluster.stop().await;
    output.say("5 nodes: visibility, bytes, a split and its healing…");
    let (cluster, _dir) = start(args, 5).await?;
    figures.extend(visible::visible(&cluster, size.samples).await?);
    figures.extend(writes::wire_bytes(&cluster, size.wire_writes).await?);
    figures.extend(heal::heal(&cluster, size.heal_documents, size.heal_cut).await?);
    cluster.stop().await;
    Ok(figures)
}

async fn start(args: &BenchArgs, nodes: usize) -> Result<(LocalCluster, Option<tempfile::TempDir>), Error> {
    let (dir, temporary) = directory(None)?;
    let names = (1..=nodes).map(|n| format!("node-{n}")).collect();
    let plan = Plan { names, dir, base_port: None, store: args.store.clone(), chaos: true, host_report: false };
    let cluster = LocalCluster::start(&plan).await?;
    cluster.wait_joined(Duration::from_secs(20)).await?;
    cluster.wait_equal(Duration::from_secs(20)).await?;
    Ok((cluster, temporary))
}
