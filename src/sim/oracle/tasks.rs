//! Tasks go only where they may, one worker at a time has each, and what is made comes to an end.

use serde_json::Map;

use super::decisions::History;
use super::{Verdict, wrong};
use crate::crdt::Value;
use crate::domain::tasks::{Task, TaskState};
use crate::engine::ballot::Fields;

/// Where a task stands by a decision.
pub fn state(fields: &Fields) -> TaskState {
    task(fields).state
}

pub fn task(fields: &Fields) -> Task {
    let value = |bytes: &Vec<u8>| Value::decode(bytes).ok().map(Value::into_json);
    let decided: Map<_, _> =
        fields.iter().filter_map(|(name, decided)| Some((name.to_owned(), value(decided.value.as_ref()?)?))).collect();
    Task::of("", &decided, Vec::new())
}

/// Each decision led where the one before allowed it to.
pub fn check_transitions(task: &str, history: &History) -> Verdict {
    let mut last: Option<(u64, TaskState)> = None;
    for (version, fields) in history.of(task) {
        let now = state(fields);
        let follows = last.filter(|(before, _)| before + 1 == version).map(|(_, before)| before);
        if let Some(before) = follows.filter(|before| *before != now && !before.may_become(now)) {
            return wrong("tasks", format!("{task} went from {before} to {now} at version {version}"));
        }
        last = Some((version, now));
    }
    Ok(())
}

/// Nothing comes after the end, also where decisions in between were told to nobody.
pub fn check_ends(task: &str, history: &History) -> Verdict {
    let mut ended: Option<(u64, TaskState)> = None;
    for (version, fields) in history.of(task) {
        let now = state(fields);
        if let Some((at, end)) = ended.filter(|(_, end)| *end != now) {
            return wrong("tasks", format!("{task} was {end} at version {at} and is {now} at version {version}"));
        }
        if matches!(now, TaskState::Done | TaskState::Cancelled) {
            ended = Some((version, now));
        }
    }
    Ok(())
}
