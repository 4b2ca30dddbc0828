//! `policy`: which resolver settles what.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::address::{Address, encode, query};
use crate::cli::client::{ApiArg, Body, Client, Terms};
use crate::cli::exit::Error;
use crate::cli::output::{Output, many};
use crate::cli::problem::Problem;
use crate::conflict::Policy;
use crate::conflict::sample::{Missed, Sample};

/// Put policies in force, and try them first.
///
/// A policy is an ordered list of rules; the first rule that fits a conflict names its resolver. It is a replicated
/// document: put at one node, it holds at all.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot policy test policies.toml cases.toml      offline: what it makes of made-up conflicts
  folkmoot policy preview policies.toml              what it would change of today's, changing nothing
  folkmoot policy put vms policies.toml
  folkmoot policy ls

A file of cases:
  [[cases]]
  document = \"vms/1\"
  field = \"power_state\"
  siblings = [\"stopped\", \"running\"]     the newest first
  fields = { tier = \"serving\" }
  expect = \"running\"")]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum PolicyCommand {
    /// List the policies in force, in the order in which they are asked
    Ls {
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show a policy
    Show {
        #[arg(value_parser = name)]
        name: Address,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Put a policy in force at all nodes
    Put {
        #[arg(value_parser = name)]
        name: Address,
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Take a policy out of force
    Rm {
        #[arg(value_parser = name)]
        name: Address,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Try a policy on made-up conflicts; asks no node
    Test {
        #[arg(value_name = "POLICY")]
        policy: PathBuf,
        #[arg(value_name = "CASES")]
        cases: PathBuf,
    },
    /// Say what a policy would change of today's conflicts
    Preview {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        api: ApiArg,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    cases: Vec<Sample>,
}

pub async fn policy(args: PolicyArgs, output: Output) -> Result<(), Error> {
    match args.command {
        PolicyCommand::Ls { api } => {
            let page: Value = api.client()?.read("/v1/policies").await?;
            let items = page["items"].as_array().cloned().unwrap_or_default();
            if items.is_empty() {
                output.say("no policies: schemas say what settles");
            }
            for item in &items {
                let rules = many(item["definition"]["rules"].as_array().map_or(0, Vec::len) as u64, "rule");
                output.either(item, || {
                    format!(
                        "{}\t{}\t{rules}",
                        item["name"].as_str().unwrap_or_default(),
                        item["version"].as_str().unwrap_or_default()
                    )
                })?;
            }
            Ok(())
        }
        PolicyCommand::Show { name, api } => {
            let read = api.client()?.read(&path(&name)).await;
            let policy: Value = read.map_err(|error| missing(error, name.id()))?;
            output.pretty(&policy)
        }
        PolicyCommand::Put { name, file, api } => {
            let (client, policy) = (api.client()?, read(&file)?);
            let answer = client
                .send(reqwest::Method::PUT, &path(&name), Some(Body::json(json!(policy))), &Terms::default())
                .await?;
            let receipt: Value = client.parse(&answer)?;
            let rules = many(policy.rules.len() as u64, "rule");
            output.either(&receipt, || format!("policy {} is in force: {rules}", name.id()))
        }
        PolicyCommand::Rm { name, api } => {
            let client = api.client()?;
            let answer = client.delete(&name.path()).await.map_err(|error| missing(error, name.id()))?;
            let receipt: Value = client.parse(&answer)?;
            output.either(&receipt, || format!("policy {} is out of force", name.id()))
        }
        PolicyCommand::Test { policy, cases } => test(&policy, &cases, output),
        PolicyCommand::Preview { file, api } => {
            let (client, policy) = (api.client()?, read(&file)?);
            preview(&client, &policy, output).await
        }
    }
}

/// A policy's name is the id of its document.
fn name(text: &str) -> Result<Address, String> {
    Address::new("policies", text)
}

fn path(name: &Address) -> String {
    format!("/v1/policies/{}", encode(name.id(), false))
}

/// What a node says of a document that is missing, said of a policy.
fn missing(error: Error, name: &str) -> Error {
    match error {
        Error::Refused(problem) if problem.status == 404 => Error::Refused(Problem {
            title: "There is no such policy".to_owned(),
            detail: format!("`{name}` is not in force: `folkmoot policy ls` lists those that are"),
            ..problem
        }),
        other => other,
    }
}

async fn preview(client: &Client, policy: &Policy, output: Output) -> Result<(), Error> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let stands = |conflict: &Value| {
        let rule = conflict["policy"].as_str().and_then(|name| name.split_once('/')).map(|(_, rule)| rule);
        let rule = rule.map_or_else(String::new, |rule| format!(", rule {rule}"));
        format!("{} by {} ({}{rule})", conflict["value"], word(&conflict["resolver"]), word(&conflict["status"]))
    };
    let mut after = None;
    loop {
        let asked = query(&[("limit", Some("1000".to_owned())), ("after", after)]);
        let page: Value = client.parse(&client.post(&format!("/v1/policies/preview{asked}"), json!(policy)).await?)?;
        for change in page["changed"].as_array().into_iter().flatten() {
            let (now, then) = (&change["now"], &change["then"]);
            output.either(change, || {
                format!(
                    "{} {}: {} now, {} then",
                    word(&now["document"]),
                    word(&now["field"]),
                    stands(now),
                    stands(then)
                )
            })?;
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            let of = many(page["of"].as_u64().unwrap_or_default(), "conflict");
            let would = format!("{} of the {of} that a policy may settle would stand otherwise", page["count"]);
            output.say(format!("{would}; broken rules of schemas are not counted: no policy settles them"));
            return Ok(());
        }
    }
}

fn test(policy: &Path, cases: &Path, output: Output) -> Result<(), Error> {
    let policy = read(policy)?;
    let text = text(cases)?;
    let cases: Cases = toml::from_str(&text)
        .map_err(|error| Error::Usage(format!("{}: {}", cases.display(), error.to_string().trim_end())))?;
    let mut failed = 0_u32;
    for sample in &cases.cases {
        let tried = policy.try_on(sample);
        failed += u32::from(!tried.passed);
        output.either(&tried, || {
            let mark = if tried.passed { "ok" } else { "FAILED" };
            let value = tried.value.as_ref().map_or_else(|| tried.cause.clone().unwrap_or_default(), Value::to_string);
            let by = tried.rule.as_ref().map(|rule| format!(" by {rule} ({})", tried.resolver.unwrap_or("none")));
            let mut line = format!("{mark:6} {} {}: {value}{}", tried.document, tried.field, by.unwrap_or_default());
            for Missed { what, expected, came } in &tried.missed {
                line.push_str(&format!(
                    "\n         {what}: expected {}, came {}",
                    named(what, expected),
                    named(what, came)
                ));
            }
            line
        })?;
    }
    output.say(format!("{}, {failed} failed", many(cases.cases.len() as u64, "case")));
    let failures = || format!("{} did not come out as expected", many(failed, "case"));
    if failed > 0 { Err(Error::Failed(failures())) } else { Ok(()) }
}

/// What was expected, or came. No rule is written as an empty one.
fn named(what: &str, value: &Value) -> String {
    let none = value.is_null() || what == "rule" && value == "";
    if none { "none".to_owned() } else { value.to_string() }
}

fn read(path: &Path) -> Result<Policy, Error> {
    let policy = Policy::parse(&text(path)?);
    policy.map_err(|error| Error::Usage(format!("{}:{}:{}: {}", path.display(), error.line, error.column, error.cause)))
}

fn text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))
}
