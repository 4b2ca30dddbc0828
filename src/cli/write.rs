//! `put`, `patch`, `del`, `incr`, `add`, `rm`: one write each, and its receipt.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::address::{self, Address};
use crate::cli::client::{ApiArg, Body, Terms};
use crate::cli::exit::Error;
use crate::cli::input;
use crate::cli::output::Output;

/// What all writes take.
#[derive(Debug, Clone, Default, Args)]
pub struct WriteArgs {
    /// Wait until the write is: in memory here, local (on this disk, the default), on N disks, or decided by a quorum
    #[arg(long, value_name = "memory|local|replicas:N|quorum", value_parser = durability)]
    durability: Option<String>,
    /// Write only if the document's ETag is still this one (exit code 5 if not)
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    /// The Folkmoot-Clock of an earlier answer; the node first waits until it has seen all of it
    #[arg(long, value_name = "CLOCK")]
    clock: Option<String>,
    #[command(flatten)]
    api: ApiArg,
}

/// Write a document: absent fields are removed, equal values write nothing.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot put vms/vm-1 '{\"power_state\":\"running\",\"labels\":[\"gpu\",\"eu\"]}'
  folkmoot put vms/vm-1 - < vm.json
  folkmoot put vms/vm-1 '{}' --durability replicas:2")]
pub struct PutArgs {
    /// collection/id
    #[arg(value_name = "DOCUMENT")]
    address: Address,
    /// An object of fields, or - to read it from stdin
    fields: String,
    #[command(flatten)]
    write: WriteArgs,
}

/// Change some fields of a document.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot patch vms/vm-1 '{\"status\":\"idle\",\"note\":null}'          merge patch (RFC 7396): null removes
  folkmoot patch vms/vm-1 --json-patch '[{\"op\":\"replace\",\"path\":\"/status\",\"value\":\"idle\"}]'
  folkmoot patch vms/vm-1 '{\"host\":\"ash\"}' --durability quorum --token 7      fields that a quorum decides
  folkmoot patch vms/vm-1 --ops '[{\"field\":\"restarts\",\"incr\":1},{\"field\":\"labels\",\"add\":\"gpu\"}]'")]
