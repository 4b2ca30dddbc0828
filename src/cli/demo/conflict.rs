//! One of the conflicts that the split left behind is listed, settled by a policy, found in the
//! ledger, and its overruled value brought back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::client::{Body, Client, Terms};
use crate::cli::demo::checks::Check;
use crate::cli::demo::script::{ASH, CONTESTED, ELM, OAK};
use crate::cli::exit::Error;
use crate::cli::processes::LocalCluster;
use crate::cli::view::short_digest;

const FIELD: &str = "power_state";
const RULE: &str = "a stop stands";
const EQUAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Each step is taken at another node than the one before, since it makes no difference.
pub async fn play(cluster: &LocalCluster) -> Result<Vec<Check>, Error> {
    let clients = cluster.clients();
    let mut checks = Vec::new();
    let listed = list(&clients).await?;
    let [conflict, ..] = &listed[..] else { return Ok(checks) };
    let id = conflict["id"].as_str().unwrap_or_default();
    checks.push(one_conflict(&listed, id));

    let policy = json!({ "rules": [{
        "name": RULE, "collections": ["vms"], "fields": [FIELD], "resolver": "priority", "order": ["stopped", "paused"],
    }] });
    let path = "/v1/policies/demo";
    clients[ASH].send(reqwest::Method::PUT, path, Some(Body::json(policy)), &Terms::default()).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    checks.push(decided(&list(&clients).await?, id));

    let (check, dot) = remembered(&clients[OAK]).await?;
    checks.push(check);
    clients[ELM].post(&format!("/v1/conflicts/{id}/undo"), json!({ "dot": dot, "by": "demo" })).await?;
    cluster.wait_equal(EQUAL_TIMEOUT).await?;
    checks.push(undone(&clients).await?);
    Ok(checks)
}

/// The conflict as each node lists it; null at one that does not.
async fn list(clients: &[Client]) -> Result<Vec<Value>, Error> {
    let mut listed = Vec::new();
    for client in clients {
        let page: Value = client.read("/v1/conflicts?collection=vms&limit=1000").await?;
        let is_it = |item: &&Value| item["document"] == CONTESTED && item["field"] == FIELD;
        listed.push(page["items"].as_array().into_iter().flatten().find(is_it).cloned().unwrap_or_default());
    }
    Ok(listed)
}

fn one_conflict(listed: &[Value], id: &str) -> Check {
    let claim = format!(
        "conflict {} is \"paused\" beside \"stopped\" in {CONTESTED} {FIELD}: all three list it under this id, settled by \
         priority",
        short_digest(id)
    );
    let holds =
        |conflict: &Value| conflict["id"] == id && conflict["resolver"] == "priority" && conflict["value"] == "paused";
    Check::on_each(claim, listed, holds)
}

fn decided(listed: &[Value], id: &str) -> Check {
    let policy = listed.first().and_then(|conflict| conflict["policy"].as_str()).unwrap_or("no policy");
    let claim = format!("a policy, put at ash, settles it as \"stopped\" on all three, and says so: {policy}");
    let holds = |conflict: &Value| {
        let by = conflict["policy"].as_str().unwrap_or_default();
        conflict["id"] == id && conflict["value"] == "stopped" && by.starts_with("demo@") && by.ends_with(RULE)
    };
    Check::on_each(claim, listed, holds)
}

/// What oak's ledger says of "paused", and its dot.
async fn remembered(oak: &Client) -> Result<(Check, Value), Error> {
    let ledger: Value = oak.read(&format!("/v1/ledger?document={CONTESTED}&limit=1000")).await?;
    let items = || ledger["items"].as_array().into_iter().flatten().filter(|item| item["field"] == FIELD);
    let of = |value: &str| items().find(|item| item["value"] == value).cloned().unwrap_or_default();
    let (paused, stopped) = (of("paused"), of("stopped"));
    let claim = String::from(
        "oak's ledger keeps both values with their dots; after the healing \"stopped\" had given way, by priority",
    );
    let holds = |ledger: &Value| {
        let [paused, stopped] = [&ledger[0], &ledger[1]];
        stopped["overruled"] == true && stopped["rule"] == "priority" && stopped["winner"] == paused["dot"]
    };
    let dot = paused["dot"].clone();
    Ok((Check::on_each(claim, &[json!([paused, stopped])], holds), dot))
}

async fn undone(clients: &[Client]) -> Result<Check, Error> {
    let mut shown = Vec::new();
    for client in clients {
        shown.push(client.read(&format!("/v1/docs/{CONTESTED}")).await?);
    }
    let claim =
        format!("an undo at elm brings \"paused\" back: all three read it, and {CONTESTED} has no siblings left");
    let holds = |document: &Value| {
        document["fields"][FIELD] == "paused" && document["siblings"].as_object().is_some_and(serde_json::Map::is_empty)
    };
    Ok(Check::on_each(claim, &shown, holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_lists_another_conflict_or_another_value_is_named() {
        let good = json!({ "id": "c", "value": "paused", "resolver": "priority" });
        let mut other = good.clone();
        other["id"] = "d".into();
        assert!(one_conflict(&[good.clone(), good.clone()], "c").held);
        let check = one_conflict(&[good.clone(), other, Value::Null], "c");
        assert!(!check.held && check.found.len() == 2 && check.found[0].starts_with("ash: "), "{check:?}");
        let mut settled = good;
        settled["value"] = "stopped".into();
        assert!(!decided(&[settled.clone()], "c").held, "no policy");
        settled["policy"] = format!("demo@1/{RULE}").into();
        assert!(decided(&[settled], "c").held);
    }
}
