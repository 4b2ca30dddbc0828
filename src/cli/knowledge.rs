//! `knowledge`: what agents tell each other, and where it repeats or contradicts itself.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::address::query;
use crate::cli::client::ApiArg;
use crate::cli::exit::Error;
use crate::cli::output::Output;

/// Add and find what agents know.
///
/// An item is a text of some type by some source. Items of one type are compared: duplicates, contradictions and overlaps
/// are told, and never refused.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot knowledge add 'The gateway of rack A is 10.0.0.1' --source agent-3 --confidence 0.9
  folkmoot knowledge ls --text gateway
  folkmoot knowledge similar 'The gateway of rack A is 10.0.0.2'
  folkmoot knowledge similar --id 0198c…
  folkmoot knowledge findings --class contradiction")]
pub struct KnowledgeArgs {
    #[command(subcommand)]
    command: KnowledgeCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum KnowledgeCommand {
    /// Add an item, and say what it repeats or contradicts
    Add {
        content: String,
        /// Only items of one type are compared
        #[arg(long = "type", value_name = "TYPE", default_value = "fact")]
        kind: String,
        /// Who says so
        #[arg(long)]
        source: Option<String>,
        /// 0 is a guess, 1 is certain [default: 1]
        #[arg(long, value_parser = confidence, allow_negative_numbers = true)]
        confidence: Option<f64>,
        /// How soon others should hear of it; larger is sooner
        #[arg(long, allow_hyphen_values = true)]
        urgency: Option<i64>,
        /// How much it matters; larger is more
        #[arg(long, allow_hyphen_values = true)]
        priority: Option<i64>,
        /// Its id, which must be new [default: one that sorts by time]
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List items
    Ls {
        /// Only those of this type
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only what this source says
        #[arg(long)]
        source: Option<String>,
        /// Only those that hold all of these words, in any case
        #[arg(long)]
        text: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say what the items are to a text, or to one of them
    Similar {
        #[arg(required_unless_present = "id", conflicts_with = "id")]
        content: Option<String>,
        /// One of the items
        #[arg(long)]
        id: Option<String>,
        /// The type of the text
        #[arg(long = "type", value_name = "TYPE", default_value = "fact", conflicts_with = "id")]
        kind: String,
        #[command(flatten)]
        api: ApiArg,
    },
    /// List what this node found about items that came or changed since its start
    Findings {
        /// Only those of this class
        #[arg(long, value_parser = ["contradiction", "duplicate", "overlap"])]
        class: Option<String>,
        /// So many at most
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000))]
        limit: u64,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn knowledge(args: KnowledgeArgs, output: Output) -> Result<(), Error> {
    match args.command {
        KnowledgeCommand::Add { content, kind, source, confidence, urgency, priority, id, api } => {
            let client = api.client()?;
            let mut item = json!({
                "id": id, "type": kind, "content": content, "source": source, "urgency": urgency, "priority": priority,
            });
            // A null here would be taken for a NaN.
            if let Some(confidence) = confidence {
                item["confidence"] = confidence.into();
            }
            let added: Value = client.parse(&client.post("/v1/knowledge", item).await?)?;
            output.either(&added, || added["id"].as_str().unwrap_or_default().to_owned())?;
            // Data is the id; what was found is a word about it.
            list(&added["findings"]).for_each(|finding| output.say(line(finding)));
            Ok(())
        }
        KnowledgeCommand::Ls { kind, source, text, api } => {
            let client = api.client()?;
            let mut after = None;
            loop {
                let asked =
                    [("type", kind.clone()), ("source", source.clone()), ("text", text.clone()), ("after", after)];
                let page: Value = client.read(&format!("/v1/knowledge{}", query(&asked))).await?;
                for item in list(&page["items"]) {
                    output.either(item, || {
                        let field = |name: &str| item[name].as_str().unwrap_or_default();
                        format!("{}\t{}\t{}\t{}", field("id"), field("type"), field("source"), field("content"))
                    })?;
                }
                after = page["next"].as_str().map(str::to_owned);
                if after.is_none() {
                    return Ok(());
                }
            }
        }
        KnowledgeCommand::Similar { content, id, kind, api } => {
            let client = api.client()?;
            let asked = match id {
                Some(id) => json!({ "id": id }),
                None => json!({ "type": kind, "content": content }),
            };
            let found: Value = client.parse(&client.post("/v1/knowledge/similar", asked).await?)?;
            print(&found["findings"], output)
        }
        KnowledgeCommand::Findings { class, limit, api } => {
            let asked = query(&[("class", class), ("limit", Some(limit.to_string()))]);
            let found: Value = api.client()?.read(&format!("/v1/knowledge/findings{asked}")).await?;
            print(&found["items"], output)
        }
    }
}

/// JSON has no NaN: one that was sent would arrive as nothing, and nothing means certain.
fn confidence(text: &str) -> Result<f64, String> {
    let refuse = || format!("`{text}` is no number from 0 to 1");
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(refuse)
}

fn list(items: &Value) -> impl Iterator<Item = &Value> {
    items.as_array().into_iter().flatten()
}

fn print(findings: &Value, output: Output) -> Result<(), Error> {
    list(findings).try_for_each(|finding| output.either(finding, || line(finding)))
}

/// Class, score, the other item, and why; before them the item it is about, where one is named.
fn line(finding: &Value) -> String {
    let field = |name: &str| finding[name].as_str().unwrap_or_default();
    let words = |name: &str| list(&finding[name]).filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    let about = if finding["id"].is_string() { format!("{}\t", field("id")) } else { String::new() };
    let why = if words("opposed").is_empty() { words("shared") } else { words("opposed") };
    let score = finding["score"].as_f64().unwrap_or_default();
    format!("{about}{}\t{score:.2}\t{}\t{why}", field("class"), field("other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confidence_is_a_number_from_0_to_1() {
        assert_eq!(["0", "0.5", "1"].map(|text| confidence(text).is_ok()), [true; 3]);
        assert_eq!(["NaN", "inf", "-inf", "-0.1", "1.01", "high", ""].map(|text| confidence(text).is_ok()), [false; 7]);
    }

    #[test]
    fn a_finding_is_one_line_that_says_why() {
        let mut finding = json!({"class": "contradiction", "score": 0.8333, "other": "k1", "shared": ["port"], "opposed": ["`1` / `2`"]});
        assert_eq!(line(&finding), "contradiction\t0.83\tk1\t`1` / `2`");
        finding["opposed"] = json!([]);
        finding["id"] = json!("k2");
        assert_eq!(line(&finding), "k2\tcontradiction\t0.83\tk1\tport");
    }
}