pub struct PatchArgs {
    /// collection/id
    #[arg(value_name = "DOCUMENT")]
    address: Address,
    /// The patch, or - to read it from stdin
    patch: String,
    /// The patch is a JSON Patch (RFC 6902)
    #[arg(long, conflicts_with = "ops")]
    json_patch: bool,
    /// The patch is a list of operations: set, incr, add, remove
    #[arg(long)]
    ops: bool,
    /// Create the document when it is missing (else exit code 4)
    #[arg(long)]
    upsert: bool,
    /// With --durability quorum: the token under which the document's lock is held
    #[arg(long)]
    token: Option<u64>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Delete a document.
#[derive(Debug, Clone, Args)]
pub struct DelArgs {
    /// collection/id
    #[arg(value_name = "DOCUMENT")]
    address: Address,
    #[command(flatten)]
    write: WriteArgs,
}

/// Add to a counter; concurrent increments all count. Creates what is missing.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot incr workers/w1 restarts
  folkmoot incr workers/w1 slots_free -- -4")]
pub struct IncrArgs {
    /// collection/id
    #[arg(value_name = "DOCUMENT")]
    address: Address,
    /// The counter
    field: String,
    /// By how much
    #[arg(default_value_t = 1, allow_negative_numbers = true)]
    by: i64,
    #[command(flatten)]
    write: WriteArgs,
}

/// Add elements to a set; an add wins over a concurrent remove. Creates what is missing.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot add vms/vm-1 labels gpu eu
  folkmoot add vms/vm-1 ports 8080 '\"8080\"'      a number and a string: what is valid JSON is JSON")]
pub struct AddArgs {
    /// collection/id
    #[arg(value_name = "DOCUMENT")]
    address: Address,
    /// The set
    field: String,
    /// The elements: JSON where it is valid JSON, else text
    #[arg(required = true)]
    elements: Vec<String>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Remove elements from a set.
#[derive(Debug, Clone, Args)]
pub struct RmArgs {
    /// collection/id
    #[arg(value_name = "DOCUMENT")]
    address: Address,
    /// The set
    field: String,
    /// The elements: JSON where it is valid JSON, else text
    #[arg(required = true)]
    elements: Vec<String>,
    #[command(flatten)]
    write: WriteArgs,
}

pub async fn put(args: PutArgs, output: Output) -> Result<(), Error> {
    let fields = input::fields(&args.fields)?;
    send(Method::PUT, &args.address, Some(Body::json(Value::Object(fields))), &[], args.write, output).await
}

pub async fn patch(args: PatchArgs, output: Output) -> Result<(), Error> {
    let body = match (args.json_patch, args.ops) {
        (true, _) => Body::json_patch(Value::Array(input::operations(&args.patch)?)),
        (_, true) => Body::operations(Value::Array(input::operations(&args.patch)?)),
        _ => Body::merge_patch(Value::Object(input::fields(&args.patch)?)),
    };
    let query =
        [("upsert", args.upsert.then(|| String::from("true"))), ("token", args.token.map(|token| token.to_string()))];
    send(Method::PATCH, &args.address, Some(body), &query, args.write, output).await
}

pub async fn del(args: DelArgs, output: Output) -> Result<(), Error> {
    send(Method::DELETE, &args.address, None, &[], args.write, output).await
}

pub async fn incr(args: IncrArgs, output: Output) -> Result<(), Error> {
    let operations = json!([{ "field": args.field, "incr": args.by }]);
    send(Method::PATCH, &args.address, Some(Body::operations(operations)), &[upserts()], args.write, output).await
}

pub async fn add(args: AddArgs, output: Output) -> Result<(), Error> {
    let operations = on_elements("add", &args.field, &args.elements);
    send(Method::PATCH, &args.address, Some(Body::operations(operations)), &[upserts()], args.write, output).await
}

pub async fn rm(args: RmArgs, output: Output) -> Result<(), Error> {
    let operations = on_elements("remove", &args.field, &args.elements);
    send(Method::PATCH, &args.address, Some(Body::operations(operations)), &[], args.write, output).await
}

/// What creates a document that is missing.
fn upserts() -> (&'static str, Option<String>) {
    ("upsert", Some(String::from("true")))
}

fn on_elements(verb: &str, field: &str, elements: &[String]) -> Value {
    let one = |element: &String| json!({ "field": field, verb: input::value(element) });
    Value::Array(elements.iter().map(one).collect())
}

async fn send(
    method: Method,
    address: &Address,
    body: Option<Body>,
    query: &[(&str, Option<String>)],
    write: WriteArgs,
    output: Output,
) -> Result<(), Error> {
    let client = write.api.client()?;
    let query = address::query(&[query, &[("durability", write.durability)]].concat());
    let terms = Terms { clock: write.clock, if_match: write.if_match };
    let answer = client.send(method, &format!("{}{query}", address.path()), body, &terms).await?;
    let receipt: Value = client.parse(&answer)?;
    output.either(&receipt, || describe(&receipt))
}

/// A receipt in words: what was named and how safe it is.
fn describe(receipt: &Value) -> String {
    let text = |key: &str| match &receipt[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if let Some(version) = receipt["version"].as_u64() {
        return format!("decided by a quorum, version {version}");
    }
    match receipt["dot"].is_null() {
        true => String::from("nothing to write: the document already says so"),
        false => format!("{} {}", text("dot"), text("durability")),
    }
}

fn durability(text: &str) -> Result<String, String> {
    let replicas = text.strip_prefix("replicas:").and_then(|n| n.parse::<u32>().ok());
    match matches!(text, "memory" | "local" | "quorum") || replicas.is_some_and(|n| n > 0) {
        true => Ok(text.to_owned()),
        false => Err(String::from("choose memory, local, replicas:N with N of 1 or more, or quorum")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_json_where_they_can_be() {
        let operations = on_elements("add", "ports", &["8080".into(), "gpu".into()]);
        assert_eq!(operations, json!([{"field": "ports", "add": 8080}, {"field": "ports", "add": "gpu"}]));
    }

    #[test]
    fn a_durability_is_checked_before_anything_is_sent() {
        assert!(durability("replicas:3").is_ok() && durability("memory").is_ok());
        assert!(durability("replicas:0").is_err() && durability("disk").is_err() && durability("replicas:").is_err());
    }

    #[test]
    fn a_receipt_without_a_dot_wrote_nothing() {
        assert!(describe(&json!({ "dot": null })).starts_with("nothing to write"));
        assert_eq!(describe(&json!({ "dot": "a:1", "durability": "local" })), "a:1 local");
        let decided = json!({ "dot": null, "durability": "quorum", "version": 4 });
        assert_eq!(describe(&decided), "decided by a quorum, version 4");
    }
}
