//! What a run came to: as text, as JSON, and as the simulator's page.

use std::path::Path;

use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::cli::chaos::switch::Tally;
use crate::cli::chaos::tenure::Figures;
use crate::cli::chaos::verdict::Verdict;
use crate::sim::Plan;
use crate::sim::report::page;
use crate::sim::trace::Entry;

#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: String,
    pub seed: u64,
    pub nodes: usize,
    /// How the hosts were linked.
    pub links: String,
    pub skipped: Vec<String>,
    pub faults: usize,
    /// What was done, and when, ms.
    pub done: Vec<(u64, String)>,
    pub acknowledged: usize,
    pub refused: u64,
    pub unknown: usize,
    pub write_p50_ms: f64,
    pub write_p99_ms: f64,
    /// From the end of the last fault, or of the last write if that was later, until all were equal.
    pub equal_after_ms: Option<u64>,
    pub memory_mib_max: u64,
    /// Between nodes.
    pub packets: Tally,
    pub verdicts: Vec<Verdict>,
    /// Where workers fought for something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contest: Option<Figures>,
    /// Everything that happened, in order of time; for the page.
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// Entries beyond what is kept.
    #[serde(skip)]
    pub entries_dropped: u64,
}

impl Report {
    pub fn wrong(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| !verdict.wrong.is_empty())
    }

    /// What is to be written to `path`: the page for `.html`, else JSON.
    pub fn for_file(&self, path: &Path, plan: &Plan) -> String {
        match path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html")) {
            true => page(&format!("{} on real processes", self.scenario), &self.page_data(plan)),
            false => serde_json::to_string_pretty(self).unwrap_or_default(),
        }
    }

    /// In the shape of what the simulator knows of a run, and `lab` beside it.
    fn page_data(&self, plan: &Plan) -> Json {
        let nodes = self.entries.iter().map(|entry| entry.node + 1).fold(self.nodes, usize::max);
        json!({
            "scenario": self.scenario,
            "about": plan.scenario.about,
            "seed": self.seed,
            "finding": null,
            "took_us": self.entries.last().map_or(0, |entry| entry.at_us),
            "converged_us": self.equal_after_ms.map(|ms| ms * 1_000),
            "tally": {"faults": self.faults},
            "drawn": plan.drawn,
            "plan_toml": plan.scenario.to_toml(),
            "nodes": nodes,
            "entries": self.entries,
            "entries_dropped": self.entries_dropped,
            "lab": {
                "checks": self.verdicts,
                "contest": self.contest,
                "left_out": self.skipped,
                "links": self.links,
                "packets": self.packets,
                "acknowledged": self.acknowledged,
                "refused": self.refused,
                "unknown": self.unknown,
                "write_p50_ms": self.write_p50_ms,
                "write_p99_ms": self.write_p99_ms,
                "memory_mib_max": self.memory_mib_max,
            },
        })
    }

    pub fn text(&self) -> String {
        let equal = self.equal_after_ms.map_or("never".to_owned(), |ms| format!("{ms} ms"));
        let Tally { passed, cut, lost, overflowed, .. } = self.packets;
        let mut text = format!(
            "{}: {} nodes, {} faults; writes: {} acknowledged ({:.1} / {:.1} ms p50 / p99), {} refused, {} unknown; most \
             memory of a node {} MiB\npackets between nodes: {passed} passed, {cut} cut off, {lost} lost, {overflowed} too \
             many\nall equal after {equal}",
            self.scenario,
            self.nodes,
            self.faults,
            self.acknowledged,
            self.write_p50_ms,
            self.write_p99_ms,
            self.refused,
            self.unknown,
            self.memory_mib_max,
        );
        text += &self.contest.as_ref().map_or(String::new(), |figures| format!("\n{}", figures.text()));
        for verdict in &self.verdicts {
            let said = if verdict.wrong.is_empty() { "ok".to_owned() } else { verdict.wrong.join("\n      ") };
            text += &format!("\n  {:45} {:>7}  {said}", verdict.oracle, verdict.checked);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::chaos::lanes::entry;
    use crate::sim::Scenario;
    use crate::sim::trace::What;

    fn report() -> Report {
        Report {
            scenario: "x".into(),
            seed: 1,
            nodes: 2,
            links: "1 to 10 ms one way".into(),
            skipped: vec!["a <b>fault</b>".into()],
            faults: 1,
            done: vec![(5, "kill n1".into())],
            acknowledged: 1,
            refused: 0,
            unknown: 0,
            write_p50_ms: 1.0,
            write_p99_ms: 2.0,
            equal_after_ms: None,
            memory_mib_max: 9,
            packets: Tally::default(),
            contest: None,
            verdicts: vec![Verdict::new("nothing is lost", 3, vec!["it is".into()])],
            entries: vec![entry(5_000, 2, What::Stop, "killed")],
            entries_dropped: 0,
        }
    }

    fn written(path: &str) -> String {
        let scenario = Scenario::parse("version = 1\nname = \"x\"\n").unwrap();
        report().for_file(Path::new(path), &Plan::new(&scenario, 1))
    }

    #[test]
    fn the_ending_of_the_file_says_what_is_written() {
        let page = written("run.HTML");
        assert!(page.starts_with("<!doctype html>") && page.contains("nothing is lost"));
        assert!(!page.contains("<b>fault"), "what a scenario says is no part of the page's own text");
        let json: Json = serde_json::from_str(&written("run.json")).unwrap();
        assert_eq!((&json["acknowledged"], &json["entries"]), (&json!(1), &Json::Null));
    }

    #[test]
    fn the_page_has_a_lane_for_a_node_that_joined() {
        let scenario = Scenario::parse("version = 1\nname = \"x\"\n").unwrap();
        let data = report().page_data(&Plan::new(&scenario, 1));
        assert_eq!((&data["nodes"], &data["took_us"]), (&json!(3), &json!(5_000)));
    }
}
