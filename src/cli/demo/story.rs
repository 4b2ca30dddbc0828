//! Plays the demo on three real processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::cluster::directory;
use crate::cli::demo::report::{Act, NodeReport, Report};
use crate::cli::demo::script::{self, ASH, ELM, NAMES, OAK, Step};
use crate::cli::demo::{checks, conflict, vm};
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::processes::{LocalCluster, Plan};
use crate::cli::traffic;
use crate::cli::view::{ClusterView, short_digest};

/// Watch three nodes hold one state, split, and heal.
///
/// Starts three node processes in a temporary directory, writes to all of them, cuts one off, lets both sides write
/// what conflicts, lets them meet again, and reports what became of it. Takes well under a minute. Exit code 0 only if
/// all three ended equal and everything came out as it has to.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot demo
  folkmoot demo --keep                       leaves the nodes up, to look around
  folkmoot demo --json | jq .healed_ms")]
pub struct DemoArgs {
    /// Leave the cluster up at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Where data is kept: sled, redb or memory
    #[arg(long, value_name = "sled|redb|memory", value_parser = ["sled", "redb", "memory"])]
    store: Option<String>,
}

const START_TIMEOUT: Duration = Duration::from_secs(15);
const EQUAL_TIMEOUT: Duration = Duration::from_secs(10);
const NOTICE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAL_TIMEOUT: Duration = Duration::from_secs(15);

pub async fn demo(args: DemoArgs, output: Output) -> Result<(), Error> {
    let (dir, temporary) = directory(None)?;
    let (cluster, report) = tokio::select! {
        played = play(&args, dir, output) => match played {
            Ok(played) => played,
            Err(error) => return Err(keep_data(error, temporary, output)),
        },
        // Dropping the play kills its processes.
        _ = tokio::signal::ctrl_c() => return Err(Error::Failed(String::from("stopped before the end"))),
    };
    output.either(&report, || report.tell())?;
    if args.keep {
        keep_up(&cluster, output).await?;
    }
    let killed = cluster.stop().await;
    if !killed.is_empty() {
        return Err(Error::Failed(format!("did not stop within 10 s and were killed: {}", killed.join(", "))));
    }
    if !report.held() {
        let error = Error::Failed(String::from("not everything came out as it has to; see the report"));
        return Err(keep_data(error, temporary, output));
    }
    Ok(())
}

/// After a failure the data and the logs are worth more than a tidy disk.
fn keep_data(error: Error, temporary: Option<tempfile::TempDir>, output: Output) -> Error {
    if let Some(temporary) = temporary {
        output.say(format!("the nodes' data and logs are kept in {}", temporary.keep().display()));
    }
    error
}

async fn play(args: &DemoArgs, dir: PathBuf, output: Output) -> Result<(LocalCluster, Report), Error> {
    let begin = Instant::now();
    let plan = Plan {
        names: NAMES.map(String::from).to_vec(),
        dir,
        base_port: None,
        store: args.store.clone(),
        chaos: true,
        host_report: true,
        seats: Vec::new(),
    };
    output.say("Starting oak, ash and elm: three processes, each with its own data…");
    let cluster = LocalCluster::start(&plan).await?;
    let mut report = Report::default();
    tell_story(&cluster, &mut report, begin, output).await?;
    Ok((cluster, report))
}

async fn tell_story(cluster: &LocalCluster, report: &mut Report, begin: Instant, output: Output) -> Result<(), Error> {
    meet(cluster, report, output).await?;
    report.start_ms = millis(begin.elapsed());
    report.together = write_together(cluster).await?;
    output.say(format!("Wrote to all three; equal after {:.0} ms. Cutting elm off…", report.together.settled_ms));
    let (noticed, _) = split(cluster).await?;
    report.noticed_ms = millis(noticed);
    output.say(format!("All noticed within {:.0} ms. Both sides go on writing…", report.noticed_ms));
    write_apart(cluster, report).await?;
    let digests: Vec<&str> = report.digests_apart.iter().map(|digest| short_digest(digest)).collect();
    output.say(format!("Their states differ now ({}). Letting them meet again…", digests.join(" ")));
    heal(cluster, report).await?;
    output.say(format!("Healed in {:.0} ms. Looking at what became of it…", report.healed_ms));
    report.checks = checks::all(&cluster.clients()).await?;
    output.say("Settling one of the conflicts by a policy, and undoing that…");
    report.conflict = conflict::play(cluster).await?;
    output.say("Having elm run a VM, and cutting it off again…");
    report.vm = vm::play(cluster).await?;
    report.total_s = begin.elapsed().as_secs_f64();
    Ok(())
}

