//! `capacity`: what workers may be given, and what is placed on them.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::output::Output;

/// Capacity of workers: never exceeded, also when both halves of a split place at once.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot capacity set ash memory_mb=65536 cpus=32
  folkmoot capacity place ash vms/7 memory_mb=2048 cpus=2   exits with 5 where there is no room
  folkmoot capacity release ash vms/7
  folkmoot capacity show ash
  folkmoot capacity ls
  folkmoot capacity give-back ash                           what this node holds the right to and does not use
  folkmoot capacity reclaim ash 12D3KooW…/0f3a…             of a replica that is gone; `show` lists those with a right

A node places within the right that it holds without asking anybody. Where it needs more and there is no quorum, the exit code
is 7.")]
pub struct CapacityArgs {
    #[command(subcommand)]
    command: CapacityCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum CapacityCommand {
    /// Have a quorum decide how much a worker has
    Set {
        worker: String,
        #[arg(value_name = "RESOURCE=AMOUNT", value_parser = amount, required = true)]
        limits: Vec<(String, u64)>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Place a thing on a worker, or give it another size
    Place {
        worker: String,
        thing: String,
        #[arg(value_name = "RESOURCE=AMOUNT", value_parser = amount, required = true)]
        amounts: Vec<(String, u64)>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Give a thing's room back
    Release {
        worker: String,
        thing: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Give back what the node holds the right to and does not use
    GiveBack {
        worker: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Have a quorum take back the right of a replica that is gone
    Reclaim {
        worker: String,
        replica: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show one worker
    Show {
        worker: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List the workers that have limits
    Ls {
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn capacity(args: CapacityArgs, output: Output) -> Result<(), Error> {
    match args.command {
        CapacityCommand::Set { worker, limits, api } => {
            let set = ask(&api.client()?, Method::PUT, &path(&worker, ""), Some(object(limits))).await?;
            output.either(&set, || format!("{worker} has {}", list_of(&set["limits"])))
        }
        CapacityCommand::Place { worker, thing, amounts, api } => {
            let path = placement(&worker, &thing);
            let placed = ask(&api.client()?, Method::PUT, &path, Some(object(amounts))).await?;
            output.either(&placed, || format!("{thing} has {} on {worker}", list_of(&placed["amounts"])))
        }
        CapacityCommand::Release { worker, thing, api } => {
            let released = ask(&api.client()?, Method::DELETE, &placement(&worker, &thing), None).await?;
            output.either(&released, || match released["released"].as_str() {
                Some("asked") => format!("{thing} is released on {worker} once whoever placed it hears of it"),
                Some("nothing") => format!("{thing} is not placed on {worker}"),
                _ => format!("{thing} is released on {worker}"),
            })
        }
        CapacityCommand::GiveBack { worker, api } => {
            let given = ask(&api.client()?, Method::POST, &path(&worker, "/give-back"), None).await?;
            output.either(&given, || format!("gave back {}", list_of(&given["given"])))
        }
        CapacityCommand::Reclaim { worker, replica, api } => {
            let body = Some(json!({ "replica": replica }));
            let reclaimed = ask(&api.client()?, Method::POST, &path(&worker, "/reclaim"), body).await?;
            let settled = reclaimed["settled"].as_array().map_or(0, Vec::len);
            output.either(&reclaimed, || {
                format!("{} free on {worker}; placed there and left: {settled}", list_of(&reclaimed["freed"]))
            })
        }
        CapacityCommand::Show { worker, api } => {
            let read: Value = api.client()?.read(&path(&worker, "")).await?;
            let void = read["void"].as_array().map_or(0, Vec::len);
            if void > 0 {
                output
                    .say(format!("{void} of what was placed on {worker} count for nothing and are not to be started"));
            }
            output.pretty(&read)
        }
        CapacityCommand::Ls { api } => list(&api.client()?, output).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page: Value = client.read(&format!("/v1/capacity{}", query(&[("after", after)]))).await?;
        for read in page["items"].as_array().into_iter().flatten() {
            let worker = read["worker"].as_str().unwrap_or("-");
            let (used, limits) = (list_of(&read["used"]), list_of(&read["limits"]));
            match output.json {
                true => output.compact(read)?,
                false => output.line(format!("{worker}\t{used}\tof {limits}"))?,
            }
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(());
        }
    }
}

fn path(worker: &str, more: &str) -> String {
    format!("/v1/capacity/{}{more}", encode(worker, false))
}

fn placement(worker: &str, thing: &str) -> String {
    path(worker, &format!("/placements/{}", encode(thing, true)))
}

async fn ask(client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Value, Error> {
    let answer = client.send(method, path, body.map(Body::json), &Terms::default()).await?;
    client.parse(&answer)
}

fn object(amounts: Vec<(String, u64)>) -> Value {
    Value::Object(amounts.into_iter().map(|(resource, amount)| (resource, amount.into())).collect::<Map<_, _>>())
}

/// `cpus=2 memory_mb=512`.
fn list_of(amounts: &Value) -> String {
    let each = amounts.as_object().into_iter().flatten().map(|(resource, amount)| format!("{resource}={amount}"));
    let text = each.collect::<Vec<_>>().join(" ");
    if text.is_empty() { "nothing".to_owned() } else { text }
}

fn amount(text: &str) -> Result<(String, u64), String> {
    let split = text.split_once('=').and_then(|(resource, amount)| Some((resource.to_owned(), amount.parse().ok()?)));
    split.ok_or_else(|| "give a resource and how much of it: memory_mb=512".to_owned())
}
