//! `queue`: tasks by the name of their queue.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::address::encode;
use crate::cli::client::ApiArg;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::task::{SpecArgs, ask};
use crate::sim::duration::Millis;

/// Queues: tasks by name, handed out to whoever asks, the urgent and the old ones first
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot queue push mail --payload '{\"to\":\"ada\"}'           prints the id of the new task
  folkmoot queue claim mail --worker ash --lease 30s --wait 10s  prints the task's id, its token and its payload
  folkmoot queue show mail
  folkmoot queue ls

Whoever claimed a task says what came of it by `folkmoot task complete|fail|give-back`. A queue with nothing to hand out is
no error: `claim` prints nothing then, and exits with 4.")]
pub struct QueueArgs {
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum QueueCommand {
    /// Make a task in it; prints the task's id
    Push {
        queue: String,
        #[command(flatten)]
        spec: SpecArgs,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Get the next task for a worker
    Claim {
        queue: String,
        #[arg(long)]
        worker: String,
        /// How long it is the worker's unless extended
        #[arg(long, value_name = "TIME", default_value = "30s")]
        lease: Millis,
        /// How long to wait for one
        #[arg(long, value_name = "TIME", default_value = "0s")]
        wait: Millis,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show how many tasks stand where
    Show {
        queue: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List the queues that hold a task
    Ls {
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn queue(args: QueueArgs, output: Output) -> Result<(), Error> {
    match args.command {
        QueueCommand::Push { queue, spec, api } => {
            let pushed = ask(&api.client()?, Method::POST, &path(&queue, ""), Some(spec.body())).await?;
            output.either(&pushed, || pushed["id"].as_str().unwrap_or_default().to_owned())
        }
        QueueCommand::Claim { queue, worker, lease, wait, api } => {
            let body = json!({ "worker": worker, "lease_ms": lease.0, "wait_ms": wait.0 });
            let claim = ask(&api.client()?, Method::POST, &path(&queue, "/claim"), Some(body)).await?;
            let task = &claim["task"];
            if task.is_null() {
                return Err(Error::Nothing(format!("queue {queue} has nothing to hand out")));
            }
            output.either(&claim, || {
                format!("{}\t{}\t{}", task["id"].as_str().unwrap_or_default(), claim["token"], task["payload"])
            })
        }
        QueueCommand::Show { queue, api } => {
            let shown: Value = api.client()?.read(&path(&queue, "")).await?;
            output.either(&shown, || counts(&shown))
        }
        QueueCommand::Ls { api } => {
            let queues: Value = api.client()?.read("/v1/queues").await?;
            for queue in queues["items"].as_array().into_iter().flatten() {
                match output.json {
                    true => output.compact(queue)?,
                    false => output.line(format!("{}\t{}", queue["queue"].as_str().unwrap_or("-"), counts(queue)))?,
                }
            }
            Ok(())
        }
    }
}

/// Those that are there, as in `3 pending, 1 running`.
fn counts(queue: &Value) -> String {
    let tasks = queue["tasks"].as_object().into_iter().flatten();
    let some: Vec<String> =
        tasks.filter(|(_, count)| **count != 0).map(|(state, count)| format!("{count} {state}")).collect();
    if some.is_empty() { "no task".to_owned() } else { some.join(", ") }
}

fn path(queue: &str, more: &str) -> String {
    format!("/v1/queues/{}{more}", encode(queue, false))
}
