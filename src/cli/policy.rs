//! `policy`: which resolver settles what.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::client::{ApiArg, Body, Terms};
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::conflict::Policy;
use crate::conflict::policy::Sample;

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
        name: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Put a policy in force at all nodes
    Put {
        name: String,
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Take a policy out of force
    Rm {
        name: String,
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
                let rules = item["definition"]["rules"].as_array().map_or(0, Vec::len);
                output.either(item, || {
                    format!(
                        "{}\t{}\t{rules} rules",
                        item["name"].as_str().unwrap_or_default(),
                        item["version"].as_str().unwrap_or_default()
                    )
                })?;
            }
            Ok(())
        }
        PolicyCommand::Show { name, api } => {
            let policy: Value = api.client()?.read(&format!("/v1/policies/{name}")).await?;
            output.pretty(&policy)
        }
        PolicyCommand::Put { name, file, api } => {
            let (client, policy) = (api.client()?, read(&file)?);
            let path = format!("/v1/policies/{name}");
            let answer =
                client.send(reqwest::Method::PUT, &path, Some(Body::json(json!(policy))), &Terms::default()).await?;
            let receipt: Value = client.parse(&answer)?;
            output.either(&receipt, || format!("policy {name} is in force: {} rules", policy.rules.len()))
        }
        PolicyCommand::Rm { name, api } => {
            let client = api.client()?;
            let receipt: Value = client.parse(&client.delete(&format!("/v1/docs/policies/{name}")).await?)?;
            output.either(&receipt, || format!("policy {name} is out of force"))
        }
        PolicyCommand::Test { policy, cases } => test(&policy, &cases, output),
        PolicyCommand::Preview { file, api } => {
            let (client, policy) = (api.client()?, read(&file)?);
            let preview: Value = client.parse(&client.post("/v1/policies/preview", json!(policy)).await?)?;
            let changed = preview["changed"].as_array().cloned().unwrap_or_default();
            for change in &changed {
                let (now, then) = (&change["now"], &change["then"]);
                output.either(change, || {
                    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let by = |conflict: &Value| format!("{} by {}", conflict["value"], word(&conflict["resolver"]));
                    format!("{} {}: {} now, {} then", word(&now["document"]), word(&now["field"]), by(now), by(then))
                })?;
            }
            output.say(format!("{} of today's conflicts would stand otherwise", changed.len()));
            Ok(())
        }
    }
}

fn test(policy: &Path, cases: &Path, output: Output) -> Result<(), Error> {
    let policy = read(policy)?;
    let text = text(cases)?;
    let cases: Cases = toml::from_str(&text)
        .map_err(|error| Error::Usage(format!("{}: {}", cases.display(), error.to_string().trim_end())))?;
    let mut failed = 0;
    for sample in &cases.cases {
        let tried = policy.try_on(sample);
        failed += u32::from(!tried.passed);
        output.either(&tried, || {
            let mark = if tried.passed { "ok" } else { "FAILED" };
            let value = tried.value.as_ref().map_or_else(|| tried.cause.clone().unwrap_or_default(), Value::to_string);
            let rule = tried.rule.as_deref().unwrap_or("no rule");
            format!(
                "{mark:6} {} {}: {value} by {rule} ({})",
                tried.document,
                tried.field,
                tried.resolver.unwrap_or("none")
            )
        })?;
    }
    output.say(format!("{} cases, {failed} failed", cases.cases.len()));
    if failed > 0 { Err(Error::Failed(format!("{failed} cases did not come out as expected"))) } else { Ok(()) }
}

fn read(path: &Path) -> Result<Policy, Error> {
    let policy = Policy::parse(&text(path)?);
    policy.map_err(|error| Error::Usage(format!("{}:{}:{}: {}", path.display(), error.line, error.column, error.cause)))
}

fn text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::Usage(format!("cannot read {}: {error}", path.display())))
}
