//! How well the classes are told apart, on pairs labelled by hand. See `docs/knowledge.md`.

use std::collections::BTreeMap;

use super::{Options, compare};

const CLASSES: [&str; 4] = ["duplicate", "contradiction", "overlap", "unrelated"];

#[derive(serde::Deserialize)]
struct Pair {
    class: String,
    level: String,
    a: String,
    b: String,
}

/// Counts by (labelled, found).
type Table = BTreeMap<(String, String), u32>;

fn pairs(text: &str) -> Vec<Pair> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn found(pair: &Pair) -> String {
    let verdict = compare(&pair.a, &pair.b, None, &Options::default());
    verdict.map_or("unrelated", |verdict| verdict.class.name()).to_owned()
}

fn measure<'a>(pairs: impl IntoIterator<Item = &'a Pair>) -> Table {
    let mut table = Table::new();
    for pair in pairs {
        *table.entry((pair.class.clone(), found(pair))).or_default() += 1;
    }
    table
}

fn count(table: &Table, labelled: Option<&str>, found: Option<&str>) -> f64 {
    let fits = |wanted: Option<&str>, is: &str| wanted.is_none_or(|wanted| wanted == is);
    let counted = table.iter().filter(|((l, f), _)| fits(labelled, l) && fits(found, f));
    counted.map(|(_, n)| f64::from(*n)).sum()
}

fn precision(table: &Table, class: &str) -> f64 {
    count(table, Some(class), Some(class)) / count(table, None, Some(class)).max(1.0)
}

fn recall(table: &Table, class: &str) -> f64 {
    count(table, Some(class), Some(class)) / count(table, Some(class), None).max(1.0)
}

fn accuracy(table: &Table) -> f64 {
    CLASSES.iter().map(|class| count(table, Some(class), Some(class))).sum::<f64>() / count(table, None, None)
}

fn print(title: &str, table: &Table) {
    println!("{title}: {} pairs, accuracy {:.3}", count(table, None, None), accuracy(table));
    println!("{:>14} {:>9} {:>7}   found as {CLASSES:?}", "", "precision", "recall");
    for class in CLASSES {
        let row = CLASSES.map(|found| count(table, Some(class), Some(found)));
        println!("{class:>14} {:>9.3} {:>7.3}   {row:?}", precision(table, class), recall(table, class));
    }
}

fn report(title: &str, pairs: &[Pair]) -> Table {
    let table = measure(pairs);
    print(title, &table);
    for level in ["easy", "hard"] {
        print(level, &measure(pairs.iter().filter(|pair| pair.level == level)));
    }
    if std::env::var_os("SHOW_MISSES").is_some() {
        for pair in pairs.iter().filter(|pair| found(pair) != pair.class) {
            let why = compare(&pair.a, &pair.b, None, &Options::default());
            println!("{} as {}: {} <> {}\n    {:?}", pair.class, found(pair), pair.a, pair.b, why.map(|v| (v.score, v.why.opposed)));
        }
    }
    table
}

#[test]
fn the_classes_of_the_labelled_pairs_are_told_apart() {
    let pairs = pairs(include_str!("../../../tests/data/knowledge/labelled.jsonl"));
    assert!(pairs.len() >= 300);
    report("labelled", &pairs);
}
