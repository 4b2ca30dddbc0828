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
use crate::cli::output::{Output, many};
use crate::engine::keys::verify_signature;
use crate::history::audit::{Anchor, ImportError, Imported, import};

/// A chain that the node asked holds: its own, or one that was imported there.
pub(super) async fn held(client: &Client, node: Option<String>, complete: bool, output: Output) -> Result<(), Error> {
    let mut report: Value = client.read(&format!("/v1/audit/verify{}", query(&[("node", node)]))).await?;
    let (now, mut says) = (&report["now"], report["says"].as_array().cloned().unwrap_or_default());
    let later = now["later"].as_u64();
    let last = now["last"].as_u64();
    // What a node read at its start is told of its own chain only.
    let whose = if report["at_start"].is_null() { Whose::Asked } else { Whose::Own };
    let upto = items_of(&now["proven"]).filter_map(|span| span["last"].as_u64()).max();
    let proof = Proof { whose, upto, anchors: now["anchors"].as_u64().unwrap_or_default() };
    let records = many(now["records"].as_u64().unwrap_or_default(), "record");
    let mut whole = format!("{records}, whole; {}", proof.words(last));
    if let Some(later) = later {
        let last = last.or(now["base"].as_u64());
        match complete {
            true => says.push(json!(unfinished(last, later))),
            false => whole = format!("{whole}\n{}", goes_on(last, later)),
        }
    }
    report["whole"] = json!(report["whole"] == true && says.is_empty());
    report["complete"] = json!(later.is_none());
    report["proven_to"] = json!(upto);
    report["anchors_from"] = json!(proof.whose.name(proof.anchors));
    told(report, says.iter().map(text).collect(), whole, output)
}

/// Whose word anchors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Nobody was asked.
    Nobody,
    /// The disk of the node whose chain it is: whoever changed the chain there could change them too.
    Own,
    /// Another node's.
    Asked,
}

impl Whose {
    fn name(self, anchors: u64) -> &'static str {
        match self {
            _ if anchors == 0 => "nobody",
            Self::Nobody => "nobody",
            Self::Own => "its own disk",
            Self::Asked => "another node",
        }
    }
}

/// How far a chain is proven, and by whom.
#[derive(Clone, Copy, Debug)]
struct Proof {
    whose: Whose,
    /// The last record that an anchor vouches for.
    upto: Option<u64>,
    anchors: u64,
}

impl Proof {
    /// What may be trusted of a chain that ends with record `last`.
    fn words(self, last: Option<u64>) -> String {
        let Some(upto) = self.upto.filter(|_| self.anchors > 0 && self.whose != Whose::Nobody) else {
            let why = match self.whose {
                Whose::Nobody => "without anchors from elsewhere",
                Whose::Own => "no record is anchored yet, so",
                Whose::Asked => "the node asked knows no anchor of it, so",
            };
            return format!("{why} this proves only that it is whole in itself: who made it could make all of it anew");
        };
        let anchors = many(self.anchors, "anchor");
        let held = match self.whose {
            Whose::Own => "from that node's own disk, which prove nothing against whoever owns it",
            Whose::Asked | Whose::Nobody => "that the node asked holds",
        };
        let rest =
            last.filter(|last| *last > upto).map(|last| format!("; records {} to {last} are not anchored", upto + 1));
        format!("proven to record {upto} by {anchors} {held}{}", rest.unwrap_or_default())
    }
}

/// What the node asked knows: its own id, and the anchors it holds of all members.
#[derive(Debug, Default)]
pub(super) struct Known {
    node: Option<String>,
    anchors: Vec<Anchor>,
}

pub(super) async fn known(client: &Client) -> Result<Known, Error> {
    let cluster: Value = client.read("/v1/cluster").await?;
    let page: Value = client.read("/v1/audit/anchors").await?;
    let hex = items(&page).filter_map(|item| item["anchor"].as_str());
    let anchors = hex.filter_map(|hex| Anchor::from_hex(hex).ok()).collect();
    Ok(Known { node: cluster["node"].as_str().map(str::to_owned), anchors })
}

/// An exported chain.
pub(super) fn file(file: &Path, known: &Known, complete: bool, output: Output) -> Result<(), Error> {
    let exported = read(file)?;
    match import(exported.lines(), &known.anchors, &verify_signature, &mut |_| {}) {
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

fn sound(file: &Path, imported: &Imported, known: &Known, complete: bool, output: Output) -> Result<(), Error> {
    let (report, node) = (&imported.report, imported.node.to_string());
    let last = imported.head.map(|head| head.index);
    let proof = proof_of(imported, known);
    let upto = last.map(|last| format!(" up to record {last}")).unwrap_or_default();
    let records = many(report.records, "record");
    let mut whole = format!("{records} of {node}, whole{upto}; {}", proof.words(last));
    let lacks = match report.later {
        Some(later) => Some(unfinished(last, later)),
        None if proof.anchors == 0 => {
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
        "whole": says.is_empty(), "node": node, "records": report.records, "proven": report.proven, "last": last,
        "later": report.later, "complete": lacks.is_none(), "anchors_of_others": proof.anchors,
        "proven_to": proof.upto, "anchors_from": proof.whose.name(proof.anchors),
    });
    told(report, says, whole, output)
}

/// What the anchors of the node asked prove of a file. The file's own are not counted: who made it made them.
fn proof_of(imported: &Imported, known: &Known) -> Proof {
    let last = imported.head.map(|head| head.index);
    let meets = |anchor: &&Anchor| anchor.node == imported.node && Some(anchor.index) <= last;
    // One of a record that was dropped before the base has nothing left to be held against.
    let met = known.anchors.iter().filter(meets).map(|anchor| anchor.index);
    let met: Vec<u64> = met.filter(|index| imported.report.proves(*index)).collect();
    let whose = match &known.node {
        None => Whose::Nobody,
        Some(asked) if *asked == imported.node.to_string() => Whose::Own,
        Some(_) => Whose::Asked,
    };
    Proof { whose, upto: met.iter().copied().max(), anchors: met.len() as u64 }
}

fn items_of(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_claims_no_more_than_it_holds() {
        let words = |whose, upto, anchors| Proof { whose, upto, anchors }.words(Some(9));
        assert_eq!(
            words(Whose::Asked, Some(7), 2),
            "proven to record 7 by 2 anchors that the node asked holds; records 8 to 9 are not anchored"
        );
        assert_eq!(words(Whose::Asked, Some(9), 1), "proven to record 9 by 1 anchor that the node asked holds");
        assert!(words(Whose::Own, Some(9), 1).contains("from that node's own disk"));
        for unproven in [words(Whose::Nobody, None, 0), words(Whose::Own, None, 0), words(Whose::Asked, None, 0)] {
            assert!(unproven.contains("only that it is whole in itself") && !unproven.contains("proven"), "{unproven}");
        }
        assert!(words(Whose::Nobody, None, 0).starts_with("without anchors from elsewhere"));
    }
}
