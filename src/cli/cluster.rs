//! `folkmoot cluster`: a cluster of real node processes on this machine, and a live table of them.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use crate::cli::client::{ApiArg, Body, Terms};
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::processes::{LocalCluster, Plan, Process};
use crate::cli::view::{ClusterView, short_digest};

/// Run a cluster of node processes on this machine.
///
/// The first founds the cluster, the others join it. One Ctrl-C stops them all; they also stop when this command is
/// killed. Kill one of them and the others go on: it is told with its last words, and at the end with exit code 1. Data stays in --dir; started again there, the cluster goes on.
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Examples:
  folkmoot cluster --nodes 3
  folkmoot cluster --nodes 5 --dir ./five --base-port 7200 --chaos
  folkmoot --json cluster --nodes 3        one line of JSON with the nodes' URLs, then one per change"
)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: Option<ClusterCommand>,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    nodes: u8,
    /// Where their data and logs go [default: a temporary directory, removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Node i (from 0) serves its API on P + 2i and listens for peers on P + 2i + 1 [default: free ports]
    #[arg(long, value_name = "P")]
    base_port: Option<u16>,
    /// Where data is kept: sled, redb or memory
    #[arg(long, value_name = "sled|redb|memory", value_parser = ["sled", "redb", "memory"])]
    store: Option<String>,
    /// Serve /v1/chaos on each, to cut connections
    #[arg(long)]
    chaos: bool,
}

#[derive(Debug, Clone, Subcommand)]
enum ClusterCommand {
    /// Give a majority of the voters up for lost, and have one node decide alone
    ///
    /// Only for voters that never come back: where they are alive behind a cut, both sides decide, and what quorums keep apart
    /// is no longer kept apart. What they decided and this node does not know is forgotten. Tokens go on above all that was
    /// ever given out. The audit records it.
    Recover {
        /// The version of the voters, as `folkmoot --json voters` shows it
        #[arg(long, value_name = "N")]
        version: u64,
        #[command(flatten)]
        api: ApiArg,
    },
}

async fn recover(version: u64, api: ApiArg, output: Output) -> Result<(), Error> {
    let client = api.client()?;
    let body = Body::json(json!({ "version": version }));
    let answer = client.send(reqwest::Method::POST, "/v1/voters/recover", Some(body), &Terms::default()).await?;
    let voters: Value = client.parse(&answer)?;
    output.either(&voters, || format!("this node decides alone, as of version {}", voters["version"]))
}

pub async fn cluster(args: ClusterArgs, output: Output) -> Result<(), Error> {
    if let Some(ClusterCommand::Recover { version, api }) = args.command {
        return recover(version, api, output).await;
    }
    let (dir, _temporary) = directory(args.dir)?;
    let plan = Plan {
        names: (1..=args.nodes).map(|n| format!("node-{n}")).collect(),
        dir,
        base_port: args.base_port,
        store: args.store,
        chaos: args.chaos,
        host_report: true,
        seats: Vec::new(),
    };
    output.say(format!("starting {} nodes, data in {}", args.nodes, plan.dir.display()));
    let mut cluster = tokio::select! {
        started = LocalCluster::start(&plan) => started?,
        // Dropping the start kills what runs already.
        _ = tokio::signal::ctrl_c() => return Err(Error::Failed(String::from("stopped before all nodes were up"))),
    };
    let watched = watch(&mut cluster, output).await;
    output.say("stopping");
    let killed = cluster.stop().await;
    let failed = watched?;
    match (failed.is_empty(), killed.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(Error::Failed(format!("ended before they were told to: {}", failed.join(", ")))),
        (_, false) => Err(Error::Failed(format!("did not stop within 10 s and were killed: {}", killed.join(", ")))),
    }
}

