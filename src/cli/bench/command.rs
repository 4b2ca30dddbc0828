//! Runs all measurements in turn.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::bench::figure::{Figure, table};
use crate::cli::bench::{core, heal, locks, visible, writes};
use crate::cli::cluster::directory;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::processes::{LocalCluster, Plan};

/// Measure this build on this machine.
///
/// First the core in this process: clocks, ops, reads, writes, memory, catch-up, disks, each beside what the design asks
/// for. Then local clusters of 3 and of 5 real processes over HTTP: how long until a write can be read everywhere,
/// durable writes per second, bytes on the wire, how long a split takes to heal. Use a release build, and compare only
/// figures of one machine in one run.
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  folkmoot bench --quick
  folkmoot bench --only core
  folkmoot bench locks
  folkmoot bench --store redb --json > figures.json"
)]
pub struct BenchArgs {
    /// Fewer samples, a smaller heal
    #[arg(long)]
    quick: bool,
    /// Where data is kept: sled, redb or memory
    #[arg(long, value_name = "sled|redb|memory", value_parser = ["sled", "redb", "memory"])]
    store: Option<String>,
    /// One half of the figures: those of the core, or those of whole clusters
    #[arg(long, value_name = "core|cluster", value_parser = ["core", "cluster"])]
    only: Option<String>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    Locks(locks::LocksArgs),
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
    if let Some(What::Locks(args)) = &args.what {
        return locks::locks(args, output).await;
    }
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
    let wants = |half: &str| args.only.as_deref().is_none_or(|only| only == half);
    if wants("core") {
        figures.extend(in_process(args.quick, output).await?);
    }
    if wants("cluster") {
        figures.extend(clusters(args, size, output).await?);
    }
    Ok(figures)
}

/// On a thread of its own, which Ctrl-C need not wait for.
async fn in_process(quick: bool, output: Output) -> Result<Vec<Figure>, Error> {
    let (done, figures) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut figures = Vec::new();
        let mut told = |measured: core::meter::Measured| {
            output.say(format!("{}: {}", measured.group, measured.name));
            figures.push(Figure::from(measured));
        };
        core::run("", &mut core::meter::Meter::new(quick, &mut told));
        let _ = done.send(figures);
    });
    figures.await.map_err(|_| Error::Failed(String::from("the measurement of the core ended early: see above")))
}

async fn clusters(args: &BenchArgs, size: &Size, output: Output) -> Result<Vec<Figure>, Error> {
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
    let plan = Plan {
        names,
        dir,
        base_port: None,
        store: args.store.clone(),
        chaos: true,
        host_report: false,
        seats: Vec::new(),
    };
    let cluster = LocalCluster::start(&plan).await?;
    cluster.wait_joined(Duration::from_secs(20)).await?;
    cluster.wait_equal(Duration::from_secs(20)).await?;
    Ok((cluster, temporary))
}
