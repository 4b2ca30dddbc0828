//! The medians of all rounds, one line for each service that was measured.

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cli::bench::figure::{Figure, Times, round};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub figure: String,
    /// Voters.
    pub nodes: usize,
    pub service: &'static str,
    /// The median over the rounds: of each round's median, where times were taken.
    pub value: f64,
    pub unit: &'static str,
    /// The median over the rounds of each round's slowest hundredth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    pub samples: u64,
    /// How many syncs of the disk one takes, by their medians.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_sync: Option<f64>,
    /// How many times as long this program takes as this service does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folkmoot_takes: Option<f64>,
}

/// What was measured, in the order of the first round.
#[derive(Debug, Default)]
pub struct Rounds(Vec<Kept>);

#[derive(Debug)]
struct Kept {
    nodes: usize,
    service: &'static str,
    figures: Vec<Figure>,
}

pub const OURS: &str = "folkmoot";
/// How the figures begin that are a sync or two, and what lies around them.
pub const LOCK: &str = "lock ";
pub const SYNC: &str = "4 KiB written and synced";

impl Rounds {
    pub fn add(&mut self, nodes: usize, service: &'static str, figure: Figure) {
        let same = |kept: &&mut Kept| {
            (kept.nodes, kept.service) == (nodes, service) && kept.figures.iter().any(|known| known.name == figure.name)
        };
        match self.0.iter_mut().find(same) {
            Some(kept) => kept.figures.push(figure),
            None => self.0.push(Kept { nodes, service, figures: vec![figure] }),
        }
    }

    /// Nothing where there is nothing to tell.
    pub fn add_times(&mut self, nodes: usize, service: &'static str, name: &str, times: &Times) {
        if !times.is_empty() {
            self.add(nodes, service, Figure::times(name, times));
        }
    }

    /// One line for each, those of one figure together.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.0.iter().filter_map(Kept::row).collect();
        let sync = |nodes| rows.iter().find(|row| row.figure == SYNC && row.nodes == nodes).map(|row| row.value);
        let ours = |of: &Row| rows.iter().find(|row| row.service == OURS && row.is_beside(of)).map(|row| row.value);
        let beside: Vec<_> = rows
            .iter()
            .map(|row| {
                let is_time = row.unit != "/s";
                // A vote waits for more than disks.
                let of_sync =
                    sync(row.nodes).filter(|_| is_time && row.figure.starts_with(LOCK)).map(|sync| row.value / sync);
                let takes = ours(row).filter(|_| row.service != OURS);
                let takes = takes.map(|ours| if is_time { ours / row.value } else { row.value / ours });
                (of_sync, takes)
            })
            .collect();
        for (row, (of_sync, takes)) in rows.iter_mut().zip(beside) {
            (row.of_sync, row.folkmoot_takes) = (of_sync, takes);
        }
        // Stable: what was measured first stays first.
        let first = |row: &Row| self.0.iter().position(|kept| kept.figures[0].name == row.figure);
        rows.sort_by_key(|row| (row.nodes, first(row)));
        rows
    }
}

impl Row {
    fn is_beside(&self, other: &Self) -> bool {
        self.figure == other.figure && self.nodes == other.nodes
    }
}

impl Kept {
    fn row(&self) -> Option<Row> {
        let first = self.figures.first()?;
        Some(Row {
            figure: first.name.clone(),
            nodes: self.nodes,
            service: self.service,
            value: median(self.figures.iter().map(|figure| figure.value))?,
            unit: first.unit,
            p99: median(self.figures.iter().filter_map(|figure| figure.p99)),
            samples: self.figures.iter().map(|figure| figure.samples).sum(),
            of_sync: None,
            folkmoot_takes: None,
        })
    }
}

/// The middle one; of two, the mean.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["FIGURE", "NODES", "SERVICE", "VALUE", "UNIT", "P99", "SYNCS", "FOLKMOOT TAKES", "SAMPLES"]);
    for row in rows {
        let times = |ratio: Option<f64>| ratio.map(|ratio| format!("{} ×", round(ratio))).unwrap_or_default();
        table.add_row([
            row.figure.clone(),
            row.nodes.to_string(),
            row.service.to_owned(),
            round(row.value),
            row.unit.to_owned(),
            row.p99.map(round).unwrap_or_default(),
            times(row.of_sync),
            times(row.folkmoot_takes),
            row.samples.to_string(),
        ]);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(name: &str, value: f64) -> Figure {
        Figure { p99: Some(value * 3.0), ..Figure::once(name, value, "ms p50") }
    }

    fn rate(name: &str, value: f64) -> Figure {
        Figure::once(name, value, "/s")
    }

    #[test]
    fn rounds_come_to_their_median_and_stand_beside_the_sync_and_the_other() {
        let mut rounds = Rounds::default();
        for factor in [1.0, 50.0, 2.0] {
            rounds.add(3, "disk", time(SYNC, 0.5 * factor));
            rounds.add(3, OURS, time("lock acquire", 2.0 * factor));
            rounds.add(3, OURS, rate("ballots", 1_000.0));
            rounds.add(3, "etcd", time("lock acquire", 1.0 * factor));
            rounds.add(3, "etcd", rate("ballots", 500.0));
            rounds.add(5, OURS, time("lock acquire", 9.0));
        }
        let rows = rounds.rows();
        let told: Vec<_> = rows.iter().map(|row| (row.figure.as_str(), row.nodes, row.service, row.value)).collect();
        assert_eq!(
            told,
            [
                (SYNC, 3, "disk", 1.0),
                ("lock acquire", 3, OURS, 4.0),
                ("lock acquire", 3, "etcd", 2.0),
                ("ballots", 3, OURS, 1_000.0),
                ("ballots", 3, "etcd", 500.0),
                ("lock acquire", 5, OURS, 9.0),
            ]
        );
        let beside: Vec<_> = rows.iter().map(|row| (row.of_sync, row.folkmoot_takes)).collect();
        let none = (None, None);
        assert_eq!(
            beside,
            [none, (Some(4.0), None), (Some(2.0), Some(2.0)), none, (None, Some(0.5)), none],
            "twice as long for one, and half as long for as many"
        );
        assert_eq!((rows[1].p99, rows[1].samples), (Some(12.0), 3));
    }
}
