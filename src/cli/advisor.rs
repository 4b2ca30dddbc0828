//! `advisor`: what was learned from this cluster's decisions on conflicts.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::{ApiArg, Client};
use crate::cli::conflicts::{Among, whoever, whole};
use crate::cli::exit::Error;
use crate::cli::output::Output;
use crate::conflict::advisor::training::DECISIONS_MIN;

/// Learn from the decisions people made on conflicts, and advise.
///
/// The advisor names a strategy for a new conflict, or abstains. A field whose resolver is `advisor` is settled by it;
/// elsewhere its advice stands beside conflicts that wait for a person.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Examples:
  folkmoot advisor show                  is it on, what does it know
  folkmoot advisor train                 learn from all decisions; the model holds at all nodes
  folkmoot advisor eval                  how good it was on decisions it had not seen
  folkmoot advisor explain 4f0c…         what it says about a conflict, and why

It learns from 50 decisions on; until then it is off and says how many there are.

Exit codes: 1, train, eval and explain while it is off or has too few decisions; 4, explain: there is no such
conflict. show ends with 0 and says why it is off.")]
pub struct AdvisorArgs {
    #[command(subcommand)]
    command: AdvisorCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum AdvisorCommand {
    /// Show whether it is on, and its model
    Show {
        #[command(flatten)]
        api: ApiArg,
    },
    /// Learn from every decision that is kept, and put the model in force at all nodes
    Train {
        /// Who does it, for the record [default: $USER]
        #[arg(long)]
        by: Option<String>,
        #[command(flatten)]
        api: ApiArg,
    },
    /// Show how good it was on decisions it had not seen
    Eval {
        #[command(flatten)]
        api: ApiArg,
    },
    /// Say what it says about a conflict, and what spoke for that
    Explain {
        /// The conflict; its first digits will do
        id: String,
        #[command(flatten)]
        api: ApiArg,
    },
}

pub async fn advisor(args: AdvisorArgs, output: Output) -> Result<(), Error> {
    match args.command {
        AdvisorCommand::Show { api } => {
            let status = status(&api.client()?).await?;
            output.either(&status, || shown(&status))
        }
        AdvisorCommand::Train { by, api } => {
            let client = api.client()?;
            let body = json!({ "by": whoever(by) });
            let trained: Value = client.parse(&client.post("/v1/advisor/train", body).await?)?;
            output.either(&trained, || model(&trained["model"]))
        }
        AdvisorCommand::Eval { api } => {
            let status = status(&api.client()?).await?;
            if let Some(why) = status["why"].as_str() {
                let have = status["decisions"].as_u64().unwrap_or_default();
                return Err(Error::Failed(format!("nothing to evaluate: {why}. {}", needed(have))));
            }
            let both = json!({ "evaluation": status["evaluation"], "since": status["since"] });
            output.either(&both, || {
                let held_out = "trained on the earlier 70 %, asked about the later 30 %";
                let learned = status["model"]["decisions"].as_u64().unwrap_or_default();
                let few = format!("too few decisions to tell: of {learned}, the earlier 70 % must be {DECISIONS_MIN}");
                let lines = [
                    ("at the training", held_out, few.as_str(), "evaluation"),
                    ("since then", "the model in force", "no decisions to tell by", "since"),
                ];
                lines.map(|(when, how, few, key)| rated(when, how, few, &both[key])).join("\n")
            })
        }
        AdvisorCommand::Explain { id, api } => {
            let client = api.client()?;
            let id = whole(&client, &id, &[Among::Listed]).await?;
            let told: Value = client.parse(&client.post("/v1/advisor/explain", json!({ "conflict": id })).await?)?;
            output.either(&told, || explained(&told))
        }
    }
}

async fn status(client: &Client) -> Result<Value, Error> {
    client.read("/v1/advisor").await
}

fn shown(status: &Value) -> String {
    match status["why"].as_str() {
        Some(why) => format!("off: {why}"),
        None => format!("on: {}\n{} decisions are kept now", model(&status["model"]), status["decisions"]),
    }
}

fn model(model: &Value) -> String {
    let names = model["strategies"].as_array().into_iter().flatten().filter_map(Value::as_str);
    format!(
        "model {} by {}, learned from {} of {} decisions: {}",
        model["version"],
        model["by"].as_str().unwrap_or_default(),
        model["learned_from"],
        model["decisions"],
        names.collect::<Vec<_>>().join(", ")
    )
}

/// What a training asks for, and what there is.
fn needed(have: u64) -> String {
    format!(
        "A training takes {DECISIONS_MIN} decisions, and there {}",
        match have {
            1 => "is 1".to_owned(),
            have => format!("are {have}"),
        }
    )
}

fn rated(when: &str, how: &str, few: &str, rated: &Value) -> String {
    if rated.is_null() {
        return format!("{when}: {few} ({how})");
    }
    let percent =
        |key: &str| rated[key].as_f64().map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    format!(
        "{when}: {} decisions, {} answered, {} of these right ({how})",
        rated["decisions"],
        percent("coverage"),
        percent("accuracy")
    )
}

fn explained(told: &Value) -> String {
    let advice = match told["advice"].as_str() {
        Some(strategy) => format!("{strategy}, {:.0} %", told["confidence"].as_f64().unwrap_or_default() * 100.0),
        None => format!("no advice: {}", told["abstains"].as_str().unwrap_or_default()),
    };
    let voices = |side: &str, mark: &str| {
        let voices = told["explanation"][side].as_array().cloned().unwrap_or_default();
        let line = |voice: &Value| {
            let weight = voice["weight"].as_f64().unwrap_or_default();
            format!("\n  {mark} {} ({weight:+.2})", voice["feature"].as_str().unwrap_or_default())
        };
        voices.iter().map(line).collect::<String>()
    };
    format!("{advice}{}{}", voices("for_it", "for"), voices("against_it", "against"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_is_told_in_percent_and_its_lack_in_words() {
        let told = json!({"decisions": 30, "coverage": 0.5, "accuracy": 0.875});
        assert_eq!(rated("now", "so", "few", &told), "now: 30 decisions, 50.0 % answered, 87.5 % of these right (so)");
        assert!(rated("now", "so", "too few", &Value::Null).contains("too few"));
        let silent = json!({"decisions": 30, "coverage": 0.0, "accuracy": null});
        assert!(rated("now", "so", "few", &silent).contains("- of these right"));
    }

    #[test]
    fn what_an_evaluation_lacks_is_told_in_numbers() {
        assert_eq!(needed(1), "A training takes 50 decisions, and there is 1");
        assert!(needed(49).ends_with("there are 49"));
    }

    #[test]
    fn what_spoke_for_it_stands_under_the_advice() {
        let told = json!({"advice": "max", "confidence": 0.91, "explanation": {
            "for_it": [{"feature": "kind=number", "weight": 1.5}], "against_it": [{"feature": "siblings>2", "weight": -0.25}]}});
        assert_eq!(explained(&told), "max, 91 %\n  for kind=number (+1.50)\n  against siblings>2 (-0.25)");
    }
}
