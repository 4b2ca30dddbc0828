//! What the nodes hold, against what was acknowledged.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::address::query;
use crate::cli::client::Client;
use crate::cli::exit::Error;
use crate::cli::replay::tight::shift::Stage;
use crate::cli::replay::tight::truth::{End, Story, Truth};
use crate::cli::replay::tight::verbs::Room;

/// While the work goes on: no host has more, by any node's account, than its memory, and nothing placed is void.
pub async fn check_rooms(stage: &Stage<'_>, is_over: bool) -> Result<(), Error> {
    for (node, client) in stage.clients.iter().enumerate() {
        for (host, limit_mib) in stage.crew.hosts.iter().map(|host| (&host.id, host.limit_mib)) {
            let room = stage.verbs(node).room(host).await?;
            let api = client.api();
            for words in wrong_with(&room, limit_mib, is_over) {
                stage.truth.lock().wrong(format!("{api}: host {host} {words}"));
            }
        }
    }
    Ok(())
}

fn wrong_with(room: &Room, limit_mib: u64, is_over: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let (used, allotted) = (room.used.memory_mb, room.allotted());
    if room.limits.memory_mb != limit_mib {
        wrong.push(format!("has {} MiB instead of {limit_mib}", room.limits.memory_mb));
    }
    if used > limit_mib || allotted > limit_mib {
        wrong.push(format!("holds {used} MiB, and rights to {allotted}, of {limit_mib}"));
    }
    wrong.extend(room.void.iter().map(|placed| format!("counts {} of {} for nothing", placed.thing, placed.by)));
    if is_over {
        wrong.extend(room.placements.iter().map(|placed| format!("still holds {}", placed.thing)));
    }
    wrong
}

/// At the end: each node has every task of the trace, as its end was told.
pub async fn check_tasks(stage: &Stage<'_>) -> Result<(), Error> {
    for client in stage.clients {
        let held = tasks(client).await?;
        let mut truth = stage.truth.lock();
        for words in wrong_tasks(&truth, &held) {
            truth.wrong(format!("{}: {words}", client.api()));
        }
    }
    Ok(())
}

async fn tasks(client: &Client) -> Result<BTreeMap<String, Value>, Error> {
    let (mut all, mut after) = (BTreeMap::new(), None);
    loop {
        let asked = query(&[("after", after), ("limit", Some("1000".to_owned()))]);
        let page: Value = client.read(&format!("/v1/tasks{asked}")).await?;
        for task in page["items"].as_array().into_iter().flatten() {
            all.insert(task["id"].as_str().unwrap_or_default().to_owned(), task.clone());
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(all);
        }
    }
}

fn wrong_tasks(truth: &Truth, held: &BTreeMap<String, Value>) -> Vec<String> {
    let wrong = truth.stories.iter().filter_map(|story| Some((story, wrong_with_task(story, held.get(&story.id))?)));
    wrong.map(|(story, words)| format!("task {} {words}", story.id)).collect()
}

fn wrong_with_task(story: &Story, held: Option<&Value>) -> Option<String> {
    let Some(task) = held else {
        return Some("is lost".to_owned());
    };
    let state = task["state"].as_str().unwrap_or_default();
    let under = task["ended_under"].as_u64();
    let is_so = match story.end.as_ref() {
        Some(End::Done { token, by }) => {
            state == "done" && under == Some(*token) && task["worker"] == **by && task["result"]["by"] == **by
        }
        Some(End::Failed { token }) => state == "failed" && under == Some(*token),
        Some(End::Cancelled) => state == "cancelled",
        None => false,
    };
    (!is_so).then(|| format!("was told {:?} and is {state} under {under:?} by {}", story.end, task["worker"]))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::cli::replay::tight::crew::{Crew, Host};

    fn truth() -> Truth {
        let crew = Crew { hosts: vec![Host { id: "h".into(), limit_mib: 100 }], peak_mib: 1, mean_mib: 1, factor: 1.0 };
        let mut truth = Truth::new(["a", "b"].map(str::to_owned).into_iter(), &crew, Instant::now());
        let now = Instant::now();
        truth.claimed(0, 3, now, now, Duration::from_secs(1));
        truth.ended(0, End::Done { token: 3, by: "h/1".into() });
        truth.ended(1, End::Cancelled);
        truth
    }

    fn held(a: Value, b: Value) -> BTreeMap<String, Value> {
        [("a".to_owned(), a), ("b".to_owned(), b)].into_iter().filter(|(_, task)| !task.is_null()).collect()
    }

    #[test]
    fn a_node_that_holds_anything_else_is_told() {
        let done = |token: u64, by: &str| json!({ "state": "done", "ended_under": token, "worker": by, "result": { "by": by } });
        let cancelled = json!({ "state": "cancelled" });
        let wrong = |a: Value, b: &Value| wrong_tasks(&truth(), &held(a, b.clone()));
        assert_eq!(wrong(done(3, "h/1"), &cancelled), Vec::<String>::new());
        assert_eq!(wrong(Value::Null, &cancelled), ["task a is lost"]);
        assert_eq!(wrong(done(4, "h/1"), &cancelled).len(), 1, "done again by another");
        assert_eq!(wrong(done(3, "h/2"), &cancelled).len(), 1);
        assert_eq!(wrong(json!({ "state": "pending" }), &json!({ "state": "pending" })).len(), 2);
    }

    #[test]
    fn a_host_that_holds_too_much_or_anything_at_the_end_is_told() {
        let placed = json!({ "thing": "t", "amounts": { "memory_mb": 60 }, "by": "n/1", "settled": false });
        let room = |used: u64, right: u64, void: &[Value]| -> Room {
            serde_json::from_value(json!({
                "limits": { "memory_mb": 100 }, "used": { "memory_mb": used }, "rights": { "n/1": { "memory_mb": right } },
                "placements": [placed], "void": void,
            }))
            .unwrap()
        };
        assert_eq!(wrong_with(&room(60, 100, &[]), 100, false), Vec::<String>::new());
        assert_eq!(wrong_with(&room(60, 100, &[]), 100, true), ["still holds t"]);
        assert_eq!(wrong_with(&room(101, 100, &[]), 100, false).len(), 1);
        assert_eq!(wrong_with(&room(60, 101, &[]), 100, false).len(), 1);
        assert_eq!(wrong_with(&room(60, 60, std::slice::from_ref(&placed)), 100, false).len(), 1);
        assert_eq!(wrong_with(&room(60, 60, &[]), 90, false).len(), 1);
    }
}
