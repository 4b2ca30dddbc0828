//! How well the classes of knowledge are told apart, on pairs labelled by hand, and how fast. `docs/knowledge.md` has the
//! figures. `SHOW_MISSES=1` prints the pairs that were taken for something else; the speed test is `--ignored`.

use std::collections::BTreeMap;
use std::path::Path;

use folkmoot::domain::knowledge::{Options, compare};

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

fn pairs(name: &str) -> Vec<Pair> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/knowledge").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
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
    counted.fold(0.0, |sum, (_, n)| sum + f64::from(*n))
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
            let why = compare(&pair.a, &pair.b, None, &Options::default()).map(|verdict| (verdict.score, verdict.why));
            println!("{} as {}: {} <> {}\n    {why:?}", pair.class, found(pair), pair.a, pair.b);
        }
    }
    table
}

#[test]
fn the_labelled_pairs_are_told_apart() {
    let pairs = pairs("labelled.jsonl");
    assert!(pairs.len() >= 300);
    report("labelled", &pairs);
}
