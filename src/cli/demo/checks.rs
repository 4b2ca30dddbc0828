//! What must come out on every node once the split has healed.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use crate::cli::client::Client;
use crate::cli::demo::script::{self, NAMES};
use crate::cli::exit::Error;
use crate::cli::read::Pages;

/// One expectation, and whether every node met it.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    pub claim: String,
    pub held: bool,
    /// What was found where it did not hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<String>,
}

impl Check {
    /// A claim about what each of the nodes shows.
    pub fn on_each(claim: String, shown: &[Value], holds: impl Fn(&Value) -> bool) -> Self {
        let wrong = shown.iter().zip(NAMES).filter(|(shown, _)| !holds(shown));
        let found: Vec<String> = wrong.map(|(shown, name)| format!("{name}: {shown}")).collect();
        Self { claim, held: found.is_empty(), found }
    }
}

/// What one node holds of what the demo wrote.
#[derive(Debug, Clone, PartialEq)]
struct Holding {
    /// power_state and note of the two contested VMs, with their siblings.
    contested: Vec<Contested>,
    labels: BTreeSet<String>,
    requests: Option<i64>,
    deleted_is_gone: bool,
    vms: u64,
    tasks: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Contested {
    shown: Value,
    siblings: BTreeSet<String>,
}

impl Contested {
    fn of(document: &Value, field: &str) -> Self {
        let siblings = document["siblings"][field].as_array().into_iter().flatten();
        Self {
            shown: document["fields"][field].clone(),
            siblings: siblings.filter_map(|sibling| sibling["value"].as_str().map(str::to_owned)).collect(),
        }
    }
}

/// Asks every node and holds it against the script.
pub async fn all(clients: &[Client]) -> Result<Vec<Check>, Error> {
    let mut holdings = Vec::new();
    for (client, name) in clients.iter().zip(script::NAMES) {
        holdings.push((name, Holding::read(client).await?));
    }
    Ok(judge(&holdings))
}

fn judge(holdings: &[(&str, Holding)]) -> Vec<Check> {
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<String>>();
    let check = |claim: String, good: &dyn Fn(&Holding) -> bool, show: &dyn Fn(&Holding) -> String| {
        let bad = holdings.iter().filter(|(_, holding)| !good(holding));
        let found: Vec<String> = bad.map(|(name, holding)| format!("{name}: {}", show(holding))).collect();
        Check { claim, held: found.is_empty(), found }
    };
    let contested = |index: usize, what: &str, shown: &str, other: &str| {
        check(
            format!("{what} shows {shown:?}; {other:?} stays visible as a sibling"),
            &|holding| {
                let field = &holding.contested[index];
                field.shown == shown && field.siblings == set(&[shown, other])
            },
            &|holding| format!("{:?}", holding.contested[index]),
        )
    };
    let vms = script::VMS - 1;
    let tasks = script::TASKS_TOGETHER + script::TASKS_WEST + script::TASKS_EAST;
    vec![
        contested(0, "vms/vm-07 power_state", "paused", "stopped"),
        contested(1, "vms/vm-12 note", "keep it", "drain it"),
        check(
            String::from(
                "vms/vm-07 labels is {eu, gpu, spot}: both sides' adds are in, old is out, and eu, added anew, outlives \
                 its concurrent removal",
            ),
            &|holding| holding.labels == set(&["eu", "gpu", "spot"]),
            &|holding| format!("{:?}", holding.labels),
        ),
        check(
            format!("fleet/totals requests is {}: every increment of both sides, each once", script::REQUESTS),
            &|holding| holding.requests == Some(script::REQUESTS),
            &|holding| format!("{:?}", holding.requests),
        ),
        check(
            String::from("vms/vm-21, deleted on one side and changed on the other, stays deleted"),
            &|holding| holding.deleted_is_gone,
            &|_| String::from("it is back"),
        ),
        check(
            format!("{vms} VMs and {tasks} tasks: the batches of both sides, whole"),
            &|holding| (holding.vms, holding.tasks) == (vms, tasks),
            &|holding| format!("{} VMs, {} tasks", holding.vms, holding.tasks),
        ),
    ]
}

impl Holding {
    async fn read(client: &Client) -> Result<Self, Error> {
        let first: Value = client.read("/v1/docs/vms/vm-07").await?;
        let second: Value = client.read("/v1/docs/vms/vm-12").await?;
        let totals: Value = client.read("/v1/docs/fleet/totals").await?;
        let deleted_is_gone = match client.get("/v1/docs/vms/vm-21").await {
            Ok(_) => false,
            Err(Error::Refused(problem)) if problem.status == 404 => true,
            Err(error) => return Err(error),
        };
        let labels = first["fields"]["labels"].as_array().into_iter().flatten();
        Ok(Self {
            contested: vec![Contested::of(&first, "power_state"), Contested::of(&second, "note")],
            labels: labels.filter_map(|label| label.as_str().map(str::to_owned)).collect(),
            requests: totals["fields"]["requests"].as_i64(),
            deleted_is_gone,
            vms: count(client, "vms").await?,
            tasks: count(client, "tasks").await?,
        })
    }
}

async fn count(client: &Client, collection: &str) -> Result<u64, Error> {
    let mut pages = Pages::new(collection, None);
    let mut documents = 0;
    while let Some(page) = pages.next(client, u64::MAX).await? {
        documents += page.len() as u64;
    }
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Holding {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<String>>();
        Holding {
            contested: vec![
                Contested { shown: "paused".into(), siblings: words(&["paused", "stopped"]) },
                Contested { shown: "keep it".into(), siblings: words(&["keep it", "drain it"]) },
            ],
            labels: words(&["eu", "gpu", "spot"]),
            requests: Some(script::REQUESTS),
            deleted_is_gone: true,
            vms: 29,
            tasks: 120,
        }
    }

    #[test]
    fn what_is_expected_holds() {
        assert!(judge(&[("oak", good()), ("elm", good())]).iter().all(|check| check.held));
    }

    #[test]
    fn one_node_that_differs_breaks_its_claim_and_is_named() {
        let mut wrong = [good(), good(), good(), good(), good(), good()];
        wrong[0].contested[0].siblings.remove("stopped");
        wrong[1].contested[1].shown = "drain it".into();
        wrong[2].labels.insert("old".into());
        wrong[3].requests = Some(script::REQUESTS - 1);
        wrong[4].deleted_is_gone = false;
        wrong[5].tasks = 119;
        for (index, wrong) in wrong.into_iter().enumerate() {
            let checks = judge(&[("oak", good()), ("elm", wrong)]);
            let broken: Vec<usize> = (0..checks.len()).filter(|at| !checks[*at].held).collect();
            assert_eq!(broken, [index]);
            assert!(checks[index].found[0].starts_with("elm: "));
        }
    }
}
