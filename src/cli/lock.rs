//! `lock` and `voters`: what takes a quorum.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Body, Client, Terms};
use crate::cli::conflicts::whoever;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::sim::duration::Millis;

/// Get, renew and give back locks of the cluster.
///
/// A lock has one holder at a time. Its token grows whenever the holder changes: hand it to what the lock protects, and
/// have it refuse a token below the highest it has seen. The lease only frees the lock of a holder that is gone; a holder
/// that was paused for longer than its lease does not know that another has the lock.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot lock acquire vm/7 --lease 30s             prints the token; exits with 6 when another has the lock
  folkmoot lock acquire vm/7 --lease 30s --wait 20s  waits in its queue
  folkmoot lock renew vm/7 --token 5
  folkmoot lock release vm/7 --token 5
  folkmoot lock show vm/7
  folkmoot lock ls

Without a quorum nothing is changed, and the exit code is 7.")]
pub struct LockArgs {
    #[command(subcommand)]
    command: LockCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum LockCommand {
    /// Get a lock for a lease, and print its token
    Acquire {
        name: String,
        /// Who holds it, for people [default: $USER at this host]
        #[arg(long)]
        holder: Option<String>,
        #[arg(long, default_value = "30s")]
        lease: Millis,
        /// Stand in the queue for at most so long (up to 30s)
        #[arg(long, default_value = "0ms")]
        wait: Millis,
        /// 32 hex digits drawn at random: asked again with the same, it comes to the same grant
        #[arg(long, value_name = "HEX")]
        request: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Begin the lease anew
    Renew {
        name: String,
        #[arg(long)]
        token: u64,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Give a lock back
    Release {
        name: String,
        #[arg(long)]
        token: u64,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List the locks that somebody holds, as this node knows them as a voter
    Ls {
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say who has a lock and who waits for it
    Show {
        name: String,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn lock(args: LockArgs, output: Output) -> Result<(), Error> {
    match args.command {
        LockCommand::Acquire { name, holder, lease, wait, request, api } => {
            let holder = whoever(holder);
            let mut body = json!({ "holder": holder, "lease_ms": lease.0, "wait_ms": wait.0 });
            if let Some(request) = request {
                body["request"] = request.into();
            }
            let grant = ask(&api.client()?, Method::POST, &name, body).await?;
            output.say(format!("{name} is held by {holder} for {lease}, under this token"));
            output.either(&grant, || grant["token"].to_string())
        }
        LockCommand::Renew { name, token, api } => {
            let grant = ask(&api.client()?, Method::PUT, &name, json!({ "token": token })).await?;
            output.either(&grant, || format!("renewed for {} ms", grant["expires_in_ms"]))
        }
        LockCommand::Release { name, token, api } => {
            let released = ask(&api.client()?, Method::DELETE, &name, json!({ "token": token })).await?;
            output.either(&released, || format!("{name} is free"))
        }
        LockCommand::Show { name, api } => {
            let lock: Value = api.client()?.read(&path(&name)).await?;
            output.either(&lock, || line(&lock))
        }
        LockCommand::Ls { api } => list(&api.client()?, output).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page: Value = client.read(&format!("/v1/locks{}", query(&[("after", after)]))).await?;
        if page["is_voter"] != true {
            output.say("this node is no voter and knows of no locks: ask one of `folkmoot voters`");
        }
        for lock in page["items"].as_array().into_iter().flatten() {
            if output.json { output.compact(lock)? } else { output.line(line(lock))? }
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(());
        }
    }
}

fn line(lock: &Value) -> String {
    let name = lock["name"].as_str().unwrap_or_default();
    let holder = lock["holder"].as_str().unwrap_or("nobody");
    let waiting = lock["waiting"].as_array().map_or(0, Vec::len);
    let lease = lock["lease_ms"].as_u64().map_or_else(|| "-".to_owned(), |ms| format!("lease {ms} ms"));
    format!("{name}\t{holder}\ttoken {}\t{lease}\t{waiting} waiting", lock["token"])
}

fn path(name: &str) -> String {
    format!("/v1/locks/{}", encode(name, true))
}

async fn ask(client: &Client, method: Method, name: &str, body: Value) -> Result<Value, Error> {
    let answer = client.send(method, &path(name), Some(Body::json(body)), &Terms::default()).await?;
    client.parse(&answer)
}

/// Say whose word counts, and whether this node reaches enough of them.
#[derive(Debug, Clone, Args)]
pub struct VotersArgs {
    #[command(flatten)]
    api: ApiArg,
}

pub async fn voters(args: VotersArgs, output: Output) -> Result<(), Error> {
    let voters: Value = args.api.client()?.read("/v1/voters").await?;
    let quorum = if voters["quorum"] == true { "a quorum is reached" } else { "no quorum is reached" };
    let changing = if voters["changing"] == true { ", changing" } else { "" };
    output.say(format!("version {}{changing}; {quorum} from here", voters["version"]));
    if output.json {
        return output.compact(&voters);
    }
    for node in voters["voters"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output.line(node)?;
    }
    Ok(())
}
