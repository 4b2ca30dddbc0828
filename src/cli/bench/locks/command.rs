//! Runs the rounds: in each, everything once, this program and etcd in turn.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::etcd::{self, Etcd};
use super::rows::{OURS, Rounds, SYNC, table};
use super::service::Service;
use super::{claims, cut, disk, speed, vote};
use crate::cli::bench::figure::Figure;
use crate::cli::cluster::directory;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::processes::{LocalCluster, Plan};

/// Measure locks and ballots beside etcd.
///
/// Starts 3 and 5 node processes, and as many of etcd where it is installed (Debian: `etcd-server`), all with their data
/// on one disk, and asks both over HTTP by the same client, in turn. etcd is asked at its leader, this program at its first
/// node. A renewal is a decision here, on the disks of a majority; etcd's is none, its leader remembers it.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot bench locks --quick
  folkmoot bench locks --json > figures.json")]
pub struct LocksArgs {
    /// Fewer rounds, fewer samples
    #[arg(long)]
    quick: bool,
    /// Where the nodes' data is kept: sled, redb or memory
    #[arg(long, value_name = "sled|redb|memory", value_parser = ["sled", "redb", "memory"], default_value = "sled")]
    store: String,
    /// How many nodes
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "3,5", value_parser = clap::value_parser!(u8).range(3..=5))]
    nodes: Vec<u8>,
}

/// How much is measured.
struct Size {
    rounds: u64,
    /// Of one time, in a round.
    samples: u64,
    /// Of one rate, in a round.
    length: Duration,
}

const QUICK: Size = Size { rounds: 2, samples: 50, length: Duration::from_secs(1) };
const FULL: Size = Size { rounds: 5, samples: 300, length: Duration::from_secs(3) };
const CLIENTS: u64 = 16;
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

pub async fn locks(args: &LocksArgs, output: Output) -> Result<(), Error> {
    let size = if args.quick { QUICK } else { FULL };
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    if cfg!(debug_assertions) {
        output.say("This is a debug build: its figures say little. Build with --release.");
    }
    let peer = etcd::version().await;
    match &peer {
        Some(version) => output.say(format!("beside etcd {version}")),
        None => output
            .say("etcd is not installed: nothing stands beside these figures (Debian: apt-get install etcd-server)"),
    }
    let rounds = tokio::select! {
        rounds = measure(args, &size, peer.is_some(), output) => rounds?,
        _ = tokio::signal::ctrl_c() => return Err(Error::Failed(String::from("stopped before the end"))),
    };
    let rows = rounds.rows();
    let answer = json!({
        "version": env!("CARGO_PKG_VERSION"), "profile": profile, "store": args.store, "etcd": peer, "rounds": size.rounds,
        "figures": rows,
    });
    output.either(&answer, || table(&rows))
}

async fn measure(args: &LocksArgs, size: &Size, beside: bool, output: Output) -> Result<Rounds, Error> {
    let mut rounds = Rounds::default();
    for nodes in args.nodes.iter().copied().map(usize::from) {
        let (dir, _temporary) = directory(None)?;
        let cluster = start(args, nodes, &dir).await?;
        vote::declare(&cluster).await?;
        let etcd = if beside { Some(Etcd::start(nodes, &dir.join("etcd")).await?) } else { None };
        for round in 0..size.rounds {
            output.say(format!("{nodes} nodes, round {} of {}", round + 1, size.rounds));
            beside_each_other(&mut rounds, &cluster, etcd.as_ref(), &dir, (round, size)).await?;
            alone(&mut rounds, &cluster, (round, size)).await?;
        }
        cluster.stop().await;
        if let Some(etcd) = etcd {
            etcd.stop().await;
        }
    }
    Ok(rounds)
}

async fn start(args: &LocksArgs, nodes: usize, dir: &Path) -> Result<LocalCluster, Error> {
    let plan = Plan {
        names: (1..=nodes).map(|n| format!("node-{n}")).collect(),
        dir: dir.to_owned(),
        base_port: None,
        store: Some(args.store.clone()),
        chaos: true,
        host_report: false,
        seats: Vec::new(),
    };
    let cluster = LocalCluster::start(&plan).await?;
    cluster.wait_joined(JOIN_TIMEOUT).await?;
    cut::wait_quorum(&cluster).await?;
    Ok(cluster)
}

/// What each service is asked, one service after the other. A further measurement is one more paragraph here, or in
/// [`alone`] where nothing stands beside it.
async fn beside_each_other(
    rounds: &mut Rounds,
    cluster: &LocalCluster,
    etcd: Option<&Etcd>,
    dir: &Path,
    (round, size): (u64, &Size),
) -> Result<(), Error> {
    let nodes = cluster.processes.len();
    let ours = Service::Folkmoot(cluster.processes[0].client.clone());
    let all: Vec<Service> =
        std::iter::once(ours).chain(etcd.iter().flat_map(|etcd| [etcd.lock(), etcd.txn()])).collect();
    // Each time another is the first.
    let turn = |is_asked: fn(&Service) -> bool| {
        let mut asked: Vec<Service> = all.iter().filter(|service| is_asked(service)).cloned().collect();
        let by = round as usize % asked.len();
        asked.rotate_left(by);
        asked
    };
    rounds.add_times(nodes, "disk", SYNC, &disk::sync(dir, size.samples)?);
    for service in turn(|_| true) {
        let times = speed::cold(&service, round * size.samples, size.samples).await?;
        rounds.add_times(nodes, service.name(), "lock acquire, new", &times);
    }
    for service in turn(|_| true) {
        let times = speed::warm(&service, size.samples).await?;
        rounds.add_times(nodes, service.name(), "lock acquire, just given back", &times);
    }
    // etcd's renewals are of leases, whatever lies under them.
    for service in turn(|service| !matches!(service, Service::EtcdTxn { .. })) {
        let times = speed::renew(&service, size.samples).await?;
        rounds.add_times(nodes, service.name(), "lock renew", &times);
    }
    for service in turn(|_| true) {
        let (decided, took) = speed::at_once(&service, CLIENTS, size.length).await?;
        rounds.add(nodes, service.name(), Figure::rate(format!("decisions, {CLIENTS} clients"), decided, took));
    }
    Ok(())
}

/// What only this program is asked.
async fn alone(rounds: &mut Rounds, cluster: &LocalCluster, (round, size): (u64, &Size)) -> Result<(), Error> {
    let nodes = cluster.processes.len();
    let settled = vote::settled(cluster, round).await?;
    rounds.add_times(nodes, OURS, "vote: both values seen → outcome", &settled.after_seen);
    rounds.add_times(nodes, OURS, "vote: heal → outcome", &settled.after_heal);
    for workers in [1, CLIENTS] {
        let (done, took) = claims::claimed(cluster, round, workers, size.length).await?;
        rounds.add(nodes, OURS, Figure::rate(format!("tasks claimed and completed, {workers} at once"), done, took));
    }
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let told = cut::announced(cluster).await?;
    rounds.add(nodes, OURS, Figure::once("connections cut → no_quorum", ms(told), "ms"));
    let told = cut::silent(cluster).await?;
    rounds.add(nodes, OURS, Figure::once("the others silent → no_quorum", ms(told), "ms"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    #[test]
    fn locks_are_measured_by_a_command_of_its_own_with_its_own_options() {
        let takes = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(takes("folkmoot bench locks --quick --nodes 3,5 --json"));
        assert!(takes("folkmoot bench --only core") && !takes("folkmoot bench --only core locks"));
        assert!(!takes("folkmoot bench locks --nodes 2"), "two nodes are one voter");
    }
}
