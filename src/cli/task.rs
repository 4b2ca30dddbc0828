//! `task`: work, each piece at one worker at a time.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::input;
use crate::cli::output::Output;
use crate::sim::duration::Millis;

/// Tasks: who has one, and what becomes of it, is decided by a quorum; making one needs none
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot task create t1 --queue mail --payload '{\"to\":\"ada\"}'
  folkmoot task claim t1 --worker ash --lease 30s        prints the token; exits with 6 while another has it
  folkmoot task start t1 --token 5
  folkmoot task progress t1 60
  folkmoot task extend t1 --token 5                      says so if the task is to be cancelled
  folkmoot task complete t1 --token 5 --result '{\"sent\":true}'
  folkmoot task fail t1 --token 5 --error 'no route'     tried again later, while attempts are left
  folkmoot task give-back t1 --token 5
  folkmoot task cancel t1
  folkmoot task ls --queue mail --state failed           the dead letters of a queue
  folkmoot task retry t1

Without a quorum nobody is given a task, and the exit code is 7. `folkmoot queue claim` hands out the next of a queue.")]
pub struct TaskArgs {
    #[command(subcommand)]
    command: TaskCommand,
}

/// What a task is made of.
#[derive(Debug, Clone, Args)]
pub struct SpecArgs {
    /// What the worker is to do, as JSON
    #[arg(long, value_name = "JSON", default_value = "null")]
    payload: String,
    /// A higher one is handed out first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
    #[arg(long, value_name = "N", default_value_t = 5)]
    max_attempts: u32,
    /// Before the second attempt; doubled before each further one
    #[arg(long, value_name = "TIME", default_value = "1s")]
    backoff: Millis,
    /// Not handed out before so long
    #[arg(long, value_name = "TIME", default_value = "0s")]
    delay: Millis,
}

/// Whose word it is.
#[derive(Debug, Clone, Args)]
struct Held {
    id: String,
    /// As the claim printed it
    #[arg(long)]
    token: u64,
    #[command(flatten)]
    api: ApiArg,
}

#[derive(Debug, Clone, Args)]
struct Named {
    id: String,
    #[command(flatten)]
    api: ApiArg,
}

