//! How well the classes of knowledge are told apart, on pairs labelled by hand, and how fast. `docs/knowledge.md` has the
//! figures. `SHOW_MISSES=1` prints the pairs that were taken for something else; the speed test is `--ignored`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use folkmoot::domain::knowledge::{Index, Item, Options, compare};

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
    let table = report("labelled", &pairs);
    for (class, precision_min, recall_min) in
        [("duplicate", 0.94, 0.68), ("contradiction", 0.90, 0.84), ("overlap", 0.81, 0.93), ("unrelated", 0.77, 0.92)]
    {
        assert!(precision(&table, class) >= precision_min, "precision of {class}");
        assert!(recall(&table, class) >= recall_min, "recall of {class}");
    }
}

/// Written after the first freeze of the detector, and held out until names of a noun and a letter were mended. They have
/// been looked at since, and say less than those that have not.
#[test]
fn the_second_set_is_measured() {
    let pairs = pairs("second.jsonl");
    assert!(pairs.len() >= 100);
    let table = report("second set", &pairs);
    assert!(accuracy(&table) >= SECOND_MIN, "accuracy {}", accuracy(&table));
}

/// Written after the detector was frozen for the second time, which has not looked at them since. The figures are what
/// they are: this only prints them, and fails when somebody makes them clearly worse.
#[test]
fn the_held_out_pairs_are_measured() {
    let pairs = pairs("heldout.jsonl");
    assert!(pairs.len() >= 110);
    let table = report("held out", &pairs);
    assert!(accuracy(&table) >= HELD_OUT_MIN, "accuracy {}", accuracy(&table));
}

/// A little under what was measured.
const SECOND_MIN: f64 = 0.75;
const HELD_OUT_MIN: f64 = 0.73;

/// A fixed sequence (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Rank 0 is met most often: one over the rank, as words in texts are.
    fn rank(&mut self, n: usize) -> usize {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((n as f64).powf(uniform) as usize).saturating_sub(1).min(n - 1)
    }
}

const VOCABULARY: usize = 5_000;

fn vocabulary() -> Vec<String> {
    const SYLLABLES: [&str; 18] = [
        "ka", "lo", "mer", "tin", "su", "ra", "vel", "dor", "pi", "gan", "het", "bo", "cul", "nem", "fa", "zu", "wik",
        "jor",
    ];
    let word = |n: usize| [n % 18, n / 18 % 18, n / 324 % 18].map(|at| SYLLABLES[at]).concat();
    (0..VOCABULARY).map(|n| word(n * 7 + 1)).collect()
}

/// 10 to 30 words: a host, function words, numbers with units, states, and words as frequent as in texts.
fn sentence(words: &[String], chance: &mut Chance) -> String {
    const FUNCTION: [&str; 10] = ["the", "of", "and", "is", "not", "in", "was", "with", "after", "for"];
    const STATES: [&str; 8] = ["enabled", "disabled", "up", "down", "fast", "slow", "stable", "full"];
    let mut text = vec![format!("web-{}", chance.below(2_000))];
    for _ in 0..9 + chance.below(21) {
        text.push(match chance.below(20) {
            0..=6 => FUNCTION[chance.below(10)].to_owned(),
            7 => STATES[chance.below(8)].to_owned(),
            8 => format!("{} ms", chance.below(1_000)),
            _ => words[chance.rank(VOCABULARY)].clone(),
        });
    }
    text.join(" ")
}

fn item(n: usize, content: String) -> Item {
    Item {
        id: format!("{n:016x}"),
        kind: "fact".to_owned(),
        content,
        source: format!("agent-{}", n % 100),
        confidence: 0.9,
        urgency: 1,
        priority: 1,
        embedding: None,
        at_ms: n as u64,
    }
}

/// The worst that a sender can do: the longest texts, cut into as many clauses as are read, all much alike.
#[test]
#[ignore = "it measures time, so nothing else should run"]
fn a_check_among_the_longest_texts_is_bounded() {
    let (words, mut chance) = (vocabulary(), Chance(11));
    let mut index = Index::new();
    let long = |chance: &mut Chance| {
        let sentences: Vec<String> = (0..400).map(|_| sentence(&words, chance)).collect();
        sentences.join(". ").chars().take(60_000).collect::<String>()
    };
    for n in 0..100 {
        index.insert(item(n, long(&mut chance))).unwrap();
    }
    let asked = item(1_000, long(&mut chance));
    let started = Instant::now();
    let findings = index.similar(&asked, &Options::default()).len();
    println!("a check among texts of 60 KB: {:.1?}, {findings} findings", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(5));
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or_default() * 4096
}

/// Half of the items asked for are variants of kept ones: the costly case, in which much is alike.
#[test]
#[ignore = "half a minute; it measures time, so nothing else should run"]
fn a_check_against_a_hundred_thousand_items_takes_less_than_ten_milliseconds() {
    const ITEMS: usize = 100_000;
    const CHECKS: usize = 1_000;
    let (words, mut chance) = (vocabulary(), Chance(7));
    let texts: Vec<String> = (0..ITEMS).map(|_| sentence(&words, &mut chance)).collect();
    let (before, started) = (resident_bytes(), Instant::now());
    let mut index = Index::new();
    for (n, text) in texts.iter().enumerate() {
        index.insert(item(n, text.clone())).unwrap();
    }
    let (took, bytes) = (started.elapsed(), resident_bytes().saturating_sub(before));
    println!(
        "{ITEMS} items in {took:.1?}, {} bytes each; {} of it text",
        bytes / ITEMS,
        texts.iter().map(String::len).sum::<usize>() / ITEMS
    );
    let (mut times, mut findings) = (Vec::new(), 0);
    for n in 0..CHECKS {
        let text = match n % 2 {
            0 => sentence(&words, &mut chance),
            _ => texts[chance.below(ITEMS)].replace("is", "is not"),
        };
        let asked = item(ITEMS + n, text);
        let started = Instant::now();
        findings += index.similar(&asked, &Options::default()).len();
        times.push(started.elapsed());
    }
    times.sort();
    let at = |share: f64| times[((CHECKS - 1) as f64 * share) as usize];
    println!("a check: p50 {:.2?}, p99 {:.2?}, longest {:.2?}; {findings} findings", at(0.5), at(0.99), at(1.0));
    assert!(findings >= CHECKS / 2, "{findings}: each variant finds its original");
    assert!(at(0.99) < Duration::from_millis(10), "p99 is {:?}", at(0.99));
}
