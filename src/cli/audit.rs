//! `audit`: what a node found and decided, and whether anybody changed the record since.

mod verify;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::Value;

use crate::cli::address::query;
use crate::cli::client::{ApiArg, Body, Client};
use crate::cli::exit::Error;
use crate::cli::output::{Output, many};
use crate::sim::duration::Millis;

/// Read and verify the audit.
///
/// Each node keeps a record of the conflicts it found, of what settled them, and of who changed policies and members.
/// The records form a chain, and nodes hold each other's signed heads: what was changed later is found.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot audit tail                                     the last records, and new ones as they come
  folkmoot audit query --document vms/vm-1                what happened to one document
  folkmoot audit query --conflict 4f0c --json             one conflict from beginning to end
  folkmoot audit query --kind resolved,undone --actor alice
  folkmoot audit verify                                   this node's chain, by the anchors it knows
  folkmoot audit export > n1.jsonl
  folkmoot audit verify n1.jsonl --api http://n2:7117     n1's chain, by the anchors that n2 holds
  folkmoot audit verify n1.jsonl --complete --api http://n2:7117   ... and up to the newest of them
  folkmoot audit patterns                                 hotspots, and what keeps coming back

Exit code 8: verify found something, or what was to be imported was changed.")]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum AuditCommand {
    /// Print the last records, then new ones as they come
    Tail {
        /// So many of the last ones
        #[arg(short = 'n', long, default_value_t = 10)]
        lines: u64,
        /// Print the last ones and end
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Print the records that meet every condition
    Query {
        /// Of this conflict: its id, or the first digits of it, at least 4
        #[arg(long, value_name = "ID")]
        conflict: Option<String>,
        /// Of this document, as in vms/vm-1
        #[arg(long)]
        document: Option<String>,
        /// Of documents whose name starts so, as in vms/
        #[arg(long)]
        prefix: Option<String>,
        /// Of this field
        #[arg(long)]
        field: Option<String>,
        /// Of these kinds, with commas between
        #[arg(long)]
        kind: Option<String>,
        /// Done by this person or node
        #[arg(long)]
        actor: Option<String>,
        /// From this millisecond since 1970 on, or from so long ago, as in 10m
        #[arg(long, value_name = "MS", value_parser = moment)]
        since_ms: Option<u64>,
        /// Before this millisecond, or before so long ago, as in 2h
        #[arg(long, value_name = "MS", value_parser = moment)]
        until_ms: Option<u64>,
        /// The newest first
        #[arg(long)]
        newest: bool,
        /// So many at most
        #[arg(long)]
        limit: Option<u64>,
        /// Of another node, whose audit was imported
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Look for records that were deleted, edited, reordered or cut off
    Verify {
        /// An exported chain; it is held against its own anchors and those of the node asked. Without it: that node's
        file: Option<PathBuf>,
        /// Ask no node: that proves only that the file is whole in itself, and nothing against whoever made it
        #[arg(long, requires = "file")]
        offline: bool,
        /// Of another node, whose audit was imported
        #[arg(long, conflicts_with = "file")]
        node: Option<String>,
        /// A file or an imported chain must reach the newest anchor that is known of its node; else an older one is whole
        #[arg(long, conflicts_with = "offline")]
        complete: bool,
        #[command(flatten)]
        api: ApiArg,
    },
    /// What conflicts most, what keeps coming back, and who settles it
    Patterns {
        /// From this millisecond since 1970 on, or from so long ago, as in 10m
        #[arg(long, value_name = "MS", value_parser = moment)]
        since_ms: Option<u64>,
        /// Before this millisecond, or before so long ago, as in 2h
        #[arg(long, value_name = "MS", value_parser = moment)]
        until_ms: Option<u64>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Records that one could go back to before
    ///
    /// Each names where the state stood before it. The column `clock` says how well: `exact`, its record holds the
    /// clock of that state; `time only`, all there is to go by is when this node recorded it.
    RollbackPoints {
        /// So many at most
        #[arg(long, default_value_t = 100)]
        limit: u64,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Write a chain to stdout as JSON lines, with its anchors
    Export {
        /// Of another node, whose audit was imported
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Give a node another node's exported chain to keep
    Import {
        file: PathBuf,
        #[command(flatten)]
        api: ApiArg,
    },
}

/// A millisecond since 1970, or how long ago that is.
fn moment(text: &str) -> Result<u64, String> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    let ago: Millis = text.parse().map_err(|error| format!("{error} ago, or a millisecond since 1970"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Ok(now.saturating_sub(ago.0))
}

/// How often `tail` asks for more.
const TAIL_EVERY: Duration = Duration::from_secs(1);
const PAGE: &str = "1000";

pub async fn audit(args: AuditArgs, output: Output) -> Result<(), Error> {
    match args.command {
        AuditCommand::Tail { lines, once, api } => tail(&api.client()?, lines, once, output).await,
        AuditCommand::Query {
            conflict,
            document,
            prefix,
            field,
            kind,
            actor,
            since_ms,
            until_ms,
            newest,
            limit,
            node,
            api,
        } => {
            let number = |value: Option<u64>| value.map(|value| value.to_string());
            let asked = vec![
                ("conflict", conflict),
                ("document", document),
                ("prefix", prefix),
                ("field", field),
                ("kind", kind),
                ("actor", actor),
                ("since_ms", number(since_ms)),
                ("until_ms", number(until_ms)),
                ("newest", newest.then(|| "true".to_owned())),
                ("node", node),
            ];
            print(&api.client()?, asked, limit.unwrap_or(u64::MAX), output).await
        }
        AuditCommand::Verify { file: Some(file), offline, complete, api, .. } => {
            let known = if offline { verify::Known::default() } else { verify::known(&api.client()?).await? };
            verify::file(&file, &known, complete, output)
        }
        AuditCommand::Verify { file: None, node, complete, api, .. } => {
            verify::held(&api.client()?, node, complete, output).await
        }
        AuditCommand::Patterns { since_ms, until_ms, api } => {
            let asked =
                [("since_ms", since_ms.map(|ms| ms.to_string())), ("until_ms", until_ms.map(|ms| ms.to_string()))];
            let patterns: Value = api.client()?.read(&format!("/v1/audit/patterns{}", query(&asked))).await?;
            patterns_of(&patterns, output)
        }
        AuditCommand::RollbackPoints { limit, api } => {
            let page: Value =
                api.client()?.read(&format!("/v1/audit/rollback-points?limit={}", limit.clamp(1, 1_000))).await?;
            let mut table = table(["index", "at", "before", "document", "by", "clock"]);
            for item in items(&page) {
                if output.json {
                    output.compact(item)?;
                    continue;
                }
                let field = |name: &str| text(&item[name]);
                let clock = if item["exact"] == true { "exact" } else { "time only" };
                table.add_row([
                    field("index"),
                    field("at_ms"),
                    field("before"),
                    field("document"),
                    field("actor"),
                    clock.to_owned(),
                ]);
            }
            if output.json { Ok(()) } else { output.line(table.to_string()) }
        }
        AuditCommand::Export { node, api } => {
            let answer = api.client()?.get(&format!("/v1/audit/export{}", query(&[("node", node)]))).await?;
            let lines = String::from_utf8_lossy(&answer.body);
            output.line(lines.trim_end_matches('\n'))
        }
        AuditCommand::Import { file, api } => {
            let client = api.client()?;
            let body = Body::lines(read(&file)?);
            let answer =
                client.send(reqwest::Method::POST, "/v1/audit/import", Some(body), &Default::default()).await?;
            let imported: Value = client.parse(&answer)?;
            output.either(&imported, || {
                let records = many(imported["records"].as_u64().unwrap_or_default(), "record");
                format!("{records} of {}", text(&imported["node"]))
            })
        }
    }
}

async fn tail(client: &Client, lines: u64, once: bool, output: Output) -> Result<(), Error> {
    let last: Value = client.read(&format!("/v1/audit?newest=true&limit={}", lines.clamp(1, 1_000))).await?;
    let mut newest: Vec<&Value> = items(&last).collect();
    newest.reverse();
    head(output)?;
    newest.iter().try_for_each(|record| show(record, output))?;
    let mut next = newest.last().and_then(|record| record["index"].as_u64()).map_or(0, |index| index + 1);
    if once {
        return Ok(());
    }
    loop {
        tokio::time::sleep(TAIL_EVERY).await;
        let page: Value = client.read(&format!("/v1/audit?limit={PAGE}&after={next}")).await?;
        for record in items(&page) {
            show(record, output)?;
            next = record["index"].as_u64().map_or(next, |index| index + 1);
        }
    }
}

async fn print(
    client: &Client,
    mut asked: Vec<(&'static str, Option<String>)>,
    mut left: u64,
    output: Output,
) -> Result<(), Error> {
    let (mut next, mut found) = (None, false);
    while left > 0 {
        let mut parts = asked.clone();
        parts.push(("after", next));
        parts.push(("limit", Some(left.min(1_000).to_string())));
        let page: Value = client.read(&format!("/v1/audit{}", query(&parts))).await?;
        for record in items(&page) {
            if !std::mem::replace(&mut found, true) {
                head(output)?;
            }
            show(record, output)?;
            left -= 1;
        }
        // The node says what a few digits stood for: it need not look for that again.
        if let Some(whole) = page["conflict"].as_str() {
            let asked = asked.iter_mut().filter(|(name, _)| *name == "conflict");
            asked.for_each(|(_, id)| *id = Some(whole.to_owned()));
        }
        next = page["next"].as_u64().map(|next| next.to_string());
        if next.is_none() {
            break;
        }
    }
    if !found {
        output.say("no records");
    }
    Ok(())
}

/// What the columns are, for a person only: programs count on one record a line.
fn head(output: Output) -> Result<(), Error> {
    match !output.json && output.stdout_is_terminal() {
        true => output.line("index\tat_ms\tkind\tby\tabout\tdetail"),
        false => Ok(()),
    }
}

fn show(record: &Value, output: Output) -> Result<(), Error> {
    output.either(record, || {
        let field = |name: &str| text(&record[name]);
        let place = [field("document"), field("field"), field("conflict")].join(" ");
        let detail = if record["detail"].is_null() { String::new() } else { record["detail"].to_string() };
        format!(
            "{}\t{}\t{}\t{}\t{}\t{detail}",
            field("index"),
            field("at_ms"),
            field("kind"),
            field("actor"),
            place.trim()
        )
    })
}

fn patterns_of(patterns: &Value, output: Output) -> Result<(), Error> {
    if output.json {
        return output.compact(patterns);
    }
    let share = patterns["manual_share"].as_f64().unwrap_or(0.0) * 100.0;
    let count = |key: &str, noun: &str| many(patterns[key].as_u64().unwrap_or_default(), noun);
    output.line(format!(
        "{}: {} detected, {} resolved, {share:.0}% of them by a person",
        count("records", "record"),
        count("detected", "conflict"),
        patterns["resolved"]
    ))?;
    let mut table = table(["pattern", "what", "field", "count"]);
    for (list, title) in [
        ("documents", "hot document"),
        ("fields", "hot field"),
        ("recurring", "keeps coming back"),
        ("flapping", "goes to and fro"),
        ("pairs", "nodes that meet"),
        ("strategies", "settled by"),
    ] {
        for item in patterns[list].as_array().into_iter().flatten() {
            let what =
                ["name", "of", "document"].into_iter().map(|name| text(&item[name])).find(|text| !text.is_empty());
            let nodes = item["nodes"].as_array().map(|nodes| nodes.iter().map(text).collect::<Vec<_>>().join(" "));
            let count = if item["count"].is_null() { text(&item["returns"]) } else { text(&item["count"]) };
            table.add_row([title.to_owned(), what.or(nodes).unwrap_or_default(), text(&item["field"]), count]);
        }
    }
    output.line(table.to_string())
}

fn items(page: &Value) -> impl Iterator<Item = &Value> {
    page["items"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head);
    table
}

fn read(file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| Error::Usage(format!("cannot read {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_millisecond_or_how_long_ago_it_was() {
        assert_eq!(moment("1700000000000"), Ok(1_700_000_000_000));
        let (hours, seconds) = (moment("2h").unwrap(), moment("5s").unwrap());
        assert!((7_190_000..=7_195_000).contains(&(seconds - hours)), "{hours} {seconds}");
        assert!(moment("soon").unwrap_err().contains("millisecond since 1970"));
    }
}
