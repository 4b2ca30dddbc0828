//! The demo's story, told for a person or as JSON.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::demo::checks::Check;
use crate::cli::demo::script::{ELM, NAMES, Step};
use crate::cli::traffic::bytes;
use crate::cli::view::{ClusterView, short, short_digest};

/// All that happened.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    pub nodes: Vec<NodeReport>,
    pub start_ms: f64,
    pub together: Act,
    /// From the first cut until every node says that the network is split.
    pub noticed_ms: f64,
    pub apart: Act,
    pub digests_apart: Vec<String>,
    /// From the moment the connections are let through until all three are equal.
    pub healed_ms: f64,
    pub healed_bytes: Option<u64>,
    pub clock_digests: Vec<String>,
    pub state_digests: Vec<String>,
    pub checks: Vec<Check>,
    /// One conflict, its policy, its ledger entries, and an undo.
    pub conflict: Vec<Check>,
    /// A VM whose worker is cut off.
    pub vm: Vec<Check>,
    pub total_s: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct NodeReport {
    pub name: String,
    pub node: String,
    pub api: String,
    /// The host's figures as the node published them.
    pub figures: Map<String, Value>,
}

/// What was written where, and how long until it had settled.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Act {
    pub writes: u64,
    pub steps: Vec<Line>,
    pub write_ms: f64,
    pub settled_ms: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub node: &'static str,
    pub wrote: String,
}

impl Act {
    pub fn new(steps: &[Step]) -> Self {
        Self {
            writes: steps.iter().map(Step::writes).sum(),
            steps: steps.iter().map(|step| Line { node: NAMES[step.node], wrote: step.words.clone() }).collect(),
            ..Self::default()
        }
    }
}

impl Report {
    pub fn held(&self) -> bool {
        self.checks.iter().chain(&self.conflict).chain(&self.vm).all(|check| check.held) && !self.checks.is_empty()
    }

    pub fn set_digests(&mut self, views: &[ClusterView]) {
        self.clock_digests = views.iter().map(|view| view.clock_digest.clone()).collect();
        self.state_digests = views.iter().map(|view| view.state_digest.clone()).collect();
    }

    /// The report in words.
    pub fn tell(&self) -> String {
        let mut out = Vec::new();
        self.tell_start(&mut out);
        self.tell_split(&mut out);
        self.tell_end(&mut out);
        out.join("\n")
    }

    fn tell_start(&self, out: &mut Vec<String>) {
        out.push(format!("\nThree nodes, up in {:.1} s", self.start_ms / 1e3));
        for node in &self.nodes {
            let figures = figures(&node.figures);
            out.push(format!("  {}  {}  {}  {figures}", node.name, short(&node.node), node.api));
        }
        out.push(format!(
            "\nTogether: {} writes, the same on all three after {}",
            self.together.writes,
            ms(self.together.settled_ms)
        ));
        out.extend(self.together.steps.iter().map(|line| format!("  {}  {}", line.node, line.wrote)));
    }

    fn tell_split(&self, out: &mut Vec<String>) {
        let cut_off = NAMES[ELM];
        out.push(format!("\nSplit: oak and ash | {cut_off}. All three noticed within {}", ms(self.noticed_ms)));
        out.push(format!("\nApart: {} more writes, taken on both sides", self.apart.writes));
        for Line { node, wrote } in &self.apart.steps {
            out.push(match *node == cut_off {
                true => format!("  {:LEFT_WIDTH$}| {node}  {wrote}", ""),
                false => format!("  {:LEFT_WIDTH$}|", format!("{node}  {wrote}")),
            });
        }
        let digests: Vec<String> = NAMES
            .iter()
            .zip(&self.digests_apart)
            .map(|(name, digest)| format!("{name} {}", short_digest(digest)))
            .collect();
        out.push(format!("  Their states, by digest: {}", digests.join("  ")));
    }

    fn tell_end(&self, out: &mut Vec<String>) {
        let moved = self.healed_bytes.map(|count| format!(", {} on the wire", bytes(count))).unwrap_or_default();
        out.push(format!("\nHealed in {}{moved}", ms(self.healed_ms)));
        let digest =
            |digests: &[String]| digests.first().map(|digest| short_digest(digest).to_owned()).unwrap_or_default();
        let (clock, state) = (digest(&self.clock_digests), digest(&self.state_digests));
        out.push(format!("  All three: clock {clock}, state {state}"));
        out.push(String::from("\nWhat became of it, on every node"));
        tell_checks(&self.checks, out);
        out.push(String::from("\nOne of the conflicts: listed, settled by a policy, remembered, undone"));
        tell_checks(&self.conflict, out);
        out.push(String::from("\nA VM on the side that was cut off"));
        tell_checks(&self.vm, out);
        let end = if self.held() { "Everything converged" } else { "NOT everything is as it has to be" };
        out.push(format!("\n{end}; the whole took {:.1} s.", self.total_s));
    }
}

fn tell_checks(checks: &[Check], out: &mut Vec<String>) {
    for check in checks {
        out.push(format!("  {}  {}", if check.held { "yes" } else { "NO " }, check.claim));
        out.extend(check.found.iter().map(|found| format!("       {found}")));
    }
}

/// The side of oak and ash, in characters.
const LEFT_WIDTH: usize = 54;

fn ms(ms: f64) -> String {
    match ms < 1_000.0 {
        true => format!("{ms:.0} ms"),
        false => format!("{:.2} s", ms / 1e3),
    }
}

/// The host's figures on one line: the numbers a person looks for first.
fn figures(fields: &Map<String, Value>) -> String {
    let number = |key: &str| fields.get(key).and_then(Value::as_f64);
    let mut words = Vec::new();
    words.extend(number("cpu_percent").map(|percent| format!("cpu {percent:.0} %")));
    if let (Some(used), Some(total)) = (number("memory_used_bytes"), number("memory_total_bytes")) {
        words.push(format!("memory {:.1} of {:.1} GB", used / 1e9, total / 1e9));
    }
    words.extend(number("load_1m").map(|load| format!("load {load:.2}")));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_checks_or_with_a_broken_one_does_not_hold() {
        let check = |held| Check { claim: String::from("it is so"), held, found: Vec::new() };
        let report = |checks| Report { checks, ..Report::default() };
        assert!(!report(vec![]).held());
        assert!(!report(vec![check(true), check(false)]).held());
        assert!(report(vec![check(true)]).held());
        let undone_wrongly = Report { checks: vec![check(true)], conflict: vec![check(false)], ..Report::default() };
        assert!(!undone_wrongly.held());
        assert!(report(vec![check(false)]).tell().contains("NO   it is so"));
    }
}
