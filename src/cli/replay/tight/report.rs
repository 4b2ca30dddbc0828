//! What came of it: counts, in words and as JSON.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::replay::split::percentile;
use crate::cli::replay::tight::shift::Stage;
use crate::cli::replay::tight::truth::{End, Truth};

#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    pub cuts: u64,
    pub claims: u64,
    /// Placements that a quorum had no room for.
    pub no_room: u64,
    /// Times that nobody was asked for a task any more until one had ended.
    pub stood_in_line: u64,
    pub given_back: u64,
    /// Workers that kept a task until there was room.
    pub waited: u64,
    /// Placements for which others were asked to give rights back that they did not use.
    pub rights_asked_for: u64,
    /// On a side without a quorum: placed within a node's right, and beyond it, which waits.
    pub placed_alone: u64,
    pub no_right: u64,
    pub claims_without_quorum: u64,
    /// Words that no quorum could hear just then.
    pub owed: u64,
    pub unknown: u64,
    /// Tasks that their workers lost, but for those who stood still.
    pub lost: u64,
    pub writes: u64,
    /// Writes that the fence refused, those of who came back late among them.
    pub writes_refused: u64,
    pub stood_still: u64,
    pub late_writes_refused: u64,
    pub late_words_refused: u64,
    #[serde(skip)]
    pub equal_ms: Vec<u64>,
}

pub fn summary(stage: &Stage<'_>, took: Duration) -> Value {
    let (truth, counts) = (stage.truth.lock(), stage.counts.lock());
    let hosts: Vec<Value> = truth
        .hosts
        .iter()
        .map(|host| json!({ "host": host.id, "limit_mib": host.limit_mib, "peak_mib": host.peak_mib }))
        .collect();
    let ended = |is: fn(&End) -> bool| truth.stories.iter().filter(|story| story.end.as_ref().is_some_and(is)).count();
    let total = stage.crew.total_mib();
    json!({
        "tasks": truth.stories.len(),
        "done": ended(|end| matches!(end, End::Done { .. })),
        "cancelled": ended(|end| *end == End::Cancelled),
        "too_large": ended(|end| matches!(end, End::Failed { .. })),
        "hosts": hosts,
        "factor": stage.crew.factor,
        "trace_peak_mib": stage.crew.peak_mib,
        "memory_mib": total,
        "peak_mib": truth.peak_mib,
        "peak_share": truth.peak_mib as f64 / total.max(1) as f64,
        "counts": *counts,
        "equal_ms": { "p50": percentile(&counts.equal_ms, 0.5), "max": counts.equal_ms.iter().max() },
        "seconds": took.as_secs_f64(),
        "wrong": truth.wrongs,
        "wrongs": truth.wrong,
    })
}

pub fn words(stage: &Stage<'_>, took: Duration) -> String {
    let summary = summary(stage, took);
    let (truth, counts) = (stage.truth.lock(), stage.counts.lock());
    let mut lines = vec![
        format!(
            "{} tasks in {:.1} s with {} cuts: {} done, {} cancelled, {} larger than any host.",
            summary["tasks"],
            took.as_secs_f64(),
            counts.cuts,
            summary["done"],
            summary["cancelled"],
            summary["too_large"],
        ),
        format!(
            "{} hosts with {} MiB, the trace's memory times {:.3}; at most {} MiB placed at once, {:.1} %.",
            truth.hosts.len(),
            summary["memory_mib"],
            stage.crew.factor,
            truth.peak_mib,
            summary["peak_share"].as_f64().unwrap_or_default() * 100.0,
        ),
    ];
    lines.extend(
        truth
            .hosts
            .iter()
            .map(|host| format!("{:9} of {:9} MiB  at most on {}", host.peak_mib, host.limit_mib, host.id)),
    );
    let mut line = |count: u64, says: &str| lines.push(format!("{count:9}  {says}"));
    line(counts.claims, "claims");
    line(counts.no_room, "placements refused for want of room");
    line(counts.stood_in_line, "times nobody began until another had ended");
    line(counts.given_back, "tasks given back");
    line(counts.waited, "tasks kept by a worker until there was room");
    line(counts.rights_asked_for, "placements for which others gave rights back");
    line(counts.claims_without_quorum, "claims refused without a quorum");
    line(counts.placed_alone, "placed without a quorum, within a node's right");
    line(counts.no_right, "not placed without a quorum, beyond it");
    line(counts.owed, "words said again, since no quorum heard them");
    line(counts.unknown, "answers of which nobody knows what came");
    line(counts.lost, "tasks lost by a worker whose lease ran out");
    line(counts.writes, "writes let through by the fence");
    line(counts.stood_still, "workers stood still for longer than their lease");
    line(counts.late_writes_refused, "late writes refused");
    line(counts.late_words_refused, "late words refused");
    lines.push(format!(
        "Equal after a cut: p50 {} ms, at most {} ms.",
        percentile(&counts.equal_ms, 0.5),
        counts.equal_ms.iter().max().unwrap_or(&0)
    ));
    lines.extend(truth.wrong.iter().map(|wrong| format!("WRONG: {wrong}")));
    lines.join("\n")
}

/// Whether all is as it has to be.
pub fn verdict(truth: &Truth, counts: &Counts) -> Result<(), String> {
    match (truth.wrongs, truth.wrong.first()) {
        (0, _) if counts.late_writes_refused < counts.stood_still || counts.late_words_refused < counts.stood_still => {
            let (stood, writes) = (counts.stood_still, counts.late_writes_refused);
            Err(format!("of {stood} workers that stood still {writes} were refused their late writes"))
        }
        (0, _) => Ok(()),
        (wrongs, first) => Err(format!("{wrongs} things are wrong; the first: {}", first.map_or("", String::as_str))),
    }
}
