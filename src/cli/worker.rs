//! `worker`: who is there, and which worker could take a piece of work.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::output::Output;

/// Workers: who is there, what each offers, and which could take a piece of work.
///
/// A node keeps the worker of its own host alive. A program that is a worker itself registers, and then says every few
/// seconds that it is there: after 15 s of silence a worker is given nothing.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot worker register w1 --cpus 8 --memory-mb 16384 --label zone=eu
  folkmoot worker heartbeat w1 --running t-1,t-2
  folkmoot worker ls --active --labels zone=eu
  folkmoot worker assign --cpus 2 --memory-mb 2048 --labels zone=eu   the one with the most room first
  folkmoot worker drain w1                                            gives it nothing new
  folkmoot worker undrain w1
  folkmoot worker leave w1")]
pub struct WorkerArgs {
    #[command(subcommand)]
    command: WorkerCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum WorkerCommand {
    /// Say that a worker is there, and what it offers
    Register {
        id: String,
        #[command(flatten)]
        spec: SpecArgs,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Change what it offers and its labels, without saying that it is there
    Update {
        id: String,
        #[command(flatten)]
        spec: SpecArgs,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say that it is there
    Heartbeat {
        id: String,
        /// All that it runs; `--running ''` is nothing. What is new is counted as started, what is no more as finished
        #[arg(long, value_name = "TASKS", value_delimiter = ',')]
        running: Option<Vec<String>>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Give it nothing new
    Drain {
        id: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Let it take work again
    Undrain {
        id: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say that it is gone
    Leave {
        id: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show one
    Show {
        id: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List them
    Ls {
        /// Only those that are there and take work
        #[arg(long)]
        active: bool,
        /// Only those of which this was said
        #[arg(long, value_parser = ["active", "draining", "gone", "unknown"])]
        status: Option<String>,
        /// Only those with these labels
        #[arg(long, value_name = "NAME=VALUE,…")]
        labels: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List the active workers that could take this, the one with the most room first
    Assign {
        #[command(flatten)]
        needs: ResourceArgs,
        /// Only those with these labels
        #[arg(long, value_name = "NAME=VALUE,…", value_parser = labels)]
        labels: Option<Map<String, Value>>,
        #[arg(long, default_value_t = 10)]
        limit: u64,
        #[command(flatten)]
        api: ApiArg,
    },
}

#[derive(Debug, Clone, Args)]
struct ResourceArgs {
    #[arg(long)]
    cpus: Option<u64>,
    #[arg(long)]
    memory_mb: Option<u64>,
    /// Another resource, in whole numbers; repeat it for more
    #[arg(long = "resource", value_name = "NAME=AMOUNT", value_parser = resource)]
    resources: Vec<(String, u64)>,
}

impl ResourceArgs {
    fn named(&self) -> Map<String, Value> {
        let own = [("cpus", self.cpus), ("memory_mb", self.memory_mb)];
        let own = own.into_iter().filter_map(|(name, amount)| Some((name.to_owned(), amount?)));
        own.chain(self.resources.iter().cloned()).map(|(name, amount)| (name, amount.into())).collect()
    }
}

#[derive(Debug, Clone, Args)]
struct SpecArgs {
    #[command(flatten)]
    capacity: ResourceArgs,
    /// A label; repeat it for more
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Take a label away; repeat it for more
    #[arg(long = "no-label", value_name = "NAME")]
    no_labels: Vec<String>,
}

impl SpecArgs {
    /// Capacity is one value: what is named here is all of it.
    fn body(&self) -> Value {
        let set = self.labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        let unset = self.no_labels.iter().map(|name| (name.clone(), Value::Null));
        let mut body = json!({ "labels": set.chain(unset).collect::<Map<_, _>>() });
        let capacity = self.capacity.named();
        if !capacity.is_empty() {
            body["capacity"] = capacity.into();
        }
        body
    }
}

pub async fn worker(args: WorkerArgs, output: Output) -> Result<(), Error> {
    match args.command {
        WorkerCommand::Register { id, spec, api } => {
            let receipt = ask(&api.client()?, Method::PUT, &path(&id, ""), Some(spec.body())).await?;
            output.either(&receipt, || format!("worker {id} is there"))
        }
        WorkerCommand::Update { id, spec, api } => {
            let receipt = ask(&api.client()?, Method::PATCH, &path(&id, ""), Some(spec.body())).await?;
            output.either(&receipt, || format!("worker {id} is changed"))
        }
        WorkerCommand::Heartbeat { id, running, api } => {
            let tasks = |tasks: Vec<String>| tasks.into_iter().filter(|task| !task.is_empty()).collect::<Vec<_>>();
            let body = json!({ "running_tasks": running.map(tasks) });
            let receipt = ask(&api.client()?, Method::POST, &path(&id, "/heartbeat"), Some(body)).await?;
            output.either(&receipt, || format!("worker {id} is there"))
        }
        WorkerCommand::Drain { id, api } => {
            let receipt = ask(&api.client()?, Method::POST, &path(&id, "/drain"), None).await?;
            output.either(&receipt, || format!("worker {id} is given nothing new"))
        }
        WorkerCommand::Undrain { id, api } => {
            let receipt = ask(&api.client()?, Method::DELETE, &path(&id, "/drain"), None).await?;
            output.either(&receipt, || format!("worker {id} takes work again"))
        }
        WorkerCommand::Leave { id, api } => {
            let receipt = ask(&api.client()?, Method::DELETE, &path(&id, ""), None).await?;
            output.either(&receipt, || format!("worker {id} is gone"))
        }
        WorkerCommand::Show { id, api } => {
            let worker: Value = api.client()?.read(&path(&id, "")).await?;
            output.pretty(&worker)
        }
        WorkerCommand::Ls { active, status, labels, api } => {
            let asked = [("active", active.then(|| "true".to_owned())), ("status", status), ("labels", labels)];
            list(&api.client()?, &asked, output).await
        }
        WorkerCommand::Assign { needs, labels, limit, api } => {
            let body = json!({ "needs": needs.named(), "labels": labels.unwrap_or_default(), "limit": limit });
            let ranked = ask(&api.client()?, Method::POST, "/v1/assign", Some(body)).await?;
            if ranked["candidates"].as_array().is_none_or(Vec::is_empty) {
                return Err(Error::Nothing("no active worker could take it".to_owned()));
            }
            if output.json {
                return output.compact(&ranked);
            }
            for candidate in ranked["candidates"].as_array().into_iter().flatten() {
                let worker = candidate["worker"].as_str().unwrap_or("-");
                output.line(format!("{worker}\t{}\t{}", candidate["fits"], candidate["free"]))?;
            }
            Ok(())
        }
    }
}

async fn list(client: &Client, asked: &[(&str, Option<String>)], output: Output) -> Result<(), Error> {
    let mut after = None;
    loop {
        let asked: Vec<_> = asked.iter().cloned().chain([("after", after)]).collect();
        let page: Value = client.read(&format!("/v1/workers{}", query(&asked))).await?;
        for worker in page["items"].as_array().into_iter().flatten() {
            let text = |key: &str| worker[key].as_str().unwrap_or("-").to_owned();
            let running = worker["running_tasks"].as_array().map_or(0, Vec::len);
            match output.json {
                true => output.compact(worker)?,
                false => {
                    output.line(format!("{}\t{}\t{running}\t{}", text("id"), text("state"), worker["capacity"]))?
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
    format!("/v1/workers/{}{more}", encode(id, false))
}

async fn ask(client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Value, Error> {
    let answer = client.send(method, path, body.map(Body::json), &Terms::default()).await?;
    client.parse(&answer)
}

fn label(text: &str) -> Result<(String, String), String> {
    let split = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    split.ok_or_else(|| "give a label's name and its value: zone=eu".to_owned())
}

fn labels(text: &str) -> Result<Map<String, Value>, String> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs.map(|pair| label(pair).map(|(name, value)| (name, value.into()))).collect()
}

fn resource(text: &str) -> Result<(String, u64), String> {
    let split = text.split_once('=').and_then(|(name, amount)| Some((name.to_owned(), amount.parse().ok()?)));
    split.ok_or_else(|| "give a resource's name and how much: gpus=2".to_owned())
}
