//! `status`, `peers`, `leave`: the cluster as one node sees it.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::cli::address::{encode, query};
use crate::cli::client::ApiArg;
use crate::cli::conflicts::whoever;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::traffic::bytes;
use crate::cli::view::{ClusterView, MemberView, PeersView, short, short_digest};

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
    for alert in &view.alerts {
        output.line(format!("alert, {} ago: {}", ago(alert.at), alert.text))?;
    }
    Ok(())
}

fn headline(view: &ClusterView) -> String {
    let away = view.members.iter().filter(|member| !matches!(member.state.as_str(), "alive" | "left"));
    let away: Vec<&str> = away.map(|member| member.name.as_str()).collect();
    let network = match view.partitioned {
        true => format!("SPLIT: {} cannot be reached", away.join(", ")),
        false => String::from("whole"),
    };
    format!(
        "{} ({}) sees the network {network}\nclock {}  state {}\n{} documents, {} cells, {} in memory, {} batches parked",
        view.name,
        short(&view.node),
        short_digest(&view.clock_digest),
        short_digest(&view.state_digest),
        view.documents,
        view.cells,
        bytes(view.bytes),
        view.parked_batches,
    )
}

fn members(members: &[MemberView]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "NODE", "STATE", "HAS OF US", "API", "ADDRESSES"]);
    let mut members: Vec<&MemberView> = members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    for member in members {
        let has = match (member.is_self, member.lacks_of_us) {
            (true, _) => String::from("this node"),
            (_, 0) => String::from("all"),
            (_, lacks) => format!("{} of {}", member.has_of_us, member.has_of_us + lacks),
        };
        let (name, node) = (member.name.clone(), short(&member.node).to_owned());
        table.add_row([name, node, member.state.clone(), has, member.api.clone(), member.addresses.join(" ")]);
    }
    table
}

/// How long before now, in words.
fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let seconds = now.saturating_sub(u128::from(at_ms)) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
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
    /// Take a lost member out of the cluster, by a quorum: nobody waits for it any more
    Evict {
        /// Its node id, or its name
        member: String,
        /// Do it; without this, only say what would happen
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn peers(args: PeersArgs, output: Output) -> Result<(), Error> {
    match args.command {
        PeersCommand::Ls { api } => list_peers(api, output).await,
        PeersCommand::Evict { member, yes, api } => {
            let client = api.client()?;
            let node = named(&ClusterView::read(&client).await?, &member)?;
            if !yes {
                return Err(Error::Usage(format!(
                    "{member} ({node}) would be taken out of the cluster: nobody waits for it any more, and should it come back, what \
                     only it has is taken over and what was removed meanwhile stays removed. Say --yes to do it"
                )));
            }
            let path = format!("/v1/peers/{}{}", encode(&node, false), query(&[("by", Some(whoever(None)))]));
            let evicted: Value = client.parse(&client.delete(&path).await?)?;
            output.either(&evicted, || format!("{member} is no member any more"))
        }
    }
}

/// The id of the member that has this id, or this name and has not left.
fn named(view: &ClusterView, member: &str) -> Result<String, Error> {
    let is_it = |known: &&MemberView| known.node == member || known.name == member && known.state != "left";
    let ids: Vec<&str> = view.members.iter().filter(is_it).map(|known| known.node.as_str()).collect();
    match ids[..] {
        [id] => Ok(id.to_owned()),
        [] => Err(Error::Nothing(format!("no member has the id or the name {member}: `folkmoot status` lists them"))),
        _ => {
            Err(Error::Usage(format!("several members are called {member}: give the id of one, {}", ids.join(" or "))))
        }
    }
}

async fn list_peers(api: ApiArg, output: Output) -> Result<(), Error> {
    let client = api.client()?;
    let answer = client.get("/v1/peers").await?;
    if output.json {
        return output.compact(&client.parse::<Value>(&answer)?);
    }
    let view: PeersView = client.parse(&answer)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "NODE", "LINK", "IN", "OUT", "ADDRESSES", "LAST ERROR"]);
    for peer in view.peers {
        let link = if peer.blocked { String::from("blocked") } else { peer.link };
        let (node, addresses) = (short(&peer.node).to_owned(), peer.addresses.join(" "));
        let (inward, outward) = (bytes(peer.bytes_in), bytes(peer.bytes_out));
        table.add_row([peer.name, node, link, inward, outward, addresses, peer.last_error.unwrap_or_default()]);
    }
    output.line(table.trim_fmt())
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
    fn a_member_that_lacks_writes_shows_how_many_it_has() {
        let member = |value: Value| serde_json::from_value::<MemberView>(value).unwrap();
        let three = [
            member(json!({ "node": "12D3KooWabcdef", "name": "oak", "state": "alive", "self": true })),
            member(json!({ "node": "12D3KooWuvwxyz", "name": "ash", "state": "alive", "has_of_us": 9 })),
            member(json!({ "node": "x", "name": "elm", "state": "down", "has_of_us": 7, "lacks_of_us": 2 })),
        ];
        let text = members(&three).trim_fmt();
        let rows: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(rows[1..], ["ash uvwxyz alive all", "elm x down 7 of 9", "oak abcdef alive this node"]);
    }

    #[test]
    fn a_split_names_who_is_away() {
        let view = json!({
            "node": "n", "name": "oak", "clock_digest": "c", "state_digest": "s", "partitioned": true,
            "members": [{ "node": "n", "name": "oak", "state": "alive" }, { "node": "e", "name": "elm", "state": "down" }],
        });
        let view: ClusterView = serde_json::from_value(view).unwrap();
        assert!(headline(&view).starts_with("oak (n) sees the network SPLIT: elm cannot be reached\n"));
    }
}
