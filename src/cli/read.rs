//! `get` and `ls`: what a node holds.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cli::address::{self, Address};
use crate::cli::client::{ApiArg, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::output::Output;

/// Read a document.
///
/// Prints its fields; values that were written concurrently and overruled are told on stderr. With --json, prints the
/// node's whole answer: fields, siblings, clock, and the ETag for --if-match.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot get vms/vm-1
  folkmoot get vms/vm-1 --json | jq .siblings
  folkmoot get tasks/t-9 --clock \"$CLOCK\"      not older than what an earlier answer's clock holds")]
pub struct GetArgs {
    /// collection/id
    #[arg(value_name = "DOCUMENT")]
    address: Address,
    /// How fresh: local, session (with --clock), or quorum (fields that a quorum decides are asked for)
    #[arg(long, value_name = "LEVEL")]
    consistency: Option<String>,
    /// The Folkmoot-Clock of an earlier answer; the node waits, at most 2 s, until it has seen all of it
    #[arg(long, value_name = "CLOCK")]
    clock: Option<String>,
    #[command(flatten)]
    api: ApiArg,
}

/// A document as the API gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    pub id: String,
    pub fields: Map<String, Value>,
    #[serde(default)]
    pub siblings: Map<String, Value>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

pub async fn get(args: GetArgs, output: Output) -> Result<(), Error> {
    let client = args.api.client()?;
    let path = format!("{}{}", args.address.path(), address::query(&[("consistency", args.consistency)]));
    let terms = Terms { clock: args.clock, if_match: None };
    let answer = client.send(reqwest::Method::GET, &path, None, &terms).await?;
    if output.json {
        let mut document: Map<String, Value> = client.parse(&answer)?;
        // The tag stands in a header; here it is where `--if-match` can take it from.
        document.extend(answer.etag.map(|tag| (String::from("etag"), Value::String(tag))));
        return output.compact(&document);
    }
    let document: Document = client.parse(&answer)?;
    for field in document.rest.get("stale").and_then(Value::as_array).into_iter().flatten() {
        output.say(format!("{field} may be another by now: this node reaches no quorum"));
    }
    for (field, siblings) in &document.siblings {
        if let Some(values) = disagreeing(siblings) {
            output.say(format!("{field} was written concurrently: {}", values.join(", ")));
        }
    }
    output.pretty(&document.fields)
}

/// The values of siblings, each once; `None` where all say the same.
fn disagreeing(siblings: &Value) -> Option<Vec<String>> {
    let mut values: Vec<String> = Vec::new();
    for sibling in siblings.as_array().into_iter().flatten() {
        let value = sibling["value"].to_string();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    (values.len() > 1).then_some(values)
}

/// List the documents of a collection, in the order of their ids.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot ls vms
  folkmoot ls tasks --prefix run-7/ --limit 20
  folkmoot ls workers --json | jq -r .id

One document per line: its id, a tab, its fields; with --json, one object per line.")]
pub struct LsArgs {
    /// The collection
    collection: String,
    /// Only ids that start with this
    #[arg(long)]
    prefix: Option<String>,
    /// Stop after so many documents [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Start after this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    #[command(flatten)]
    api: ApiArg,
}

pub async fn ls(args: LsArgs, output: Output) -> Result<(), Error> {
    address::check_collection(&args.collection).map_err(Error::Usage)?;
    let client = args.api.client()?;
    let mut pages = Pages::new(&args.collection, args.prefix).after(args.after);
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(documents) = pages.next(&client, left).await? else { break };
        for document in documents {
            left = left.saturating_sub(1);
            match output.json {
                true => output.compact(&document)?,
                false => output.line(format!("{}\t{}", document.id, Value::Object(document.fields)))?,
            }
        }
    }
    Ok(())
}

/// The most documents a node gives at once.
const PAGE_LEN_MAX: u64 = 1_000;
/// How often a page is asked for again when its connection broke. Reading is free of effects.
const PAGE_TRIES: u32 = 3;

/// Walks a collection page by page.
#[derive(Debug)]
pub struct Pages {
    collection: String,
    prefix: Option<String>,
    after: Option<String>,
    done: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Document>,
    next: Option<String>,
}

impl Pages {
    pub fn new(collection: &str, prefix: Option<String>) -> Self {
        Self { collection: collection.to_owned(), prefix, after: None, done: false }
    }

    pub fn after(mut self, id: Option<String>) -> Self {
        self.after = id;
        self
    }

    /// The next page of at most `wanted` documents; `None` after the last.
    pub async fn next(&mut self, client: &Client, wanted: u64) -> Result<Option<Vec<Document>>, Error> {
        if self.done {
            return Ok(None);
        }
        let page = self.page(client, wanted).await?;
        self.done = page.next.is_none();
        self.after = page.next;
        Ok(Some(page.items))
    }

    async fn page(&self, client: &Client, wanted: u64) -> Result<Page, Error> {
        let query = address::query(&[
            ("prefix", self.prefix.clone()),
            ("limit", Some(wanted.clamp(1, PAGE_LEN_MAX).to_string())),
            ("after", self.after.clone()),
        ]);
        let path = format!("/v1/docs/{}{query}", self.collection);
        let mut tries = 1;
        loop {
            match client.read(&path).await {
                Err(Error::NoAnswer { .. }) if tries < PAGE_TRIES => tries += 1,
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn siblings_that_say_the_same_are_not_told() {
        let siblings = |values: &[Value]| Value::from_iter(values.iter().map(|value| json!({ "value": value })));
        assert_eq!(disagreeing(&siblings(&[json!("a"), json!("a")])), None);
        let told = disagreeing(&siblings(&[json!("a"), json!(1), json!("a")]));
        assert_eq!(told, Some(vec!["\"a\"".to_owned(), "1".to_owned()]));
    }
}
