//! `replica`: the incarnations of nodes, and how a quorum fences one.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Client};
use crate::cli::conflicts::whoever;
use crate::cli::exit::Error;
use crate::cli::output::Output;

/// Replicas: each start of a node writes as one. A quorum can fence one whose writes are not to be trusted.
///
/// What a fenced replica wrote after a seq is kept aside at every node, until somebody releases or discards it. What some
/// member took in before it heard of the fence stays: write it over.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot replica ls --of node-3
  folkmoot replica fence 4f2c --reason 'its host was broken into'
  folkmoot replica fence 4f2c --seq 1200
  folkmoot replica show 4f2c                what is kept aside of it
  folkmoot replica release 4f2c
  folkmoot replica discard 4f2c --yes       for good")]
pub struct ReplicaArgs {
    #[command(subcommand)]
    command: ReplicaCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum ReplicaCommand {
    /// List them: how far this node took each in, and whether it is fenced
    Ls {
        /// Only those of this member, by its name or its node id
        #[arg(long, value_name = "NODE")]
        of: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show one
    Show {
        /// Its id, or the beginning of it
        id: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Have what it wrote after a seq kept aside, by a quorum
    Fence {
        /// Its id, or the beginning of it
        id: String,
        /// The last of its ops that is let in [default: all that this node took in]
        #[arg(long)]
        seq: Option<u64>,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Take in what was kept aside, and let it go on
    Release {
        /// Its id, or the beginning of it
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Give up what was kept aside, for good
    Discard {
        /// Its id, or the beginning of it
        id: String,
        /// Why, for the record
        #[arg(long, default_value = "")]
        reason: String,
        /// Do it; without this, only say what would happen
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn replica(args: ReplicaArgs, output: Output) -> Result<(), Error> {
    match args.command {
        ReplicaCommand::Ls { of, api } => list(&api.client()?, of, output).await,
        ReplicaCommand::Show { id, api } => show(&api.client()?, &id, output).await,
        ReplicaCommand::Fence { id, seq, reason, api } => {
            let body = match seq {
                Some(seq) => json!({ "seq": seq, "reason": reason }),
                None => json!({ "reason": reason }),
            };
            decide(&api.client()?, &id, "fence", body, output).await
        }
        ReplicaCommand::Release { id, reason, api } => {
            decide(&api.client()?, &id, "release", json!({ "reason": reason }), output).await
        }
        ReplicaCommand::Discard { id, yes: false, api, .. } => {
            let replica = read(&api.client()?, &id).await?;
            output.say(format!(
                "{}\nIt would end there for good: what is kept aside would be gone, and so would what only its node has; that \
                 begins anew with what the others have. Add --yes to do it",
                told(&replica)
            ));
            Ok(())
        }
        ReplicaCommand::Discard { id, reason, yes: true, api } => {
            decide(&api.client()?, &id, "discard", json!({ "reason": reason }), output).await
        }
    }
}

async fn read(client: &Client, id: &str) -> Result<Value, Error> {
    client.read(&format!("/v1/replicas/{}", encode(id, false))).await
}

async fn list(client: &Client, of: Option<String>, output: Output) -> Result<(), Error> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "NODE", "SEQ", "FENCE", "ASIDE"]);
    let mut after = None;
    loop {
        let asked = query(&[("of", of.clone()), ("after", after)]);
        let page: Value = client.read(&format!("/v1/replicas{asked}")).await?;
        for replica in page["items"].as_array().into_iter().flatten() {
            if output.json {
                output.compact(replica)?;
            }
            let (id, seq) = (text(&replica["id"]).to_owned(), replica["seq"].to_string());
            table.add_row([id, called(replica), seq, fence(replica), replica["aside"]["batches"].to_string()]);
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return if output.json { Ok(()) } else { output.line(table.trim_fmt()) };
        }
    }
}

async fn show(client: &Client, id: &str, output: Output) -> Result<(), Error> {
    let replica = read(client, id).await?;
    output.either(&replica, || told(&replica))
}

async fn decide(client: &Client, id: &str, verb: &str, body: Value, output: Output) -> Result<(), Error> {
    let path = format!("/v1/replicas/{}/{verb}{}", encode(id, false), query(&[("by", Some(whoever(None)))]));
    let replica: Value = client.parse(&client.post(&path, body).await?)?;
    output.either(&replica, || told(&replica))
}

fn told(replica: &Value) -> String {
    let aside = &replica["aside"];
    let mut said = format!("{} of {}, taken in here up to {}", text(&replica["id"]), called(replica), replica["seq"]);
    if replica["fence"].is_object() {
        let by = text(&replica["fence"]["by"]);
        said.push_str(&format!("\n{} (by {by})", fence(replica)));
    }
    if let Some(reason) = replica["fence"]["reason"].as_str().filter(|reason| !reason.is_empty()) {
        said.push_str(&format!(": {reason}"));
    }
    let (here, told) = (replica["seq"].as_u64().unwrap_or_default(), replica["told"].as_u64().unwrap_or_default());
    if told > here {
        said.push_str(&format!("\nits node has {} ops more", told - here));
    }
    if let Some(stay) = replica["fence"]["seq"].as_u64().and_then(|seq| here.checked_sub(seq)).filter(|stay| *stay > 0)
    {
        said.push_str(&format!("\n{stay} ops after the fence were taken in before it, and stay"));
    }
    if aside["batches"] != 0 {
        said.push_str(&format!("\n{} kept aside here, {} bytes", batches(&aside["batches"]), aside["bytes"]));
    }
    if aside["dropped"] != 0 {
        said.push_str(&format!("\n{} dropped, since there was no room", batches(&aside["dropped"])));
    }
    said
}

fn fence(replica: &Value) -> String {
    match replica["fence"]["state"].as_str() {
        Some("fenced") => format!("fenced after {}", replica["fence"]["seq"]),
        Some("discarded") => format!("discarded after {}", replica["fence"]["seq"]),
        Some(state) => state.to_owned(),
        None => String::new(),
    }
}

fn called(replica: &Value) -> String {
    match text(&replica["name"]) {
        "" => text(&replica["node"]).to_owned(),
        name => name.to_owned(),
    }
}

fn batches(count: &Value) -> String {
    match count.as_u64().unwrap_or_default() {
        1 => "1 batch".to_owned(),
        count => format!("{count} batches"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
