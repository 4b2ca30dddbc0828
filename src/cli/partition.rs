//! `partition`: what happened while members could not reach each other.

use std::fmt::Write;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::address::{encode, query};
use crate::cli::client::{ApiArg, Client};
use crate::cli::exit::Error;
use crate::cli::output::{Output, many};

/// What happened while the network was split, once it is whole again.
///
/// Every node tells what it saw a few seconds after it reaches the others again. The account is made of what all of them
/// told, so every node prints the same.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot partition ls
  folkmoot partition report            the newest
  folkmoot partition report ID
  folkmoot --json partition report")]
pub struct PartitionArgs {
    #[command(subcommand)]
    command: PartitionCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum PartitionCommand {
    /// List the partitions that are over, the newest first
    Ls {
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say who was where and how long, what diverged, and how each conflict was settled
    Report {
        /// The newest, if left out
        id: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn partition(args: PartitionArgs, output: Output) -> Result<(), Error> {
    match args.command {
        PartitionCommand::Ls { api } => list(&api.client()?, output).await,
        PartitionCommand::Report { id, api } => report(&api.client()?, id, output).await,
    }
}

async fn list(client: &Client, output: Output) -> Result<(), Error> {
    let mut before = None;
    loop {
        let page: Value = client.read(&format!("/v1/partitions{}", query(&[("before", before)]))).await?;
        for partition in items(&page["items"]) {
            match output.json {
                true => output.compact(partition)?,
                false => output.line(line(partition))?,
            }
        }
        before = page["next"].as_str().map(str::to_owned);
        if before.is_none() {
            return Ok(());
        }
    }
}

async fn report(client: &Client, id: Option<String>, output: Output) -> Result<(), Error> {
    let newest = match id {
        Some(id) => Some(id),
        None => {
            let page: Value = client.read("/v1/partitions?limit=1").await?;
            page["items"][0]["id"].as_str().map(str::to_owned)
        }
    };
    let Some(id) = newest else {
        output.say("no partition ended that anybody told of; a node tells a few seconds after it is over");
        return if output.json { output.compact(&Value::Null) } else { Ok(()) };
    };
    let partition: Value = client.read(&format!("/v1/partitions/{}", encode(&id, false))).await?;
    output.either(&partition, || told(&partition).trim_end().to_owned())
}

fn line(partition: &Value) -> String {
    let sides: Vec<String> = items(&partition["sides"]).map(|side| texts(side).join(" ")).collect();
    let incomplete = if partition["complete"] == false { "\tincomplete" } else { "" };
    format!(
        "{}\t{}\t{}\t{}\t{} diverged\t{}{incomplete}",
        text(&partition["id"]),
        date(ms(&partition["from_ms"])),
        lasted(partition),
        sides.join(" | "),
        partition["diverged"],
        many(ms(&partition["conflicts"]), "conflict"),
    )
}

/// The whole account, for people.
fn told(partition: &Value) -> String {
    let named = |id: &Value| partition["names"][text(id)].as_str().unwrap_or(text(id)).to_owned();
    let all = |ids: &Value| items(ids).map(named).collect::<Vec<_>>().join(", ");
    let mut out = String::new();
    let (from, until) = (date(ms(&partition["from_ms"])), date(ms(&partition["until_ms"])));
    let _ = writeln!(out, "partition {}\nfrom {from} until {until} UTC, {}", text(&partition["id"]), lasted(partition));
    for (n, side) in items(&partition["sides"]).enumerate() {
        let quorum = match side["quorum"].as_bool() {
            Some(true) => "with a quorum",
            Some(false) => "without a quorum",
            None => "none of them has told",
        };
        let changed = many(ms(&side["changed"]), "document");
        let _ = writeln!(out, "side {}: {} ({quorum}); changed {changed}", n + 1, all(&side["members"]));
    }
    for (key, says) in [("silent", "has not told what it saw"), ("away", "was still away")] {
        for id in items(&partition[key]) {
            let _ = writeln!(out, "{} {says}", named(id));
        }
    }
    for pair in items(&partition["one_way"]) {
        let (node, other) = (named(&pair["node"]), named(&pair["could_not_reach"]));
        let _ = writeln!(out, "{node} could not reach {other}, which reached {node}");
    }
    for pair in items(&partition["apart_within"]) {
        let _ = writeln!(out, "{} could not reach each other, though others of their side reached both", all(pair));
    }
    let _ = writeln!(out, "\nwho could not be reached");
    for seen in items(&partition["observations"]) {
        let lost = items(&seen["lost"]).map(|lost| {
            let restarted = if lost["restarted"] == true { ", restarted" } else { "" };
            format!("{} ({}{restarted})", named(&lost["node"]), lasted(lost))
        });
        let _ = writeln!(out, "  by {}: {}", named(&seen["observer"]), lost.collect::<Vec<_>>().join(", "));
    }
    for (key, says) in [("diverged", "changed on both sides"), ("work", "work, leases and decided fields that changed")]
    {
        let _ = writeln!(out, "\n{says}: {}", partition[key]["count"]);
        for name in items(&partition[key]["names"]) {
            let _ = writeln!(out, "  {}", text(name));
        }
    }
    for lock in items(&partition["locks"]) {
        let _ = writeln!(out, "  lock {} changed hands; its token is {}", text(&lock["name"]), lock["token"]);
    }
    let _ = writeln!(out, "\nconflicts between the sides: {}", partition["conflict_count"]);
    for conflict in items(&partition["conflicts"]) {
        let _ = writeln!(out, "  {}", dispute(conflict));
    }
    out
}

fn dispute(conflict: &Value) -> String {
    let mut said = text(&conflict["document"]).to_owned();
    for (key, before) in [("field", " "), ("status", ": "), ("by", " by "), ("policy", ", under ")] {
        if let Some(word) = conflict[key].as_str() {
            let word = if word == "written_since" { "an ordinary write ended it" } else { word };
            said.push_str(&format!("{before}{word}"));
        }
    }
    if let Some(value) = conflict.get("value") {
        said.push_str(&format!(": {value}"));
    }
    format!("{said}  [{}]", text(&conflict["id"]))
}

fn items(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}

fn texts(array: &Value) -> Vec<&str> {
    items(array).map(text).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn ms(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn lasted(of: &Value) -> String {
    let ms = ms(&of["until_ms"]).saturating_sub(ms(&of["from_ms"]));
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// A moment as people write it, in UTC.
fn date(ms: u64) -> String {
    let (days, seconds) = (ms / 86_400_000, ms / 1_000 % 86_400);
    let (mut year, mut left) = (1970, days);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // No host's clock is beyond this; anybody may write an observation.
    while year < 9_999 && left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_write_them() {
        let told = [0, 951_782_400_000, 1_709_251_199_999, 1_735_689_599_000].map(date);
        assert_eq!(told, ["1970-01-01 00:00:00", "2000-02-29 00:00:00", "2024-02-29 23:59:59", "2024-12-31 23:59:59"]);
        assert!(date(u64::MAX).starts_with("9999-"));
    }
}
