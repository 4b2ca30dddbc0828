//! `status`, `peers ls`, `leave`: the cluster as one node sees it.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::client::ApiArg;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::view::{ClusterView, MemberView, short, short_digest};

/// Show the cluster as this node sees it.
///
/// Members and their state, what each has of this node's writes, whether the network is split, digests, counts,
/// alerts.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    api: ApiArg,
}

pub async fn status(args: StatusArgs, output: Output) -> Result<(), Error> {
    let client = args.api.client()?;
    let answer = client.get("/v1/cluster").await?;
    if output.json {
        return output.compact(&client.parse::<Value>(&answer)?);
    }
    let view: ClusterView = client.parse(&answer)?;
    output.line(headline(&view))?;
    output.line(members(&view.members).trim_fmt())?;
    for alert in view.rest.get("alerts").and_then(Value::as_array).into_iter().flatten() {
        output.line(format!("alert: {}", plain(alert)))?;
    }
    Ok(())
}

fn headline(view: &ClusterView) -> String {
    let split = match view.partitioned {
        true => "SPLIT: members cannot be reached",
        false => "whole",
    };
    let mut lines = vec![
        format!("{} ({}), the cluster is {split}", view.name, short(&view.node)),
        format!("clock {}  state {}", short_digest(&view.clock_digest), short_digest(&view.state_digest)),
    ];
    let counted = ["documents", "cells", "bytes", "parked"].into_iter().filter_map(|key| {
        let value = if key == "documents" { json!(view.documents) } else { view.rest.get(key)?.clone() };
        value.is_number().then(|| format!("{value} {key}"))
    });
    lines.push(counted.collect::<Vec<_>>().join(", "));
    lines.join("\n")
}

/// One row for each member. What a node says beyond name, id and state becomes further columns.
fn members(members: &[MemberView]) -> Table {
    let more: Vec<&String> = members.iter().flat_map(|member| member.rest.keys()).collect();
    let mut columns: Vec<&String> = Vec::new();
    for key in more {
        if !columns.contains(&key) {
            columns.push(key);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let fixed = ["NAME", "NODE", "STATE"].map(String::from);
    table.set_header(fixed.into_iter().chain(columns.iter().map(|key| key.to_uppercase())));
    for member in members {
        let fixed = [member.name.clone(), short(&member.node).to_owned(), member.state.clone()];
        let more = columns.iter().map(|key| member.rest.get(*key).map(plain).unwrap_or_default());
        table.add_row(fixed.into_iter().chain(more));
    }
    table
}

/// A value in a table's cell.
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// The nodes this node knows on the network.
#[derive(Debug, Clone, Args)]
pub struct PeersArgs {
    #[command(subcommand)]
    command: PeersCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum PeersCommand {
    /// List them: id, state, addresses, traffic
    Ls {
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn peers(args: PeersArgs, output: Output) -> Result<(), Error> {
    let PeersCommand::Ls { api } = args.command;
    let client = api.client()?;
    let answer: Value = client.read("/v1/peers").await?;
    if output.json {
        return output.compact(&answer);
    }
    let list = answer.get("peers").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
    let read = |peer: Value| serde_json::from_value::<MemberView>(peer);
    let bad = |error: serde_json::Error| Error::Answer { api: client.api().to_owned(), cause: error.to_string() };
    let peers = list.into_iter().map(read).collect::<Result<Vec<_>, _>>().map_err(bad)?;
    output.line(members(&peers).trim_fmt())
}

/// Take this node out of its cluster for good.
///
/// The others stop waiting for it. Its data stays on its disk; to come back, it joins anew.
#[derive(Debug, Clone, Args)]
pub struct LeaveArgs {
    /// Do it; without this, only say what would happen
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    api: ApiArg,
}

pub async fn leave(args: LeaveArgs, output: Output) -> Result<(), Error> {
    let client = args.api.client()?;
    let view = ClusterView::read(&client).await?;
    if !args.yes {
        let (name, id) = (&view.name, short(&view.node));
        return Err(Error::Usage(format!("{name} ({id}) would leave its cluster for good; say --yes to do it")));
    }
    client.post("/v1/leave", json!({})).await?;
    let left = json!({ "node": view.node, "name": view.name, "state": "left" });
    output.either(&left, || format!("{} has left", view.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_what_every_member_says() {
        let member = |value: Value| serde_json::from_value::<MemberView>(value).unwrap();
        let both = [
            member(json!({ "node": "12D3KooWabcdef", "name": "oak", "state": "alive", "has": 7 })),
            member(json!({ "node": "12D3KooWuvwxyz", "name": "ash", "state": "down" })),
        ];
        let text = members(&both).trim_fmt();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["NAME", "NODE", "STATE", "HAS"]);
        assert_eq!(rows[1], ["oak", "abcdef", "alive", "7"]);
        assert_eq!(rows[2], ["ash", "uvwxyz", "down"]);
    }
}
