//! `export` and `import`: documents as JSON lines, one `{"collection","id","fields"}` each.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::address::{self, Address};
use crate::cli::client::{ApiArg, Client};
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::cli::read::Pages;
use crate::cli::view::ClusterView;

/// Write documents to stdout as JSON lines.
///
/// Documents hold values, not how they came about: clocks, siblings and history are not exported. Schemas come first, so
/// that an import finds its types. What describes the running cluster itself (members, alerts, locks, ballots,
/// conflicts) is exported only when it is named.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot export > fleet.jsonl
  folkmoot export vms tasks | gzip > some.jsonl.gz")]
pub struct ExportArgs {
    /// Only these collections [default: all but the cluster's own]
    collections: Vec<String>,
    #[command(flatten)]
    api: ApiArg,
}

/// Read documents from JSON lines and write them, as `put` does.
///
/// Existing documents of the same names are replaced, others stay. Types come from the target's schemas: put those
/// first where counters must stay counters.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot import fleet.jsonl
  folkmoot export --api http://10.0.0.5:7117 | folkmoot import -")]
pub struct ImportArgs {
    /// The file, or - for stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    api: ApiArg,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    collection: String,
    id: String,
    fields: Map<String, Value>,
}

pub async fn export(args: ExportArgs, output: Output) -> Result<(), Error> {
    let client = args.api.client()?;
    let collections = match args.collections.is_empty() {
        true => portable(ClusterView::read(&client).await?.collections.into_keys()),
        false => args.collections,
    };
    let mut documents = 0u64;
    for collection in collections {
        address::check_collection(&collection).map_err(Error::Usage)?;
        let mut pages = Pages::new(&collection, None);
        while let Some(page) = pages.next(&client, u64::MAX).await? {
            for document in page {
                let line = Line { collection: collection.clone(), id: document.id, fields: document.fields };
                output.compact(&line)?;
                documents += 1;
            }
        }
    }
    output.say(format!("{documents} documents"));
    Ok(())
}

/// These are true of one cluster only; imported elsewhere they would be lies.
const OF_THE_CLUSTER: [&str; 7] = ["alerts", "ballots", "capacity", "conflicts", "locks", "members", "partitions"];
const SCHEMAS: &str = "schemas";

fn portable(collections: impl Iterator<Item = String>) -> Vec<String> {
    let mut portable: Vec<String> = collections.filter(|name| !OF_THE_CLUSTER.contains(&name.as_str())).collect();
    portable.sort_by_key(|name| name != SCHEMAS);
    portable
}

/// A batch stays far below what a node takes at once (8 MiB), and small enough to be quick.
const BATCH_BYTES_MAX: usize = 1 << 20;
const BATCH_LEN_MAX: usize = 500;
const LINE_BYTES_MAX: usize = 8 << 20;

pub async fn import(args: ImportArgs, output: Output) -> Result<(), Error> {
    let client = args.api.client()?;
    let input: Box<dyn BufRead> = match args.file.as_os_str() == "-" {
        true => Box::new(BufReader::new(io::stdin())),
        false => {
            let path = args.file.display();
            let file = File::open(&args.file).map_err(|error| Error::Usage(format!("cannot open {path}: {error}")))?;
            Box::new(BufReader::new(file))
        }
    };
    let (mut batch, mut bytes, mut documents) = (Vec::new(), 0, 0u64);
    let mut written_to = 0;
    for (line, number) in input.lines().zip(1u64..) {
        let line = line.map_err(|error| Error::Failed(format!("line {number}: cannot be read: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let write = parse(&line).map_err(|cause| {
            Error::Usage(format!("line {number}: {cause}. The lines up to {written_to} are written"))
        })?;
        bytes += line.len();
        // A schema must be in force before what it types is written.
        let alone = write["collection"] == SCHEMAS;
        batch.push(write);
        documents += 1;
        if alone || bytes >= BATCH_BYTES_MAX || batch.len() >= BATCH_LEN_MAX {
            send(&client, &mut batch, number).await?;
            (bytes, written_to) = (0, number);
        }
    }
    send(&client, &mut batch, documents).await?;
    output.either(&json!({ "documents": documents }), || format!("{documents} documents"))
}

fn parse(line: &str) -> Result<Value, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("it is over {LINE_BYTES_MAX} bytes"));
    }
    let Line { collection, id, fields } = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let address = Address::new(&collection, &id)?;
    Ok(json!({ "op": "put", "collection": address.collection(), "id": address.id(), "fields": fields }))
}

async fn send(client: &Client, batch: &mut Vec<Value>, last: u64) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let writes = std::mem::take(batch);
    let first = last.saturating_sub(writes.len() as u64) + 1;
    match client.post("/v1/batch", json!({ "writes": writes })).await {
        Ok(_) => Ok(()),
        Err(Error::Refused(problem)) => {
            Err(Error::Failed(format!("lines {first} to {last} or near were refused as a whole: {problem}")))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_put() {
        let write = parse(r#"{"collection":"vms","id":"a/b","fields":{"x":1}}"#).unwrap();
        assert_eq!(write, json!({ "op": "put", "collection": "vms", "id": "a/b", "fields": { "x": 1 } }));
    }

    #[test]
    fn schemas_go_first_and_the_clusters_own_stays() {
        let names = ["members", "schemas", "tasks", "vms", "locks"].map(String::from);
        assert_eq!(portable(names.into_iter()), ["schemas", "tasks", "vms"]);
    }

    #[test]
    fn a_bad_line_is_told_and_not_sent() {
        assert!(parse(r#"{"collection":"vms","id":"a"}"#).unwrap_err().contains("fields"));
        assert!(parse(r#"{"collection":"Vms","id":"a","fields":{}}"#).is_err());
        assert!(parse("nonsense").is_err());
    }
}