/// Waits until all see all, and every node holds every host's figures.
async fn meet(cluster: &LocalCluster, report: &mut Report, output: Output) -> Result<(), Error> {
    cluster.wait_joined(START_TIMEOUT).await?;
    output.say("They have met. Waiting for their hosts' figures…");
    let start = Instant::now();
    for process in &cluster.processes {
        for client in cluster.clients() {
            let figures = figures(&client, &process.name, start).await?;
            if client.api() == process.client.api() {
                let (name, node, api) = (process.name.clone(), process.ready.node.clone(), process.ready.api.clone());
                report.nodes.push(NodeReport { name, node, api, figures });
            }
        }
    }
    Ok(())
}

async fn figures(client: &Client, name: &str, start: Instant) -> Result<serde_json::Map<String, Value>, Error> {
    loop {
        match client.read::<Value>(&format!("/v1/docs/workers/{name}")).await {
            Ok(document) => return Ok(document["fields"].as_object().cloned().unwrap_or_default()),
            Err(Error::Refused(problem)) if problem.status == 404 && start.elapsed() < START_TIMEOUT => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn write_together(cluster: &LocalCluster) -> Result<Act, Error> {
    let steps = script::together();
    let mut act = Act::new(&steps);
    act.write_ms = play_steps(cluster, &steps).await?;
    act.settled_ms = millis(cluster.wait_equal(EQUAL_TIMEOUT).await?.0);
    Ok(act)
}

async fn split(cluster: &LocalCluster) -> Result<(Duration, Vec<ClusterView>), Error> {
    let start = Instant::now();
    cluster.split(&[OAK, ASH], &[ELM]).await?;
    let all_say_so = |views: &[ClusterView]| views.iter().all(|view| view.partitioned);
    let (_, views) = cluster.wait_until("that all nodes notice the split", NOTICE_TIMEOUT, all_say_so).await?;
    Ok((start.elapsed(), views))
}

async fn write_apart(cluster: &LocalCluster, report: &mut Report) -> Result<(), Error> {
    let steps = script::apart();
    report.apart = Act::new(&steps);
    report.apart.write_ms = play_steps(cluster, &steps).await?;
    let sides = |views: &[ClusterView]| views[OAK].equals(&views[ASH]);
    let (settled, views) = cluster.wait_until("equal digests on oak and ash", EQUAL_TIMEOUT, sides).await?;
    report.apart.settled_ms = millis(settled);
    if views[OAK].equals(&views[ELM]) {
        return Err(Error::Failed(String::from("elm got the other side's writes: the network was not split")));
    }
    report.digests_apart = views.iter().map(|view| view.state_digest.clone()).collect();
    Ok(())
}

async fn heal(cluster: &LocalCluster, report: &mut Report) -> Result<(), Error> {
    let clients = cluster.clients();
    let before = traffic::bytes_sent(&clients).await?;
    let start = Instant::now();
    cluster.rejoin().await?;
    let (_, views) = cluster.wait_equal(HEAL_TIMEOUT).await?;
    report.healed_ms = millis(start.elapsed());
    let after = traffic::bytes_sent(&clients).await?;
    report.healed_bytes = after.zip(before).map(|(after, before)| after.saturating_sub(before));
    report.set_digests(&views);
    let whole = |views: &[ClusterView]| views.iter().all(|view| !view.partitioned);
    cluster.wait_until("that all nodes see the network whole", HEAL_TIMEOUT, whole).await.map(drop)
}

/// Hybrid clocks count milliseconds. Two concurrent writes within one are ordered by replica; the story wants the later
/// one to win.
const STEP_PAUSE: Duration = Duration::from_millis(5);

/// Plays steps one after the other; the milliseconds it took.
async fn play_steps(cluster: &LocalCluster, steps: &[Step]) -> Result<f64, Error> {
    let start = Instant::now();
    for step in steps {
        step.play(&cluster.processes[step.node].client).await?;
        tokio::time::sleep(STEP_PAUSE).await;
    }
    Ok(millis(start.elapsed()))
}

async fn keep_up(cluster: &LocalCluster, output: Output) -> Result<(), Error> {
    output.say("\nThe nodes stay up; Ctrl-C stops them. Try:");
    for process in &cluster.processes {
        output.say(format!("  folkmoot status --api {}", process.ready.api));
    }
    let first = cluster.processes.first().map(|process| process.ready.api.as_str()).unwrap_or_default();
    output.say(format!("  folkmoot get vms/vm-07 --api {first}\n  folkmoot watch --api {first}"));
    tokio::signal::ctrl_c().await.map_err(|error| Error::Failed(format!("cannot listen for Ctrl-C: {error}")))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
