//! `audit verify`: a node's own chain, one it imported, or a file, held against the anchors that a node knows.
//!
//! A node's own chain has to reach every anchor. A file or an imported chain may be older than the newest of them: it is
//! whole up to its end, and says how far its node had come since.

use std::path::Path;

use serde_json::{Value, json};

use super::{items, read, text};
use crate::cli::address::query;
use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::engine::keys::verify_signature;
use crate::history::audit::{Anchor, ImportError, Imported, import};

/// A chain that the node asked holds: its own, or one that was imported there.
pub(super) async fn held(client: &Client, node: Option<String>, complete: bool, output: Output) -> Result<(), Error> {
    let mut report: Value = client.read(&format!("/v1/audit/verify{}", query(&[("node", node)]))).await?;
    let (now, mut says) = (&report["now"], report["says"].as_array().cloned().unwrap_or_default());
    let later = now["later"].as_u64();
    let mut whole = format!("{} records, whole; {} anchors match", now["records"], now["anchors"]);
    if let Some(later) = later {
        let last = now["last"].as_u64().or(now["base"].as_u64());
        match complete {
            true => says.push(json!(unfinished(last, later))),
            false => whole = format!("{whole}\n{}", goes_on(last, later)),
        }
    }
    report["whole"] = json!(report["whole"] == true && says.is_empty());
    report["complete"] = json!(later.is_none());
    told(report, says.iter().map(text).collect(), whole, output)
}

/// The anchors that a node holds, of all members.
pub(super) async fn anchors(client: &Client) -> Result<Vec<Anchor>, Error> {
    let page: Value = client.read("/v1/audit/anchors").await?;
    let hex = items(&page).filter_map(|item| item["anchor"].as_str());
    Ok(hex.filter_map(|hex| Anchor::from_hex(hex).ok()).collect())
}

/// An exported chain.
pub(super) fn file(file: &Path, known: &[Anchor], complete: bool, output: Output) -> Result<(), Error> {
    let exported = read(file)?;
    match import(exported.lines(), known, &verify_signature, &mut |_| {}) {
        Ok(imported) => sound(file, &imported, known, complete, output),
        Err(error @ (ImportError::Malformed { line: 1, .. } | ImportError::Order { line: 1, .. })) => {
            Err(Error::Usage(format!("{} is no exported audit: {error}", file.display())))
        }
        Err(error) => {
            let says = format!("{}: {error}", file.display());
            told(json!({ "whole": false }), vec![says], String::new(), output)
        }
    }
}

fn sound(file: &Path, imported: &Imported, known: &[Anchor], complete: bool, output: Output) -> Result<(), Error> {
    let (report, node) = (&imported.report, imported.node.to_string());
    let last = imported.head.map(|head| head.index);
    let meets = |anchor: &&Anchor| anchor.node == imported.node && Some(anchor.index) <= last;
    let (records, foreign) = (report.records, known.iter().filter(meets).count());
    let upto = last.map(|last| format!(" up to record {last}")).unwrap_or_default();
    let mut whole = format!("{records} records of {node}, whole{upto}; {foreign} anchors from elsewhere match");
    if let Some(proven) = report.proven.last().filter(|proven| Some(proven.last) < last) {
        whole = format!("{whole}; the last anchored record is {}", proven.last);
    }
    let lacks = match report.later {
        Some(later) => Some(unfinished(last, later)),
        None if foreign == 0 => {
            Some("no anchor of its node is known there, so nothing tells how far it came".to_owned())
        }
        None => None,
    };
    if let Some(later) = report.later {
        whole = format!("{whole}\n{}", goes_on(last, later));
    }
    let says: Vec<String> =
        lacks.iter().filter(|_| complete).map(|lacks| format!("{}: {lacks}", file.display())).collect();
    let report = json!({
        "whole": says.is_empty(), "node": node, "records": records, "proven": report.proven, "last": last,
        "later": report.later, "complete": lacks.is_none(), "anchors_of_others": foreign,
    });
    told(report, says, whole, output)
}

fn goes_on(last: Option<u64>, later: u64) -> String {
    format!(
        "Later anchors of this node exist, up to record {later}: {} is not in here (--complete asks for it)",
        after(last)
    )
}

fn unfinished(last: Option<u64>, later: u64) -> String {
    format!("record {later} is anchored, and {} is not in here: it is an older export, or it was cut off", after(last))
}

fn after(last: Option<u64>) -> String {
    last.map_or("what is known of it".to_owned(), |last| format!("what comes after record {last}"))
}

/// Prints a report; findings end the command with 8.
fn told(mut report: Value, says: Vec<String>, whole: String, output: Output) -> Result<(), Error> {
    if output.json {
        report["says"] = json!(says);
        output.compact(&report)?;
    } else if says.is_empty() {
        output.line(whole)?;
    } else {
        says.iter().try_for_each(|finding| output.line(finding))?;
    }
    if says.is_empty() { Ok(()) } else { Err(Error::Tampered(says.len())) }
}