#[derive(Debug, Clone, Subcommand)]
enum TaskCommand {
    /// Make one
    Create {
        id: String,
        #[arg(long, default_value = "default")]
        queue: String,
        #[command(flatten)]
        spec: SpecArgs,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Get one for a worker; prints the token
    Claim {
        id: String,
        #[arg(long)]
        worker: String,
        /// How long it is the worker's unless extended
        #[arg(long, value_name = "TIME", default_value = "30s")]
        lease: Millis,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Begin the lease anew
    Extend(Held),
    /// Say that the worker has begun
    Start(Held),
    /// Say how far the worker has come, in JSON
    Progress {
        id: String,
        #[arg(value_name = "JSON")]
        progress: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say that it is done
    Complete {
        #[command(flatten)]
        held: Held,
        #[arg(long, value_name = "JSON", default_value = "null")]
        result: String,
    },
    /// Say that the attempt failed
    Fail {
        #[command(flatten)]
        held: Held,
        #[arg(long, value_name = "TEXT")]
        error: String,
        /// It has failed for good
        #[arg(long)]
        no_retry: bool,
    },
    /// Let it go, as if it had not been claimed
    GiveBack {
        #[command(flatten)]
        held: Held,
        /// Because it was to be cancelled
        #[arg(long)]
        cancelled: bool,
    },
    /// Have nobody begin it, and have whoever has it stop
    Cancel(Named),
    /// Try one anew that has failed for good
    Retry(Named),
    /// Show one
    Show(Named),
    /// List them
    Ls {
        #[arg(long)]
        queue: Option<String>,
        /// pending, claimed, running, done, failed or cancelled
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn task(args: TaskArgs, output: Output) -> Result<(), Error> {
    match args.command {
        TaskCommand::Create { id, queue, spec, api } => {
            let mut body = spec.body();
            body["queue"] = queue.into();
            let receipt = ask(&api.client()?, Method::POST, &path(&id, ""), Some(body)).await?;
            output.either(&receipt, || format!("made task {id}"))
        }
        TaskCommand::Claim { id, worker, lease, api } => {
            let body = json!({ "worker": worker, "lease_ms": lease.0 });
            let claim = ask(&api.client()?, Method::POST, &path(&id, "/claim"), Some(body)).await?;
            output.say(format!("{worker} has task {id} for {lease}, under this token"));
            output.either(&claim, || claim["token"].to_string())
        }
        TaskCommand::Extend(held) => {
            let extended = held.ask(Method::PUT, "/claim", json!({})).await?;
            output.either(&extended, || match extended["cancel"] == true {
                true => format!("extended for {} ms; the task is to be cancelled", extended["expires_in_ms"]),
                false => format!("extended for {} ms", extended["expires_in_ms"]),
            })
        }
        TaskCommand::Start(held) => held.tell(Method::POST, "/start", json!({}), output).await,
        TaskCommand::Progress { id, progress, api } => {
            let body = json!({ "progress": input::value(&progress) });
            let receipt = ask(&api.client()?, Method::POST, &path(&id, "/progress"), Some(body)).await?;
            output.either(&receipt, || format!("task {id} is at {progress}"))
        }
        TaskCommand::Complete { held, result } => {
            held.tell(Method::POST, "/complete", json!({ "result": input::value(&result) }), output).await
        }
        TaskCommand::Fail { held, error, no_retry } => {
            held.tell(Method::POST, "/fail", json!({ "error": error, "retry": !no_retry }), output).await
        }
        TaskCommand::GiveBack { held, cancelled } => {
            held.tell(Method::DELETE, "/claim", json!({ "cancelled": cancelled }), output).await
        }
        TaskCommand::Cancel(named) => {
            let task = ask(&named.api.client()?, Method::POST, &path(&named.id, "/cancel"), None).await?;
            output.either(&task, || match task["state"] == "cancelled" {
                true => format!("task {} is cancelled", named.id),
                false if word(&task) == "pending" => {
                    format!(
                        "task {} is handed to nobody any more; it is cancelled as soon as voters hear of it",
                        named.id
                    )
                }
                false => format!("task {} is {}; it is cancelled once its worker heard of it", named.id, word(&task)),
            })
        }
        TaskCommand::Retry(named) => {
            let task = ask(&named.api.client()?, Method::POST, &path(&named.id, "/retry"), None).await?;
            output.either(&task, || format!("task {} is {}", named.id, word(&task)))
        }
        TaskCommand::Show(named) => {
            let task: Value = named.api.client()?.read(&path(&named.id, "")).await?;
            output.pretty(&task)
        }
        TaskCommand::Ls { queue, state, api } => list(&api.client()?, queue, state, output).await,
    }
}

impl SpecArgs {
    pub fn body(&self) -> Value {
        json!({
            "payload": input::value(&self.payload), "priority": self.priority, "max_attempts": self.max_attempts,
            "backoff_ms": self.backoff.0, "delay_ms": self.delay.0,
        })
    }
}

impl Held {
    async fn ask(&self, method: Method, more: &str, mut body: Value) -> Result<Value, Error> {
        body["token"] = self.token.into();
        ask(&self.api.client()?, method, &path(&self.id, more), Some(body)).await
    }

    async fn tell(&self, method: Method, more: &str, body: Value, output: Output) -> Result<(), Error> {
        let task = self.ask(method, more, body).await?;
        output.either(&task, || format!("task {} is {}", self.id, word(&task)))
    }
}

fn word(task: &Value) -> &str {
    task["state"].as_str().unwrap_or("unknown")
}

async fn list(client: &Client, queue: Option<String>, state: Option<String>, output: Output) -> Result<(), Error> {
    let mut after = None;
    loop {
        let filter = query(&[("queue", queue.clone()), ("state", state.clone()), ("after", after)]);
        let page: Value = client.read(&format!("/v1/tasks{filter}")).await?;
        for task in page["items"].as_array().into_iter().flatten() {
            let text = |key: &str| task[key].as_str().unwrap_or("-").to_owned();
            match output.json {
                true => output.compact(task)?,
                false => {
                    let attempts = format!("{}/{}", task["attempt"], task["max_attempts"]);
                    let columns = [text("id"), text("queue"), text("state"), attempts, text("worker"), text("error")];
                    output.line(columns.join("\t"))?;
                }
            }
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(());
        }
    }
}

fn path(id: &str, more: &str) -> String {
    format!("/v1/tasks/{}{more}", encode(id, false))
}

pub(super) async fn ask(client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Value, Error> {
    let answer = client.send(method, path, body.map(Body::json), &Terms::default()).await?;
    client.parse(&answer)
}
