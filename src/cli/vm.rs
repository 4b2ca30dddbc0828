//! `vm`: virtual machines, each run by one worker at a time.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::input;
use crate::cli::output::Output;
use crate::sim::duration::Millis;

/// Virtual machines: who runs one is decided by a quorum, everything else about it merges.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot vm create 7 --cpus 2 --memory-mb 2048 --disk root=10240
  folkmoot vm run 7 --worker ash --lease 30s             prints the token; exits with 6 while another runs it
  folkmoot vm run 7 --worker oak --lease 30s --wait 30s  takes over once ash's lease ran out
  folkmoot vm renew 7 --token 5
  folkmoot vm stop 7 --worker ash --token 5
  folkmoot vm migrate 7 --token 5 --to oak
  folkmoot vm grow 7 root 20480
  folkmoot vm snapshot 7 before-upgrade

Without a quorum nobody is given a VM to run, and the exit code is 7.")]
pub struct VmArgs {
    #[command(subcommand)]
    command: VmCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum VmCommand {
    /// Make a VM, which nobody runs yet
    Create {
        id: String,
        #[arg(long)]
        cpus: u32,
        #[arg(long)]
        memory_mb: u64,
        /// A disk and its size in MiB; repeat it for more
        #[arg(long = "disk", value_name = "ID=MIB", value_parser = disk)]
        disks: Vec<(String, u64)>,
        /// What is known of each interface, as a JSON object
        #[arg(long, value_name = "JSON", default_value = "{}")]
        network: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Have a quorum decide that a worker runs it, and print the token
    Run {
        id: String,
        #[arg(long)]
        worker: String,
        #[arg(long, default_value = "30s")]
        lease: Millis,
        /// Wait for at most so long while another runs it (up to 30s)
        #[arg(long, default_value = "0ms")]
        wait: Millis,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Begin the lease anew
    Renew {
        id: String,
        #[arg(long)]
        token: u64,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say that the worker has stopped it, and let another run it
    Stop {
        id: String,
        #[arg(long)]
        worker: String,
        #[arg(long)]
        token: u64,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Note where it goes; once it is stopped here, the other runs it
    Migrate {
        id: String,
        #[arg(long)]
        token: u64,
        #[arg(long, value_name = "WORKER")]
        to: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Make a disk, or make it larger
    Grow {
        id: String,
        disk: String,
        /// MiB
        size_mb: u64,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Add a snapshot, or hide one
    Snapshot {
        id: String,
        name: String,
        #[arg(long)]
        hide: bool,
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
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn vm(args: VmArgs, output: Output) -> Result<(), Error> {
    match args.command {
        VmCommand::Create { id, cpus, memory_mb, disks, network, api } => {
            let disks: serde_json::Map<String, Value> = disks.into_iter().map(|(disk, mb)| (disk, mb.into())).collect();
            let spec =
                json!({ "cpus": cpus, "memory_mb": memory_mb, "disks": disks, "network": input::fields(&network)? });
            let receipt = ask(&api.client()?, Method::POST, &path(&id, ""), spec).await?;
            output.either(&receipt, || format!("made VM {id}"))
        }
        VmCommand::Run { id, worker, lease, wait, api } => {
            let body = json!({ "worker": worker, "lease_ms": lease.0, "wait_ms": wait.0 });
            let run = ask(&api.client()?, Method::POST, &path(&id, "/run"), body).await?;
            output.say(format!("{worker} runs VM {id} for {lease}, under this token"));
            output.either(&run, || run["token"].to_string())
        }
        VmCommand::Renew { id, token, api } => {
            let run = ask(&api.client()?, Method::PUT, &path(&id, "/run"), json!({ "token": token })).await?;
            output.either(&run, || format!("renewed for {} ms", run["expires_in_ms"]))
        }
        VmCommand::Stop { id, worker, token, api } => {
            let body = json!({ "worker": worker, "token": token });
            let stopped = ask(&api.client()?, Method::DELETE, &path(&id, "/run"), body).await?;
            output.either(&stopped, || match stopped["cause"].as_str() {
                None => format!("VM {id} is free"),
                Some(cause) => format!("{worker} has stopped VM {id}; its lease runs out by itself: {cause}"),
            })
        }
        VmCommand::Migrate { id, token, to, api } => {
            let body = json!({ "token": token, "to": to });
            let migration = ask(&api.client()?, Method::POST, &path(&id, "/migrate"), body).await?;
            output.either(&migration, || format!("VM {id} goes to {to} once it is stopped"))
        }
        VmCommand::Grow { id, disk, size_mb, api } => {
            let body = json!({ "disk": disk, "size_mb": size_mb });
            let receipt = ask(&api.client()?, Method::POST, &path(&id, "/disks"), body).await?;
            output.either(&receipt, || format!("disk {disk} of VM {id} has {size_mb} MiB"))
        }
        VmCommand::Snapshot { id, name, hide, api } => {
            let body = json!({ "name": name, "hidden": hide });
            let receipt = ask(&api.client()?, Method::POST, &path(&id, "/snapshots"), body).await?;
            output
                .either(&receipt, || format!("snapshot {name} of VM {id} is {}", if hide { "hidden" } else { "there" }))
        }
        VmCommand::Show { id, api } => {
            let vm: Value = api.client()?.read(&path(&id, "")).await?;
            if vm["split"] == true {
                output.say(format!("more than one worker says to run VM {id}"));
            }
            output.pretty(&vm)
        }
        VmCommand::Ls { api } => list(&api.client()?, output).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), Error> {
    let mut after = None;
    loop {
        let page: Value = client.read(&format!("/v1/vms{}", query(&[("after", after)]))).await?;
        for vm in page["items"].as_array().into_iter().flatten() {
            let text = |key: &str| vm[key].as_str().unwrap_or("-").to_owned();
            let split = if vm["split"] == true { "\tSPLIT" } else { "" };
            match output.json {
                true => output.compact(vm)?,
                false => output.line(format!("{}\t{}\t{}{split}", text("id"), text("power"), text("host")))?,
            }
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(());
        }
    }
}

fn path(id: &str, more: &str) -> String {
    format!("/v1/vms/{}{more}", encode(id, false))
}

async fn ask(client: &Client, method: Method, path: &str, body: Value) -> Result<Value, Error> {
    let answer = client.send(method, path, Some(Body::json(body)), &Terms::default()).await?;
    client.parse(&answer)
}

fn disk(text: &str) -> Result<(String, u64), String> {
    let split = text.split_once('=').and_then(|(disk, mb)| Some((disk.to_owned(), mb.parse().ok()?)));
    split.ok_or_else(|| "give a disk's id and its size in MiB: root=10240".to_owned())
}