/// The directory to use, and what removes it at the end when it is a temporary one.
pub fn directory(named: Option<PathBuf>) -> Result<(PathBuf, Option<tempfile::TempDir>), Error> {
    if let Some(dir) = named {
        return Ok((dir, None));
    }
    let temporary = tempfile::Builder::new().prefix("folkmoot-").tempdir();
    let temporary =
        temporary.map_err(|error| Error::Failed(format!("cannot create a temporary directory: {error}")))?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// How often the table is drawn on a terminal; without one, a line comes at every change, and at least this often.
const REFRESH: Duration = Duration::from_millis(500);
const QUIET_MAX: Duration = Duration::from_secs(10);

/// Shows the cluster until Ctrl-C or SIGTERM, or until no node runs. Gives those that ended with an error, and how.
async fn watch(cluster: &mut LocalCluster, output: Output) -> Result<Vec<String>, Error> {
    let listen = |kind| signal(kind).map_err(|error| Error::Failed(format!("cannot listen for signals: {error}")));
    // Listening from here on: a Ctrl-C that comes while the nodes are asked must not be lost.
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut screen = Screen::new(output);
    let mut tick = interval(REFRESH);
    let mut failed = Vec::new();
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(failed),
            _ = terminate.recv() => return Ok(failed),
            _ = tick.tick() => {}
        }
        for process in cluster.processes.iter_mut().filter(|process| process.runs()) {
            if let Some((status, words)) = process.ended() {
                screen.say(&format!("{} ended ({status}); the others go on. Its last words:\n{words}", process.name));
                failed.extend((!status.success()).then(|| format!("{} ({status})", process.name)));
            }
        }
        if !cluster.processes.iter().any(Process::runs) {
            return Ok(failed);
        }
        let mut rows = Vec::new();
        for process in &cluster.processes {
            if !process.runs() {
                // Its port may be another's by now.
                rows.push((process, None));
                continue;
            }
            // A node that is busy or just going down shows as silent; whether it has ended is asked above.
            let view = tokio::time::timeout(Duration::from_secs(2), ClusterView::read(&process.client)).await;
            rows.push((process, view.ok().and_then(Result::ok)));
        }
        screen.show(&rows)?;
    }
}

/// Draws the rows: in place on a terminal, else as lines.
struct Screen {
    output: Output,
    lines_drawn: usize,
    last: Option<(Value, std::time::Instant)>,
}

impl Screen {
    fn new(output: Output) -> Self {
        Self { output, lines_drawn: 0, last: None }
    }

    fn show(&mut self, rows: &[(&Process, Option<ClusterView>)]) -> Result<(), Error> {
        if !self.output.json && self.output.stdout_is_terminal() {
            return self.draw(&format!("{}\nCtrl-C stops all.", table(rows)));
        }
        let facts = facts(rows);
        let stale = |(last, at): &(Value, std::time::Instant)| *last != facts || at.elapsed() > QUIET_MAX;
        if !self.last.as_ref().is_none_or(stale) {
            return Ok(());
        }
        match self.output.json {
            true => self.output.compact(&facts)?,
            false => self.output.line(table(rows))?,
        }
        self.last = Some((facts, std::time::Instant::now()));
        Ok(())
    }

    /// A word between two tables: the next one is drawn below it.
    fn say(&mut self, text: &str) {
        self.output.say(text);
        self.lines_drawn = 0;
    }

    fn draw(&mut self, text: &str) -> Result<(), Error> {
        let mut out = std::io::stdout().lock();
        if self.lines_drawn > 0 {
            write!(out, "\x1b[{}A\x1b[J", self.lines_drawn)?;
        }
        writeln!(out, "{text}")?;
        self.lines_drawn = text.lines().count();
        Ok(out.flush()?)
    }
}

/// What changes seldom: a line is worth printing when one of these does. Digests and counts move with every heartbeat.
fn facts(rows: &[(&Process, Option<ClusterView>)]) -> Value {
    let one = |(process, view): &(&Process, Option<ClusterView>)| {
        json!({
            "name": process.name,
            "node": process.ready.node,
            "api": process.ready.api,
            "pid": process.id(),
            "serves": view.is_some(),
            "alive": view.as_ref().map(ClusterView::alive),
            "partitioned": view.as_ref().map(|view| view.partitioned),
        })
    };
    json!({ "event": "cluster", "nodes": rows.iter().map(one).collect::<Vec<_>>() })
}

fn table(rows: &[(&Process, Option<ClusterView>)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "API", "STATE", "ALIVE", "DOCUMENTS", "NETWORK", "STATE DIGEST"]);
    for (process, view) in rows {
        let fixed = [process.name.clone(), process.ready.api.clone()];
        let rest = match view {
            None => [if process.runs() { "silent" } else { "ended" }, "", "", "", ""].map(String::from),
            Some(view) => [
                String::from("serves"),
                format!("{} of {}", view.alive(), rows.len()),
                view.documents.to_string(),
                String::from(if view.partitioned { "SPLIT" } else { "whole" }),
                short_digest(&view.state_digest).to_owned(),
            ],
        };
        table.add_row(fixed.into_iter().chain(rest));
    }
    let views: Vec<&ClusterView> = rows.iter().filter_map(|(_, view)| view.as_ref()).collect();
    let running = rows.iter().filter(|(process, _)| process.runs()).count();
    let equal = views.len() == running && views.windows(2).all(|pair| pair[0].equals(pair[1]));
    let words = if equal && running < rows.len() {
        "All nodes that still run hold the same state."
    } else if equal {
        "All nodes hold the same state."
    } else {
        "Nodes differ, or changes are on their way."
    };
    format!("{}\n{words}", table.trim_fmt())
}
